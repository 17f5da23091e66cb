"""Earlier studies, read-only."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from platform.study import event_log
from platform.study.request import EVENT_LOG, read_request
from platform.study.trials import Trial, trials_of


@dataclass(frozen=True)
class PastStudy:
    """Earlier study, read from its event log or from an MLflow experiment.

    Attributes:
        name: Name of the study.
        id: Id that distinguishes it from other studies of that name.
        found: Description of the source: "a study", or "a study in experiment X".
        task: Task that it trained.
        metric: Metric that it searched for.
        mode: "max" or "min".
        fingerprint: Fingerprint of its data.
        trials: Its trials, without confirmations.
    """

    name: str
    id: str
    found: str
    task: str
    metric: str
    mode: str
    fingerprint: str
    trials: Sequence[Trial]


def read_study(folder: Path) -> PastStudy:
    """Read a study from its folder.

    Raises:
        InputError: The study belongs to another user, or its event log is damaged.
    """
    request = read_request(folder)
    events = event_log.read(folder / EVENT_LOG)
    facts = {key: events[0].data["facts"][key] for key in ("task", "metric", "mode")}
    trials = [trial for trial in trials_of(events).values() if not trial.confirms]
    return PastStudy(request.name, request.id, "a study", fingerprint=request.fingerprint, trials=trials, **facts)
