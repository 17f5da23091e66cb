import json
import shutil

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from platform.data.detection import dataset as detection
from platform.data.detection.annotations import Kind, RawBox
from platform.data.detection.boxes import repair_boxes
from platform.data.findings import Findings
from platform.errors import InputError

CAT, DOG = ("cat", 8, 2, 24, 18), ("dog", 32, 8, 48, 24)
LAYOUTS = ("Pascal VOC", "COCO", "YOLO", "CSV")


def repaired(*boxes):
    repairs = []
    kept = repair_boxes([RawBox(box, "cat", f"box {i}") for i, box in enumerate(boxes)], 64, 32, repairs)
    return [box.box for box in kept], [(repair.kind, repair.action) for repair in repairs]


def splits(dataset):
    return {example.path.stem: example.split for example in dataset.examples}


@pytest.fixture
def many(picture):
    """Twelve pictures without splits: four of cats, four of dogs, two of both, two of nothing."""
    contents = [[CAT]] * 4 + [[DOG]] * 4 + [[CAT, DOG]] * 2 + [[]] * 2
    return {f"p{number:02}": picture(boxes) for number, boxes in enumerate(contents)}


def test_all_layouts_of_the_same_content_read_the_same(tmp_path, writers, many):
    for number, picture in enumerate(many.values()):
        picture.split = ("train", "val", "test")[number % 3]
    read = [detection.read(writers[layout](tmp_path / layout, many), 0) for layout in LAYOUTS]
    assert [dataset.layout for dataset in read] == list(LAYOUTS)
    contents = [
        {(e.path.name, e.width, e.height, e.boxes, e.labels, e.split, e.pixels) for e in dataset.examples}
        for dataset in read
    ]
    assert contents[0] == contents[1] == contents[2] == contents[3]
    assert len(contents[0]) == 12
    assert {(dataset.classes, dataset.found, dataset.splits_given) for dataset in read} == {
        (("cat", "dog"), Findings(), True)
    }
    assert len({dataset.fingerprint for dataset in read}) == 1


@pytest.mark.parametrize("layout", LAYOUTS)
def test_own_split_covers_every_class_is_seeded_and_reported(tmp_path, writers, many, layout):
    root = writers[layout](tmp_path / "data", many)
    dataset = detection.read(root, 5)
    assert not dataset.splits_given
    assert splits(detection.read(root, 5)) == splits(dataset)
    assert len({tuple(splits(detection.read(root, seed)).values()) for seed in range(5)}) > 1
    summary = dataset.summary()
    assert all(counts["images_per_class"][name] for counts in summary["splits"].values() for name in ("cat", "dog"))
    assert sum(counts["boxes"] for counts in summary["splits"].values()) == 12
    assert sum(counts["background_images"] for counts in summary["splits"].values()) == 2
    json.dumps(summary)


def test_fingerprint_follows_the_content_not_the_place(tmp_path, writers, many, picture):
    original = detection.read(writers["YOLO"](tmp_path / "one", many), 0)
    assert detection.read(shutil.copytree(tmp_path / "one", tmp_path / "two"), 0).fingerprint == original.fingerprint
    assert detection.read(tmp_path / "one", 1).fingerprint != original.fingerprint
    for number, change in enumerate((picture([("cat", 8, 2, 24, 19)]), picture([DOG]), picture([CAT], seed=99))):
        changed = detection.read(writers["YOLO"](tmp_path / f"changed{number}", many | {"p00": change}), 0)
        assert changed.fingerprint != original.fingerprint


@pytest.mark.parametrize(
    ("box", "kept", "repair"),
    [
        ((1, 2, 3, 4), [(1, 2, 3, 4)], []),
        ((5, 5, 5, 9), [], [(Kind.NO_AREA, "left out")]),
        ((float("nan"), 0, 1, 1), [], [(Kind.NOT_FINITE, "left out")]),
        ((0, 0, float("inf"), 1), [], [(Kind.NOT_FINITE, "left out")]),
        ((70, 0, 80, 5), [], [(Kind.OUTSIDE, "left out")]),
        ((-9, 0, 0, 5), [], [(Kind.OUTSIDE, "left out")]),
        ((60, 30, 70, 40), [(60, 30, 64, 32)], [(Kind.PARTLY_OUTSIDE, "clipped")]),
        ((3, 4, 1, 2), [(1, 2, 3, 4)], [(Kind.INVERTED, "corners swapped")]),
        ((-0.1, 0, 64.2, 32), [(0, 0, 64, 32)], []),
    ],
)
def test_boxes_are_repaired_or_left_out_and_reported(box, kept, repair):
    assert repaired(box) == (kept, repair)


