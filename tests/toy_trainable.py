"""Toy trainable that fails in the ways that its config names, in its own file because workers import it."""

import os
import signal
import time
from pathlib import Path

import torch
from torch import nn
from toys import Numbers

from platform.cluster import node_setup
from platform.cluster.node_setup import UnfitNodeError
from platform.models.stages import Stage
from platform.storage.checkpoints import Checkpoints
from platform.training.context import begin
from platform.training.examples import shuffled
from platform.training.fit import fit
from platform.training.freezing import Freezing
from platform.training.optimization import Optimization

EPOCHS = 4


def train(config):
    """Four epochs of two steps of a model of a few indices, and what goes wrong in the third."""
    context, config = begin(config)
    torch.manual_seed(0)
    wide = config.get("wide", 4)
    model = nn.Sequential(
        nn.Sequential(nn.Linear(4, wide), nn.BatchNorm1d(wide)), nn.Sequential(nn.Linear(wide, 4), nn.Dropout(0.5)),
        nn.Linear(4, 1),
    )  # fmt: skip
    examples, folder, fault = Numbers(), Path(context.folder), config["fault"]
    epochs = iter(range(EPOCHS))

    def batches(generator):
        return shuffled(examples.indices("train"), 8, generator)

    def loss(model, batch):
        value = (model(batch.state["x"]).squeeze() - batch.state["x"].sum(1)).square().mean()
        return {"loss": value * float("nan") if fault == "nan" and context.known == 0 else value}

    def evaluate(model, look):
        next(epochs)
        folder.mkdir(parents=True, exist_ok=True)
        with (folder.parent / f"{fault}.nodes").open("a") as file:
            file.write(f"{node_setup.node_name()}\n")
        done = len(Checkpoints(folder).epochs())
        first = not (folder.parent / f"{fault}.marker").exists()
        if done == 2 and (first or fault == "throws always"):
            (folder.parent / f"{fault}.marker").write_text(str(os.getppid()))  # whose process is the node's
            if fault == "node gone":
                time.sleep(600)
            if fault == "unfit":
                raise UnfitNodeError(f"{node_setup.node_name()}: its disk is full")
            if fault in ("throws once", "throws always"):
                raise RuntimeError("bad luck")
            if fault == "damaged":
                file = folder / "epoch-2" / "model.safetensors"
                file.write_bytes(file.read_bytes()[:-1] + b"x")
                os.kill(os.getpid(), signal.SIGKILL)
        if fault == "no memory" and context.gpus < 1:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB.")
        return {"val/score": float(model(torch.ones(2, 4)).mean())}

    fit(
        model,
        [Stage("stem", ("0",), True), Stage("body", ("1",), True), Stage("head", ("2",))],
        examples=examples,
        loss=loss,
        batches=batches,
        steps_per_epoch=2,
        evaluate=evaluate,
        freezing=Freezing(2, "gradual", unfreeze_at=0.5, batch_norm="updated"),
        optimization=Optimization(lr_head=1e-2, schedule="cosine", warmup=0.1),
        context=context,
        metadata={"task": "toy"},
    )
