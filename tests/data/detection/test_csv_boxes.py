import math

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from platform.data.detection import csv_boxes
from platform.data.detection import dataset as detection
from platform.data.detection.annotations import Kind, RawBox, RawImage
from platform.data.findings import Repair
from platform.data.sheets import columns
from platform.errors import InputError

HEAD = "image,label,x1,y1,x2,y2"
CAT = "a.png,cat,1,2,30,20"

properties = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=100)


@pytest.fixture
def table(tmp_path, save):
    """Writes lines to a table beside three images; the first line holds the columns."""
    for number, name in enumerate(("a.png", "b.png", " odd; =name.png")):
        save(tmp_path / name, number)

    def write(*lines, head=HEAD, name="annotations.csv"):
        (tmp_path / name).write_text("\n".join([head, *lines]) + "\n")
        return tmp_path

    return write


def boxes(raw):
    return [(image.path.name, image.split, [(box.name, *box.box) for box in image.boxes]) for image in raw.images]


def repairs_of(raw):
    return [(repair.kind, repair.where) for repair in raw.repairs]


names = st.text(st.characters(codec="utf-8"), min_size=1, max_size=8) | st.sampled_from(
    ["=1+1", "'=1", "no", "1e3", "-5", 'a "b", c;\td', "a\rb", "コカ・コーラ"]
)
raw_boxes = st.tuples(st.tuples(*[st.floats()] * 4), names.map(str.strip).filter(bool))
raw_images = st.dictionaries(
    st.tuples(st.sampled_from(["a.png", "b.png", " odd; =name.png"]), st.sampled_from(["train", "val", "test"])),
    st.lists(raw_boxes, max_size=3),
    max_size=5,
)


@properties
@given(given=raw_images, splits=st.booleans())
def test_what_is_written_is_read_back_exactly(table, given, splits):
    root = table()
    if not splits:
        given = {(name, None): boxes for (name, _), boxes in given.items()}
    images = [
        RawImage(root / name, tuple(RawBox(box, label, "") for box, label in boxes), split, "")
        for (name, split), boxes in given.items()
    ]
    csv_boxes.write(root / "cleaned.csv", root, images, {"url": {root / "a.png": "http://x/?a=1,2"}})
    raw = csv_boxes.read(root)
    assert raw.repairs == ()
    read = {(i.path.name, i.split): [(box.name, *map(repr, box.box)) for box in i.boxes] for i in raw.images}
    assert read == {key: [(label, *map(repr, box)) for box, label in boxes] for key, boxes in given.items()}
    assert columns(root / "cleaned.csv") == [*csv_boxes.COLUMNS, "url"]


def test_the_last_step_counts_and_a_step_reads_what_comes_before_it(table):
    root = table(CAT)
    assert csv_boxes.table_of(root) == root / "annotations.csv"
    for name in csv_boxes.STEPS:
        table(CAT, name=name)
        assert csv_boxes.table_of(root) == root / name
    before = [csv_boxes.table_of(root, before=step).name for step in csv_boxes.STEPS]
    assert before == ["annotations.csv", "fetched.csv", "cleaned.csv"]


def test_a_table_without_its_columns_is_no_such_layout(table):
    root = table(CAT, head="image,label,x1,y1,x2,height")
    assert not csv_boxes.recognise(root)
    raw = csv_boxes.read_table(root, root / "annotations.csv")
    assert repairs_of(raw) == [(Kind.UNREADABLE_FILE, "annotations.csv (no columns y2)")]


def test_splits_by_their_usual_names_and_reported_where_unknown(table):
    root = table(f"{CAT},Validation", "b.png,,,,,,testing", "b.png,dog,1,1,9,9,dev", head=f"{HEAD},split")
    raw = csv_boxes.read(root)
    assert boxes(raw) == [("a.png", "val", [("cat", 1, 2, 30, 20)]), ("b.png", "test", [])]
    assert repairs_of(raw) == [(Kind.UNREADABLE_ENTRY, "annotations.csv row 4 dog")]


def test_an_image_of_one_split_needs_to_name_it_once(table):
    lines = [f"{CAT},", f"{CAT},train", "b.png,dog,1,1,9,9,train", "b.png,dog,1,1,9,9,val", "b.png,fox,2,2,8,8,"]
    raw = csv_boxes.read(table(*lines, head=f"{HEAD},split"))
    assert boxes(raw) == [
        ("a.png", "train", [("cat", 1, 2, 30, 20)] * 2),
        ("b.png", "train", [("dog", 1, 1, 9, 9)]),
        ("b.png", "val", [("dog", 1, 1, 9, 9)]),
    ]
    assert repairs_of(raw) == [(Kind.NO_SPLIT, "annotations.csv row 6")]


