"""Replay of a recorded run from MLflow's record alone."""

import subprocess
import sys

import mlflow
import pytest

from platform.errors import InputError
from platform.runner import replay
from platform.runner.replay import Recorded
from platform.study.event_log import Event
from platform.study.request import Request

TAGS = {"commit": "a", "version.torch": "2.15.0", "data_fingerprint": "f"}


def tune(project, *arguments: str) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "platform.tune", "toy", *arguments]
    return subprocess.run(command, cwd=project, capture_output=True, text=True, timeout=240, check=False)


def test_a_replay_reproduces_a_run_from_its_record(toy_project):
    began = tune(toy_project, "--trials", "2", "--name", "first", "--confirm", "1x2", "--seed", "5")
    assert began.returncode == 0, began.stderr
    client = mlflow.MlflowClient(f"sqlite:///{toy_project / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("toy").experiment_id
    runs = {run.data.tags.get("trial_id"): run for run in client.search_runs([experiment])}
    again = runs["only-the-heads-seed-7"].info.run_id
    replayed = tune(toy_project, "--replay", again)
    assert replayed.returncode == 0, replayed.stderr
    assert "in the replay: equal in each epoch, to the last bit." in replayed.stdout

    refused = tune(toy_project, "--replay", runs[None].info.run_id, "--trials", "3")
    assert refused.returncode == 2
    assert f"needs the run of a trial; found {runs[None].info.run_id}, first. The best trial of" in refused.stderr


def recorded(**changes) -> Recorded:
    given = {"config": {"lr": "0.1"}, "seed": 3, "training_seed": 4, "epochs": 2, "data": ["/there"]}
    given |= {"metric": "val/map", "scores": {1: 0.1, 2: 0.2}, "tags": TAGS}
    return Recorded(run_id="r", task="detector", **(given | changes))


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
