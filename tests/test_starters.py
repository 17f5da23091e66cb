"""The shipped starter loads and is the one that the README names; its script gives the same bytes twice."""

import hashlib
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from platform import backbones
from starters import glyphs

STARTER = backbones.STARTERS / "mobilenet_v2.safetensors"


def test_the_shipped_starter_loads_and_differs_from_random():
    torch.manual_seed(0)
    body = backbones.load("mobilenet_v2", "starter").eval()
    random = backbones.load("mobilenet_v2", "none")
    assert all(torch.isfinite(value).all() for value in body.state_dict().values())
    assert not torch.equal(body.layer4[0].conv[0][0].weight, random.layer4[0].conv[0][0].weight)
    assert body(torch.rand(1, 3, 128, 128)).std() > 0


def test_the_shipped_starter_is_small_and_the_readmes():
    assert STARTER.stat().st_size <= 8e6
    assert hashlib.sha256(STARTER.read_bytes()).hexdigest() in (backbones.STARTERS / "README.md").read_text()


def test_the_script_gives_the_same_bytes_twice_and_loads(tmp_path, monkeypatch):
    monkeypatch.setattr(glyphs, "BATCH", 2)
    bodies = [glyphs.torchvision_state(glyphs.train(steps=2, seed=5)) for _ in range(2)]
    assert all(torch.equal(bodies[0][key], bodies[1][key]) for key in bodies[0])
    other = glyphs.torchvision_state(glyphs.train(steps=2, seed=6))
    assert any(not torch.equal(bodies[0][key], other[key]) for key in other)


def test_the_command_gives_the_same_bytes_twice(tmp_path):
    files = [tmp_path / "a.safetensors", tmp_path / "b.safetensors"]
    commands = [[sys.executable, "-m", "starters.glyphs", "--steps", "1", "--out", str(file)] for file in files]
    root = Path(backbones.STARTERS).parent
    for process in [subprocess.Popen(command, cwd=root, stdout=subprocess.DEVNULL) for command in commands]:
        assert process.wait() == 0
    assert files[0].read_bytes() == files[1].read_bytes()
    backbones.load("mobilenet_v2", str(files[0]))


@pytest.mark.parametrize("seed", range(5))
def test_training_scenes_are_drawn_in_range(seed, monkeypatch):
    monkeypatch.setattr(glyphs, "BATCH", 2)
    images, targets = glyphs.batch(np.random.default_rng(seed), glyphs.render_glyphs())
    for image, target in zip(images, targets, strict=True):
        assert image.shape == (3, glyphs.SIZE, glyphs.SIZE)
        assert 0 <= image.min() < image.max() <= 1
        assert 1 <= target["labels"].min() <= target["labels"].max() <= len(glyphs.ALPHABET)
        boxes = target["boxes"]
        assert (boxes[:, :2] >= 0).all()
        assert (boxes[:, 2:] <= glyphs.SIZE).all()
        assert (boxes[:, 2:] > boxes[:, :2]).all()


def test_every_font_draws_every_glyph():
    for character, variants in zip(glyphs.ALPHABET, glyphs.render_glyphs(), strict=True):
        assert len(variants) >= 20, character
        assert all(min(glyph.shape) >= 5 for glyph in variants), character
