"""Pruning: the decisions of Ray's scheduler, and the option to wait for unfreezing."""

from types import SimpleNamespace

import numpy as np
import pytest
from ray import tune
from ray.tune.schedulers import AsyncHyperBandScheduler

from platform.search.scheduler import REDUCTION_FACTOR, PruningScheduler
from platform.space import Space


def space(grace_epochs: int = 1, **changes) -> Space:
    params = {"lr": tune.loguniform(1e-4, 1e-1)}
    return Space(params, "val/map", "max", 12, grace_epochs, trials=9, start={"lr": 1e-2}, **changes)


def epochs_of(scheduler: PruningScheduler, trial_id: str, score: float, first_unfreeze: int | None = None) -> int:
    """The epochs that a trial with a constant score trains."""
    for epoch in range(1, scheduler.space.max_epochs + 1):
        if scheduler.prunes(trial_id, epoch, score, first_unfreeze):
            return epoch
    return scheduler.space.max_epochs


def test_trials_are_pruned_as_by_rays_scheduler():
    ours = PruningScheduler(space(grace_epochs=3))
    rays = AsyncHyperBandScheduler("epoch", "val/map", "max", 12, 3, REDUCTION_FACTOR)
    scores = np.random.default_rng(0).random((40, 12))
    for number, curve in enumerate(scores):
        trial = SimpleNamespace(trial_id=str(number))
        rays.on_trial_add(None, trial)
        for epoch, score in enumerate(curve, start=1):
            stops = rays.on_trial_result(None, trial, {"epoch": epoch, "val/map": score}) == "STOP"
            assert ours.prunes(str(number), epoch, score) == (stops and epoch < 12)
            if stops:
                break


@pytest.mark.parametrize(("waits", "first_unfreeze", "epochs"), [
    (False, None, 1), (False, 5, 1), (True, None, 1), (True, 0, 1), (True, 5, 7), (True, 9, 11), (True, 10, 12),
])  # fmt: skip
def test_a_space_can_ask_to_wait_for_unfreezing(waits, first_unfreeze, epochs):
    scheduler = PruningScheduler(space(wait_for_unfreezing=waits))
    for number in range(4):
        epochs_of(scheduler, f"good {number}", 0.9)
    assert epochs_of(scheduler, "bad", 0.1, first_unfreeze) == epochs
