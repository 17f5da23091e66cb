"""Rules for a single box, in their order: the first that holds sets it aside; repairs are told besides."""

import math
from collections.abc import Callable
from typing import NamedTuple

from platform.curation.cleaning.findings import Action
from platform.data.detection.annotations import Box, Kind
from platform.data.detection.boxes import area, changes, clip, ordered, unusable

TINY, HUGE, MOSTLY_OUTSIDE = "box too small", "box too large", "box mostly outside the image"

_HALF = 0.5  # of a box that must be within the image: of less, what is left shows who knows what


class Limits(NamedTuple):
    """What a box must keep to: `side` pixels at least, `share` of the image's area at most."""

    side: float
    share: float


class Drawn(NamedTuple):
    """A box in its image; width and height in pixels."""

    box: Box
    width: int
    height: int
    limits: Limits

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of the image."""
        return self.width, self.height

    @property
    def clipped(self) -> Box:
        """What is left of it within the image."""
        return clip(self.box, *self.size)

    @property
    def inside(self) -> float:
        """The share of its area that is within the image."""
        return area(self.clipped) / area(ordered(self.box))

    @property
    def side(self) -> float:
        """The shorter side of what is left, in pixels."""
        x1, y1, x2, y2 = self.clipped
        return min(x2 - x1, y2 - y1)

    @property
    def share(self) -> float:
        """How much of the image it covers."""
        return area(self.clipped) / (self.width * self.height)


class Rule(NamedTuple):
    """A kind of fault, what is done about it, and whether a box has it."""

    kind: str
    action: Action
    holds: Callable[[Drawn], bool]


def _is(kind: Kind) -> Callable[[Drawn], bool]:
    def holds(drawn: Drawn) -> bool:
        return (unusable(drawn.box, *drawn.size) or unusable(drawn.clipped, *drawn.size)) == kind

    return holds


def _changed(kind: Kind) -> Callable[[Drawn], bool]:
    return lambda drawn: any(kind == each for each, _ in changes(drawn.box, *drawn.size))


RULES = (
    Rule(Kind.NOT_FINITE, Action.SET_ASIDE, _is(Kind.NOT_FINITE)),
    Rule(Kind.NO_AREA, Action.SET_ASIDE, _is(Kind.NO_AREA)),
    Rule(Kind.OUTSIDE, Action.SET_ASIDE, _is(Kind.OUTSIDE)),
    Rule(HUGE, Action.SET_ASIDE, lambda drawn: drawn.share > drawn.limits.share),
    Rule(MOSTLY_OUTSIDE, Action.SET_ASIDE, lambda drawn: drawn.inside < _HALF),
    Rule(TINY, Action.SET_ASIDE, lambda drawn: drawn.side < drawn.limits.side),
    Rule(Kind.INVERTED, Action.REPAIRED, _changed(Kind.INVERTED)),
    Rule(Kind.PARTLY_OUTSIDE, Action.REPAIRED, _changed(Kind.PARTLY_OUTSIDE)),
)


def judged(drawn: Drawn) -> tuple[Box | None, list[Rule]]:
    """The box as it can be used, None if it cannot, and the rules that hold: one that sets it aside, or repairs."""
    held = []
    for rule in RULES:
        if rule.holds(drawn):
            if rule.action == Action.SET_ASIDE:
                return None, [rule]
            held.append(rule)
    return drawn.clipped, held


def countable(box: Box) -> bool:
    """Whether a box says anything about the frame that it was drawn in: finite, of some area."""
    x1, y1, x2, y2 = box
    return all(map(math.isfinite, box)) and x1 != x2 and y1 != y2
