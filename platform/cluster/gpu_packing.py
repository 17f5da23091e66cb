"""How many trials share a GPU: from the memory that the hungriest of them takes, measured, not guessed."""

from collections.abc import Collection, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from platform.cluster.node_setup import Site, on_node
from platform.cluster.ray_runtime import Resources, elsewhere
from platform.errors import Fault, InputError
from platform.space import DEPTH, Space
from platform.training.context import Context

STEPS = 3  # of the trial that is measured: by then the optimizer has its state
MARGIN, CUDA_GIB = 1.25, 0.7  # on top of what was measured: evaluation and luck, and what CUDA takes for each process
MOST = 8  # trials a GPU: more of them wait for each other


def share(peak_gib: float, total_gib: float, cpus_a_gpu: int) -> float:
    """The fraction of a GPU that a trial needs.

    Args:
        peak_gib: The most memory that a trial took.
        total_gib: The GPU's.
        cpus_a_gpu: CPU cores for each GPU: a trial needs one.
    """
    fit = int(total_gib / (peak_gib * MARGIN + CUDA_GIB))
    return 1 / max(1, min(fit, cpus_a_gpu, MOST))


def hungriest(space: Space) -> dict[str, Any]:
    """The start with nothing frozen, and each choice among indices (batch size, image size, width) at its largest."""
    point = {**space.fixed, **space.start}
    for key, domain in space.searched.items():
        indices = [value for value in getattr(domain, "categories", ()) if type(value) in (int, float)]
        if indices:
            point[key] = max(indices)
    return point | ({DEPTH: 0} if DEPTH in point else {})


def measure(
    task: Any,
    space: Space,
    data: Path,
    seed: int,
    resources: Resources,
    site: Site | None = None,
    left_out: Collection[str] = (),
) -> tuple[float, float]:
    """The most memory that the hungriest configuration takes on a GPU in a few steps, and that GPU's, in GiB.

    Args:
        task: The study's.
        space: The study's.
        data: The prepared data.
        seed: The study's.
        resources: The study's.
        site: On a cluster, where nodes find the data.
        left_out: Nodes of it that will not do.

    Raises:
        InputError: It cannot be run.
    """
    import ray

    steps = {"steps": STEPS, "threads": resources.cpus_per_trial}
    context = Context(task.__name__, str(data), seed, space.max_epochs, space.metric, space.mode, **steps)  # type: ignore[arg-type]
    config: dict[str, Any] = {**hungriest(space), "context": asdict(context)}
    train = task.train
    if site is not None:
        config["context"]["site"], train = asdict(site), on_node(train)
    probe = ray.remote(num_cpus=resources.cpus_per_trial, num_gpus=min(1, resources.gpus), max_calls=1)(_peak)
    try:
        return ray.get(probe.options(label_selector=elsewhere(left_out) or None).remote(train, config))
    except ray.exceptions.RayError as error:
        why = (str(error).strip().splitlines() or [type(error).__name__])[-1]
        remedy = "Mend that, or say how much a trial needs: --gpus-per-trial 0.5"
        raise InputError(Fault("a trial must run on a GPU to be measured", why, remedy)) from error


def packed(resources: Resources, peak_gib: float, total_gib: float) -> Resources:
    """As many trials at a time as fit, each with its share of a GPU and of the cores beside it."""
    rooms = [(cpus, gpus) for cpus, gpus in resources.nodes or ((resources.cpus, resources.gpus),) if gpus]
    gpus = share(peak_gib, total_gib, max(1, min(cores // own for cores, own in rooms)))
    cpus = max(1, min(cores // max(1, int(own / gpus)) for cores, own in rooms))
    fitting = replace(resources, gpus_per_trial=gpus, cpus_per_trial=cpus)
    return replace(fitting, concurrent=fitting.most_at_once())


def _peak(train: Any, config: Mapping[str, Any]) -> tuple[float, float]:
    import torch

    train(config)
    if not torch.cuda.is_available():
        return 0.0, 0.0
    total = torch.cuda.get_device_properties(0).total_memory
    return torch.cuda.max_memory_reserved() / 2**30, total / 2**30
