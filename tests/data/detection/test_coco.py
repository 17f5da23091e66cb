import json
import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from platform.data.detection import coco
from platform.data.detection.annotations import Kind
from platform.data.detection.dataset import read
from platform.errors import InputError

BOX = ("cat", 1, 2, 30, 20)
TRAIN = Path("annotations") / "instances_train2017.json"


def kinds(raw):
    return [repair.kind for repair in raw.repairs]


def edit(root: Path, key: str, index: int, **changes) -> None:
    document = json.loads((root / TRAIN).read_text())
    document[key][index] |= changes
    (root / TRAIN).write_text(json.dumps(document))


@pytest.fixture
def root(tmp_path, writers, picture):
    pictures = {"a": picture([BOX, BOX], "train"), "b": picture([BOX], "val"), "c": picture([], "test")}
    return writers["COCO"](tmp_path / "coco", pictures)


def test_reads_boxes_as_corners_and_splits_from_the_file_names(root):
    raw = coco.read(root)
    assert coco.recognise(root)
    assert {image.path.name: image.split for image in raw.images} == {"a.png": "train", "b.png": "val", "c.png": "test"}
    first = next(image for image in raw.images if image.split == "train")
    assert (first.size, first.boxes[0].box) == ((64, 32), (1, 2, 30, 20))
    assert first.boxes[1].where == "annotations/instances_train2017.json annotations[1]"
    assert (raw.repairs, raw.declared, raw.beyond) == ((), ("cat",), {})


def test_captions_beside_instances_are_ignored(root):
    (root / "annotations" / "captions_train2017.json").write_text('{"images": [], "annotations": [], "categories": []}')
    assert coco.read(root).repairs == ()


def test_roboflow_folders_give_the_splits(tmp_path, root):
    for split, folder in (("train", "train"), ("val", "valid")):
        shutil.copytree(root / "images", tmp_path / "roboflow" / folder)
        shutil.copy(
            root / "annotations" / f"instances_{split}2017.json",
            tmp_path / "roboflow" / folder / "_annotations.coco.json",
        )
    raw = coco.read(tmp_path / "roboflow")
    assert [(image.path.parent.name, image.split) for image in raw.images] == [("train", "train"), ("valid", "val")]


@pytest.mark.parametrize("folder", [".", "images", "train2017", "images/train"])
def test_one_file_at_the_root_and_images_in_any_usual_folder(tmp_path, root, folder):
    shutil.copytree(root / "images", tmp_path / "one" / folder)
    shutil.copy(root / TRAIN, tmp_path / "one" / "instances_train2017.json")
    assert [image.path.name for image in coco.read(tmp_path / "one").images] == ["a.png"]


def test_crowds_unknown_classes_and_images_and_malformed_entries_are_reported(root):
    document = json.loads((root / TRAIN).read_text())
    entry = document["annotations"][0]
    document["annotations"] += [
        entry | {"iscrowd": 1},
        entry | {"category_id": 99},
        entry | {"image_id": 99},
        entry | {"bbox": [1, 2, 3]},
        entry | {"bbox": None},
        entry | {"image_id": []},
        entry | {"bbox": [10**400, 0, 1, 1]},
        "text",
    ]
    document["images"].append(document["images"][0])  # an id twice
    (root / TRAIN).write_text(json.dumps(document))
    raw = coco.read(root)
    expected = [Kind.UNREADABLE_ENTRY, Kind.CROWD, Kind.UNKNOWN_CLASS, Kind.MISSING_IMAGE, *[Kind.UNREADABLE_ENTRY] * 5]
    assert kinds(raw) == expected
    assert [len(image.boxes) for image in raw.images if image.split == "train"] == [2]


def test_categories_keep_their_order_and_what_has_no_place_is_counted(root):
    document = json.loads((root / TRAIN).read_text())
    document["categories"] = [{"id": 7, "name": "zebra"}, *document["categories"], {"id": 9, "name": "ant"}]
    document["annotations"][0] |= {"segmentation": [[1, 2, 3, 4, 5, 6]], "area": 9, "attributes": {}}
    document["images"][0]["license"] = 3
    (root / TRAIN).write_text(json.dumps(document))
    raw = coco.read(root)
    assert raw.declared == ("cat", "zebra", "ant")
    assert raw.beyond == {"segmentation": 1, "license": 1}


@pytest.mark.parametrize("name", ["../../etc/x", "/etc/passwd", "..\\..\\x.png"])
def test_image_path_may_not_leave_the_root(root, name):
    edit(root, "images", 0, file_name=name)
    assert kinds(coco.read(root)) == [Kind.ESCAPING_PATH, Kind.NO_ANNOTATION]


@pytest.mark.parametrize("name", ["gone.png", "x" * 5000, "a\0.png", "\ud800.png"])
def test_missing_image_is_reported_once_for_all_its_boxes(root, name):
    edit(root, "images", 0, file_name=name)
    raw = coco.read(root)
    assert kinds(raw) == [Kind.MISSING_IMAGE, Kind.NO_ANNOTATION]
    raw.repairs[0].where.encode()


@pytest.mark.parametrize("text", ["", "{", "[]", '{"images": {}}', "[" * 100_000, '{"annotations": "\xff"}'])
def test_unreadable_file_is_reported_and_the_others_are_read(root, text):
    (root / TRAIN).write_text(text, encoding="latin-1")
    raw = coco.read(root)
    assert (kinds(raw), len(raw.images)) == ([Kind.UNREADABLE_FILE, Kind.NO_ANNOTATION], 2)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-1, 3) | st.floats() | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=2),
    max_leaves=6,
)
ENTRY = st.fixed_dictionaries(
    {},
    optional=dict.fromkeys(("id", "image_id", "category_id", "name", "bbox", "iscrowd", "width", "height"), JSON)
    | {"file_name": JSON | st.just("0.png")},
)


@settings(deadline=None, max_examples=30)
@given(document=st.fixed_dictionaries({key: st.lists(ENTRY | JSON, max_size=3) | JSON for key in coco._KEYS}))
def test_no_json_crashes_it(save, document):
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        save(root / "images" / "0.png")
        (root / "annotations.json").write_text(json.dumps(document))
        with pytest.raises(InputError):
            read(root, 0)


@settings(deadline=None, max_examples=30)
@given(numbers=st.tuples(*[st.floats() | st.integers()] * 4))
def test_no_numbers_crash_it(writers, picture, numbers):
    with tempfile.TemporaryDirectory() as folder:
        root = writers["COCO"](Path(folder) / "coco", {f"{i}": picture([BOX], "train") for i in range(4)})
        edit(root, "annotations", 0, bbox=numbers)
        for example in read(root, 0).examples:
            for x1, y1, x2, y2 in example.boxes:
                assert 0 <= x1 < x2 <= 64
                assert 0 <= y1 < y2 <= 32
