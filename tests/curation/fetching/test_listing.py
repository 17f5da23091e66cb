"""Tests of reading address lists."""

import csv
import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from platform.curation.fetching.list_rows import ChosenColumns, Row, WrittenLabel
from platform.curation.fetching.listing import open_list
from platform.errors import InputError

NONE = ChosenColumns()
TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=20)
URLS = st.builds("http://host/{}".format, st.text(st.characters(codec="ascii", min_codepoint=33), max_size=20))
NUMBERS = st.floats(-1e4, 1e4, allow_nan=False)


def rows(file: Path, content: str | bytes, chosen: ChosenColumns = NONE) -> list[Row]:
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    return list(open_list(file, chosen).rows())


def boxes(file: Path, content: str, chosen: ChosenColumns = NONE) -> list:
    return [(box.label, box.box) for row in rows(file, content, chosen) for box in row.boxes]


@pytest.fixture(scope="module")
def file(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("lists") / "list.csv"


@settings(max_examples=60)
@given(
    st.lists(st.tuples(URLS, TEXT, st.tuples(NUMBERS, NUMBERS, NUMBERS, NUMBERS)), min_size=1),
    st.sampled_from(",;\t"),
    st.sampled_from(["utf-8", "utf-8-sig", "utf-16"]),
)
def test_what_a_csv_writer_writes_is_read(file, wanted, delimiter, encoding):
    with file.open("w", newline="", encoding=encoding) as stream:
        table = csv.writer(stream, delimiter=delimiter)
        table.writerows([["URL", "Label", "x1", "y1", "x2", "y2"], *[[url, name, *box] for url, name, box in wanted]])
    read = list(open_list(file, NONE).rows())
    assert [row.faults for row in read] == [()] * len(wanted)
    assert [(row.url, row.boxes[0].label, row.boxes[0].box) for row in read] == [
        (url, name.strip(), box) for url, name, box in wanted
    ]


@settings(max_examples=60)
@given(st.lists(st.tuples(URLS, TEXT, st.lists(st.tuples(NUMBERS, NUMBERS, NUMBERS, NUMBERS), min_size=1)), min_size=1))
def test_what_json_has_is_read(file, wanted):
    lines = [
        json.dumps({"url": url, "boxes": [{"label": name, "box": box} for box in many]}) for url, name, many in wanted
    ]
    read = rows(file, "\n".join(lines))
    assert [(row.line, row.url, [box.box for box in row.boxes]) for row in read] == [
        (number, url, many) for number, (url, _, many) in enumerate(wanted, start=1)
    ]


@settings(max_examples=200)
@given(st.text('ab",\n\r;[]{}1 '), st.booleans())
def test_whatever_stands_around_a_row_it_is_read(file, junk, before):
    good = "http://good,logo,1,2,3,4\n"
    text = "url,label,x1,y1,x2,y2\n" + (junk + "\n" + good if before else good + junk)
    found = [row for row in rows(file, text) if row.url == "http://good"]
    if before and '"' in junk:  # an open quote may be meant to hold it
        return
    assert [row.boxes for row in found] == [(WrittenLabel("logo", (1, 2, 3, 4)),)]


@settings(max_examples=200)
@given(st.binary())
def test_any_bytes_are_rows_or_a_fault(file, content):
    try:
        read = rows(file, b"url,label\n" + content)
    except InputError:
        return
    assert all(row.url or row.faults for row in read)


@settings(max_examples=200)
@given(
    st.recursive(
        st.none() | st.booleans() | st.floats() | TEXT, lambda inner: st.lists(inner) | st.dictionaries(TEXT, inner)
    )
)
def test_any_json_beside_an_address_leaves_the_address(file, value):
    for key in ("box", "boxes", "annotations", "label", "split", "x1"):
        [row] = rows(file, json.dumps({"url": "http://good", key: value}))
        assert row.url == "http://good"
        assert all(box.box is None or len(box.box) == 4 for box in row.boxes)


@pytest.mark.parametrize(
    ("header", "values", "box"),
    [
        ("x1,y1,x2,y2", "1,2,30,40", (1, 2, 30, 40)),
        ("xmin,ymin,xmax,ymax", "1,2,30,40", (1, 2, 30, 40)),
        ("bbox_x_min,bbox_y_min,bbox_x_max,bbox_y_max", "1,2,30,40", (1, 2, 30, 40)),
        ("Left,Top,Right,Bottom", "1,2,30,40", (1, 2, 30, 40)),
        ("x,y,w,h", "1,2,30,40", (1, 2, 31, 42)),
        ("x,y,width,height", "1,2,30,40", (1, 2, 31, 42)),
        ("left,top,width,height", "1,2,30,40", (1, 2, 31, 42)),
        ("cx,cy,w,h", "20,30,10,20", (15, 20, 25, 40)),
        ("x_center,y_center,width,height", "20,30,10,20", (15, 20, 25, 40)),
        ("width,height,xmin,ymin,xmax,ymax", "640,480,1,2,30,40", (1, 2, 30, 40)),
        ("box", '"1,2,30,40"', (1, 2, 30, 40)),
        ("Bounding Box", "1 2 30 40", (1, 2, 30, 40)),
        ("bbox", '"[1, 2, 30, 40]"', (1, 2, 30, 40)),
        ("bbox", "[ 1.  2. 30. 40.]", (1, 2, 30, 40)),
        ("vg_bbox_xywh", '"[1, 2, 30, 40]"', (1, 2, 31, 42)),
        ("box_cxcywh", '"(20, 30, 10, 20)"', (15, 20, 25, 40)),
        ("boxes", '"[{""xmin"": 1, ""ymin"": 2, ""xmax"": 30, ""ymax"": 40}]"', (1, 2, 30, 40)),
    ],
)
def test_boxes_as_they_are_written(file, header, values, box):
    assert boxes(file, f"image_url,brand,{header}\nhttp://a,x,{values}\n") == [("x", box)]


def test_several_boxes_of_one_row(file):
    lines = (
        '{"url": "u", "label": "a", "box": "[[1,2,30,40],[5,6,70,80]]"}\n'
        '{"url": "u", "labels": ["a", "b"], "boxes": [[1,2,30,40],[5,6,70,80]]}\n'
        '{"url": "u", "annotations": [{"class": "a", "bbox_xywh": [1,2,3,4]}, {"bbox": {"x":1,"y":2,"w":3,"h":4}}]}'
    )
    assert boxes(file, lines) == [
        *[("a", (1, 2, 30, 40)), ("a", (5, 6, 70, 80))],
        *[("a", (1, 2, 30, 40)), ("b", (5, 6, 70, 80))],
        *[("a", (1, 2, 4, 6)), ("", (1, 2, 4, 6))],
    ]


def test_what_the_user_says_counts_for_more_than_names(file):
    text = "url,link,name,other,x1,y1,x2,y2,place\nhttp://a,http://b,n,o,1,2,3,4,5 6 7 8\n"
    assert boxes(file, text) == [("n", (1, 2, 3, 4))]
    chosen = ChosenColumns(url="link", label="other", box="place", convention="xywh")
    assert boxes(file, text, chosen) == [("o", (5, 6, 12, 14))]
    assert rows(file, text, chosen)[0].url == "http://b"


def test_a_label_that_is_no_text_is_reported(file):
    [row] = rows(file, '{"url": "u", "label": {"name": "a"}, "box": [1, 2, 30, 40]}')
    assert (row.boxes, row.faults) == ((WrittenLabel("", (1, 2, 30, 40)),), ("a label that is no text",))


def test_a_bad_box_loses_neither_the_image_nor_the_others(file):
    [row] = rows(
        file, '{"url": "u", "boxes": [{"label": "a", "box": [1, 2, 3]}, {"label": "b", "box": [10, 20, 30, 40]}]}'
    )
    assert row.boxes == (WrittenLabel("a"), WrittenLabel("b", (10, 20, 30, 40)))
    assert row.faults == ("the box '[1, 2, 3]' is not four numbers",)


def test_a_box_is_relative_if_no_number_is_above_two(file):
    text = "url,box\n" + "\n".join(f'http://a,"{box}"' for box in ("0,0,1,1", "0,0,1.5,2", "0,0,2.1,1", "0,0,640,480"))
    assert [row.boxes[0].relative for row in rows(file, text)] == [True, True, False, False]


@pytest.mark.parametrize(
    "cell", ["1,2,3", "a,b,c,d", "1,2,3,nan", "inf,1,2,3", "[[1,2],[3,4]]", "[1,2,3,true]", "1" + "0" * 400]
)
def test_what_is_not_four_numbers_is_reported(file, cell):
    [row] = rows(file, f'url,label,box\nhttp://a,x,"{cell}"\n')
    assert {box.box for box in row.boxes} == {None}
    assert "is not four numbers" in row.faults[0]


@pytest.mark.parametrize("cell", ["", "nan", "NaN", "null", "None", "[]"])
def test_no_box_is_not_a_bad_box(file, cell):
    assert rows(file, f"url,label,box\nhttp://a,x,{cell}\n") == [Row(2, "http://a", (WrittenLabel("x"),))]


def test_a_quote_that_was_not_closed_takes_nothing_with_it(file):
    text = 'url,label,x1,y1,x2,y2\nhttp://a,"Coca Cola,1,2,3,4\nhttp://b,"Pepsi",1,2,3,4\nhttp://c,"two\nlines",1,2,3,4,,\n'
    read = rows(file, text + 'http://d,"7" Up,1,2,3,4\nhttp://e,"last,1,2,3,4')
    assert [(row.line, row.url, row.boxes[0].label) for row in read] == [
        (2, "http://a", '"Coca Cola'),
        (3, "http://b", "Pepsi"),
        (4, "http://c", "two\nlines"),
        (6, "http://d", "7 Up"),
        (7, "http://e", '"last'),
    ]


def test_a_quote_closed_rows_later_takes_no_address_with_it(file):
    text = 'url,label\nhttp://a,"Acme\nhttp://b,Nike\nhttp://c,Puma"\nhttp://d,Lidl\n'
    assert [(row.url, row.boxes[0].label) for row in rows(file, text)] == [
        ("http://a", "Acme"),
        ("http://b", "Nike"),
        ("http://c", 'Puma"'),
        ("http://d", "Lidl"),
    ]


def test_a_row_with_more_fields_than_columns_is_not_guessed_at(file):
    [row] = rows(file, "url,label\nhttp://a,b,c\n")
    assert (row.url, row.faults) == (None, ("3 fields, the first line has 2",))


def test_a_field_without_end_is_reported(file):
    read = rows(file, f"url,label\nhttp://a,{'x' * 200_000}\nhttp://b,c\n")
    assert [(row.line, row.url) for row in read] == [(2, None), (3, "http://b")]
    assert "more than 131,072 characters" in read[0].faults[0]


def test_blank_lines_are_no_rows(file):
    read = rows(file, "\nurl,label\n\n ,\nhttp://a,b\n\n,,,\n")
    assert [(row.line, row.url) for row in read] == [(5, "http://a")]


def test_splits_go_by_their_usual_names(file):
    read = rows(file, "url,split\nhttp://a,Training\nhttp://b,valid\nhttp://c,\nhttp://d,fold3\n")
    assert [row.split for row in read] == ["train", "val", None, None]
    assert read[3].faults == ("the split 'fold3' is none of train, val, test",)


def test_another_encoding_is_guessed_and_reported(file):
    text = "url,label\n" + "".join(f"http://a/{n},Кока-Кола и другие напитки\n" for n in range(20))
    file.write_bytes(text.encode("cp1251"))
    listing = open_list(file, NONE)
    assert next(listing.rows()).boxes[0].label == "Кока-Кола и другие напитки"
    assert "was read as" in listing.notes[0]


def test_single_damaged_lines_are_read_all_the_same_and_reported(file):
    file.write_bytes("url,label\nhttp://a,Кока\nhttp://b,Ёлка\nhttp://c,".encode() + b"\xff\n")
    listing = open_list(file, NONE)
    assert [row.boxes[0].label for row in listing.rows()] == ["Кока", "Ёлка", "\ufffd"]
    assert listing.notes == ("1 lines have bytes that are not UTF-8, the first is list.csv line 4",)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a,b\n1,2\n", "found a, b in"),
        ("", "found nothing in"),
        ("http://a,logo\n", "the first line must hold the columns' names"),
        ('[{"url": "u"}]', "jq -c '.[]' list.csv > list.jsonl"),
        ('{"a": 1}\n{"b": 2}\n', "found a in"),
    ],
)
def test_a_list_without_addresses_is_refused(file, text, message):
    with pytest.raises(InputError, match=r"address|JSON lines") as caught:
        rows(file, text)
    assert message in str(caught.value)


def test_columns_that_are_not_there_are_refused_all_at_once(file):
    with pytest.raises(InputError) as caught:
        rows(file, "url,label\nhttp://a,b\n", ChosenColumns(label="brand", box="place"))
    assert [str(fault).split()[0] for fault in caught.value.faults] == ["--label-column", "--box-column"]
