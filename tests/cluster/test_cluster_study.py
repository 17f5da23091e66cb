"""A study in a bucket on a cluster of three nodes in one machine: a node is killed, then the head is lost."""

import json
import os
import shutil
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from platform.storage import filesystem
from platform.study.event_log import read

TRIALS, EPOCHS = 6, 6


# In a process of its own, because Ray reads its token once in a process.
CLUSTER = """
import sys
from ray.cluster_utils import Cluster
cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
for _ in range(3):
    cluster.add_node(num_cpus=1)
print(cluster.address, flush=True)
for _ in sys.stdin:
    cluster.remove_node(next(iter(cluster.worker_nodes)), allow_graceful=False)
    cluster.add_node(num_cpus=1)
cluster.shutdown()
"""


class Nodes:
    """Three nodes with one core each, and a head that runs no trials."""

    def __init__(self) -> None:
        command = [sys.executable, "-c", CLUSTER]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.address = self.process.stdout.readline().strip()

    def kill_one(self) -> None:
        """Kill one node without notice and add another."""
        self.process.stdin.write("kill\n")
        self.process.stdin.flush()


@pytest.fixture(scope="module")
def nodes(s3):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
        patch.setenv("RAY_AUTH_MODE", "token")
        patch.setenv("RAY_AUTH_TOKEN", "f" * 64)
        found = Nodes()
        yield found
        found.process.communicate(timeout=200)


def tune(project: Path, address: str, *arguments: str, **more):
    command = [sys.executable, "-m", "platform.tune", "toy", *arguments]
    environment = {**os.environ, "RAY_ADDRESS": address, "MLFLOW_TRACKING_URI": f"sqlite:///{project}/mlflow.db"}
    return subprocess.Popen(
        command, cwd=project, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **more
    )


def epochs_in(place: str) -> int:
    """Return the number of reports in the bucket's copy of the event log."""
    text = filesystem.read(f"{place}/journal.log") or b""
    return text.count(b'["report", ')


def wait_for(condition, process, seconds: float = 240) -> None:
    until = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, process.stdout.read()
        assert time.monotonic() < until
        time.sleep(0.1)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_killed_node_and_a_lost_head_cost_nothing(nodes, bucket, toy_project, tmp_path, monkeypatch):
    studies, address = f"{bucket}/studies", nodes.address
    asked = ["--storage", studies, "--trials", str(TRIALS), "--epochs", str(EPOCHS), "--set", "pause=1"]
    first = tune(toy_project, address, "--name", "one", *asked)
    wait_for(lambda: epochs_in(f"{studies}/one") >= 4, first)
    nodes.kill_one()
    here = filesystem.local_folder(studies) / "one"
    wait_for(lambda: '"moved": true' in (here / "journal.log").read_text(), first)
    known = epochs_in(f"{studies}/one")
    wait_for(lambda: epochs_in(f"{studies}/one") > known + 2, first)
    first.kill()  # and all that the head had is gone with it
    first.wait()
    shutil.rmtree(here)
    monkeypatch.setenv("HOME", str(tmp_path / "another head"))
    output = tune(toy_project, address, "--storage", studies, "--name", "one", "--resume").communicate(timeout=240)[0]
    result = json.loads(filesystem.read(f"{studies}/one/result.json"))
    assert Counter(trial["status"] for trial in result["trials"]) <= Counter(finished=TRIALS, pruned=TRIALS), output
    assert len(result["trials"]) == TRIALS
    assert [reason for trial in result["trials"] for reason in trial["retried"]] == []
    moved = [reason for trial in result["trials"] for reason in trial["moved"]]
    assert moved, output
    assert set(moved) <= {"its node went away", "its node could no longer be reached"}
    assert f"moved to another node, 1 time: {moved[0]}" in output
    assert sum(result["spent"]["hours"].values()) > 0
    _one_run_a_trial(toy_project, result)
    event_log = read(filesystem.local_folder(studies) / "one" / "journal.log")
    for trial in result["trials"]:
        steps = [e.data["step"] for e in event_log if e.kind == "report" and e.data["trial_id"] == trial["trial_id"]]
        assert steps == list(range(1, trial["epochs"] + 1))
    assert filesystem.names(f"{studies}/one/trials") in ([result["best"]["trial_id"]], [])
    _used_elsewhere(toy_project, studies, tmp_path, monkeypatch)


def _one_run_a_trial(project: Path, result: dict) -> None:
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{project}/mlflow.db")
    [experiment] = [each for each in client.search_experiments() if each.name == "toy"]
    runs = client.search_runs([experiment.experiment_id])
    trials = {run.data.tags["trial_id"]: run for run in runs if run.data.tags["kind"] == "trial"}
    assert len(runs) == 1 + len(trials) == 1 + TRIALS
    for trial in result["trials"]:
        run = trials[trial["trial_id"]]
        steps = [point.step for point in client.get_metric_history(run.info.run_id, "val/error")]
        assert steps == list(range(1, trial["epochs"] + 1))
        assert ("moved" in run.data.tags) == bool(trial["moved"])
        assert "error_of_an_attempt" not in run.data.tags
    [study] = [run for run in runs if run.data.tags["kind"] == "study"]
    assert "h of nodes" in study.data.tags["spent"]


def _used_elsewhere(project: Path, studies: str, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "a laptop"))
    command = [sys.executable, "-m", "platform.predict", "toy", "two words", "--model", "one", "--storage", studies]
    done = subprocess.run(command, cwd=project, capture_output=True, text=True, timeout=200, check=True)
    assert json.loads(done.stdout)["text"] == "two words"


def test_one_machine_keeps_its_study_in_a_bucket_too(bucket, toy_project, tmp_path, monkeypatch):
    studies = f"{bucket}/studies"
    first = tune(toy_project, "", "--storage", studies, "--name", "one", "--epochs", "8", "--set", "pause=0.5")
    wait_for(lambda: epochs_in(f"{studies}/one") >= 3, first)
    first.kill()
    first.wait()
    monkeypatch.setenv("HOME", str(tmp_path / "another machine"))
    second = tune(toy_project, "", "--storage", studies, "--name", "one", "--resume")
    output = second.communicate(timeout=240)[0]
    assert second.returncode == 0, output
    result = json.loads(filesystem.read(f"{studies}/one/result.json"))
    assert [trial["retried"] for trial in result["trials"]] == [[]] * 3
    assert all(trial["attempts"] <= 2 for trial in result["trials"])
    assert result["best"]["test_metrics"]


def test_all_that_the_cluster_cannot_fulfil_is_reported_at_once(nodes, bucket, toy_project):
    asked = ["--max-cost", "5", "--cpus-per-trial", "2", "--gpus-per-trial", "1"]
    process = tune(toy_project, nodes.address, "--storage", f"{bucket}/studies", "--name", "no", *asked)
    output = process.communicate(timeout=240)[0]
    for text in (
        "--max-cost needs the price of each node type",
        "--cpus-per-trial must lie in 1..1, what a node has",
        "--gpus-per-trial must lie in 0..0, what a node has",
    ):
        assert text in output
    assert process.returncode == 2
    assert filesystem.names(f"{bucket}/studies") == []
