"""The shipped command, ended in every way, against the same command left alone."""

import json
import random
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import psutil
import pytest
from curves import curves, recorded_curves

from platform.study.event_log import read
from platform.study.request import DELIVERED

COMMAND = [sys.executable, "-m", "platform.tune", "toy"]
TRIALS, EPOCHS = 6, 4
OPTIONS = ["--trials", str(TRIALS), "--epochs", str(EPOCHS), "--concurrent", "1", "--set", "pause=0.1",
           "--confirm", "1x2"]  # fmt: skip
SLOW = "slow"  # a file: while it is there, scoring on the test split takes a minute


def start(project: Path, *arguments: str, deaf: bool = False) -> subprocess.Popen:
    """Start the command; deaf: with Ctrl-C ignored, as a shell script starts what it puts behind "&"."""
    quiet = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    handler = partial(signal.signal, signal.SIGINT, signal.SIG_IGN if deaf else signal.default_int_handler)
    return subprocess.Popen([*COMMAND, *arguments], cwd=project, preexec_fn=handler, **quiet)


def event_log_of(project: Path, name: str) -> Path:
    return project / "studies" / name / "journal.log"


def wait_for_epochs(process: subprocess.Popen, file: Path, count: int) -> None:
    deadline = time.monotonic() + 240
    while not file.exists() or file.read_bytes().count(b'["report", ') < count:
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < deadline
        time.sleep(0.05)


def wait_for_cpu_seconds(process: subprocess.Popen, seconds: float) -> None:
    """Wait until a process has computed for so long; on a busy machine a time by the clock may come before its
    start.
    """
    while process.poll() is None and sum(psutil.Process(process.pid).cpu_times()[:2]) < seconds:
        time.sleep(0.02)


def data_of(events: list, kind: str) -> list[dict]:
    return [event.data for event in events if event.kind == kind]


def lose_the_end(event_log: Path) -> None:
    """Leave of an event log only what was written before the first epoch."""
    lines = event_log.read_bytes().splitlines(keepends=True)
    epochs = [number for number, line in enumerate(lines) if b'["report", ' in line]
    event_log.write_bytes(b"".join(lines[: epochs[0]]))
    (event_log.parent / DELIVERED).unlink(missing_ok=True)


@pytest.fixture(scope="module")
def project(shared_toy_project) -> Path:
    project = shared_toy_project
    trainable = project / "trainables" / "toy.py"
    head = "def test(model, data):"
    wait = f"{head}\n    import os\n    time.sleep(60 * os.path.exists({str(project / SLOW)!r}))"
    trainable.write_text(trainable.read_text().replace(head, wait))
    return project


@pytest.fixture(scope="module")
def outputs(project) -> list[tuple[int, str]]:
    """Exit codes and outputs of a study that is ended by a power failure and by Ctrl-C while trials run, and by SIGTERM
    while the best is scored. Another study of the same seed is left alone."""
    whole = start(project, "--name", "whole", *OPTIONS)
    seed = time.time_ns()
    print("seed of the moments:", seed)
    generator, arguments, outputs = random.Random(seed), ["--name", "killed", *OPTIONS], []
    epochs = 0
    for how in (signal.SIGKILL, signal.SIGINT):
        process = start(project, *arguments)
        epochs += generator.randint(2, 4)
        wait_for_epochs(process, event_log_of(project, "killed"), epochs)
        time.sleep(generator.uniform(0, 0.3))
        process.send_signal(how)
        out, _ = process.communicate(timeout=120)
        if how == signal.SIGKILL:
            lose_the_end(event_log_of(project, "killed"))
        epochs = len(data_of(read(event_log_of(project, "killed")), "report"))
        outputs.append((process.returncode, out))
        arguments = ["--name", "killed", "--resume"]
    out, _ = whole.communicate(timeout=240)
    assert whole.returncode == 0, out
    (project / SLOW).touch()
    process = start(project, *arguments)
    assert process.stdout
    while "Scoring on the test split" not in (line := process.stdout.readline()):
        assert line, "it ended before"
    process.send_signal(signal.SIGTERM)
    out, _ = process.communicate(timeout=120)
    outputs.append((process.returncode, out))
    assert data_of(read(event_log_of(project, "killed")), "close")[-1] == {"status": "KILLED"}
    assert [run["status"] for run in runs_of(project, "killed") if run["kind"] == "study"] == ["KILLED"]
    (project / SLOW).unlink()
    process = start(project, *arguments)
    out, _ = process.communicate(timeout=240)
    assert process.returncode == 0, out
    return outputs


