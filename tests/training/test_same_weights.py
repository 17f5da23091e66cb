"""Every task at every split index ends with the same weights with the feature store as without it."""

import csv
import functools
from dataclasses import asdict
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from platform import task
from platform.data.embedded import blurbs, scenes
from platform.task import space_of
from platform.training import example_feed, frozen_prefix
from platform.training.context import Context
from platform.training.freezing import Freezer
from platform.training.reporters import ToFolder
from platform.training.reuse_cost import Decision

# A space's settings that make a trial tiny, by task; and what is tried besides each depth.
TINY = {
    "autoencoder": ["width=8", "bottleneck=32", "pretrain_epochs=0", "label_fraction=0.1", "batch_size=64"],
    "classifier": ["head_width=64", "batch_size=16", "head_norm=layer"],
    "detector": ["image_size=64", "channels=32", "batch_size=4"],
    "sentences": ["max_tokens=16", "head_width=64", "batch_size=16", "layer=-1"],
}
DEPTHS = {"autoencoder": 4, "classifier": 6, "detector": 5, "sentences": 5}
CASES = [
    (name, [f"freeze_depth={depth}", "unfreeze=never"]) for name, most in DEPTHS.items() for depth in range(1, most + 1)
]
CASES += [(name, [f"freeze_depth={most}", "unfreeze=gradual", "unfreeze_at=0.3"]) for name, most in DEPTHS.items()]
CASES += [
    (name, [f"freeze_depth={most}", "unfreeze=at_once", "unfreeze_at=0.6", "augment=0.1..1", "views=2"])
    for name, most in DEPTHS.items()
    if name != "sentences"
]
CASES += [
    ("detector", ["freeze_depth=5", "unfreeze=never", "flip=true", f"architecture={name}"])
    for name in ("retinanet", "faster_rcnn", "ssdlite")
]
CASES += [
    ("detector", ["freeze_depth=5", "unfreeze=gradual", "unfreeze_at=0.3", "oversample=0.9"]),
    ("detector", ["freeze_depth=3", "unfreeze=never", "architecture=ssdlite", "batch_norm=updated"]),
    (
        "classifier",
        ["backbone=mobilenet_v2", "weights=starter", "freeze_depth=4", "unfreeze=never", "flip=true", "image_size=64"],
    ),
    ("sentences", ["freeze_depth=5", "unfreeze=never", "pooling=max", "layer=-2"]),
    ("sentences", ["freeze_depth=4", "unfreeze=on_plateau", "unfreeze_at=0.1", "pooling=cls", "weighting=uncertainty"]),
]


@pytest.fixture(scope="module")
def sources(scenes_folder, tmp_path_factory):
    root = tmp_path_factory.mktemp("sources")
    rows = list(csv.DictReader(blurbs.write(root / "all.csv", seed=1).open()))
    with (root / "some.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0].keys())
        writer.writeheader()
        writer.writerows(rows[:160])
    objects = scenes.write_objects(root / "objects", seed=1, counts={"train": 40, "val": 12, "test": 12}, size=64)
    return {"autoencoder": [], "classifier": [objects], "detector": [scenes_folder], "sentences": [root / "some.csv"]}


@pytest.fixture(scope="module")
def cache(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def train(sources, cache, tmp_path):
    def run(name: str, settings: list[str], store: Path | None) -> tuple[dict, list[dict]]:
        module = task.load(name)
        space, faults = space_of(module, name, [*TINY[name], *settings], max_epochs=3)
        assert faults == []
        data = module.prepare(space, module.read(sources[name], cache, 0, space), cache)
        folder = tmp_path / ("kept" if store else "plain")
        kept = {"store": str(store), "store_bytes": 10**9} if store else {}
        context = Context(name, str(data), 0, 3, space.metric, space.mode, folder=str(folder), **kept)
        module.train({**space.fixed, **space.start, "context": asdict(context)})
        return load_file(folder / "epoch-3" / "model.safetensors"), ToFolder(folder).history()

    return run


@pytest.mark.parametrize(
    ("name", "settings"), CASES, ids=lambda value: value if isinstance(value, str) else " ".join(value)
)
def test_weights_and_scores_are_the_same_with_the_store(name, settings, train, tmp_path, monkeypatch):
    # Stored even if computing is quicker, or if the outputs are used once before the next unfreezing.
    monkeypatch.setattr(example_feed, "decide", lambda *costs, **options: Decision(True, "told to"))
    monkeypatch.setattr(Freezer, "lasting", lambda self, epoch: 9)
    if {"architecture=ssdlite", "architecture=faster_rcnn"} & set(settings):
        # These two blow rounding errors up: SSDlite's BatchNorm over a few places turns 1e-7 in the images into 0.01 in
        # its weights, and Faster R-CNN then proposes other regions. In batches of one size the frozen stages' outputs
        # are the same to the bit.
        monkeypatch.setattr(frozen_prefix, "BATCH", 4)
    # With Adam's usual epsilon a gradient that is nothing but rounding error becomes a whole step.
    monkeypatch.setattr(torch.optim, "AdamW", functools.partial(torch.optim.AdamW, eps=1e-2))
    plain, plain_scores = train(name, settings, None)
    kept, scores = train(name, settings, tmp_path / "store")
    assert scores[-1]["reuse/computed"] > 0
    assert not any(key.startswith("reuse/") for key in plain_scores[-1])
    assert kept.keys() == plain.keys()
    for key, value in plain.items():
        message = functools.partial("{}: {}".format, key)
        torch.testing.assert_close(kept[key], value, rtol=1e-3, atol=1e-5, msg=message)
    for before, after in zip(plain_scores, scores, strict=True):
        for key in before:
            if not key.startswith("time/"):
                assert after[key] == pytest.approx(before[key], rel=1e-2, abs=1e-3), key
