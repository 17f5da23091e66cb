"""Decisions of a study, which are the same after it was killed at any moment."""

import errno
import warnings

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from optuna.trial import TrialState
from ray import tune

from platform.search import sampler
from platform.search.controller import MAX_ATTEMPTS, Cause, SearchController
from platform.space import Space
from platform.study.event_log import EventLog
from platform.study.trials import StudyListener, TrialTable, may_win, rank

RAISED = "Traceback (most recent call last):\n  File …\n{}"


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


@pytest.fixture
def begin(tmp_path):
    """Return a function that begins a search or continues it."""

    def search(seed: int = 0, gpus: float = 0.0, **changes) -> SearchController:
        trial_table = TrialTable(EventLog(tmp_path / "event log"))
        trial_table.record("open")
        return SearchController(space(**changes), seed, trial_table, gpus)

    return search


def play(search: SearchController, scores: list[float], last: bool = False) -> str:
    """Run the next trial with these scores until it has to stop, and return its status."""
    trial = search.next_trial()
    search.on_trial_start(trial)
    for step, score in enumerate(scores, start=1):
        if not search.on_report(trial, step, {"val/map": score}, {}, last and step == len(scores)):
            break
    search.on_trial_complete(trial)
    return trial.status


def optuna_trials(search: SearchController) -> list:
    return search.sampler.study.trials


def test_the_start_comes_first_then_the_baselines(begin):
    search = begin()
    first, baseline, third = search.next_trial(), search.next_trial(), search.next_trial()
    assert first.config == {"lr": 1e-2, "depth": 3, "weights": "starter"}
    assert (baseline.baseline, baseline.config) == ("scratch", {"lr": 1e-2, "depth": 0, "weights": "none"})
    assert (third.baseline, set(third.config)) == ("", {"lr", "depth", "weights"})
    assert [trial.id for trial in (first, baseline, third)] == ["001", "002", "003"]


def test_optuna_knows_how_each_trial_ended(begin):
    search = begin()
    assert play(search, [0.5, 0.6, 0.4, 0.3]) == "finished"
    assert play(search, [0.9] * 4) == "finished"  # the baseline
    assert play(search, [0.1]) == "pruned"
    trial = search.next_trial()
    search.on_trial_start(trial)
    search.on_report(trial, 1, {"val/map": 0.55}, {})
    search.on_trial_error(trial, RAISED.format("NonFiniteError: the loss must be finite"), Cause.PERMANENT)
    assert [trial.state for trial in optuna_trials(search)] == [TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL]
    assert optuna_trials(search)[0].value == 0.6  # the best epoch
    assert optuna_trials(search)[0].intermediate_values == {1: 0.5, 2: 0.6, 3: 0.4, 4: 0.3}
    assert optuna_trials(search)[1].intermediate_values == {1: 0.1}


def test_the_worse_are_pruned_but_never_a_baseline(begin):
    search = begin()
    assert play(search, [0.9] * 4) == "finished"
    assert play(search, [0.0] * 4) == "finished"
    assert play(search, [0.1] * 4) == "pruned"
    assert search.pruned == {"003"}


def test_a_trial_without_a_score_is_the_worst_in_either_mode(begin):
    search = begin(mode="min", baselines={})
    assert play(search, [float("nan")] * 4) == "finished"
    assert play(search, [0.5] * 4) == "finished"
    first, second = search.trial_table.trials.values()
    assert rank([first, second], search.space) == [second]
    assert (may_win(first, search.space), may_win(second, search.space)) == (False, True)
    assert [trial.state for trial in optuna_trials(search)] == [TrialState.FAIL, TrialState.COMPLETE]


def test_a_trial_that_reports_its_end_is_complete_before_its_last_epoch(begin):
    search = begin()
    assert play(search, [0.3], last=True) == "finished"
    [only] = optuna_trials(search)
    assert (only.state, only.value) == (TrialState.COMPLETE, 0.3)


def test_an_epoch_reported_twice_counts_once(begin):
    search = begin()
    trial = search.next_trial()
    search.on_trial_start(trial)
    for step, score in [(1, 0.1), (2, 0.2), (1, 0.9), (2, 0.9), (3, 0.3)]:
        search.on_report(trial, step, {"val/map": score}, {})
    assert trial.scores("val/map") == [0.1, 0.2, 0.3]


