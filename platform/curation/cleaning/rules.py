"""Rules of cleaning: for one image, for one box, and for boxes that lie in the same place of an image."""

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from platform.curation.cleaning.findings import Action
from platform.curation.cleaning.looks import ImageFeatures
from platform.data.detection.annotations import Box, Kind, RawBox
from platform.data.detection.boxes import area, changes, clip, ordered, unusable

TOO_SMALL, NO_ORIENTATION = "image too small", "EXIF orientation that does not exist"
TINY, HUGE, MOSTLY_OUTSIDE = "box too small", "box too large", "box mostly outside the image"
SAME = 0.95  # intersection over union from which two boxes of one class count as one
SAME_IN_COPIES = 0.9  # the same for boxes that two people drew on two copies of an image
CONFLICT = 0.9  # intersection over union from which boxes of two classes contradict each other

_ORIENTATIONS = range(9)  # 1 … 8, and 0 for none
_HALF = 0.5  # share of a box that must lie within the image: less of it need not show the object


def check_image(look: ImageFeatures, min_side: int) -> Iterator[tuple[str, Action, str]]:
    """Yield the rules that an image breaks, each with the action taken and a detail for people.

    `min_side` is the fewest pixels of its shorter side.
    """
    if look.fault:
        yield Kind.BROKEN_IMAGE, Action.SET_ASIDE, look.fault
    elif min(look.width, look.height) < min_side:
        yield TOO_SMALL, Action.SET_ASIDE, f"{look.width} x {look.height}"
    elif look.orientation not in _ORIENTATIONS:
        yield NO_ORIENTATION, Action.KEPT, f"{look.orientation}: taken as upright"


class Limits(NamedTuple):
    """Limits of a box: `side` is the fewest pixels of its shorter side, `share` the largest share of the image."""

    side: float
    share: float


def check_box(box: Box, width: int, height: int, limits: Limits) -> tuple[Box | None, list[tuple[str, Action]]]:
    """Check a box in an upright image of this width and height in pixels.

    Returns:
        The box, clipped to the image, and its repairs; or None and the first rule that sets the box aside.
    """
    clipped = clip(box, width, height)
    if kind := _set_aside(box, clipped, width, height, limits):
        return None, [(kind, Action.SET_ASIDE)]
    changed = {str(kind) for kind, _ in changes(box, width, height)}
    repairs = (Kind.INVERTED, Kind.PARTLY_OUTSIDE)
    return clipped, [(kind, Action.REPAIRED) for kind in repairs if str(kind) in changed]


def _set_aside(box: Box, clipped: Box, width: int, height: int, limits: Limits) -> str | None:
    if kind := unusable(box, width, height) or unusable(clipped, width, height):
        return kind
    if area(clipped) / (width * height) > limits.share:
        return HUGE
    if area(clipped) / area(ordered(box)) < _HALF:
        return MOSTLY_OUTSIDE
    x1, y1, x2, y2 = clipped
    return TINY if min(x2 - x1, y2 - y1) < limits.side else None


def countable(box: Box) -> bool:
    """Return whether a box is finite and has an area, and so says something about the frame it was drawn in."""
    x1, y1, x2, y2 = box
    return all(map(math.isfinite, box)) and x1 != x2 and y1 != y2


class UsableBox(NamedTuple):
    """Usable box of an image."""

    box: Box  # in the upright image, within it
    name: str  # its class
    raw: RawBox  # as it was written
    file: Path  # image that it was written for: the one that is kept, or a copy of it


class SettledBoxes(NamedTuple):
    """Boxes of an image after those in the same place were settled."""

    kept: list[UsableBox]  # in the order given
    again: list[tuple[UsableBox, UsableBox, float]]  # repeated boxes, those that are kept, their overlap (IoU)
    conflicts: list[tuple[UsableBox, UsableBox]]  # boxes in the place of a box of another class, each with that box


def settle(placed: Sequence[UsableBox]) -> SettledBoxes:
    """Separate the boxes of an image into those to keep, repeated ones and conflicts of two classes."""
    settled = SettledBoxes([], [], [])
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
    """Return the intersection over union of a box (4) with each of the others (boxes, 4)."""
    shared = np.minimum(box[2:], others[:, 2:]) - np.maximum(box[:2], others[:, :2])
    shared = shared.clip(0).prod(1)
    area = (box[2] - box[0]) * (box[3] - box[1])
    return shared / (area + (others[:, 2:] - others[:, :2]).prod(1) - shared)
