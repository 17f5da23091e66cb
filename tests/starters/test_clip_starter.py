"""The shipped CLIP loads in open_clip, is small and better than chance; its script is deterministic."""

import math

import numpy as np
import open_clip
import pytest
import torch
from PIL import Image
from torch.nn import functional as F

from platform.models import open_clip_models
from platform.storage import hashing
from starters import clip, glyphs

FOLDER = open_clip_models.ROOT / "starters" / "clip"


@pytest.fixture(scope="module")
def rendered() -> list[list[np.ndarray]]:
    return glyphs.render_glyphs()


def small(monkeypatch, rendered) -> None:
    monkeypatch.setattr(clip, "BATCH", 4)
    monkeypatch.setattr(clip, "WARM_UP", 1)
    monkeypatch.setattr(glyphs, "render_glyphs", lambda: rendered)


@torch.no_grad()
def test_open_clip_loads_the_shipped_folder_and_it_tells_glyphs_apart(rendered):
    model, _, preprocess = open_clip.create_model_and_transforms(f"local-dir:{FOLDER}")
    tokenize = open_clip.get_tokenizer(f"local-dir:{FOLDER}")
    rng = np.random.default_rng(7)
    drawn = [(label, clip.draw(rng, rendered[label][0])[0]) for label in range(10) for _ in range(6)]
    inputs = torch.stack([preprocess(Image.fromarray((255 * picture).astype(np.uint8))) for _, picture in drawn])
    images = model.eval().encode_image(inputs, normalize=True)
    for names in (glyphs.DIGITS, clip.WORDS):
        texts = model.encode_text(tokenize([f"a photo of a {name}." for name in names]), normalize=True)
        right = (images @ texts.T).argmax(1) == torch.tensor([label for label, _ in drawn])
        assert right.float().mean() > 0.7  # chance is 0.1


def test_the_shipped_folder_is_small_and_the_readmes():
    assert {file.name for file in FOLDER.iterdir()} == {"open_clip_config.json", "open_clip_model.safetensors"}
    assert sum(file.stat().st_size for file in FOLDER.iterdir()) <= 8e6
    assert hashing.sha256_of(FOLDER / "open_clip_model.safetensors") in (FOLDER.parent / "README.md").read_text()


def test_training_follows_the_seed_and_is_written_for_open_clip(rendered, monkeypatch, tmp_path):
    small(monkeypatch, rendered)
    first, second, other = (clip.train(steps=1, seed=seed) for seed in (5, 5, 6))
    states = [model.state_dict() for model in (first, second, other)]
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])
    assert any(not torch.equal(states[0][key], states[2][key]) for key in states[0])
    clip.write(first, tmp_path)
    loaded = open_clip.create_model(f"local-dir:{tmp_path}").state_dict()
    assert all(torch.equal(loaded[key], states[0][key].half().float()) for key in loaded)
    assert loaded["token_embedding.weight"].any(1).sum() < 100, "only what captions hold"


def test_batches_are_of_the_models_size_and_each_caption_is_true_of_its_own_picture(rendered, monkeypatch):
    small(monkeypatch, rendered)
    images, captions, matches = clip.batch(np.random.default_rng(0), rendered)
    assert images.shape == (4, 3, clip.SIZE, clip.SIZE)
    assert len(captions) == 4
    assert matches.diagonal().all()


@pytest.mark.parametrize("seed", range(20))
def test_a_caption_says_what_it_claims_to_say(seed):
    rng = np.random.default_rng(seed)
    character = clip.choose(rng)
    glyph = clip.glyph_of(character, "red")
    said, text = clip.describe(rng, glyph)
    words = text.rstrip(".").split()
    name = clip.WORDS[int(character)] if character.isdigit() and character not in words else character.lower()
    assert name in words
    assert ("red" in words) == (said.colour == "red")
    assert ("capital" in words) == (said.capital is True)
    assert ("small" in words) == (said.capital is False)
    assert glyph.matches(said)


def test_captions_of_another_character_colour_or_case_are_not_true():
    glyph = clip.glyph_of("A", "red")
    assert glyph.matches(clip.Glyph("a", None, None))
    assert not glyph.matches(clip.Glyph("b", None, None))
    assert not glyph.matches(clip.Glyph("a", "blue", None))
    assert not glyph.matches(clip.Glyph("a", "red", False))


def test_colours_have_their_names():
    colours = {(1, 0, 0): "red", (1, 0, 0.05): "red", (1, 0.5, 0): "orange", (1, 1, 0): "yellow", (0, 0.8, 0): "green"}
    colours |= {(0.1, 0.1, 1): "blue", (0, 0, 0): "black", (1, 1, 1): "white", (0.5, 0.5, 0.5): "grey"}
    assert {colour: clip.colour_name(np.array(colour, float)) for colour in colours} == colours


def test_the_loss_with_one_match_each_is_clips_and_shares_out_several():
    torch.manual_seed(0)
    images, texts = (F.normalize(torch.randn(5, 8), dim=1) for _ in range(2))
    scale = torch.tensor(math.log(10.0))
    own = clip.contrastive_loss(images, texts, scale, torch.eye(5, dtype=torch.bool))
    torch.testing.assert_close(own, open_clip.ClipLoss()(images, texts, scale.exp()))
    corners = torch.eye(2).repeat_interleave(2, dim=0)  # two images and two captions at each of two corners
    matches = (corners @ corners.T).bool()
    shared = clip.contrastive_loss(corners, corners, torch.tensor(math.log(100.0)), matches)
    assert shared.item() == pytest.approx(math.log(2), abs=1e-4), "the least there can be: either of two"
