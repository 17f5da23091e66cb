"""Comparison of pruning with and without `wait_for_unfreezing`, simulated on recorded learning curves.

python -m benchmarks.unfreezing                                   on the curves in benchmarks/curves
python -m benchmarks.curves TASK --out FILE …               records others

A search meets the recorded configs in random order, two at a time, and `platform.search.scheduler` prunes them, with or
without waiting for the first unfreezing. The table shows how many epochs the search trains until it first sees a score
that only the best 10, 5 or 2 % of the configs reach at their best, and how good its best is in the end. Each seed is
another order, the same for both sides.
"""

import argparse
import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

from benchmarks import timing
from benchmarks.curves import CURVES, Recorded
from platform.search.scheduler import PruningScheduler
from platform.space import Space

TOP = (0.10, 0.05, 0.02)
WORKERS = 2


def main() -> None:
    """Print a table for each file."""
    p = argparse.ArgumentParser(
        prog="python -m benchmarks.unfreezing",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    p.add_argument("files", nargs="*", type=Path, default=sorted(CURVES.glob("*.json.gz")))
    p.add_argument("--seeds", type=int, default=500)
    p.add_argument("--trials", type=int, default=30, help="configurations that a search meets")
    options = p.parse_args()
    for file in options.files:
        curves = Curves.read(file)
        late = sum(map(curves.is_late, range(len(curves.unfreezings))))
        counts = f"{len(curves.scores)} configurations, of which {late} unfreeze after the first rung; "
        print(f"\n{file.name.split('.')[0]}: {counts}")
        print(f"searches of {options.trials}, {options.seeds} seeds\n")
        sides: dict[str, list[int | None]] = {"judges all alike": [None] * len(curves.unfreezings)}
        sides["waits for the unfreeze"] = curves.unfreezings
        found = {name: [search(curves, unfreezings, seed, options.trials) for seed in range(options.seeds)]
                 for name, unfreezings in sides.items()}  # fmt: skip
        budget = round(float(np.mean([outcome.epochs for outcome in found["judges all alike"]])))
        spent = {name: np.array([search(curves, unfreezings, seed, len(curves.scores)).best_after(budget)
                 for seed in range(options.seeds)]) for name, unfreezings in sides.items()}  # fmt: skip
        reached = [f"epochs to the best {share:.0%}" for share in TOP]
        header = ["ASHA", "epochs in all", "best in the end", f"best after {budget} epochs", *reached]
        rows = [[name, *_row(curves, found[name], spent[name])] for name in sides]
        print(timing.table(header, rows))
        for name, outcomes in found.items():
            share = sum(outcome.not_unfrozen for outcome in outcomes) / sum(outcome.late for outcome in outcomes)
            print(f"\n{name}: {share:.0%} of those that unfreeze late were pruned before", end="")
        ends = {name: np.array([outcome.best for outcome in outcomes]) for name, outcomes in found.items()}
        print(f"\n\ngain in the best, of as many trials: {_gain(ends)}; of as many epochs: {_gain(spent)}")


def _gain(bests: dict[str, np.ndarray]) -> str:
    """Return the mean difference over the seeds with its interval as text."""
    plain, waits = bests.values()
    interval = stats.bootstrap((waits - plain,), np.mean, random_state=0).confidence_interval
    return f"{np.mean(waits - plain):+.4f} (95 %: {interval.low:+.4f} to {interval.high:+.4f})"


@dataclass(frozen=True)
class Curves:
    """Recorded curves of a task.

    Attributes:
        space: Its budget, metric and mode.
        scores: (configurations, epochs).
        unfreezings: Of each, the epochs before its first unfreeze.
    """

    space: Space
    scores: np.ndarray
    unfreezings: list[int | None]

    def is_late(self, number: int) -> bool:
        """Return whether a config unfreezes after the first rung."""
        return (self.unfreezings[number] or 0) > self.space.grace_epochs

    @classmethod
    def read(cls, file: Path) -> "Curves":
        recorded = Recorded.of(file)
        return cls(recorded.space, recorded.scores, [recorded.first_unfreeze(config) for config in recorded.configs])


@dataclass(frozen=True)
class Outcome:
    """Outcome of a search.

    Attributes:
        best: Its best score.
        epochs: How many it trained.
        seen: Each better score, and after how many epochs it was seen.
        late: Trials that were to unfreeze after the first rung.
        not_unfrozen: Those of them that were pruned before.
    """

    best: float
    epochs: int
    seen: list[tuple[int, float]]
    late: int
    not_unfrozen: int

    def best_after(self, epochs: int) -> float:
        """Return the best score that was seen within a number of epochs."""
        return max(good for when, good in self.seen if when <= epochs)


def search(curves: Curves, unfreezings: list[int | None], seed: int, trials: int) -> Outcome:
    """Simulate a search through some of the configs, in an order that depends on the seed."""
    scheduler = PruningScheduler(replace(curves.space, wait_for_unfreezing=True))
    waiting = np.random.default_rng(seed).permutation(len(curves.scores))[:trials].tolist()
    running: dict[int, int] = {}
    seen: list[tuple[int, float]] = []
    epochs = late = not_unfrozen = 0
    while waiting or running:
        while waiting and len(running) < WORKERS:
            running[waiting.pop(0)] = 0
        for number in list(running):
            running[number] += 1
            epochs += 1
            epoch, score = running[number], curves.scores[number][running[number] - 1]
            good = curves.space.as_maximised(score)
            if not seen or good > seen[-1][1]:
                seen.append((epochs, good))
            if epoch >= curves.space.max_epochs or scheduler.prunes(str(number), epoch, score, unfreezings[number]):
                del running[number]
                if curves.is_late(number):
                    late, not_unfrozen = late + 1, not_unfrozen + (epoch <= (curves.unfreezings[number] or 0))
    return Outcome(seen[-1][1], epochs, seen, late, not_unfrozen)


def _row(curves: Curves, outcomes: list[Outcome], spent: np.ndarray) -> list[str]:
    bests = sorted((max(map(curves.space.as_maximised, scores)) for scores in curves.scores), reverse=True)
    row: list[Any] = [f"{np.mean([o.epochs for o in outcomes]):.0f}", f"{np.mean([o.best for o in outcomes]):.4f}"]
    row.append(f"{np.mean(spent):.4f}")
    for share in TOP:
        target = bests[max(0, math.ceil(share * len(bests)) - 1)]
        needed = [next((epochs for epochs, good in o.seen if good >= target), math.inf) for o in outcomes]
        middle, reached = float(np.median(needed)), np.mean(np.isfinite(needed))
        row.append(f"{middle:.0f} ({reached:.0%} reach it)" if math.isfinite(middle) else f"– ({reached:.0%})")
    return row


if __name__ == "__main__":
    main()
