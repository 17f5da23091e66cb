"""Trial table, rebuilt by replaying the event log, and the listeners that follow a study."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from platform.space import Space
from platform.study.event_log import Event, EventLog

DONE = ("finished", "pruned", "failed")  # statuses of trials that are over
REUSE_KEYS = ("loaded", "computed", "saved")  # of platform.training.example_feed.ReuseSavings


@dataclass
class Trial:
    """State of a trial.

    Attributes:
        id: Number of the trial in the study, e.g. "007".
        config: Its config.
        baseline: Name of its baseline, "" if it is none.
        confirms: Name of the configuration that it trains again, "" if it is no confirmation.
        seed: Seed of its training, None for the study's.
        gpus: Share of a GPU that it gets, None for the study's default.
        status: waiting, running, finished (nothing is left to do), pruned (worse than others), failed, or interrupted
            (by the user or the time budget).
        metrics: Metrics of each epoch so far.
        notes: Remarks, by subject.
        first_unfreeze: Epochs that it trains before its first unfreezing, None if it never unfreezes.
        last: Whether it has reported that nothing is left to do.
        error: Why it failed.
        retried: Errors of attempts after which it was retried.
        moved: Why it moved to another node: the node before was lost or unfit. This is no failure of the trial.
        attempts: Number of attempts.
        failures: Number of failed attempts in a row without a finished epoch.
        moves: Number of moves in a row without a finished epoch.
        seconds: Duration of all attempts.
        since_ms: Time up to which `seconds` counts, in milliseconds since 1970; 0 while no attempt runs.
    """

    id: str
    config: dict[str, Any]
    baseline: str = ""
    confirms: str = ""
    seed: int | None = None
    gpus: float | None = None
    status: str = "waiting"
    metrics: list[dict[str, float]] = field(default_factory=list)
    notes: dict[str, str] = field(default_factory=dict)
    first_unfreeze: int | None = None
    last: bool = False
    error: str = ""
    retried: list[str] = field(default_factory=list)
    moved: list[str] = field(default_factory=list)
    attempts: int = 0
    failures: int = 0
    moves: int = 0
    seconds: float = 0.0
    since_ms: int = 0

    @property
    def name(self) -> str:
        """Name of the trial for people."""
        return f"{self.confirms}, seed {self.seed}" if self.confirms else f"trial {self.id}"

    @property
    def is_searched(self) -> bool:
        """True if the sampler proposed the trial. Other trials are trained to the full budget and never pruned."""
        return not self.baseline and not self.confirms

    @property
    def epochs(self) -> int:
        """Number of finished epochs."""
        return len(self.metrics)

    @property
    def is_done(self) -> bool:
        """True if the trial is finished, pruned or failed."""
        return self.status in DONE

    @property
    def reuse(self) -> dict[str, float]:
        """Work that the feature store saved so far: examples loaded and computed, and seconds; {} without a store."""
        last = self.metrics[-1] if self.metrics else {}
        return {key: last[f"reuse/{key}"] for key in REUSE_KEYS if f"reuse/{key}" in last}

    def scores(self, metric: str) -> list[float]:
        """Return a metric of each epoch, NaN for an epoch that lacks it."""
        return [metrics.get(metric, math.nan) for metrics in self.metrics]

    def best_epoch(self, space: Space) -> int | None:
        """Return the epoch with the best score, from 1; of equal ones the last, which has trained the longest."""
        known = [(n, s) for n, s in enumerate(self.scores(space.metric), start=1) if not math.isnan(s)]
        return max(known, key=lambda each: (space.as_maximised(each[1]), each[0]), default=(None, 0.0))[0]

    def best_metrics(self, space: Space) -> dict[str, float]:
        """Return the metrics of the best epoch, {} if there is no score."""
        epoch = self.best_epoch(space)
        return {} if epoch is None else self.metrics[epoch - 1]

    def best_score(self, space: Space) -> float | None:
        """Return the score of the best epoch, None if there is no score."""
        return self.best_metrics(space).get(space.metric)


_HANDLERS = {
    "trial": "on_trial_add",
    "trial_start": "on_trial_start",
    "report": "on_report",
    "attempt_failed": "on_attempt_failed",
    "trial_end": "on_trial_end",
    "best": "on_best",
}


class StudyListener:
    """Base class of objects that follow a study. Each method does nothing unless it is overridden.

    The trial table calls `on_event` with each new event, after the event is written and the trial is up to date. Unless
    it is overridden, `on_event` calls the method for the event's kind.
    """

    def on_event(self, event: Event, trial: Trial | None) -> None:
        """Handle an event of any kind. `trial` is the trial that the event is about, None if it is about none."""
        if trial is not None and (handle := _HANDLERS.get(event.kind)):
            getattr(self, handle)(trial, event)
        elif event.kind == "close":
            self.on_close(event)

    def on_trial_add(self, trial: Trial, event: Event) -> None:
        """A trial was proposed."""

    def on_trial_start(self, trial: Trial, event: Event) -> None:
        """An attempt at a trial began."""

    def on_report(self, trial: Trial, event: Event) -> None:
        """A trial finished an epoch."""

    def on_attempt_failed(self, trial: Trial, event: Event) -> None:
        """An attempt at a trial failed, and another one follows."""

    def on_trial_end(self, trial: Trial, event: Event) -> None:
        """A trial finished, was pruned, failed or was interrupted."""

    def on_best(self, trial: Trial, event: Event) -> None:
        """The best trial was scored on the test split."""

    def on_close(self, event: Event) -> None:
        """This process ended its work on the study."""


def may_win(trial: Trial, space: Space) -> bool:
    """Return whether a trial can be the best of its study.

    It must have a score and must not have failed. Confirmations and baselines outside of the searched space cannot win.
    """
    scored = not trial.confirms and trial.status != "failed" and trial.best_epoch(space) is not None
    return scored and space.may_win(trial.config, trial.baseline)


def best_of(trials: Iterable[Trial], space: Space) -> Trial | None:
    """Return the best of the trials that may win, None if there is none."""
    ranked = rank([trial for trial in trials if may_win(trial, space)], space)
    return ranked[0] if ranked else None


def rank(trials: Iterable[Trial], space: Space) -> list[Trial]:
    """Return the trials that have a score, the best first. Of equal ones, the first remains first."""
    scored = [(score, trial) for trial in trials if (score := trial.best_score(space)) is not None]
    return [trial for _, trial in sorted(scored, key=lambda each: space.as_maximised(each[0]), reverse=True)]


class TrialTable:
    """Trials of a study, and the event log that they are rebuilt from.

    Attributes:
        trials: Trials by id, in the order in which they were proposed.
        listeners: Notified of each new event.
    """

    def __init__(self, event_log: EventLog) -> None:
        self.event_log = event_log
        self.listeners: list[StudyListener] = []
        self.trials = trials_of(event_log.events)

    @property
    def confirm(self) -> str:
        """Extent of the confirmation that was asked for last, "" for none."""
        return next((event.data["asked"] for event in reversed(self.events) if event.kind == "confirm"), "")

    @property
    def events(self) -> list[Event]:
        """All events so far; the list grows."""
        return self.event_log.events

    def record(self, kind: str, **data: Any) -> None:
        """Append an event to the log, update the trials and notify the listeners.

        Raises:
            OSError: The disk is full or failed. Nothing is changed.
        """
        event = self.event_log.append(kind, data)
        _apply(self.trials, event)
        for listener in self.listeners:
            listener.on_event(event, self.trial_of(event))

    def trial_of(self, event: Event) -> Trial | None:
        """Return the trial that an event is about, None if it is about none."""
        return self.trials.get(event.data.get("trial_id", ""))


def trials_of(events: Iterable[Event]) -> dict[str, Trial]:
    """Return the trials that follow from events, by id, in the order in which they were proposed."""
    trials = dict[str, Trial]()
    for event in events:
        _apply(trials, event)
    return trials


def _apply(trials: dict[str, Trial], event: Event) -> None:
    if event.kind == "open":
        for trial in trials.values():
            if not trial.is_done:  # the process that ran it is gone
                trial.status = "waiting"
    elif event.kind == "trial":
        trials[event.data["trial_id"]] = proposed(event.data)
    elif event.kind in OF_A_TRIAL:
        _of_a_trial(trials[event.data["trial_id"]], event.kind, event.time_ms, event.data)


def proposed(data: Mapping[str, Any]) -> Trial:
    """Return the trial that an event of kind "trial" describes."""
    again = {"confirms": data.get("confirms", ""), "seed": data.get("seed")}  # early event logs lack them
    return Trial(data["trial_id"], data["config"], data["baseline"], **again)


OF_A_TRIAL = ("trial_start", "report", "attempt_failed", "trial_end")


def _of_a_trial(trial: Trial, kind: str, time_ms: int, data: Mapping[str, Any]) -> None:
    if kind == "trial_start":
        trial.status, trial.attempts, trial.since_ms = "running", trial.attempts + 1, time_ms
        return
    if trial.since_ms:
        trial.seconds += (time_ms - trial.since_ms) / 1000
    trial.since_ms = time_ms
    if kind == "report":
        trial.metrics.append(data["metrics"])
        trial.notes |= data["notes"]
        trial.last, trial.first_unfreeze, trial.failures, trial.moves = data["last"], data.get("first_unfreeze"), 0, 0
        return
    trial.since_ms = 0
    if kind == "attempt_failed" and data.get("moved"):
        trial.moved.append(data["error"])
        trial.status, trial.moves = "waiting", trial.moves + 1
    elif kind == "attempt_failed":
        trial.retried.append(data["error"])
        trial.status, trial.failures, trial.gpus = "waiting", trial.failures + 1, data["gpus"]
    else:
        trial.status, trial.error = data["status"], data["error"]
