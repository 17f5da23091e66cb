import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from platform.data.detection import voc
from platform.data.detection.annotations import Kind
from platform.data.detection.dataset import read
from platform.errors import InputError

BOX = ("cat", 1, 2, 30, 20)


def kinds(raw):
    return [repair.kind for repair in raw.repairs]


def rewrite(root: Path, stem: str, old: str, new: str) -> None:
    file = root / "Annotations" / f"{stem}.xml"
    file.write_text(file.read_text().replace(old, new))


@pytest.fixture
def root(tmp_path, writers, picture):
    pictures = {"a": picture([BOX], "train"), "b": picture([BOX, BOX], "val"), "c": picture([], "test")}
    return writers["Pascal VOC"](tmp_path / "voc", pictures)


def test_reads_boxes_sizes_and_lists(root):
    raw = voc.read(root)
    assert voc.recognise(root)
    assert [(image.path.name, image.split, image.size, len(image.boxes)) for image in raw.images] == [
        ("a.png", "train", (64, 32), 1),
        ("b.png", "val", (64, 32), 2),
        ("c.png", "test", (64, 32), 0),
    ]
    assert raw.images[0].boxes[0].box == (1, 2, 30, 20)
    assert raw.images[1].boxes[1].where == "Annotations/b.xml object 2"
    assert raw.repairs == ()


def test_lists_of_a_class_and_trainval_are_ignored_beside_train(root):
    main = root / "ImageSets" / "Main"
    (main / "trainval.txt").write_text("a\nb\n")
    (main / "cat_train.txt").write_text("a 1\nb -1\n")
    assert [image.split for image in voc.read(root).images] == ["train", "val", "test"]
    (main / "train.txt").unlink()
    assert [image.split for image in voc.read(root).images] == [None, "val", "test"]
    (main / "val.txt").unlink()
    assert [image.split for image in voc.read(root).images] == ["train", "train", "test"]


def test_flat_folder_and_folders_by_split(tmp_path, root, save):
    for name in ("a", "b"):
        for base in (tmp_path / "flat", tmp_path / "split" / {"a": "train", "b": "valid"}[name]):
            save(base / f"{name}.png")
            (base / f"{name}.xml").write_text((root / "Annotations" / f"{name}.xml").read_text())
    assert voc.recognise(tmp_path / "flat")
    assert [image.split for image in voc.read(tmp_path / "flat").images] == [None, None]
    assert voc.recognise(tmp_path / "split")
    assert [image.split for image in voc.read(tmp_path / "split").images] == ["train", "val"]


@pytest.mark.parametrize(
    "text",
    [
        "<annotation><object>",
        "<html/>",
        "",
        '<!DOCTYPE a [<!ENTITY x "y">]><annotation>&x;</annotation>',
        '<?xml version="1.0" encoding="none"?><a/>',
    ],
)
def test_unreadable_file_is_reported_once(root, text):
    (root / "Annotations" / "a.xml").write_text(text)
    raw = voc.read(root)
    assert (kinds(raw), len(raw.images)) == ([Kind.UNREADABLE_FILE], 2)


def test_unreadable_objects_are_reported_and_the_others_kept(root):
    rewrite(root, "b", "<xmin>1</xmin>", "<xmin>one</xmin>")
    rewrite(root, "a", "<name>cat</name>", "<name> </name>")
    raw = voc.read(root)
    assert kinds(raw) == [Kind.UNREADABLE_ENTRY] * 3
    assert [len(image.boxes) for image in raw.images] == [0, 0, 0]


@pytest.mark.parametrize("name", ["../../etc/x.png", "/etc/x.png", "..\\..\\etc\\x.png"])
def test_image_path_may_not_leave_the_root(root, name):
    rewrite(root, "a", "<filename>a.png", f"<filename>{name}")
    assert kinds(voc.read(root)) == [Kind.ESCAPING_PATH]


def test_missing_image_unannotated_image_and_listed_stem_without_file(root, save):
    (root / "JPEGImages" / "a.png").unlink()
    save(root / "JPEGImages" / "new.png")
    with (root / "ImageSets" / "Main" / "train.txt").open("a") as stream:
        stream.write("ghost\n")
    raw = voc.read(root)
    assert kinds(raw) == [Kind.MISSING_IMAGE, Kind.NO_ANNOTATION, Kind.NO_ANNOTATION]
    assert [repair.where for repair in raw.repairs[1:]] == ["ghost in train.txt", "JPEGImages/new.png"]


def test_renamed_image_is_found_by_the_name_of_its_annotation(root):
    rewrite(root, "a", "<filename>a.png", "<filename>old name.jpg")
    assert voc.read(root).images[0].path.name == "a.png"
    rewrite(root, "a", "<filename>old name.jpg", "<filename>b.png")  # by now the name of another image
    assert [image.path.name for image in voc.read(root).images] == ["a.png", "b.png", "c.png"]


def test_flags_that_have_no_place_are_counted(root):
    rewrite(root, "b", "</name>", "</name><pose>Left</pose><difficult>1</difficult><truncated>0</truncated>")
    rewrite(root, "a", "</name>", "</name><pose>Unspecified</pose><part><name>head</name></part>")
    assert voc.read(root).beyond == {"pose": 2, "difficult": 2, "part": 1}


NUMBERS = st.floats() | st.integers() | st.text("0123456789.-+enai ", max_size=8)


@settings(deadline=None, max_examples=30)
@given(corners=st.tuples(NUMBERS, NUMBERS, NUMBERS, NUMBERS), body=st.text(max_size=40))
def test_no_numbers_and_no_text_crash_it(writers, picture, corners, body):
    with tempfile.TemporaryDirectory() as folder:
        boxes = [("cat", *corners), BOX]
        root = writers["Pascal VOC"](Path(folder) / "voc", {f"{i}": picture(boxes) for i in range(4)})
        (root / "Annotations" / "0.xml").write_text(f"<annotation>{body}</annotation>", encoding="utf-8")
        for example in read(root, 0).examples:
            for x1, y1, x2, y2 in example.boxes:
                assert 0 <= x1 < x2 <= 64
                assert 0 <= y1 < y2 <= 32


def test_only_broken_files_is_an_input_error(root):
    for file in (root / "Annotations").iterdir():
        file.write_text("<")
    with pytest.raises(InputError, match=r"annotation file that cannot be read \(first: Annotations/a.xml"):
        read(root, 0)
