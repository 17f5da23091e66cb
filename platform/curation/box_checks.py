"""The boxes of an image as written → those that are kept, and a finding for each that was changed or set aside.

What is certain is repaired, all else set aside. `CHECKS` are asked in their order; the first that finds something says
why a box is set aside.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from platform.curation import findings, orientation
from platform.curation.findings import ASK, REPAIRED, SET_ASIDE, Finding
from platform.data.annotations import Box, Kind, RawBox
from platform.data.boxes import area, changes, clip, iou, ordered, unusable

SAME_IOU = 0.95  # boxes of one class that overlap by as much are one
CONFLICT_IOU = 0.9  # and those of different classes contradict each other
LEAST_INSIDE = 0.5  # of a box: of one less of which is in the image nobody knows what it shows
RELATIVE = 2.0  # a box whose numbers are all at most this in size is none in pixels: nothing so small can be seen

TURNED, RELATIVE_BOX, RESCALED = "box drawn on the unturned picture", "box in shares of the image", str(Kind.OTHER_SIZE)
MOSTLY_OUTSIDE, TINY, HUGE = "box mostly outside the image", "box too small", "box too large"
CONFLICT, DROPPED = "two classes in one place", "label left out"
OPEN_TURN = "turned picture, boxes fit both ways"


@dataclass(frozen=True)
class Limits:
    """What a box may be: its shorter side in pixels at least, its share of the image at most."""

    min_side: float
    max_share: float


class Place(NamedTuple):
    """An image that boxes are judged in: its path as told, its size upright, its EXIF flag, the size annotated."""

    image: str
    width: int
    height: int
    orientation: int
    annotated: tuple[int, int] | None


class Judged(NamedTuple):
    """What became of an image's boxes.

    Attributes:
        kept: Of the classes that their labels mean, within the image.
        findings: Of the others, and of those that were changed.
        lost: How many objects have no box any more.
    """

    kept: tuple[RawBox, ...]
    findings: tuple[Finding, ...]
    lost: int


Check = Callable[[Box, Place, Limits], str]  # a box, corners in order → "" or what is wrong with it


def _outside(box: Box, place: Place, limits: Limits) -> str:
    share = area(clip(box, place.width, place.height)) / area(box)
    return f"{share:.0%} of it is inside" if share < LEAST_INSIDE else ""


def _tiny(box: Box, place: Place, limits: Limits) -> str:
    left, top, right, bottom = clip(box, place.width, place.height)
    side = min(right - left, bottom - top)
    return f"{side:.4g} px, --min-box is {limits.min_side:g}" if side < limits.min_side else ""


def _huge(box: Box, place: Place, limits: Limits) -> str:
    share = area(clip(box, place.width, place.height)) / (place.width * place.height)
    return f"{share:.1%} of the image, --max-box is {limits.max_share:g}" if share > limits.max_share else ""


CHECKS: tuple[tuple[str, Check], ...] = ((MOSTLY_OUTSIDE, _outside), (TINY, _tiny), (HUGE, _huge))


def judge(boxes: Sequence[RawBox], place: Place, classes: Mapping[str, str | None], limits: Limits) -> Judged:
    """
    Args:
        boxes: As written.
        place: The image.
        classes: The class of each label; None where its boxes are left out.
        limits: What a box may be.
    """
    told: list[Finding] = []
    kept: list[tuple[RawBox, RawBox]] = []  # as written, and as it is kept
    for raw, (box, changed) in zip(boxes, _in_pixels([raw.box for raw in boxes], place, told), strict=True):
        found = _wrong(raw, box, place, classes, limits)
        if found:
            told.append(_finding(found[0], SET_ASIDE, raw, place, detail=found[1]))
            continue
        mended = clip(box, place.width, place.height)
        what = [*changed, *((str(kind), done) for kind, done in changes(box, place.width, place.height))]
        told += [_finding(kind, REPAIRED, raw, place, done, findings.told(mended)) for kind, done in what]
        kept.append((raw, replace(raw, box=mended, name=str(classes[raw.name]))))
    lost = len(boxes) - len(kept)
    kept, twice = _once(kept, place)
    kept, conflicts = _without_conflicts(kept, place)
    return Judged(tuple(box for _, box in kept), (*told, *twice, *conflicts), lost + len(conflicts))


def _in_pixels(boxes: Sequence[Box], place: Place, told: list[Finding]) -> list[tuple[Box, list[tuple[str, str]]]]:
    """The boxes in pixels of the upright image, each with what had to be done for it."""
    width, height = place.width, place.height
    scaled: list[tuple[Box, list[tuple[str, str]]]] = []
    for box in boxes:
        if max(map(abs, box)) <= RELATIVE and ordered(box)[2:] > (0, 0):
            x1, y1, x2, y2 = box
            scaled.append(((x1 * width, y1 * height, x2 * width, y2 * height), [(RELATIVE_BOX, "scaled")]))
        else:
            scaled.append((box, []))
    finite = [box for box, _ in scaled if all(map(math.isfinite, box))]
    if orientation.drawn_as_stored(finite, place.orientation, width, height):
        return [(orientation.turned(box, place.orientation, width, height), [*done, (TURNED, "turned along")])
                for box, done in scaled]  # fmt: skip
    if orientation.is_open(finite, place.orientation, width, height):
        detail = f"EXIF orientation {place.orientation}; kept as drawn on the picture upright"
        told.append(Finding(OPEN_TURN, ASK, detail, place.image))
    if factor := _factor(place):
        return [((box[0] * factor, box[1] * factor, box[2] * factor, box[3] * factor), [*done, (RESCALED, "scaled")])
                for box, done in scaled]  # fmt: skip
    if place.annotated and place.annotated not in ((width, height), (height, width)):
        detail = f"{place.annotated[0]} x {place.annotated[1]}, the image has {width} x {height}; boxes kept"
        told.append(Finding(RESCALED, ASK, detail, place.image))
    return scaled


def _factor(place: Place) -> float | None:
    """By how much the image was resized since it was annotated, where it was as a whole; None where that is not so."""
    if not place.annotated or min(place.annotated) < 1:
        return None
    x, y = place.width / place.annotated[0], place.height / place.annotated[1]
    return x if abs(x - 1) > 0.01 and abs(x / y - 1) < 0.01 else None


def _wrong(
    raw: RawBox, box: Box, place: Place, classes: Mapping[str, str | None], limits: Limits
) -> tuple[str, str] | None:
    """Why a box is set aside, and more about it; None if it is kept."""
    if (fault := unusable(box, place.width, place.height)) is not None:
        return str(fault), ""
    if classes[raw.name] is None:
        return DROPPED, ""
    found = ((kind, check(ordered(box), place, limits)) for kind, check in CHECKS)
    return next(((kind, detail) for kind, detail in found if detail), None)


def _once(kept: Sequence[tuple[RawBox, RawBox]], place: Place) -> tuple[list[tuple[RawBox, RawBox]], list[Finding]]:
    """Each object once, and what of it was there again."""
    first: list[tuple[RawBox, RawBox]] = []
    told = []
    for raw, box in kept:
        same = next(
            (other for _, other in first if other.name == box.name and iou(other.box, box.box) >= SAME_IOU), None
        )
        if same is None:
            first.append((raw, box))
        else:
            told.append(
                _finding(str(Kind.DUPLICATE), SET_ASIDE, raw, place, f"of the one at {findings.told(same.box)}")
            )
    return first, told


def _without_conflicts(
    kept: Sequence[tuple[RawBox, RawBox]], place: Place
) -> tuple[list[tuple[RawBox, RawBox]], list[Finding]]:
    """What contradicts nothing, and what a person has to decide about."""
    rivals = {
        index: {other.name for _, other in kept if other.name != box.name and iou(other.box, box.box) >= CONFLICT_IOU}
        for index, (_, box) in enumerate(kept)
    }
    told = [
        _finding(CONFLICT, ASK, kept[index][0], place, f"also {', '.join(sorted(names))}; left out until decided")
        for index, names in rivals.items()
        if names
    ]
    return [pair for index, pair in enumerate(kept) if not rivals[index]], told


def _finding(kind: str, action: str, raw: RawBox, place: Place, detail: str = "", other: str = "") -> Finding:
    return Finding(kind, action, detail, place.image, raw.name, raw.box, raw.where, other)
