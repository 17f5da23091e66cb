"""The one training loop: restore, thaw, train, validate, report, checkpoint.

Every epoch draws its randomness from (seed, epoch) alone, the learning rate is a function of the step, and the
optimizer's groups never change; so a trial resumed at any epoch goes on exactly as if it had never stopped.
"""

import atexit
import contextlib
import gc
import itertools
import json
import math
import random
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from platform import checkpoints, project, schedules
from platform.attestation import FROZEN, TRAINED, Attestation, NotAsAskedError, Point, frozen_note
from platform.devices import device
from platform.examples import Batch, Examples, Look, whole
from platform.features import Store
from platform.feed import Feed
from platform.freezing import Freezer, Freezing, Stage, parameter_groups
from platform.reporters import Epoch, Reporter, ToFolder, ToRay
from platform.speed import Speed, choose


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


@dataclass(frozen=True)
class Optimization:
    """How a model learns.

    Attributes:
        lr_head: Peak learning rate of what is not pretrained.
        backbone_ratio: The backbone's rate as a fraction of lr_head.
        layer_decay: Factor on the rate for each backbone stage further from the top.
        weight_decay: AdamW's, on weights; norms and biases are spared.
        schedule: One of schedules.NAMES.
        warmup: Fraction of the budget over which the rate rises.
        clip_norm: Largest gradient norm.
    """

    lr_head: float
    backbone_ratio: float = 0.1
    layer_decay: float = 1.0
    weight_decay: float = 1e-4
    schedule: str = "one_cycle"
    warmup: float = 0.0
    clip_norm: float = 5.0

    @classmethod
    def of(cls, point: Mapping[str, Any]) -> "Optimization":
        """What a configuration says of it, by the names above."""
        return cls(**{each.name: point[each.name] for each in fields(cls) if each.name in point})


class NonFiniteLossError(RuntimeError):
    """The loss, its gradient or the score became NaN or infinite; the trial ends there."""


def fit(
    model: nn.Module,
    stages: Sequence[Stage],
    *,
    examples: Examples,
    loss: Callable[[nn.Module, Batch], dict[str, Tensor]],
    batches: Callable[[np.random.Generator], Iterable[np.ndarray]],
    steps_per_epoch: int,
    evaluate: Callable[[nn.Module, Look], dict[str, float]],
    freezing: Freezing,
    optimization: Optimization,
    context: Context,
    card: dict[str, Any],
    assets: Path | None = None,
    patience: int | None = None,
    reporter: Reporter | None = None,
) -> None:
    """Trains a model, reporting and checkpointing after each epoch. Where nothing can ever learn, it only evaluates.

    Args:
        model: The model; moved to the GPU if the trial has one. If it is `Cuttable`, its frozen stages need not be run
            again for what is in the prefix store.
        stages: Its stages, from input to output.
        examples: The data.
        loss: (model, batch) → {"loss": what is minimised, parts…}, scalars.
        batches: generator → the numbers of the examples in each of the epoch's batches; all its randomness must come
            from the generator.
        steps_per_epoch: Batches in an epoch.
        evaluate: (model, look) → metrics on the validation split, whose examples `look` gives by their numbers; must
            hold the context's metric.
        freezing: What is frozen and when it thaws.
        optimization: How it learns.
        context: What the study says.
        card: What the task's `load` needs to use the saved model; JSON.
        assets: A folder of files that `load` needs besides, a tokenizer say; kept with each checkpoint.
        patience: Epochs without a new best score after which to stop early; None: train to the end.
        reporter: Where metrics and checkpoints go; None: where the context says.

    Raises:
        NonFiniteLossError: The loss or its gradient is NaN or infinite.
        FrozenChangedError: A frozen tensor changed.
        NotFrozenError: A frozen stage is in training mode.
        NotAsAskedError: The training is another than the context's configuration asks for.
    """
    model.to(device())
    freezer = Freezer(model, stages, freezing, context.epochs)
    speed = _speed(model, freezer, examples, loss, batches)
    speed.apply(model)
    store = Store(Path(context.store), context.store_bytes) if context.store else None
    feed = Feed(model, freezer, examples, store, speed)
    rates = {
        "lr_head": optimization.lr_head,
        "lr_backbone": optimization.lr_head * optimization.backbone_ratio,
        "layer_decay": optimization.layer_decay,
    }
    groups = parameter_groups(model, stages, weight_decay=optimization.weight_decay, **rates)
    optimizer = torch.optim.AdamW(groups, fused=True)
    beside = {"seed": context.seed, "data": Path(context.data).name, "code": project.code_digest()}
    attested = Attestation(context.asked, beside, optimization, freezer, optimizer)
    place = Path(context.folder)
    reporter = reporter or (ToRay(place, context.known, context.remote) if context.trial else ToFolder(place))
    scores: list[float] = []  # after each epoch; greater is better
    first = 0
    state = None if context.steps else reporter.restore(lambda place: checkpoints.restore(place, model, optimizer))
    if state:
        first, scores = state["epoch"], state["scores"]
        freezer.restore(state["freezing"])
        if state["last"]:  # it ended early, and was interrupted before that was taken note of
            return

    with contextlib.closing(feed):
        for epoch in range(first, context.epochs):
            started = time.monotonic()
            freezer.advance(epoch, scores)
            freezer.train()
            feed.prepare(epoch, freezer.lasting(epoch))
            torch.manual_seed(context.seed * 100_003 + epoch)
            generator = np.random.default_rng((context.seed, epoch))
            seen: dict[str, list[float]] = defaultdict(list)
            learning = [parameter for parameter in model.parameters() if parameter.requires_grad]
            asked = itertools.islice(batches(generator) if learning else (), context.steps or None)
            for index, numbers in enumerate(asked):
                step = epoch * steps_per_epoch + index
                _set_rates(optimizer, freezer, optimization, step, steps_per_epoch, context.epochs)
                with speed.autocast():
                    parts = loss(model, feed.batch("train", numbers))
                losses = {name: float(part.detach()) for name, part in parts.items()}
                for name, value in losses.items():
                    seen[name].append(value)
                attested.batch(numbers, losses, parts["loss"].dtype)
                try:
                    _step(learning, optimizer, parts["loss"], optimization.clip_norm)
                except NonFiniteLossError as error:
                    where = f"epoch {epoch + 1}, step {step + 1}, with {json.dumps(card.get('config', {}))}"
                    raise NonFiniteLossError(f"{error} at {where}") from None
            if context.steps:
                return
            train_seconds = time.monotonic() - started

            model.eval()
            with torch.inference_mode(), speed.autocast():
                metrics = evaluate(model, partial(feed.batch, "val"))
            if not math.isfinite(score := metrics[context.metric]):
                where = f"after epoch {epoch + 1}, with {json.dumps(card.get('config', {}))}"
                raise NonFiniteLossError(f"the score must be finite; {context.metric} is {score} {where}")
            scores.append(score if context.mode == "max" else -score)
            last = epoch + 1 == context.epochs or not freezer.will_learn()
            last |= patience is not None and epoch - scores.index(max(scores)) >= patience
            freezer.verify(beyond=0 if last else feed.not_run)
            # The mean over the batches that have the part: not every batch need have a label for it.
            for name, values in seen.items():
                metrics["train/loss" if name == "loss" else f"train/loss_{name}"] = sum(values) / len(values)
            done = (epoch + 1) * steps_per_epoch - 1
            metrics |= {
                "train/frozen_stages": freezer.frozen,
                **attested.epoch(done, steps_per_epoch * context.epochs),
                "time/train_seconds": train_seconds,
                "time/epoch_seconds": time.monotonic() - started,
                **feed.metrics(),
                **_gpu_metrics(),
            }
            shelf = checkpoints.Shelf(Path(context.shelf), freezer.frozen_stages()) if context.shelf else None
            proof = {FROZEN: frozen_note(freezer), TRAINED: freezer.digest_of_all()}
            notes = {"reuse": feed.note(), **speed.notes(), **attested.notes(), **proof}
            resume = {"epoch": epoch + 1, "scores": scores, "freezing": freezer.state(), "last": last}
            reporter.report(
                Epoch(epoch + 1, metrics, scores[-1] >= max(scores), last, freezer.first_thaw, notes),
                partial(
                    checkpoints.save,
                    model=model,
                    card=card,
                    optimizer=optimizer,
                    resume=resume,
                    assets=assets,
                    shelf=shelf,
                ),
            )
            if last:
                return


