"""ASHA: which trials are cut as the worse ones (Li et al., "A System for Massively Parallel Hyperparameter Tuning",
2020; the variant that stops and never pauses, as Ray Tune's AsyncHyperBandScheduler has it).

It differs in two things. After the first rung, where the best quarter goes on, the rungs lie closer and the better half
goes on at each: a trial that falls behind does not train on for epochs. And a trial that has not unfrozen yet would be
judged on its frozen phase alone; so it goes on from the first rung if it is in the better half, and is judged again
when it has trained a few epochs after its unfreeze. What that gains, and costs, is measured on recorded learning curves:
benchmarks/search_quality.py and benchmarks/unfreezing.py.
"""

import numpy as np

from platform.space import Space

FIRST, LATER = 1 / 4, 1 / 2  # the share that goes on at the first rung, and at the later ones
SPACING = 1.4  # how many times the epochs of the rung before a rung has
AFTER_THAW = 2  # epochs that a trial trains after its unfreeze before it is judged as the others are


class Asha:
    """The rungs of a study, and what each trial scored there.

    Attributes:
        rungs: By a rung's epoch, the score of each trial there; greater is better.
    """

    def __init__(self, space: Space) -> None:
        self.space = space
        self.rungs: dict[int, dict[str, float]] = {}
        rung = float(space.grace_epochs)
        while round(rung) < space.max_epochs:
            self.rungs[round(rung)] = {}
            rung *= SPACING

    def cuts(self, trial_id: str, epoch: int, score: float, first_unfreeze: int | None = None) -> bool:
        """Whether a trial is cut after an epoch: at a rung, where its score is below those of the share that goes on.

        Args:
            trial_id: The trial's.
            epoch: The one that it has finished, from 1.
            score: Its metric in it.
            unfreeze: How many epochs it trains before its first unfreeze, None if it has none.
        """
        is_first, rung = epoch == self.space.grace_epochs, self.rungs.get(epoch)
        is_ripe = not first_unfreeze or epoch >= first_unfreeze + AFTER_THAW
        if rung is None or not (is_ripe or is_first):
            return False
        mine, others = self.space.goodness(score), list(rung.values())
        rung[trial_id] = mine
        share = FIRST if is_first and is_ripe else LATER
        return bool(others) and bool(mine < np.percentile(others, 100 * (1 - share)))
