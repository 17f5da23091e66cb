import json
from enum import StrEnum

from platform.data.findings import Findings, Repair, counted, lacking, leaks, summarise


class Kind(StrEnum):
    BROKEN = "broken text"


REPAIRS = (*(Repair(Kind.BROKEN, f"line {number}") for number in range(4)), Repair("blank", "line 9", "kept"))


def test_lines_name_three_places_and_count_all():
    found = Findings(REPAIRS, (("train: line 1", "test: line 7"),), ("few", "old"), items="texts")
    assert found.lines() == {
        "! broken text": "4: line 0 (left out), line 1 (left out), line 2 (left out), …",
        "! blank": "1: line 9 (kept)",
        "! equal texts across splits": "1 group, the first: train: line 1, test: line 7",
        "! note 1": "few",
        "! note 2": "old",
    }
    assert len(found.listed()) == 8
    assert found.listed()[4:7] == [
        "blank: line 9 (kept)",
        "equal texts across splits: train: line 1, test: line 7",
        "few",
    ]
    assert json.loads(json.dumps(found.summary())) == {
        "repairs": {"broken text": 4, "blank": 1},
        "leaks": [["train: line 1", "test: line 7"]],
        "warnings": ["few", "old"],
    }


def test_nothing_found_says_nothing():
    assert (Findings().lines(), Findings().listed(), summarise(())) == ({}, [], "")


def test_a_remedy_names_the_most_frequent_kind_first():
    assert (
        summarise(REPAIRS[::-1]) == "Repaired or left out: 4 x broken text (first: line 3); 1 x blank (first: line 9)."
    )


def test_equal_items_are_leaks_only_across_splits():
    items = [("a", "train", "1"), ("b", "train", "2"), ("b", "train", "3"), ("a", "test", "4"), ("c", "val", "5")]
    assert leaks(items) == (("train: 1", "test: 4"),)


def test_more_than_a_dozen_classes_are_shortened_to_the_largest_and_the_smallest():
    assert counted({"ants": 3, "bees": 4}) == "ants 3, bees 4"
    text = counted({f"c{number}": 1 + number for number in range(400)})
    assert text == "400 classes, c399 400, c398 399, c397 398, c396 397, c395 396, c394 395, … c2 3, c1 2, c0 1"


def test_the_first_of_many_warnings_are_lines_and_all_are_listed():
    found = Findings(warnings=tuple(f"class {number} has no image in val" for number in range(400)))
    assert list(found.lines()) == [*(f"! note {number}" for number in range(1, 9)), "! notes"]
    assert found.lines()["! notes"] == "392 more are in the list of all findings"
    assert len(found.listed()) == 400


def test_hundreds_of_classes_that_lack_something_are_one_line():
    assert lacking([], ["ants"], "box") == []
    assert lacking(["ants"], ["ants", "bees"], "box") == ["1 of 2 classes has no box: ants"]
    (line,) = lacking([str(number) for number in range(400)], range(500), "image in val")
    assert line == f"400 of 500 classes have no image in val: {', '.join(map(str, range(12)))}, … (388 more)"
