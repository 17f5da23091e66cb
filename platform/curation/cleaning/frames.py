"""Coordinate frame that the boxes of an image were drawn in: usually the upright image, otherwise one of those below.

Boxes are transformed to the upright image where only one frame is possible; where there are two, a person is asked.
"""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

from platform.curation.cleaning.findings import Action
from platform.data.detection.annotations import Box
from platform.data.detection.boxes import ROUNDING, ordered

RELATIVE = "boxes in shares of the image"
OTHER_SIZE = "boxes made for another image size"
TURNED = "boxes drawn on the picture as stored"
MAYBE_TURNED = "boxes that fit upright and as stored"

_MOST_RELATIVE = 2.0  # no one draws a box in pixels with numbers up to this
_SAME_ASPECT = 0.01  # of width to height
_SLOPPY = 0.02  # of a side: how far boxes drawn by hand exceed the edge

_MANY_INVERTED, _MOST_SIDES = 0.2, 0.9  # shares of all boxes

_UPRIGHT, _SIDEWAYS = 1, 5  # EXIF orientations; from 5 on width and height are swapped


class Frame(NamedTuple):
    """Image and annotation whose frame is to be found."""

    width: int  # of the upright image, in pixels
    height: int
    orientation: int  # the EXIF tag
    declared: tuple[int, int] | None  # (width, height) in the annotation, if it has them
    pixels: bool  # whether the layout writes boxes in pixels

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of the upright image."""
        return self.width, self.height

    @property
    def stored(self) -> tuple[int, int]:
        """Width and height of the stored image."""
        return (self.height, self.width) if self.orientation >= _SIDEWAYS else self.size


class UnusualFrame(NamedTuple):
    """Unusual frame; `boxes` are in the upright image, in the order given."""

    kind: str
    action: Action
    detail: str
    boxes: tuple[Box, ...]


def read(boxes: Sequence[Box], frame: Frame) -> list[UnusualFrame]:
    """Return how boxes, finite ones with an area, are to be read: at most one repair, then questions."""
    if not boxes:
        return []
    scaled = _relative(boxes, frame) or _other_size(boxes, frame)
    if scaled and scaled.action == Action.REPAIRED:
        return [scaled, *_maybe_turned(scaled.boxes, frame)]
    return [scaled] if scaled else _turned(boxes, frame)


def sides_not_corners(boxes: Sequence[tuple[Box, int, int]]) -> int:
    """Return the number of boxes with inverted corners, if all boxes are more likely x, y, width, height; else 0.

    Inverted corners alone are no proof, as dragging a box upwards draws it so. Read as sides, most of those boxes
    would leave the image.
    """
    finite = [(box, width, height) for box, width, height in boxes if width and all(map(math.isfinite, box))]
    inverted = sum(x2 < x1 or y2 < y1 for (x1, y1, x2, y2), _, _ in finite)
    as_sides = sum(_are_sides(*each) for each in finite)
    return inverted if inverted > _MANY_INVERTED * len(finite) and as_sides >= _MOST_SIDES * len(finite) else 0


def _are_sides(box: Box, width: int, height: int) -> bool:
    x, y, wide, high = box
    across, down = (1, 1) if max(map(abs, box)) <= _MOST_RELATIVE else (width, height)
    return min(wide, high) > 0 and x + wide <= across * (1 + _SLOPPY) and y + high <= down * (1 + _SLOPPY)


def upright(box: Box, orientation: int, width: int, height: int) -> Box:
    """Transform a box of the stored image to the upright image of this width and height."""
    x1, y1, x2, y2 = box
    turn = _TURNS[orientation]
    (a, b), (c, d) = turn(x1, y1, width, height), turn(x2, y2, width, height)
    return ordered((a, b, c, d))


# Position of a stored image's point in the upright one (width w, height h), by EXIF orientation.
_TURNS: dict[int, Callable[[float, float, int, int], tuple[float, float]]] = {
    1: lambda x, y, w, h: (x, y),
    2: lambda x, y, w, h: (w - x, y),
    3: lambda x, y, w, h: (w - x, h - y),
    4: lambda x, y, w, h: (x, h - y),
    5: lambda x, y, w, h: (y, x),
    6: lambda x, y, w, h: (w - y, x),
    7: lambda x, y, w, h: (w - y, h - x),
    8: lambda x, y, w, h: (y, h - x),
}


def _relative(boxes: Sequence[Box], frame: Frame) -> UnusualFrame | None:
    if not frame.pixels or any(abs(edge) > _MOST_RELATIVE for box in boxes for edge in box):
        return None
    detail = f"no number above {_MOST_RELATIVE:g}: taken times {frame.width} x {frame.height}"
    return UnusualFrame(RELATIVE, Action.REPAIRED, detail, _scaled(boxes, frame.width, frame.height))


def _other_size(boxes: Sequence[Box], frame: Frame) -> UnusualFrame | None:
    if frame.declared is None or min(frame.declared) <= 0:
        return None
    if _about(frame.declared, frame.size) or _about(frame.declared, frame.stored):
        return None
    x, y = (actual / declared for actual, declared in zip(frame.size, frame.declared, strict=True))
    scaled = _scaled(boxes, x, y)
    sizes = f"{frame.declared[0]} x {frame.declared[1]}, the image has {frame.width} x {frame.height}"
    if abs(x / y - 1) <= _SAME_ASPECT and _over(scaled, *frame.size) <= ROUNDING:
        return UnusualFrame(OTHER_SIZE, Action.REPAIRED, sizes, scaled)
    return UnusualFrame(OTHER_SIZE, Action.ASK, f"{sizes}; kept as drawn", tuple(boxes))


def _turned(boxes: Sequence[Box], frame: Frame) -> list[UnusualFrame]:
    if not _can_be_turned(frame):
        return []
    sloppy = _SLOPPY * max(frame.size)
    if frame.pixels and _over(boxes, *frame.stored) > sloppy:
        return []
    if frame.pixels and _over(boxes, *frame.size) > sloppy:
        turned = tuple(upright(box, frame.orientation, *frame.size) for box in boxes)
        return [
            UnusualFrame(TURNED, Action.REPAIRED, f"EXIF orientation {frame.orientation}: they fit that alone", turned)
        ]
    return _maybe_turned(boxes, frame)


def _maybe_turned(boxes: Sequence[Box], frame: Frame) -> list[UnusualFrame]:
    """Return the question about a turned image; relative and scaled boxes fit it in both orientations."""
    if not _can_be_turned(frame):
        return []
    return [
        UnusualFrame(MAYBE_TURNED, Action.ASK, f"EXIF orientation {frame.orientation}; taken as upright", tuple(boxes))
    ]


def _can_be_turned(frame: Frame) -> bool:
    """Return whether the image has another orientation, and the annotation does not tell which one was used."""
    if frame.orientation not in _TURNS or frame.orientation == _UPRIGHT:
        return False
    if frame.declared is None or min(frame.declared) <= 0:
        return True
    return not _same_shape(frame.declared, frame.size) or _same_shape(frame.declared, frame.stored)


def _same_shape(one: tuple[int, int], other: tuple[int, int]) -> bool:
    return abs(one[0] * other[1] / (one[1] * other[0]) - 1) <= _SAME_ASPECT


def _about(one: tuple[int, int], other: tuple[int, int]) -> bool:
    """Return whether two sizes are equal except for rounding."""
    return max(abs(a - b) for a, b in zip(one, other, strict=True)) <= 1


def _scaled(boxes: Sequence[Box], x: float, y: float) -> tuple[Box, ...]:
    return tuple((x1 * x, y1 * y, x2 * x, y2 * y) for x1, y1, x2, y2 in boxes)


def _over(boxes: Sequence[Box], width: int, height: int) -> float:
    """Return by how many pixels the worst of the boxes leaves the frame."""
    return max(max(-x1, -y1, x2 - width, y2 - height) for x1, y1, x2, y2 in map(ordered, boxes))
