"""TODO."""

import atexit
import gc
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any

import numpy as np
import torch

from platform import project
from platform.training.config_audit import NotAsAskedError, Point


@dataclass(frozen=True)
class Context:
    """What a trial is told besides the point it tries; travels in config["context"].

    Attributes:
        task: Name of the task.
        data: Folder of the prepared data.
        seed: The study's seed, the same for every trial: trials differ by their configuration alone.
        epochs: The budget of the trial.
        metric: The metric that decides.
        mode: "max" or "min".
        threads: CPU threads of the trial.
        baseline: Name of the baseline that this trial is, if any.
        store: Folder of the prefix store, "" for none: every epoch then runs the frozen stages again.
        store_bytes: What it may hold.
        steps: Train so many steps, report nothing and end; 0: a whole trial.
        trial: The trial's id in its study, "" for training without Ray.
        folder: Where checkpoints go, and for training without Ray the metrics.
        known: How many epochs of the trial its study knows: it goes on after them.
        gpus: The share of a GPU that the trial has.
        remote: Address in a bucket that checkpoints are sent to, "" where all nodes see the folder.
        left_out: Nodes that it must not run on, by Ray's ids.
        shelf: Folder where the study's checkpoints share their frozen stages, "" for none: each holds all of its model.
        code: Digest of the code that the study runs, "" for whichever.
        asked: The point that is tried, set by `begin`; of a stage that is trained ahead of a trial, nothing.
    """

    task: str
    data: str
    seed: int
    epochs: int
    metric: str
    mode: str
    threads: int = 1
    baseline: str = ""
    store: str = ""
    store_bytes: int = 0
    shelf: str = ""
    steps: int = 0
    trial: str = ""
    folder: str = ""
    known: int = 0
    gpus: float = 0.0
    remote: str = ""
    left_out: Sequence[str] = ()
    code: str = ""
    asked: Mapping[str, Any] = field(default_factory=dict)


def begin(config: Mapping[str, Any]) -> tuple[Context, dict[str, Any]]:
    """What a trainable does first: takes its configuration apart, and makes the process as if nothing had run in it.

    Workers are reused: starting one takes longer than a short trial. What a trial may have left behind is undone:
    seeds, threads, torch's modes, memory.

    Returns:
        What the study says, and the point that is tried.

    Raises:
        NotAsAskedError: The code here is not the code that the study was begun with.
    """
    context = Context(**config["context"])
    if context.code not in ("", found := project.code_digest()):
        rule = f"all trials must run the study's code, {context.code}; this worker has {found}"
        raise NotAsAskedError(f"{rule}. Was it changed meanwhile? Interrupt the study, and go on with --resume.")
    point = Point({key: value for key, value in config.items() if key != "context"})
    spare_the_libraries()
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    torch.set_num_threads(context.threads)
    torch.set_default_dtype(torch.float32)
    torch.set_grad_enabled(True)
    torch.use_deterministic_algorithms(False)
    torch.manual_seed(context.seed)
    np.random.seed(context.seed)
    random.seed(context.seed)
    return replace(context, asked=point), point


@cache  # once in a process
def spare_the_libraries() -> None:
    """Leaves what is imported out of what gc.collect walks: it would take a quarter of a second of each trial."""
    gc.freeze()
    atexit.register(gc.unfreeze)  # what extension modules miss at the end they complain of
