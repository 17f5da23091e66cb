"""A checkpoint holds what was trained; frozen stages are stored once and shared, and come back with it."""

import os
import subprocess
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn
from toys import Numbers

from platform.models.stages import Stage
from platform.storage import checkpoints
from platform.storage.checkpoints import Checkpoints, DamagedError, DiskFullError
from platform.training.context import Context
from platform.training.examples import shuffled
from platform.training.fit import fit
from platform.training.freezing import Freezing
from platform.training.optimization import Optimization
from platform.training.reporters import ToFolder

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
        freezing=Freezing(depth, unfreeze, unfreeze_at=0.5),
        optimization=Optimization(1e-2),
        context=context,
        metadata={"task": "toy"},
        reporter=reporter,
    )
    return reporter


@pytest.fixture
def shared(tmp_path):
    return tmp_path / "shared"


def test_a_resumed_optimizer_continues_as_if_it_had_not_stopped(tmp_path):
    def step(model, optimizer) -> None:
        optimizer.zero_grad()
        model(torch.linspace(-1, 1, 2 * 4 * 8 * 8).reshape(2, 4, 8, 8)).square().mean().backward()
        optimizer.step()

    def begun() -> tuple[nn.Module, torch.optim.Optimizer]:
        torch.manual_seed(0)  # channels last, as images are trained on: moments read from a file are not
        model = nn.Conv2d(4, 8, 3).to(memory_format=torch.channels_last)
        return model, torch.optim.AdamW(model.parameters(), lr=1e-2, fused=True)

    model, optimizer = begun()
    step(model, optimizer)
    checkpoints.save(tmp_path, model, {}, optimizer, {"epoch": 1})
    again, resumed = begun()
    assert checkpoints.restore(tmp_path, again, resumed) == {"epoch": 1}
    for each in ((model, optimizer), (again, resumed)):
        step(*each)
    assert torch.equal(model.weight, again.weight)
    assert torch.equal(model.bias, again.bias)


def test_frozen_stages_are_written_once_and_restored(tmp_path, shared):
    whole = train(tmp_path / "whole").folder / "epoch-4"
    lean = [
        train(tmp_path / name, replace(CONTEXT, shared_stages=str(shared))).folder / "epoch-4" for name in ("a", "b")
    ]
    assert {key[0] for key in load_file(lean[0] / "model.safetensors")} == {"2"}
    assert len(list(shared.iterdir())) == 2, "a file a stage, for both trials"
    for folder in lean:
        model = build()
        checkpoints.load_model(folder, model)
        assert all(
            torch.equal(value, model.state_dict()[key]) for key, value in load_file(whole / "model.safetensors").items()
        )


def test_an_export_needs_no_shared_stages(tmp_path, shared):
    folder = train(tmp_path / "a", replace(CONTEXT, shared_stages=str(shared))).folder
    assert (folder / "epoch-4" / "frozen.json").exists()
    assert not (folder / "best" / "frozen.json").exists()
    checkpoints.load_model(folder / "best", build())  # strictly: nothing is missing


@pytest.mark.parametrize("stop_at", [2, 3, 4])  # before, at and after the first unfreeze
def test_a_resumed_run_ends_where_an_unbroken_run_ends(tmp_path, shared, stop_at):
    context = replace(CONTEXT, shared_stages=str(shared))
    whole = train(tmp_path / "whole", unfreeze="gradual")
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "broken", context, unfreeze="gradual", stop_at=stop_at)
    broken = train(tmp_path / "broken", context, unfreeze="gradual")
    expected, found = (load_file(r.folder / "best" / "model.safetensors") for r in (whole, broken))
    assert all(torch.equal(found[name], value) for name, value in expected.items())


