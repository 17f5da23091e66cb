"""A study is submitted to a cluster of one node with a dashboard, followed, left, stopped and continued."""

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from platform.cluster import head_node, jobs
from platform.cluster.head_node import Cluster
from platform.errors import InputError

ROOT = Path(__file__).parents[2]
TINY = ["--epochs", "1", "--set", "image_size=64", "--set", "channels=32"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "No such file"),
        ("a: [", "--cluster must be a cluster's yaml"),
        ("- 1", "without cluster_name"),
        ("cluster_name: x\nmetadata:\n  storage: s3://FILL-IN/x", "metadata: storage: s3://FILL-IN/x"),
        ("cluster_name: x\nprovider:\n  worker_ips: [FILL-IN-ADDRESS]", "FILL-IN-ADDRESS"),
    ],
)
def test_a_yaml_that_will_not_do_is_refused(tmp_path, text, message):
    if text is not None:
        (tmp_path / "c.yaml").write_text(text)
    with pytest.raises(InputError, match=message):
        head_node.read(str(tmp_path / "c.yaml"))


def test_where_a_study_is_kept_comes_from_the_yaml_or_the_command(tmp_path):
    (tmp_path / "c.yaml").write_text("cluster_name: x\nmetadata: {storage: s3://b/studies/}")
    there = head_node.read(str(tmp_path / "c.yaml"))
    assert head_node.storage_of(there, None) == "s3://b/studies"
    assert head_node.storage_of(there, "/shared/x") == "/shared/x"
    with pytest.raises(InputError, match="no --storage"):
        head_node.storage_of(Cluster("http://x"), None)
    assert head_node.folder_of("s3://b/studies", "one") == "~/.platform-tune/s3/b/studies/one"
    assert head_node.folder_of("/shared", "one") == "/shared/one"


def test_what_a_cluster_does_not_see_is_reported(tmp_path):
    (tmp_path / "w.pt").touch()
    faults = jobs.location_faults(
        ["data", "./x", "/abs", "s3://b/x", "torchvision:MNIST"], [f"weights={tmp_path}/w.pt"]
    )
    assert [fault.value for fault in faults] == ["data", "./x", f"weights={tmp_path}/w.pt"]
    starters = f"weights={ROOT}/starters/README.md,none"
    assert jobs.location_faults([], [starters]) == []
    assert jobs.relative(starters) == "weights=starters/README.md,none"
    folder = f"backbone=local-dir:{ROOT}/starters"
    assert (jobs.location_faults([], [folder]), jobs.relative(folder)) == ([], "backbone=local-dir:starters")
    assert jobs.location_faults([], [f"backbone=local-dir:{tmp_path}"])
    assert jobs.relative("lr_head=1e-3") == "lr_head=1e-3"


def test_what_a_job_prints_is_shown_once_though_its_log_is_begun_again(capsys):
    import asyncio

    class Client:
        def __init__(self, *parts):
            self.parts = parts

        async def tail_job_logs(self, job):
            for part in self.parts:
                yield part

    printed = jobs._JobLog()
    for client in (Client("one ", "two "), Client("one two", " three"), Client("one "), Client("one two three four")):
        asyncio.run(printed.tail(client, "job"))
    assert capsys.readouterr().out == "one two three four"


# In a process of its own, because Ray reads its token once in a process.
CLUSTER = """
import sys
from platform.cluster.ray_runtime import keep_token_secret
keep_token_secret()
from ray.cluster_utils import Cluster
ports = {"dashboard_port": int(sys.argv[1]), "dashboard_agent_listen_port": 0}
node = {"num_cpus": 2, "include_dashboard": True, **ports}
cluster = Cluster(initialize_head=True, head_node_args=node)
print("up", flush=True)
sys.stdin.read()
cluster.shutdown()
"""


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    """Address of the dashboard of a node with two cores that requires a token and has an MLflow store."""
    home = tmp_path_factory.mktemp("head")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with pytest.MonkeyPatch.context() as patch, tempfile.TemporaryDirectory(prefix="ray") as own:
        patch.setenv("HOME", str(home))
        patch.setenv("RAY_TMPDIR", own)  # Rays of other tests write down there which was started last
        patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{home}/mlflow.db")
        patch.setenv("PATH", os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]))
        command = [sys.executable, "-c", CLUSTER, str(port)]
        process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert process.stdout.readline() == "up\n"
        yield f"http://127.0.0.1:{port}"
        process.communicate("", timeout=60)


