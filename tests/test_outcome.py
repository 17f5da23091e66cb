from ray import tune

from platform.outcome import best_of
from platform.space import Space


def space(mode: str) -> Space:
    params = {"lr": tune.loguniform(1e-4, 1e-1)}
    return Space(params=params, metric="score", mode=mode, max_epochs=4, grace_epochs=1, trials=5, start={"lr": 1e-2})


def test_the_best_is_of_the_mode_and_never_failed_and_the_first_of_equals():
    scores = [("failed", 0.0), ("pruned", 0.2), ("finished", 0.2), ("finished", 0.7), ("failed", 0.9), ("pruned", 0.7)]
    trials = [{"name": n, "status": s, "metrics": {"score": v}} for n, (s, v) in enumerate(scores)]
    trials.append({"name": len(trials), "status": "interrupted", "metrics": {}})
    assert best_of(trials, space("max"))["name"] == 3
    assert best_of(trials, space("min"))["name"] == 1
    assert best_of(trials[:1], space("max")) is None
