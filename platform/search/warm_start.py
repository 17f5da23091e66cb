"""Warm start: the first configs of a study are the best ones of earlier studies of the task.

They are tried before anything is drawn at random. Only configs are taken over, no scores: scores on other data, or of
another budget, show how configs compare, but not what they would score here. benchmarks/search_quality.py measures the
gain. Giving TPE the scores as well, as ranks within each study, gained nothing more there.

The first event of the study holds the configs, so that it does not depend on the earlier studies later.
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
from platform.study.trials import Trial, rank
from platform.tracking import past_runs

if TYPE_CHECKING:
    from platform.study.request import Request

MAX_CONFIGS = 5  # and no more than a third of the trials
SCORED = ("finished", "pruned")  # statuses of trials whose scores are valid


@dataclass(frozen=True)
class WarmStart:
    """Configs that a study takes over. It holds plain values only, because the event log begins with them.

    Attributes:
        configs: Configs in the order in which they are tried: {"values": searched parameters, "study", "trial"}.
        studies: One line about each earlier study.
        left_out: Numbers of trials that were left out, by reason.
    """

    configs: Sequence[Mapping[str, Any]] = ()
    studies: Sequence[str] = ()
    left_out: Mapping[str, int] = field(default_factory=dict)

    def lines(self) -> dict[str, str]:
        """Return what to print before the search, by subject; {} if there is no warm start."""
        if not self.studies:
            return {}
        sources = ", ".join(f"{config['study']} {config['trial']}" for config in self.configs)
        lines = {"warm start": "; ".join(self.studies), "tried first": sources}
        return lines | ({"left out": _counted(self.left_out)} if self.left_out else {})

    def as_json(self) -> dict[str, Any]:
        """Return the content as the event log holds it."""
        return asdict(self)


def first_configs(events: Sequence[Event], space: Space) -> list[dict[str, Any]]:
    """Return the configs that a study tries first: those taken over, then the first config of the space."""
    warm_start = events[0].data.get("warm_start") if events else None
    configs = [config["values"] for config in warm_start["configs"]] if warm_start else []
    return configs if space.start in configs else [*configs, dict(space.start)]


def gather(request: "Request", space: Space, fingerprint: str) -> WarmStart:
    """Return the warm start of a new study from the studies that --warm-start names; `fingerprint` is that of its data.

    Raises:
        InputError: A named study does not exist, or no trial fits.
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
    """Return the best config on each data set, then the second best on each, and so on.

    Args:
        studies: Earlier studies.
        task: Task of the new study.
        space: Space of the new study.
        fingerprint: Fingerprint of its data.

    Raises:
        InputError: No trial fits.
    """
    lines, left_out = list[str](), Counter[str]()
    study_of: dict[int, str] = {}  # names of the studies, by the identity of the trial: ids of trials are not unique
    by_data: dict[str, list[Trial]] = defaultdict(list)  # scores on different data cannot be compared
    # Of equal ranks, those on the same data come first: there a config is known to be good, not only likely to be.
    for study in sorted(studies, key=lambda study: study.fingerprint != fingerprint):
        why_not = {trial.id: _misfit(study, trial, task, space) for trial in study.trials}
        left_out.update(filter(None, why_not.values()))
        fits = [trial for trial in study.trials if not why_not[trial.id]]
        study_of |= {id(trial): study.name for trial in fits}
        by_data[study.fingerprint or study.id] += fits
        data = "the same data" if study.fingerprint == fingerprint else "other data"
        lines.append(f"{study.name} ({study.found}, {data}): {len(fits)} of {len(study.trials)} trials fit")
    ranked = [rank(trials, space) for trials in by_data.values()]
    configs = list[dict[str, Any]]()
    for trial in filter(None, chain.from_iterable(zip_longest(*ranked))):
        values = {key: trial.config[key] for key in space.searched}
        if values not in [config["values"] for config in configs]:
            configs.append({"values": values, "study": study_of[id(trial)], "trial": trial.name})
    if not configs:
        rule, found = "--warm-start needs trials that this study could try", "; ".join(lines) or "no study of the task"
        found += f" ({_counted(left_out)})" if left_out else ""
        remedy = "Leave it out, name another study, or search the space of the earlier one."
        raise InputError(Fault(rule, found, remedy))
    return WarmStart(configs[: max(1, min(MAX_CONFIGS, space.trials // 3))], lines, dict(left_out))


def _named(request: "Request", name: str, space: Space) -> list[PastStudy]:
    """Return the study of that name, else the studies of the experiment of that name."""
    from platform.study.request import EVENT_LOG, studies_in

    storage = studies_in(request.storage, name)
    if re.fullmatch(r"\w[\w.-]*", name) and (storage / name / EVENT_LOG).is_file():
        return [past_studies.read_study(storage / name)]
    studies = past_runs.studies_in_experiment(request.tracking_uri, name, request.task, space)
    if studies is None:
        known = ", ".join(sorted(file.parent.name for file in storage.glob(f"*/{EVENT_LOG}"))) or "none"
        rule = "--warm-start needs a study in --storage, or an MLflow experiment"
        raise InputError(Fault(rule, name, f"Studies there: {known}; check --tracking-uri for an experiment."))
    return studies


def _misfit(study: PastStudy, trial: Trial, task: str, space: Space) -> str:
    """Return why a trial does not fit this study, "" if it does."""
    if study.task != task:
        return f"the task was {study.task}"
    if (study.metric, study.mode) != (space.metric, space.mode):
        return f"the metric was {study.metric} ({study.mode})"
    if trial.status not in SCORED or trial.best_score(space) is None:
        return "the trial failed, or is not over"
    return space.misfit(trial.config)


def _counted(left_out: Mapping[str, int]) -> str:
    most = sorted(left_out.items(), key=lambda each: -each[1])
    return "; ".join(f"{count}: {why}" for why, count in most)
