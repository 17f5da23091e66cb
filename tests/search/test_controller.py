"""What a study decides, and that it decides the same after it was killed at any moment."""

import copy
import errno
import warnings

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from optuna.trial import TrialState
from ray import tune

from platform.search import sampler
from platform.search.controller import ATTEMPTS, Search
from platform.search.scheduler import Asha
from platform.space import Space
from platform.study.event_log import EventLog
from platform.study.trials import StudyListener, TrialTable

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
    """Begins a search, or goes on with it."""

    def search(seed: int = 0, gpus: float = 0.0, **changes) -> Search:
        trial_table = TrialTable(EventLog(tmp_path / "event log"))
        trial_table.record("open")
        return Search(space(**changes), seed, trial_table, gpus)

    return search


def play(search: Search, scores: list[float], last: bool = False) -> str:
    """The next trial with these scores, until it is told to stop; how it ended."""
    trial = search.next()
    search.started(trial)
    for step, score in enumerate(scores, start=1):
        if not search.epoch(trial, step, {"val/map": score}, {}, last and step == len(scores)):
            break
    search.ended(trial)
    return trial.status


def told(search: Search) -> list:
    return search.sampler.study.trials


def test_the_start_comes_first_then_the_baselines(begin):
    search = begin()
    first, baseline, third = search.next(), search.next(), search.next()
    assert first.config == {"lr": 1e-2, "depth": 3, "weights": "starter"}
    assert (baseline.baseline, baseline.config) == ("scratch", {"lr": 1e-2, "depth": 0, "weights": "none"})
    assert (third.baseline, set(third.config)) == ("", {"lr", "depth", "weights"})
    assert [trial.id for trial in (first, baseline, third)] == ["001", "002", "003"]


def test_optuna_is_told_how_each_trial_ended(begin):
    search = begin()
    assert play(search, [0.5, 0.6, 0.4, 0.3]) == "finished"
    assert play(search, [0.9] * 4) == "finished"  # the baseline
    assert play(search, [0.1]) == "pruned"
    trial = search.next()
    search.started(trial)
    search.epoch(trial, 1, {"val/map": 0.55}, {})
    search.failed(trial, RAISED.format("platform.training.fit.NonFiniteLossError: the loss must be finite"))
    assert [trial.state for trial in told(search)] == [TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL]
    assert told(search)[0].value == 0.6  # the best epoch
    assert told(search)[0].intermediate_values == {1: 0.5, 2: 0.6, 3: 0.4, 4: 0.3}
    assert told(search)[1].intermediate_values == {1: 0.1}


def test_asha_cuts_the_worse_but_never_a_baseline(begin):
    search = begin()
    assert play(search, [0.9] * 4) == "finished"
    assert play(search, [0.0] * 4) == "finished"
    assert play(search, [0.95, 0.95, 0.1]) == "pruned"
    assert {rung: len(scores) for rung, scores in search.asha.rungs.items()} == {1: 2, 2: 2, 3: 2}


def test_the_best_quarter_passes_the_first_rung_and_the_better_half_the_others():
    asha = Asha(space(max_epochs=12, grace_epochs=3))
    assert list(asha.rungs) == [3, 4, 6, 8]
    for rung, others in asha.rungs.items():
        others |= {str(number): number / 10 for number in range(1, 9)}
        lowest = min(score for score in range(100) if not Asha.cuts(copy.deepcopy(asha), "new", rung, score / 100))
        assert lowest == (63 if rung == 3 else 45)
    assert not asha.cuts("new", 5, 0.0), "no rung"


def test_asha_waits_for_a_thaw(begin):
    """With rungs at 1, 2, 3, 4, 5, 8 and 11 of 12 epochs: the worst trial is cut at once; one of the better half that
    is to unfreeze, at the first rung when it has trained two epochs after its unfreeze.
    """
    for score, first_unfreeze, last in (
        *((0.1, None, 1), (0.1, 0, 1), (0.1, 1, 1), (0.1, 9, 1)),
        *((0.6, None, 1), (0.6, 0, 1), (0.6, 1, 3), (0.6, 2, 4), (0.6, 5, 8), (0.6, 7, 11), (0.6, 10, 12)),
    ):
        search = begin(max_epochs=12, trials=99, baselines={})
        for at_first in (0.5, 0.5, 0.9):
            trial = search.next()
            search.started(trial)
            while search.epoch(trial, trial.epochs + 1, {"val/map": 0.5 if trial.epochs else at_first}, {}):
                pass
            search.ended(trial)
        before = {rung: len(scores) for rung, scores in search.asha.rungs.items()}
        trial = search.next()
        search.started(trial)
        while search.epoch(
            trial, trial.epochs + 1, {"val/map": 0.1 if trial.epochs else score}, {}, first_unfreeze=first_unfreeze
        ):
            pass
        assert trial.epochs == last, (score, first_unfreeze)
        after = {rung: len(scores) for rung, scores in search.asha.rungs.items()}
        # It counts only for those who trained as it did.
        assert {rung for rung in after if after[rung] > before[rung]} == {1, last} & set(after), (score, first_unfreeze)
        search.ended(trial)


