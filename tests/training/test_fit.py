"""The training loop under a real Ray Tune, with a model of a few indices."""

import json
from dataclasses import asdict, replace

import numpy as np
import pytest
import torch
from ray import tune
from ray.tune import RunConfig
from safetensors.torch import load_file
from torch import nn
from toys import Numbers

from platform.models.stages import Stage
from platform.training.context import Context, begin
from platform.training.examples import shuffled
from platform.training.fit import NonFiniteError, fit
from platform.training.freezing import Freezing
from platform.training.optimization import Optimization
from platform.training.reporters import ToFolder

EPOCHS = 4


def train(folder, factor=1.0, score=1.0) -> ToFolder:
    """Four epochs of two steps."""
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4)),
        nn.Sequential(nn.Linear(4, 4), nn.Dropout(0.5)),
        nn.Linear(4, 1),
    )
    examples, reporter = Numbers(), ToFolder(folder)

    def loss(model, batch):
        value = (model(batch.state["x"]).squeeze() - batch.state["x"].sum(1)).square().mean()
        return {"loss": value * factor, "error": value}

    fit(
        model,
        [Stage("stem", ("0",), True), Stage("body", ("1",), True), Stage("head", ("2",))],
        examples=examples,
        loss=loss,
        batches=lambda generator: shuffled(examples.indices("train"), 8, generator),
        steps_per_epoch=2,
        evaluate=lambda model, look: {"val/score": float(model(torch.ones(2, 4)).mean()) * score},
        freezing=Freezing(2, "gradual", unfreeze_at=0.5, batch_norm="updated"),
        optimization=Optimization(lr_head=1e-2, schedule="cosine", warmup=0.1),
        context=Context("toy", "", 0, EPOCHS, "val/score", "max"),
        metadata={"task": "toy", "config": {"lr_head": 1e-2}},
        reporter=reporter,
    )
    return reporter


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> ToFolder:
    return train(tmp_path_factory.mktemp("whole"))


def messy(config):
    """Trains as every trainable does; one of them leaves all behind that a process can be left with."""
    import os
    import random

    context, point = begin(config)
    context = replace(context, folder=f"{context.folder}/{point['number']}")
    model = nn.Sequential(nn.Linear(4, 4), nn.Dropout(0.5), nn.Linear(4, 1))
    noise = float(np.random.normal()) + random.random()
    fit(
        model,
        [Stage("body", ("0",), True), Stage("head", ("2",))],
        examples=Numbers(),
        loss=lambda model, batch: {"loss": (model(batch.state["x"]) - noise).square().mean()},
        batches=lambda generator: shuffled(np.arange(16), 8, generator),
        steps_per_epoch=2,
        evaluate=lambda model, look: {"val/score": float(model(torch.ones(2, 4)).mean()), "val/process": os.getpid()},
        freezing=Freezing(0),
        optimization=Optimization(1e-2),
        context=context,
        metadata={"task": "toy", "threads": torch.get_num_threads()},
    )
    if point["number"] == 1:
        torch.set_default_dtype(torch.float64)
        torch.set_grad_enabled(False)
        torch.use_deterministic_algorithms(True)
        torch.set_num_threads(3)
        torch.manual_seed(99)
        np.random.seed(99)


def test_a_worker_that_is_reused_is_as_good_as_new(ray_cluster, tmp_path):
    tuner = tune.Tuner(
        messy,
        param_space={
            "number": tune.grid_search([0, 1, 2]),
            "context": asdict(Context("toy", "", 0, 2, "val/score", "max", trial="1", folder=str(tmp_path))),
        },
        tune_config=tune.TuneConfig(reuse_actors=True, max_concurrent_trials=1),
        run_config=RunConfig(name="reused", storage_path=str(tmp_path), verbose=0),
    )
    first, second, third = tuner.fit()
    assert len({result.metrics["val/process"] for result in (first, second, third)}) == 1
    folders = [tmp_path / str(number) / "epoch-2" for number in range(3)]
    assert [json.loads((folder / "model.json").read_text())["threads"] for folder in folders] == [1, 1, 1]
    expected = load_file(folders[0] / "model.safetensors")
    for other in folders[1:]:
        found = load_file(other / "model.safetensors")
        assert all(torch.equal(found[name], value) for name, value in expected.items())


def test_reports_each_epoch_with_its_parts(whole):
    history = whole.history()
    assert [epoch["train/frozen_stages"] for epoch in history] == [2, 2, 1, 0]
    assert [epoch["train/loss"] for epoch in history] == [epoch["train/loss_error"] for epoch in history]


