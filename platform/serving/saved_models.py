"""Where a trained model is found.

    best                  of the newest study
    STUDY                 the best of this study
    FOLDER                a model's own, or a study's
    RUN_ID                what was logged with this run of MLflow; of a study's own run, with its best trial's
    champion              the task's registered model with this alias; champion:DATASET where there are several

A model of MLflow is the same folder, packed in what MLflow serves. Only its weights and its metadata are read: none of
the code that lies beside them is run here.
"""

import argparse
import contextlib
import os
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlparse

from platform.errors import first_line
from platform.tracking import mlflow_store, model_registry
from platform.tracking.model_registry import ALIAS as CHAMPION

BEST = "best"


def add_options(parser: argparse.ArgumentParser, default: str = BEST, also: str = "") -> None:
    """The options that say which model is meant.

    Args:
        parser: Gets them.
        default: Of --model.
        also: What --model can be besides.
    """
    kinds = f"best (of the newest study), a study, a folder, a run of MLflow, champion or champion:DATASET{also}"
    parser.add_argument("--model", default=default, help=f"{kinds} (default {default})")
    parser.add_argument("--storage", default="studies", metavar="DIR", help="folder of studies (default studies)")
    parser.add_argument("--tracking-uri", metavar="URI",
                        help="of MLflow (default: MLFLOW_TRACKING_URI, else sqlite:///mlflow.db here)")  # fmt: skip


@contextlib.contextmanager
def found(task: str, options: argparse.Namespace) -> Iterator[Path]:
    """The folder of the model that the options ask for, to load it from: what had to be fetched is gone afterwards.

    Raises:
        InputError: There is none, it is of another task, it cannot be loaded, or MLflow does not answer.
    """
    from safetensors import SafetensorError

    from platform.errors import Fault, InputError
    from platform.study.request import default_tracking_uri, studies_in

    model = options.model
    with tempfile.TemporaryDirectory(prefix="model-") as temporary:
        if model.partition(":")[0] == CHAMPION:
            uri = options.tracking_uri or default_tracking_uri()
            folder = _packed(_champion(task, model.partition(":")[2], uri), uri, Path(temporary))
        elif re.fullmatch("[0-9a-f]{32}", model) and not _exists(Path(model), Path(options.storage) / model):
            uri = options.tracking_uri or default_tracking_uri()
            folder = _packed(_of_run(model, uri), uri, Path(temporary))
        else:
            folder = of_study(task, model, studies_in(options.storage, None if model == BEST else model))
        if (theirs := _task_of(folder)) != task:
            rule = f"--model must be of the task {task}"
            raise InputError(Fault(rule, f"{model} of {theirs}", "Name the model's own task."))
        try:
            yield folder
        except (OSError, ValueError, LookupError, RuntimeError, SafetensorError) as error:
            raise InputError(_not_whole(folder, error)) from error


def of_study(task: str, model: str, storage: Path) -> Path:
    """The folder of a model that lies here.

    Args:
        task: The task's name.
        model: A study's name, a path, or "best": of the newest study.
        storage: The folder of studies.

    Raises:
        InputError: There is none, or one that had to be looked at is damaged.
    """
    from platform.errors import Fault, InputError
    from platform.storage.checkpoints import METADATA

    places = () if model == BEST else (Path(model), storage / model / "best", Path(model) / "best")
    for folder in places:
        if os.path.isfile(folder / METADATA):  # noqa: PTH113 (Path.is_file raises on what is too long to be a name)
            return folder
    known = [metadata.parent for metadata in storage.glob(f"*/best/{METADATA}") if _task_of(metadata.parent) == task]
    if model == BEST and known:
        return max(known, key=lambda folder: (folder / METADATA).stat().st_mtime)
    if model == BEST:
        rule, remedy = "--model best needs a finished study", f"Run python -m platform.tune {task} first."
        raise InputError(Fault(rule, f"none of {task} in {storage.resolve()}", remedy))
    rule = "--model must be a study, a folder with model.json, a run of MLflow, champion, or best"
    names = ", ".join(sorted(folder.parent.name for folder in known)) or "none"
    raise InputError(Fault(rule, repr(model), f"Studies of {task}: {names}."))


