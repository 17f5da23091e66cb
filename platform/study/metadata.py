"""Facts about a study that are known before its first trial. The event log begins with them; MLflow shows them."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from platform.project import ROOT


@dataclass(frozen=True)
class DatasetFacts:
    """Data set of a study, as MLflow shows it on every run.

    Attributes:
        name: Its name, e.g. "logos-v2".
        digest: Fingerprint of its content; MLflow shows 36 characters of it.
        source: Path or address that it was read from.
        profile: Counts, e.g. {"train": 800, "val": 100, "classes": 12}.
    """

    name: str
    digest: str
    source: str
    profile: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class StudyFacts:
    """Facts about a study. It holds plain values only, because the event log begins with them.

    Attributes:
        tracking_uri: Address of the MLflow store, e.g. "sqlite:////abs/mlflow.db" or "http://host:5000".
        experiment: The MLflow experiment that holds this and similar studies.
        name: Name of the study and of its parent run.
        id: Distinguishes it from other studies of that name. A study with a known id is continued, not recorded twice.
        task: Name of the task, e.g. "detector".
        metric: Metric that is searched for, e.g. "val/map".
        mode: "min" or "max".
        max_epochs: Largest number of epochs of a trial.
        params: Parameters of the study: budget, number of trials, the space.
        tags: Provenance: commit, library versions, seed, data fingerprint. Set on the parent and each child.
        input: Kind of a model's input, which names the column of its signature: "image" or "text".
        requirements: Packages that the task's models need besides what every model needs.
        warm_start: Earlier studies whose configs it tries first, "" for none. A tag of the parent.
        dataset: The data set, None if there is none.
        files: Files that are logged with the parent run at its start.
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
    """Return the facts as JSON for the event log."""
    return json.loads(json.dumps(asdict(study), default=str))


def from_json(facts: Mapping[str, Any]) -> StudyFacts:
    """Return the facts that `as_json` wrote."""
    dataset = DatasetFacts(**facts["dataset"]) if facts["dataset"] else None
    paths = {key: [Path(path) for path in facts[key]] for key in ("files", "code_paths")}
    return StudyFacts(**{**facts, **paths, "dataset": dataset})