def test_duplicates_are_equal_after_mending():
    kept, repairs = repaired((1, 2, 3, 4), (3, 4, 1.0000001, 2), (1, 2, 3, 5))
    assert kept == [(1, 2, 3, 4), (1, 2, 3, 5)]
    assert [kind for kind, _ in repairs] == [Kind.INVERTED, Kind.DUPLICATE]


@given(st.lists(st.tuples(*[st.floats() | st.floats(-80, 80)] * 4), max_size=4))
def test_mended_boxes_lie_within_the_image_and_are_stable(boxes):
    kept, repairs = repaired(*boxes)
    assert all(0 <= x1 < x2 <= 64 and 0 <= y1 < y2 <= 32 for x1, y1, x2, y2 in kept)
    assert len(kept) + sum(action == "left out" for _, action in repairs) == len(boxes)
    assert repaired(*kept) == (kept, [])


def test_broken_images_are_left_out_and_reported(tmp_path, writers, many):
    root = writers["COCO"](tmp_path / "data", many)
    whole = (root / "images" / "p10.png").read_bytes()
    (root / "images" / "p10.png").write_bytes(whole[:200])
    (root / "images" / "p11.png").write_text("no picture")
    dataset = detection.read(root, 0)
    assert [repair.kind for repair in dataset.found.repairs] == [Kind.BROKEN_IMAGE] * 2
    assert len(dataset.examples) == 10
    assert dataset.summary()["repairs"] == {"broken image": 2}


def test_boxes_drawn_on_another_size_are_reported(tmp_path, writers, many):
    root = writers["Pascal VOC"](tmp_path / "data", many)
    Image.new("RGB", (128, 64)).save(root / "JPEGImages" / "p00.png")
    (repair,) = detection.read(root, 0).found.repairs
    assert (repair.kind, repair.action) == (Kind.OTHER_SIZE, "boxes kept")
    assert "64 x 32, the image has 128 x 64" in repair.where


def test_equal_images_stay_together_when_we_split_and_are_reported_in_given_splits(tmp_path, writers, many, picture):
    twins = many | {f"twin{number}": picture([CAT], seed=0) for number in range(4)}
    for seed in range(4):
        dataset = detection.read(writers["YOLO"](tmp_path / f"own{seed}", twins), seed)
        assert len({e.split for e in dataset.examples if e.path.stem.startswith("twin") or e.path.stem == "p00"}) == 1
        assert dataset.found.leaks == ()
    given_splits = {"a": picture([CAT], "train", 1), "b": picture([CAT], "val", 1), "c": picture([CAT], "test", 2)}
    dataset = detection.read(writers["YOLO"](tmp_path / "given", given_splits), 0)
    assert dataset.summary()["leaks"] == [["train: images/train/a.png", "val: images/val/b.png"]]


@pytest.mark.parametrize(
    ("given_splits", "expected"),
    [
        (("train",), "the data has no val and no test split: they were taken from training with seed 3"),
        (("train", "test"), "the data has no val split: it was taken from training with seed 3"),
        (("train", "val"), "the data has no test split: its validation split is kept for the final test"),
    ],
)
def test_missing_splits_are_made_and_reported(tmp_path, writers, many, given_splits, expected):
    for number, picture in enumerate(many.values()):
        picture.split = given_splits[number % 3 == 2 and len(given_splits) == 2]
    dataset = detection.read(writers["COCO"](tmp_path / "data", many), 3)
    assert set(splits(dataset).values()) == {"train", "val", "test"}
    assert dataset.splits_given
    (warning,) = dataset.found.warnings
    assert warning.startswith(expected)
    if len(given_splits) == 2:
        tested = {stem for stem, split in splits(dataset).items() if split == "test"}
        assert tested == {stem for stem, picture in many.items() if picture.split != "train"}


def test_a_given_test_split_of_broken_images_is_not_taken_for_a_missing_one(tmp_path, writers, many):
    for number, picture in enumerate(many.values()):
        picture.split = ("train", "val", "test")[number % 3]
    root = writers["COCO"](tmp_path / "data", many)
    for stem in (stem for stem, picture in many.items() if picture.split == "test"):
        (root / "images" / f"{stem}.png").write_text("no picture")
    with pytest.raises(InputError, match="the test split must have an image") as caught:
        detection.read(root, 0)
    assert "4 x broken image" in caught.value.faults[0].remedy


