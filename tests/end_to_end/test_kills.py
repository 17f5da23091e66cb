"""The shipped command, killed in every way, against the same command left alone."""

import json
import random
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest

from platform.study.event_log import read
from platform.study.request import DELIVERED

COMMAND = [sys.executable, "-m", "platform.tune", "toy"]
ASKED = ["--trials", "8", "--epochs", "6", "--concurrent", "1", "--set", "pause=0.2", "--confirm", "1x2"]


def start(project: Path, *arguments: str, deaf: bool = False) -> subprocess.Popen:
    """The command; deaf: to Ctrl-C, as a shell script makes what it starts with "&"."""
    quiet = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    as_started = partial(signal.signal, signal.SIGINT, signal.SIG_IGN if deaf else signal.default_int_handler)
    return subprocess.Popen([*COMMAND, *arguments], cwd=project, preexec_fn=as_started, **quiet)


def journal_of(project: Path, name: str) -> Path:
    return project / "studies" / name / "journal.log"


def wait_for_epochs(process: subprocess.Popen, file: Path, count: int) -> None:
    deadline = time.monotonic() + 120
    while not file.exists() or file.read_bytes().count(b'["epoch", ') < count:
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < deadline
        time.sleep(0.05)


def told(events: list, kind: str) -> list[dict]:
    return [event.data for event in events if event.kind == kind]


def lose_the_end(event_log: Path) -> None:
    """Of what was written, the disk has only what was there before the first epoch."""
    lines = event_log.read_bytes().splitlines(keepends=True)
    epochs = [number for number, line in enumerate(lines) if b'["epoch", ' in line]
    event_log.write_bytes(b"".join(lines[: epochs[0]]))
    (event_log.parent / DELIVERED).unlink(missing_ok=True)


@pytest.fixture
def studies(toy_project):
    """Two studies of the same seed: one left alone, one ended by a power failure, politely and by Ctrl-C."""
    whole = start(toy_project, "--name", "whole", *ASKED)
    seed = time.time_ns()
    print("seed of the moments:", seed)
    generator, arguments, said = random.Random(seed), ["--name", "killed", *ASKED], []
    epochs = 0
    for how in (signal.SIGKILL, signal.SIGTERM, signal.SIGINT):
        process = start(toy_project, *arguments)
        epochs += generator.randint(2, 5)
        wait_for_epochs(process, journal_of(toy_project, "killed"), epochs)
        time.sleep(generator.uniform(0, 0.3))
        process.send_signal(how)
        out, _ = process.communicate(timeout=120)
        if how == signal.SIGKILL:
            lose_the_end(journal_of(toy_project, "killed"))
        epochs = len(told(read(journal_of(toy_project, "killed")), "epoch"))
        said.append((process.returncode, out))
        arguments = ["--name", "killed", "--resume"]
    process = start(toy_project, *arguments)
    out, _ = process.communicate(timeout=240)
    assert process.returncode == 0, out
    out, _ = whole.communicate(timeout=240)
    assert whole.returncode == 0, out
    return toy_project, said


