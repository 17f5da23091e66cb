"""Models that are logged to MLflow in the same way as by a study."""

import os
from pathlib import Path
from types import SimpleNamespace

import mlflow

from platform.study.event_log import Event
from platform.study.metadata import StudyFacts
from platform.tracking.delivery import Delivery


def log(name: str, kind: str, model: Path, uri: str, folder: Path, **facts) -> SimpleNamespace:
    """Deliver a study of one trial whose model is logged.

    Args:
        name: Name of the task.
        kind: Kind of its input, "image" or "text".
        model: Folder of the model.
        uri: Address of the MLflow store.
        folder: Folder for the files of the delivery.
        **facts: Further facts about the study.

    Returns:
        The client, the experiment, the logged model, the trial's run and the ID of the study's run, by name.
    """
    study = StudyFacts(uri, name, "study", folder.name, name, "val/score", "max", 1, input=kind, **facts)
    best = {"metrics": {"test/score": 0.5}, "model_dir": str(model), "figures": {}, "files": [], "note": ""}
    events = [
        Event("open", 1, {}),
        Event("trial", 2, {"trial_id": "t1", "config": {"lr": 0.1}, "baseline": ""}),
        Event("trial_start", 3, {"trial_id": "t1"}),
        Event("best", 4, {"trial_id": "t1", **best}),
        Event("best", 5, {"trial_id": "t1", **best}),  # again after a restart; only one model is logged
    ]
    delivery = Delivery(study, events, folder)
    delivery.start()
    assert delivery.close() == 0, delivery.last_error
    client = mlflow.MlflowClient(uri)
    experiment = client.get_experiment_by_name(name)
    [child] = client.search_runs(
        [experiment.experiment_id], f"tags.trial_id = 't1' and tags.study_id = '{folder.name}'"
    )
    [logged] = client.search_logged_models([experiment.experiment_id], f"source_run_id = '{child.info.run_id}'")
    parent = child.data.tags["mlflow.parentRunId"]
    return SimpleNamespace(client=client, experiment=experiment, model=logged, run=child, study=parent)


def environment_without_project() -> dict[str, str]:
    """Return the environment of a process outside this project, in which MLflow refuses pickle."""
    kept = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    return kept | {"MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false", "MLFLOW_LOGGING_LEVEL": "WARNING"}
