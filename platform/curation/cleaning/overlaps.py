"""Boxes of one image that lie in the same place: one annotation made twice, or two that contradict each other."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from platform.data.detection.annotations import Box, RawBox

SAME = 0.95  # intersection over union of two boxes of a class that are one
SAME_IN_COPIES = 0.9  # and where two people drew them, on two copies of the image
CONFLICT = 0.9  # of two boxes of different classes that cannot both be right


class Placed(NamedTuple):
    """A box that can be used.

    Attributes:
        box: In the upright image, within it.
        name: Its class.
        raw: As it was written.
        file: The image that it was written for: the one that is kept, or a copy of it.
    """

    box: Box
    name: str
    raw: RawBox
    file: Path


class Settled(NamedTuple):
    """What becomes of the boxes of an image.

    Attributes:
        kept: In the order given.
        again: Those that are there already, each with the one that is kept, and their intersection over union.
        conflicts: Those that are in the place of one of another class, each with that one.
    """

    kept: list[Placed]
    again: list[tuple[Placed, Placed, float]]
    conflicts: list[tuple[Placed, Placed]]


def settle(placed: Sequence[Placed]) -> Settled:
    """Finds those that are in the same place."""
    settled = Settled([], [], [])
    if not placed:
        return settled
    boxes = np.array([each.box for each in placed])
    first: list[int] = []
    for number, each in enumerate(placed):
        same = [other for other in first if placed[other].name == each.name]
        overlap = _iou(boxes[number], boxes[same])
        least = np.array([SAME if placed[other].file == each.file else SAME_IN_COPIES for other in same])
        if (overlap >= least).any():
            best = int((overlap * (overlap >= least)).argmax())
            settled.again.append((each, placed[same[best]], float(overlap[best])))
        else:
            first.append(number)
    for number in first:
        others = [other for other in first if placed[other].name != placed[number].name]
        overlap = _iou(boxes[number], boxes[others])
        if (overlap >= CONFLICT).any():
            settled.conflicts.append((placed[number], placed[others[int(overlap.argmax())]]))
        else:
            settled.kept.append(placed[number])
    return settled


def _iou(box: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Intersection over union of a box with each of the others, of shape (boxes, 4)."""
    shared = np.minimum(box[2:], others[:, 2:]) - np.maximum(box[:2], others[:, :2])
    shared = shared.clip(0).prod(1)
    area = (box[2] - box[0]) * (box[3] - box[1])
    return shared / (area + (others[:, 2:] - others[:, :2]).prod(1) - shared)
