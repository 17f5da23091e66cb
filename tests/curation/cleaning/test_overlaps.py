from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from platform.curation.cleaning.overlaps import Placed, settle
from platform.data.detection.annotations import RawBox

ONE, COPY = Path("one.jpg"), Path("copy.jpg")
BOX, NEAR, NEARER = (0, 0, 100, 10), (0, 0, 92, 10), (0, 0, 97, 10)  # 0.92 and 0.97 of it


def placed(*boxes):
    return [Placed(box, name, RawBox(box, name, f"{n}"), file) for n, (box, name, file) in enumerate(boxes)]


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
