"""What a study needs on a cluster before its first trial: room, nodes that will do, and its data where they find it."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from rich.console import Console
from rich.markup import escape

from platform.cluster import node_setup, nodes, preflight
from platform.cluster.costs import DEFAULT, Meter
from platform.cluster.node_setup import Site
from platform.cluster.ray_runtime import Resources
from platform.errors import Fault, InputError, raise_if_any
from platform.runner.plan import Plan
from platform.storage import filesystem
from platform.storage.manifest import MANIFEST, seal
from platform.study.settings import paths_in

DATA = ".data"  # a folder of a bucket: prepared data


@dataclass
class Rollout:
    """A study on a cluster that is ready for it.

    Attributes:
        site: What trials are told of its places.
        left_out: Nodes that no trial runs on, and why; by id. Grows when later ones will not do either.
        meter: What its nodes cost, from now on.
        looked: How many nodes were left out when it was last asked whether any is left.
    """

    site: Site
    left_out: dict[str, str]
    meter: Meter
    looked: int = 0

    def nothing_left(self, have: Resources) -> str:
        """Why no trial can run any more, "" while one can: on a node that is there or may come."""
        if len(self.left_out) == self.looked:
            return ""
        self.looked = len(self.left_out)
        there = [node for node in nodes.alive() if have.fits(node.cpus, node.gpus)]
        if nodes.may_come() or any(node.id not in self.left_out for node in there):
            return ""
        return f"no node will do: {'; '.join(dict.fromkeys(self.left_out.values()))}"


def on_cluster(plan: Plan, console: Console, wait: bool = True) -> Plan:
    """A plan with the resources of the cluster that is connected; waits until a trial has room there, if told to.

    Raises:
        InputError: It asks for what the cluster does not have, or there was no room in time.
    """
    request = plan.request
    have = nodes.resources(request.cpus_per_trial, request.gpus_per_trial, request.concurrent)
    raise_if_any([*have.faults(), *_price_faults(plan)])
    if wait:
        nodes.wait(have, request.wait_for_nodes, lambda text: console.print(text, highlight=False, soft_wrap=True))
    return replace(plan, resources=have)


def begin(plan: Plan, data: Path, console: Console) -> Rollout:
    """Asks every node whether it will do, and sends the data where all of them find it.

    Args:
        plan: The study's.
        data: The prepared data.
        console: Shows the table of the nodes.

    Raises:
        InputError: No node will do, or the storage does not take the data.
    """
    request = plan.request
    meter = Meter(prices(), request.max_cost)
    meter.look(nodes.kinds)
    digest = seal(data)
    size = sum(file.stat().st_size for file in data.rglob("*") if file.is_file())
    with filesystem.told("--storage must be reached and written", "Check the address, and the credentials for it."):
        findings = preflight.check(nodes.alive(), request.storage, files_of(request.settings), size)
        place = _publish(data, digest, request.storage)
    console.print(preflight.table(findings))
    able = [one for one in findings if plan.resources.fits(one.node.cpus, one.node.gpus)]
    bad = [one for one in able if one.faults]
    if able and len(bad) == len(able):
        raise InputError(*[_fault(one) for one in bad])
    for fault in map(_fault, bad):
        console.print(f"[yellow]Left out, {escape(str(fault))}[/]", soft_wrap=True)
    site = Site(
        study=request.id,
        data=place,
        digest=digest,
        remote=request.remote,
        reuse=not request.no_reuse,
        store_gb=request.store_gb,
        alike=node_setup.alike(),
    )
    left_out = {one.node.id: "; ".join(one.faults) for one in bad}
    return Rollout(site, left_out, meter)


def prices() -> dict[str, float]:
    """US dollars an hour by node type, of the yaml that the cluster was made from."""
    told = (nodes.config().get("metadata") or {}).get("prices") or {}
    return {str(kind): float(price) for kind, price in told.items()}


def files_of(settings: Sequence[str]) -> list[str]:
    """The files and folders that settings name."""
    paths = [path for setting in settings for path in paths_in(setting)]
    return [path for path in paths if path.startswith("/") and Path(path).exists()]


def _price_faults(plan: Plan) -> list[Fault]:
    if plan.request.max_cost is None:
        return []
    priced = prices()
    kinds = {node.kind for node in nodes.alive()} | set(nodes.config().get("available_node_types") or {})
    missing = [] if DEFAULT in priced else sorted(kind or "nodes without a type" for kind in kinds - priced.keys())
    rule = "--max-cost needs the price of each node type"
    remedy = "Write it into the cluster's yaml, metadata: prices; default is the price of all that are not named."
    return [Fault(rule, f"none of {', '.join(missing)}", remedy)] if missing else []


def _publish(data: Path, digest: str, place: str) -> str:
    """Where nodes bring prepared data from: where it is, if all see it there, else a bucket that it is sent to."""
    if not filesystem.is_bucket(place):
        return str(data)
    target = f"{place}/{DATA}/{digest}"
    if filesystem.read(f"{target}/{MANIFEST}") is None:
        filesystem.send(data, target)
    filesystem.note_origin(data, target)
    return target


def _fault(one: preflight.Finding) -> Fault:
    name = one.answer.host if one.answer else one.node.address
    remedy = "Mend it, or take it out of the cluster."
    if any(text.startswith("storage") for text in one.faults):
        remedy = "Use --storage with a folder that all nodes see at the same path, or a bucket: s3://… or gs://…"
    return Fault("a node must have what the driver has", f"{name}: {'; '.join(one.faults)}", remedy)
