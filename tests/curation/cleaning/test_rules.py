"""Tests of the rules for boxes and for boxes in the same place."""

import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from platform.curation.cleaning.rules import HUGE, MOSTLY_OUTSIDE, TINY, Limits, UsableBox, check_box, settle
from platform.data.detection.annotations import Kind, RawBox
from platform.data.detection.boxes import repair_boxes

WIDTH, HEIGHT, LIMITS = 100, 80, Limits(side=4, share=0.98)
EDGES = st.one_of(st.floats(-150, 250), st.floats(), st.sampled_from([0, 50, WIDTH, HEIGHT, -0.4, 100.4, 1e308]))


@pytest.mark.parametrize(
    ("box", "kept", "kinds"),
    [
        ((10, 10, 30, 40), (10, 10, 30, 40), []),
        ((math.nan, 10, 30, 40), None, [Kind.NOT_FINITE]),
        ((10, 10, math.inf, 40), None, [Kind.NOT_FINITE]),
        ((10, 10, 10, 40), None, [Kind.NO_AREA]),
        ((120, 10, 150, 40), None, [Kind.OUTSIDE]),
        ((0, 0, 100, 80), None, [HUGE]),
        ((-500, -500, 600, 600), None, [HUGE]),
        ((0, 0, 100, 78), (0, 0, 100, 78), []),
        ((90, 10, 111, 40), None, [MOSTLY_OUTSIDE]),
        ((90, 10, 110, 40), (90, 10, 100, 40), [Kind.PARTLY_OUTSIDE]),
        ((90, 10, 100.4, 40), (90, 10, 100, 40), []),
        ((10, 10, 13.9, 40), None, [TINY]),
        ((10, 10, 14, 40), (10, 10, 14, 40), []),
        ((97, 10, 102, 40), None, [TINY]),  # after it is clipped
        ((30, 10, 10, 40), (10, 10, 30, 40), [Kind.INVERTED]),
        ((110, 40, 90, 10), (90, 10, 100, 40), [Kind.INVERTED, Kind.PARTLY_OUTSIDE]),
    ],
)
def test_each_rule_holds_where_it_should_and_nowhere_else(box, kept, kinds):
    clipped, rules = check_box(box, WIDTH, HEIGHT, LIMITS)
    assert clipped == kept
    assert [kind for kind, _ in rules] == kinds


@given(st.tuples(EDGES, EDGES, EDGES, EDGES))
def test_a_box_is_set_aside_for_one_reason_or_can_be_used_as_it_is_then(box):
    clipped, rules = check_box(box, WIDTH, HEIGHT, LIMITS)
    assert len({action for _, action in rules}) <= 1
    if clipped is None:
        assert len(rules) == 1
        return
    repairs = []
    assert [each.box for each in repair_boxes([RawBox(clipped, "cat", "")], WIDTH, HEIGHT, repairs)] == [clipped]
    assert repairs == []
    x1, y1, x2, y2 = clipped
    assert 0 <= x1 <= x2 - LIMITS.side + 1e-9
    assert x2 <= WIDTH
    assert 0 <= y1 <= y2 - LIMITS.side + 1e-9
    assert y2 <= HEIGHT


ONE, COPY = Path("one.jpg"), Path("copy.jpg")
BOX, NEAR, NEARER = (0, 0, 100, 10), (0, 0, 92, 10), (0, 0, 97, 10)  # 0.92 and 0.97 of it


def placed(*boxes):
    return [UsableBox(box, name, RawBox(box, name, f"{n}"), file) for n, (box, name, file) in enumerate(boxes)]


@pytest.mark.parametrize(
    ("boxes", "kept", "again", "conflicts"),
    [
        ([], [], [], []),
        ([(BOX, "a", ONE), (BOX, "a", ONE)], [0], [1], []),
        ([(BOX, "a", ONE), (NEARER, "a", ONE)], [0], [1], []),
        ([(BOX, "a", ONE), (NEAR, "a", ONE)], [0, 1], [], []),
        ([(BOX, "a", ONE), (NEAR, "a", COPY)], [0], [1], []),
        ([(BOX, "a", ONE), (NEAR, "b", ONE)], [], [], [0, 1]),
        ([(BOX, "a", ONE), ((0, 0, 80, 10), "b", ONE)], [0, 1], [], []),
        ([(BOX, "a", ONE), (BOX, "b", COPY), ((0, 50, 9, 60), "b", COPY)], [2], [], [0, 1]),
        ([(BOX, "a", ONE), (BOX, "a", COPY), (BOX, "b", COPY)], [], [1], [0, 2]),
    ],
)
def test_boxes_in_one_place_are_one_or_a_contradiction(boxes, kept, again, conflicts):
    settled = settle(placed(*boxes))
    assert [int(each.raw.where) for each in settled.kept] == kept
    assert [int(each.raw.where) for each, _, _ in settled.again] == again
    assert [int(each.raw.where) for each, _ in settled.conflicts] == conflicts


SIDES = st.integers(0, 6)
BOXES = st.builds(lambda x, y, w, h: (x, y, x + w + 1, y + h + 1), SIDES, SIDES, SIDES, SIDES)


@given(st.lists(st.tuples(BOXES, st.sampled_from("ab"), st.sampled_from([ONE, COPY])), max_size=12))
def test_each_box_ends_in_one_place_and_what_is_kept_is_settled(boxes):
    settled = settle(placed(*boxes))
    ends = [*settled.kept, *(each for each, _, _ in settled.again), *(each for each, _ in settled.conflicts)]
    assert sorted(int(each.raw.where) for each in ends) == list(range(len(boxes)))
    assert settle(settled.kept).kept == settled.kept
