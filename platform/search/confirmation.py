"""Whether to believe a search: its best configurations trained again over seeds, beside the plain baselines.

A search reports the best of many noisy scores, which flatters it: some of the winner's lead is luck. So the best
configurations are trained again to the full budget with seeds that the search did not see, and so are, with the same
seeds, the two things that one would do without a search: train only the heads, and train everything. Which of the
configurations wins is decided by validation scores; the test split then says whether it beats the baselines, by
differences paired over seeds (Student's t). See Bouthillier et al., "Accounting for Variance in Machine Learning
Benchmarks", 2021.
"""

import math
import re
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from platform.errors import Fault
from platform.space import DEPTH, Space
from platform.study.trials import Trial

NONE = "none"
ONLY_HEADS, EVERYTHING = "only the heads", "everything trained"
LEVEL = 0.95  # of intervals; a lead counts where its interval is above nothing
MOST = 100  # configurations, seeds
NOTE = (
    "Means over seeds, with 95 % intervals (Student's t); a lead with a plus is for the better. They cover what chance "
    "does in training (the order of the data, new layers, augmentation), not which examples the test split happens to "
    "hold."
)


@dataclass(frozen=True)
class Row:
    """What is trained again, with each seed.

    Attributes:
        name: As people call it.
        slug: The beginning of its trials' ids.
        config: The whole configuration.
        trial_id: Of the trial that found it, "" for a baseline.
    """

    name: str
    slug: str
    config: Mapping[str, Any]
    trial_id: str = ""


@dataclass(frozen=True)
class Asked:
    """How much is trained again: `configurations` of the best, and the baselines, each with `seeds` seeds."""

    configurations: int
    seeds: int

    @property
    def most(self) -> int:
        """Trainings, at the most."""
        return (self.configurations + 2) * self.seeds


def parse(text: str) -> Asked | None:
    """What --confirm was given, "3x3" say, as three configurations with three seeds each; None for none."""
    found = re.fullmatch(r"([0-9]{1,3})x([0-9]{1,3})", text)
    return Asked(int(found[1]), int(found[2])) if found else None


def faults(text: str) -> list[Fault]:
    """What is wrong with what --confirm was given."""
    asked = parse(text)
    if text in ("", NONE) or (asked and 1 <= asked.configurations <= MOST and 2 <= asked.seeds <= MOST):
        return []
    rule = f"--confirm wants configurations x seeds: 1 to {MOST}, and 2 to {MOST}"
    return [Fault(rule, repr(text), "Write e.g. --confirm 3x3, or --confirm none.")]


def baselines(space: Space) -> list[Row]:
    """The start of the space with nothing but the heads trained, and with everything trained."""
    if DEPTH not in space.params:
        return []
    start = {**space.fixed, **space.start}
    never = {"unfreeze": "never"} if "unfreeze" in start else {}
    depths = {ONLY_HEADS: space.depth, EVERYTHING: 0}
    return [Row(name, name.replace(" ", "-"), {**start, **never, DEPTH: depth}) for name, depth in depths.items()]


def chosen(trials: Iterable[Trial], space: Space, count: int) -> list[Row]:
    """The configurations of the best trials, the best first; of equal configurations the first."""
    scored = [
        (space.goodness(score), trial)
        for trial in trials
        if not trial.confirms and trial.status != "failed" and space.may_win(trial.config, trial.baseline)
        if (score := trial.best_score(space)) is not None
    ]
    rows: dict[str, Row] = {}
    for _, trial in sorted(scored, key=lambda each: each[0], reverse=True):
        rows.setdefault(_same(trial.config), Row(trial.name, trial.id, trial.config, trial.id))
    return list(rows.values())[:count]


def seeds_of(asked: Asked, seed: int) -> list[int]:
    """Seeds that the search of a study with this one did not use."""
    return [(seed + number) % 2**32 for number in range(1, asked.seeds + 1)]


