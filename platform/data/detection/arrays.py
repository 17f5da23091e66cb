"""A detection data set decoded once: every image at its final size in one memory-mapped array, shared by all trials.

images.npy    (N, 3, H, W) uint8, RGB, resized to fit the input size, zeros to the right and below
boxes.npy     (M, 4) float32, x1 y1 x2 y2 in pixels of the input size
labels.npy    (M,) int64, from 1; 0 is the background, as torchvision has it
index.json    classes, the first box of each image, splits, paths
"""

import json
import math
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from platform.data import images, long_tail
from platform.data.arrays import in_threads, indices_by_split, write_once

if TYPE_CHECKING:
    from platform.data.detection.dataset import DetectionDataset

DIVISOR = 32  # of the input size's sides: the largest stride of a backbone


@dataclass(frozen=True)
class DetectionArrays:
    """The opened arrays.

    Attributes:
        images: (N, 3, H, W) uint8, memory-mapped.
        boxes: (M, 4) float32.
        labels: (M,) int64.
        index: The contents of index.json.
    """

    images: np.ndarray
    boxes: np.ndarray
    labels: np.ndarray
    index: dict[str, Any]

    @property
    def classes(self) -> list[str]:
        return self.index["classes"]

    @property
    def input_size(self) -> tuple[int, int]:
        """Height and width of every image."""
        return self.images.shape[2], self.images.shape[3]

    @cached_property
    def split(self) -> dict[str, np.ndarray]:
        """The indices of the images in each split."""
        return indices_by_split(self.index["splits"])

    @cached_property
    def training_labels(self) -> list[list[int]]:
        """Of each training image, in the order of its number, the labels of its boxes."""
        first = self.index["first_box"]
        return [self.labels[first[number] : first[number + 1]].tolist() for number in self.split["train"]]

    @cached_property
    def training_images(self) -> list[int]:
        """In how many training images each class is."""
        counts = long_tail.counts(self.training_labels)
        return [counts[label] for label in range(1, len(self.classes) + 1)]

    def image(self, number: int) -> Tensor:
        """(3, H, W) uint8."""
        return torch.from_numpy(self.images[number].copy())

    def target(self, number: int) -> dict[str, Tensor]:
        """The boxes (K, 4) of an image and their labels (K,)."""
        first, end = self.index["first_box"][number : number + 2]
        return {
            "boxes": torch.from_numpy(self.boxes[first:end].copy()),
            "labels": torch.from_numpy(self.labels[first:end].copy()),
        }


def open_arrays(folder: Path) -> DetectionArrays:
    """Open what `write_arrays` wrote; the images stay on disk."""
    return DetectionArrays(
        images=np.load(folder / "images.npy", mmap_mode="r"),
        boxes=np.load(folder / "boxes.npy", mmap_mode="r"),
        labels=np.load(folder / "labels.npy", mmap_mode="r"),
        index=json.loads((folder / "index.json").read_text()),
    )


def input_size_of(sizes: list[tuple[int, int]], image_size: int) -> tuple[int, int]:
    """Height and width that hold every image once its longer side is image_size, rounded up to DIVISOR.

    Args:
        sizes: Height and width of each image.
        image_size: Longer side after resizing, in pixels.
    """
    scaled = [(round(h * image_size / max(h, w)), round(w * image_size / max(h, w))) for h, w in sizes]
    height, width = (-(-max(side) // DIVISOR) * DIVISOR for side in zip(*scaled, strict=True))
    return height, width


def write_arrays(dataset: "DetectionDataset", image_size: int, folder: Path) -> None:
    """Decode a data set into a folder; one that is there already is left as it is.

    Raises:
        InputError: The disk has no room for it.
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
