"""Compare pruning rules in searches simulated on recorded learning curves.

python -m benchmarks.pruning                                on the curves in benchmarks/curves
python -m benchmarks.curves TASK --out FILE …               records others

A search meets the recorded configurations in random order, two at a time, and prunes them with Ray's
AsyncHyperBandScheduler at several reduction factors, and with the rule that waits for trials which unfreeze late
(`Space.wait_for_unfreezing`). Each seed is another order, the same for all rules. The table has the epochs that a
search trains, its best score, its best score within the epochs that the first rule needed, and the share of
late-unfreezing trials that were pruned before they unfroze.
"""

import argparse
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from scipy import stats

from benchmarks import timing
from benchmarks.curves import CURVES, Recorded
from platform.search.scheduler import REDUCTION_FACTOR, PruningScheduler
from platform.space import Space

FACTORS = (3, 4, 2)  # the first one is the reference: the shipped one
WORKERS = 2


def main() -> None:
    """Print a table for each file of curves."""
    p = argparse.ArgumentParser(
        prog="python -m benchmarks.pruning", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    p.add_argument("files", nargs="*", type=Path, default=sorted(CURVES.glob("*.json.gz")))
    p.add_argument("--seeds", type=int, default=500)
    p.add_argument("--trials", type=int, default=30, help="configurations that a search meets")
    options = p.parse_args()
    for file in options.files:
        curves = Curves.read(file)
        late = sum(map(curves.unfreezes_late, range(len(curves.scores))))
        print(
            f"\n{file.name.split('.')[0]}: {len(curves.scores)} configurations, {late} unfreeze after the first rung;"
        )
        print(f"searches of {options.trials}, {options.seeds} seeds\n")
        rules = {f"reduction factor {factor}": (curves.space, float(factor)) for factor in FACTORS}
        rules["waits for unfreezing"] = (replace(curves.space, wait_for_unfreezing=True), float(REDUCTION_FACTOR))
        searches = {
            name: [search(curves, PruningScheduler(*rule), seed, options.trials) for seed in range(options.seeds)]
            for name, rule in rules.items()
        }
        budget = round(float(np.mean([outcome.epochs for outcome in next(iter(searches.values()))])))
        long = {
            name: [search(curves, PruningScheduler(*rule), seed, len(curves.scores)) for seed in range(options.seeds)]
            for name, rule in rules.items()
        }
        within = {name: np.array([o.best_after(budget) for o in outcomes]) for name, outcomes in long.items()}
        first = next(iter(within.values()))
        rows = []
        for name, outcomes in searches.items():
            pruned = sum(o.late_pruned for o in outcomes) / max(1, sum(o.late for o in outcomes))
            row = [name, f"{np.mean([o.epochs for o in outcomes]):.0f}", f"{np.mean([o.best for o in outcomes]):.4f}"]
            rows.append([*row, _difference(within[name], first), f"{pruned:.0%}"])
        header = ["rule", "epochs", "best", f"best within {budget} epochs", "late ones pruned frozen"]
        print(timing.table(header, rows))


def _difference(scores: np.ndarray, reference: np.ndarray) -> str:
    """Return a mean, and its paired difference to the reference with a 95 % bootstrap interval."""
    gains = scores - reference
    if not gains.any():
        return f"{scores.mean():.4f}"
    interval = stats.bootstrap((gains,), np.mean, random_state=0).confidence_interval
    return f"{scores.mean():.4f}: {gains.mean():+.4f} ({interval.low:+.4f} to {interval.high:+.4f})"


@dataclass(frozen=True)
class Curves:
    """Recorded learning curves of a task.

    Attributes:
        space: Space with its budget, metric and mode.
        scores: (configurations, epochs).
        first_unfreeze: For each configuration, the epochs before its first stage is unfrozen; None for never.
    """

    space: Space
    scores: np.ndarray
    first_unfreeze: list[int | None]

    def unfreezes_late(self, index: int) -> bool:
        """Return whether a configuration unfreezes after the first rung."""
        return (self.first_unfreeze[index] or 0) > self.space.grace_epochs

    @classmethod
    def read(cls, file: Path) -> "Curves":
        """Read a file that `benchmarks.curves` wrote."""
        recorded = Recorded.of(file)
        return cls(recorded.space, recorded.scores, [recorded.first_unfreeze(config) for config in recorded.configs])


@dataclass(frozen=True)
class Outcome:
    """Outcome of a search; scores are turned so that greater is better.

    Attributes:
        best: Best score.
        epochs: Epochs trained.
        improvements: Each new best score, with the number of epochs after which it was seen.
        late: Trials that were to unfreeze after the first rung.
        late_pruned: Those of them that were pruned before they unfroze.
    """

    best: float
    epochs: int
    improvements: list[tuple[int, float]]
    late: int
    late_pruned: int

    def best_after(self, epochs: int) -> float:
        """Return the best score that was seen within so many epochs."""
        return max(score for when, score in self.improvements if when <= epochs)


def search(curves: Curves, scheduler: PruningScheduler, seed: int, trials: int) -> Outcome:
    """Simulate a search through some of the configurations, in an order drawn by the seed."""
    waiting = np.random.default_rng(seed).permutation(len(curves.scores))[:trials].tolist()
    running: dict[int, int] = {}
    improvements: list[tuple[int, float]] = []
    epochs = late = late_pruned = 0
    while waiting or running:
        while waiting and len(running) < WORKERS:
            running[waiting.pop(0)] = 0
        for index in list(running):
            running[index] += 1
            epochs += 1
            epoch, first = running[index], curves.first_unfreeze[index]
            score = float(curves.scores[index][epoch - 1])
            good = curves.space.as_maximised(score)
            if not improvements or good > improvements[-1][1]:
                improvements.append((epochs, good))
            if epoch >= curves.space.max_epochs or scheduler.prunes(str(index), epoch, score, first):
                del running[index]
                if curves.unfreezes_late(index):
                    late, late_pruned = late + 1, late_pruned + (epoch <= (first or 0))
    return Outcome(improvements[-1][1], epochs, improvements, late, late_pruned)


if __name__ == "__main__":
    main()
