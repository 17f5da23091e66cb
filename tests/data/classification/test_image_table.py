import contextlib

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from platform.data.classification import dataset as image_classes
from platform.data.classification import table as image_table
from platform.data.classification.labels import Kind
from platform.errors import InputError


@pytest.fixture
def table(tmp_path, save):
    """Writes rows to a CSV file beside twelve images; the first line holds the columns."""
    for number in range(12):
        save(tmp_path / "img" / f"{number}.png", number)

    def write(*lines, columns="path,label", encoding="utf-8"):
        (tmp_path / "labels.csv").write_text("\n".join([columns, *lines]) + "\n", encoding)
        return tmp_path / "labels.csv"

    return write


def rows(first, end, more=""):
    return [f"img/{number}.png,{('ant', 'bee')[number % 2]}{more}" for number in range(first, end)]


def test_the_file_and_its_folder_read_the_same_in_any_order(table):
    file = table(*rows(0, 12))
    dataset = image_classes.read(file, 0)
    assert (dataset.layout, dataset.classes, len(dataset.examples)) == ("CSV file labels.csv", ("ant", "bee"), 12)
    assert (dataset.name, dataset.root) == (file.parent.name, file.parent)
    assert image_classes.read(file.parent, 0) == dataset
    table(*rows(0, 12)[::-1])
    assert image_classes.read(file, 0).fingerprint == dataset.fingerprint


def test_a_byte_order_mark_quotes_blanks_and_other_columns_are_no_obstacle(table):
    file = table(
        *(f'"img/{n}.png","{("蚂蚁", "a, b")[n % 2]} ",x' for n in range(12)),
        "",
        ",,",
        columns=" Path,LABEL,note",
        encoding="utf-8-sig",
    )
    dataset = image_classes.read(file, 0)
    assert dataset.classes == ("a, b", "蚂蚁")
    assert dataset.found.repairs == ()


def test_bad_rows_are_left_out_and_reported_with_their_line(table, save, tmp_path):
    save(tmp_path.parent / "outside.png", 55)
    file = table(
        *rows(0, 10),
        "../outside.png,ant",
        "img/none.png,ant",
        "img/10.png, ",
        "img/10.png",
        "img/10.png,ant,bee",
        ",ant",
        "/etc/hostname,ant",
        "img/10.png\0,ant",
    )
    dataset = image_classes.read(file, 0)
    assert [(r.kind, r.where) for r in dataset.found.repairs] == [
        (Kind.UNREADABLE_ROW, "labels.csv line 15"),
        (Kind.UNREADABLE_ROW, "labels.csv line 16"),
        (Kind.ESCAPING_PATH, "labels.csv line 12 ../outside.png"),
        (Kind.MISSING_IMAGE, "labels.csv line 13 img/none.png"),
        (Kind.BLANK_LABEL, "labels.csv line 14 img/10.png"),
        (Kind.MISSING_IMAGE, "labels.csv line 17"),
        (Kind.ESCAPING_PATH, "labels.csv line 18 /etc/hostname"),
        (Kind.MISSING_IMAGE, "labels.csv line 19 img/10.png\0"),
        (Kind.NO_ROW, "img/11.png"),
    ]
    assert len(dataset.examples) == 10


def test_splits_by_their_usual_names_and_the_rest_reported(table):
    lines = [
        *rows(0, 4, ",train"),
        *rows(4, 6, ",Valid"),
        *rows(6, 8, ",testing"),
        *rows(8, 9, ",dev"),
        *rows(9, 10, ","),
    ]
    dataset = image_classes.read(table(*lines, columns="path,label,split"), 0)
    assert [example.split for example in dataset.examples] == ["train"] * 4 + ["val"] * 2 + ["test"] * 2
    assert [(r.kind, r.where) for r in dataset.found.repairs][:2] == [
        (Kind.UNKNOWN_SPLIT, "labels.csv line 10 img/8.png: dev"),
        (Kind.NO_SPLIT, "labels.csv line 11 img/9.png"),
    ]
    assert not image_classes.read(table(*rows(0, 12, ","), columns="path,label,split"), 0).splits_given


def test_a_test_split_of_missing_images_is_not_taken_for_a_missing_one(table):
    lines = [*rows(0, 6, ",train"), *rows(6, 8, ",val"), "img/none.png,ant,test"]
    with pytest.raises(InputError, match=r"the test split must have a usable image.*1 x row of a missing image"):
        image_classes.read(table(*lines, columns="path,label,split"), 0)


def test_the_same_row_twice_and_a_row_for_two_classes(table):
    dataset = image_classes.read(table(*rows(0, 12), "img/0.png,ant", "img/1.png,wasp"), 0)
    assert [(r.kind, r.where) for r in dataset.found.repairs] == [
        (Kind.DUPLICATE, "labels.csv line 14 img/0.png, as labels.csv line 2 img/0.png"),
        (Kind.TWO_CLASSES, "labels.csv line 3 img/1.png: bee"),
        (Kind.TWO_CLASSES, "labels.csv line 15 img/1.png: wasp"),
    ]
    assert dataset.found.warnings == ("1 of 3 classes has no usable image: wasp",)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"path;label\na.png;ant\n", "path;label in .*labels.csv. Write them in the first line"),
        (b"", "found nothing in"),
        (b'path,label\nimg/0.png,ant\n\nimg/1.png,"bee\nimg/2.png,ant\n', "line 4: unexpected end of data"),
        (b'path,label\nimg/0.png,"ant"s\n', "line 2: "),
        (b"path,label\nimg/0.png,ant\nimg/1.png,B\xfccher\n", "UTF-8; found other bytes in .* line 3"),
        ("path,label\n".encode("utf-16"), "UTF-8; found other bytes in .* line 1"),
    ],
)
def test_a_file_that_cannot_be_parsed_is_one_fault(table, content, message):
    file = table()
    file.write_bytes(content)
    for source in (file, file.parent):
        with pytest.raises(InputError, match=message) as caught:
            image_classes.read(source, 0)
        assert len(caught.value.faults) == 1


def test_two_files_of_labels_are_ambiguous_and_another_is_passed_over(table):
    file = table(*rows(0, 12))
    (file.parent / "more.csv").write_text("name,size\n")
    assert len(image_classes.read(file.parent, 0).examples) == 12
    (file.parent / "more.csv").write_text("path,label\n")
    with pytest.raises(InputError, match=r"found labels.csv, more.csv. Name one, as --data .*labels.csv"):
        image_classes.read(file.parent, 0)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.binary(max_size=60) | st.text(st.sampled_from('a,"\n\r;/.\\\0é'), max_size=60).map(str.encode))
def test_any_bytes_are_read_or_refused(tmp_path, content):
    file = tmp_path / "any.csv"
    file.write_bytes(b"path,label,split\n" + content)
    with contextlib.suppress(InputError):
        assert image_table.read(file).images == ()