def test_image_in_no_list_is_left_out_when_there_are_lists(tmp_path, writers, picture):
    pictures = {name: picture([CAT], name) for name in ("train", "val", "test")} | {"spare": picture([CAT])}
    dataset = detection.read(writers["Pascal VOC"](tmp_path / "data", pictures), 0)
    assert [(r.kind, r.where) for r in dataset.found.repairs] == [(Kind.NO_SPLIT, "JPEGImages/spare.png")]
    assert len(dataset.examples) == 3


def test_absent_and_unused_classes_are_warned_of(tmp_path, writers, picture):
    pictures = {"a": picture([CAT, DOG], "train"), "b": picture([CAT], "val"), "c": picture([CAT, DOG], "test")}
    root = writers["YOLO"](tmp_path / "data", pictures)
    (root / "data.yaml").write_text("names: [cat, dog, emu]")
    dataset = detection.read(root, 0)
    assert dataset.found.warnings == (
        "1 of 3 classes has no box, though declared: emu",
        "1 of 2 classes has no image in val: dog",
    )
    assert dataset.classes == ("cat", "dog")


def test_second_layout_beside_the_first_is_reported(tmp_path, writers, many):
    root = writers["Pascal VOC"](tmp_path / "data", many)
    (root / "classes.txt").write_text("cat\n")
    assert detection.read(root, 0).found.warnings == (
        "the data was read as Pascal VOC; the YOLO annotations beside it are ignored",
    )


def test_folder_faults(tmp_path):
    (tmp_path / "file").write_text("x")
    (tmp_path / "empty").mkdir()
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "notes.md").write_text("x")
    for name, expected in (("none", "no "), ("file", "the file"), ("empty", "the empty folder"), ("other", "notes.md")):
        with pytest.raises(InputError, match=expected) as caught:
            detection.read(tmp_path / name, 0)
    message = str(caught.value)
    assert all(word in message for word in ("COCO", "VOC", "YOLO", "CSV", "data.yaml", "Annotations/*.xml", "x1, y1"))


def test_all_scarce_classes_are_named_with_counts(tmp_path, writers, many, picture):
    scarce = many | {"x": picture([("emu", 1, 1, 9, 9)]), "y": picture([("fox", 1, 1, 9, 9)]), "z": picture([CAT])}
    scarce["z2"] = picture([("fox", 2, 2, 9, 9)])
    with pytest.raises(InputError, match="1 of emu, 2 of fox") as caught:
        detection.read(writers["COCO"](tmp_path / "data", scarce), 0)
    assert "cat" not in caught.value.faults[0].value


def test_copies_of_one_image_do_not_make_a_class_frequent(tmp_path, writers, many, picture):
    copies = many | {f"x{number}": picture([("emu", 1, 1, 9, 9)], seed=77) for number in range(5)}
    with pytest.raises(InputError, match="1 of emu"):
        detection.read(writers["YOLO"](tmp_path / "data", copies), 0)


def test_given_training_must_show_every_class(tmp_path, writers, picture):
    pictures = {"a": picture([CAT], "train"), "b": picture([DOG], "val"), "c": picture([("emu", 1, 1, 9, 9)], "test")}
    with pytest.raises(InputError, match="none for dog, emu"):
        detection.read(writers["Pascal VOC"](tmp_path / "data", pictures), 0)


def test_given_splits_without_boxes_are_reported_together(tmp_path, writers, picture):
    pictures = {"a": picture([], "train"), "b": picture([("cat", 5, 5, 5, 5)], "val"), "c": picture([], "test")}
    with pytest.raises(InputError) as caught:
        detection.read(writers["Pascal VOC"](tmp_path / "data", pictures), 0)
    assert [fault.rule.split(" split")[0] for fault in caught.value.faults] == [
        "the training",
        "the validation",
        "the test",
    ]
    assert "1 x box without an area (first: Annotations/b.xml object 1)" in str(caught.value)


def test_a_test_split_that_nothing_can_be_measured_on_is_reported(tmp_path, writers, picture):
    pictures = {"a": picture([CAT], "train"), "b": picture([CAT], "val"), "c": picture([], "test")}
    with pytest.raises(InputError, match="the test split must have an image with a usable box"):
        detection.read(writers["YOLO"](tmp_path / "data", pictures), 0)


def test_splits_without_training_are_an_input_error(tmp_path, writers, picture):
    pictures = {"a": picture([CAT], "test"), "b": picture([CAT], "val")}
    with pytest.raises(InputError, match="training split"):
        detection.read(writers["COCO"](tmp_path / "data", pictures), 0)


def test_nothing_usable_without_splits(tmp_path, writers, picture):
    with pytest.raises(InputError, match="at least one image must have a usable box"):
        detection.read(writers["Pascal VOC"](tmp_path / "data", {"a": picture([])}), 0)
