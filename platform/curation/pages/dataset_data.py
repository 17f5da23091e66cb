"""What is known of a data set's folder: its images and boxes, and what fetch, clean and split say of them."""

import json
import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from platform.curation.cleaning.findings import CORNERS, Action, Finding, as_box
from platform.curation.labels import label_table
from platform.curation.steps import SPLIT_FACTS
from platform.data import images, sheets
from platform.data.arrays import in_threads
from platform.data.detection import csv_boxes, layouts
from platform.data.detection.annotations import Box, Kind, RawBox, RawDataset
from platform.data.detection.boxes import mend
from platform.data.files import absolute, is_file, place
from platform.data.findings import Repair
from platform.errors import Fault, InputError

MANIFEST, CLEANING = "manifest.jsonl", "cleaning"
LABELS, FINDINGS, NEAR, SUMMARY = (f"{CLEANING}/{name}" for name in
                                   ("labels.csv", "findings.csv", "near_duplicates.csv", "summary.json"))  # fmt: skip


@dataclass(frozen=True)
class Picture:
    """An image that can be used, with its usable boxes; width and height in pixels, upright."""

    path: Path
    width: int
    height: int
    boxes: tuple[RawBox, ...]
    split: str | None


@dataclass(frozen=True)
class Label:
    """A line of cleaning/labels.csv; `name` is the class, empty where the label's boxes were dropped."""

    label: str
    boxes: int
    name: str
    reason: str
    score: float | None
    matched: str
    suggestion: str
    suggestion_score: float | None
    decision: str


@dataclass(frozen=True)
class Dataset:
    """A folder.

    Attributes:
        root: Absolute.
        layout: "CSV", "COCO", "Pascal VOC" or "YOLO".
        table: Of the last step that was made; None for a folder that no step has written to.
        pictures: In the layout's order.
        repairs: What reading it repaired or left out.
        before: Images and boxes before cleaning; the same as now where nothing was cleaned.
        raw: Where each raw label, as cleaning/labels.csv shows it, was seen before cleaning: (image, box as written).
        outcomes: The manifest's lines.
        labels: What became of raw labels; empty where nothing was cleaned, as the following.
        findings: What else cleaning found.
        groups: Images that are nearly the same, each with its distance to the nearest other, by the group's number.
        summary: What cleaning says of itself.
        unsplit: Boxes by class before the split; None if it is not split.
        split_facts: What the split says of itself.
        warnings: Annotations that were passed over.
    """

    root: Path
    layout: str
    table: str | None
    pictures: tuple[Picture, ...]
    repairs: tuple[Repair, ...]
    before: tuple[int, int]
    raw: Mapping[str, list[tuple[Path, Box]]]
    outcomes: tuple[dict[str, Any], ...] = ()
    labels: tuple[Label, ...] = ()
    findings: tuple[Finding, ...] = ()
    groups: Mapping[str, list[tuple[str, float | None]]] = field(default_factory=dict)
    summary: Mapping[str, Any] = field(default_factory=dict)
    unsplit: Mapping[str, int] | None = None
    split_facts: Mapping[str, Any] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """The folder's name."""
        return self.root.name

    @property
    def is_cleaned(self) -> bool:
        """Whether `clean` was run."""
        return _is_cleaned(self.root, self.table)

    @property
    def is_split(self) -> bool:
        """Whether the images are in splits, made here or given."""
        return any(picture.split for picture in self.pictures)

    @cached_property
    def seen(self) -> dict[str, list[tuple[Picture, Box]]]:
        """Where each class is seen, the most frequent class first."""
        found: dict[str, list[tuple[Picture, Box]]] = defaultdict(list)
        for picture in self.pictures:
            for box in picture.boxes:
                found[box.name].append((picture, box.box))
        return dict(sorted(found.items(), key=lambda item: (-len(item[1]), item[0])))

    @cached_property
    def boxes(self) -> int:
        """How many there are."""
        return sum(len(picture.boxes) for picture in self.pictures)

    def images_of(self, name: str, split: str | None = None) -> int:
        """Images that show a class, of a split or of all."""
        return len({picture.path for picture, _ in self.seen[name] if split in (None, picture.split)})


def read(root: Path) -> Dataset:
    """Reads a folder as `fetch`, `clean` or `split` left it, or in any known layout.

    Raises:
        InputError: No such folder, no known layout, or a table of cleaning that cannot be read.
    """
    root = absolute(root)
    source = layouts.read(root)
    table = source.table if source.table in csv_boxes.STEPS else None
    pictures, repairs = _checked(root, source.raw)
    told: dict[str, Any] = {} if table else {"warnings": source.warnings}
    before = source.raw
    if _is_cleaned(root, table):
        before = _before(root, csv_boxes.CLEANED)
        told = _cleaning(root)
    if table == csv_boxes.SPLIT:
        unsplit = _before(root, csv_boxes.SPLIT)
        told["unsplit"] = Counter(box.name for image in unsplit.images for box in image.boxes)
        told["split_facts"] = _json(root / SPLIT_FACTS)
    outcomes, counts = _outcomes(root / MANIFEST), _counts(before, told.get("summary", {}))
    return Dataset(root, source.layout, table, pictures, repairs, counts, _by_label(before), outcomes, **told)


