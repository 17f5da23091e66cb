"""Decoded labelled images: every image as a square of the model's size, shared by all trials.

images.npy    (N, 3, S, S) uint8, RGB
labels.npy    (N,) int64, from 0
index.json    classes, splits, paths
"""

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image
from torchvision.transforms import functional

from platform.data import images
from platform.data.arrays import Arrays, in_threads, load, write_once

if TYPE_CHECKING:
    from platform.data.classification.dataset import ImageDataset

_LONGEST = 8  # most times the shorter side that the longer side is resized


@dataclass(frozen=True)
class ImageArrays(Arrays):
    """Opened arrays of labelled images.

    Attributes:
        images: (N, 3, S, S) uint8, memory-mapped.
        labels: Indices of `classes`, (N,) int64.
    """

    images: np.ndarray
    labels: np.ndarray


def square(image: Image.Image, size: int, crop: float = 1.0) -> np.ndarray:
    """Preprocess an RGB picture as CLIP does: resize it, bicubic and antialiased, and crop its centre.

    `crop` is the share of the shorter side that is kept: 1 for CLIP, see `backbones.crop` for torchvision.

    Returns:
        (3, size, size) uint8, RGB.
    """
    # crop very long images first: a line of pixels, enlarged as a whole, would fill the memory
    longest = _LONGEST * min(image.size)
    if max(image.size) > longest:
        image = functional.center_crop(image, [min(image.height, longest), min(image.width, longest)])
    resized = functional.resize(image, [round(size / crop)], functional.InterpolationMode.BICUBIC)
    return np.array(functional.center_crop(resized, [size])).transpose(2, 0, 1)


def open_arrays(folder: Path) -> ImageArrays:
    """Open a folder that `write` wrote; the images stay on disk."""
    return ImageArrays(**load(folder, "images", "labels"))


def write(dataset: "ImageDataset", image_size: int, crop: float, folder: Path) -> None:
    """Decode a data set into a folder with `square`; an existing folder is left unchanged.

    Raises:
        InputError: The disk has not enough room.
    """
    examples = dataset.examples
    shape = (len(examples), 3, image_size, image_size)

    def fill(partial: Path) -> None:
        pixels = np.lib.format.open_memmap(partial / "images.npy", mode="w+", dtype=np.uint8, shape=shape)

        def decode(number: int) -> None:
            pixels[number] = square(images.load(examples[number].path), image_size, crop)

        in_threads(decode, range(len(examples)))
        pixels.flush()
        np.save(partial / "labels.npy", np.array([example.label for example in examples], np.int64))
        index = {
            "classes": list(dataset.classes),
            "splits": [example.split for example in examples],
            "paths": [str(example.path) for example in examples],
        }
        (partial / "index.json").write_text(json.dumps(index))

    write_once(folder, fill, math.prod(shape), "lower --set image_size")
