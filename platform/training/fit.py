"""The training loop, the same for all tasks: restore, unfreeze, train, validate, report, checkpoint.

Every epoch draws its randomness from (seed, epoch) alone, the learning rate is a function of the step, and the
optimizer's groups never change. A trial that is resumed at any epoch therefore continues as if it had never stopped.
"""

import contextlib
import itertools
import json
import math
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
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
from platform.training.config_audit import FROZEN, TRAINED, ConfigAudit, frozen_note
from platform.training.context import Context
from platform.training.devices import device
from platform.training.example_feed import ExampleFeed
from platform.training.examples import Batch, Examples, Look, whole
from platform.training.feature_store import Store
from platform.training.freezing import Freezer, Freezing
from platform.training.optimization import Optimization, parameter_groups, set_rates
from platform.training.reporters import Epoch, Reporter, ToFolder, ToRay

Loss = Callable[[nn.Module, Batch], dict[str, Tensor]]
Batches = Callable[[np.random.Generator], Iterable[np.ndarray]]


class NonFiniteError(RuntimeError):
    """The loss, its gradient or the score is NaN or infinite; the trial ends."""

    retry = False  # another attempt would end in the same way


def fit(
    model: nn.Module,
    stages: Sequence[Stage],
    *,
    examples: Examples,
    loss: Loss,
    batches: Batches,
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
    """Train a model, and report and save a checkpoint after each epoch. If nothing can ever learn, only evaluate it.

    Args:
        model: Model; it is moved to the trial's device. If it is `Splittable`, frozen stages are not run again for
            examples whose outputs are in the feature store.
        stages: Stages of the model, from input to output.
        examples: Data.
        loss: (model, batch) → {"loss": what is minimised, further parts…}, scalars.
        batches: generator → the indices of the examples of each batch of an epoch; all randomness must come from the
            generator.
        steps_per_epoch: Number of batches in an epoch.
        evaluate: (model, look) → metrics on the validation split; `look` returns examples by their indices. The metrics
            must contain the context's metric.
        freezing: Which stages are frozen, and when they are unfrozen.
        optimization: Hyperparameters of the optimizer.
        context: Context of the trial.
        metadata: Model metadata that the task's `load` needs; JSON.
        assets: Folder of further files that `load` needs, such as a tokenizer; stored with each checkpoint.
        patience: Epochs without a new best score after which to stop early; None: train to the end.
        reporter: Receives metrics and checkpoints; None: as the context says.

    Raises:
        NonFiniteError: The loss, its gradient or the score is NaN or infinite.
        FrozenChangedError: A frozen tensor changed.
        NotFrozenError: A frozen stage is in training mode.
        ConfigMismatchError: The training uses something else than the config says.
    """
    # set up
    model.to(device())
    freezer = Freezer(model, stages, freezing, context.epochs)
    speed = _speed(model, freezer, examples, loss, batches)
    speed.apply(model)
    store = Store(Path(context.store), context.store_bytes) if context.store else None
    feed = ExampleFeed(model, freezer, examples, store, speed)
    optimizer = torch.optim.AdamW(parameter_groups(model, stages, optimization), fused=True)
    origin = {"seed": context.seed, "data": Path(context.data).name, "code": project.code_digest()}
    audit = ConfigAudit(context.config, origin, optimization, freezer, optimizer)
    folder = Path(context.folder)
    reporter = reporter or (ToRay(folder, context.known, context.remote) if context.trial else ToFolder(folder))

    # restore
    first, scores = 0, list[float]()  # scores after each epoch; greater is better
    state = None if context.steps else reporter.restore(lambda place: checkpoints.restore(place, model, optimizer))
    if state:
        first, scores = state["epoch"], state["scores"]
        freezer.restore(state["freezing"])
        if state["last"]:  # it had ended, and was interrupted before that was recorded
            return

    with contextlib.closing(feed):
        for epoch in range(first, context.epochs):
            # train
            started = time.monotonic()
            freezer.advance(epoch, scores)  # unfreezes the stages that are due
            freezer.train()
            feed.prepare(epoch, freezer.lasting(epoch))
            torch.manual_seed(context.seed * 100_003 + epoch)  # another number for each seed and epoch
            learning = [parameter for parameter in model.parameters() if parameter.requires_grad]
            indices_of = batches(np.random.default_rng((context.seed, epoch))) if learning else ()
            values_of: dict[str, list[float]] = defaultdict(list)
            for index, indices in enumerate(itertools.islice(indices_of, context.steps or None)):
                step = epoch * steps_per_epoch + index
                set_rates(optimizer, freezer, optimization, step, steps_per_epoch, context.epochs)
                with speed.autocast():
                    parts = loss(model, feed.batch("train", indices))
                for name, part in parts.items():
                    values_of[name].append(float(part.detach()))
                audit.on_batch(indices)
                with _where(f"at epoch {epoch + 1}, step {step + 1}", metadata):
                    _step(learning, optimizer, parts["loss"], optimization.clip_norm)
            if context.steps:
                return
            train_seconds = time.monotonic() - started

            # validate
            model.eval()
            with torch.inference_mode(), speed.autocast():
                metrics = evaluate(model, partial(feed.batch, "val"))
            score = metrics[context.metric]
            with _where(f"after epoch {epoch + 1}", metadata):
                if not math.isfinite(score):
                    raise NonFiniteError(f"the score must be finite; {context.metric} is {score}")
            scores.append(score if context.mode == "max" else -score)
            last = epoch + 1 == context.epochs or not freezer.will_learn()
            last |= patience is not None and epoch - scores.index(max(scores)) >= patience

            # check that frozen tensors did not change, and collect the metrics
            freezer.verify(beyond=0 if last else feed.not_run)
            for name, values in values_of.items():  # means over the batches that have the part: some may lack its label
                metrics["train/loss" if name == "loss" else f"train/loss_{name}"] = sum(values) / len(values)
            metrics |= {
                "train/frozen_stages": freezer.frozen,
                **audit.on_epoch(),
                "time/train_seconds": train_seconds,
                "time/epoch_seconds": time.monotonic() - started,
                **feed.metrics(),
                **_gpu_metrics(),
            }

            # report and save a checkpoint
            shared = None
            if context.shared_stages:
                shared = checkpoints.SharedStages(Path(context.shared_stages), freezer.frozen_stages())
            proof = {FROZEN: frozen_note(freezer), TRAINED: freezer.digest_of_all()}
            notes = {"reuse": feed.note(), **speed.notes(), **audit.notes(), **proof}
            resume = {"epoch": epoch + 1, "scores": scores, "freezing": freezer.state(), "last": last}
            saved: dict[str, Any] = {"model": model, "metadata": metadata, "optimizer": optimizer}
            saved |= {"resume": resume, "assets": assets, "shared": shared}
            reporter.report(
                Epoch(epoch + 1, metrics, scores[-1] >= max(scores), last, freezer.first_unfreeze, notes),
                partial(checkpoints.save, **saved),
            )
            if last:
                return


@contextlib.contextmanager
def _where(place: str, metadata: dict[str, Any]) -> Iterator[None]:
    """Add the place in the training and the config to a NonFiniteError."""
    try:
        yield
    except NonFiniteError as error:
        raise NonFiniteError(f"{error} {place}, with {json.dumps(metadata.get('config', {}))}") from None


def _speed(model: nn.Module, freezer: Freezer, examples: Examples, loss: Loss, batches: Batches) -> Speed:
    """Return the options that make this model faster on this GPU; on a CPU, the fixed ones."""
    if not torch.cuda.is_available() or not freezer.learns():
        return Speed()
    freezer.train()
    batch = whole(examples, next(iter(batches(np.random.default_rng(0)))))
    return choose(model, lambda model: loss(model, batch)["loss"])


def _step(learning: Sequence[nn.Parameter], optimizer: torch.optim.Optimizer, loss: Tensor, clip_norm: float) -> None:
    """Take one step of the optimizer, unless the loss of the batch depends on no trained parameter.

    Raises:
        NonFiniteError: The loss or its gradient is NaN or infinite.
    """
    if not math.isfinite(value := float(loss.detach())):
        raise NonFiniteError(f"the loss must be finite; it is {value}")
    if not loss.requires_grad:
        return
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    if not math.isfinite(norm := float(nn.utils.clip_grad_norm_(learning, clip_norm))):
        raise NonFiniteError(f"the gradient must be finite; its norm is {norm}")
    optimizer.step()


def _gpu_metrics() -> dict[str, float]:
    """Return the most GPU memory that the trial had so far, in GiB."""
    return {"gpu/peak_gib": torch.cuda.max_memory_reserved() / 2**30} if torch.cuda.is_available() else {}