def test_a_failed_trial_is_retried_and_given_up_after_failing_in_a_row(begin):
    search = begin(trials=1, baselines={})
    trial = search.next_trial()
    for number in range(MAX_ATTEMPTS + 1):
        search.on_trial_start(trial)
        if number == 1:
            search.on_report(trial, 1, {"val/map": 0.5}, {})  # it got further: the count begins anew
        search.on_trial_error(trial, RAISED.format(f"RuntimeError: attempt {number}"))
        assert (search.next_trial() is trial) == (number < MAX_ATTEMPTS)
    assert (trial.status, trial.attempts, trial.epochs) == ("failed", MAX_ATTEMPTS + 1, 1)
    assert trial.error.endswith("attempt 3")
    assert optuna_trials(search)[0].state == TrialState.FAIL
    assert search.is_over


def test_a_permanent_error_is_not_retried(begin):
    search = begin()
    trial = search.next_trial()
    search.on_trial_start(trial)
    search.on_trial_error(trial, RAISED.format("NonFiniteError: it is nan"), Cause.PERMANENT)
    assert trial.status == "failed"
    assert search.next_trial() is not trial


def test_a_gpu_out_of_memory_is_tried_with_a_larger_share(begin):
    search = begin(gpus=0.3)
    trial = search.next_trial()
    error = RAISED.format("torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 20.00 MiB.")
    for share in (0.6, 1.0):
        search.on_trial_start(trial)
        search.on_trial_error(trial, error, Cause.OUT_OF_MEMORY)
        assert (search.next_trial(), trial.gpus) == (trial, share)
    search.on_trial_start(trial)
    search.on_trial_error(trial, error, Cause.OUT_OF_MEMORY)
    assert trial.status == "failed", "there is no more than a whole one"


def test_a_full_disk_stops_the_study_and_fails_no_trial(begin):
    search = begin()
    trial = search.next_trial()
    search.on_trial_start(trial)
    search.on_trial_error(trial, RAISED.format("DiskFullError: [Errno 28] no room for the checkpoint"), Cause.STORAGE)
    assert "no room" in search.stop_reason
    assert search.next_trial() is None
    assert not trial.is_done
    again = begin()
    assert not again.stop_reason
    assert again.next_trial().id == trial.id


def test_an_event_log_that_cannot_be_written_stops_the_study(begin, monkeypatch):
    search = begin()
    trial = search.next_trial()
    search.on_trial_start(trial)

    def full(kind, data):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(search.trial_table.event_log, "append", full)
    assert not search.on_report(trial, 1, {"val/map": 0.5}, {}), "what is not recorded has not happened"
    search.on_trial_complete(trial)
    assert (search.stop_reason, search.next_trial()) == (
        "the event log cannot be written: No space left on device",
        None,
    )
    assert (trial.epochs, trial.is_done) == (0, False)


def test_a_trial_that_ends_early_without_an_error_has_failed(begin):
    search = begin()
    trial = search.next_trial()
    search.on_trial_start(trial)
    search.on_trial_complete(trial)
    assert (trial.status, "without an error" in trial.error) == ("failed", True)


def test_a_space_with_nothing_to_search_still_runs(begin):
    search = begin(params={"weights": "starter"}, start={}, baselines={})
    assert search.next_trial().config == {"weights": "starter"}


def test_an_interrupted_study_continues_with_what_was_running(begin):
    search = begin()
    play(search, [0.5] * 4)
    trial = search.next_trial()
    search.on_trial_start(trial)
    search.on_report(trial, 1, {"val/map": 0.2}, {})
    search.interrupt_trials()
    assert trial.status == "interrupted"
    again = begin()
    trial = again.next_trial()
    assert (trial.id, trial.epochs, trial.status) == ("002", 1, "waiting")
    assert again.next_trial().id == "003"


def curve(config: dict, epoch: int) -> float:
    return epoch / 10 - abs(config["lr"] - 0.02) * 10 - 0.05 * config["depth"]


class KilledError(Exception):
    pass


def simulate(folder, kills: set[int], **changes) -> list[tuple]:
    """Run a whole study, one trial at a time. It is killed after the events of these numbers, and resumed."""
    for _ in range(len(kills) + 1):
        trial_table = TrialTable(EventLog(folder / "event log"))

        class Killer(StudyListener):
            def on_event(self, event, trial, trial_table=trial_table):
                if len(trial_table.events) in kills:
                    kills.remove(len(trial_table.events))
                    raise KilledError

        trial_table.listeners.append(Killer())
        try:
            if not trial_table.confirm:
                trial_table.record("confirm", asked="2x2")
            trial_table.record("open")
            search = SearchController(space(trials=12, **changes), 0, trial_table)
            while trial := search.next_trial():
                search.on_trial_start(trial)
                goes_on, fails = True, trial.id in ("005", "010")
                while goes_on:
                    epoch = trial.epochs + 1
                    if fails and epoch == 2:
                        search.on_trial_error(trial, RAISED.format("NonFiniteError: nan"), Cause.PERMANENT)
                        break
                    goes_on = search.on_report(trial, epoch, {"val/map": curve(trial.config, epoch)}, {})
                if not trial.is_done and not goes_on:
                    search.on_trial_complete(trial)
            assert search.is_over
        except KilledError:
            continue
        states = [(t.state, t.intermediate_values, t.value, t.params) for t in optuna_trials(search)]
        trials = [(t.id, t.config, t.status, t.metrics, t.seed) for t in trial_table.trials.values()]
        return [trials, sorted(states, key=repr), search.pruned]
    raise AssertionError("it was killed more often than asked")


