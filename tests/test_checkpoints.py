"""A checkpoint holds what was trained; what was frozen lies on a shelf that all share, and comes back with it."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import nn
from toys import Numbers

from platform import checkpoints
from platform.examples import shuffled
from platform.fit import Context, Optimization, fit
from platform.freezing import Freezing, Stage
from platform.reporters import ToFolder

STAGES = [Stage("one", ("0",), True), Stage("two", ("1",), True), Stage("head", ("2",))]
CONTEXT = Context("toy", "", 0, 4, "val/score", "max")


def build() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4)), nn.Linear(4, 4), nn.Linear(4, 1))


def train(folder, context=CONTEXT, depth=2, unfreeze="never", stop_at=None) -> ToFolder:
    reporter, epochs = ToFolder(folder), []

    def evaluate(model, look):
        epochs.append(1)
        if len(epochs) == stop_at:
            raise KeyboardInterrupt
        return {"val/score": float(model(torch.ones(2, 4)).mean())}

    fit(
        build(),
        STAGES,
        examples=Numbers(),
        loss=lambda model, batch: {"loss": model(batch.state["x"]).square().mean()},
        batches=lambda generator: shuffled(np.arange(16), 8, generator),
        steps_per_epoch=2,
        evaluate=evaluate,
        freezing=Freezing(depth, unfreeze, thaw_at=0.5),
        optimization=Optimization(1e-2),
        context=context,
        card={"task": "toy"},
        reporter=reporter,
    )
    return reporter


@pytest.fixture
def shelf(tmp_path):
    return tmp_path / "shelf"


def test_what_is_frozen_is_written_once_and_comes_back(tmp_path, shelf):
    whole = train(tmp_path / "whole").folder / "epoch-4"
    lean = [train(tmp_path / name, replace(CONTEXT, shelf=str(shelf))).folder / "epoch-4" for name in ("a", "b")]
    assert {key[0] for key in load_file(lean[0] / "model.safetensors")} == {"2"}
    assert len(list(shelf.iterdir())) == 2, "a file a stage, for both trials"
    for folder in lean:
        model = build()
        checkpoints.load_model(folder, model)
        assert all(
            torch.equal(value, model.state_dict()[key]) for key, value in load_file(whole / "model.safetensors").items()
        )


def test_an_export_needs_no_shelf(tmp_path, shelf):
    folder = train(tmp_path / "a", replace(CONTEXT, shelf=str(shelf))).folder
    assert (folder / "epoch-4" / "frozen.json").exists()
    assert not (folder / "best" / "frozen.json").exists()
    checkpoints.load_model(folder / "best", build())  # strictly: nothing is missing


@pytest.mark.parametrize("stop_at", [2, 3, 4])  # before, at and after the first thaw
def test_going_on_from_it_ends_where_an_unbroken_run_ends(tmp_path, shelf, stop_at):
    context = replace(CONTEXT, shelf=str(shelf))
    whole = train(tmp_path / "whole", unfreeze="gradual")
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "broken", context, unfreeze="gradual", stop_at=stop_at)
    broken = train(tmp_path / "broken", context, unfreeze="gradual")
    expected, found = (load_file(r.folder / "best" / "model.safetensors") for r in (whole, broken))
    assert all(torch.equal(found[name], value) for name, value in expected.items())


def test_a_shelved_stage_that_is_gone_or_altered_is_told(tmp_path, shelf):
    folder = train(tmp_path / "a", replace(CONTEXT, shelf=str(shelf))).folder / "epoch-4"
    file = shelf / json.loads((folder / "frozen.json").read_text())[0].rpartition("/")[2]
    kept = file.read_bytes()
    file.unlink()
    with pytest.raises(FileNotFoundError, match=file.name):
        checkpoints.load_model(folder, build())
    file.write_bytes(kept[:-1] + bytes([kept[-1] ^ 1]))
    with pytest.raises(RuntimeError, match="frozen tensors must not change"):
        train(tmp_path / "a", replace(CONTEXT, shelf=str(shelf), epochs=5))
