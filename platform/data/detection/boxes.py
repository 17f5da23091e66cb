"""Boxes as written → boxes a detector can be trained on: finite, within the image, of some area, once each."""

import math
from collections.abc import Iterable
from dataclasses import replace

from platform.data.detection.annotations import Box, Kind, RawBox
from platform.data.findings import Repair

ROUNDING = 0.5  # px; annotations this far over the image's edge are rounded numbers, clipped without a word
MIN_SIDE = 0.02  # px; a box thinner than this has no area, nor would it after rounding

_DECIMALS = 2  # of a px; finer digits are noise of relative coordinates, and would keep equal boxes apart


def mend(raw: Iterable[RawBox], width: int, height: int, repairs: list[Repair]) -> tuple[RawBox, ...]:
    """Return the usable boxes in raw order; each one changed or left out is told in `repairs`."""
    mended: dict[tuple[str, Box], RawBox] = {}
    for box in raw:
        fault = unusable(box.box, width, height)
        if fault is not None:
            repairs.append(Repair(fault, box.where))
            continue
        repairs += [Repair(kind, box.where, action) for kind, action in changes(box.box, width, height)]
        clipped = clip(box.box, width, height)
        if (box.name, clipped) in mended:
            repairs.append(Repair(Kind.DUPLICATE, box.where))
        mended.setdefault((box.name, clipped), replace(box, box=clipped))
    return tuple(mended.values())


def unusable(box: Box, width: int, height: int) -> Kind | None:
    """What keeps a box from being used in an image of this size, in pixels; None if nothing does."""
    if not all(map(math.isfinite, box)):
        return Kind.NOT_FINITE
    left, top, right, bottom = ordered(box)
    if min(right - left, bottom - top) < MIN_SIDE:
        return Kind.NO_AREA
    seen = min(min(right, width) - max(left, 0), min(bottom, height) - max(top, 0))
    return Kind.OUTSIDE if seen < MIN_SIDE else None


def changes(box: Box, width: int, height: int) -> list[tuple[Kind, str]]:
    """What `clip` changes of a usable box that a person would want to know, each with what is done about it."""
    left, top, right, bottom = ordered(box)
    told = []
    if (left, top, right, bottom) != tuple(box):
        told.append((Kind.INVERTED, "corners swapped"))
    if max(-left, -top, right - width, bottom - height) > ROUNDING:
        told.append((Kind.PARTLY_OUTSIDE, "clipped"))
    return told


def clip(box: Box, width: int, height: int) -> Box:
    """The part of a usable box that is within the image, the upper left corner first, rounded."""
    left, top, right, bottom = ordered(box)
    inside = (max(left, 0.0), max(top, 0.0), min(right, float(width)), min(bottom, float(height)))
    x1, y1, x2, y2 = (round(edge, _DECIMALS) for edge in inside)
    return x1, y1, x2, y2


def ordered(box: Box) -> Box:
    """The box with its upper left corner first."""
    x1, y1, x2, y2 = box
    return min(x1, x2), min(y1, y2), max(x1, x2), max(y1, y2)


def area(box: Box) -> float:
    """Of a box whose upper left corner comes first, in square pixels; 0 where there is none."""
    return max(0.0, box[2] - box[0]) * max(0.0, box[3] - box[1])
