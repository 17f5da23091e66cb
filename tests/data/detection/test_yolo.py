import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from platform.data.detection import yolo
from platform.data.detection.annotations import Kind
from platform.data.detection.dataset import read
from platform.errors import InputError

BOX = ("cat", 8, 2, 24, 18)


def kinds(raw):
    return [repair.kind for repair in raw.repairs]


@pytest.fixture
def root(tmp_path, writers, picture):
    pictures = {"a": picture([BOX], "train"), "b": picture([BOX, BOX], "val"), "c": picture([], "test")}
    return writers["YOLO"](tmp_path / "yolo", pictures)


def test_reads_relative_boxes_as_pixels_and_images_without_labels_as_background(root):
    raw = yolo.read(root)
    assert yolo.recognise(root)
    assert [(image.path.name, image.split, len(image.boxes)) for image in raw.images] == [
        ("c.png", "test", 0),
        ("a.png", "train", 1),
        ("b.png", "val", 2),
    ]
    assert raw.images[1].boxes[0].box == (8, 2, 24, 18)
    assert raw.images[2].boxes[1].where == "labels/val/b.txt line 2"
    assert (raw.repairs, raw.declared) == ((), ("cat",))


def test_darknet_lists_give_the_splits(tmp_path, root):
    data = tmp_path / "darknet"
    (data / "data").mkdir(parents=True)
    for split, name in (("train", "a"), ("val", "b")):
        shutil.copy(root / "images" / split / f"{name}.png", data / "data")
        shutil.copy(root / "labels" / split / f"{name}.txt", data / "data")
    (data / "obj.names").write_text("cat\n")
    (data / "train.txt").write_text("data/a.png\n")
    (data / "valid.txt").write_text("data/b.png\n")
    raw = yolo.read(data)
    assert [(image.path.name, image.split, len(image.boxes)) for image in raw.images] == [
        ("a.png", "train", 1),
        ("b.png", "val", 2),
    ]


@pytest.mark.parametrize(
    "text",
    [
        "names: [cat]\ntrain: ../train/images\nval: ../valid/images\n",  # Roboflow
        "names: {0: cat}\npath: /content/data\ntrain: train/images\nval: [valid/images]\n",
        "names: [cat]\ntrain: C:\\data\\train\\images\nval: /content/data/valid/images\n",
        "names: [cat]\ntrain: list.txt\nval: ../valid/images\n",
        "names: [cat]\n",
    ],
)
def test_roboflow_folders_and_paths_that_lead_elsewhere(tmp_path, root, text):
    data = tmp_path / "roboflow"
    for split, folder in (("train", "train"), ("val", "valid")):
        shutil.copytree(root / "images" / split, data / folder / "images")
        shutil.copytree(root / "labels" / split, data / folder / "labels")
    (data / "list.txt").write_text("/content/data/train/images/a.png\n")
    (data / "data.yaml").write_text(text)
    raw = yolo.read(data)
    assert [(i.path.relative_to(data).as_posix(), i.split, len(i.boxes)) for i in raw.images] == [
        ("train/images/a.png", "train", 1),
        ("valid/images/b.png", "val", 2),
    ]
    assert raw.repairs == ()


def test_paths_never_lead_out_of_the_root(root, save):
    save(root.parent / "secret" / "x.png")
    (root / "data.yaml").write_text("names: [cat]\ntrain: ../secret\nval: list.txt\n")
    (root / "list.txt").write_text("../secret/x.png\nimages/val/b.png\n../../etc/passwd\n")
    raw = yolo.read(root)
    assert [image.path.name for image in raw.images] == ["b.png"]
    assert kinds(raw)[:3] == [Kind.MISSING_FOLDER, Kind.MISSING_IMAGE, Kind.MISSING_IMAGE]


@pytest.mark.parametrize("place", ["classes.txt", "labels/classes.txt", "obj.names"])
def test_class_names_without_yaml_and_no_splits(tmp_path, root, place):
    data = tmp_path / "plain"
    shutil.copytree(root / "images" / "train", data / "images")
    shutil.copytree(root / "labels" / "train", data / "labels")
    (data / place).write_text("cat\n\n")
    raw = yolo.read(data)
    assert [(image.split, [box.name for box in image.boxes]) for image in raw.images] == [(None, ["cat"])]
    assert raw.repairs == ()


def test_labels_beside_the_images(tmp_path, root):
    data = tmp_path / "darknet"
    shutil.copytree(root / "images" / "train", data)
    shutil.copy(root / "labels" / "train" / "a.txt", data)
    (data / "classes.txt").write_text("cat\n")
    assert [len(image.boxes) for image in yolo.read(data).images] == [1]


def test_yaml_words_that_look_like_booleans_or_numbers_stay_names(root):
    (root / "data.yaml").write_text("names: [no, 1e3]\n")
    assert yolo.read(root).declared == ("no", "1e3")


def test_bad_lines_unknown_classes_and_orphaned_labels_are_reported(root):
    (root / "labels" / "train" / "a.txt").write_text("0 .5 .5 .2\n\n0 a b c d\n7 .5 .5 .2 .2\n0.5 .5 .5 .2 .2\n")
    (root / "labels" / "train" / "ghost.txt").write_text("0 .5 .5 .2 .2\n")
    raw = yolo.read(root)
    assert kinds(raw) == [*[Kind.UNREADABLE_ENTRY] * 2, *[Kind.UNKNOWN_CLASS] * 2, Kind.MISSING_IMAGE]
    assert raw.repairs[2].where == "labels/train/a.txt line 4 class 7"


@pytest.mark.parametrize("text", ["names: [", "- a\n", "names: !!python/object:os.system x\n\t", "&a [*a]"])
def test_unreadable_yaml_leaves_nothing_to_train_on_and_says_why(root, text):
    (root / "data.yaml").write_text(text)
    with pytest.raises(InputError, match="annotation file that cannot be read"):
        read(root, 0)


@settings(deadline=None, max_examples=30)
@given(
    numbers=st.tuples(*[st.floats() | st.integers()] * 4),
    label=st.text(max_size=30),
    settings_text=st.text(max_size=30) | st.just("names: &a [*a, cat]\ntrain: {a: b}\nval: [[x]]\n"),
)
def test_no_numbers_and_no_text_crash_it(writers, picture, numbers, label, settings_text):
    with tempfile.TemporaryDirectory() as folder:
        root = writers["YOLO"](Path(folder) / "yolo", {f"{i}": picture([BOX], "train") for i in range(5)})
        line = " ".join(map(str, numbers))
        (root / "labels" / "train" / "0.txt").write_text(f"0 {line}\n{label}\n", encoding="utf-8")
        for example in read(root, 0).examples:
            for x1, y1, x2, y2 in example.boxes:
                assert 0 <= x1 < x2 <= 64
                assert 0 <= y1 < y2 <= 32
        (root / "data.yaml").write_text(settings_text, encoding="utf-8")
        yolo.read(root)
