"""ASHA: which trials are cut as the worse ones (Li et al., "A System for Massively Parallel Hyperparameter Tuning",
2020; the variant that stops and never pauses, as Ray Tune's AsyncHyperBandScheduler has it).

It differs in one thing. A trial that thaws after the first rung would be judged on its frozen phase alone; so it is
judged first when it has trained a few epochs after its thaw. What that gains, and costs, is measured on recorded
learning curves: benchmarks/thaw.py.
"""

import numpy as np

from platform.space import Space

REDUCTION = 3  # the best third goes on at each rung
AFTER_THAW = 2  # epochs that a trial trains after its thaw before it is judged


class Asha:
    """The rungs of a study, and what each trial scored there.

    Attributes:
        rungs: By a rung's epoch, the score of each trial there; greater is better.
    """

    def __init__(self, space: Space) -> None:
        self.space = space
        self.rungs: dict[int, dict[str, float]] = {}
        rung = space.grace_epochs
        while rung < space.max_epochs:
            self.rungs[rung] = {}
            rung *= REDUCTION

    def cuts(self, trial_id: str, epoch: int, score: float, thaw: int | None = None) -> bool:
        """Whether a trial is cut after an epoch: at a rung, where its score is below those of the best third so far.

        Args:
            trial_id: The trial's.
            epoch: The one that it has finished, from 1.
            score: Its metric in it.
            thaw: How many epochs it trains before its first thaw, None if it has none.
        """
        mine, rung = self.space.goodness(score), self.rungs.get(epoch)
        ripe = max(self.space.grace_epochs, thaw + AFTER_THAW if thaw else 0)
        if epoch < ripe:
            return False
        if rung is None:
            if epoch != ripe or not self.rungs:
                return False
            # Against the rung below; but it is no measure for others, who had fewer epochs there.
            others = list(self.rungs[max(below for below in self.rungs if below < epoch)].values())
        else:
            others = list(rung.values())
            rung[trial_id] = mine
        return bool(others) and bool(mine < np.percentile(others, 100 * (1 - 1 / REDUCTION)))
