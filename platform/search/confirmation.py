"""Confirmation of a search: its best configurations are trained again over seeds, beside the plain baselines.

A search reports the best of many noisy scores, so that part of the winner's lead is luck. Therefore the best
configurations are trained again to the full budget with seeds that the search did not use. With the same seeds, so are
the two alternatives to a search: training only the heads, and training everything. Validation scores decide which
configuration wins. The test split then shows whether it beats the baselines, by differences paired over seeds
(Student's t). See Bouthillier et al., "Accounting for Variance in Machine Learning Benchmarks", 2021.
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
from platform.study.trials import Trial, may_win, rank
from platform.study.wording import markdown_table

NONE = "none"
ONLY_HEADS, EVERYTHING = "only the heads", "everything trained"
LEVEL = 0.95  # of intervals; a lead counts if its whole interval lies above 0
MAX_EXTENT = 100  # configurations, and seeds
NOTE = (
    "Means over seeds, with 95 % intervals (Student's t). A positive lead means that the configuration is better. The "
    "intervals cover chance in training (the order of the data, new layers, augmentation), but not the choice of the "
    "examples in the test split."
)


@dataclass(frozen=True)
class Row:
    """Configuration or baseline that is trained again with each seed.

    Attributes:
        name: Its name for people.
        slug: Prefix of the ids of its trainings.
        config: Complete config.
        trial_id: Id of the trial that found the configuration, "" for a baseline.
    """

    name: str
    slug: str
    config: Mapping[str, Any]
    trial_id: str = ""


@dataclass(frozen=True)
class ConfirmationSize:
    """Extent of a confirmation: the best `configurations` and the baselines, each with `seeds` seeds."""

    configurations: int
    seeds: int

    @property
    def max_trainings(self) -> int:
        """Largest possible number of trainings."""
        return (self.configurations + 2) * self.seeds


def parse(text: str) -> ConfirmationSize | None:
    """Return the extent that a value of --confirm such as "3x3" (configurations x seeds) means, None for none."""
    found = re.fullmatch(r"([0-9]{1,3})x([0-9]{1,3})", text)
    return ConfirmationSize(int(found[1]), int(found[2])) if found else None


def faults(text: str) -> list[Fault]:
    """Return the faults in a value of --confirm."""
    extent = parse(text)
    if text in ("", NONE) or (extent and 1 <= extent.configurations <= MAX_EXTENT and 2 <= extent.seeds <= MAX_EXTENT):
        return []
    rule = f"--confirm must be 1 to {MAX_EXTENT} configurations x 2 to {MAX_EXTENT} seeds"
    return [Fault(rule, repr(text), "Write e.g. --confirm 3x3, or --confirm none.")]


def baselines(space: Space) -> list[Row]:
    """Return the space's first config with only the heads trained, and with everything trained."""
    if DEPTH not in space.params:
        return []
    start = {**space.fixed, **space.start}
    never = {"unfreeze": "never"} if "unfreeze" in start else {}
    depths = {ONLY_HEADS: space.depth, EVERYTHING: 0}
    return [Row(name, name.replace(" ", "-"), {**start, **never, DEPTH: depth}) for name, depth in depths.items()]


def chosen(trials: Iterable[Trial], space: Space, count: int) -> list[Row]:
    """Return the configs of the best trials, the best first, each config once."""
    rows: dict[str, Row] = {}
    for trial in rank([trial for trial in trials if may_win(trial, space)], space):
        rows.setdefault(_key(trial.config), Row(trial.name, trial.id, trial.config, trial.id))
    return list(rows.values())[:count]


def seeds_of(extent: ConfirmationSize, seed: int) -> list[int]:
    """Return seeds that the search of a study with this seed did not use."""
    return [(seed + number) % 2**32 for number in range(1, extent.seeds + 1)]


def missing(rows: Sequence[Row], seeds: Sequence[int], trials: Iterable[Trial]) -> Iterable[tuple[Row, int]]:
    """Yield what is left to train of all rows so far. A config that equals a baseline's is trained once for both."""
    done = {(_key(trial.config), trial.seed) for trial in trials if trial.confirms}
    for seed in seeds:  # all rows with one seed before the next seed, so that an incomplete confirmation has pairs
        for row in rows:
            if (key := (_key(row.config), seed)) not in done:
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
    """Return the outcome of a confirmation, the "confirmation" of result.json.

    Args:
        rows: The configurations and the baselines.
        asked: The value of --confirm.
        seeds: Seeds of each row.
        runs: Trainings of each row, by its name.
        tested: Test metrics of each finished training, by its id.
        space: Space of the study.

    Returns:
        asked, metric, test_metric, seeds, rows with their runs, mean, low and high, and their lead "against" each
        baseline; winner (the name of a row, "" for none), is_champion, verdict and note.
    """
    metric = space.test_metric
    records = [_row(row, runs[row.name], tested, metric, space) for row in rows]
    plain = [row for row in records if row["kind"] == "baseline"]
    for row in records:
        row["against"] = {} if row in plain else {other["name"]: _against(row, other, metric, space) for other in plain}
    winner = _winner(records, space)
    verdict, is_champion = _verdict(winner, plain, metric)
    return {
        "asked": asked,
        "metric": space.metric,
        "test_metric": metric,
        "seeds": list(seeds),
        "rows": records,
        "winner": winner["name"] if winner else "",
        "is_champion": is_champion,
        "verdict": verdict,
        "note": NOTE,
    }


def rows_of(trials: Mapping[str, Trial], extent: ConfirmationSize, space: Space, is_searched: bool) -> list[Row]:
    """Return the best configurations, once the search is over, and the baselines."""
    return [*(chosen(trials.values(), space, extent.configurations) if is_searched else []), *baselines(space)]