@pytest.mark.parametrize("damage", ["gone", "altered"])
def test_a_damaged_shared_stage_is_written_again(tmp_path, shared, damage):
    context = replace(CONTEXT, shared_stages=str(shared))
    folder = train(tmp_path / "a", context).folder / "epoch-4"
    expected = load_file(folder / "model.safetensors")
    file = checkpoints.stage_files(folder)[0]
    kept = file.read_bytes()
    file.unlink() if damage == "gone" else file.write_bytes(kept[:-1] + bytes([kept[-1] ^ 1]))
    with pytest.raises(DamagedError, match=file.name):
        checkpoints.copy_model(folder, tmp_path / "exported")
    train(tmp_path / "a", context)
    assert file.read_bytes() == kept
    assert all(torch.equal(value, load_file(folder / "model.safetensors")[key]) for key, value in expected.items())


def files(folder) -> list:
    return sorted(path for path in folder.rglob("*") if path.is_file())


@pytest.mark.parametrize("number", range(6))
def test_a_damaged_checkpoint_is_not_used(tmp_path, shared, number):
    """If any file is truncated, altered or missing, the checkpoint before is used, and the result is the same."""
    whole = load_file(train(tmp_path / "whole").folder / "epoch-4" / "model.safetensors")
    for damage in (lambda f: f.write_bytes(f.read_bytes()[:-1]), lambda f: f.write_bytes(b"{}"), lambda f: f.unlink()):
        folder = tmp_path / str(damage)
        with pytest.raises(KeyboardInterrupt):
            train(folder, stop_at=4)
        newest = Checkpoints(folder)
        assert newest.newest() == folder / "epoch-3"
        if number < len(files(folder / "epoch-3")):
            damage(files(folder / "epoch-3")[number])
            assert newest.newest() == folder / "epoch-2"
            assert "epoch 3 is damaged" in newest.notes[0]
        train(folder)
        found = load_file(folder / "epoch-4" / "model.safetensors")
        assert all(torch.equal(value, found[key]) for key, value in whole.items())


def test_epochs_that_the_study_did_not_record_are_deleted(tmp_path):
    train(tmp_path)
    assert Checkpoints(tmp_path).newest(known=3) == tmp_path / "epoch-3"
    assert Checkpoints(tmp_path).epochs()[-1] == 3, "it would be taken for the newest later on"
    assert Checkpoints(tmp_path).newest(known=0) is None


def test_the_best_and_the_newest_are_kept(tmp_path):
    kept = Checkpoints(tmp_path)
    (tmp_path / ".partial-of-one-that-was-killed").mkdir()
    for epoch in range(1, 8):
        kept.add(epoch, epoch in (1, 3), lambda folder: (folder / "x").write_text("x"))
    assert kept.epochs() == [3, 5, 6, 7]
    assert not list(tmp_path.glob(".partial-*"))
    kept.delete_all()
    assert not tmp_path.exists()


def test_a_checkpoint_that_cannot_be_written_leaves_nothing(tmp_path):
    kept = Checkpoints(tmp_path)
    kept.add(1, True, lambda folder: (folder / "x").write_text("x"))

    def full(folder):
        (folder / "y").write_text("y")
        raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")

    with pytest.raises(DiskFullError, match="no room for the checkpoint of epoch 2"):
        kept.add(2, True, full)
    assert [path.name for path in tmp_path.iterdir()] == ["epoch-1"]
    assert kept.newest() == tmp_path / "epoch-1"


@pytest.mark.skipif(os.getuid() != 0, reason="only root can make a small disk")
def test_a_disk_that_is_full_while_assets_are_copied_is_recognised(tmp_path):
    (assets := tmp_path / "assets").mkdir()
    (assets / "vocabulary.txt").write_bytes(bytes(2 << 20))
    (disk := tmp_path / "disk").mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", disk], check=True)
    try:
        kept, model = Checkpoints(disk / "trial"), build()
        write = partial(
            checkpoints.save, model=model, metadata={}, optimizer=torch.optim.AdamW(model.parameters()), resume={}
        )
        kept.add(1, True, write)
        with pytest.raises(DiskFullError, match="no room for the checkpoint of epoch 2"):
            kept.add(2, True, partial(write, assets=assets))
        assert kept.epochs() == [1]
    finally:
        subprocess.run(["umount", disk], check=False)
