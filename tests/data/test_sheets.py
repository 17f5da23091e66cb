import csv
import io

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from platform.data import sheets

properties = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=200)
cells = st.text(max_size=8) | st.text(st.sampled_from("'\"=+-@,;\t\r\n\0\uff1d1e. a"), max_size=6)
tables = st.lists(st.tuples(cells, cells), max_size=5)


def kept(rows):
    """The rows that are read back: not those of blanks."""
    return [row for row in rows if any(cell.strip() for cell in row)]


@properties
@given(rows=tables)
def test_texts_are_read_back_exactly(tmp_path, rows):
    sheets.write(tmp_path / "t.csv", ["label", "url"], ({"label": label, "url": url} for label, url in rows))
    columns, read = sheets.read(tmp_path / "t.csv")
    assert columns == ["label", "url"]
    assert [(row["label"], row["url"]) for row in read] == kept(rows)


@properties
@given(
    rows=tables,
    delimiter=st.sampled_from(",;\t"),
    line_end=st.sampled_from(["\n", "\r\n", "\r"]),
    mark=st.booleans(),
    quoting=st.sampled_from([csv.QUOTE_ALL, csv.QUOTE_MINIMAL]),
)
def test_texts_are_the_same_when_a_spreadsheet_saved_them_its_own_way(
    tmp_path, rows, delimiter, line_end, mark, quoting
):
    file = tmp_path / "t.csv"
    sheets.write(file, ["label", "url"], ({"label": label, "url": url} for label, url in rows))
    shown = list(csv.reader(io.StringIO(file.read_bytes().decode(), newline="")))  # what the spreadsheet shows
    saved = io.StringIO(newline="")
    if any(end in cell for line in shown for cell in line for end in "\r\n"):
        quoting = csv.QUOTE_ALL  # as spreadsheets do, and Python before 3.13 does not for line ends other than its own
    csv.writer(saved, delimiter=delimiter, lineterminator=line_end, quoting=quoting).writerows(shown)
    file.write_bytes(saved.getvalue().encode("utf-8-sig" if mark else "utf-8"))
    assert [(row["label"], row["url"]) for row in sheets.read(file)[1]] == kept(rows)


@properties
@given(numbers=st.lists(st.floats() | st.floats().map(np.float64) | st.integers(), min_size=1, max_size=5))
def test_numbers_are_read_back_exactly(tmp_path, numbers):
    sheets.write(tmp_path / "t.csv", ["x"], ({"x": number} for number in numbers))
    read = [type(number)(row["x"]) for number, row in zip(numbers, sheets.read(tmp_path / "t.csv")[1], strict=True)]
    np.testing.assert_array_equal(np.array(read, float), np.array(numbers, float))
    assert read == pytest.approx(numbers, rel=0, abs=0, nan_ok=True)


@properties
@given(text=cells.filter(lambda text: text.strip()))
def test_no_text_is_a_formula_to_a_spreadsheet(tmp_path, text):
    sheets.write(tmp_path / "t.csv", ["label"], [{"label": text}])
    _, (shown,) = csv.reader(io.StringIO((tmp_path / "t.csv").read_bytes().decode(), newline=""))
    number = text.strip("+-").replace(".", "", 1).replace("e", "", 1).isdecimal()
    assert number or not shown.startswith(tuple("=+-@\t\r\n\uff1d"))


def test_what_a_row_lacks_is_empty_and_what_a_line_has_too_much_of_is_dropped(tmp_path):
    sheets.write(tmp_path / "t.csv", ["a", "b"], [{"b": None, "a": 1}, {"b": "x"}])
    assert sheets.read(tmp_path / "t.csv")[1] == [{"a": "1", "b": ""}, {"a": "", "b": "x"}]
    (tmp_path / "t.csv").write_text(" A ,B\n1\n\n,,,\n1,2,3\n")
    assert sheets.read(tmp_path / "t.csv") == (["a", "b"], [{"a": "1", "b": ""}, {"a": "1", "b": "2"}])
    (tmp_path / "t.csv").write_text("")
    assert sheets.read(tmp_path / "t.csv") == ([], [])


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b'a,b\n1,"two\n3,4\n', "line 3: unexpected end of data"),
        (b'a,b\n1,"two"2\n', "line 2: "),
        (b"a,b\n1,2\n3,B\xfccher\n", "line 3 is not UTF-8: save it as CSV UTF-8"),
        ("a,b\n1,2\n".encode("utf-16"), "line 1 is not UTF-8"),
        (b"a,b\n1," + b"x" * 2**17 + b"y\n", "line 2: field larger than field limit"),
    ],
)
def test_a_file_that_is_not_a_table_is_refused_with_the_line(tmp_path, content, reason):
    (tmp_path / "t.csv").write_bytes(content)
    with pytest.raises(ValueError, match=reason):
        sheets.read(tmp_path / "t.csv")


def test_a_cell_that_could_not_be_read_back_is_not_written(tmp_path):
    sheets.write(tmp_path / "t.csv", ["a"], [{"a": "before"}])
    for cell in ("x" * 2**17, "=" * (2**17 - 1)):
        with pytest.raises(ValueError, match="characters"):
            sheets.write(tmp_path / "t.csv", ["a"], [{"a": "x"}, {"a": cell}])
    assert sheets.read(tmp_path / "t.csv")[1] == [{"a": "before"}]
    assert [path.name for path in tmp_path.iterdir()] == ["t.csv"]
    sheets.write(tmp_path / "t.csv", ["a"], [{"a": "x" * (2**17 - 2)}, {"a": "\ud800"}])
    assert [len(row["a"]) for row in sheets.read(tmp_path / "t.csv")[1]] == [2**17 - 2, 1]


def test_columns_of_what_may_be_no_table(tmp_path):
    assert sheets.columns(tmp_path / "none.csv") == []
    assert sheets.columns(tmp_path) == []
    (tmp_path / "t.csv").write_bytes(b"\xef\xbb\xbfImage;label\n\xff\n")
    assert sheets.columns(tmp_path / "t.csv") == ["image", "label"]
    for content in (b"", b"\n", b'"', b"\0" * 100, b"\xff\xfe", b"x" * 2**21):
        (tmp_path / "t.csv").write_bytes(content)
        assert "image" not in sheets.columns(tmp_path / "t.csv")


@properties
@given(st.binary(max_size=60) | st.text(st.sampled_from("a,;\t\"'\n\r\0é"), max_size=60).map(str.encode))
def test_any_bytes_are_read_or_refused(tmp_path, content):
    (tmp_path / "t.csv").write_bytes(content)
    sheets.columns(tmp_path / "t.csv")
    try:
        columns, rows = sheets.read(tmp_path / "t.csv")
    except ValueError:
        return
    assert all(set(row) == set(columns) for row in rows)
