"""Context of a trial: what its study passes to a trainable, and the clean start of a trial in a reused worker."""

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
from platform.training.config_audit import ConfigMismatchError, TrackedConfig


@dataclass(frozen=True)
class Context:
    """Everything that an attempt at a trial receives besides its config; travels in config["context"].

    Attributes:
        task: Name of the task.
        data: Folder of the prepared data.
        seed: Seed of the training: the study's, so that trials differ by their config alone, or a confirmation's own.
        epochs: Epochs of a full training.
        metric: Metric that decides.
        mode: "max" or "min".
        threads: CPU threads of the trial.
        baseline: Name of the baseline that this trial is, "" for none.
        store: Folder of the feature store, "" for none: frozen stages are then run again in every epoch.
        store_bytes: Size limit of the feature store.
        steps: Train this number of steps, report nothing and end; 0: train a whole trial.
        trial: Id of the trial in its study, "" for training without Ray.
        folder: Folder of the checkpoints, and of the metrics in training without Ray.
        known: Number of epochs of the trial that its study has recorded; the attempt continues after them.
        gpus: Share of a GPU that the trial has.
        remote: Address in a bucket to which checkpoints are sent, "" if all nodes see the folder.
        left_out: Ray's ids of the nodes on which the trial must not run.
        shared_stages: Folder in which the study's checkpoints share their frozen stages, "" for none: each checkpoint
            then holds all of its model.
        code: Digest of the code that the study runs, "" for any.
        config: Config of the trial, set by `begin`; empty while a stage is trained ahead of a trial.
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
    shared_stages: str = ""
    steps: int = 0
    trial: str = ""
    folder: str = ""
    known: int = 0
    gpus: float = 0.0
    remote: str = ""
    left_out: Sequence[str] = ()
    code: str = ""
    config: Mapping[str, Any] = field(default_factory=dict)


def begin(config: Mapping[str, Any]) -> tuple[Context, dict[str, Any]]:
    """Split a trainable's config into context and parameters, and reset the process; a trainable calls this first.

    Workers are reused, since starting one takes longer than a short trial. Whatever an earlier trial may have left
    behind is undone: seeds, threads, modes of torch, memory.

    Returns:
        Context of the trial, and its config.

    Raises:
        ConfigMismatchError: The code on this node is not the code with which the study was started.
    """
    context = Context(**config["context"])
    if context.code not in ("", found := project.code_digest()):
        rule = f"all trials must run the study's code, {context.code}; this worker has {found}"
        raise ConfigMismatchError(f"{rule}. Was it changed since? Interrupt the study, and continue it with --resume.")
    parameters = TrackedConfig({key: value for key, value in config.items() if key != "context"})
    freeze_imports()
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
    return replace(context, config=parameters), parameters


@cache  # once per process
def freeze_imports() -> None:
    """Exclude everything imported so far from garbage collection, which would take a quarter of a second per trial."""
    gc.freeze()
    atexit.register(gc.unfreeze)  # extension modules complain at exit about objects that are gone
