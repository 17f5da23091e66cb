"""Predictions as lines and rows keep every value."""

import csv
import io
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from platform.serving import prediction_rows

BOXES = {
    "path": "a b.jpg",
    "detections": [
        {"class": "cat", "score": 0.9, "box": [1.0, 2.0, 3.5, 4.0]},
        {"class": 'a "dog", large', "score": 0.4, "box": [0.0, 0.0, 1.0, 1.0]},
    ],
}
NAMES = st.text(st.characters(blacklist_categories=["Cs"], blacklist_characters=".\r\n\0"), min_size=1, max_size=6)
NAMES = NAMES.filter(lambda name: name != prediction_rows.BOX)
TEXTS = st.text(st.characters(blacklist_categories=["Cs"], blacklist_characters="\r\0"), max_size=12)
PLAIN = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | TEXTS
OBJECTS = st.recursive(
    st.dictionaries(NAMES, PLAIN, max_size=4), lambda inner: st.dictionaries(NAMES, inner, max_size=3)
)


def written_table(example, *predictions) -> list[dict[str, str]]:
    stream = io.StringIO(newline="")
    write = prediction_rows.writer("csv", stream, example)
    for prediction in predictions:
        write(prediction)
    return list(csv.DictReader(io.StringIO(stream.getvalue(), newline="")))


def test_each_box_is_a_row_and_an_image_without_boxes_has_one_too():
    written = written_table(BOXES, BOXES, {"path": "empty.jpg", "detections": []})
    assert list(written[0]) == ["path", "class", "score", "x1", "y1", "x2", "y2"]
    assert [row["path"] for row in written] == ["a b.jpg", "a b.jpg", "empty.jpg"]
    assert list(written[1].values()) == ["a b.jpg", 'a "dog", large', "0.4", "0.0", "0.0", "1.0", "1.0"]
    assert set(written[2].values()) == {"empty.jpg", ""}


def test_values_of_inner_objects_are_columns_named_after_both():
    prediction = {"text": "two\nlines", "genre": {"class": "crime", "probability": 0.5}, "size": [3, 4]}
    [row] = written_table(prediction, prediction)
    assert row == {"text": "two\nlines", "genre.class": "crime", "genre.probability": "0.5", "size": "[3, 4]"}


@pytest.mark.parametrize(
    "example",
    [
        {"class": "cat", "detections": [{"class": "dog"}]},
        {"a.b": 1, "a": {"b": 2}},
        {"boxes": [{"x": 1}], "masks": [{"y": 1}]},
    ],
)
def test_names_that_would_be_ambiguous_in_a_table_are_refused(example):
    with pytest.raises(ValueError, match="a prediction"):
        prediction_rows.columns(example)


def test_a_name_that_the_example_lacks_is_an_error():
    with pytest.raises(ValueError, match="fields not in fieldnames"):
        written_table({"a": 1}, {"a": 1, "b": 2})


@given(st.dictionaries(NAMES, PLAIN | OBJECTS, min_size=1, max_size=4))
def test_each_value_is_in_its_column(prediction):
    columns = prediction_rows.columns(prediction)
    if not columns:
        return
    read = list(csv.reader(io.StringIO(_written("csv", prediction), newline="")))
    assert [columns] == read[:1]
    if len(columns) > 1:  # a row of one empty cell is a blank line to csv
        assert len(read) == 2
        for column, cell in zip(columns, read[1], strict=True):
            value = prediction
            for key in column.split("."):
                value = value[key]
            assert cell == ("" if value is None else str(value))


@given(st.dictionaries(TEXTS, PLAIN | OBJECTS | st.lists(OBJECTS), max_size=4))
def test_a_line_is_one_line_and_reads_back(prediction):
    line = _written("jsonl", prediction)
    assert line.count("\n") == 1
    assert json.loads(line) == prediction


def _written(kind: str, prediction) -> str:
    stream = io.StringIO(newline="")
    prediction_rows.writer(kind, stream, prediction)(prediction)
    return stream.getvalue()
