"""Nodes of a cluster as the driver sees them: existing ones, those that may be added, and waiting for them."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import yaml

from platform.cluster.ray_runtime import CONFIG, Resources, fill_in_resources
from platform.errors import Fault, InputError

MESSAGE_INTERVAL_S = 15.0  # seconds between two messages while waiting
_NODE_TYPES: dict[str, str] = {}  # node id → type; kept because the autoscaler does not always answer


@dataclass(frozen=True)
class Node:
    """A node that is alive.

    Attributes:
        id: Id that Ray gave it.
        address: IP address.
        kind: Node type in the cluster's yaml, "" if Ray was started by hand.
        cpus: Cores for trials.
        gpus: GPUs for trials.
    """

    id: str
    address: str
    kind: str
    cpus: int
    gpus: int


def alive() -> list[Node]:
    """Return the nodes that are alive, the driver's first."""
    import ray

    own_id, types = ray.get_runtime_context().get_node_id(), _node_types_by_id()
    nodes = [
        Node(
            id=node["NodeID"],
            address=node["NodeManagerAddress"],
            kind=types.get(node["NodeID"], ""),
            cpus=int(node["Resources"].get("CPU", 0)),
            gpus=int(node["Resources"].get("GPU", 0)),
        )
        for node in ray.nodes()
        if node["Alive"]
    ]
    return sorted(nodes, key=lambda node: (node.id != own_id, node.address, node.id))


def node_types() -> list[str]:
    """Return the node type of each node that is alive."""
    return [node.kind for node in alive()]


def resources(
    cpus_per_trial: int | None = None, gpus_per_trial: float | None = None, concurrent: int | None = None
) -> Resources:
    """Return what a study may use of the connected cluster: its nodes and those that the autoscaler may add."""
    existing = alive()
    sizes = [(node.cpus, node.gpus) for node in existing]
    for kind, maximum, cpus, gpus in autoscaled_types():
        sizes += [(cpus, gpus)] * max(0, maximum - sum(node.kind == kind for node in existing))
    with_cores = [(cpus, gpus) for cpus, gpus in sizes if cpus] or [(0, 0)]
    return fill_in_resources(with_cores, cpus_per_trial, gpus_per_trial, concurrent, is_cluster=True)


def wait(resources: Resources, seconds: float, show: Callable[[str], None]) -> None:
    """Wait until there is room for a trial. The autoscaler is asked for the nodes that all concurrent trials need.

    Args:
        resources: Resources of the study.
        seconds: Time limit.
        show: Shows a line to the user; called now and then while waiting.

    Raises:
        InputError: There was no room in time.
    """
    from ray.util.placement_group import placement_group, remove_placement_group

    requested = {"CPU": float(resources.cpus_per_trial), "GPU": float(resources.gpus_per_trial)}
    bundle = {key: value for key, value in requested.items() if value}
    # Placement groups rather than request_resources: they end with this process, and idle nodes are then released.
    groups = [placement_group([bundle]) for _ in range(resources.concurrent)]
    deadline, last_message = time.monotonic() + seconds, time.monotonic()
    try:
        while not groups[0].wait(1.0):
            now = time.monotonic()
            if now > deadline:
                rule = f"the cluster must have room for a trial within {seconds:g} s (--wait-for-nodes)"
                remedy = "Check quotas, prices and max_workers in `ray status` on the head, or ask for less per trial."
                raise InputError(Fault(rule, f"none for {_bundle_text(bundle)}; {autoscaler_status()}", remedy))
            if now - last_message > MESSAGE_INTERVAL_S:
                last_message = now
                show(f"Waiting for a node with {_bundle_text(bundle)}: {autoscaler_status()}")
    finally:
        for group in groups:
            remove_placement_group(group)


def autoscaler_status() -> str:
    """Return a sentence on the nodes that are there, requested, being set up or failed."""
    status = _cluster_status()
    if status is None:
        return "no autoscaler answers"
    parts = [f"{launch.count} {launch.ray_node_type_name} requested" for launch in status.pending_launches]
    parts += [f"{node.ray_node_type_name} at {node.ip_address} is being set up" for node in status.pending_nodes]
    failed = [*status.failed_launches, *status.failed_nodes]
    parts += [
        f"{item.ray_node_type_name} failed: {getattr(item, 'details', None) or getattr(item, 'failure_detail', '')}"
        for item in failed[-2:]
    ]
    count = len(status.active_nodes) + len(status.idle_nodes)
    return "; ".join([f"{count} nodes are there", *parts])


def config() -> dict[str, Any]:
    """Return the cluster's yaml from its head; {} if this machine is no head that `ray up` set up."""
    file = CONFIG.expanduser()
    return yaml.safe_load(file.read_text()) if file.is_file() else {}


def autoscaled_types() -> list[tuple[str, int, int, int]]:
    """Return name, maximal count, cores and GPUs of each node type that the autoscaler may start."""
    settings = config()
    total, types = int(settings.get("max_workers") or 0), []
    for kind, node_type in (settings.get("available_node_types") or {}).items():
        size = node_type.get("resources") or {}
        if kind != settings.get("head_node_type"):
            count = min(total, int(node_type.get("max_workers", total)))
            types.append((str(kind), count, int(size.get("CPU", 0)), int(size.get("GPU", 0))))
    return types


def _cluster_status() -> Any:
    import ray
    from ray.autoscaler.v2.sdk import get_cluster_status

    try:
        return get_cluster_status(ray.get_runtime_context().gcs_address)
    except Exception:  # its exceptions are not documented; without it only node types and progress are missing
        return None


def _node_types_by_id() -> dict[str, str]:
    status = _cluster_status()
    nodes = [] if status is None else [*status.active_nodes, *status.idle_nodes]
    # A node that was started by hand has a type named after its id.
    typed = [node for node in nodes if node.node_id not in node.ray_node_type_name]
    _NODE_TYPES.update({node.node_id: node.ray_node_type_name for node in typed})
    return _NODE_TYPES


def _bundle_text(bundle: Mapping[str, float]) -> str:
    return " and ".join(f"{value:g} {key}" for key, value in bundle.items())
