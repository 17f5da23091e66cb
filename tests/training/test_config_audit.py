"""The audit names every difference between a training and its config."""

import json
import re
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn
from toys import Numbers

from platform.models.stages import Stage
from platform.runner.results import find_alarms
from platform.study.trials import Trial
from platform.training.config_audit import TRAINED, UNUSED, ConfigMismatchError, TrackedConfig
from platform.training.context import Context
from platform.training.examples import shuffled
from platform.training.fit import fit
from platform.training.freezing import Freezing, FrozenChangedError
from platform.training.optimization import Optimization
from platform.training.reporters import ToFolder

ASKED = {
    "lr_head": 1e-2,
    "backbone_ratio": 0.1,
    "layer_decay": 0.5,
    "schedule": "cosine",
    "warmup": 0.1,
    "weight_decay": 0.01,
    "freeze_depth": 2,
    "unfreeze": "gradual",
    "unfreeze_at": 0.5,
    "batch_size": 8,
    "loss_weight_error": 2.0,
    "idle": 1,
}


class Notes(ToFolder):
    """A reporter that keeps what is said of a trial."""

    def report(self, epoch, save):
        self.notes = epoch.notes
        super().report(epoch, save)


def train(folder, asked=None, used=None, spoil=None, scale=1.0, factors=None) -> Notes:
    """Four epochs with what is used in place of what is asked for; `spoil` changes model and groups on the way."""
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4)),
        nn.Sequential(nn.Linear(4, 4), nn.Dropout(0.5)),
        nn.Linear(4, 1),
    )
    asked = TrackedConfig(ASKED | (asked or {}))
    config = TrackedConfig({key: asked[key] for key in asked if key != "idle"} | (used or {}))
    examples, reporter = Numbers(), Notes(folder)

    def loss(model, batch):
        error = (model(batch.state["x"]).squeeze() - batch.state["x"].sum(1)).square().mean()
        if spoil:
            spoil(model)
        return {"loss": scale * config["loss_weight_error"] * error, "error": error}

    fit(
        model,
        [Stage("stem", ("0",), True), Stage("body", ("1",), True), Stage("head", ("2",))],
        examples=examples,
        loss=loss,
        batches=lambda generator: shuffled(examples.indices("train"), config["batch_size"], generator, factors),
        steps_per_epoch=-(-len(examples.indices("train")) // config["batch_size"]),
        evaluate=lambda model, look: {"val/score": float(model(torch.ones(2, 4)).mean())},
        freezing=Freezing(config["freeze_depth"], config["unfreeze"], config["unfreeze_at"]),
        optimization=Optimization.of(config),
        context=Context("toy", "data-1", 3, 4, "val/score", "max", config=asked),
        metadata={"task": "toy"},
        reporter=reporter,
    )
    return reporter


def test_what_was_used_is_recorded(tmp_path):
    reporter = train(tmp_path)
    used = json.loads(reporter.notes["used"])
    assert used["lr_head"] == 1e-2
    assert (used["frozen stages"], used["unfreeze"], used["unfreeze_at"]) == (2, "gradual", 0.5)
    assert (used["batch size"], used["seed"], used["data"]) == (8, 3, "data-1")
    assert len(used["code"]) == 32
    assert reporter.notes[UNUSED] == "idle"
    assert "checked" in reporter.notes["frozen"]
    rates = [{key: row[key] for key in row if key.startswith("lr/")} for row in reporter.history()]
    assert [sorted(key for key, rate in row.items() if rate) for row in rates] == [
        ["lr/head"], ["lr/head"], ["lr/body", "lr/head"], ["lr/body", "lr/head", "lr/stem"],
    ]  # fmt: skip
    assert rates[3]["lr/body"] == pytest.approx(0.1 * rates[3]["lr/head"])
    assert rates[3]["lr/stem"] == pytest.approx(0.05 * rates[3]["lr/head"])
    assert [row["train/parameters"] for row in reporter.history()] == [5, 5, 25, 53]


@pytest.mark.parametrize(
    ("used", "message"),
    [
        ({"lr_head": 1e-3}, "lr_head must be 0.01, as the config says; the trial uses 0.001"),
        ({"layer_decay": 0.9}, "layer_decay must be 0.5, as the config says"),
        ({"schedule": "constant"}, "schedule must be 'cosine', as the config says"),
        ({"unfreeze": "never"}, "unfreeze must be 'gradual', as the config says"),
        ({"unfreeze_at": 0.25}, "unfreeze_at must be 0.5, as the config says"),
        ({"freeze_depth": 1}, "freeze_depth must be 2, as the config says; 1 of 2 stages are frozen"),
        ({"batch_size": 4}, "batch_size must be 8, as the config says; 16 examples came in 4 batches of up to 4"),
        ({"batch_size": 16}, "batch_size must be 8, as the config says; 16 examples came in 1 batches of up to 16"),
    ],
)
def test_a_difference_to_the_config_ends_the_trial(tmp_path, used, message):
    with pytest.raises(ConfigMismatchError, match=message):
        train(tmp_path, used=used)


def test_a_deeper_freeze_than_the_model_has_stages_freezes_all_of_them(tmp_path):
    assert train(tmp_path, asked={"freeze_depth": 7}, used={"freeze_depth": 2}).history()


def test_a_frozen_parameter_that_learns_is_found(tmp_path):
    def spoil(model):
        model[0][0].weight.requires_grad_(True)

    with pytest.raises(FrozenChangedError, match=r"0\.0\.weight did"):
        train(tmp_path, spoil=spoil)


def test_how_often_examples_are_drawn_is_recorded(tmp_path):
    factors = np.array([9.0] + [1.0] * 15)
    asked = {"oversample": 0.5}
    drawn = [json.loads(train(tmp_path / str(number), asked, factors=each).notes["used"]).get("drawn")
            for number, each in enumerate((None, factors))]  # fmt: skip
    assert drawn[0] == "16 examples: each once"
    assert re.fullmatch(r"16 examples: (9|10|11) different ones, one of them [67] times", drawn[1])


def test_a_worker_with_other_code_does_not_train():
    from platform.training.context import begin

    with pytest.raises(ConfigMismatchError, match="all trials must run the study's code, 0000"):
        begin({"context": vars(replace(Context("toy", "", 0, 1, "val/score", "max"), code="0000"))})


def trial(number: int, weights: str, seed: int | None = None, unused: str = "", **config) -> Trial:
    notes = {TRAINED: weights, **({UNUSED: unused} if unused else {})}
    return Trial(f"{number:03d}", {"a": 1, **config}, seed=seed, metrics=[{"val/score": 1.0}], notes=notes)


def test_equal_weights_of_unequal_trials_raise_an_alarm():
    assert not find_alarms([trial(1, "x", b=1), trial(2, "y", b=2), trial(3, "x", b=1)])
    [alarm] = find_alarms([trial(1, "x", b=1), trial(2, "y", b=2), trial(3, "x", b=2)])
    assert alarm == "trial 001 and trial 003 ended with equal weights, though they differ in b: that had no effect."
    [alarm] = find_alarms([trial(1, "x", seed=1), trial(2, "x", seed=2)])
    assert "differ in the seed" in alarm


def test_a_parameter_that_no_trial_used_raises_an_alarm():
    [alarm] = find_alarms([trial(1, "x", unused="b, c", b=1, c=1), trial(2, "y", unused="b", b=2, c=1)])
    assert alarm == "b was searched, and no trial used it."
    assert not find_alarms([trial(1, "x", unused="b", b=1), trial(2, "y", b=2)])


def test_reading_is_noted_however_a_point_is_copied():
    config = TrackedConfig({"a": 1, "b": 2})
    assert (dict(config), json.dumps(config), config.read) == ({"a": 1, "b": 2}, '{"a": 1, "b": 2}', set())
    assert (config["a"], config.get("b"), config.read) == (1, 2, {"a", "b"})
    assert np.array_equal(sorted(config), ["a", "b"])