def _counts(before: RawDataset, summary: Mapping[str, Any]) -> tuple[int, int]:
    """Images and boxes before cleaning, as clean counted them where it did."""
    counted = summary.get("before", {})
    images_there, boxes_there = len({image.path for image in before.images}), sum(len(i.boxes) for i in before.images)
    return counted.get("images", images_there), counted.get("boxes", boxes_there)


def _checked(root: Path, raw: RawDataset) -> tuple[tuple[Picture, ...], tuple[Repair, ...]]:
    """Images whose header can be read, with the boxes that a detector could be trained on."""
    repairs = list(raw.repairs)
    paths = list(dict.fromkeys(image.path for image in raw.images))
    sizes = dict(zip(paths, in_threads(_size, paths), strict=True))
    repairs += [Repair(Kind.BROKEN_IMAGE, place(root, path, f"({fault})"))
                for path, fault in sizes.items() if isinstance(fault, images.ImageFault)]  # fmt: skip
    pictures = []
    for image in raw.images:
        size = sizes[image.path]
        if isinstance(size, images.ImageFault):
            continue
        pictures.append(Picture(image.path, *size, mend(image.boxes, *size, repairs), image.split))
    return tuple(pictures), tuple(repairs)


def _size(path: Path) -> tuple[int, int] | images.ImageFault:
    try:
        return images.size(path)
    except images.ImageFault as fault:
        return fault


def _is_cleaned(root: Path, table: str | None) -> bool:
    """A split is made of cleaned.csv where that is there."""
    return table == csv_boxes.CLEANED or (table == csv_boxes.SPLIT and is_file(root / csv_boxes.CLEANED))


def _before(root: Path, step: str) -> RawDataset:
    """What a step was made from; nothing, if that is gone."""
    try:
        return layouts.read(root, before=step).raw
    except InputError:
        return RawDataset((), ())


def _by_label(raw: RawDataset) -> dict[str, list[tuple[Path, Box]]]:
    found: dict[str, list[tuple[Path, Box]]] = defaultdict(list)
    for image in raw.images:
        for box in image.boxes:
            found[label_table.cell(box.name)].append((image.path, box.box))
    return found


def _cleaning(root: Path) -> dict[str, Any]:
    labels = [row for row in _rows(root / LABELS, ("label", "class")) if row.get("reason") != label_table.GONE]
    groups: dict[str, list[tuple[str, float | None]]] = defaultdict(list)
    for row in _rows(root / NEAR, ("image", "group")):
        groups[row["group"]].append((row["image"], _number(row.get("distance", ""))))
    return {
        "labels": tuple(map(_label, labels)),
        "findings": _findings(root / FINDINGS),
        "groups": groups,
        "summary": _json(root / SUMMARY),
    }


def _label(row: Mapping[str, str]) -> Label:
    return Label(
        label=row["label"],
        boxes=int(_number(row.get("boxes", "")) or 0),
        name=row["class"],
        reason=row.get("reason", ""),
        score=_number(row.get("score", "")),
        matched=row.get("matched", ""),
        suggestion=row.get("suggestion", ""),
        suggestion_score=_number(row.get("suggestion_score", "")),
        decision=row.get("decision", "").strip(),
    )


def _findings(file: Path) -> tuple[Finding, ...]:
    """
    Raises:
        InputError: The table cannot be read, lacks a column, or names an action that there is not.
    """
    rows = _rows(file, ("kind", "action"))
    if wrong := sorted({row["action"] for row in rows} - {*Action}):
        rule = f"an action in {file} must be one of {', '.join(Action)}"
        raise InputError(Fault(rule, ", ".join(map(repr, wrong)), "Run python -m platform.dataset clean again."))
    return tuple(map(_finding, rows))


def _finding(row: Mapping[str, str]) -> Finding:
    texts = {key: row.get(key, "") for key in ("kind", "detail", "image", "label", "where", "other")}
    return Finding(action=Action(row["action"]), **texts, box=as_box([row.get(key, "") for key in CORNERS]))


def _rows(file: Path, columns: Iterable[str]) -> list[dict[str, str]]:
    """A table of cleaning's; none if it is not there.

    Raises:
        InputError: It cannot be read, or lacks a column.
    """
    if not is_file(file):
        return []
    rule = "a table of cleaning must be readable, with all of its columns"
    remedy = "Run python -m platform.dataset clean again."
    try:
        there, rows = sheets.read(file)
    except (OSError, ValueError) as error:
        raise InputError(Fault(rule, f"{file}: {error}", remedy)) from error
    if missing := [column for column in columns if column not in there]:
        raise InputError(Fault(rule, f"{file} without {', '.join(missing)}", remedy))
    return rows


def _outcomes(file: Path) -> tuple[dict[str, Any], ...]:
    """The manifest's lines; of a fetch that was killed the last one may be cut short, and is left out."""
    if not is_file(file):
        return ()
    found = []
    with file.open(encoding="utf-8", errors="replace") as lines:
        for line in lines:
            try:
                told = json.loads(line)
            except ValueError:
                continue
            if isinstance(told, dict):
                found.append(told)
    return tuple(found)


def _json(file: Path) -> dict[str, Any]:
    try:
        told = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return told if isinstance(told, dict) else {}


def _number(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) else None