def test_a_trial_that_says_it_is_done_is_complete_before_its_last_epoch(begin):
    search = begin()
    assert play(search, [0.3], last=True) == "finished"
    [only] = told(search)
    assert (only.state, only.value) == (TrialState.COMPLETE, 0.3)


def test_an_epoch_told_twice_counts_once(begin):
    search = begin()
    trial = search.next()
    search.started(trial)
    for step, score in [(1, 0.1), (2, 0.2), (1, 0.9), (2, 0.9), (3, 0.3)]:
        search.epoch(trial, step, {"val/map": score}, {})
    assert trial.scores("val/map") == [0.1, 0.2, 0.3]


def test_what_fails_is_tried_again_and_given_up_after_failing_in_a_row(begin):
    search = begin(trials=1, baselines={})
    trial = search.next()
    for number in range(ATTEMPTS + 1):
        search.started(trial)
        if number == 1:
            search.epoch(trial, 1, {"val/map": 0.5}, {})  # it got further: the count begins anew
        search.failed(trial, RAISED.format(f"RuntimeError: attempt {number}"))
        assert (search.next() is trial) == (number < ATTEMPTS)
    assert (trial.status, trial.attempts, trial.epochs) == ("failed", ATTEMPTS + 1, 1)
    assert trial.error.endswith("attempt 3")
    assert told(search)[0].state == TrialState.FAIL
    assert search.is_over


@pytest.mark.parametrize(
    "error",
    [
        "platform.training.fit.NonFiniteLossError: it is nan",
        "platform.training.freezing.FrozenChangedError: stem.weight did",
    ],
)
def test_what_would_come_again_is_not_tried_again(begin, error):
    search = begin()
    trial = search.next()
    search.started(trial)
    search.failed(trial, RAISED.format(error))
    assert trial.status == "failed"
    assert search.next() is not trial


def test_a_gpu_out_of_memory_is_tried_with_a_larger_share(begin):
    search = begin(gpus=0.3)
    trial = search.next()
    error = RAISED.format("torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 20.00 MiB.")
    for share in (0.6, 1.0):
        search.started(trial)
        search.failed(trial, error)
        assert (search.next(), trial.gpus) == (trial, share)
    search.started(trial)
    search.failed(trial, error)
    assert trial.status == "failed", "there is no more than a whole one"


def test_a_full_disk_stops_the_study_and_fails_no_trial(begin):
    search = begin()
    trial = search.next()
    search.started(trial)
    search.failed(
        trial, RAISED.format("platform.storage.checkpoints.DiskFullError: [Errno 28] no room for the checkpoint")
    )
    assert "no room" in search.stopped
    assert search.next() is None
    assert not trial.is_done
    again = begin()
    assert not again.stopped
    assert again.next().id == trial.id


def test_a_journal_that_cannot_be_written_stops_the_study(begin, monkeypatch):
    search = begin()
    trial = search.next()
    search.started(trial)

    def full(kind, data):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(search.trial_table.event_log, "append", full)
    assert not search.epoch(trial, 1, {"val/map": 0.5}, {}), "what is not written down has not happened"
    search.ended(trial)
    assert (search.stopped, search.next()) == ("the event log cannot be written: No space left on device", None)
    assert (trial.epochs, trial.is_done) == (0, False)


def test_a_trial_that_ends_without_a_word_has_failed(begin):
    search = begin()
    trial = search.next()
    search.started(trial)
    search.ended(trial)
    assert (trial.status, "without saying why" in trial.error) == ("failed", True)


def test_a_space_with_nothing_to_search_still_runs(begin):
    search = begin(params={"weights": "starter"}, start={}, baselines={})
    assert search.next().config == {"weights": "starter"}


def test_an_interrupted_study_says_so_and_goes_on_with_what_was_running(begin):
    search = begin()
    play(search, [0.5] * 4)
    trial = search.next()
    search.started(trial)
    search.epoch(trial, 1, {"val/map": 0.2}, {})
    search.interrupted()
    assert trial.status == "interrupted"
    again = begin()
    trial = again.next()
    assert (trial.id, trial.epochs, trial.status) == ("002", 1, "waiting")
    assert again.next().id == "003"


def curve(config: dict, epoch: int) -> float:
    return epoch / 10 - abs(config["lr"] - 0.02) * 10 - 0.05 * config["depth"]


class KilledError(Exception):
    pass