def missing(rows: Sequence[Row], seeds: Sequence[int], trials: Iterable[Trial]) -> Iterable[tuple[Row, int]]:
    """What is left to train; a configuration that is a baseline's is trained for both.

    Args:
        rows: All rows that are known so far.
        seeds: Of each.
        trials: The study's.
    """
    done = {(_same(trial.config), trial.seed) for trial in trials if trial.confirms}
    for seed in seeds:  # all rows with the first seed, then with the next: what there is can be paired
        for row in rows:
            if (key := (_same(row.config), seed)) not in done:
                done.add(key)
                yield row, seed


def table(
    rows: Sequence[Row],
    asked: str,
    seeds: Sequence[int],
    runs: Mapping[str, Sequence[Trial]],
    tested: Mapping[str, Mapping[str, float]],
    space: Space,
) -> dict[str, Any]:
    """What came of it, as "confirmation" of result.json.

    Args:
        rows: The configurations and the baselines.
        asked: What --confirm was given.
        seeds: Of each row.
        runs: Of each row, by its name.
        tested: Test metrics of each finished run, by its id.
        space: The study's.

    Returns:
        asked, metric, test_metric, seeds, rows with their runs, mean, low and high and what they are "against" each
        baseline; winner (the name of a row, "" for none), is_champion, verdict and note.
    """
    metric = space.metric.replace("val/", "test/", 1)
    told = [_row(row, runs[row.name], tested, metric, space) for row in rows]
    plain = [row for row in told if row["kind"] == "baseline"]
    for row in told:
        row["against"] = {} if row in plain else {other["name"]: _against(row, other, metric, space) for other in plain}
    winner = _winner(told, space)
    verdict, is_champion = _verdict(winner, plain, metric)
    return {
        "asked": asked,
        "metric": space.metric,
        "test_metric": metric,
        "seeds": list(seeds),
        "rows": told,
        "winner": winner["name"] if winner else "",
        "is_champion": is_champion,
        "verdict": verdict,
        "note": NOTE,
    }


def rows_of(trials: Mapping[str, Trial], asked: Asked, space: Space, is_searched: bool) -> list[Row]:
    """The baselines, and once the search is over its best configurations before them."""
    return [*(chosen(trials.values(), space, asked.configurations) if is_searched else []), *baselines(space)]


def runs_of(rows: Sequence[Row], trials: Iterable[Trial]) -> dict[str, list[Trial]]:
    """The trainings of each row, by its name, in order of their seeds."""
    again = sorted((trial for trial in trials if trial.confirms), key=lambda trial: trial.seed or 0)
    return {row.name: [trial for trial in again if _same(trial.config) == _same(row.config)] for row in rows}


def scored(row: Mapping[str, Any]) -> int:
    """How many of a row's trainings were scored: those that its mean is of."""
    return sum(bool(run["test_metrics"]) for run in row["runs"])


def markdown(table: Mapping[str, Any]) -> str:
    """What came of it, as a table in Markdown."""
    titles = ["", table["test_metric"], "95 % interval", "seeds"]
    rows = [[row["name"], *_told(row), str(scored(row))] for row in table["rows"]]
    lines = "\n".join(f"| {' | '.join(row)} |" for row in [titles, ["---"] * len(titles), *rows])
    return f"{table['verdict']}\n\n{lines}\n\n{table['note']}"


def _told(row: Mapping[str, Any]) -> list[str]:
    """A row's mean and interval."""
    mean = "" if row["mean"] is None else f"{row['mean']:.3f}"
    return [mean, "" if row["low"] is None else f"{row['low']:.3f} to {row['high']:.3f}"]


