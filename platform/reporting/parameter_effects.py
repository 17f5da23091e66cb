"""What the trials of a search tell of its parameters, and how sure that is.

A search leaves no fair sample: trials are cut at different epochs, and the sampler tries again what did well. So

- two trials are compared by their best score up to the last epoch that both finished: at equal budgets. A trial wins,
  loses or draws; trials that failed are left out.
- whether a parameter matters is tested on these wins: Gehan's generalized Wilcoxon statistic (Gehan, "A generalized
  Wilcoxon test for comparing arbitrarily singly-censored samples", 1965) for each way to split the trials by the
  parameter in two, the largest of them taken. Its p-value is from permutations of the trials, in each of which the
  largest is taken as well: looking at many splits makes nothing significant. P-values are corrected by Holm's method,
  those of freezing and unfreezing, which were asked for before, among themselves, and those of all other parameters.
- a trial that was cut early meets a late-unfreezing one that was still frozen then. What that tells nobody knows. So of
  freezing and unfreezing only that is told which holds three times: with such wins and losses as they are, with the
  frozen one's losses as draws, and with its wins as draws. The largest p-value counts.
- by how much is the median difference over the pairs (Hodges and Lehmann, 1963), with a 95 % percentile interval from
  scipy's bootstrap of the trials. The split was chosen by the same trials, so it is rather too large than too small.
- a split is called confounded where its two sides also differ in another parameter that itself goes with the score,
  or in how late they were proposed: then the trials cannot tell which of them it was.

The sampler proposes trials by looking at earlier ones, so that they are not quite exchangeable: p is a guide.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from ray.tune.search.sample import Categorical, Float
from scipy import stats

from platform.reporting.study_data import StudyData
from platform.space import DEPTH
from platform.study.trials import Trial

UNFREEZE, UNFREEZE_AT, NEVER = "unfreeze", "unfreeze_at", "never"  # as spaces call what platform.training.freezing does
FREEZING = (DEPTH, UNFREEZE, UNFREEZE_AT)
LEAST_TRIALS, LEAST_SIDE = 8, 3  # in all, and on each side of a split
LEAST_FOR_INTERVAL = 5  # trials on each side: of fewer, a bootstrap interval is too narrow
PERMUTATIONS, RESAMPLES = 1999, 500
MOST = 1000  # trials: of more, so many are drawn
LEVEL = 0.05
CUTS = (0.2, 0.35, 0.5, 0.65, 0.8)  # quantiles where a number may split the trials


@dataclass(frozen=True)
class Split:
    """A way to tell trials apart in two.

    Attributes:
        key: The parameter.
        relation: "=", "≥" or "<", of the side that did better.
        value: What the parameter is compared with.
        better: Trials on that side.
        others: Trials on the other.
        p: How often chance alone would tell them apart as well, corrected for several parameters.
        difference: The median difference in score, greater is better.
        low: Of its 95 % interval; None where there are too few trials.
        high: Likewise.
        confounded: What else the two sides differ in, that goes with the score.
    """

    key: str
    relation: str
    value: object
    better: int
    others: int
    p: float
    difference: float
    low: float | None = None
    high: float | None = None
    confounded: tuple[str, ...] = ()

    @property
    def is_clear(self) -> bool:
        """Whether the trials tell it."""
        return self.p < LEVEL


def compared(data: StudyData, trials: Sequence[Trial]) -> tuple[np.ndarray, np.ndarray]:
    """By how much each trial leads each other one at the last epoch that both finished.

    Args:
        data: Their study.
        trials: N of them, each with at least one epoch.

    Returns:
        (N, N) leads, greater is better, antisymmetric; (N, N) whether the trial of the row was yet to unfreeze then.
    """
    most = max((trial.epochs for trial in trials), default=0)
    best = np.full((len(trials), most), np.nan)  # up to each epoch
    for row, trial in zip(best, trials, strict=True):
        maximised = [data.space.as_maximised(score) for score in trial.scores(data.metric)]
        row[: trial.epochs] = np.fmax.accumulate(maximised)
    epochs = np.array([trial.epochs for trial in trials], dtype=int)
    common = np.minimum(epochs[:, None], epochs[None, :])
    mine = best[np.arange(len(trials))[:, None], common - 1]
    lead = np.nan_to_num(mine - mine.T)
    return lead, common <= np.array([trial.first_unfreeze or 0 for trial in trials])[:, None]


def standing(data: StudyData, trials: Sequence[Trial]) -> np.ndarray:
    """(N,) in -1..1: how many more of the other trials a trial beats than beat it, as a share of them."""
    lead, _ = compared(data, trials)
    return np.sign(lead).sum(axis=1) / max(1, len(trials) - 1)


def sample(trials: Sequence[Trial], most: int = MOST) -> list[Trial]:
    """All of them, or as many as can be looked at within seconds, drawn evenly at random."""
    if len(trials) <= most:
        return list(trials)
    drawn = np.random.default_rng(0).choice(len(trials), most, replace=False)
    return [trials[index] for index in sorted(drawn)]


def splits(data: StudyData) -> dict[str, Split | None]:
    """What the trials tell of each searched parameter; None where there are too few to tell anything."""
    trials = sample(data.scored)
    lead, frozen = compared(data, trials)
    found = {key: _split(key, data, trials, lead, frozen) for key in data.space.searched}
    for family in (FREEZING, tuple(key for key in found if key not in FREEZING)):
        told = {key: split for key, split in found.items() if split and key in family}
        for (key, split), p in zip(told.items(), _holm([split.p for split in told.values()]), strict=True):
            found[key] = _checked(replace(split, p=p), data, trials, lead)
    return found


def values(data: StudyData, trials: Sequence[Trial], key: str) -> np.ndarray:
    """A parameter of each trial as a number: itself, or the place of a choice."""
    domain, given = data.space.searched[key], [trial.config[key] for trial in trials]
    if isinstance(domain, Categorical):
        order = {repr(value): place for place, value in enumerate(domain.categories)}
        return np.array([order[repr(value)] for value in given], dtype=float)
    return np.array(given, dtype=float)


def _split(key: str, data: StudyData, trials: Sequence[Trial], lead: np.ndarray, frozen: np.ndarray) -> Split | None:
    """The way to split the trials by a parameter that their scores tell apart best."""
    use = np.array([_concerns(key, data, trial) for trial in trials], dtype=bool)
    lead, frozen = lead[np.ix_(use, use)], frozen[np.ix_(use, use)]
    trials = [trial for trial, used in zip(trials, use, strict=True) if used]
    masks = _masks(key, data, trials)
    if len(trials) < LEAST_TRIALS or not masks:
        return None
    sides = np.array([mask for _, _, mask in masks]).T.astype(float)  # (N, K)
    wins = np.sign(lead)
    counted = [wins.sum(axis=1)]
    if key in FREEZING:
        counted += [_drawn(wins, frozen & (wins < 0)), _drawn(wins, frozen & (wins > 0))]
    statistic = _gehan(counted[0], sides)
    # Of two ways that say the same the one that names what did better: "= a", not "≠ b".
    best = max(range(len(masks)), key=lambda way: (abs(statistic[way]), statistic[way]))
    generator = np.random.default_rng(0)
    shuffled = [generator.permutation(sides) for _ in range(PERMUTATIONS)]
    p = max(_chance(each, sides, shuffled, best, np.sign(statistic[best])) for each in counted)
    relation, value, mask = masks[best]
    if statistic[best] < 0:
        relation, mask = {"=": "≠", "≥": "<"}[relation], ~mask
    difference = float(np.median(lead[np.ix_(mask, ~mask)]))
    counts = int(mask.sum()), int((~mask).sum())
    return Split(key, relation, value, *counts, p, difference)


def _drawn(wins: np.ndarray, some: np.ndarray) -> np.ndarray:
    """(N,) wins less losses of each trial, where some count as draws, for the other trial of the pair as well."""
    return np.where(some | some.T, 0.0, wins).sum(axis=1)


def _chance(won: np.ndarray, sides: np.ndarray, shuffled: Sequence[np.ndarray], best: int, direction: float) -> float:
    """How often permuted trials are told apart by any split as well as these by the best one; 1 if the other way."""
    reached = direction * _gehan(won, sides)[best] - 1e-9
    if reached <= 0:
        return 1.0
    return (1 + sum(np.abs(_gehan(won, each)).max() >= reached for each in shuffled)) / (len(shuffled) + 1)


def _concerns(key: str, data: StudyData, trial: Trial) -> bool:
    """Whether a parameter makes a difference in a trial: when to unfreeze does only where something unfreezes."""
    frozen = trial.config.get(DEPTH, 1)
    if key == UNFREEZE:
        return bool(frozen)
    return key != UNFREEZE_AT or bool(frozen and trial.config.get(UNFREEZE) != NEVER)


def _masks(key: str, data: StudyData, trials: Sequence[Trial]) -> list[tuple[str, object, np.ndarray]]:
    """The ways to split trials by a parameter, with enough on both sides."""
    domain, number = data.space.searched[key], values(data, trials, key)
    ways: list[tuple[str, object, np.ndarray]] = []
    if isinstance(domain, Categorical):
        ways += [("=", value, number == place) for place, value in enumerate(domain.categories)]
    elif isinstance(domain, Float):
        cuts = {float(f"{cut:.2g}") for cut in np.quantile(number, CUTS)} if len(number) else set()
        ways += [("≥", cut, number >= cut) for cut in sorted(cuts)]
    else:
        tried = sorted({int(each) for each in number})
        ways += [("≥", each, number >= each) for each in tried[1:]] + [("=", each, number == each) for each in tried]
    return [way for way in ways if LEAST_SIDE <= way[2].sum() <= len(trials) - LEAST_SIDE]


def _gehan(won: np.ndarray, sides: np.ndarray) -> np.ndarray:
    """(K,) Gehan's statistic of each of K ways to split N trials, in standard deviations.

    Args:
        won: (N,) wins less losses of each trial. Within a side they cancel out: what is left is against the other.
        sides: (N, K) 1 on one side, 0 on the other.
    """
    n, m = len(won), sides.sum(axis=0)
    variance = m * (n - m) / (n * (n - 1)) * np.square(won).sum()
    return won @ sides / np.sqrt(np.maximum(variance, 1e-12))


def _interval(lead: np.ndarray, mask: np.ndarray) -> tuple[float | None, float | None]:
    """The 95 % bootstrap interval of the median difference."""
    mine, other = np.flatnonzero(mask), np.flatnonzero(~mask)
    if min(len(mine), len(other)) < LEAST_FOR_INTERVAL:
        return None, None
    bounds = stats.bootstrap(
        (mine, other),
        lambda a, b: np.median(lead[np.ix_(a, b)]),
        n_resamples=RESAMPLES,
        vectorized=False,
        method="percentile",
        rng=np.random.default_rng(0),
    ).confidence_interval
    return float(bounds.low), float(bounds.high)


def _holm(given: Sequence[float]) -> list[float]:
    """P-values corrected by Holm's method, which keeps the chance of any false one."""
    order = np.argsort(given)
    stepped = np.array(given)[order] * np.arange(len(given), 0, -1)
    corrected = np.empty(len(given))
    corrected[order] = np.minimum(1.0, np.maximum.accumulate(stepped))
    return corrected.tolist()