def _speed(
    model: nn.Module,
    freezer: Freezer,
    examples: Examples,
    loss: Callable[[nn.Module, Batch], dict[str, Tensor]],
    batches: Callable[[np.random.Generator], Iterable[np.ndarray]],
) -> Speed:
    """What makes this model faster on this GPU; on a CPU, what is known to."""
    if not torch.cuda.is_available() or not freezer.learns():
        return Speed()
    freezer.train()
    batch = whole(examples, next(iter(batches(np.random.default_rng(0)))))
    return choose(model, lambda model: loss(model, batch)["loss"])


def _step(learning: Sequence[nn.Parameter], optimizer: torch.optim.Optimizer, loss: Tensor, clip_norm: float) -> None:
    """One step of the optimizer, unless no example of the batch teaches what is not frozen.

    Raises:
        NonFiniteLossError: Loss or gradient.
    """
    if not math.isfinite(value := float(loss.detach())):
        raise NonFiniteLossError(f"the loss must be finite; it is {value}")
    if not loss.requires_grad:
        return
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    if not math.isfinite(norm := float(nn.utils.clip_grad_norm_(learning, clip_norm))):
        raise NonFiniteLossError(f"the gradient must be finite; its norm is {norm}")
    optimizer.step()


def _gpu_metrics() -> dict[str, float]:
    """The most memory that the trial had so far, in GiB: what `--gpus-per-trial` is derived from."""
    return {"gpu/peak_gib": torch.cuda.max_memory_reserved() / 2**30} if torch.cuda.is_available() else {}


def _factor(optimization: Optimization, step: int, steps: int) -> float:
    return schedules.factor(optimization.schedule, (step + 1) / steps, optimization.warmup)


def _set_rates(
    optimizer: torch.optim.Optimizer,
    freezer: Freezer,
    optimization: Optimization,
    step: int,
    steps_per_epoch: int,
    epochs: int,
) -> None:
    """Sets each group's rate for a step: base × schedule × a ramp over the epoch in which its stage was thawed."""
    scheduled = _factor(optimization, step, steps_per_epoch * epochs)
    depth_before = freezer.freezing.depth
    ramp_of: dict[str, float] = {}
    for epoch, frozen in freezer.thaws:
        ramp = min(1.0, (step + 1 - epoch * steps_per_epoch) / steps_per_epoch)
        ramp_of |= {stage.name: ramp for stage in freezer.stages[frozen:depth_before]}
        depth_before = frozen
    for group in optimizer.param_groups:
        group["lr"] = group["base_lr"] * scheduled * ramp_of.get(group["stage"], 1.0)
