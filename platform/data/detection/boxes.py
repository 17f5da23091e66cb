"""Repair of boxes: a detector can be trained on boxes that are finite, within the image, not empty and distinct."""

import math
from collections.abc import Iterable
from dataclasses import replace

from platform.data.detection.annotations import Box, Kind, RawBox
from platform.data.findings import Repair

ROUNDING = 0.5  # px; annotations this far beyond the image's edge are rounded numbers, and clipped without a finding
MIN_SIDE = 0.02  # px; a thinner box would have no area after rounding

_DECIMALS = 2  # of a px; further digits are noise of relative coordinates that would make equal boxes differ


def repair_boxes(raw: Iterable[RawBox], width: int, height: int, repairs: list[Repair]) -> tuple[RawBox, ...]:
    """Return the usable boxes in the given order; each changed or omitted one is added to `repairs`."""
    repaired: dict[tuple[str, Box], RawBox] = {}
    for box in raw:
        fault = unusable(box.box, width, height)
        if fault is not None:
            repairs.append(Repair(fault, box.where))
            continue
        repairs += [Repair(kind, box.where, action) for kind, action in changes(box.box, width, height)]
        clipped = clip(box.box, width, height)
        if (box.name, clipped) in repaired:
            repairs.append(Repair(Kind.DUPLICATE, box.where))
        repaired.setdefault((box.name, clipped), replace(box, box=clipped))
    return tuple(repaired.values())


def unusable(box: Box, width: int, height: int) -> Kind | None:
    """Return the reason why a box cannot be used in an image of this size, in pixels; None if it can."""
    if not all(map(math.isfinite, box)):
        return Kind.NOT_FINITE
    left, top, right, bottom = ordered(box)
    if min(right - left, bottom - top) < MIN_SIDE:
        return Kind.NO_AREA
    visible = min(min(right, width) - max(left, 0), min(bottom, height) - max(top, 0))
    return Kind.OUTSIDE if visible < MIN_SIDE else None


def changes(box: Box, width: int, height: int) -> list[tuple[Kind, str]]:
    """Return the noteworthy changes that `clip` makes to a usable box, each as (kind, action)."""
    left, top, right, bottom = ordered(box)
    found = []
    if (left, top, right, bottom) != tuple(box):
        found.append((Kind.INVERTED, "corners swapped"))
    if max(-left, -top, right - width, bottom - height) > ROUNDING:
        found.append((Kind.PARTLY_OUTSIDE, "clipped"))
    return found


def clip(box: Box, width: int, height: int) -> Box:
    """Return the part of a usable box that is within the image, the upper left corner first, rounded."""
    left, top, right, bottom = ordered(box)
    inside = (max(left, 0.0), max(top, 0.0), min(right, float(width)), min(bottom, float(height)))
    x1, y1, x2, y2 = (round(edge, _DECIMALS) for edge in inside)
    return x1, y1, x2, y2


def ordered(box: Box) -> Box:
    """Return the box with its upper left corner first."""
    x1, y1, x2, y2 = box
    return min(x1, x2), min(y1, y2), max(x1, x2), max(y1, y2)


def area(box: Box) -> float:
    """Return the area in square pixels of a box whose upper left corner comes first; 0 if it is empty."""
    return max(0.0, box[2] - box[0]) * max(0.0, box[3] - box[1])