@settings(max_examples=25, deadline=None)
@given(kills=st.sets(st.integers(1, 60), max_size=6))
def test_a_study_killed_anywhere_ends_as_if_it_had_not_been(tmp_path_factory, kills):
    """The configs, pruned trials and scores are the same, and Optuna knows the same."""
    whole = simulate(tmp_path_factory.mktemp("whole"), set())
    assert simulate(tmp_path_factory.mktemp("killed"), set(kills)) == whole
    assert {status for _, _, status, _, _ in whole[0]} == {"finished", "pruned", "failed"}
    assert [seed for *_, seed in whole[0]] == [None] * 12 + [1, 1, 2, 2]
    assert len(whole[1]) == 11, "Optuna learns of neither the baseline nor the confirmations"


def test_the_best_are_trained_again_once_all_is_searched_and_the_baselines_when_there_is_room(begin):
    params = {"lr": tune.loguniform(1e-4, 1e-1), "freeze_depth": tune.randint(0, 4), "weights": "starter"}
    changes = {"params": params, "start": {"lr": 1e-2, "freeze_depth": 2}, "depth": 3, "trials": 2, "baselines": {}}
    begin().trial_table.record("confirm", asked="1x2")
    search = begin(**changes)
    first, second = search.next_trial(), search.next_trial()
    for trial in (first, second):
        search.on_trial_start(trial)
    waiting = [search.next_trial() for _ in range(4)]
    assert [trial.id for trial in waiting] == [
        "only-the-heads-seed-1", "everything-trained-seed-1", "only-the-heads-seed-2", "everything-trained-seed-2",
    ]  # fmt: skip
    assert [trial.config["freeze_depth"] for trial in waiting] == [3, 0, 3, 0]
    assert search.next_trial() is None, "which trial is the best is not known yet"
    for trial, score in ((first, 0.5), (second, 0.6)):
        for step in range(1, 5):
            search.on_report(trial, step, {"val/map": score}, {})
        search.on_trial_complete(trial)
    assert not search.is_over
    again = [search.next_trial(), search.next_trial()]
    assert [(trial.confirms, trial.seed, trial.config) for trial in again] == [
        ("trial 002", 1, second.config), ("trial 002", 2, second.config),
    ]  # fmt: skip
    for trial in [*waiting, *again]:
        search.on_trial_start(trial)
        while search.on_report(trial, trial.epochs + 1, {"val/map": 0.0}, {}):
            pass
        search.on_trial_complete(trial)
        assert (trial.status, trial.epochs) == ("finished", 4), "a confirmation is never pruned"
    assert (search.next_trial(), search.is_over) == (None, True)
    assert begin(**changes).is_over


def test_a_long_study_continues_with_the_best_and_the_newest(monkeypatch, begin):
    monkeypatch.setattr(sampler, "MAX_TRIALS", 20)
    monkeypatch.setattr(sampler, "MAX_BEST", 5)
    search = begin(baselines={}, trials=200, grace_epochs=4)
    long = search.next_trial()
    search.on_trial_start(long)
    search.on_report(long, 1, {"val/map": 0.3}, {})
    for number in range(100):
        play(search, [0.1] * 3 + [0.99 if number == 7 else 0.2 + number / 1000])
        assert len(optuna_trials(search)) <= 41
    search.on_report(long, 2, {"val/map": 0.4}, {})
    search.on_trial_error(long, "NonFiniteError", Cause.PERMANENT)
    assert search.sampler.study.best_value == 0.99
    [known] = [trial for trial in optuna_trials(search) if trial.state == TrialState.FAIL]
    assert known.params == {"lr": 1e-2, "depth": 3}
    assert known.intermediate_values == {1: 0.3, 2: 0.4}
    newest = [trial.value for trial in optuna_trials(search) if trial.value is not None]
    assert {0.295, 0.296, 0.297, 0.298, 0.299} < {round(value, 3) for value in newest}
