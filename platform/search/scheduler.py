"""Pruning by Ray Tune's AsyncHyperBandScheduler (ASHA; Li et al., "A System for Massively Parallel Hyperparameter
Tuning", 2020), outside of Ray: a process that resumes a study rebuilds its state from the reports in the event log.
"""

from types import SimpleNamespace
from typing import Any, cast

from ray.tune.schedulers import AsyncHyperBandScheduler, TrialScheduler

from platform.space import Space

# The top third goes on at each rung. `python -m benchmarks.pruning` compares 2, 3 and 4 on recorded learning curves: 4
# trains up to 5 % fewer epochs and is worse on one table for equally many, 2 trains 5 to 8 % more and is not better.
REDUCTION_FACTOR = 3
EPOCH = "epoch"
SETTLING_EPOCHS = 2  # that a trial trains after it first unfreezes, before it is compared with others


class PruningScheduler:
    """Ray's scheduler for the searched trials of one study.

    If the space says `wait_for_unfreezing`, a trial that will unfreeze is not shown to the scheduler until it has
    trained a few epochs after that.
    """

    def __init__(self, space: Space, reduction_factor: float = REDUCTION_FACTOR) -> None:
        self.space = space
        self._asha = AsyncHyperBandScheduler(
            time_attr=EPOCH,
            metric=space.metric,
            mode=space.mode,
            max_t=space.max_epochs,
            grace_period=space.grace_epochs,
            reduction_factor=reduction_factor,
        )
        self._trials: dict[str, Any] = {}

    def prunes(self, trial_id: str, epoch: int, score: float, first_unfreeze: int | None = None) -> bool:
        """Return whether a trial is to be pruned after an epoch, counted from 1, with a score of the space's metric.

        It trains `first_unfreeze` epochs before its first unfreezing; None if it never unfreezes.
        """
        if self.space.wait_for_unfreezing and first_unfreeze and epoch < first_unfreeze + SETTLING_EPOCHS:
            return False
        if trial_id not in self._trials:  # Ray's scheduler reads nothing of a trial but its id
            self._trials[trial_id] = SimpleNamespace(trial_id=trial_id)
            self._asha.on_trial_add(cast(Any, None), self._trials[trial_id])
        result = {EPOCH: epoch, self.space.metric: score}
        decision = self._asha.on_trial_result(cast(Any, None), self._trials[trial_id], result)
        return epoch < self.space.max_epochs and decision == TrialScheduler.STOP
