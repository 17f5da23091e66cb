"""Tests of the command convert between all four layouts."""

import argparse
import errno
import io
import itertools
import json
import os
import shutil
import tempfile
from pathlib import Path

import pytest
import yaml
from faster_coco_eval import COCO
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from rich.console import Console

from platform import dataset
from platform.curation import convert
from platform.data.detection import csv_boxes, layouts
from platform.data.detection import dataset as detection
from platform.data.detection.annotations import RawBox, RawImage
from platform.errors import InputError

LAYOUTS = ("coco", "voc", "yolo", "csv")
TOLERANCE = {"yolo": 0.01, "coco": 1e-9}  # pixels; COCO has sides in place of corners, and floats cannot always
SIZES = ((64, 32), (17, 40), (1, 1))


def converted(source: Path, out: Path, to: str) -> str:
    """Convert a data set; return the output."""
    said = io.StringIO()
    options = argparse.Namespace(dir=source, out=out, to=to)
    assert convert.run(options, Console(file=said, width=10_000)) == 0
    return said.getvalue()


def picture(path: Path, number: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", SIZES[number % len(SIZES)], (number, 90, 200)).save(path, "PNG")
    return path


def written(root: Path, images: dict[tuple[str, str | None], list]) -> Path:
    """Create a CSV data set of {(path, split): [(class, x1, y1, x2, y2)]}."""
    root.mkdir()
    for number, path in enumerate(dict.fromkeys(path for path, _ in images)):
        picture(root / path, number)
    raw = [
        RawImage(root / path, tuple(RawBox(tuple(box), name, "") for name, *box in boxes), split, "")
        for (path, split), boxes in images.items()
    ]
    csv_boxes.write(root / "annotations.csv", root, raw)
    return root


def content(root: Path) -> list:
    """Return the bytes, split and boxes of each image of a folder."""
    raw = layouts.read(root).raw
    assert raw.repairs == ()
    held = [(i.path.read_bytes(), i.split or "", [(box.name, *box.box) for box in i.boxes]) for i in raw.images]
    return sorted(held)


def close(one: list, other: list, within: float) -> bool:
    """Return whether two contents are equal up to a tolerance of edges in pixels."""
    flat = [[edge for *_, boxes in held for _, *box in boxes for edge in box] for held in (one, other)]
    names = [[(*image, [name for name, *_ in boxes]) for *image, boxes in held] for held in (one, other)]
    return names[0] == names[1] and flat[0] == pytest.approx(flat[1], abs=within, rel=0)


# What XML, YAML, JSON, CSV and spreadsheets each have ideas about; readers strip blanks.
names = (
    (
        st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs", "Cn"]), min_size=1, max_size=6)
        | st.text(st.sampled_from("<>&\"',;:#-{}[]=+@|\\ \t\r\n\x85\u2028\xa0😀x"), min_size=1, max_size=5)
        | st.sampled_from(
            ["no", "null", "~", "1e3", "0x1", "2024-01-01", "-5", "=1+1", "'=x", "a, b", "]]>", "&amp;", "*a"]
        )
    )
    .map(str.strip)
    .filter(bool)
)
ANY = st.floats(-1e8, 1e8) | st.integers(-200, 200)


@st.composite
def within(draw):
    """Return a box with ordered corners and no negative coordinates."""
    (x1, x2), (y1, y2) = (sorted(draw(st.tuples(*[st.floats(0, 5000)] * 2))) for _ in range(2))
    return draw(names), x1, y1, x2, y2


paths = st.sampled_from(
    ["a.png", "x/a.png", "x/y/a.png", "train/a.png", "images/a.png", "labels/b c.PNG", "x/b.jpg.png"]
)
splits = st.sampled_from(["train", "val", "test"])
anywhere = st.tuples(names, ANY, ANY, ANY, ANY)


def of(boxes):
    """Generate data sets with and without splits, shared images, background images and equal stems."""
    images = st.lists(boxes, max_size=3)
    return st.dictionaries(st.tuples(paths, splits), images, min_size=1, max_size=5) | st.dictionaries(
        st.tuples(paths, st.none()), images, min_size=1, max_size=5
    )


properties = settings(deadline=None, max_examples=12, suppress_health_check=[HealthCheck.too_slow])


@pytest.mark.parametrize(("one", "other"), [*itertools.product(LAYOUTS, LAYOUTS)])
@properties
@given(images=of(within()))
def test_there_and_back_all_is_the_same(one, other, images):
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        original = content(written(root / "given", images))
        converted(root / "given", root / "one", one)
        converted(root / "one", root / "other", other)
        converted(root / "other", root / "back", one)
        within = max(TOLERANCE.get(one, 0), TOLERANCE.get(other, 0))
        for made in ("one", "other", "back"):
            assert close(content(root / made), original, within)


@pytest.mark.parametrize(("one", "other"), [*itertools.combinations(LAYOUTS, 2)])
@properties
@given(images=of(anywhere))
def test_inverted_boxes_and_boxes_anywhere_stay_where_they_are(one, other, images):
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        original = content(written(root / "given", images))
        converted(root / "given", root / "one", one)
        converted(root / "one", root / "other", other)
        assert close(content(root / "other"), original, 0.01)


@pytest.fixture
def root(tmp_path):
    cat, dog = ("cat", 1, 2, 30, 20), ("dog", 3.5, 4, 20, 30)
    images = {("a.png", "train"): [cat, dog], ("x/b.png", "val"): [cat], ("c.png", "test"): [], ("c.png", "val"): []}
    return written(tmp_path / "given", images)


def test_the_fingerprint_is_the_same_in_all_layouts(tmp_path):
    boxes = [("cat", 8.25, 2, 24, 18), ("dog", 32, 8, 48, 24.5)]
    before = written(
        tmp_path / "given", {(f"{n}/p{n}.png", ("train", "val", "test")[n % 3]): boxes for n in range(0, 27, 3)}
    )
    fingerprints = {detection.read(before, 0).fingerprint}
    for to in ("yolo", "voc", "csv", "coco"):
        converted(before, tmp_path / to, to)
        before = tmp_path / to
        fingerprints.add(detection.read(before, 0).fingerprint)
    assert len(fingerprints) == 1


def test_coco_is_read_by_its_own_api(root, tmp_path):
    converted(root, tmp_path / "out", "coco")
    api = COCO(str(tmp_path / "out" / "annotations" / "instances_train.json"))
    (image,) = api.loadImgs(api.getImgIds())
    assert (image["file_name"], image["width"], image["height"]) == ("a.png", 64, 32)
    assert {entry["name"] for entry in api.loadCats(api.getCatIds())} == {"cat", "dog"}
    cat, dog = api.loadAnns(api.getAnnIds(imgIds=[image["id"]]))
    assert (cat["bbox"], cat["area"], dog["bbox"]) == ([1, 2, 29, 18], 522, [3.5, 4, 16.5, 26])
    assert min(cat["id"], dog["id"]) == 1  # 0 is "no match" to it
    assert (tmp_path / "out" / "train" / "a.png").is_file()


def test_yolo_is_as_its_trainers_want_it(root, tmp_path):
    out = tmp_path / "out"
    converted(root, out, "yolo")
    content = yaml.safe_load((out / "data.yaml").read_text())
    assert content == {
        "train": "images/train",
        "val": "images/val",
        "test": "images/test",
        "names": {0: "cat", 1: "dog"},
    }
    assert [line.split()[0] for line in (out / "labels" / "train" / "a.txt").read_text().splitlines()] == ["0", "1"]
    assert (out / "labels" / "val" / "c.txt").read_text() == ""
    for image in (out / "images").rglob("*.png"):
        assert (out / "labels" / image.relative_to(out / "images")).with_suffix(".txt").is_file()


def test_voc_is_as_labelimg_writes_it(root, tmp_path):
    out = tmp_path / "out"
    said = converted(root, out, "voc")
    text = (out / "Annotations" / "a.xml").read_text()
    assert "\t\t<width>64</width>\n\t\t<height>32</height>\n\t\t<depth>3</depth>\n" in text
    assert "\t\t\t<xmin>1</xmin>\n\t\t\t<ymin>2</ymin>\n\t\t\t<xmax>30</xmax>\n\t\t\t<ymax>20</ymax>\n" in text
    assert "<xmin>3.5</xmin>" in text
    assert "boxes with fractions of pixels, which some tools for Pascal VOC cannot read: 1" in said
    lists = {file.name: file.read_text().split() for file in (out / "ImageSets" / "Main").iterdir()}
    assert lists == {"train.txt": ["a"], "val.txt": ["b", "c_2"], "test.txt": ["c"]}
    assert "images in several splits, copied once for each: 1" in said
    assert "images with new names: 1, 'c.png' is 'c_2.png'" in said


def test_the_step_that_counts_is_converted_and_named(tmp_path):
    root = written(tmp_path / "data", {("images/ab/abcd.jpg", "train"): [("cat", 1, 2, 3, 4)]})
    (root / "annotations.csv").rename(root / "split.csv")
    (root / "fetched.csv").write_text("image,label,x1,y1,x2,y2,split,url\nimages/ab/abcd.jpg,raw,1,2,3,4,,http://x\n")
    said = converted(root, tmp_path / "out", "coco")
    assert said.startswith("CSV (split.csv) → COCO: images 1 (train 1), boxes 1, classes 1\n")
    assert (tmp_path / "out" / "train" / "abcd.jpg").is_file()


def test_declared_classes_keep_their_order_and_what_has_no_place_is_reported(root, tmp_path):
    converted(root, tmp_path / "coco", "coco")
    for file in (tmp_path / "coco" / "annotations").iterdir():
        document = json.loads(file.read_text())
        document["categories"] = [{"id": 9, "name": "zebra"}, *reversed(document["categories"])]
        for entry in document["annotations"]:
            entry["segmentation"] = [[1, 2, 3, 4, 5, 6]]
        document["annotations"] += [entry | {"iscrowd": 1} for entry in document["annotations"][:1]]
        document["images"][0]["width"] = 640
        file.write_text(json.dumps(document))
    said = converted(tmp_path / "coco", tmp_path / "yolo", "yolo")
    assert list(yaml.safe_load((tmp_path / "yolo" / "data.yaml").read_text())["names"].values()) == [
        "zebra",
        "dog",
        "cat",
    ]
    assert layouts.read(tmp_path / "yolo").raw.declared == ("zebra", "dog", "cat")
    assert "crowd box: 2: annotations/instances_train.json annotations[2] (left out)" in said
    assert "ignored, and not in YOLO: segmentation 3" in said
    assert "images of another size than annotated, which YOLO has no place for: 3" in said
    said = converted(tmp_path / "coco", tmp_path / "voc", "voc")
    assert "Pascal VOC has no list of classes: their order is not kept, nor those without a box: zebra" in said
    assert "another size" not in said
    assert 640 in {image.size[0] for image in layouts.read(tmp_path / "voc").raw.images}


def test_what_yolo_cannot_hold_or_its_tools_refuse_is_reported(tmp_path):
    images = {
        ("a.png", "train"): [("cat", 5, 5, 1, 1), ("cat", -3, 0, 9, 9), ("cat", 0, 0, 64, 32)],
        ("b.png", None): [("dog", 0, 0, 1, 1)],
    }
    said = converted(written(tmp_path / "given", images), tmp_path / "out", "yolo")
    assert "image in no split: 1: b.png (left out)" in said
    assert "inverted or reach out of their image: 2." in said
    assert "there is no val split, which YOLO's own tools require" in said
    assert len(content(tmp_path / "out")) == 1
    converted(tmp_path / "given", tmp_path / "coco", "coco")
    assert content(tmp_path / "coco") == content(tmp_path / "given")


def test_boxes_of_no_numbers_and_broken_images_are_left_out_and_reported(root, tmp_path):
    with (root / "annotations.csv").open("a") as stream:
        stream.write("a.png,cat,nan,1,2,3,train\na.png,cat,1,2,1e10,4,train\nbroken.png,cat,1,2,3,4,train\n")
    (root / "broken.png").write_text("no picture")
    said = converted(root, tmp_path / "out", "coco")
    assert (
        "box with numbers that are not finite: 2: annotations.csv row 7 (left out), annotations.csv row 8 (left out)"
        in said
    )
    assert "broken image: 1: broken.png" in said
    assert len(content(tmp_path / "out")) == 4


def test_class_names_that_xml_cannot_hold_are_refused_and_nothing_is_written(tmp_path):
    root = written(tmp_path / "given", {("a.png", None): [("a\x01b", 1, 2, 3, 4), ("fine", 1, 2, 3, 4)]})
    with pytest.raises(InputError, match=r"XML allows; found 'a\\x01b'\. Rename"):
        converted(root, tmp_path / "out", "voc")
    assert sorted(os.listdir(tmp_path)) == ["given"]  # noqa: PTH208
    for to in ("coco", "yolo", "csv"):
        converted(root, tmp_path / to, to)
        assert close(content(tmp_path / to), content(root), 0.01)


def test_b_must_be_new_or_empty_and_outside_a(root, tmp_path, capsys):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "x").write_text("mine")
    for out, message in (
        (root, "B must lie outside A"),
        (root / "deep" / "out", "B must lie outside A"),
        (tmp_path / "full", "full with x"),
        (tmp_path, "with "),
        (tmp_path / "full" / "x", "the file"),
        (tmp_path / "full" / "x" / "y", "the file"),
    ):
        before = sorted(tmp_path.rglob("*"))
        assert dataset.main(["convert", str(root), str(out), "--to", "coco"]) == 2
        assert message in capsys.readouterr().err
        assert sorted(tmp_path.rglob("*")) == before
    (tmp_path / "empty").mkdir()
    for out in ("empty", "new/below"):
        assert dataset.main(["convert", str(root), str(tmp_path / out), "--to", "yolo"]) == 0
        assert len(content(tmp_path / out)) == 4


def test_a_folder_of_no_images_is_refused_with_what_was_found(tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "annotations.csv").write_text("image,label,x1,y1,x2,y2\ngone.png,cat,1,2,3,4\n")
    with pytest.raises(InputError, match=r"an image to convert; .*1 x annotation of a missing image"):
        converted(tmp_path / "data", tmp_path / "out", "coco")
    with pytest.raises(InputError, match=r"B must lie outside A[\s\S]*|A must be a folder"):
        converted(tmp_path / "none", tmp_path / "none" / "out", "coco")


@pytest.mark.parametrize("fails", ["copyfile", "chmod"])
def test_a_full_disk_leaves_nothing_behind_and_is_reported(root, tmp_path, monkeypatch, fails):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device", "some file")

    monkeypatch.setattr(*{"copyfile": (shutil, "copyfile", full), "chmod": (Path, "chmod", full)}[fails])
    said = io.StringIO()
    options = argparse.Namespace(dir=root, out=tmp_path / "out", to="voc")
    assert convert.run(options, Console(file=said, width=10_000)) == 1
    assert said.getvalue() == "Nothing is written: No space left on device: some file.\n"
    assert [path.name for path in tmp_path.iterdir()] == ["given"]
