"""What is known of a study before its first trial, as its event log begins with it and as MLflow shows it."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from platform.project import ROOT


@dataclass(frozen=True)
class DatasetFacts:
    """The data a study learns from, as MLflow shows it on every run.

    Attributes:
        name: What people call it, e.g. "logos-v2".
        digest: Fingerprint of its content; MLflow shows 36 characters of it.
        source: Where it was read from: a path or an address.
        profile: Counts, e.g. {"train": 800, "val": 100, "classes": 12}.
    """

    name: str
    digest: str
    source: str
    profile: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class StudyFacts:
    """What is known of a study before its first trial. Plain values only: its event log begins with them.

    Attributes:
        tracking_uri: MLflow's store, e.g. "sqlite:////abs/mlflow.db" or "http://host:5000".
        experiment: The MLflow experiment that holds this and similar studies.
        name: The study's name, and its parent run's.
        id: What tells it from another study of that name; a study of the same id is continued, not doubled.
        task: The task's name, e.g. "detector".
        metric: The metric that is searched for, e.g. "val/map".
        mode: "min" or "max".
        max_epochs: The most epochs a trial gets.
        params: Parameters of the study: budget, number of trials, the space.
        tags: Where it came from: commit, library versions, seed, data fingerprint. Set on the parent and each child.
        input: What a model's input is, and so the column of its signature: "image" or "text".
        requirements: Packages that the task's models need besides what every model needs.
        warm_start: Which earlier studies it goes by, "" for none. A tag of the parent.
        dataset: The data, or None if there is none to speak of.
        files: Files to keep on the study's run from its start.
        code_paths: Folders shipped with a logged model, so that it loads outside the project.
    """

    tracking_uri: str
    experiment: str
    name: str
    id: str
    task: str
    metric: str
    mode: str
    max_epochs: int
    params: Mapping[str, Any] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)
    input: str = "image"
    requirements: Sequence[str] = ()
    warm_start: str = ""
    dataset: DatasetFacts | None = None
    files: Sequence[Path] = ()
    code_paths: Sequence[Path] = (ROOT / "platform", ROOT / "trainables")


def as_json(study: StudyFacts) -> dict[str, Any]:
    """What is known of a study, for its event log."""
    return json.loads(json.dumps(asdict(study), default=str))


def from_json(told: Mapping[str, Any]) -> StudyFacts:
    """What `as_json` wrote down."""
    dataset = DatasetFacts(**told["dataset"]) if told["dataset"] else None
    paths = {key: [Path(path) for path in told[key]] for key in ("files", "code_paths")}
    return StudyFacts(**{**told, **paths, "dataset": dataset})
