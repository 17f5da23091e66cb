"""Boxes as written → boxes a detector can be trained on: finite, within the image, of some area, once each."""

import math
from collections.abc import Iterable
from dataclasses import replace

from platform.data.annotations import Box, Kind, RawBox
from platform.data.findings import Repair

_MIN_SIDE = 0.02  # px; a box thinner than this has no area, nor would it after rounding
_ROUNDING = 0.5  # px; annotations this far over the image's edge are rounded numbers, clipped without a word
_DECIMALS = 2  # of a px; finer digits are noise of relative coordinates, and would keep equal boxes apart


def mend(raw: Iterable[RawBox], width: int, height: int, repairs: list[Repair]) -> tuple[RawBox, ...]:
    """Returns the usable boxes in raw order; each one changed or left out is told in `repairs`."""
    mended: dict[tuple[str, Box], RawBox] = {}
    for box in raw:
        fault = _unusable(box.box, width, height)
        if fault is not None:
            repairs.append(Repair(fault, box.where))
            continue
        clipped, changes = _clip(box.box, width, height)
        repairs += [Repair(kind, box.where, action) for kind, action in changes]
        if (box.name, clipped) in mended:
            repairs.append(Repair(Kind.DUPLICATE, box.where))
        mended.setdefault((box.name, clipped), replace(box, box=clipped))
    return tuple(mended.values())


def _unusable(box: Box, width: int, height: int) -> Kind | None:
    if not all(map(math.isfinite, box)):
        return Kind.NOT_FINITE
    (left, right), (top, bottom) = _sorted_corners(box)
    if min(right - left, bottom - top) < _MIN_SIDE:
        return Kind.NO_AREA
    seen = min(min(right, width) - max(left, 0), min(bottom, height) - max(top, 0))
    return Kind.OUTSIDE if seen < _MIN_SIDE else None


def _clip(box: Box, width: int, height: int) -> tuple[Box, list[tuple[Kind, str]]]:
    (left, right), (top, bottom) = _sorted_corners(box)
    clipped = (max(left, 0.0), max(top, 0.0), min(right, float(width)), min(bottom, float(height)))
    changes = []
    if (left, top, right, bottom) != tuple(box):
        changes.append((Kind.INVERTED, "corners swapped"))
    if max(-left, -top, right - width, bottom - height) > _ROUNDING:
        changes.append((Kind.PARTLY_OUTSIDE, "clipped"))
    x1, y1, x2, y2 = (round(edge, _DECIMALS) for edge in clipped)
    return (x1, y1, x2, y2), changes


def _sorted_corners(box: Box) -> tuple[tuple[float, float], tuple[float, float]]:
    x1, y1, x2, y2 = box
    return (min(x1, x2), max(x1, x2)), (min(y1, y2), max(y1, y2))