def simulate(folder, kills: set[int], **changes) -> list[tuple]:
    """A whole study, one trial at a time, that is killed after the events of these numbers and goes on."""
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
            search = Search(space(trials=12, **changes), 0, trial_table)
            while trial := search.next():
                search.started(trial)
                goes_on, fails = True, trial.id in ("005", "010")
                while goes_on:
                    epoch = trial.epochs + 1
                    if fails and epoch == 2:
                        search.failed(trial, RAISED.format("NonFiniteLossError: nan"))
                        break
                    goes_on = search.epoch(trial, epoch, {"val/map": curve(trial.config, epoch)}, {})
                if not trial.is_done and not goes_on:
                    search.ended(trial)
            assert search.is_over
        except KilledError:
            continue
        states = [(t.state, t.intermediate_values, t.value, t.params) for t in told(search)]
        trials = [(t.id, t.config, t.status, t.metrics, t.seed) for t in trial_table.trials.values()]
        return [trials, sorted(states, key=repr), search.asha.rungs]
    raise AssertionError("it was killed more often than told")


@settings(max_examples=25, deadline=None)
@given(kills=st.sets(st.integers(1, 60), max_size=6))
def test_a_study_killed_anywhere_ends_as_if_it_had_not_been(tmp_path_factory, kills):
    """The same configurations, cuts, scores; Optuna knows the same, and so do ASHA's rungs."""
    whole = simulate(tmp_path_factory.mktemp("whole"), set())
    assert simulate(tmp_path_factory.mktemp("killed"), set(kills)) == whole
    assert {status for _, _, status, _, _ in whole[0]} == {"finished", "pruned", "failed"}
    assert [seed for *_, seed in whole[0]] == [None] * 12 + [1, 1, 2, 2]
    assert len(whole[1]) == 11, "Optuna hears of neither the baseline nor what is trained again"


def test_the_best_are_trained_again_once_all_is_searched_and_the_baselines_when_there_is_room(begin):
    params = {"lr": tune.loguniform(1e-4, 1e-1), "freeze_depth": tune.randint(0, 4), "weights": "starter"}
    changes = {"params": params, "start": {"lr": 1e-2, "freeze_depth": 2}, "depth": 3, "trials": 2, "baselines": {}}
    begin().trial_table.record("confirm", asked="1x2")
    search = begin(**changes)
    first, second = search.next(), search.next()
    for trial in (first, second):
        search.started(trial)
    waiting = [search.next() for _ in range(4)]
    assert [trial.id for trial in waiting] == [
        "only-the-heads-seed-1", "everything-trained-seed-1", "only-the-heads-seed-2", "everything-trained-seed-2",
    ]  # fmt: skip
    assert [trial.config["freeze_depth"] for trial in waiting] == [3, 0, 3, 0]
    assert search.next() is None, "which trial is the best is not known yet"
    for trial, score in ((first, 0.5), (second, 0.6)):
        for step in range(1, 5):
            search.epoch(trial, step, {"val/map": score}, {})
        search.ended(trial)
    assert not search.is_over
    again = [search.next(), search.next()]
    assert [(trial.confirms, trial.seed, trial.config) for trial in again] == [
        ("trial 002", 1, second.config), ("trial 002", 2, second.config),
    ]  # fmt: skip
    for trial in [*waiting, *again]:
        search.started(trial)
        while search.epoch(trial, trial.epochs + 1, {"val/map": 0.0}, {}):
            pass
        search.ended(trial)
        assert (trial.status, trial.epochs) == ("finished", 4), "ASHA does not cut it"
    assert (search.next(), search.is_over) == (None, True)
    assert begin(**changes).is_over


def test_a_long_study_goes_on_with_the_best_and_the_newest(monkeypatch, begin):
    monkeypatch.setattr(sampler, "REMEMBERED", 20)
    monkeypatch.setattr(sampler, "OF_THEM_BEST", 5)
    search = begin(baselines={}, trials=200, grace_epochs=4)
    long = search.next()
    search.started(long)
    search.epoch(long, 1, {"val/map": 0.3}, {})
    for number in range(100):
        play(search, [0.1] * 3 + [0.99 if number == 7 else 0.2 + number / 1000])
        assert len(told(search)) <= 41
    search.epoch(long, 2, {"val/map": 0.4}, {})
    search.failed(long, "NonFiniteLossError")
    assert search.sampler.study.best_value == 0.99
    [known] = [trial for trial in told(search) if trial.state == TrialState.FAIL]
    assert known.params == {"lr": 1e-2, "depth": 3}
    assert known.intermediate_values == {1: 0.3, 2: 0.4}
    newest = [trial.value for trial in told(search) if trial.value is not None]
    assert {0.295, 0.296, 0.297, 0.298, 0.299} < {round(value, 3) for value in newest}
