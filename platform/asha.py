"""ASHA: which trials are cut as the worse ones (Li et al., "A System for Massively Parallel Hyperparameter Tuning",
2020; the variant that stops and never pauses, as Ray Tune's AsyncHyperBandScheduler has it).
"""

import numpy as np

from platform.space import Space

REDUCTION = 3  # the best third goes on at each rung


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

    def cuts(self, trial_id: str, epoch: int, score: float) -> bool:
        """Whether a trial is cut after an epoch: at a rung, where its score is below those of the best third so far.

        Args:
            trial_id: The trial's.
            epoch: The one that it has finished, from 1.
            score: Its metric in it.
        """
        if (rung := self.rungs.get(epoch)) is None:
            return False
        mine, others = self.space.goodness(score), list(rung.values())
        rung[trial_id] = mine
        return bool(others) and bool(mine < np.percentile(others, 100 * (1 - 1 / REDUCTION)))
