"""Effects of a study's parameters on the score, tested where there are enough trials.

A search leaves no fair sample: trials are pruned at different epochs, and the sampler repeats what did well. So

- two trials are compared by their best scores up to the last epoch that both finished. A trial wins, loses or draws;
  failed trials are left out. A trial's tally is its wins minus its losses (Gehan, "A generalized Wilcoxon test for
  comparing arbitrarily singly-censored samples", 1965).
- the trials are grouped by each parameter: a group for each choice, or three groups for a number, from low to high. A
  Mann-Whitney U test compares the tallies of each group with those of all other trials (`scipy.stats.mannwhitneyu`).
  P-values are multiplied by the number of groups and by the number of parameters that are asked about (Bonferroni);
  freezing and unfreezing, which every study asks about, are counted apart from the other parameters.
- a trial that was pruned early may meet a late-unfreezing one that was still frozen. The outcome of such a pair says
  nothing about unfreezing. An effect of freezing or unfreezing counts only if it holds in three ways: with such pairs
  as they are, with the losses of the frozen trial as draws, and with its wins as draws. The largest p-value is taken.
- the size of an effect is the median difference over pairs of trials (Hodges and Lehmann, 1963), with a 95 % percentile
  bootstrap interval. The group was chosen with the same trials, so the size is rather too large than too small.
- an effect is confounded if the group also differs in another parameter that itself goes with the score, or in how
  late its trials were proposed.

The sampler chooses configs by earlier results, so trials are not quite exchangeable: p-values are a guide.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from ray.tune.search.sample import Categorical
from scipy import stats

from platform.reporting.study_data import StudyData
from platform.space import DEPTH
from platform.study.trials import Trial

UNFREEZE, UNFREEZE_AT, NEVER = "unfreeze", "unfreeze_at", "never"  # as spaces name them
FREEZING = (DEPTH, UNFREEZE, UNFREEZE_AT)
LEAST_TRIALS = 20  # comparable trials, below which nothing is said about a parameter
LEAST_GROUP = LEAST_TRIALS // 4  # trials inside a group, and outside it
GROUPS = 3  # for a number
RESAMPLES = 500
MOST_TRIALS = 1000  # of a larger study as many are drawn, so that a page takes seconds
LEVEL = 0.05


@dataclass(frozen=True)
class Effect:
    """The group of trials that did best by one parameter, compared with all other trials.

    Attributes:
        key: The parameter.
        values: The group's values: (lowest, highest) for a number, (value,) for a choice.
        trials: Trials in the group.
        others: Trials outside it.
        p: Corrected p-value that the group does no better than the others.
        difference: Median difference in score over pairs; positive if the group is better.
        low: Lower end of its 95 % interval; None where the effect is not clear.
        high: Upper end.
        confounded: Other parameters, or "order", that may explain the difference as well.
    """

    key: str
    values: tuple[Any, ...]
    trials: int
    others: int
    p: float
    difference: float
    low: float | None = None
    high: float | None = None
    confounded: tuple[str, ...] = ()

    @property
    def is_clear(self) -> bool:
        """True if the effect is significant after correction."""
        return self.p < LEVEL


def effects(data: StudyData) -> dict[str, Effect]:
    """Return the effects of the searched parameters; parameters with too few comparable trials are left out."""
    trials = sample(data.scored)
    found = {key: _effect(data, trials, key) for key in data.space.searched}
    return {key: effect for key, effect in found.items() if effect}


def pairwise_leads(data: StudyData, trials: Sequence[Trial]) -> tuple[np.ndarray, np.ndarray]:
    """Compare all pairs of N trials, each with at least one epoch, at the last epoch that both finished.

    Returns:
        (N, N) leads of the row's trial over the column's, antisymmetric, greater is better; (N, N) booleans that are
        true where the row's trial had not unfrozen yet.
    """
    most = max((trial.epochs for trial in trials), default=0)
    best = np.full((len(trials), most), np.nan)  # up to each epoch
    for row, trial in zip(best, trials, strict=True):
        maximised = [data.space.as_maximised(score) for score in trial.scores(data.metric)]
        row[: trial.epochs] = np.fmax.accumulate(maximised)
    epochs = np.array([trial.epochs for trial in trials], dtype=int)
    common = np.minimum(epochs[:, None], epochs[None, :])
    scores = best[np.arange(len(trials))[:, None], common - 1]
    leads = np.nan_to_num(scores - scores.T)
    return leads, common <= np.array([trial.first_unfreeze or 0 for trial in trials])[:, None]


def tallies(data: StudyData, trials: Sequence[Trial]) -> np.ndarray:
    """Return (N,) wins minus losses of each trial against the others at equal epochs."""
    return np.sign(pairwise_leads(data, trials)[0]).sum(axis=1)


def sample(trials: Sequence[Trial], most: int = MOST_TRIALS) -> list[Trial]:
    """Return all trials, or at most `most` of them, drawn at random, in their order."""
    if len(trials) <= most:
        return list(trials)
    drawn = np.random.default_rng(0).choice(len(trials), most, replace=False)
    return [trials[index] for index in sorted(drawn)]


def parameter_values(data: StudyData, trials: Sequence[Trial], key: str) -> np.ndarray:
    """Return (N,) values of a parameter as numbers; a choice is given by its place in the domain."""
    domain, given = data.space.searched[key], [trial.config[key] for trial in trials]
    if isinstance(domain, Categorical):
        order = {repr(value): place for place, value in enumerate(domain.categories)}
        return np.array([order[repr(value)] for value in given], dtype=float)
    return np.array(given, dtype=float)


def _effect(data: StudyData, trials: Sequence[Trial], key: str) -> Effect | None:
    trials = [trial for trial in trials if _applies(key, trial)]
    if len(trials) < LEAST_TRIALS:
        return None
    groups = _groups(data, trials, key)
    masks = [groups == group for group in np.unique(groups)]
    masks = [mask for mask in masks if LEAST_GROUP <= mask.sum() <= len(trials) - LEAST_GROUP]
    if not masks:
        return None

    # test each group against the rest, and correct for the number of groups and of parameters
    leads, frozen = pairwise_leads(data, trials)
    wins = np.sign(leads)
    tallied = [wins.sum(axis=1)]
    if key in FREEZING:
        for uncertain in (frozen & (wins < 0), frozen & (wins > 0)):
            tallied.append(np.where(uncertain | uncertain.T, 0.0, wins).sum(axis=1))
    chances = [max(_p_better(tally, mask) for tally in tallied) for mask in masks]
    best = int(np.argmin(chances))
    mask, asked = masks[best], sum((other in FREEZING) == (key in FREEZING) for other in data.space.searched)
    p = min(1.0, chances[best] * len(masks) * asked)

    # measure the best group
    values = [trial.config[key] for trial, inside in zip(trials, mask, strict=True) if inside]
    named = (values[0],) if isinstance(data.space.searched[key], Categorical) else (min(values), max(values))
    counts, difference = (int(mask.sum()), int((~mask).sum())), float(np.median(leads[np.ix_(mask, ~mask)]))
    if p >= LEVEL:
        return Effect(key, named, *counts, p, difference)
    confounded = _confounders(data, trials, key, mask, tallied[0])
    return Effect(key, named, *counts, p, difference, *_interval(leads, mask), confounded)


def _applies(key: str, trial: Trial) -> bool:
    """Return true if a parameter has any influence on a trial: a schedule has none where nothing is frozen."""
    frozen = trial.config.get(DEPTH, 1)
    if key == UNFREEZE:
        return bool(frozen)
    return key != UNFREEZE_AT or bool(frozen and trial.config.get(UNFREEZE) != NEVER)


def _groups(data: StudyData, trials: Sequence[Trial], key: str) -> np.ndarray:
    """Return (N,) the group of each trial by a parameter, from 0."""
    values = parameter_values(data, trials, key)
    return values if isinstance(data.space.searched[key], Categorical) else _thirds(values)


def _thirds(values: np.ndarray) -> np.ndarray:
    starts = [part[0] for part in np.array_split(np.unique(values), GROUPS) if len(part)]
    return np.searchsorted(starts, values, side="right") - 1


def _p_better(tally: np.ndarray, mask: np.ndarray) -> float:
    return float(stats.mannwhitneyu(tally[mask], tally[~mask], alternative="greater").pvalue)


def _interval(leads: np.ndarray, mask: np.ndarray) -> tuple[float, float]:
    """Return the 95 % bootstrap interval of the median difference."""
    bounds = stats.bootstrap(
        (np.flatnonzero(mask), np.flatnonzero(~mask)),
        lambda inside, outside: np.median(leads[np.ix_(inside, outside)]),
        n_resamples=RESAMPLES,
        vectorized=False,
        method="percentile",
        rng=np.random.default_rng(0),
    ).confidence_interval
    return float(bounds.low), float(bounds.high)


def _confounders(
    data: StudyData, trials: Sequence[Trial], key: str, mask: np.ndarray, tally: np.ndarray
) -> tuple[str, ...]:
    """Return the other parameters in which a group differs from the rest and that go with the score."""
    columns = {other: _groups(data, trials, other) for other in data.space.searched if other != key}
    columns["order"] = _thirds(np.arange(len(trials)))
    columns = {other: column for other, column in columns.items() if len(np.unique(column)) > 1}
    found = []
    for other, column in columns.items():
        table = stats.contingency.crosstab(column, mask).count
        differs = stats.chi2_contingency(table, correction=False).pvalue * len(columns)
        matters = stats.kruskal(*[tally[column == group] for group in np.unique(column)]).pvalue
        if max(differs, matters) < LEVEL:
            found.append(other)
    return tuple(found)
