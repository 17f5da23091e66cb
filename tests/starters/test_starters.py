"""The shipped backbone loads and has the hash in the README; its script is deterministic."""

import hashlib
import subprocess
import sys

import numpy as np
import pytest
import torch

from platform import project
from platform.models import backbones
from starters import glyphs

STARTER = project.STARTERS / "mobilenet_v2.safetensors"


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def rendered() -> list[list[np.ndarray]]:
    return glyphs.render_glyphs()


def test_the_shipped_starter_loads_and_differs_from_random():
    torch.manual_seed(0)
    body = backbones.load("mobilenet_v2", "starter").eval()
    random = backbones.load("mobilenet_v2", "none")
    assert all(torch.isfinite(value).all() for value in body.state_dict().values())
    assert not torch.equal(body.layer4[0].conv[0][0].weight, random.layer4[0].conv[0][0].weight)
    assert body(torch.rand(1, 3, 128, 128)).std() > 0


def test_the_shipped_starter_is_small_and_the_readmes():
    assert STARTER.stat().st_size <= 8e6
    assert hashlib.sha256(STARTER.read_bytes()).hexdigest() in (project.STARTERS / "README.md").read_text()


def test_training_follows_the_seed(rendered, monkeypatch):
    monkeypatch.setattr(glyphs, "BATCH", 2)
    monkeypatch.setattr(glyphs, "render_glyphs", lambda: rendered)
    first, second, other = (glyphs.torchvision_state(glyphs.train(steps=1, seed=seed)) for seed in (5, 5, 6))
    assert all(torch.equal(first[key], second[key]) for key in first)
    assert any(not torch.equal(first[key], other[key]) for key in first)


def test_the_command_gives_the_same_bytes_in_two_processes(tmp_path, monkeypatch):
    files = [tmp_path / "here.safetensors", tmp_path / "there.safetensors"]
    monkeypatch.setattr(sys, "argv", ["glyphs", "--steps", "1", "--out", str(files[0])])
    try:
        glyphs.main()
    finally:
        torch.use_deterministic_algorithms(False)
    command = [sys.executable, "-m", "starters.glyphs", "--steps", "1", "--out", str(files[1])]
    subprocess.run(command, cwd=project.STARTERS.parent, check=True, capture_output=True)
    assert files[0].read_bytes() == files[1].read_bytes()
    backbones.load("mobilenet_v2", str(files[0]))


@pytest.mark.parametrize("seed", range(5))
def test_training_scenes_are_drawn_in_range(seed, rendered, monkeypatch):
    monkeypatch.setattr(glyphs, "BATCH", 2)
    images, targets = glyphs.batch(np.random.default_rng(seed), rendered)
    for image, target in zip(images, targets, strict=True):
        assert image.shape == (3, glyphs.SIZE, glyphs.SIZE)
        assert 0 <= image.min() < image.max() <= 1
        assert 1 <= target["labels"].min() <= target["labels"].max() <= len(glyphs.ALPHABET)
        boxes = target["boxes"]
        assert (boxes[:, :2] >= 0).all()
        assert (boxes[:, 2:] <= glyphs.SIZE).all()
        assert (boxes[:, 2:] > boxes[:, :2]).all()


def test_every_font_draws_every_glyph(rendered):
    for character, variants in zip(glyphs.ALPHABET, rendered, strict=True):
        assert len(variants) >= 20, character
        assert all(min(glyph.shape) >= 5 for glyph in variants), character
