"""Rules for an image, in their order: the first that sets it aside ends them."""

from collections.abc import Callable, Iterator
from typing import NamedTuple

from platform.curation.cleaning.findings import Action
from platform.curation.cleaning.looks import Look
from platform.data.detection.annotations import Kind

TOO_SMALL, NO_ORIENTATION = "image too small", "EXIF orientation that does not exist"

_ORIENTATIONS = range(9)  # 1 … 8, and 0 for none


class Rule(NamedTuple):
    """A kind of fault, what is done about it, whether an image has it, and what to say; `least` is its shorter side."""

    kind: str
    action: Action
    holds: Callable[[Look, int], bool]
    detail: Callable[[Look], str]


RULES = (
    Rule(Kind.BROKEN_IMAGE, Action.SET_ASIDE, lambda seen, least: bool(seen.fault), lambda seen: seen.fault),
    Rule(
        TOO_SMALL,
        Action.SET_ASIDE,
        lambda seen, least: min(seen.width, seen.height) < least,
        lambda seen: f"{seen.width} x {seen.height}",
    ),
    Rule(
        NO_ORIENTATION,
        Action.KEPT,
        lambda seen, least: seen.orientation not in _ORIENTATIONS,
        lambda seen: f"{seen.orientation}: taken as upright",
    ),
)


def held(seen: Look, least: int) -> Iterator[Rule]:
    """The rules that hold for an image, up to the first that sets it aside."""
    for rule in RULES:
        if rule.holds(seen, least):
            yield rule
            if rule.action == Action.SET_ASIDE:
                return
