import subprocess
import sys
from pathlib import Path

import numpy as np
import open_clip
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torchvision.models import MobileNet_V2_Weights
from torchvision.transforms import InterpolationMode

from platform.data import images
from platform.data.classification import arrays as image_arrays
from platform.data.classification import dataset as image_classes
from platform.models import backbones, encoders

ROOT = Path(__file__).parents[3]


def test_arrays_hold_the_data_set(tmp_path, save):
    for number in range(12):
        save(tmp_path / "data" / ("ant", "bee")[number % 2] / f"{number:02}.png", number)
    dataset = image_classes.read(tmp_path / "data", 0)
    image_arrays.write(dataset, 24, 0.75, tmp_path / "arrays")
    arrays = image_arrays.open_arrays(tmp_path / "arrays")
    assert (arrays.images.shape, arrays.images.dtype, arrays.labels.dtype) == ((12, 3, 24, 24), np.uint8, np.int64)
    assert isinstance(arrays.images, np.memmap)
    assert arrays.classes == ["ant", "bee"]
    assert sorted(np.concatenate(list(arrays.split.values()))) == list(range(12))
    for number, example in enumerate(dataset.examples):
        assert arrays.labels[number] == example.label
        assert number in arrays.split[example.split]
        assert np.array_equal(arrays.images[number], image_arrays.square(images.load(example.path), 24, 0.75))
    before = (tmp_path / "arrays" / "images.npy").stat().st_mtime_ns
    image_arrays.write(dataset, 24, 0.75, tmp_path / "arrays")
    assert (tmp_path / "arrays" / "images.npy").stat().st_mtime_ns == before


@pytest.mark.parametrize("shape", [(200, 300), (300, 201), (40, 40), (57, 31)])
def test_a_square_is_what_clip_sees(shape):
    pixels = np.random.default_rng(0).integers(0, 256, (*shape, 3), np.uint8)
    clip = open_clip.image_transform(64, is_train=False, mean=(0, 0, 0), std=(1, 1, 1))
    made = image_arrays.square(Image.fromarray(pixels), 64)
    assert np.array_equal(made, np.rint(clip(Image.fromarray(pixels)).numpy() * 255).astype(np.uint8))


def test_a_square_is_what_imagenet_weights_see():
    pixels = np.random.default_rng(0).integers(0, 256, (300, 413, 3), np.uint8)
    preset = MobileNet_V2_Weights.IMAGENET1K_V1.transforms(
        mean=(0, 0, 0), std=(1, 1, 1), interpolation=InterpolationMode.BICUBIC
    )
    crop = backbones.crop("mobilenet_v2", "IMAGENET1K_V1")
    made = image_arrays.square(Image.fromarray(pixels), encoders.USUAL_SIZE, crop)
    assert np.array_equal(made, np.rint(preset(Image.fromarray(pixels)).numpy() * 255).astype(np.uint8))


@settings(deadline=None, max_examples=60)
@given(st.integers(8, 400), st.integers(8, 400), st.integers(8, 64))
def test_a_square_of_any_picture_shows_its_centre(width, height, size):
    pixels = np.zeros((height, width, 3), np.uint8)
    side = min(width, height)
    top, left = (height - side) // 2, (width - side) // 2
    pixels[top : top + side, left : left + side] = (10, 20, 30)
    made = image_arrays.square(Image.fromarray(pixels), size)
    assert (made.shape, made.dtype) == ((3, size, size), np.uint8)
    assert made[:, size // 2, size // 2].tolist() == [10, 20, 30]


def test_a_very_long_picture_is_not_enlarged_as_a_whole():
    image = Image.new("RGB", (4_000_000, 1), "white")  # at its full length this would take 600 GB
    assert (image_arrays.square(image, 224) == 255).all()


def test_a_logged_model_needs_no_reader():
    code = (
        "import sys, platform.data.classification.arrays; assert not {'pandas', 'sklearn', 'scipy'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)
