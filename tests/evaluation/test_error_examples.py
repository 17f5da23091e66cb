"""Selection of the test examples that are shown to people."""

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from platform.evaluation import error_examples

ANSWERS = st.lists(st.tuples(st.floats(0.01, 0.99), st.booleans()), min_size=1, max_size=40)


@given(ANSWERS)
def test_mistakes_come_first_and_the_surest_of_them_before_all(drawn):
    odd, targets = np.array([share for share, _ in drawn]), np.array([int(truth) for _, truth in drawn])
    shares = np.stack([1 - odd, odd], axis=1)
    shown = error_examples.surest(shares, targets, ["even", "odd"])
    assert len(shown) == min(error_examples.MOST, len(drawn))
    wrong = [", not " in caption for _, caption in shown]
    assert wrong == sorted(wrong, reverse=True)
    assert sum(wrong) == min(error_examples.MOST, int((shares.argmax(1) != targets).sum()))
    for kind in (True, False):
        sure = [shares[row].max() for (row, _), is_wrong in zip(shown, wrong, strict=True) if is_wrong is kind]
        assert sure == sorted(sure, reverse=True)


def test_a_caption_says_the_answer_how_sure_it_is_and_the_truth_of_a_mistake():
    shares = np.array([[0.9, 0.1], [0.25, 0.75]])
    shown = error_examples.surest(shares, np.array([0, 0]), ["cat", "dog"])
    assert shown == [(1, "dog 0.75, not cat"), (0, "cat 0.90")]


def test_long_texts_are_shortened_below_their_captions():
    text = error_examples.text_sheet(["word " * 500, "short\ttext\n"], ["a 0.90, not b", "b 0.80"])
    assert text.startswith("a 0.90, not b\n    word word")
    assert " …\n\nb 0.80\n    short text\n" in text
    assert max(map(len, text.splitlines())) <= error_examples.LINE + 4


def test_a_box_is_found_by_one_detection_of_its_class_that_overlaps_it():
    target = {"boxes": _boxes((0, 0, 10, 10), (20, 20, 30, 30), (40, 40, 50, 50)), "labels": torch.tensor([1, 1, 2])}
    found = {
        "boxes": _boxes((0, 0, 10, 9), (0, 1, 10, 10), (20, 20, 30, 30), (60, 60, 70, 70)),
        "labels": torch.tensor([1, 1, 2, 1]),
    }
    missed, wrong = error_examples.boxes(found, target)
    assert missed == [1, 2]  # one answered with the wrong class, one with nothing
    assert len(wrong) == 3
    assert {2, 3} < set(wrong)


def test_detections_share_out_the_boxes_so_that_most_are_found():
    target = {"boxes": _boxes((0, 0, 10, 10), (4, 0, 14, 10)), "labels": torch.tensor([1, 1])}
    found = {"boxes": _boxes((3, 0, 13, 10), (5, 0, 15, 10)), "labels": torch.tensor([1, 1])}
    assert error_examples.boxes(found, target) == ([], [])  # the first overlaps both, the second only the second


def test_an_image_without_boxes_or_without_detections():
    none = {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.int64)}
    one = {"boxes": _boxes((0, 0, 5, 5)), "labels": torch.tensor([1])}
    assert error_examples.boxes(none, none) == ([], [])
    assert error_examples.boxes(none, one) == ([0], [])
    assert error_examples.boxes(one, none) == ([], [0])


def _boxes(*corners):
    return torch.tensor(corners, dtype=torch.float32)
