"""MLflow store: its address, its environment and a client to read from it."""

import contextlib
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, quote, urlsplit

from filelock import FileLock

from platform.errors import Fault, InputError, raise_if_any

MLFLOW_ENVIRONMENT = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",  # with MLflow's own 7 retries one call to a dead server takes 244 s
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_LOGGING_LEVEL": "ERROR",  # errors raise; other messages would disturb the live view
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_DISABLE_TELEMETRY": "true",
}


def set_environment() -> None:
    """Set MLflow's environment variables that the user has not set. Call this before mlflow is imported."""
    for name, value in MLFLOW_ENVIRONMENT.items():
        os.environ.setdefault(name, value)


def trials_page(experiment_id: str, study: str) -> str:
    """Return the part after "#" of the address at which MLflow compares the trials of a study."""
    wanted = quote(f"tags.study = '{study}' and tags.kind = 'trial'")
    view = "compareRunsMode=CHART&workflowType=machine_learning"  # otherwise the page shows chats
    return f"/experiments/{experiment_id}/runs?searchFilter={wanted}&{view}"


def sqlite_file(tracking_uri: str) -> Path | None:
    """Return the file of an SQLite address, None for a server."""
    return Path(tracking_uri.removeprefix("sqlite:///")).resolve() if tracking_uri.startswith("sqlite:///") else None


def is_missing(tracking_uri: str) -> bool:
    """Return True if an address names a file that does not exist; MLflow would create an empty one."""
    database = sqlite_file(tracking_uri)
    return database is not None and not database.exists()


def artifact_location(tracking_uri: str, experiment: str) -> str | None:
    """Return the place of an experiment's files: a folder beside an SQLite file; None to leave it to a server.

    MLflow's default is ./mlruns in the folder in which the first process was started.
    """
    database = sqlite_file(tracking_uri)
    if database is None:
        return None
    return (database.parent / "mlartifacts" / re.sub(r"[^\w\-.]", "_", experiment)).as_uri()


def creation_lock(tracking_uri: str) -> contextlib.AbstractContextManager:
    """Return a lock to hold while a store is opened.

    If two processes open a new SQLite file at the same time, both create its tables and one crashes.
    """
    database = sqlite_file(tracking_uri)
    if database is None:
        return contextlib.nullcontext()
    database.parent.mkdir(parents=True, exist_ok=True)
    return FileLock(f"{database}.lock", timeout=60)


@contextlib.contextmanager
def open_client(uri: str) -> Iterator[Any]:
    """Yield an MlflowClient for reading.

    Raises:
        InputError: The address holds a password, the file is missing, or MLflow does not answer or reports an error.
    """
    raise_if_any(address_faults(uri))
    if is_missing(uri):
        remedy = "Give the address of an existing one."
        raise InputError(Fault("--tracking-uri must be an MLflow store", f"no file {uri}", remedy))
    set_environment()
    import mlflow
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    def as_input_error(error: Exception) -> InputError:
        rule = "MLflow must answer and hold the requested run or model"
        first = (str(error).splitlines() or [repr(error)])[0]
        return InputError(Fault(rule, f"{uri}: {first}", "Check the name and --tracking-uri."))

    mlflow.set_tracking_uri(uri)
    try:
        with creation_lock(uri):
            client = mlflow.MlflowClient(uri)
    except (MlflowException, SQLAlchemyError, OSError) as error:
        raise as_input_error(error) from error
    try:
        yield client
    except (MlflowException, SQLAlchemyError) as error:  # an OSError here comes from the caller's own files
        raise as_input_error(error) from error


def address_faults(uri: str) -> list[Fault]:
    """Return a fault if the address of an MLflow store holds a password."""
    parts = urlsplit(uri)
    if not parts.password and "password" not in parse_qs(parts.query):
        return []
    rule = "MLflow's address must hold no password: it is recorded and shown"
    remedy = "Put it into MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD; a database's into its own file."
    return [Fault(rule, "--tracking-uri with one", remedy)]