def _row(row: Row, runs: Sequence[Trial], tested: Mapping[str, Mapping[str, float]], metric: str, space: Space) -> dict:
    told: list[dict[str, Any]] = [
        {
            "trial_id": run.id,
            "seed": run.seed,
            "status": run.status,
            "metrics": run.metrics[best - 1] if (best := run.best_epoch(space)) else {},
            "test_metrics": dict(tested.get(run.id, {})),
        }
        for run in runs
    ]
    scores = [run["test_metrics"][metric] for run in told if metric in run["test_metrics"]]
    mean, low, high = _interval(scores)
    kind = "configuration" if row.trial_id else "baseline"
    known = {"name": row.name, "kind": kind, "trial_id": row.trial_id, "config": dict(row.config)}
    return {**known, "runs": told, "mean": mean, "low": low, "high": high}


def _against(row: Mapping[str, Any], other: Mapping[str, Any], metric: str, space: Space) -> dict[str, Any]:
    """How much better a row is than another, paired over the seeds that both have."""
    mine, theirs = (
        {run["seed"]: run["test_metrics"][metric] for run in each["runs"] if metric in run["test_metrics"]}
        for each in (row, other)
    )
    leads = [space.goodness(mine[seed]) - space.goodness(theirs[seed]) for seed in mine if seed in theirs]
    mean, low, high = _interval(leads)
    from scipy import stats  # a second to import

    known = {"mean": mean, "low": low, "high": high, "same": row["config"] == other["config"]}
    if low is None:
        return {**known, "p": None, "better": False}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # of leads that are all the same
        p = float(stats.ttest_1samp(leads, 0.0).pvalue)
    p = p if math.isfinite(p) else 1.0  # no lead with any seed
    return {**known, "p": p, "better": low > 0}


def _interval(values: Sequence[float]) -> tuple[float | None, float | None, float | None]:
    """The mean, and its interval by Student's t; None where there are too few values."""
    from scipy import stats

    if len(values) < 2:
        return (values[0] if values else None), None, None
    mean, error = fmean(values), float(stats.sem(values))
    if error == 0:
        return mean, mean, mean
    low, high = stats.t.interval(LEVEL, len(values) - 1, mean, error)
    return mean, float(low), float(high)


def _winner(rows: Sequence[Mapping[str, Any]], space: Space) -> Mapping[str, Any] | None:
    """The configuration with the best mean validation score, of those with the most runs: the test split chooses
    nothing.
    """
    scored = [
        (len(known), space.goodness(fmean(known)), row)
        for row in rows
        if row["kind"] == "configuration"
        if (known := [run["metrics"][space.metric] for run in row["runs"] if run["test_metrics"]])
    ]
    return max(scored, key=lambda each: each[:2])[2] if scored else None


def _verdict(winner: Mapping[str, Any] | None, plain: Sequence[Mapping[str, Any]], metric: str) -> tuple[str, bool]:
    """In words, and whether the winner beats each baseline."""
    if winner is None or winner["mean"] is None:
        return "No configuration was trained again to its end: nothing is confirmed.", False
    name, score = winner["name"], f"{metric} {winner['mean']:.3f} over {scored(winner)} seeds"
    told = [f"{other['name']} ({_lead(winner['against'][other['name']])})" for other in plain]
    lost = [line for line, other in zip(told, plain, strict=True) if not winner["against"][other["name"]]["better"]]
    if not plain:
        return f"{name}: {score}; the space has no freezing depth, and so no plain baselines.", False
    if not lost:
        return f"{name} beats {' and '.join(told)}: {score}.", True
    return f"{name} is not shown to beat {' and '.join(lost)}: {score}. No champion.", False


def _lead(against: Mapping[str, Any]) -> str:
    if against["same"]:
        return "the same configuration"
    if against["mean"] is None:
        return "nothing to compare"
    if against["low"] is None:
        return f"{against['mean']:+.3f}, one seed"
    return f"{against['mean']:+.3f}, {against['low']:+.3f} to {against['high']:+.3f}"


def _same(config: Mapping[str, Any]) -> str:
    """What two equal configurations have in common."""
    return repr(sorted(config.items()))
