"""Decoded detection data: every image at its final size in one memory-mapped array, shared by all trials.

images.npy    (N, 3, H, W) uint8, RGB, resized to fit the input size, zeros to the right and below
boxes.npy     (M, 4) float32, x1 y1 x2 y2 in pixels of the input size
labels.npy    (M,) int64, from 1; 0 is the background, as in torchvision
index.json    classes, the first box of each image, splits, paths; other keys are ignored
"""

import json
import math
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from platform.data import images, long_tail
from platform.data.arrays import Arrays, in_threads, load, write_once

if TYPE_CHECKING:
    from platform.data.detection.dataset import DetectionDataset

DIVISOR = 32  # of the input height and width: the largest stride of a backbone


@dataclass(frozen=True)
class DetectionArrays(Arrays):
    """Opened arrays of a detection data set.

    Attributes:
        images: (N, 3, H, W) uint8, memory-mapped.
        boxes: Boxes of all images, (M, 4) float32.
        labels: Labels of the boxes, (M,) int64.
    """

    images: np.ndarray
    boxes: np.ndarray
    labels: np.ndarray

    @property
    def input_size(self) -> tuple[int, int]:
        """Height and width of every image in pixels."""
        return self.images.shape[2], self.images.shape[3]

    @cached_property
    def training_labels(self) -> list[list[int]]:
        """Labels of the boxes of each training image, in the images' order."""
        first = self.index["first_box"]
        return [self.labels[first[number] : first[number + 1]].tolist() for number in self.split["train"]]

    @cached_property
    def training_images(self) -> list[int]:
        """Number of training images of each class."""
        counts = long_tail.counts(self.training_labels)
        return [counts[label] for label in range(1, len(self.classes) + 1)]

    def image(self, number: int) -> Tensor:
        """Return an image, (3, H, W) uint8."""
        return torch.from_numpy(self.images[number].copy())

    def target(self, number: int) -> dict[str, Tensor]:
        """Return the boxes (K, 4) of an image and their labels (K,)."""
        first, end = self.index["first_box"][number : number + 2]
        return {
            "boxes": torch.from_numpy(self.boxes[first:end].copy()),
            "labels": torch.from_numpy(self.labels[first:end].copy()),
        }


def open_arrays(folder: Path) -> DetectionArrays:
    """Open a folder that `write_arrays` wrote; the images stay on disk."""
    return DetectionArrays(**load(folder, "images", "boxes", "labels"))


def input_size_of(sizes: list[tuple[int, int]], image_size: int) -> tuple[int, int]:
    """Return the height and width, multiples of DIVISOR, that hold every image once its longer side is image_size.

    Args:
        sizes: Height and width of each image.
        image_size: Longer side after resizing, in pixels.
    """
    scaled = [(round(h * image_size / max(h, w)), round(w * image_size / max(h, w))) for h, w in sizes]
    height, width = (-(-max(side) // DIVISOR) * DIVISOR for side in zip(*scaled, strict=True))
    return height, width


def write_arrays(dataset: "DetectionDataset", image_size: int, folder: Path) -> None:
    """Decode a data set into a folder, `image_size` pixels along the longer side; an existing one is left unchanged.

    Raises:
        InputError: The disk has not enough room.
    """
    examples = dataset.examples
    height, width = input_size_of([(example.height, example.width) for example in examples], image_size)
    shape = (len(examples), 3, height, width)

    def fill(partial: Path) -> None:
        pixels = np.lib.format.open_memmap(partial / "images.npy", mode="w+", dtype=np.uint8, shape=shape)

        def decode(number: int) -> float:
            pixels[number], scale = images.letterbox(images.load(examples[number].path), height, width)
            return scale

        scales = in_threads(decode, range(len(examples)))
        pixels.flush()
        boxes = [np.array(e.boxes, np.float32).reshape(-1, 4) * s for e, s in zip(examples, scales, strict=True)]
        np.save(partial / "boxes.npy", np.concatenate(boxes))
        labels = np.array([label + 1 for example in examples for label in example.labels], np.int64)
        np.save(partial / "labels.npy", labels)
        index = {
            "classes": list(dataset.classes),
            "first_box": np.cumsum([0, *(len(example.boxes) for example in examples)]).tolist(),
            "splits": [example.split for example in examples],
            "paths": [str(example.path) for example in examples],
        }
        (partial / "index.json").write_text(json.dumps(index))

    write_once(folder, fill, math.prod(shape), "lower --set image_size")