def test_a_killed_study_ends_as_one_that_was_left_alone(project, outputs):
    assert [code for code, _ in outputs] == [-signal.SIGKILL, 130, 130]
    assert "The event log has lost its end: trial 001 has a checkpoint of epoch" in outputs[1][1]
    for _, out in outputs[1:]:
        assert "Interrupted. To continue: python -m platform.tune toy --resume --name killed" in out
    whole, killed = (read(event_log_of(project, name)) for name in ("whole", "killed"))

    # the same configs, epochs and decisions; nothing twice, nothing lost
    assert data_of(killed, "trial") == data_of(whole, "trial")
    for kind, keys in {"report": ("trial_id", "step"), "trial_end": ("trial_id", "status")}.items():
        both = [
            [tuple(data[key] for key in keys) for data in data_of(events, kind) if data.get("status") != "interrupted"]
            for events in (whole, killed)
        ]
        assert sorted(both[0]) == sorted(both[1])
        assert len(set(both[1])) == len(both[1])
    scores = [[data["metrics"]["val/error"] for data in data_of(events, "report")] for events in (whole, killed)]
    assert sorted(scores[0]) == sorted(scores[1]), "to the last bit"
    results = [json.loads((project / "studies" / name / "result.json").read_text()) for name in ("whole", "killed")]
    assert len(results[1]["trials"]) == TRIALS
    assert results[0]["best"]["test_metrics"] == results[1]["best"]["test_metrics"]
    rows = [result["confirmation"].pop("rows") for result in results]
    assert results[0]["confirmation"] == results[1]["confirmation"]
    confirmations = [[(run["trial_id"], run["test_metrics"]) for row in each for run in row["runs"]] for each in rows]
    assert (confirmations[0], len(confirmations[1])) == (confirmations[1], 6)

    # one run a trial, with unbroken steps, and one for the study
    runs = runs_of(project, "killed")
    assert [run["status"] for run in runs if run["kind"] == "study"] == ["FINISHED"]
    assert {run["status"] for run in runs} <= {"FINISHED", "KILLED"}
    steps = {run["trial_id"]: run["steps"] for run in runs if run["kind"] == "trial"}
    assert steps == {trial["trial_id"]: list(range(1, trial["epochs"] + 1)) for trial in results[1]["trials"]}
    confirmed = {run["trial_id"]: run["steps"] for run in runs if run["kind"] == "confirmation"}
    trial_ids = [data["trial_id"] for data in data_of(killed, "trial") if data.get("confirms")]
    assert confirmed == {trial_id: list(range(1, EPOCHS + 1)) for trial_id in trial_ids}


def test_tensorboard_shows_unbroken_curves(project, outputs):
    folder = project / "studies" / "killed"
    shown = curves(folder, "val/error")
    assert shown == recorded_curves(folder, "val/error")
    assert "002 frozen" in shown


def test_a_command_that_is_stopped_before_it_has_begun_says_so(project):
    generator = random.Random(seed := time.time_ns())
    print("seed of the moments:", seed)
    slow = [*OPTIONS, "--set", "pause=5"]  # none ends by itself before its moment
    processes = [start(project, "--name", f"soon-{deaf}", *slow, deaf=deaf) for deaf in (False, True)]
    for process, how in zip(processes, (signal.SIGINT, signal.SIGTERM), strict=True):
        wait_for_cpu_seconds(process, generator.uniform(1, 6))
        process.send_signal(how)
    for process in processes:
        out, _ = process.communicate(timeout=120)
        assert process.returncode == 130, out
        assert "Interrupted" in out
        assert "Traceback" not in out


def runs_of(project: Path, study: str) -> list[dict]:
    """Return the runs of a study in MLflow, with the epochs of their scores."""
    import mlflow

    client = mlflow.MlflowClient(f"sqlite:///{project / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("toy").experiment_id
    runs = client.search_runs([experiment], f"tags.study = '{study}'")
    history = {run.info.run_id: client.get_metric_history(run.info.run_id, "val/error") for run in runs}
    return [
        {**run.data.tags, "status": run.info.status, "steps": [entry.step for entry in history[run.info.run_id]]}
        for run in runs
    ]