def _task_of(folder: Path) -> str:
    """The task that a model's metadata names.

    Raises:
        InputError: The metadata is damaged.
    """
    from platform.errors import InputError
    from platform.storage.checkpoints import read_metadata

    try:
        return str(read_metadata(folder)["task"])
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise InputError(_not_whole(folder, error)) from error


def _not_whole(folder: Path, error: Exception) -> Any:
    from platform.errors import Fault

    told = f"{folder}: {first_line(error)}"
    return Fault("a model must be whole", told, "Name another, or fetch it once more.")


def _exists(*paths: Path) -> bool:
    return any(os.path.exists(path) for path in paths)  # noqa: PTH110


def _champion(task: str, dataset: str, uri: str) -> Any:
    """The logged model behind the task's champion, of one data set if it is named."""
    from platform.errors import Fault, InputError

    with mlflow_store.open_client(uri) as client:
        registered = client.search_registered_models(f"tags.task = '{task}'", max_results=1000)
        names = sorted(model.name for model in registered if CHAMPION in model.aliases)
        asked = [model_registry.name_of(task, dataset)] if dataset else names
        if len(asked) != 1 or asked[0] not in names:
            known = ", ".join(f"{CHAMPION}:{name.removeprefix(f'{task}-')}" for name in names)
            there = f"There are: {known}."
            if not names:
                there = f"A study registers its winner if that beats the baselines: platform.tune {task} --confirm 3x3."
            rule = f"--model {CHAMPION} must name one registered model of {task} in {uri}"
            raise InputError(Fault(rule, f"{len(names)} of them" if not dataset else repr(dataset), there))
        version = client.get_model_version_by_alias(asked[0], CHAMPION)
        return client.get_logged_model(version.model_id or version.source.rpartition("/")[2])


def _of_run(run_id: str, uri: str) -> Any:
    """The logged model of a run, or of the best run where it is a study's."""
    from platform.errors import Fault, InputError

    with mlflow_store.open_client(uri) as client:
        run = client.get_run(run_id)
        run_id = run.data.tags.get("best_run_id", run_id)
        models = client.search_logged_models([run.info.experiment_id], f"source_run_id = '{run_id}'")
        ready = [model for model in models if model.status == "READY"]
        if not ready:
            rule, remedy = "a run must have logged a model", "Name a study's run, or its best trial's."
            raise InputError(Fault(rule, f"none with {run_id} in {uri}", remedy))
        return max(ready, key=lambda model: model.creation_timestamp)


def _packed(model: Any, uri: str, temporary: Path) -> Path:
    """The folder within a logged model, where it lies if that is on this machine, else fetched.

    Raises:
        InputError: It cannot be fetched, or none of our tasks logged it.
    """
    import yaml

    from platform.data.files import inside
    from platform.errors import Fault, InputError
    from platform.storage.checkpoints import METADATA

    place = urlparse(model.artifact_location)
    root = Path(unquote(place.path))
    if place.scheme != "file" or place.netloc:
        with mlflow_store.open_client(uri):
            from mlflow.artifacts import download_artifacts

            try:
                root = Path(download_artifacts(f"models:/{model.model_id}", dst_path=str(temporary)))
            except OSError as error:
                rule, remedy = "a model of MLflow must be fetched to be used", "Check the disk, and the connection."
                raise InputError(Fault(rule, f"{model.artifact_location}: {error}", remedy)) from error
    try:
        told = yaml.safe_load((root / "MLmodel").read_text("utf-8"))
        folder = inside(root, root, told["flavors"]["python_function"]["artifacts"]["model"]["path"])
    except (OSError, ValueError, LookupError, TypeError, AttributeError, yaml.YAMLError) as error:
        raise InputError(
            Fault("a model of MLflow must have been logged by a study", f"{root}: {error!r}", "Name another.")
        ) from error
    if folder is None or not (folder / METADATA).is_file():
        raise InputError(Fault("a model of MLflow must hold model.json", f"none in {root}", "Name another."))
    return folder
