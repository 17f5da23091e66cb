"""Preparation of a cluster for a study: room for a trial, checked nodes, and data where the nodes find it."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from rich.console import Console
from rich.markup import escape

from platform.cluster import node_setup, nodes, preflight
from platform.cluster.costs import DEFAULT, CostMeter
from platform.cluster.node_setup import Site
from platform.cluster.ray_runtime import Resources
from platform.errors import Fault, InputError, raise_if_any
from platform.runner.plan import Plan
from platform.storage import filesystem
from platform.storage.manifest import MANIFEST, seal
from platform.study.settings import paths_in

DATA = ".data"  # folder of a bucket for prepared data


@dataclass
class ClusterSetup:
    """Cluster that is ready for a study.

    Attributes:
        site: Places of the study, for its trials.
        left_out: Why no trial may run on a node, by the node's id. Grows when nodes turn out to be unfit later.
        meter: Costs of the cluster's nodes, from now on.
    """

    site: Site
    left_out: dict[str, str]
    meter: CostMeter
    _checked: int = 0  # nodes that were left out when the cluster was last asked for others

    def why_no_node(self, resources: Resources) -> str:
        """Return why no trial can run any more, "" if a fit node is there or may come."""
        if len(self.left_out) == self._checked:
            return ""
        self._checked = len(self.left_out)
        large_enough = [node for node in nodes.alive() if resources.fits(node.cpus, node.gpus)]
        if nodes.autoscaled_types() or any(node.id not in self.left_out for node in large_enough):
            return ""
        return f"no node of the cluster can run a trial: {'; '.join(dict.fromkeys(self.left_out.values()))}"


def with_cluster_resources(plan: Plan, console: Console, wait: bool = True) -> Plan:
    """Return a plan with the resources of the connected cluster, which has room for a trial if `wait` is set.

    Raises:
        InputError: The request does not fit the cluster, a price is missing, or there was no room in time.
    """
    request = plan.request
    resources = nodes.resources(request.cpus_per_trial, request.gpus_per_trial, request.concurrent)
    raise_if_any([*resources.faults(), *_price_faults(plan)])
    if wait:
        nodes.wait(resources, request.wait_for_nodes, lambda text: console.print(text, highlight=False, soft_wrap=True))
    return replace(plan, resources=resources)


def set_up(plan: Plan, data: Path, console: Console) -> ClusterSetup:
    """Check every node of the connected cluster, and send the prepared data where all nodes find it.

    Raises:
        InputError: No node is fit, or the storage does not take the data.
    """
    request = plan.request
    meter = CostMeter(prices(), request.max_cost)
    meter.update(nodes.node_types)
    digest = seal(data)
    size = sum(file.stat().st_size for file in data.rglob("*") if file.is_file())
    with filesystem.as_input_error("--storage must be reachable and writable"):
        findings = preflight.check(nodes.alive(), request.storage, files_of(request.settings), size)
        place = _publish(data, digest, request.storage)
    console.print(preflight.table(findings))
    large_enough = [finding for finding in findings if plan.resources.fits(finding.node.cpus, finding.node.gpus)]
    unfit = [finding for finding in large_enough if finding.faults]
    if large_enough and len(unfit) == len(large_enough):
        raise InputError(*map(_node_fault, unfit))
    for fault in map(_node_fault, unfit):
        console.print(f"[yellow]No trial runs on a node: {escape(str(fault))}[/]", soft_wrap=True)
    site = Site(
        study=request.id,
        data=place,
        digest=digest,
        remote=request.remote,
        reuse=not request.no_reuse,
        store_gb=request.store_gb,
        environment=node_setup.environment(),
    )
    left_out = {finding.node.id: "; ".join(finding.faults) for finding in unfit}
    return ClusterSetup(site, left_out, meter)


def prices() -> dict[str, float]:
    """Return US dollars an hour by node type, from the yaml of the cluster."""
    written = (nodes.config().get("metadata") or {}).get("prices") or {}
    return {str(kind): float(price) for kind, price in written.items()}


def files_of(settings: Sequence[str]) -> list[str]:
    """Return the files and folders that settings name."""
    paths = [path for setting in settings for path in paths_in(setting)]
    return [path for path in paths if path.startswith("/") and Path(path).exists()]


def _price_faults(plan: Plan) -> list[Fault]:
    if plan.request.max_cost is None:
        return []
    priced = prices()
    kinds = {node.kind for node in nodes.alive()} | set(nodes.config().get("available_node_types") or {})
    missing = [] if DEFAULT in priced else sorted(kind or "nodes without a type" for kind in kinds - priced.keys())
    rule = "--max-cost needs the price of each node type"
    remedy = "Add it to metadata: prices in the cluster's yaml, where default is the price of all other types."
    return [Fault(rule, f"none of {', '.join(missing)}", remedy)] if missing else []


def _publish(data: Path, digest: str, storage: str) -> str:
    """Return the place from which nodes get prepared data: its own if all nodes see it, else a bucket it is sent to."""
    if not filesystem.is_bucket(storage):
        return str(data)
    target = f"{storage}/{DATA}/{digest}"
    if filesystem.read(f"{target}/{MANIFEST}") is None:
        filesystem.upload(data, target)
    filesystem.record_origin(data, target)
    return target


def _node_fault(finding: preflight.Finding) -> Fault:
    name = finding.answer.host if finding.answer else finding.node.address
    remedy = "Repair it, or take it out of the cluster."
    if any(text.startswith("storage") for text in finding.faults):
        remedy = "Use --storage with a folder that all nodes see at the same path, or a bucket: s3://… or gs://…"
    return Fault("a node must have what the driver has", f"{name}: {'; '.join(finding.faults)}", remedy)
