"""Check of a cluster's nodes: each fault is found and reported."""

import os
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from rich.console import Console

from platform.cluster import node_setup, nodes, preflight
from platform.cluster.nodes import Node
from platform.cluster.preflight import ROOM, SKEW_S, Answer
from platform.cluster.ray_runtime import Resources
from platform.errors import InputError

NODE = Node("n1", "10.0.0.1", "worker", 4, 1)
DATA = 10 << 20
GOOD = Answer("host", node_setup.environment(), "Tesla T4, driver 570.1", "13.0", free=ROOM + DATA, time=1000.0)


def judged(is_token_seen=True, **changes):
    return preflight._evaluate(NODE, (replace(GOOD, **changes), 1001.0), 999.0, DATA, is_token_seen)


def test_a_good_node_will_do():
    assert judged().faults == ()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"environment": {**node_setup.environment(), "python": "3.9.1"}}, "python 3.9.1, not"),
        ({"environment": {**node_setup.environment(), "torch": "2.0.0"}}, "torch 2.0.0, not"),
        ({"environment": {**node_setup.environment(), "project": "other"}}, "project other, not"),
        ({"gpu_error": "no driver"}, "torch cannot use its 1 GPUs: no driver"),
        ({"storage_error": "read-only"}, "storage: read-only"),
        ({"free": ROOM}, "2048 MiB free, 2058 MiB needed"),
        ({"time": 1001.0 + SKEW_S + 1}, "its clock is off by +61 s"),
        ({"time": 999.0 - SKEW_S - 1}, "its clock is off by -61 s"),
        ({"missing": ("/w.safetensors",)}, "lacks /w.safetensors"),
    ],
)
def test_each_fault_is_found(changes, message):
    [fault] = judged(**changes).faults
    assert message in fault


@pytest.mark.parametrize("changes", [{"time": 1000.9}, {"time": 1001.0 + SKEW_S - 1}, {"time": 999.0 - SKEW_S + 1}])
def test_a_slow_answer_is_no_wrong_clock(changes):
    assert judged(**changes).faults == ()


def test_a_node_that_writes_elsewhere_is_found():
    [fault] = judged(is_token_seen=False).faults
    assert fault == "storage: the driver does not see what the node writes"
    assert judged().faults == ()


def test_a_folder_that_is_another_one_on_the_node_is_found(tmp_path):
    assert preflight._answer(str(tmp_path), "n1", [], 0).storage_error == "it is another storage than the driver's"
    (tmp_path / "driver").write_text("driver")
    assert preflight._answer(str(tmp_path), "n1", [], 0).storage_error == ""
    assert (tmp_path / "n1").read_text() == "node"


def test_a_node_that_does_not_answer_is_reported():
    assert preflight._evaluate(NODE, None, 0.0, 0, False).faults == ("no answer within 120 s",)


@pytest.fixture(scope="module")
def cluster():
    """A head, and a node that declares a GPU that does not exist."""
    import ray
    from ray.cluster_utils import Cluster

    os.environ["PYTHONPATH"] = str(Path(__file__).parents[2])
    found = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    found.add_node(num_cpus=1, num_gpus=1)
    ray.init(found.address, log_to_driver=False)
    yield found
    ray.shutdown()
    found.shutdown()


def test_real_nodes_are_asked(cluster, tmp_path):
    there = nodes.alive()
    assert sorted((node.cpus, node.gpus, node.kind) for node in there) == [(1, 0, ""), (1, 1, "")]
    gone = Node("a" * 56, "10.0.0.9", "", 1, 0)
    weights = tmp_path / "weights"
    found = preflight.check([*there, gone], str(tmp_path), [str(weights)], DATA)
    by_id = {one.node.id: one for one in found}
    head, worker = sorted(there, key=lambda node: node.gpus)
    assert by_id[head.id].faults == (f"lacks {weights}",)
    weights.touch()
    assert preflight.check([head], str(tmp_path), [str(weights)], DATA)[0].faults == ()
    assert any("torch cannot use its 1 GPUs" in fault for fault in by_id[worker.id].faults)
    assert by_id[gone.id].faults
    assert [path.name for path in tmp_path.iterdir()] == ["weights"], "what it wrote is taken away"
    console = Console(width=200, record=True, file=None, quiet=False)
    console.print(preflight.table(found))
    lines = console.export_text().splitlines()
    assert len(lines) >= 4
    assert sum("as here" in line for line in lines) == 2


def test_what_nodes_have_is_what_a_study_gets(cluster):
    have = nodes.resources(None, 0.0, None)
    assert (have.cpus, have.gpus, have.concurrent, have.cpus_per_trial) == (2, 1, 2, 1)
    assert nodes.resources().concurrent == 1, "a trial a GPU"
    assert nodes.resources(gpus_per_trial=0.5).concurrent == 1, "the node has one core"


def test_nodes_that_an_autoscaler_may_bring_count(cluster, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    kinds = {"head": {"resources": {"CPU": 9}, "max_workers": 9}, "worker": {"resources": {"CPU": 8, "GPU": 2}}}
    bootstrap = {"head_node_type": "head", "max_workers": 3, "available_node_types": kinds}
    (tmp_path / "ray_bootstrap_config.yaml").write_text(yaml.safe_dump(bootstrap))
    have = nodes.resources(gpus_per_trial=0.5)
    assert (have.gpus, have.cpus, have.cpus_per_trial) == (1 + 3 * 2, 2 + 3 * 8, 1)
    assert have.concurrent == 1 + 3 * 4, "and one on the node with one core"
    kinds["worker"]["max_workers"] = 1
    (tmp_path / "ray_bootstrap_config.yaml").write_text(yaml.safe_dump(bootstrap))
    assert nodes.resources(gpus_per_trial=0.5).gpus == 1 + 2


def test_room_is_waited_for_and_what_does_not_come_is_reported(cluster):
    messages: list[str] = []
    have = Resources(2, 1, 1, 1.0, 1, nodes=((1, 0), (1, 1)))
    nodes.wait(have, 20, messages.append)
    with pytest.raises(InputError) as failed:
        nodes.wait(replace(have, cpus_per_trial=2), 2, messages.append)
    assert "none for 2 CPU and 1 GPU; 2 nodes are there" in str(failed.value)
    cluster.add_node(num_cpus=2, num_gpus=1)
    nodes.wait(replace(have, cpus_per_trial=2), 60, messages.append)
