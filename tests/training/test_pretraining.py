"""A stage ahead of the trials is trained once, stops early, and continues after an interruption."""

import threading

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import nn
from toys import Numbers

from platform.models.stages import Stage
from platform.training.context import Context
from platform.training.fit import fit
from platform.training.freezing import Freezing
from platform.training.optimization import Optimization
from platform.training.pretraining import once
from platform.training.reporters import ToFolder

INPUTS = torch.randn(32, 4, generator=torch.Generator().manual_seed(0))
TARGETS = INPUTS @ torch.tensor([[1.0], [-2.0], [0.5], [0.0]])


class StopError(Exception):
    pass


def train(reporter, epochs=6, patience=None, errors=None, stop_after=None):
    """Train a linear regression; `errors` replace its own scores, `stop_after` interrupts it as a kill would."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.2), nn.Linear(8, 1))
    seen = []

    def evaluate(model, look):
        if len(seen) == stop_after:
            raise StopError
        seen.append(1)
        error = float(((model(INPUTS) - TARGETS) ** 2).mean())
        return {"val/loss": errors[len(reporter.history())] if errors else error}

    fit(
        model,
        [Stage("all", ("0", "2"))],
        examples=Numbers(),
        loss=lambda model, batch: {"loss": ((model(INPUTS[batch.indices]) - TARGETS[batch.indices]) ** 2).mean()},
        batches=lambda generator: np.array_split(generator.permutation(16), 4),
        steps_per_epoch=4,
        evaluate=evaluate,
        freezing=Freezing(0),
        optimization=Optimization(1e-2),
        context=Context("toy", "", 0, epochs, "val/loss", "min"),
        metadata={"task": "toy"},
        patience=patience,
        reporter=reporter,
    )


def test_it_stops_early_and_keeps_the_best_epoch(tmp_path):
    reporter = ToFolder(tmp_path / "a")
    train(reporter, patience=2, errors=[5, 3, 4, 4, 9, 9])
    assert [row["val/loss"] for row in reporter.history()] == [5, 3, 4, 4]
    two = ToFolder(tmp_path / "b")
    train(two, epochs=6, errors=[5, 3, 4, 4, 9, 9], patience=1)
    kept = [load_file(tmp_path / name / "best" / "model.safetensors") for name in "ab"]
    assert all(torch.equal(kept[0][key], kept[1][key]) for key in kept[0]), "both are of the second epoch"


@pytest.mark.parametrize("stop_after", [0, 1, 4])
def test_going_on_ends_where_an_unbroken_run_ends(stop_after, tmp_path):
    whole, broken = ToFolder(tmp_path / "whole"), ToFolder(tmp_path / "broken")
    train(whole)
    with pytest.raises(StopError):
        train(broken, stop_after=stop_after)
    train(broken)
    curves = [[row["val/loss"] for row in reporter.history()] for reporter in (whole, broken)]
    assert curves[0] == curves[1]
    assert len(curves[0]) == 6
    kept = [load_file(r.folder / "best" / "model.safetensors") for r in (whole, broken)]
    assert all(torch.equal(kept[0][key], kept[1][key]) for key in kept[0])


def test_several_trials_train_it_once(tmp_path):
    begun, found = [], []

    def slow(reporter):
        begun.append(1)
        train(reporter, epochs=2)

    threads = [threading.Thread(target=lambda: found.append(once(tmp_path / "x", slow))) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(begun) == 1
    assert sorted(found) == [False, True, True]
    assert not list((tmp_path / "x").glob("epoch-*")), "what only going on needs is gone"


def test_what_failed_is_tried_again(tmp_path):
    with pytest.raises(StopError):
        once(tmp_path / "x", lambda reporter: train(reporter, epochs=3, stop_after=2))
    assert once(tmp_path / "x", lambda reporter: train(reporter, epochs=3)) is False
    assert once(tmp_path / "x", train) is True