def test_a_checkpoint_is_safetensors_and_visible_json(whole):
    folder = whole.folder / "epoch-4"
    names = {path.name for path in folder.iterdir()}
    assert names == {"model.safetensors", "model.json", "optimizer.pt", "resume.json", "manifest.json"}
    resume = json.loads((folder / "resume.json").read_text())
    assert resume["epoch"] == EPOCHS
    assert len(resume["scores"]) == EPOCHS
    assert resume["freezing"]["unfreezings"] == [[2, 1], [3, 0]]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"factor": float("nan")}, "the loss must be finite; it is nan at epoch 1, step 1, with .*lr_head"),
        ({"score": float("inf")}, "the score must be finite; val/score is -?inf after epoch 1, with .*lr_head"),
    ],
)
def test_what_is_not_finite_ends_the_trial_and_says_where(tmp_path, changes, message):
    with pytest.raises(NonFiniteError, match=message):
        train(tmp_path, **changes)


def without_ray(folder, freezing: Freezing, assets=None) -> tuple[ToFolder, nn.Module]:
    """A body under two heads, reported to a folder; the loss needs the first head alone."""
    torch.manual_seed(0)
    model = nn.ModuleDict({"body": nn.Linear(4, 4), "first": nn.Linear(4, 1), "second": nn.Linear(4, 1)})
    reporter = ToFolder(folder)
    fit(
        model,
        [Stage("body", ("body",), True), Stage("first", ("first",)), Stage("second", ("second",))],
        examples=Numbers(),
        loss=lambda model, batch: {"loss": model["first"](model["body"](batch.state["x"])).square().mean()},
        batches=lambda generator: shuffled(np.arange(16), 8, generator),
        steps_per_epoch=2,
        evaluate=lambda model, look: {"val/score": float(model["first"].weight.sum())},
        freezing=freezing,
        optimization=Optimization(lr_head=1e-2),
        context=Context("toy", "", 0, 3, "val/score", "max"),
        metadata={"task": "toy"},
        assets=assets,
        reporter=reporter,
    )
    return reporter, model


@pytest.mark.parametrize(("head", "moved"), [("first", {"body"}), ("second", {"body", "first"})])
def test_a_head_is_frozen_on_its_own(tmp_path, head, moved):
    torch.manual_seed(0)
    before = nn.ModuleDict({"body": nn.Linear(4, 4), "first": nn.Linear(4, 1), "second": nn.Linear(4, 1)})
    reporter, after = without_ray(tmp_path, Freezing(0, always=(head,)))
    assert len(reporter.history()) == 3
    for name in ("body", "first", "second"):
        assert torch.equal(before[name].weight, after[name].weight) == (name not in moved)


def test_where_all_is_frozen_it_evaluates_once(tmp_path):
    reporter, _ = without_ray(tmp_path, Freezing(1, always=("first", "second")))
    [only] = reporter.history()
    assert "val/score" in only
    assert "train/loss" not in only


def test_what_ended_early_does_not_go_on_when_it_is_resumed(tmp_path):
    for _ in range(2):  # the second time from what the first left
        reporter, _ = without_ray(tmp_path, Freezing(1, always=("first", "second")))
    assert len(reporter.history()) == 1


def test_stages_that_unfreeze_later_keep_the_trial_going(tmp_path):
    reporter, _ = without_ray(tmp_path, Freezing(1, "at_once", 0.6, always=("first", "second")))
    assert ["train/loss" in epoch for epoch in reporter.history()] == [False, False, True]


def test_a_batch_that_teaches_nothing_is_passed_over(tmp_path):
    _, model = without_ray(tmp_path, Freezing(1, always=("first",)))
    torch.manual_seed(0)
    assert torch.equal(model["body"].weight, nn.Linear(4, 4).weight)


def test_files_that_belong_to_a_model_stay_with_it(tmp_path):
    (tmp_path / "tokenizer").mkdir()
    (tmp_path / "tokenizer" / "vocabulary.txt").write_text("a b c")
    without_ray(tmp_path / "trial", Freezing(0), assets=tmp_path / "tokenizer")
    for folder in ("epoch-3", "best"):
        assert (tmp_path / "trial" / folder / "assets" / "vocabulary.txt").read_text() == "a b c"


def test_an_unknown_stage_cannot_be_frozen(tmp_path):
    with pytest.raises(ValueError, match="there is no third"):
        without_ray(tmp_path, Freezing(0, always=("third",)))
