"""Every task that is shipped: its space is sound and one tiny trial runs; and a new task is two files."""

import json
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import pytest
from ray import tune
from ray.tune.search.sample import Domain

from platform import task
from platform.fit import Context
from platform.plan import space_of

ROOT = Path(__file__).parent.parent
TASKS, _ = task.names()

# What makes a trial of a task tiny; a task that is not named here runs as it is shipped.
TINY = {
    "detector": ["image_size=64", "channels=32"],
    "autoencoder": ["width=8", "pretrain_epochs=10"],
}


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.mark.parametrize("name", TASKS)
def test_a_shipped_space_is_sound(name):
    space, faults = space_of(task.load(name), name, [])
    assert faults == []
    assert space.params.keys() == task.space(name).params.keys()
    assert space.depth == task.space(name).depth, "the space is written for the backbone that it names"
    assert space.metric.startswith("val/")
    assert "freeze_depth" in space.searched
    assert space.baselines
    for config in space.baseline_configs().values():
        assert config.keys() == space.params.keys()
        assert not any(isinstance(value, Domain) for value in config.values())


@pytest.mark.parametrize("name", TASKS)
def test_one_tiny_trial_runs_through_ray_and_its_model_is_used(name, ray_cluster, cache, tmp_path):
    module = task.load(name)
    space, faults = space_of(module, name, TINY.get(name, []), max_epochs=1)
    dataset = module.read([], cache, 0, space)
    assert faults + module.check(space, dataset) == []
    assert {"train", "val", "test"} <= dataset.lines().keys()
    json.dumps(dataset.summary())
    data = module.prepare(space, dataset, cache)
    trial = {"trial": "001", "folder": str(tmp_path / "001")}
    context = Context(name, str(data.resolve()), 0, 1, space.metric, space.mode, **trial)
    tuner = tune.Tuner(
        module.train,
        param_space={**space.fixed, **space.start, "context": asdict(context)},
        run_config=tune.RunConfig(storage_path=str(tmp_path), verbose=0),
    )
    [result] = list(tuner.fit())
    assert result.error is None
    assert space.metric in result.metrics
    model = module.load(tmp_path / "001" / "epoch-1")
    evaluation = module.test(model, data)
    assert space.metric.replace("val/", "test/") in evaluation.metrics
    assert evaluation.figures
    (tmp_path / "weights").mkdir()
    module.export(model, data, tmp_path / "weights")
    assert any((tmp_path / "weights").iterdir())
    for metrics in module.references(space, data).values():
        assert all(0 <= value <= 1 for value in metrics.values())


TOY = '''
"""Guess a number: the fifth task."""

import numpy as np
import torch
from torch import nn

from platform import checkpoints
from platform.examples import Examples, shuffled
from platform.fit import Optimization, begin, fit
from platform.freezing import Freezing, Stage
from platform.task import Evaluation

INPUT, REQUIREMENTS = "text", ()


class Ones(Examples):
    def numbers(self, split): return np.arange(40)
    def inputs(self, numbers, view): return {"x": torch.ones(len(numbers), 1)}


class Numbers:
    name, fingerprint = "numbers", "0" * 64
    def findings(self): return []
    def summary(self): return {}
    def lines(self): return {"numbers": "two"}


def build():
    return nn.ModuleDict({"body": nn.Linear(1, 4), "head": nn.Linear(4, 1)})


def error(model):
    return float((model["head"](model["body"](torch.ones(1, 1))) - 3).square().mean())


def depth(space): return 1
def read(sources, cache, seed, space): return Numbers()
def check(space, dataset): return []


def prepare(space, dataset, cache):
    (cache / "numbers").mkdir(parents=True, exist_ok=True)
    return cache / "numbers"


def train(config):
    context, point = begin(config)
    fit(
        build(),
        [Stage("body", ("body",), True), Stage("head", ("head",))],
        examples=Ones(),
        loss=lambda model, batch: {"loss": (model["head"](model["body"](batch.state["x"])) - 3).square().mean()},
        batches=lambda generator: shuffled(np.arange(40), 8, generator),
        steps_per_epoch=5,
        evaluate=lambda model, look: {"val/error": error(model)},
        freezing=Freezing(point["freeze_depth"]),
        optimization=Optimization.of(point),
        context=context,
        card={"task": "toy"},
    )


def load(folder):
    model = build()
    checkpoints.load_model(folder, model)
    return model


def test(model, data): return Evaluation({"test/error": error(model)})
def references(space, data): return {"zero": {"test/error": 9.0}}
def export(model, data, folder): pass


def predict(model, inputs):
    return [{"text": text, "number": float(model["head"](model["body"](torch.ones(1, 1))))} for text in inputs]
'''

TOY_SPACE = """
from ray import tune

from platform.space import Space

SPACE = Space(
    params={"freeze_depth": tune.randint(0, 2), "lr_head": tune.loguniform(1e-2, 1e-1)},
    metric="val/error", mode="min", max_epochs=3, grace_epochs=1, trials=3, depth=1,
    start={"freeze_depth": 0, "lr_head": 5e-2}, baselines={"frozen": {"freeze_depth": 1}},
)
"""


def test_a_fifth_task_is_two_files(tmp_path):
    for folder in ("platform", "trainables", "search_spaces"):
        (tmp_path / folder).mkdir()
        for file in (ROOT / folder).glob("*"):
            (tmp_path / folder / file.name).symlink_to(file)
    (tmp_path / "trainables" / "toy.py").write_text(TOY)

    def ran(*arguments: str) -> str:
        command = [sys.executable, "-m", *arguments]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=200, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    assert "trainables/toy.py misses search_spaces/toy.py" in ran("platform.tune", "--list")
    (tmp_path / "search_spaces" / "toy.py").write_text(TOY_SPACE)
    listed = ran("platform.tune", "--list").splitlines()
    assert any(line.split()[:3] == ["toy", "val/error", "(min),"] for line in listed)
    assert {line.split()[0] for line in listed} == {*TASKS, "toy"}

    told = ran("platform.tune", "toy", "--name", "first", "--json", "out.json")
    result = json.loads((tmp_path / "out.json").read_text())
    assert len(result["trials"]) == 3
    assert result["best"]["test_metrics"]["test/error"] == pytest.approx(result["best"]["metrics"]["val/error"])
    assert "frozen" in told
    assert "zero" in told
    [answer] = ran("platform.predict", "toy", "Which number?").splitlines()
    assert json.loads(answer)["text"] == "Which number?"