def runs_of(rows: Sequence[Row], trials: Iterable[Trial]) -> dict[str, list[Trial]]:
    """Return the trainings of each row, by its name, in order of their seeds."""
    again = sorted((trial for trial in trials if trial.confirms), key=lambda trial: trial.seed or 0)
    return {row.name: [trial for trial in again if _key(trial.config) == _key(row.config)] for row in rows}


def winner_of(table: Mapping[str, Any]) -> dict[str, Any]:
    """Return the row of the configuration that won, {} if there is none."""
    return next((row for row in table["rows"] if row["name"] == table["winner"]), {})


def scored(row: Mapping[str, Any]) -> int:
    """Return how many of a row's trainings have test scores. The row's mean is that of these trainings."""
    return sum(bool(run["test_metrics"]) for run in row["runs"])


def markdown(table: Mapping[str, Any]) -> str:
    """Return the outcome as a Markdown table."""
    rows = []
    for row in table["rows"]:
        mean = "" if row["mean"] is None else f"{row['mean']:.3f}"
        interval = "" if row["low"] is None else f"{row['low']:.3f} to {row['high']:.3f}"
        rows.append([row["name"], mean, interval, str(scored(row))])
    lines = markdown_table(["", table["test_metric"], "95 % interval", "seeds"], rows)
    return f"{table['verdict']}\n\n{lines}\n\n{table['note']}"


def _row(row: Row, runs: Sequence[Trial], tested: Mapping[str, Mapping[str, float]], metric: str, space: Space) -> dict:
    records: list[dict[str, Any]] = [
        {
            "trial_id": run.id,
            "seed": run.seed,
            "status": run.status,
            "metrics": run.best_metrics(space),
            "test_metrics": dict(tested.get(run.id, {})),
        }
        for run in runs
    ]
    scores = [run["test_metrics"][metric] for run in records if metric in run["test_metrics"]]
    mean, low, high = _interval(scores)
    kind = "configuration" if row.trial_id else "baseline"
    known = {"name": row.name, "kind": kind, "trial_id": row.trial_id, "config": dict(row.config)}
    return {**known, "runs": records, "mean": mean, "low": low, "high": high}


def _against(row: Mapping[str, Any], other: Mapping[str, Any], metric: str, space: Space) -> dict[str, Any]:
    """Return the lead of a row over another one, paired over the seeds that both have."""
    own, others = (
        {run["seed"]: run["test_metrics"][metric] for run in each["runs"] if metric in run["test_metrics"]}
        for each in (row, other)
    )
    leads = [space.as_maximised(own[seed]) - space.as_maximised(others[seed]) for seed in own if seed in others]
    mean, low, high = _interval(leads)
    from scipy import stats  # a second to import

    known = {"mean": mean, "low": low, "high": high, "same": row["config"] == other["config"]}
    if low is None:
        return {**known, "p": None, "better": False}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # if all leads are equal
        p = float(stats.ttest_1samp(leads, 0.0).pvalue)
    p = p if math.isfinite(p) else 1.0  # the lead is 0 with every seed
    return {**known, "p": p, "better": low > 0}


def _interval(values: Sequence[float]) -> tuple[float | None, float | None, float | None]:
    """Return the mean and the limits of its interval (Student's t), None if there are too few values."""
    from scipy import stats

    if len(values) < 2:
        return (values[0] if values else None), None, None
    mean, error = fmean(values), float(stats.sem(values))
    if error == 0:
        return mean, mean, mean
    low, high = stats.t.interval(LEVEL, len(values) - 1, mean, error)
    return mean, float(low), float(high)


def _winner(rows: Sequence[Mapping[str, Any]], space: Space) -> Mapping[str, Any] | None:
    """Return the configuration with the best mean validation score, of those with the most complete trainings.

    The test split takes no part in the choice.
    """
    candidates = [
        (len(known), space.as_maximised(fmean(known)), row)
        for row in rows
        if row["kind"] == "configuration"
        if (known := [run["metrics"][space.metric] for run in row["runs"] if run["test_metrics"]])
    ]
    return max(candidates, key=lambda each: each[:2])[2] if candidates else None


def _verdict(winner: Mapping[str, Any] | None, plain: Sequence[Mapping[str, Any]], metric: str) -> tuple[str, bool]:
    """Return the verdict as a sentence, and whether the winner beats each baseline."""
    if winner is None or winner["mean"] is None:
        return "No configuration was trained again to its end: nothing is confirmed.", False
    name, score = winner["name"], f"{metric} {winner['mean']:.3f} over {scored(winner)} seeds"
    leads = [f"{other['name']} ({_lead(winner['against'][other['name']])})" for other in plain]
    lost = [line for line, other in zip(leads, plain, strict=True) if not winner["against"][other["name"]]["better"]]
    if not plain:
        return f"{name}: {score}; the space has no freezing depth, and so no plain baselines.", False
    if not lost:
        return f"{name} beats {' and '.join(leads)}: {score}.", True
    return f"{name} is not shown to beat {' and '.join(lost)}: {score}. No champion.", False


def _lead(against: Mapping[str, Any]) -> str:
    if against["same"]:
        return "the same configuration"
    if against["mean"] is None:
        return "nothing to compare"
    if against["low"] is None:
        return f"{against['mean']:+.3f}, one seed"
    return f"{against['mean']:+.3f}, {against['low']:+.3f} to {against['high']:+.3f}"


def _key(config: Mapping[str, Any]) -> str:
    """Return a key that is the same for equal configs."""
    return repr(sorted(config.items()))
