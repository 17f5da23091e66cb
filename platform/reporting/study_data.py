"""Data of a study for its report: event log, result and figures.

Everything is read from the study's folder. The study may be finished, interrupted or still running.
"""

import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from ray.tune.search.sample import Categorical, Domain, Float, Integer

from platform.errors import Fault, InputError
from platform.search.confirmation import winner_of
from platform.space import BUDGET, Space
from platform.study import event_log, metadata
from platform.study.event_log import Event
from platform.study.metadata import StudyFacts
from platform.study.request import EVENT_LOG, FINDINGS, RESULT
from platform.study.trials import REUSE_KEYS, Trial, best_of, trials_of

FROZEN_STAGES = "train/frozen_stages"
RANGE = re.compile(r"(\S+?)\.\.(\S+?)( \(log\))?")
CHOICE = "one of "


@dataclass(frozen=True)
class StudyData:
    """State of a study, as far as it has come.

    Attributes:
        folder: Its folder.
        facts: Task, data, metric and tracking of the study, recorded before its first trial.
        request: The user's request.
        space: The search space; a choice holds the values that were tried.
        words: Range, choices or fixed value of each parameter as text.
        trials: All trials in the order in which they were proposed.
        result: Content of result.json; {} where the study has none yet or was continued since.
        findings: Findings in the data.
        began_ms: Start of its first process, in ms since 1970.
        last_event_ms: Time of the last event in its log, in ms since 1970.
        closed: FINISHED, FAILED or KILLED, as its last process recorded; "" where it recorded no end.
        device_seconds: Cost of each trial by id: GPU-seconds by its share of a GPU, core-seconds without a GPU.
        on_gpus: True if those are GPU-seconds.
        scores_over_time: Seconds of work on the study so far, trial id and score of each epoch.
    """

    folder: Path
    facts: StudyFacts
    request: Mapping[str, Any]
    space: Space
    words: Mapping[str, str]
    trials: Sequence[Trial]
    result: Mapping[str, Any]
    findings: Sequence[str]
    began_ms: int
    last_event_ms: int
    closed: str
    device_seconds: Mapping[str, float]
    on_gpus: bool
    scores_over_time: Sequence[tuple[float, str, float]]

    @property
    def name(self) -> str:
        return self.facts.name

    @property
    def metric(self) -> str:
        return self.space.metric

    @property
    def test_metric(self) -> str:
        """Name of the metric on the test split."""
        return self.space.test_metric

    @cached_property
    def searched(self) -> list[Trial]:
        """Trials that the search proposed: neither baselines nor repetitions."""
        return [trial for trial in self.trials if trial.is_searched]

    @cached_property
    def baselines(self) -> list[Trial]:
        """Baseline trials, without their repetitions."""
        return [trial for trial in self.trials if trial.baseline and not trial.confirms]

    @cached_property
    def scored(self) -> list[Trial]:
        """Searched trials that did not fail and have a score."""
        return [trial for trial in self.searched if trial.status != "failed" and self.score(trial) is not None]

    @cached_property
    def best(self) -> Trial | None:
        """Best trial of the result; without a result the best trial so far."""
        if named := self.result.get("best"):
            return self.trial(named["trial_id"])
        return best_of(self.trials, self.space)

    @property
    def compared(self) -> dict[str, Mapping[str, float]]:
        """Test metrics of baselines and references by name."""
        baselines = {each["baseline"]: each["test_metrics"] for each in self.result.get("baselines", [])}
        return baselines | self.result.get("references", {})

    @property
    def confirmed_winner(self) -> dict[str, Any]:
        """Row of the confirmation about the config that won, {} if there is none."""
        return winner_of(self.result["confirmation"]) if self.result.get("confirmation") else {}

    @property
    def state(self) -> str:
        """State of the study in a word or two."""
        words = {"FINISHED": "finished", "FAILED": "failed", "KILLED": "interrupted"}
        return words.get(self.closed, "running")

    @property
    def device(self) -> str:
        """Device whose seconds are the cost of a trial: "GPU" or "core"."""
        return "GPU" if self.on_gpus else "core"

    def trial(self, trial_id: str) -> Trial | None:
        """Return the trial with an id, or None."""
        return next((trial for trial in self.trials if trial.id == trial_id), None)

    def score(self, trial: Trial) -> float | None:
        """Return the score of a trial's best epoch, or None."""
        return trial.best_score(self.space)

    def reuse(self) -> dict[str, float]:
        """Sum what the feature store saved: examples loaded and computed, and seconds; {} without a store."""
        with_store = [trial.reuse for trial in self.trials if trial.reuse]
        return {key: sum(each.get(key, 0.0) for each in with_store) for key in REUSE_KEYS} if with_store else {}


def unfreezings(trial: Trial) -> list[int]:
    """Return the epochs, from 1, in which stages were trained that were frozen in the epoch before."""
    frozen = [metrics.get(FROZEN_STAGES, math.nan) for metrics in trial.metrics]
    return [epoch for epoch in range(2, len(frozen) + 1) if frozen[epoch - 1] < frozen[epoch - 2]]


