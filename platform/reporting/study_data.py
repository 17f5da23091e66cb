"""What a report knows of a study: its event log, its result, its pictures, put together for people to look at.

Everything follows from the study's folder. It may be finished, interrupted, or still at work.
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
from platform.space import Space
from platform.study import event_log, metadata
from platform.study.event_log import Event
from platform.study.metadata import StudyFacts
from platform.study.request import EVENT_LOG, RESULT
from platform.study.trials import Trial, best_of, trials_of

FIGURES, FINDINGS = "figures", "data_findings.txt"  # of a study's folder
FROZEN_STAGES = "train/frozen_stages"
BUDGET = ("trials", "max_epochs", "grace_epochs", "metric", "mode")  # of a space in words, besides its parameters
RANGE = re.compile(r"(\S+?)\.\.(\S+?)( \(log\))?")
CHOICE = "one of "
REUSE = ("loaded", "computed", "saved")


@dataclass(frozen=True)
class StudyData:
    """A study as far as it has come.

    Attributes:
        folder: Its folder.
        facts: What was known of it before its first trial.
        request: What was asked for.
        space: What is searched; of a choice, the values that were tried.
        words: What each parameter is searched in or fixed to, as people read it.
        trials: All of them, in the order in which they were proposed.
        result: Of result.json; {} where the study has not come to one, or goes on since.
        findings: What was noticed in the data.
        began_ms: When its first process began, ms since 1970.
        told_ms: When its event log was last written.
        closed: How its last process ended its work: FINISHED, FAILED or KILLED; "" where none has said so.
        device_seconds: What each trial took, by id: GPU-seconds by its share of a GPU, core-seconds without a GPU.
        on_gpus: Whether those are GPU-seconds.
        scores_over_time: Of each epoch the seconds that had been worked on the study by then, its trial and its score.
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
    told_ms: int
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
        """The same on the test split."""
        return self.metric.replace("val/", "test/", 1)

    @cached_property
    def searched(self) -> list[Trial]:
        """The trials that the search proposed: neither baselines nor repetitions."""
        return [trial for trial in self.trials if trial.is_searched]

    @cached_property
    def baselines(self) -> list[Trial]:
        """The trials that the best one is compared with."""
        return [trial for trial in self.trials if trial.baseline and not trial.confirms]

    @cached_property
    def scored(self) -> list[Trial]:
        """Searched trials that did not fail and have a score."""
        return [trial for trial in self.searched if trial.status != "failed" and self.score(trial) is not None]

    @cached_property
    def best(self) -> Trial | None:
        """The trial that the study names as its best; while it has not, the best so far."""
        if named := self.result.get("best"):
            return self.trial(named["trial_id"])
        return best_of(self.trials, self.space)

    @property
    def compared(self) -> dict[str, Mapping[str, float]]:
        """What the best is compared with, by name: the test metrics of baselines and references."""
        baselines = {each["baseline"]: each["test_metrics"] for each in self.result.get("baselines", [])}
        return baselines | self.result.get("references", {})

    @property
    def state(self) -> str:
        """In a word."""
        words = {"FINISHED": "finished", "FAILED": "without success", "KILLED": "interrupted"}
        return words.get(self.closed, "at work")

    @property
    def device(self) -> str:
        """What trials are charged for."""
        return "GPU" if self.on_gpus else "core"

    def trial(self, trial_id: str) -> Trial | None:
        """By its id; None where there is none."""
        return next((trial for trial in self.trials if trial.id == trial_id), None)

    def score(self, trial: Trial) -> float | None:
        """Its best epoch's."""
        return trial.best_score(self.space)

    def reuse(self) -> dict[str, float]:
        """What the feature store has spared so far: examples loaded and computed, seconds saved; {} without a store."""
        last = [trial.metrics[-1] for trial in self.trials if trial.metrics]
        told = [metrics for metrics in last if "reuse/loaded" in metrics]
        return {key: sum(metrics.get(f"reuse/{key}", 0.0) for metrics in told) for key in REUSE} if told else {}


