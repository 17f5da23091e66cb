"""Saved models, found by the value of --model, and the options that choose one.

    best                  the best model of the newest study
    STUDY                 the best model of this study
    FOLDER                the model in this folder, or the best model of the study in it
    RUN_ID                the model that this MLflow run logged; for the run of a study, the model of its best trial
    champion              the task's registered model with this alias; champion:DATASET if there are several

A model in MLflow is the same folder inside the model that MLflow serves. Only its weights and its metadata are read;
the code that MLflow keeps beside them is not run here.
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

from platform.errors import Fault, InputError, first_line
from platform.tracking import mlflow_store, model_registry
from platform.tracking.model_registry import ALIAS

BEST = "best"


def command_parser(command: str, description: str | None, default: str = BEST) -> argparse.ArgumentParser:
    """Return a parser with the arguments that every command with a saved model takes: the task and the model.

    A default of --model other than "best" is named in the help as one more choice.
    """
    parser = argparse.ArgumentParser(
        prog=f"python -m platform.{command}",
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    choices = ["best (of the newest study)", "a study", "a folder", "an MLflow run", "champion", "champion:DATASET"]
    choices += [] if default == BEST else [default]
    parser.add_argument("task", help="task of the model")
    parser.add_argument(
        "--model", default=default, help=f"{', '.join(choices[:-1])} or {choices[-1]} (default {default})"
    )
    parser.add_argument("--storage", default="studies", metavar="DIR", help="folder of studies (default studies)")
    parser.add_argument(
        "--tracking-uri", metavar="URI", help="MLflow store (default: MLFLOW_TRACKING_URI, else sqlite:///mlflow.db)"
    )
    return parser


@contextlib.contextmanager
def model_folder(task: str, options: argparse.Namespace) -> Iterator[Path]:
    """Yield the folder of the model that options of `command_parser` choose; a fetched copy is deleted afterwards.

    Raises:
        InputError: There is no such model, it belongs to another task, it cannot be loaded, or MLflow does not answer.
    """
    from safetensors import SafetensorError

    from platform.study.request import default_tracking_uri, studies_in

    model = options.model
    with tempfile.TemporaryDirectory(prefix="model-") as temporary:
        kind, _, dataset = model.partition(":")
        uri = options.tracking_uri or default_tracking_uri()
        if kind == ALIAS:
            folder = _local_folder(_champion(task, dataset, uri), uri, Path(temporary))
        elif re.fullmatch("[0-9a-f]{32}", model) and not _exists(Path(model), Path(options.storage) / model):
            folder = _local_folder(_model_of_run(model, uri), uri, Path(temporary))
        else:
            folder = _folder_on_disk(task, model, studies_in(options.storage, None if model == BEST else model))
        if (own_task := _task_of(folder)) != task:
            rule = f"--model must be of the task {task}"
            raise InputError(Fault(rule, f"{model} of {own_task}", "Name the model's own task."))
        try:
            yield folder
        except (OSError, ValueError, LookupError, RuntimeError, SafetensorError) as error:
            raise InputError(_damage_fault(folder, error)) from error


def _folder_on_disk(task: str, model: str, storage: Path) -> Path:
    """Return the folder of a model on this machine: of a study or a path, or "best" for that of the newest study."""
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
    rule = "--model must be a study, a folder with model.json, an MLflow run, champion, or best"
    names = ", ".join(sorted(folder.parent.name for folder in known)) or "none"
    raise InputError(Fault(rule, repr(model), f"Studies of {task}: {names}."))


def _task_of(folder: Path) -> str:
    """Return the task that a model's metadata names."""
    from platform.storage.checkpoints import read_metadata

    try:
        return str(read_metadata(folder)["task"])
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise InputError(_damage_fault(folder, error)) from error


def _damage_fault(folder: Path, error: Exception) -> Fault:
    remedy = "Name another model, or fetch this one again."
    return Fault("a model's files must be complete and readable", f"{folder}: {first_line(error)}", remedy)


def _exists(*paths: Path) -> bool:
    return any(os.path.exists(path) for path in paths)  # noqa: PTH110


def _champion(task: str, dataset: str, uri: str) -> Any:
    """Return the logged model behind the task's champion on a data set; dataset is "" if there is only one champion."""
    with mlflow_store.open_client(uri) as client:
        registered = client.search_registered_models(f"tags.task = '{task}'", max_results=1000)
        names = sorted(model.name for model in registered if ALIAS in model.aliases)
        asked = [model_registry.name_of(task, dataset)] if dataset else names
        if len(asked) != 1 or asked[0] not in names:
            known = ", ".join(f"{ALIAS}:{name.removeprefix(f'{task}-')}" for name in names)
            remedy = f"Choose one of {known}."
            if not names:
                command = f"python -m platform.tune {task} --confirm 3x3"
                remedy = f"A study registers its winner if it beats the baselines; run {command} first."
            rule = f"--model {ALIAS} must name one registered model of {task} in {uri}"
            raise InputError(Fault(rule, repr(dataset) if dataset else f"{len(names)} of them", remedy))
        version = client.get_model_version_by_alias(asked[0], ALIAS)
        return client.get_logged_model(version.model_id or version.source.rpartition("/")[2])


def _model_of_run(run_id: str, uri: str) -> Any:
    """Return the newest model that a run logged; for the run of a study, that of its best trial's run."""
    with mlflow_store.open_client(uri) as client:
        run = client.get_run(run_id)
        run_id = run.data.tags.get("best_run_id", run_id)
        models = client.search_logged_models([run.info.experiment_id], f"source_run_id = '{run_id}'")
        ready = [model for model in models if model.status == "READY"]
        if not ready:
            rule, remedy = "an MLflow run must have logged a model", "Name the run of a study or of its best trial."
            raise InputError(Fault(rule, f"no model of run {run_id} in {uri}", remedy))
        return max(ready, key=lambda model: model.creation_timestamp)


def _local_folder(model: Any, uri: str, temporary: Path) -> Path:
    """Return the model folder inside a logged model, which is downloaded unless it is on this machine."""
    import yaml

    from platform.data.files import inside
    from platform.storage.checkpoints import METADATA

    place = urlparse(model.artifact_location)
    root = Path(unquote(place.path))
    if place.scheme != "file" or place.netloc:
        with mlflow_store.open_client(uri):
            from mlflow.artifacts import download_artifacts

            try:
                root = Path(download_artifacts(f"models:/{model.model_id}", dst_path=str(temporary)))
            except OSError as error:
                rule, remedy = "a model in MLflow must be downloaded first", "Check the disk and the connection."
                raise InputError(Fault(rule, f"{model.artifact_location}: {error}", remedy)) from error
    try:
        description = yaml.safe_load((root / "MLmodel").read_text("utf-8"))
        folder = inside(root, root, description["flavors"]["python_function"]["artifacts"]["model"]["path"])
    except (OSError, ValueError, LookupError, TypeError, AttributeError, yaml.YAMLError) as error:
        rule = "a model in MLflow must have been logged by a study"
        raise InputError(Fault(rule, f"{root}: {error!r}", "Name another model.")) from error
    if folder is None or not (folder / METADATA).is_file():
        raise InputError(Fault("a model in MLflow must contain model.json", f"none in {root}", "Name another model."))
    return folder
