"""The nodes of a cluster, as the driver sees them: which are there, which may come, and waiting for them."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import yaml

from platform.cluster.ray_runtime import CONFIG, Resources, shared_out
from platform.errors import Fault, InputError

TELL_S = 15.0  # between two lines about what is waited for
_KNOWN: dict[str, str] = {}  # the types of nodes, by id: the autoscaler may not answer at the next look


@dataclass(frozen=True)
class Node:
    """A node that is there.

    Attributes:
        id: Ray's.
        address: Its IP address.
        kind: Its node type in the cluster's yaml, "" where Ray was started by hand.
        cpus: Cores for trials.
        gpus: GPUs for trials.
    """

    id: str
    address: str
    kind: str
    cpus: int
    gpus: int


def alive() -> list[Node]:
    """The nodes that are there, the driver's first."""
    import ray

    mine, kinds = ray.get_runtime_context().get_node_id(), _kinds()
    found = [
        Node(
            id=each["NodeID"],
            address=each["NodeManagerAddress"],
            kind=kinds.get(each["NodeID"], ""),
            cpus=int(each["Resources"].get("CPU", 0)),
            gpus=int(each["Resources"].get("GPU", 0)),
        )
        for each in ray.nodes()
        if each["Alive"]
    ]
    return sorted(found, key=lambda node: (node.id != mine, node.address, node.id))


def resources(
    cpus_per_trial: int | None = None, gpus_per_trial: float | None = None, concurrent: int | None = None
) -> Resources:
    """What a study may use of the cluster that is connected: what is there, and what its autoscaler may bring."""
    return shared_out(_rooms(), cpus_per_trial, gpus_per_trial, concurrent, nodes=True)


def wait(have: Resources, seconds: float, tell: Callable[[str], None]) -> None:
    """Waits until a trial has room. An autoscaler is asked for all the nodes that the trials need.

    Args:
        have: Of the study.
        seconds: How long.
        tell: Is told now and then what is waited for.

    Raises:
        InputError: There was no room in time.
    """
    from ray.util.placement_group import placement_group, remove_placement_group

    each = {"CPU": float(have.cpus_per_trial), "GPU": float(have.gpus_per_trial)}
    needed = {key: value for key, value in each.items() if value}
    # Groups, and not request_resources: they go when this process does, and nodes that nobody needs are given back.
    rooms = [placement_group([needed]) for _ in range(have.concurrent)]
    until, told = time.monotonic() + seconds, time.monotonic()
    try:
        while not rooms[0].wait(1.0):
            now = time.monotonic()
            if now > until:
                rule = f"the cluster must have room for a trial within {seconds:g} s (--wait-for-nodes)"
                remedy = "Look at `ray status` on the head: quotas, prices, max_workers; or ask for less a trial."
                raise InputError(Fault(rule, f"none for {_bundle(needed)}; {coming()}", remedy))
            if now - told > TELL_S:
                told = now
                tell(f"Waiting for a node with {_bundle(needed)}: {coming()}")
    finally:
        for room in rooms:
            remove_placement_group(room)


def coming() -> str:
    """What the autoscaler is doing, in words."""
    status = _status()
    if status is None:
        return "no autoscaler answers"
    parts = [f"{one.count} {one.ray_node_type_name} asked for" for one in status.pending_launches]
    parts += [f"{one.ray_node_type_name} at {one.ip_address} is set up" for one in status.pending_nodes]
    failed = [*status.failed_launches, *status.failed_nodes]
    parts += [
        f"{one.ray_node_type_name} failed: {getattr(one, 'details', None) or getattr(one, 'failure_detail', '')}"
        for one in failed[-2:]
    ]
    there = len(status.active_nodes) + len(status.idle_nodes)
    return "; ".join([f"{there} nodes are there", *parts])


def config() -> dict[str, Any]:
    """The cluster's yaml, as its head has it; {} where this is no head that `ray up` made."""
    file = CONFIG.expanduser()
    return yaml.safe_load(file.read_text()) if file.is_file() else {}


def _rooms() -> list[tuple[int, int]]:
    """Cores and GPUs of each node for trials, of those that are there and those that may come."""
    there = alive()
    rooms = [(node.cpus, node.gpus) for node in there]
    for kind, most, cpus, gpus in may_come():
        rooms += [(cpus, gpus)] * max(0, most - sum(node.kind == kind for node in there))
    return [(cpus, gpus) for cpus, gpus in rooms if cpus] or [(0, 0)]


def may_come() -> list[tuple[str, int, int, int]]:
    """Node types that the autoscaler starts, by the cluster's yaml: name, how many at most, cores, GPUs."""
    told = config()
    most, found = int(told.get("max_workers") or 0), []
    for kind, each in (told.get("available_node_types") or {}).items():
        has = each.get("resources") or {}
        if kind != told.get("head_node_type"):
            count = min(most, int(each.get("max_workers", most)))
            found.append((str(kind), count, int(has.get("CPU", 0)), int(has.get("GPU", 0))))
    return found


def _status() -> Any:
    import ray
    from ray.autoscaler.v2.sdk import get_cluster_status

    try:
        return get_cluster_status(ray.get_runtime_context().gcs_address)
    except Exception:  # what it raises is not said; only nodes' names and what is coming are missed
        return None


def kinds() -> list[str]:
    """The node type of each node that is there."""
    return [node.kind for node in alive()]


def _kinds() -> dict[str, str]:
    status = _status()
    nodes = [] if status is None else [*status.active_nodes, *status.idle_nodes]
    # One that was started by hand is called after its id.
    named = [node for node in nodes if node.node_id not in node.ray_node_type_name]
    _KNOWN.update({node.node_id: node.ray_node_type_name for node in named})
    return _KNOWN


def _bundle(needed: Mapping[str, float]) -> str:
    return " and ".join(f"{value:g} {key}" for key, value in needed.items())
