"""Models in MLflow, logged there as a study does it."""

import os
from pathlib import Path
from types import SimpleNamespace

import mlflow

from platform.study.event_log import Event
from platform.study.metadata import StudyFacts
from platform.tracking.delivery import Delivery


def log(name: str, kind: str, model: Path, uri: str, folder: Path, **facts) -> SimpleNamespace:
    """A study of one trial whose model is logged.

    Args:
        name: The task's.
        kind: What its input is.
        model: The model's folder.
        uri: MLflow's.
        folder: For what is left of the delivery.
        facts: Of the study.

    Returns:
        The client, the experiment, the logged model, the trial's run and the study's.
    """
    study = StudyFacts(uri, name, "study", folder.name, name, "val/score", "max", 1, input=kind, **facts)
    best = {"metrics": {"test/score": 0.5}, "model_dir": str(model), "figures": {}, "files": [], "note": ""}
    events = [
        Event("open", 1, {}),
        Event("trial", 2, {"trial_id": "t1", "config": {"lr": 0.1}, "baseline": ""}),
        Event("trial_start", 3, {"trial_id": "t1"}),
        Event("best", 4, {"trial_id": "t1", **best}),
        Event("best", 5, {"trial_id": "t1", **best}),  # once more after a restart: one model all the same
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


def elsewhere() -> dict[str, str]:
    """The environment of a process that knows nothing of this project, with pickle refused."""
    known = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    return known | {"MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false", "MLFLOW_LOGGING_LEVEL": "WARNING"}