def _checked(split: Split, data: StudyData, trials: Sequence[Trial], lead: np.ndarray) -> Split:
    """A split with its interval, and with what else its sides differ in, if the trials tell anything of it."""
    if not split.is_clear:
        return split
    use = [index for index, trial in enumerate(trials) if _concerns(split.key, data, trial)]
    mask = np.array([_holds(split, trials[index].config[split.key]) for index in use])
    stand = np.sign(lead)[np.ix_(use, use)].sum(axis=1)
    used = [trials[index] for index in use]
    columns: dict[str, np.ndarray] = {key: values(data, used, key) for key in data.space.searched if key != split.key}
    apart, goes_with = dict[str, float](), dict[str, float]()
    for key, column in columns.items():
        if len(set(column)) > 1:
            choice = isinstance(data.space.searched[key], Categorical)
            apart[key], goes_with[key] = _differs(column, mask, choice), _goes_with(column, stand, choice)
    order = np.arange(len(used))
    apart["order"], goes_with["order"] = _differs(order, mask, False), _goes_with(order, stand, False)
    corrected = dict(zip(apart, _holm(list(apart.values())), strict=True))
    also = [key for key in apart if corrected[key] < LEVEL and goes_with[key] < LEVEL]
    low, high = _interval(lead[np.ix_(use, use)], mask)
    return replace(split, low=low, high=high, confounded=tuple(also))


def _holds(split: Split, value: object) -> bool:
    if split.relation in ("=", "≠"):
        return (repr(value) == repr(split.value)) == (split.relation == "=")
    return (value >= split.value) == (split.relation == "≥")  # type: ignore[operator]


def _differs(column: np.ndarray, mask: np.ndarray, choice: bool) -> float:
    """The p-value that two sides have the same values of a parameter."""
    if choice:
        table = [[np.sum(column[side] == each) for each in sorted(set(column))] for side in (mask, ~mask)]
        return float(stats.chi2_contingency(table, correction=False).pvalue)
    return float(stats.mannwhitneyu(column[mask], column[~mask]).pvalue)


def _goes_with(column: np.ndarray, stand: np.ndarray, choice: bool) -> float:
    """The p-value that a parameter has nothing to do with how trials stand."""
    groups = [stand[column == each] for each in sorted(set(column))]
    if choice:
        return float(stats.kruskal(*groups).pvalue) if len(set(stand)) > 1 else 1.0
    return float(stats.spearmanr(column, stand).pvalue) if len(set(stand)) > 1 else 1.0
