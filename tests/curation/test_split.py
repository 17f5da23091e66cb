"""Tests of the command split."""

import argparse
import io
import json
import re
import shutil
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from platform import dataset
from platform.curation import split
from platform.data import sheets
from platform.data.detection import csv_boxes
from platform.data.detection import dataset as detection
from platform.data.detection.annotations import RawBox, RawImage
from platform.data.splits import SPLITS
from platform.errors import InputError

BOX = (8, 2, 24, 18)


def noise(path: Path, seed: int, side: int = 64) -> Path:
    """Return a unique image of large patches, which looks the same at any size."""
    path.parent.mkdir(parents=True, exist_ok=True)
    patches = np.random.default_rng(seed).integers(0, 256, (6, 6, 3), np.uint8)
    Image.fromarray(patches).resize((side, side), Image.Resampling.BICUBIC).save(path)
    return path


def written(root: Path, classes: dict[str, list[str]], table: str = "cleaned.csv", splits: str | None = None) -> Path:
    """Create a data set of {path: classes of its boxes}, each image with its own noise."""
    images = []
    for number, (path, names) in enumerate(classes.items()):
        noise(root / path, number)
        boxes = tuple(RawBox((*BOX[:3], BOX[3] + n), name, "") for n, name in enumerate(names))
        images.append(RawImage(root / path, boxes, splits, ""))
    csv_boxes.write(root / table, root, images)
    return root


def cleaned(root: Path, classes: dict[str, list[str]], near: list[set[str]] = ()) -> Path:
    """Create the same data set as cleaning leaves it."""
    written(root, classes)
    (root / "cleaning").mkdir()
    rows = [{"image": path, "group": number, "distance": 0.1} for number, group in enumerate(near) for path in group]
    sheets.write(root / "cleaning" / "near_duplicates.csv", ["image", "group", "distance"], rows)
    return root


def run(root: Path, shares=(0.7, 0.15, 0.15), seed=0, min_per_class=1, rare="other") -> str:
    """Split a data set; return the output."""
    said = io.StringIO()
    options = argparse.Namespace(dir=root, shares=list(shares), seed=seed, min_per_class=min_per_class, rare=rare)
    assert split.run(options, Console(file=said, width=10_000)) == 0
    return said.getvalue()


def of(root: Path) -> dict[str, str]:
    """Return the split of each image."""
    return {row["image"]: row["split"] for row in sheets.read(root / "split.csv")[1]}


def classes_of(root: Path) -> dict[str, list[str]]:
    found = defaultdict(list)
    for row in sheets.read(root / "split.csv")[1]:
        found[row["image"]] += [row["label"]] if row["label"] else []
    return found


MANY = {f"images/{n:02}.png": [f"class{n % 4}", *(["class0"] if n % 3 == 0 else [])] for n in range(40)} | {
    f"images/nothing{n}.png": [] for n in range(8)
}


def test_shares_are_kept_and_every_class_is_everywhere(tmp_path):
    root = cleaned(tmp_path, MANY)
    said = run(root, shares=(0.5, 0.25, 0.25))
    splits = of(root)
    assert [sum(each == name for each in splits.values()) for name in SPLITS] == pytest.approx([24, 12, 12], abs=1)
    for name in SPLITS:
        shown = {label for path, labels in classes_of(root).items() if splits[path] == name for label in labels}
        assert shown == {"class0", "class1", "class2", "class3"}
        assert sum(path.startswith("images/nothing") for path, each in splits.items() if each == name) >= 2
    assert said.startswith("cleaned.csv → split.csv: seed 0\ntrain: images 24, boxes ")
    assert "; of background 4\n" in said
    assert "note" not in said
    assert f"Next: python -m platform.dataset report {root}\n" in said


def test_the_detector_opens_the_result_as_it_is(tmp_path):
    root = cleaned(tmp_path, MANY)
    run(root)
    dataset = detection.read(root, 7)
    assert {path.path.relative_to(root).as_posix(): path.split for path in dataset.examples} == of(root)
    assert (dataset.splits_given, dataset.found.repairs, dataset.found.warnings) == (True, (), ())
    assert (
        json.loads((root / "split.json").read_text())["splits"]["train"]["images_per_class"]
        == (dataset.summary()["splits"]["train"]["images_per_class"])
    )