def start(address: str, *arguments: str, task: str = "detector") -> subprocess.Popen:
    command = [sys.executable, "-m", "platform.tune", task, "--cluster", address, *arguments]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def output_of(process: subprocess.Popen, code: int = 0) -> str:
    out = process.communicate(timeout=300)[0]
    assert process.returncode == code, out
    return out


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_study_is_sent_followed_left_stopped_and_gone_on_with(address, scenes_folder, tmp_path):
    study = ["--storage", str(tmp_path), "--data", str(scenes_folder), *TINY, "--trials", "20"]
    event_log = tmp_path / "one" / "journal.log"
    process = start(address, "--name", "one", *study)
    until = time.monotonic() + 300
    while not (event_log.exists() and '["report", ' in event_log.read_text()):
        assert process.poll() is None, process.stdout.read()
        assert time.monotonic() < until
        time.sleep(0.2)
    process.send_signal(signal.SIGINT)
    left = output_of(process)
    assert "The study keeps running on the cluster." in left
    assert "--follow one" in left
    assert "only one job at a time may work on a study" in output_of(start(address, "--name", "one", *study), code=2)
    stopped = output_of(start(address, "--stop", "one"))
    assert f"--cluster {address} --resume --name one --storage {tmp_path}" in stopped
    assert "Interrupted. To continue: " in output_of(start(address, "--follow", "one"), code=130)
    assert "--stop needs a study that runs" in output_of(start(address, "--stop", "one"), code=2)
    known = event_log.read_text().count('["trial", ')
    assert 0 < known < 20
    on = output_of(start(address, "--resume", "--name", "one", "--storage", str(tmp_path)))
    assert "Continuing study one" in on
    result = json.loads((tmp_path / "one" / "result.json").read_text())
    assert len(result["trials"]) == 20
    assert output_of(start(address, "--follow", "one")).count("Best configuration") == 1
    facts = json.loads(event_log.read_text().splitlines()[0].partition(" ")[2])[2]["facts"]
    commit = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert commit.stdout.strip() in facts["tags"]["commit"]


def test_ctrl_c_before_the_cluster_answers_says_how_to_look(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    with socket.create_server(("127.0.0.1", 0)) as silent:
        silent.settimeout(120)
        address = f"http://127.0.0.1:{silent.getsockname()[1]}"
        process = start(address, "--name", "one", "--storage", "/x")
        while True:  # a Ray process of another test may still look for one that used this port before
            connection = silent.accept()[0]
            connection.settimeout(120)
            if connection.recv(4) == b"GET ":
                break
        process.send_signal(signal.SIGINT)
        assert f"detector --cluster {address} --follow one" in output_of(process, code=130)


def test_where_the_result_goes_is_looked_at_before_anything_is_sent(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "c.yaml").write_text("cluster_name: x\nmetadata: {storage: s3://b/studies/}")
    said = output_of(start(str(tmp_path / "c.yaml"), "--json", str(tmp_path / "none" / "x.json")), code=2)
    assert "--json must name a file in an existing folder" in said


def test_what_goes_wrong_there_is_reported_here(address, tmp_path):
    unknown = output_of(start(address, "--follow", "nothing"), code=2)
    assert "a study of that name must be on the cluster" in unknown
    assert "no /nowhere" in output_of(start(address, "--storage", str(tmp_path), "--data", "/nowhere"), code=2)
    dead = "http://127.0.0.1:9"
    assert "the cluster must answer" in output_of(start(dead, "--storage", "/x"), code=2)
