"""Pareto front and table of scores."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st
from ray import tune

from platform.runner.results import _score_table, pareto_front
from platform.space import Space
from platform.study.trials import Trial


def space(mode: str) -> Space:
    params = {"lr": tune.loguniform(1e-4, 1e-1)}
    return Space(params=params, metric="score", mode=mode, max_epochs=4, grace_epochs=1, trials=5, start={"lr": 1e-2})


def trial(number: int, status: str = "pruned", **metrics: float) -> Trial:
    return Trial(str(number), {}, status=status, metrics=[{"score": 1.0, **metrics}])


def scored(points: list[tuple[float, ...]]) -> list[Trial]:
    return [trial(number, a=point[0], b=point[1]) for number, point in enumerate(points)]


def test_the_front_holds_the_trials_that_none_dominates():
    two = replace(space("max"), objectives=("a", "b"))
    trials = scored([(1, 0), (0, 1), (0.5, 0.5), (0.4, 0.5), (1, 0)])
    trials += [trial(9, "failed", a=9.0, b=9.0), trial(8, a=9.0)]
    assert pareto_front(trials, two) == ["0", "1", "2", "4"]


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=1))
def test_a_trial_is_outside_the_front_exactly_if_one_in_it_dominates(points):
    front = [int(trial_id) for trial_id in pareto_front(scored(points), replace(space("max"), objectives=("a", "b")))]
    assert front
    for number, (a, b) in enumerate(points):
        beaten = any(points[f][0] >= a and points[f][1] >= b and points[f] != (a, b) for f in front)
        assert beaten == (number not in front)


def test_the_table_has_a_row_for_each_and_no_single_classes():
    compared = {"best": {"test/f1": 0.5, "test/f1_class/bees": 0.1}, "zero-shot": {"test/accuracy": 0.9}}
    assert _score_table(compared) == "|  | f1 |\n| --- | --- |\n| best | 0.500 |\n| zero-shot |  |"
