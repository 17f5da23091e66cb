"""Number of trials that share a GPU, from the measured memory of the config that needs the most."""

from collections.abc import Collection, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from platform.cluster.node_setup import Site, on_node
from platform.cluster.ray_runtime import Resources, node_selector
from platform.errors import Fault, InputError, last_line
from platform.space import DEPTH, Space
from platform.training.context import Context

STEPS = 3  # training steps that are measured; the optimizer has its state by then
MARGIN = 1.25  # factor on the measured memory, for the evaluation and variation between batches
CUDA_GIB = 0.7  # memory that CUDA takes for each process
MAX_TRIALS_PER_GPU = 8  # with more, trials only wait for each other


def gpu_fraction(peak_gib: float, total_gib: float, cpus_per_gpu: int) -> float:
    """Return a trial's fraction of a GPU, from peak and total memory in GiB. A trial needs at least one core."""
    fit = int(total_gib / (peak_gib * MARGIN + CUDA_GIB))
    return 1 / max(1, min(fit, cpus_per_gpu, MAX_TRIALS_PER_GPU))


def largest_config(space: Space) -> dict[str, Any]:
    """Return the start config with nothing frozen and each numeric choice, such as batch size, at its maximum."""
    config = {**space.fixed, **space.start}
    for key, domain in space.searched.items():
        numbers = [value for value in getattr(domain, "categories", ()) if type(value) in (int, float)]
        if numbers:
            config[key] = max(numbers)
    return config | ({DEPTH: 0} if DEPTH in config else {})


def measure(
    task: Any,
    space: Space,
    data: Path,
    seed: int,
    resources: Resources,
    site: Site | None = None,
    left_out: Collection[str] = (),
) -> tuple[float, float]:
    """Train the largest config for a few steps on a GPU and return its peak memory and the GPU's memory, in GiB.

    `site` says where the nodes of a cluster find the data; `left_out` has the ids of nodes that must not be used.

    Raises:
        InputError: The training failed.
    """
    import ray

    steps = {"steps": STEPS, "threads": resources.cpus_per_trial}
    context = Context(task.__name__, str(data), seed, space.max_epochs, space.metric, space.mode, **steps)  # type: ignore[arg-type]
    config: dict[str, Any] = {**largest_config(space), "context": asdict(context)}
    train = task.train
    if site is not None:
        config["context"]["site"], train = asdict(site), on_node(train)
    probe = ray.remote(num_cpus=resources.cpus_per_trial, num_gpus=min(1, resources.gpus), max_calls=1)(_peak_memory)
    try:
        return ray.get(probe.options(label_selector=node_selector(left_out) or None).remote(train, config))
    except ray.exceptions.RayError as error:
        reason = last_line(error, type(error).__name__)
        remedy = "Correct that, or say which fraction of a GPU a trial needs: --gpus-per-trial 0.5"
        raise InputError(Fault("a trial must run on a GPU to be measured", reason, remedy)) from error


def pack(resources: Resources, peak_gib: float, total_gib: float) -> Resources:
    """Return the resources with as many concurrent trials as fit, each with its fraction of a GPU and of the cores."""
    gpu_nodes = [(cpus, gpus) for cpus, gpus in resources.nodes or ((resources.cpus, resources.gpus),) if gpus]
    fraction = gpu_fraction(peak_gib, total_gib, max(1, min(cpus // gpus for cpus, gpus in gpu_nodes)))
    cpus = max(1, min(cpus // max(1, int(gpus / fraction)) for cpus, gpus in gpu_nodes))
    packed = replace(resources, gpus_per_trial=fraction, cpus_per_trial=cpus)
    return replace(packed, concurrent=packed.max_concurrent())


def _peak_memory(train: Any, config: Mapping[str, Any]) -> tuple[float, float]:
    import torch

    train(config)
    if not torch.cuda.is_available():
        return 0.0, 0.0
    total = torch.cuda.get_device_properties(0).total_memory
    return torch.cuda.max_memory_reserved() / 2**30, total / 2**30
