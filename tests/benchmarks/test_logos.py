"""Tests of the messy logos that cleaning is measured on: their stated truth is correct."""

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmarks import dataset, logo_labels, logos
from platform.curation.pages import dataset_data
from platform.data import images, sheets
from platform.data.detection import csv_boxes


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("logos") / "data"
    logos.make(root, images=120, classes=20, seed=3)
    return root


def truth(root: Path) -> dict:
    return json.loads(root.with_name("data.truth.json").read_text())


def test_it_is_what_fetch_leaves(made):
    files = sorted(file for file in made.rglob("images/*/*") if file.is_file())
    columns, rows = sheets.read(made / "fetched.csv")
    assert len(files) == 120
    assert columns == list(logos.COLUMNS)
    assert {row["image"] for row in rows} == {file.relative_to(made).as_posix() for file in files}
    cut = {fault["image"] for fault in truth(made)["faults"] if fault["kind"] == "broken"}
    for file in files:
        name = hashlib.sha256(file.read_bytes()).hexdigest()[:32]
        assert (file.stem == name) is (file.relative_to(made).as_posix() not in cut)
        assert file.parent.name == file.stem[:2]
    lines = [json.loads(line) for line in (made / "manifest.jsonl").read_text().splitlines()]
    assert {line["url"] for line in lines if line["image"]} == {row["url"] for row in rows}
    assert {"dead link", "fetched"} <= {line["outcome"] for line in lines}


def test_every_label_has_its_true_class(made):
    facts = truth(made)
    _, rows = sheets.read(made / "fetched.csv")
    assert {row["label"] for row in rows} <= set(facts["classes"])
    assert set(facts["classes"].values()) == {*facts["names"], ""}
    assert len(set(facts["names"])) == 20


@dataclass
class Spoilt:
    """Fault with the files and rows of its image."""

    fault: dict
    file: Path
    other: Path
    rows: list[dict]

    @property
    def boxes(self) -> list[tuple[float, ...]]:
        return [tuple(float(row[corner]) for corner in ("x1", "y1", "x2", "y2")) for row in self.rows if row["x1"]]

    @property
    def labels(self) -> set[str]:
        return {row["label"] for row in self.rows}

    def orientation(self) -> int:
        with Image.open(self.file) as image:
            return image.getexif()[0x0112]

    def is_broken(self) -> bool:
        try:
            images.load(self.file)
        except images.ImageFault:
            return True
        return False


def pixels(file: Path) -> str:
    return images.content_hash(images.load(file))


def light(file: Path) -> float:
    return np.asarray(images.load(file)).mean()


THERE: dict[str, Callable[[Spoilt], bool]] = {
    "broken": Spoilt.is_broken,
    "too small": lambda one: max(images.size(one.file)) < 32,
    "turned": lambda one: one.orientation() == 6,
    "turned, boxes as stored": lambda one: one.orientation() == 6,
    "same file": lambda one: len({row["url"] for row in one.rows}) == 2,
    "same pixels": lambda one: pixels(one.file) == pixels(one.other),
    "recompressed": lambda one: images.size(one.file) == images.size(one.other),
    "resized": lambda one: images.size(one.file) > images.size(one.other),
    "cropped": lambda one: images.size(one.file) > images.size(one.other),
    "brighter": lambda one: light(one.other) > 1.1 * light(one.file),
    "no box": lambda one: len(one.boxes) < len(one.rows),
    "no label": lambda one: "" in one.labels,
    "says nothing": lambda one: bool(one.labels & set(logo_labels.SAYS_NOTHING)),
    "duplicate": lambda one: len(set(one.boxes)) < len(one.boxes) == one.fault["logos"] + 1,
    "two labels": lambda one: len(set(one.boxes)) < len(one.boxes),
}


def test_every_fault_is_where_it_says(made):
    _, rows = sheets.read(made / "fetched.csv")
    kinds = set()
    for fault in truth(made)["faults"]:
        mine = [row for row in rows if row["image"] == fault["image"]]
        one = Spoilt(fault, made / fault["image"], made / fault.get("other", ""), mine)
        is_there = THERE.get(fault["kind"], lambda one: tuple(one.fault["box"]) in one.boxes)
        assert is_there(one), fault
        kinds.add(fault["kind"])
    assert kinds == {*logos.COPIES, *logos.IMAGE_FAULTS, *logos.BOX_FAULTS}


def test_the_same_seed_makes_the_same(made, tmp_path):
    logos.make(tmp_path / "data", images=120, classes=20, seed=3)
    for name in ("fetched.csv", "manifest.jsonl"):
        assert (tmp_path / "data" / name).read_bytes() == (made / name).read_bytes()
    assert truth(tmp_path / "data") == truth(made)


def test_brands_are_reported_apart_and_spellings_are_not_their_names():
    rng = np.random.default_rng(0)
    names = logo_labels.brands(200, rng)
    assert len({name.casefold() for name in names}) == 200
    for name in names[:50]:
        assert name not in logo_labels.spellings(name, 8, rng)


def test_grouping_is_judged_pair_by_pair(tmp_path):
    Image.new("RGB", (9, 9)).save(tmp_path / "a.png")
    sheets.write(tmp_path / "cleaned.csv", csv_boxes.COLUMNS, [{"image": "a.png"}])
    (tmp_path / "cleaning").mkdir()
    rows = [("A", "A", ""), ("a", "A", ""), ("ä", "ä", "A"), ("B", "A", ""), ("b", "b", "A"), ("logo", "", "-")]
    columns = ("label", "class", "suggestion", "boxes")
    sheets.write(tmp_path / "cleaning" / "labels.csv", columns,
                 [dict(zip(columns, (*row, 1), strict=True)) for row in rows])  # fmt: skip
    true = {"classes": {"A": "A", "a": "A", "ä": "A", "B": "B", "b": "B", "logo": ""}, "faults": []}
    scores = dataset.labels(dataset_data.read(tmp_path), true)
    assert scores["precision"] == pytest.approx(1 / 3), "of the pairs of A, a and B one is a brand's"
    assert scores["recall"] == pytest.approx(1 / 4), "of three pairs of A's and one of B's one is a class's"
    assert scores["suggestions that are right"] == 0.5
    assert scores["boxes in their brand's class"] == 4 / 5
