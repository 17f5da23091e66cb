"""What earlier studies of a task tell a new one: its first points.

The best configurations of the earlier studies are tried first, before anything is drawn at random. Only configurations
are taken over, no scores: those of other data, or of another budget, say how configurations compare, and not what they
would score here. What that gains: benchmarks/search_quality.py. To tell TPE of the scores as well, as ranks within each
study, gained no more there.

What is taken over is written down with the study's first event: it goes on with that, whatever becomes of the others.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import chain, zip_longest
from typing import TYPE_CHECKING, Any

from platform.errors import Fault, InputError, raise_if_any
from platform.space import Space
from platform.study import past_studies
from platform.study.event_log import Event
from platform.study.past_studies import PastStudy
from platform.study.trials import Trial
from platform.tracking import past_runs

if TYPE_CHECKING:
    from platform.study.request import Request

FIRST_POINTS = 5  # at most, and at most a third of the trials
JUDGED = ("finished", "pruned")  # trials whose scores say something


@dataclass(frozen=True)
class WarmStart:
    """What a study takes over. Plain values only: its event log begins with them.

    Attributes:
        points: {"values": of the searched parameters, "study", "trial": whose they are}, in the order of trying.
        studies: What was found of each earlier study, a line each.
        left_out: Why trials were left out, and how many for that.
    """

    points: Sequence[Mapping[str, Any]] = ()
    studies: Sequence[str] = ()
    left_out: Mapping[str, int] = field(default_factory=dict)

    def lines(self) -> dict[str, str]:
        """What is told of it before the search, by subject; {} where nothing was asked for."""
        if not self.studies:
            return {}
        points = ", ".join(f"{point['study']} {point['trial']}" for point in self.points)
        told = {"warm start": "; ".join(self.studies), "tried first": points}
        return told | ({"left out": _counted(self.left_out)} if self.left_out else {})

    def as_json(self) -> dict[str, Any]:
        """For the event log."""
        return asdict(self)


def first_points(events: Sequence[Event], space: Space) -> list[dict[str, Any]]:
    """What a study tries first, by its event log: what it took over, then where its space starts."""
    told = events[0].data.get("warm_start") if events else None
    points = [point["values"] for point in told["points"]] if told else []
    return points if space.start in points else [*points, dict(space.start)]


def gather(request: "Request", space: Space, fingerprint: str) -> WarmStart:
    """What the studies that --warm-start names tell this one.

    Args:
        request: The new study's.
        space: What it searches.
        fingerprint: Of its data.

    Raises:
        InputError: What is named is not there, or nothing of it fits.
    """
    faults, studies = list[Fault](), dict[str, PastStudy]()
    for name in request.warm_start:
        try:
            studies |= {study.id: study for study in _named(request, name, space) if study.id not in studies}
        except InputError as error:
            faults += error.faults
    raise_if_any(faults)
    return choose(list(studies.values()), request.task, space, fingerprint)


def choose(studies: Sequence[PastStudy], task: str, space: Space, fingerprint: str) -> WarmStart:
    """What of earlier studies is tried first: the best on each data set, then the second best on each, and so on.

    Args:
        studies: The earlier studies.
        task: What the new one trains.
        space: What it searches.
        fingerprint: Of its data.

    Raises:
        InputError: Nothing of them fits.
    """
    told, left_out = list[str](), Counter[str]()
    by_data: dict[str, list[tuple[PastStudy, Trial]]] = defaultdict(list)  # only of the same data do scores compare
    # Of equal rank, this study's own data first: there a configuration is known to be good, not only likely.
    for study in sorted(studies, key=lambda study: study.fingerprint != fingerprint):
        why_not = {trial.id: _misfit(study, trial, task, space) for trial in study.trials}
        left_out.update(filter(None, why_not.values()))
        fits = [(study, trial) for trial in study.trials if not why_not[trial.id]]
        by_data[study.fingerprint or study.id] += fits
        data = "the same data" if study.fingerprint == fingerprint else "other data"
        told.append(f"{study.name} ({study.found}, {data}): {len(fits)} of {len(study.trials)} trials fit")
    for tried in by_data.values():
        tried.sort(key=lambda each: space.goodness(each[1].best_score(space) or 0.0), reverse=True)
    points = list[dict[str, Any]]()
    for study, trial in filter(None, chain.from_iterable(zip_longest(*by_data.values()))):
        values = {key: trial.config[key] for key in space.searched}
        if values not in [point["values"] for point in points]:
            points.append({"values": values, "study": study.name, "trial": trial.name})
    if not points:
        rule, found = "--warm-start needs trials that this study could try", "; ".join(told) or "no study of the task"
        found += f" ({_counted(left_out)})" if left_out else ""
        remedy = "Leave it out, name another study, or search the space of the earlier one."
        raise InputError(Fault(rule, found, remedy))
    return WarmStart(points[: max(1, min(FIRST_POINTS, space.trials // 3))], told, dict(left_out))


def _named(request: "Request", name: str, space: Space) -> list[PastStudy]:
    """A study of that name, else those of an experiment of that name."""
    from platform.study.request import EVENT_LOG, studies_in

    storage = studies_in(request.storage, name)
    if re.fullmatch(r"\w[\w.-]*", name) and (storage / name / EVENT_LOG).is_file():
        return [past_studies.of_event_log(storage / name)]
    studies = past_runs.of_experiment(request.tracking_uri, name, request.task, space)
    if studies is None:
        known = ", ".join(sorted(file.parent.name for file in storage.glob(f"*/{EVENT_LOG}"))) or "none"
        rule = "--warm-start needs a study in --storage, or an MLflow experiment"
        raise InputError(Fault(rule, name, f"Studies there: {known}; check --tracking-uri for an experiment."))
    return studies


def _misfit(study: PastStudy, trial: Trial, task: str, space: Space) -> str:
    """Why a trial tells this study nothing, "" if it does."""
    if study.task != task:
        return f"the task was {study.task}"
    if (study.metric, study.mode) != (space.metric, space.mode):
        return f"the metric was {study.metric} ({study.mode})"
    if trial.status not in JUDGED or trial.best_score(space) is None:
        return "the trial failed, or is not over"
    return space.misfit(trial.config)


def _counted(left_out: Mapping[str, int]) -> str:
    most = sorted(left_out.items(), key=lambda each: -each[1])
    return "; ".join(f"{count}: {why}" for why, count in most)
