"""Resources of a study, and the token that protects its Ray."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from platform.cluster import ray_runtime
from platform.cluster.ray_runtime import Resources

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"cpus_per_trial": 5}, "--cpus-per-trial must lie in 1..4"),
        ({"cpus_per_trial": 0}, "--cpus-per-trial must lie in 1..4"),
        ({"gpus_per_trial": 3.0}, "--gpus-per-trial must lie in 0..2"),
        ({"gpus_per_trial": -1.0}, "--gpus-per-trial must lie in 0..2"),
        ({"gpus_per_trial": 1.5}, "whole GPUs"),
        ({"concurrent": 0}, "--concurrent must lie in 1..4"),
        ({"concurrent": 5}, "--concurrent must lie in 1..4"),
    ],
)
def test_what_the_machine_does_not_have_is_a_fault(changes, message):
    asked = {"cpus": 4, "gpus": 2, "cpus_per_trial": 1, "gpus_per_trial": 0.5, "concurrent": 4, **changes}
    [fault] = Resources(**asked).faults()
    assert message in str(fault)


def test_all_cores_work_by_default():
    cores = len(os.sched_getaffinity(0))
    have = ray_runtime.resources(None, 0.0, None)
    assert (have.cpus, have.cpus_per_trial, have.concurrent, have.faults()) == (cores, 1, cores, [])
    assert ray_runtime.resources(cores, 0.0, None).concurrent == 1


@pytest.mark.parametrize("there", [True, False])
def test_the_token_is_readable_by_its_owner_alone(tmp_path, monkeypatch, there):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("RAY_AUTH_TOKEN", "")  # so that it is as it was in the end
    monkeypatch.delenv("RAY_AUTH_TOKEN")
    file = tmp_path / ".ray" / "auth_token"
    if there:  # as Ray itself writes it
        file.parent.mkdir()
        file.write_text("0" * 64)
        file.chmod(0o644)
    ray_runtime.keep_token_secret()
    assert (file.stat().st_mode & 0o777, len(file.read_text())) == (0o600, 64)
    assert list(file.parent.iterdir()) == [file]
    token = file.read_text()
    ray_runtime.keep_token_secret()
    assert file.read_text() == token


def test_where_the_home_cannot_be_written_the_token_is_for_this_ray(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("RAY_AUTH_TOKEN", "")  # so that it is as it was in the end
    monkeypatch.delenv("RAY_AUTH_TOKEN")
    (tmp_path / "home").write_text("a file")
    ray_runtime.keep_token_secret()
    assert len(os.environ["RAY_AUTH_TOKEN"]) == 64


STUDY = """
import os, subprocess, sys
from pathlib import Path

import ray

from platform.cluster import ray_runtime

ray_runtime.connect(ray_runtime.Resources(1, 0, 1, 0.0, 1))
address = ray.get_runtime_context().gcs_address
for token in ((Path.home() / ".ray" / "auth_token").read_text(), "f" * 64):
    environment = {**os.environ, "RAY_AUTH_TOKEN": token, "RAY_NUM_REDIS_GET_RETRIES": "1"}  # else it tries for 20 s
    done = subprocess.run([sys.executable, sys.argv[1], address], env=environment, capture_output=True, text=True)
    print(done.returncode, done.stdout.strip(), "uthent" in done.stderr)
"""
CLIENT = """
import sys

import ray

ray.init(sys.argv[1], logging_level="ERROR")
print(ray.cluster_resources()["CPU"])
"""


def test_who_has_no_token_is_turned_away(tmp_path):
    """From a study's Ray, on a machine with other users."""
    (tmp_path / "client.py").write_text(CLIENT)
    command = [sys.executable, "-c", STUDY, str(tmp_path / "client.py")]
    environment = {**os.environ, "HOME": str(tmp_path)}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.stdout.splitlines() == ["0 1.0 False", "1  True"], done.stdout + done.stderr
