import pytest
from hypothesis import given
from hypothesis import strategies as st

from platform.curation.box_checks import (
    CONFLICT,
    DROPPED,
    HUGE,
    MOSTLY_OUTSIDE,
    OPEN_TURN,
    RELATIVE_BOX,
    RESCALED,
    TINY,
    TURNED,
    Limits,
    Place,
    judge,
)
from platform.curation.findings import ASK, REPAIRED, SET_ASIDE
from platform.data.annotations import Kind, RawBox

LIMITS = Limits(min_side=4, max_share=0.98)
CLASSES = {"cola": "Cola", "COLA®": "Cola", "tea": "Tea", "???": None}
PLACE = Place("images/a.jpg", 100, 50, 0, None)
FINE = (10.0, 10.0, 40.0, 30.0)


def raw(box, name="cola"):
    return RawBox(box, name, "list row 1")


def judged(*boxes, place=PLACE):
    return judge([box if isinstance(box, RawBox) else raw(box) for box in boxes], place, CLASSES, LIMITS)


def test_a_box_that_is_right_is_kept_as_it_is_under_its_class():
    assert judged(raw(FINE, "COLA®")) == ((raw(FINE, "Cola"),), (), 0)


@pytest.mark.parametrize(
    ("box", "kind"),
    [
        ((float("nan"), 0, 5, 5), Kind.NOT_FINITE),
        ((10, 10, 10, 30), Kind.NO_AREA),
        ((200, 10, 240, 30), Kind.OUTSIDE),
        ((90, 10, 130, 30), MOSTLY_OUTSIDE),
        ((10, 10, 13.9, 30), TINY),
        ((0, 0, 100, 50), HUGE),
        ((-400, -400, 400, 400), MOSTLY_OUTSIDE),
    ],
)
def test_what_nobody_can_repair_is_set_aside(box, kind):
    kept, (found,), lost = judged(box)
    assert (kept, found.kind, found.action, lost) == ((), kind, SET_ASIDE, 1)
    assert (found.label, found.where, found.image) == ("cola", "list row 1", "images/a.jpg")


@pytest.mark.parametrize(
    ("box", "kind", "mended"),
    [
        ((40, 30, 10, 10), Kind.INVERTED, FINE),
        ((80, 10, 120, 30), Kind.PARTLY_OUTSIDE, (80, 10, 100, 30)),  # just half of it is inside
        ((0.1, 0.2, 0.4, 0.6), RELATIVE_BOX, FINE),
    ],
)
def test_what_is_certain_is_repaired_and_told_with_the_box_before_and_after(box, kind, mended):
    (kept,), (found,), lost = judged(box)
    assert (kept.box, found.kind, found.action, found.box, found.mended, lost) == (
        mended,
        kind,
        REPAIRED,
        box,
        mended,
        0,
    )


def test_a_label_that_means_no_class_loses_its_boxes():
    kept, (found,), lost = judged(raw(FINE, "???"))
    assert (kept, found.kind, lost) == ((), DROPPED, 1)


def test_one_object_annotated_twice_is_one_and_nothing_is_lost():
    kept, (found,), lost = judged(FINE, raw((10.2, 10, 40, 30), "COLA®"))
    assert (len(kept), found.kind, found.label, lost) == (1, Kind.DUPLICATE, "COLA®", 0)
    assert len(judged(FINE, (14, 10, 44, 30)).kept) == 2  # beside each other


def test_two_classes_in_one_place_are_for_a_person_to_decide():
    kept, told, lost = judged(FINE, raw(FINE, "tea"), (60, 10, 80, 30))
    assert [box.box for box in kept] == [(60, 10, 80, 30)]
    assert [(each.kind, each.action, each.label) for each in told] == [(CONFLICT, ASK, "cola"), (CONFLICT, ASK, "tea")]
    assert lost == 2


def test_boxes_on_a_turned_picture():
    place = Place("a", 50, 100, 6, None)  # stored as 100 x 50
    (kept,), (found,), _ = judged((80, 10, 96, 30), place=place)
    assert (kept.box, found.kind) == ((20, 80, 40, 96), TURNED)
    (kept,), (found,), _ = judged(FINE, place=place)
    assert (kept.box, found.kind, found.action) == (FINE, OPEN_TURN, ASK)


def test_boxes_of_an_image_that_was_resized_since_are_scaled_only_if_it_was_as_a_whole():
    (kept,), (found,), _ = judged((20, 20, 80, 60), place=PLACE._replace(annotated=(200, 100)))
    assert (kept.box, found.kind, found.action) == (FINE, RESCALED, REPAIRED)
    (kept,), (found,), _ = judged(FINE, place=PLACE._replace(annotated=(200, 150)))
    assert (kept.box, found.kind, found.action) == (FINE, RESCALED, ASK)
    assert judged(FINE, place=PLACE._replace(annotated=(100, 50))).findings == ()


edges = st.one_of(
    st.floats(-300, 300), st.floats(-2, 2), st.sampled_from([0.0, 50.0, 100.0, float("inf"), float("nan")])
)


@given(
    st.lists(st.tuples(st.tuples(edges, edges, edges, edges), st.sampled_from(sorted(CLASSES))), max_size=6),
    st.sampled_from([0, 1, 3, 6, 8, 99]),
    st.sampled_from([None, (100, 50), (50, 25), (77, 3), (0, 0)]),
)
def test_each_box_is_kept_or_told_and_what_is_kept_can_be_trained_on(given_boxes, orientation, annotated):
    boxes = [RawBox(box, name, str(number)) for number, (box, name) in enumerate(given_boxes)]
    kept, told, lost = judge(boxes, PLACE._replace(orientation=orientation, annotated=annotated), CLASSES, LIMITS)
    gone = [each.where for each in told if each.where and each.action != REPAIRED]
    assert sorted([*gone, *(box.where for box in kept)], key=int) == [box.where for box in boxes]
    for box in kept:
        x1, y1, x2, y2 = box.box
        assert 0 <= x1 < x2 <= 100
        assert 0 <= y1 < y2 <= 50
        assert min(x2 - x1, y2 - y1) >= LIMITS.min_side
        assert box.name in ("Cola", "Tea")
    assert lost <= len(gone)
