"""Replay of a recorded run from MLflow's record alone."""

import pytest

from platform.errors import InputError
from platform.runner import replay
from platform.runner.replay import RecordedRun
from platform.study.event_log import Event
from platform.study.request import Request

TAGS = {"commit": "a", "version.torch": "2.15.0", "data_fingerprint": "f"}


def recorded(**changes) -> RecordedRun:
    given = {"config": {"lr": "0.1"}, "seed": 3, "training_seed": 4, "epochs": 2, "data": ["/there"]}
    given |= {"metric": "val/map", "scores": {1: 0.1, 2: 0.2}, "tags": TAGS}
    return RecordedRun(run_id="r", task="detector", **(given | changes))


def events(*scores: float, **tags: str) -> list[Event]:
    epochs = [Event("report", 0, {"step": n, "metrics": {"val/map": s}}) for n, s in enumerate(scores, start=1)]
    return [Event("study", 0, {"facts": {"tags": TAGS | tags}}), *epochs]


@pytest.mark.parametrize(
    ("scores", "same", "text"),
    [
        ((0.1, 0.2), True, "0.2000 in the record, 0.2000 in the replay: equal in each epoch, to the last bit."),
        ((0.1, 0.2, 0.9), True, "to the last bit"),
        ((0.15, 0.205), True, "within 0.01.\nThe largest difference in an epoch is 0.05."),
        ((0.1, 0.23), False, "not the same.\nThe largest difference in an epoch is 0.03."),
        ((0.1, float("nan")), False, "not the same"),
        ((0.1,), False, "ended before epoch 2"),
    ],
)
def test_the_verdict(scores, same, text):
    within, lines = replay.verdict(recorded(), events(*scores), 0.01)
    assert (within, text in "\n".join(lines)) == (same, True), lines


def test_changed_software_is_named():
    assert len(replay.verdict(recorded(), events(0.1, 0.2), 0.01)[1]) == 1
    _, lines = replay.verdict(recorded(), events(0.1, 0.2, **{"version.torch": "3.0", "seed": "9"}), 0.01)
    assert lines[-1] == "The replay ran with other software or data: version.torch 2.15.0 then, 3.0 now."


def test_options_that_the_record_determines_are_refused():
    typed = Request("classifier", "n", "/s", "e", "uri", settings=("lr=1",), epochs=3, confirm="1x2", seed=1,
                    warm_start=("first",))  # fmt: skip
    with pytest.raises(InputError) as refused:
        replay.request_of(recorded(), typed)
    for part in ("--set", "--epochs", "--seed", "--confirm", "--warm-start", "platform.tune detector --replay r"):
        assert part in str(refused.value)
    request = replay.request_of(recorded(), Request("detector", "n", "/s", "e", "uri", concurrent=1))
    assert (request.settings, request.data, request.seed, request.training_seed) == (("lr=0.1",), ("/there",), 3, 4)
    assert (request.trials, request.epochs, request.confirm, request.concurrent) == (1, 2, "none", 1)
    assert replay.request_of(recorded(), Request("detector", "n", "/s", "e", "u", data=("/here",))).data == ("/here",)
    older = replay.request_of(recorded(config={"thaw_at": "0.5"}), Request("detector", "n", "/s", "e", "uri"))
    assert older.settings == ("unfreeze_at=0.5",)
