"""Earlier studies, read from their event logs or from an MLflow experiment. Nothing of them is changed."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from platform.study import event_log
from platform.study.trials import Trial, trials_of


@dataclass(frozen=True)
class PastStudy:
    """An earlier study.

    Attributes:
        name: Its name.
        id: What tells it from another of that name.
        found: Where: "a study", or "a study in experiment X".
        task: What it trained.
        metric: What it searched for.
        mode: "max" or "min".
        fingerprint: Of its data.
        trials: What it tried.
    """

    name: str
    id: str
    found: str
    task: str
    metric: str
    mode: str
    fingerprint: str
    trials: Sequence[Trial]


def of_event_log(folder: Path) -> PastStudy:
    """A study by its folder.

    Raises:
        InputError: It is someone else's, or its event log is damaged.
    """
    from platform.study.request import EVENT_LOG, read_request

    request = read_request(folder)
    events = event_log.read(folder / EVENT_LOG)
    told = events[0].data["facts"]
    facts = {key: told[key] for key in ("task", "metric", "mode")}
    fingerprint = request.fingerprint
    trials = [trial for trial in trials_of(events).values() if not trial.confirms]
    return PastStudy(request.name, request.id, "a study", fingerprint=fingerprint, trials=trials, **facts)
