"""Ranking of trials."""

from math import nan

import pytest
from ray import tune

from platform.space import Space
from platform.study.trials import Trial, best_of, may_win, rank


def space(mode: str) -> Space:
    params = {"lr": tune.loguniform(1e-4, 1e-1)}
    return Space(params, "score", mode, max_epochs=4, grace_epochs=1, trials=5, start={"lr": 1e-2})


def trial(number: int, *scores: float, status: str = "finished", lr: float = 1e-2, **changes) -> Trial:
    return Trial(str(number), {"lr": lr}, status=status, metrics=[{"score": score} for score in scores], **changes)


def test_the_best_is_of_the_mode_and_never_failed_and_the_first_of_equals():
    scores = [("failed", 0.0), ("pruned", 0.2), ("finished", 0.2), ("finished", 0.7), ("failed", 0.9), ("pruned", 0.7)]
    trials = [trial(number, score, status=status) for number, (status, score) in enumerate(scores)]
    trials.append(trial(len(trials), status="interrupted"))
    assert best_of(trials, space("max")).id == "3"
    assert best_of(trials, space("min")).id == "1"
    assert best_of(trials[:1], space("max")) is None


@pytest.mark.parametrize(("mode", "order"), [("max", ["2", "0", "1"]), ("min", ["0", "1", "2"])])
def test_a_trial_without_a_score_is_in_no_ranking(mode, order):
    """A missing score counts neither as 0, the best error, nor as anything else; of equal ones the first is first."""
    trials = [trial(0, 0.3), trial(1, nan, 0.3), trial(2, 0.5), trial(3), trial(4, nan)]
    assert [each.id for each in rank(trials, space(mode))] == order
    assert [may_win(each, space(mode)) for each in trials] == [True, True, True, False, False]


def test_a_confirmation_never_wins_and_a_baseline_only_with_a_config_of_the_space():
    trials = [trial(0, 0.5), trial(1, 0.6, lr=1e-3, baseline="plain"), trial(2, 0.7, lr=1.0, baseline="plain")]
    trials.append(trial(3, 0.9, confirms="trial 0"))
    assert best_of(trials, space("max")).id == "1"
    assert best_of(trials, space("max").override(["lr=1e-2"])).id == "0"
