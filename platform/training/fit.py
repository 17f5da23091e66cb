"""The one training loop: restore, unfreeze, train, validate, report, checkpoint.

Every epoch draws its randomness from (seed, epoch) alone, the learning rate is a function of the step, and the
optimizer's groups never change; so a trial resumed at any epoch goes on exactly as if it had never stopped.
"""

import contextlib
import itertools
import json
import math
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from platform import project
from platform.models.stages import Stage
from platform.storage import checkpoints
from platform.training.acceleration import Speed, choose
from platform.training.config_audit import FROZEN, TRAINED, Attestation, frozen_note
from platform.training.context import Context
from platform.training.devices import device
from platform.training.example_feed import Feed
from platform.training.examples import Batch, Examples, Look, whole
from platform.training.feature_store import Store
from platform.training.freezing import Freezer, Freezing
from platform.training.optimization import Optimization, _set_rates, parameter_groups
from platform.training.reporters import Epoch, Reporter, ToFolder, ToRay


class NonFiniteLossError(RuntimeError):
    """The loss, its gradient or the score became NaN or infinite; the trial ends there."""

    retry = False  # another attempt would end in the same way


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
    metadata: dict[str, Any],
    assets: Path | None = None,
    patience: int | None = None,
    reporter: Reporter | None = None,
) -> None:
    """Trains a model, reporting and checkpointing after each epoch. Where nothing can ever learn, it only evaluates.

    Args:
        model: The model; moved to the GPU if the trial has one. If it is `Splittable`, its frozen stages need not
            be run again for what is in the feature store.
        stages: Its stages, from input to output.
        examples: The data.
        loss: (model, batch) → {"loss": what is minimised, parts…}, scalars.
        batches: generator → the indices of the examples in each of the epoch's batches; all its randomness must come
            from the generator.
        steps_per_epoch: Batches in an epoch.
        evaluate: (model, look) → metrics on the validation split, whose examples `look` gives by their indices; must
            hold the context's metric.
        freezing: What is frozen and when it unfreezes.
        optimization: How it learns.
        context: What the study says.
        metadata: What the task's `load` needs to use the saved model; JSON.
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
            for index, indices in enumerate(asked):
                step = epoch * steps_per_epoch + index
                _set_rates(optimizer, freezer, optimization, step, steps_per_epoch, context.epochs)
                with speed.autocast():
                    parts = loss(model, feed.batch("train", indices))
                losses = {name: float(part.detach()) for name, part in parts.items()}
                for name, value in losses.items():
                    seen[name].append(value)
                attested.batch(indices, losses, parts["loss"].dtype)
                try:
                    _step(learning, optimizer, parts["loss"], optimization.clip_norm)
                except NonFiniteLossError as error:
                    where = f"epoch {epoch + 1}, step {step + 1}, with {json.dumps(metadata.get('config', {}))}"
                    raise NonFiniteLossError(f"{error} at {where}") from None
            if context.steps:
                return
            train_seconds = time.monotonic() - started

            model.eval()
            with torch.inference_mode(), speed.autocast():
                metrics = evaluate(model, partial(feed.batch, "val"))
            if not math.isfinite(score := metrics[context.metric]):
                where = f"after epoch {epoch + 1}, with {json.dumps(metadata.get('config', {}))}"
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
                Epoch(epoch + 1, metrics, scores[-1] >= max(scores), last, freezer.first_unfreeze, notes),
                partial(
                    checkpoints.save,
                    model=model,
                    metadata=metadata,
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
