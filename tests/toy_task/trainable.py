"""Toy task beside the shipped ones: learn a number."""

import time

import numpy as np
import torch
from torch import nn

from platform.models.stages import Stage
from platform.storage import checkpoints
from platform.task import Evaluation
from platform.training.context import begin
from platform.training.examples import Examples, shuffled
from platform.training.fit import fit
from platform.training.freezing import Freezing
from platform.training.optimization import Optimization

INPUT, REQUIREMENTS = "text", ()


class Ones(Examples):
    def indices(self, split):
        return np.arange(40)

    def inputs(self, indices, view):
        return {"x": torch.ones(len(indices), 1)}


class Numbers:
    name, fingerprint = "indices", "0" * 64

    def findings(self):
        return []

    def summary(self):
        return {}

    def lines(self):
        return {"indices": "two"}


def build():
    return nn.ModuleDict({"body": nn.Linear(1, 4), "head": nn.Linear(4, 1)})


def error(model):
    return float((model["head"](model["body"](torch.ones(1, 1))) - 3).square().mean())


def depth(space):
    return 1


def read(sources, cache, seed, space):
    return Numbers()


def check(space, dataset):
    return []


def prepare(space, dataset, cache):
    (cache / "indices").mkdir(parents=True, exist_ok=True)
    return cache / "indices"


def train(config):
    context, config = begin(config)

    def evaluate(model, look):
        time.sleep(config["pause"])
        return {"val/error": error(model)}

    fit(
        build(),
        [Stage("body", ("body",), True), Stage("head", ("head",))],
        examples=Ones(),
        loss=lambda model, batch: {"loss": (model["head"](model["body"](batch.state["x"])) - 3).square().mean()},
        batches=lambda generator: shuffled(np.arange(40), 8, generator),
        steps_per_epoch=5,
        evaluate=evaluate,
        freezing=Freezing(config["freeze_depth"]),
        optimization=Optimization.of(config),
        context=context,
        metadata={"task": "toy"},
    )


def load(folder):
    model = build()
    checkpoints.load_model(folder, model)
    return model


def test(model, data):
    return Evaluation({"test/error": error(model)})


def references(space, data):
    return {"zero": {"test/error": 9.0}}


def write_weights(model, data, folder):
    pass


def predict(model, inputs):
    return [{"number": float(model["head"](model["body"](torch.ones(1, 1))))} for _ in inputs]


def answer(metadata):
    return {"number": 0.5}