def test_the_same_seed_gives_the_same_split_in_any_order_and_again(tmp_path):
    first, second = cleaned(tmp_path / "a", MANY), tmp_path / "b"
    run(first, seed=3)
    shutil.copytree(first, second)
    table = (second / "cleaned.csv").read_text().splitlines()
    (second / "cleaned.csv").write_text("\n".join([table[0], *reversed(table[1:])]) + "\n")
    run(second, seed=3)
    assert of(second) == of(first)
    before = (first / "split.csv").read_bytes(), (first / "split.json").read_bytes()
    run(first, seed=4)
    assert of(first) != of(second)
    run(first, seed=3)
    assert ((first / "split.csv").read_bytes(), (first / "split.json").read_bytes()) == before


@pytest.mark.parametrize("seed", range(4))
def test_near_duplicates_that_cleaning_found_are_in_one_split(tmp_path, seed):
    near = [{f"images/{n:02}.png" for n in group} for group in ((0, 1, 2, 3), (4, 9), (7, 30, 31))]
    root = cleaned(tmp_path, MANY, near)
    said = run(root, seed=seed)
    splits = of(root)
    assert all(len({splits[path] for path in group}) == 1 for group in near)
    assert "near duplicates: images 9, groups 3, each group in one split" in said


def test_equal_pixels_are_in_one_split_whatever_cleaning_says_and_similar_ones_without_cleaning(tmp_path):
    root = cleaned(tmp_path / "cleaned", MANY)
    copies = ["images/03.png", "images/17.png", "images/22.png"]
    for path in copies[1:]:
        shutil.copy(root / copies[0], root / path)
    for seed in range(3):
        run(root, seed=seed)
        assert len({of(root)[path] for path in copies}) == 1
    root = written(tmp_path / "raw", MANY, "annotations.csv")
    for number, path in enumerate(copies[1:]):
        noise(root / path, 3, side=50 + 30 * number)  # as the first, smaller and larger
    for seed in range(3):
        said = run(root, seed=seed)
        assert len({of(root)[path] for path in copies}) == 1
    assert said.startswith("annotations.csv → split.csv")


def test_a_copy_does_not_make_a_class_frequent(tmp_path):
    root = cleaned(tmp_path, MANY | {f"x{n}.png": ["rare"] for n in range(3)}, [{"x0.png", "x1.png", "x2.png"}])
    said = run(root, min_per_class=2)
    assert "in fewer than 2 pictures: classes 1, boxes 3, other now: rare 1\n" in said


RARE = MANY | {"r0.png": ["ant", "class1"], "r1.png": ["ant"], "r2.png": ["bee"], "r3.png": ["bee"], "r4.png": ["cow"]}


def test_rare_classes_are_merged_into_other(tmp_path):
    root = cleaned(tmp_path, RARE)
    said = run(root, min_per_class=3)
    labels = classes_of(root)
    assert [labels[f"r{n}.png"] for n in range(5)] == [["other", "class1"], *[["other"]] * 4]
    assert "in fewer than 3 pictures: classes 3, boxes 5, other now: ant 2, bee 2, cow 1\n" in said
    rare = json.loads((root / "split.json").read_text())["rare"]
    assert (rare["became"], rare["pictures"]) == ("other", {"ant": 2, "bee": 2, "cow": 1})
    assert "note" not in said  # other is in five pictures, and in each split


def test_a_class_that_is_called_other_already_is_the_same_class_and_reported(tmp_path):
    root = cleaned(tmp_path, RARE | {"o.png": ["other"]})
    said = run(root, min_per_class=3)
    assert classes_of(root)["o.png"] == ["other"]
    assert "the existing class other (pictures: 1) now also contains the rare classes" in said
    said = run(root, min_per_class=9)
    assert "the class other itself is rare (pictures: 6)" in said


def test_rare_classes_are_dropped_and_images_of_nothing_else_are_set_aside(tmp_path):
    root = cleaned(tmp_path, RARE)
    said = run(root, min_per_class=3, rare="drop")
    labels = classes_of(root)
    assert labels["r0.png"] == ["class1"]
    assert [path for path in labels if path.startswith("r")] == ["r0.png"]
    assert sum(path.startswith("images/nothing") for path in labels) == 8
    assert (
        "classes 3, boxes 5, dropped now: ant 2, bee 2, cow 1\nset aside: images 4, which show nothing else\n" in said
    )
    rare = json.loads((root / "split.json").read_text())["rare"]
    assert rare["images_set_aside"] == ["r1.png", "r2.png", "r3.png", "r4.png"]


