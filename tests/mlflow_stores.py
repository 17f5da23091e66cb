"""New MLflow stores for tests: copies of one that is created once in a process, because creating one takes seconds."""

import functools
import shutil
import tempfile
from pathlib import Path


@functools.cache
def _folder() -> tempfile.TemporaryDirectory:
    from mlflow import MlflowClient

    from platform.tracking.mlflow_store import set_environment

    set_environment()
    folder = tempfile.TemporaryDirectory(prefix="mlflow-store-")
    MlflowClient(f"sqlite:///{folder.name}/mlflow.db").search_experiments()
    return folder


def new_store(file: Path) -> str:
    """Return the address of the MLflow store in a file, which is made if it is missing."""
    if not file.exists():
        shutil.copyfile(f"{_folder().name}/mlflow.db", file)
    return f"sqlite:///{file}"
