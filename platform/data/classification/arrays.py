"""Labelled images decoded once: every image as a square of the model's size, shared by all trials.

images.npy    (N, 3, S, S) uint8, RGB
labels.npy    (N,) int64, from 0
index.json    classes, splits, paths
"""

import json
import math
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image
from torchvision.transforms import functional

from platform.data import images
from platform.data.arrays import in_threads, indices_by_split, write_once

if TYPE_CHECKING:
    from platform.data.classification.dataset import ImageDataset

_LONGEST = 8  # times the shorter side


@dataclass(frozen=True)
class ImageArrays:
    """The opened arrays.

    Attributes:
        images: (N, 3, S, S) uint8, memory-mapped.
        labels: (N,) int64, indices of `classes`.
        index: The contents of index.json.
    """

    images: np.ndarray
    labels: np.ndarray
    index: dict[str, Any]

    @property
    def classes(self) -> list[str]:
        return self.index["classes"]

    @cached_property
    def split(self) -> dict[str, np.ndarray]:
        """The indices of the images in each split."""
        return indices_by_split(self.index["splits"])


def square(image: Image.Image, size: int, crop: float = 1.0) -> np.ndarray:
    """A picture as CLIP preprocesses it: resized, bicubic, antialiased, and the centre cut out.

    Args:
        image: RGB, as `images.load` gives it.
        size: Height and width in pixels.
        crop: The share of the shorter side that is kept: 1 for CLIP, see `backbones.crop` for torchvision.

    Returns:
        (3, size, size) uint8, RGB.
    """
    # What is cut off anyway need not be resized: enlarged as a whole, a line of pixels would fill the memory.
    longest = _LONGEST * min(image.size)
    if max(image.size) > longest:
        image = functional.center_crop(image, [min(image.height, longest), min(image.width, longest)])
    resized = functional.resize(image, [round(size / crop)], functional.InterpolationMode.BICUBIC)
    return np.array(functional.center_crop(resized, [size])).transpose(2, 0, 1)


def open_arrays(folder: Path) -> ImageArrays:
    """Open what `write` wrote; the images stay on disk."""
    return ImageArrays(
        images=np.load(folder / "images.npy", mmap_mode="r"),
        labels=np.load(folder / "labels.npy", mmap_mode="r"),
        index=json.loads((folder / "index.json").read_text()),
    )


def write(dataset: "ImageDataset", image_size: int, crop: float, folder: Path) -> None:
    """Decode a data set into a folder, as `square` does it; one that is there already is left as it is.

    Raises:
        InputError: The disk has no room for it.
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