def test_classes_too_rare_for_every_split_are_in_training_and_counted(tmp_path):
    root = cleaned(tmp_path, RARE)
    said = run(root)
    splits, labels = of(root), classes_of(root)
    for name in ("ant", "bee", "cow"):
        assert "train" in {splits[path] for path, names in labels.items() if name in names}
    lines = [line for line in said.splitlines() if re.search("classes (has|have) no image in ", line)]
    assert lines
    assert all(" of 7 classes " in line for line in lines)
    detection.read(root, 0)


def test_splits_that_the_data_gives_are_made_anew_and_reported(tmp_path):
    root = written(tmp_path, MANY, "annotations.csv", splits="train")
    before = (root / "annotations.csv").read_bytes()
    assert "the given splits (images: train 48) are replaced" in run(root)
    assert set(of(root).values()) == set(SPLITS)
    assert (root / "annotations.csv").read_bytes() == before
    run(root, seed=1)  # from the annotations again, not from the split
    assert json.loads((root / "split.json").read_text())["from"] == "annotations.csv"


def test_what_cannot_be_used_does_not_make_a_class_trainable(tmp_path):
    """Check that unusable boxes do not count; a class without a usable training box would stop the detector."""
    root = cleaned(tmp_path, MANY)
    with (root / "cleaned.csv").open("a") as stream:
        stream.write("".join(f"images/{n:02}.png,thin,5,5,5,9,\n" for n in range(20)))
        stream.write("images/39.png,thin,1,1,9,9,\nbroken.png,cat,1,1,9,9,\nimages/none.png,cat,1,1,9,9,\n")
    (root / "broken.png").write_text("no picture")
    said = run(root)
    assert of(root)["images/39.png"] == "train"
    assert "broken image: 1: broken.png" in said
    assert "annotation of a missing image: 1: cleaned.csv row" in said
    assert "broken.png" not in of(root)
    assert "thin" in detection.read(root, 0).classes


def test_an_image_that_several_annotations_name_keeps_each_box_once(tmp_path):
    root = written(tmp_path, MANY, "annotations.csv", splits="train")
    with (root / "annotations.csv").open("a") as stream:
        stream.write("images/01.png,class1,8,2,24,18,val\nimages/01.png,new,1,1,9,9,val\n")
        stream.write("images/02.png,class2,8,2,24,18,train\n")
    run(root)
    assert sorted(classes_of(root)["images/01.png"]) == ["class1", "new"]
    assert classes_of(root)["images/02.png"] == ["class2", "class2"]  # equal boxes of one split are cleaning's


def test_all_faults_of_the_options_are_reported_at_once(tmp_path, capsys):
    arguments = ["--shares", "0.7", "0", "nan", "--seed", "-1", "--min-per-class", "0"]
    assert dataset.main(["split", str(tmp_path / "none"), *arguments]) == 2
    output = capsys.readouterr().err
    for part in ("0.7 0.0 nan", "--seed must lie in 0..4294967295; found -1", "--min-per-class must", "none. Check"):
        assert part in output


def test_too_little_to_split_is_refused_and_nothing_is_written(tmp_path):
    two = cleaned(tmp_path / "two", {"a.png": ["cat"], "b.png": ["cat"], **{f"{n}.png": [] for n in range(30)}})
    with pytest.raises(InputError, match=r"a picture with a usable box for each .* found 2 that"):
        run(two)
    with pytest.raises(InputError, match=r"in 41 pictures.* found 20 of class0.* Give --min-per-class 20 or less"):
        run(cleaned(tmp_path / "many", MANY), min_per_class=41)
    with pytest.raises(InputError, match="must have a usable box"):
        run(cleaned(tmp_path / "nothing", {"a.png": []}))
    assert not list(tmp_path.rglob("split.*"))


def test_a_table_of_near_duplicates_that_cannot_be_read_is_refused(tmp_path):
    root = cleaned(tmp_path, MANY)
    (root / "cleaning" / "near_duplicates.csv").write_text("image,group\nimages/01.png,one\n")
    with pytest.raises(InputError, match=r"near_duplicates.csv must be readable and unchanged; .*'one'"):
        run(root)


def test_what_cannot_be_written_is_reported_and_leaves_nothing_behind(tmp_path):
    root = cleaned(tmp_path, MANY)
    (root / "split.csv" / "in the way").mkdir(parents=True)
    said = io.StringIO()
    options = argparse.Namespace(dir=root, shares=[1, 1, 1], seed=1, min_per_class=1, rare="other")
    assert split.run(options, Console(file=said, width=10_000)) == 1
    assert said.getvalue().startswith("Not split: Is a directory: ")
    assert sorted(path.name for path in root.iterdir()) == ["cleaned.csv", "cleaning", "images", "split.csv"]