def test_an_image_whose_lines_cannot_be_used_is_left_out_and_not_taken_for_background(table):
    raw = csv_boxes.read(table("a.png,cat,,,,", "b.png,cat,1,2,x,4", "b.png,,1,2,3,4", " odd; =name.png,,,,,"))
    assert boxes(raw) == [(" odd; =name.png", None, [])]
    assert repairs_of(raw) == [
        (Kind.NO_BOX, "annotations.csv row 2 cat"),
        (Kind.UNREADABLE_ENTRY, "annotations.csv row 3 cat"),
        (Kind.NO_LABEL, "annotations.csv row 4"),
    ]
    assert [repair.image.name for repair in raw.repairs] == ["a.png", "b.png", "b.png"]


@pytest.mark.parametrize(
    ("cell", "kind"),
    [
        ("../out.png", Kind.ESCAPING_PATH),
        ("/etc/hostname", Kind.ESCAPING_PATH),
        ("..\\out.png", Kind.ESCAPING_PATH),
        ("gone.png", Kind.MISSING_IMAGE),
        ("", Kind.MISSING_IMAGE),
        (".", Kind.MISSING_IMAGE),
        ("a.png\0", Kind.MISSING_IMAGE),
        ("x" * 5000, Kind.MISSING_IMAGE),
    ],
)
def test_an_image_that_is_not_there_or_not_inside_is_reported(table, save, cell, kind):
    root = table(f"{cell},cat,1,2,3,4", CAT)
    save(root.parent / "out.png")
    raw = csv_boxes.read(root)
    assert [image.path.name for image in raw.images] == ["a.png"]
    assert raw.repairs == (Repair(kind, f"annotations.csv row 2 {cell}".strip()),)


def test_paths_as_people_write_them(table, save):
    root = table(" a.png ,cat,1,2,3,4", "sub\\c.png,cat,1,2,3,4", "sub/../b.png,cat,1,2,3,4", "d\\e.png,cat,1,2,3,4")
    save(root / "sub" / "c.png")
    save(root / "d\\e.png")  # a name that is one, here
    raw = csv_boxes.read(root)
    assert [image.path.relative_to(root).as_posix() for image in raw.images] == [
        "a.png",
        "sub/c.png",
        "b.png",
        "d\\e.png",
    ]


def test_further_columns_are_passed_over_and_counted(table):
    raw = csv_boxes.read(table(f"{CAT},http://x/a,", f"{CAT},http://x/a,7", head=f"{HEAD},url,note"))
    assert raw.beyond == {"url": 2, "note": 1}


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"\n" + CAT.encode() + b'\n"a.png,cat', "line 3: unexpected end of data"),
        (b"\nB\xfccher.png,cat,1,2,3,4", "line 2 is not UTF-8: save it as CSV UTF-8"),
    ],
)
def test_a_broken_table_is_reported_and_nothing_else_is_taken(table, content, why):
    root = table()
    (root / "annotations.csv").write_bytes(HEAD.encode() + content)
    raw = csv_boxes.read(root)
    assert (raw.images, repairs_of(raw)) == ((), [(Kind.UNREADABLE_FILE, f"annotations.csv ({why})")])
    with pytest.raises(InputError, match=why):
        detection.read(root, 0)


def test_a_table_as_spreadsheets_of_half_the_world_save_it(tmp_path, save):
    save(tmp_path / "a.png", 0)
    text = "\ufefflabel;image;x1;y1;x2;y2\n\ncat;a.png;1,5;2;30,25;20\n;;;;;\ndog;a.png;1;x;3;4\n"
    (tmp_path / "annotations.csv").write_text(text, encoding="utf-8")
    raw = csv_boxes.read(tmp_path)
    assert boxes(raw) == [("a.png", None, [("cat", 1.5, 2, 30.25, 20)])]
    assert repairs_of(raw) == [(Kind.UNREADABLE_ENTRY, "annotations.csv row 5 dog")]


def test_an_image_that_no_table_can_name_is_refused(tmp_path):
    image = RawImage(tmp_path / "caf\udce9.png", (), None, "")
    with pytest.raises(InputError, match="must be UTF-8"):
        csv_boxes.write(tmp_path / "t.csv", tmp_path, [image])
    assert not (tmp_path / "t.csv").exists()


def test_numbers_of_no_value_are_read_and_reported_later(table):
    raw = csv_boxes.read(table("a.png,cat,nan,2,inf,-inf"))
    assert [math.isfinite(number) for number in raw.images[0].boxes[0].box] == [False, True, False, False]