def test_a_killed_study_ends_as_one_that_was_left_alone(studies):
    project, said = studies
    assert [code for code, _ in said] == [-signal.SIGKILL, 130, 130]
    assert "The event log has lost its end: trial 001 has a checkpoint of epoch" in said[1][1]
    for _, out in said[1:]:
        assert "To go on: python -m platform.tune toy --resume --name killed" in out
    whole, killed = (read(journal_of(project, name)) for name in ("whole", "killed"))

    # The same configurations, epochs and cuts; nothing twice, nothing lost.
    assert told(killed, "trial") == told(whole, "trial")
    for kind, keys in {"epoch": ("trial_id", "step"), "trial_end": ("trial_id", "status")}.items():
        both = [
            [tuple(data[key] for key in keys) for data in told(events, kind) if data.get("status") != "interrupted"]
            for events in (whole, killed)
        ]
        assert sorted(both[0]) == sorted(both[1])
        assert len(set(both[1])) == len(both[1])
    scores = [[data["metrics"]["val/error"] for data in told(events, "epoch")] for events in (whole, killed)]
    assert sorted(scores[0]) == sorted(scores[1]), "to the last bit"
    results = [json.loads((project / "studies" / name / "result.json").read_text()) for name in ("whole", "killed")]
    assert len(results[1]["trials"]) == 8
    assert results[0]["best"]["test_metrics"] == results[1]["best"]["test_metrics"]

    rows = [result["confirmation"].pop("rows") for result in results]
    assert results[0]["confirmation"] == results[1]["confirmation"]
    again = [[(run["trial_id"], run["test_metrics"]) for row in each for run in row["runs"]] for each in rows]
    assert (again[0], len(again[1])) == (again[1], 6)

    # One run a trial, with unbroken steps, and one for the study.
    runs = recorded(project, "killed")
    assert [run["kind"] for run in runs].count("study") == 1
    assert {run["status"] for run in runs} <= {"FINISHED", "KILLED"}
    steps = {run["trial_id"]: run["steps"] for run in runs if run["kind"] == "trial"}
    assert steps == {trial["trial_id"]: list(range(1, trial["epochs"] + 1)) for trial in results[1]["trials"]}
    confirmed = {run["trial_id"]: run["steps"] for run in runs if run["kind"] == "confirmation"}
    again = [data["trial_id"] for data in told(killed, "trial") if data.get("confirms")]
    assert confirmed == {trial_id: list(range(1, 7)) for trial_id in again}


def test_what_is_stopped_while_the_best_is_scored_is_gone_on_with(toy_project):
    trainable = toy_project / "trainables" / "toy.py"
    quick = trainable.read_text()
    trainable.write_text(quick.replace("def test(model, data):", "def test(model, data):\n    time.sleep(60)"))
    process = start(toy_project, "--name", "scored", "--trials", "1")
    assert process.stdout
    while "Scoring on the test split" not in (line := process.stdout.readline()):
        assert line, "it ended before"
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=60)
    assert (process.returncode, "Interrupted. To go on: " in out) == (130, True), out
    assert [event.data for event in read(journal_of(toy_project, "scored"))][-1] == {"status": "KILLED"}
    assert [run["status"] for run in recorded(toy_project, "scored") if run["kind"] == "study"] == ["KILLED"]
    trainable.write_text(quick)
    process = start(toy_project, "--name", "scored", "--resume")
    out, _ = process.communicate(timeout=120)
    assert process.returncode == 0, out
    assert [run["status"] for run in recorded(toy_project, "scored") if run["kind"] == "study"] == ["FINISHED"]


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_what_is_stopped_before_it_has_begun_ends_with_a_word(toy_project, how):
    moments = sorted(random.Random(time.time_ns() + number).uniform(1, 9) for number in range(2))
    print("moments:", moments)
    deaf = how == signal.SIGTERM
    processes = [start(toy_project, "--name", f"soon-{moment}", *ASKED, deaf=deaf) for moment in moments]
    begun = time.monotonic()
    for moment, process in zip(moments, processes, strict=True):
        time.sleep(max(0.0, begun + moment - time.monotonic()))
        process.send_signal(how)
    for process in processes:
        out, _ = process.communicate(timeout=60)
        assert process.returncode == 130, out
        assert "Interrupted" in out
        assert "Traceback" not in out


def recorded(project: Path, study: str) -> list[dict]:
    """The runs of a study in MLflow, with the epochs of their scores."""
    import mlflow

    client = mlflow.MlflowClient(f"sqlite:///{project / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("toy").experiment_id
    runs = client.search_runs([experiment], f"tags.study = '{study}'")
    history = {run.info.run_id: client.get_metric_history(run.info.run_id, "val/error") for run in runs}
    return [
        {**run.data.tags, "status": run.info.status, "steps": [point.step for point in history[run.info.run_id]]}
        for run in runs
    ]