def read(folder: Path) -> StudyData:
    """Read a study from its folder.

    Raises:
        InputError: The study is missing, or its event log or result is damaged.
    """
    events = event_log.read(folder / EVENT_LOG)
    trials = list(trials_of(events).values())
    if not events:
        rule, remedy = "a study's event log must hold its request", "Wait until the study started."
        raise InputError(Fault(rule, f"{folder / EVENT_LOG}: empty", remedy))
    first = events[0].data
    study = metadata.from_json(first["facts"])
    space = parse_space(first["space"], [trial.config for trial in trials])
    last = next((event for event in reversed(events) if event.kind in ("open", "close")), None)
    closed = last.data["status"] if last and last.kind == "close" else ""
    findings = folder / FINDINGS
    seconds, on_gpus = _device_seconds(events)
    return StudyData(
        folder=folder,
        facts=study,
        request=first["request"],
        space=space,
        words=first["space"],
        trials=trials,
        result=_result(folder / RESULT) if closed else {},
        findings=findings.read_text().splitlines() if findings.exists() else [],
        began_ms=events[0].time_ms,
        last_event_ms=events[-1].time_ms,
        closed=closed,
        device_seconds=seconds,
        on_gpus=on_gpus,
        scores_over_time=_over_time(events, space.metric),
    )


def parse_space(words: Mapping[str, str], configs: Sequence[Mapping[str, Any]]) -> Space:
    """Return the space that an event log describes as text (`plan.describe`), with values of the trials' types.

    Args:
        words: Text of each parameter, as `space.show` writes it, and of the budget.
        configs: Configs of the trials in their order; the search started with the first.
    """
    params = {key: _domain(text, [c[key] for c in configs if key in c]) for key, text in words.items()
              if key not in BUDGET}  # fmt: skip
    start = {key: configs[0].get(key) if configs else _lowest(value) for key, value in params.items()
             if isinstance(value, Domain)}  # fmt: skip
    return Space(
        params=params,
        metric=words["metric"],
        mode=words["mode"],
        max_epochs=int(words["max_epochs"]),
        grace_epochs=int(words["grace_epochs"]),
        trials=int(words["trials"]),
        start=start,
    )


def _domain(text: str, tried: Sequence[Any]) -> Any:
    """Return a parameter's domain, or the value that it is fixed to."""
    if text.startswith(CHOICE) and tried:
        # matched by text: a baseline may have a value that is not among the choices
        choices = f", {text.removeprefix(CHOICE)}, "
        among = [value for value in _unique(tried) if f", {value}, " in choices] or _unique(tried)
        return Categorical(sorted(among, key=lambda value: choices.find(f", {value}, "))).uniform()
    if text.startswith(CHOICE):
        return Categorical(text.removeprefix(CHOICE).split(", ")).uniform()
    if (match := RANGE.fullmatch(text)) and (bounds := _numbers(match[1], match[2])):
        low, high = bounds
        # the text is rounded to six digits; a baseline beyond the range differs by more than that
        near = [value for value in tried if _is_number(value) and (_about(low, value) or _about(high, value))]
        low, high = min([low, *near]), max([high, *near])
        if all(isinstance(value, int) for value in tried or bounds) and low == int(low) and high == int(high):
            return Integer(int(low), int(high) + 1).uniform()
        domain = Float(float(low), float(high))
        return domain.loguniform() if match[3] else domain.uniform()
    return tried[0] if tried else text


def _numbers(*texts: str) -> list[float] | None:
    try:
        values = [float(text) for text in texts]
    except ValueError:  # a path with .. in it
        return None
    return [int(value) if text.lstrip("-").isdigit() else value for text, value in zip(texts, values, strict=True)]


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _about(bound: float, value: Any) -> bool:
    return math.isclose(bound, value, rel_tol=1e-5, abs_tol=1e-12)


def _unique(values: Iterable[Any]) -> list[Any]:
    """Return the values once each, in their order; True and 1 differ."""
    return list({(type(value), value): value for value in values}.values())


def _lowest(domain: Domain) -> Any:
    return domain.categories[0] if isinstance(domain, Categorical) else domain.lower  # type: ignore[attr-defined]


def _result(file: Path) -> dict[str, Any]:
    try:
        return json.loads(file.read_text()) if file.exists() else {}
    except ValueError as error:
        remedy = "Restore it from a copy or delete it; the page is then made from the event log alone."
        rule = "a study's result.json must be as it was written"
        raise InputError(Fault(rule, f"{file}: {error}", remedy)) from error


def _device_seconds(events: Iterable[Event]) -> tuple[dict[str, float], bool]:
    """Return the device-seconds of each trial, and true if they are GPU-seconds (core-seconds otherwise).

    All trials have the same share of a GPU, except those that got more after they ran out of memory.
    """
    cpus, gpus = 1.0, 0.0
    shares: dict[str, float] = {}
    since: dict[str, int] = {}
    seconds: dict[str, float] = {}
    for event in events:
        trial_id = event.data.get("trial_id", "")
        if event.kind == "open":
            cpus, gpus, since = event.data.get("cpus", cpus), event.data.get("gpus", gpus), {}
        elif event.kind == "trial_start":
            since[trial_id] = event.time_ms
        elif event.kind in ("report", "attempt_failed", "trial_end") and trial_id in since:
            share = shares.get(trial_id, gpus) or cpus
            seconds[trial_id] = seconds.get(trial_id, 0.0) + share * (event.time_ms - since[trial_id]) / 1000
            since[trial_id] = event.time_ms
            if event.kind != "report":
                del since[trial_id]
        if event.kind == "attempt_failed" and event.data.get("gpus") is not None:
            shares[trial_id] = event.data["gpus"]
    return seconds, gpus > 0


def _over_time(events: Sequence[Event], metric: str) -> list[tuple[float, str, float]]:
    """Return seconds of work, trial id and score of each epoch; time between two processes does not count."""
    scores, worked, since = list[tuple[float, str, float]](), 0.0, events[0].time_ms
    for event in events:
        if event.kind != "open":
            worked += (event.time_ms - since) / 1000
        since = event.time_ms
        if event.kind == "report" and metric in event.data["metrics"]:
            scores.append((worked, event.data["trial_id"], event.data["metrics"][metric]))
    return scores