def unfreezings(trial: Trial) -> list[int]:
    """The epochs, from 1, in which stages were trained that were frozen in the epoch before."""
    frozen = [metrics.get(FROZEN_STAGES, math.nan) for metrics in trial.metrics]
    return [epoch for epoch in range(2, len(frozen) + 1) if frozen[epoch - 1] < frozen[epoch - 2]]


def read(folder: Path) -> StudyData:
    """What a study's folder tells.

    Raises:
        InputError: There is no study, or its event log or its result is not as it was written.
    """
    events = event_log.read(folder / EVENT_LOG)
    trials = list(trials_of(events).values())
    if not events:
        raise InputError(
            Fault("a study's event log must say what was asked for", f"{folder / EVENT_LOG}: nothing", "Wait.")
        )
    told = events[0].data
    study = metadata.from_json(told["facts"])
    space = space_in_words(told["space"], [trial.config for trial in trials])
    last = next((event for event in reversed(events) if event.kind in ("open", "close")), None)
    closed = last.data["status"] if last and last.kind == "close" else ""
    findings = folder / FINDINGS
    seconds, on_gpus = _device_seconds(events)
    return StudyData(
        folder=folder,
        facts=study,
        request=told["request"],
        space=space,
        words=told["space"],
        trials=trials,
        result=_result(folder / RESULT) if closed else {},
        findings=findings.read_text().splitlines() if findings.exists() else [],
        began_ms=events[0].time_ms,
        told_ms=events[-1].time_ms,
        closed=closed,
        device_seconds=seconds,
        on_gpus=on_gpus,
        scores_over_time=_over_time(events, space.metric),
    )


def space_in_words(words: Mapping[str, str], configs: Sequence[Mapping[str, Any]]) -> Space:
    """The space that an event log tells in words (`plan.describe`), with values of the kind that the trials have.

    Args:
        words: Each parameter as `space.show` writes it, and the budget.
        configs: Of the trials, in their order; the first one is where the search started.
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
    """A parameter's domain, or the value that it is fixed to."""
    if text.startswith(CHOICE) and tried:
        # By their words: a baseline may have a value that is none of them.
        choices = f", {text.removeprefix(CHOICE)}, "
        among = [value for value in _unique(tried) if f", {value}, " in choices] or _unique(tried)
        return Categorical(sorted(among, key=lambda value: choices.find(f", {value}, "))).uniform()
    if text.startswith(CHOICE):
        return Categorical(text.removeprefix(CHOICE).split(", ")).uniform()
    if (match := RANGE.fullmatch(text)) and (bounds := _numbers(match[1], match[2])):
        low, high = bounds
        # The words are rounded to six digits. A baseline may lie beyond the range: that is told by more than a digit.
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
    """In their order; True is not 1."""
    return list({(type(value), value): value for value in values}.values())


def _lowest(domain: Domain) -> Any:
    return domain.categories[0] if isinstance(domain, Categorical) else domain.lower  # type: ignore[attr-defined]


def _result(file: Path) -> dict[str, Any]:
    try:
        return json.loads(file.read_text()) if file.exists() else {}
    except ValueError as error:
        remedy = "Restore it from a copy, or delete it: the page is then made of the event log alone."
        raise InputError(
            Fault("a study's result.json must be as it was written", f"{file}: {error}", remedy)
        ) from error


def _device_seconds(events: Iterable[Event]) -> tuple[dict[str, float], bool]:
    """What each trial took of GPUs, or of cores where there is no GPU; and whether they are GPUs.

    A trial's share is what all get, unless it was given more after it had run out of memory.
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
    """The epochs in their order. Between two processes no time is counted."""
    told, worked, since = list[tuple[float, str, float]](), 0.0, events[0].time_ms
    for event in events:
        if event.kind != "open":
            worked += (event.time_ms - since) / 1000
        since = event.time_ms
        if event.kind == "report" and metric in event.data["metrics"]:
            told.append((worked, event.data["trial_id"], event.data["metrics"][metric]))
    return told
