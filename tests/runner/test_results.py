"""Best trial, Pareto front and table of scores."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st
from ray import tune

from platform.runner.results import _score_table, best_of, pareto_front
from platform.space import Space


def space(mode: str) -> Space:
    params = {"lr": tune.loguniform(1e-4, 1e-1)}
    return Space(params=params, metric="score", mode=mode, max_epochs=4, grace_epochs=1, trials=5, start={"lr": 1e-2})


def test_the_best_is_of_the_mode_and_never_failed_and_the_first_of_equals():
    scores = [("failed", 0.0), ("pruned", 0.2), ("finished", 0.2), ("finished", 0.7), ("failed", 0.9), ("pruned", 0.7)]
    trials = [
        {"name": n, "baseline": "", "config": {}, "status": s, "metrics": {"score": v}}
        for n, (s, v) in enumerate(scores)
    ]
    trials.append({"name": len(trials), "baseline": "", "config": {}, "status": "interrupted", "metrics": {}})
    assert best_of(trials, space("max"))["name"] == 3
    assert best_of(trials, space("min"))["name"] == 1
    assert best_of(trials[:1], space("max")) is None


def test_a_baseline_wins_only_where_the_study_searches():
    def trial(lr: float, score: float, baseline: str = "plain") -> dict:
        return {"baseline": baseline, "status": "finished", "config": {"lr": lr}, "metrics": {"score": score}}

    assert best_of([trial(1e-2, 0.5, ""), trial(1e-3, 0.6), trial(1.0, 0.7)], space("max"))["config"]["lr"] == 1e-3
    fixed = space("max").override(["lr=1e-2"])
    assert best_of([trial(1e-2, 0.5, ""), trial(1e-3, 0.6), trial(1.0, 0.7)], fixed)["config"]["lr"] == 1e-2


def scored(points: list[tuple[float, ...]]) -> list[dict]:
    made = [{"trial_id": n, "status": "pruned", "metrics": {"a": p[0], "b": p[1]}} for n, p in enumerate(points)]
    return [{"baseline": "", "config": {}, **trial} for trial in made]


def test_the_front_holds_the_trials_that_none_dominates():
    two = replace(space("max"), objectives=("a", "b"))
    trials = scored([(1, 0), (0, 1), (0.5, 0.5), (0.4, 0.5), (1, 0)])
    trials += [{"trial_id": 9, "baseline": "", "config": {}, "status": "failed", "metrics": {"a": 9.0, "b": 9.0}}]
    trials += [{"trial_id": 8, "baseline": "", "config": {}, "status": "pruned", "metrics": {"a": 9.0}}]
    assert pareto_front(trials, two) == [0, 1, 2, 4]


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=1))
def test_a_trial_is_outside_the_front_exactly_if_one_in_it_dominates(points):
    front = pareto_front(scored(points), replace(space("max"), objectives=("a", "b")))
    assert front
    for number, (a, b) in enumerate(points):
        beaten = any(points[f][0] >= a and points[f][1] >= b and points[f] != (a, b) for f in front)
        assert beaten == (number not in front)


def test_the_table_has_a_row_for_each_and_no_single_classes():
    compared = {"best": {"test/f1": 0.5, "test/f1_class/bees": 0.1}, "zero-shot": {"test/accuracy": 0.9}}
    assert _score_table(compared) == "|  | f1 |\n| --- | --- |\n| best | 0.500 |\n| zero-shot |  |"
