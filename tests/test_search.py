import warnings
from types import SimpleNamespace

import pytest
from optuna.trial import TrialState
from ray import tune

from platform import search
from platform.search import OptunaSearcher, Scheduler
from platform.space import Space


def space(**changes) -> Space:
    return Space(
        **{
            "params": {"lr": tune.loguniform(1e-4, 1e-1), "depth": tune.randint(0, 4), "weights": "starter"},
            "metric": "val/map",
            "mode": "max",
            "max_epochs": 4,
            "grace_epochs": 1,
            "trials": 6,
            "start": {"lr": 1e-2, "depth": 3},
            "baselines": {"scratch": {"weights": "none", "depth": 0}},
            **changes,
        }
    )


@pytest.fixture(autouse=True)
def _quiet():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def run(searcher: OptunaSearcher, trial: str, scores: list[float], error: bool = False) -> None:
    for epoch, score in enumerate(scores, start=1):
        result = {"val/map": score, "training_iteration": epoch}
        if epoch < len(scores) or error:
            searcher.on_trial_result(trial, result)
    searcher.on_trial_complete(trial, None if error else result, error=error)


def test_the_start_comes_first_then_the_baselines():
    searcher = OptunaSearcher(space(), seed=0)
    assert searcher.suggest("a") == {"lr": 1e-2, "depth": 3}
    baseline = searcher.suggest("b")
    assert baseline == {"lr": 1e-2, "depth": 0, "weights": "none", "context": {"baseline": "scratch"}}
    assert set(searcher.suggest("c")) == {"lr", "depth"}


def test_optuna_is_told_how_each_trial_ended():
    searcher = OptunaSearcher(space(), seed=0)
    for trial in "abcd":
        searcher.suggest(trial)
    run(searcher, "a", [0.1, 0.4, 0.3, 0.2])
    run(searcher, "b", [0.9] * 4)  # the baseline
    run(searcher, "c", [0.1, 0.2])
    run(searcher, "d", [0.3], error=True)
    told = searcher.study.trials
    assert [trial.state for trial in told] == [TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL]
    assert told[0].value == 0.4  # the best epoch
    assert told[0].intermediate_values == {1: 0.1, 2: 0.4, 3: 0.3, 4: 0.2}
    assert told[1].intermediate_values == {1: 0.1, 2: 0.2}


def test_a_saved_searcher_goes_on_as_if_never_stopped(tmp_path):
    one, other = OptunaSearcher(space(), seed=3), OptunaSearcher(space(), seed=99)
    for trial in "abc":
        one.suggest(trial)
        run(one, trial, [0.1, 0.2, 0.3, 0.4])
    one.save(str(tmp_path / "searcher"))
    other.restore(str(tmp_path / "searcher"))
    assert [one.suggest(str(i)) for i in range(5)] == [other.suggest(str(i)) for i in range(5)]


def test_a_space_with_nothing_to_search_still_runs():
    searcher = OptunaSearcher(space(params={"weights": "starter"}, start={}, baselines={}), seed=0)
    assert searcher.suggest("a") == {}


class FakeTrial:
    def __init__(self, name: str, baseline: str = "") -> None:
        self.trial_id, self.config, self.last_result = (
            name,
            {"context": {"baseline": baseline}},
            {"training_iteration": 1},
        )


def test_asha_stops_the_worse_but_never_a_baseline():
    scheduler = Scheduler(space())
    good, bad, baseline = FakeTrial("good"), FakeTrial("bad"), FakeTrial("base", "scratch")
    for trial in (good, bad, baseline):
        scheduler.on_trial_add(None, trial)
    decide = {
        name: scheduler.on_trial_result(None, trial, {"training_iteration": 1, "val/map": score})
        for name, trial, score in (("good", good, 0.9), ("bad", bad, 0.1), ("baseline", baseline, 0.0))
    }
    status = {trial.trial_id: scheduler.status(trial, failed=False) for trial in (good, bad)}
    assert status == {"good": "interrupted", "bad": "pruned"}
    assert scheduler.status(bad, failed=True) == "failed"
    bad.last_result = {"training_iteration": 4}
    assert scheduler.status(bad, failed=False) == "finished"
    assert decide == {"good": "CONTINUE", "bad": "STOP", "baseline": "CONTINUE"}


def test_a_trial_that_says_it_is_done_is_complete_before_its_last_epoch():
    searcher = OptunaSearcher(space(), seed=0)
    searcher.suggest("a")
    searcher.on_trial_complete("a", {"val/map": 0.3, "training_iteration": 1, "last": True})
    [told] = searcher.study.trials
    assert (told.state, told.value) == (TrialState.COMPLETE, 0.3)
    scheduler = Scheduler(space())
    for last, status in ((True, "finished"), (False, "interrupted")):
        trial = SimpleNamespace(trial_id="a", last_result={"training_iteration": 1, "last": last})
        assert scheduler.status(trial, failed=False) == status


def test_a_long_study_goes_on_with_the_best_and_the_newest(monkeypatch, tmp_path):
    monkeypatch.setattr(search, "REMEMBERED", 20)
    monkeypatch.setattr(search, "OF_THEM_BEST", 5)
    searcher = OptunaSearcher(space(baselines={}), seed=0)
    searcher.suggest("long")
    searcher.on_trial_result("long", {"val/map": 0.3, "training_iteration": 1})
    for number in range(100):
        searcher.suggest(f"t{number}")
        run(searcher, f"t{number}", [0.1] * 3 + [0.99 if number == 7 else 0.2 + number / 1000])
        assert len(searcher.study.trials) <= 41
    searcher.save(str(tmp_path / "state"))
    searcher.restore(str(tmp_path / "state"))
    searcher.on_trial_complete("long", {"val/map": 0.4, "training_iteration": 2})
    assert searcher.study.best_value == 0.99
    [long] = [trial for trial in searcher.study.trials if trial.state == TrialState.PRUNED]
    assert long.params == {"lr": 1e-2, "depth": 3}
    assert long.intermediate_values == {1: 0.3, 2: 0.4}
    newest = [trial.value for trial in searcher.study.trials if trial.value is not None]
    assert {0.295, 0.296, 0.297, 0.298, 0.299} < {round(value, 3) for value in newest}
