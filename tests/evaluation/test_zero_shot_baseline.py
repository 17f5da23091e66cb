"""Zero-shot classification by the starter on digits, and by other kinds of models."""

import json
from pathlib import Path

import numpy as np
import open_clip
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from platform.data.embedded import scenes
from platform.errors import InputError
from platform.evaluation import zero_shot_baseline
from platform.models import encoders

CONFIG = {
    "embed_dim": 16,
    "vision_cfg": {"image_size": 32, "patch_size": 16, "width": 32, "layers": 1, "head_width": 16},
    "text_cfg": {"context_length": 16, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1},
}

NAMES = [f"{a} {b}" for a in ("red", "old", "small", "a b c d", "bright") for b in ("cat", "house of cards", "7")]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory) -> str:
    folder = tmp_path_factory.mktemp("tiny")
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": CONFIG}))
    torch.manual_seed(0)
    model = open_clip.create_model(f"local-dir:{folder}", load_weights=False)
    save_file(model.state_dict(), folder / "open_clip_model.safetensors")
    return f"local-dir:{folder}"


@pytest.fixture(scope="module")
def pictures() -> np.ndarray:
    colours, noise = (np.random.default_rng(0).integers(0, 128, (40, 3, side, side)) for side in (1, 32))
    return (colours + noise).astype(np.uint8)


def test_the_starter_tells_handwritten_digits_apart(tmp_path):
    root = scenes.write_objects(tmp_path / "objects", seed=5, counts={"test": 60})
    files = sorted(root.glob("test/*/*.png"))
    images = np.stack([np.asarray(Image.open(file)).transpose(2, 0, 1) for file in files])
    labels = np.array([int(file.parent.name) for file in files])
    found = zero_shot_baseline.classify("local-dir:starters/clip", "DEFAULT", "0123456789", images)
    assert (found == labels).mean() > 0.4  # chance is 0.1


def test_predictions_are_what_open_clip_would_give(tiny, pictures):
    found = zero_shot_baseline.classify(tiny, "DEFAULT", NAMES, pictures, batch=3)
    model, _, preprocess = open_clip.create_model_and_transforms(tiny)
    tokenize = open_clip.get_tokenizer(tiny)
    with torch.no_grad():
        sentences = [tokenize([template.format(name) for template in zero_shot_baseline.TEMPLATES]) for name in NAMES]
        texts = torch.stack([model.eval().encode_text(each, normalize=True).mean(0) for each in sentences])
        inputs = torch.stack([preprocess(Image.fromarray(picture.transpose(1, 2, 0))) for picture in pictures])
        cosines = torch.nn.functional.cosine_similarity(model.encode_image(inputs)[:, None], texts[None], dim=-1)
    assert found.tolist() == cosines.argmax(1).tolist()
    assert len(set(found.tolist())) > 1, "else this test could not fail"


def test_underscores_and_hyphens_in_class_names_are_blanks(tiny, pictures):
    plain = zero_shot_baseline.classify(tiny, "DEFAULT", NAMES, pictures)
    marked = zero_shot_baseline.classify(tiny, "DEFAULT", [name.replace(" ", "_") for name in NAMES], pictures)
    other = zero_shot_baseline.classify(tiny, "DEFAULT", [name.replace(" ", "x") for name in NAMES], pictures)
    assert plain.tolist() == marked.tolist() != other.tolist()
    assert (
        plain.tolist()
        == zero_shot_baseline.classify(tiny, "DEFAULT", [n.replace(" ", "-") for n in NAMES], pictures).tolist()
    )


def test_no_images_give_no_predictions(tiny, pictures):
    assert zero_shot_baseline.classify(tiny, "DEFAULT", ["a", "b"], pictures[:0]).shape == (0,)


def test_models_without_a_text_tower_give_none(tiny, pictures, tmp_path):
    assert zero_shot_baseline.classify("resnet18", "none", ["a", "b"], pictures) is None
    file = tmp_path / "saved.safetensors"
    encoders.save(encoders.load(tiny, "DEFAULT"), file)
    assert zero_shot_baseline.classify(tiny, str(file), ["a", "b"], pictures) is None


def test_a_checkpoint_without_its_text_tower_is_refused(tiny, pictures, tmp_path):
    folder = Path(tiny.removeprefix("local-dir:"))
    state = encoders.load_tensors(folder / "open_clip_model.safetensors")
    file = tmp_path / "image_only.safetensors"
    save_file({key: value for key, value in state.items() if key.startswith("visual.")}, file)
    encoders.load(tiny, str(file))  # the encoder alone takes it
    with pytest.raises(InputError, match="both towers"):
        zero_shot_baseline.classify(tiny, str(file), ["a", "b"], pictures)


def test_a_missing_tokenizer_is_reported(tmp_path, pictures):
    config = CONFIG | {"text_cfg": CONFIG["text_cfg"] | {"hf_tokenizer_name": "its/own"}}
    (tmp_path / "open_clip_config.json").write_text(json.dumps({"model_cfg": config}))
    with pytest.raises(InputError, match="tokenizer"):
        zero_shot_baseline.classify(f"local-dir:{tmp_path}", "none", ["a", "b"], pictures)
