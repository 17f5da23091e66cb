"""Content of a data set's folder: images and boxes, and the tables that fetch, clean and split left there."""

import contextlib
import json
import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from platform.curation import steps
from platform.curation.cleaning.findings import CORNERS, Action, Finding, as_box, number
from platform.curation.labels import label_table
from platform.data.detection import csv_boxes, layouts
from platform.data.detection.annotations import Box, RawDataset, RawImage
from platform.data.detection.boxes import area, repair_boxes
from platform.data.files import absolute, is_file
from platform.data.findings import Repair
from platform.data.splits import SPLITS
from platform.errors import Fault, InputError

MANIFEST, CLEANING = "manifest.jsonl", "cleaning"
LABELS, FINDINGS, NEAR, SUMMARY = (f"{CLEANING}/{name}" for name in
                                   ("labels.csv", "findings.csv", "near_duplicates.csv", "summary.json"))  # fmt: skip
_AGAIN = "Run python -m platform.dataset clean again."
_HIDDEN = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})  # Unicode categories of invisible characters


@dataclass(frozen=True)
class Label:
    """Line of cleaning/labels.csv; `name` is the class, empty where the label's boxes were dropped."""

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
    """Data set's folder; what cleaning found is empty where nothing was cleaned."""

    root: Path  # absolute
    layout: str  # "CSV", "COCO", "Pascal VOC" or "YOLO"
    table: str | None  # of the last step; None for a folder that no step has written to
    is_cleaned: bool
    pictures: tuple[RawImage, ...]  # readable, with their usable boxes and their size, in the layout's order
    repairs: tuple[Repair, ...]  # what reading it repaired or left out
    written: Mapping[str, list[tuple[Path, Box]]]  # by raw label, as labels.csv shows it: boxes before cleaning
    outcomes: tuple[dict[str, Any], ...] = ()  # the manifest's lines
    labels: tuple[Label, ...] = ()  # what became of raw labels
    findings: tuple[Finding, ...] = ()  # what else cleaning found
    near_duplicates: Mapping[str, list[tuple[str, float | None]]] = field(default_factory=dict)  # groups of images
    summary: Mapping[str, Any] = field(default_factory=dict)  # cleaning/summary.json
    split_facts: Mapping[str, Any] = field(default_factory=dict)  # split.json
    warnings: tuple[str, ...] = ()  # annotations that were ignored

    @cached_property
    def splits(self) -> list[str]:
        """Splits that have images, made here or given."""
        there = {picture.split for picture in self.pictures}
        return [split for split in SPLITS if split in there]

    @property
    def is_split(self) -> bool:
        """True if images are in splits."""
        return bool(self.splits)

    @cached_property
    def boxes_by_class(self) -> dict[str, list[tuple[RawImage, Box]]]:
        """Boxes of each class with their images, the most frequent class first."""
        found: dict[str, list[tuple[RawImage, Box]]] = defaultdict(list)
        for picture in self.pictures:
            for box in picture.boxes:
                found[box.name].append((picture, box.box))
        return dict(sorted(found.items(), key=lambda item: (-len(item[1]), item[0])))

    @cached_property
    def areas(self) -> list[float]:
        """Areas of all boxes in square pixels."""
        return [area(box.box) for picture in self.pictures for box in picture.boxes]

    @property
    def boxes(self) -> int:
        """Number of boxes."""
        return len(self.areas)

    def images_of(self, name: str, split: str | None = None) -> int:
        """Return the number of images that show a class, in a split or in all."""
        return len({picture.path for picture, _ in self.boxes_by_class[name] if split in (None, picture.split)})


def read(root: Path) -> Dataset:
    """Read a folder as `fetch`, `clean` or `split` left it, or in any known layout.

    Raises:
        InputError: There is no such folder, no known layout, or a table of cleaning that cannot be read.
    """
    root = absolute(root)
    source = layouts.read(root)
    table = source.table if source.table in csv_boxes.STEPS else None
    pictures, repairs = _readable(root, source.raw)
    tables: dict[str, Any] = {} if table else {"warnings": source.warnings}
    before = source.raw
    # a split is made of cleaned.csv where that is there
    is_cleaned = table == csv_boxes.CLEANED or (table == csv_boxes.SPLIT and is_file(root / csv_boxes.CLEANED))
    if is_cleaned:
        tables, before = _cleaning(root), RawDataset((), ())
        with contextlib.suppress(InputError):  # what cleaning was made from may be gone
            before = layouts.read(root, before=csv_boxes.CLEANED).raw
    if table == csv_boxes.SPLIT:
        tables["split_facts"] = _json(root / steps.SPLIT_FACTS)
    written: dict[str, list[tuple[Path, Box]]] = defaultdict(list)
    for image in before.images:
        for box in image.boxes:
            written[label_table.cell(box.name)].append((image.path, box.box))
    outcomes = _outcomes(root / MANIFEST)
    return Dataset(root, source.layout, table, is_cleaned, pictures, repairs, written, outcomes, **tables)


def visible(text: str, longest: int = 80) -> str:
    """Return a text as a page can show it: invisible characters as code points, a long text shortened.

    Spellings differ by such characters: "Cola" and "Cola⟨U+200B⟩" look the same otherwise. Blanks at either end are
    shown as "␣".
    """

    def shown(character: str) -> str:
        category = unicodedata.category(character)
        hidden = category in _HIDDEN or (category == "Zs" and character != " ")
        return f"⟨U+{ord(character):04X}⟩" if hidden else character

    rest = f"… ({len(text):,} characters)" if len(text) > longest else ""
    edged = re.sub(r"^\s+|\s+$", lambda blanks: "␣" * len(blanks[0]), text[:longest])
    return "".join(map(shown, edged)) + rest


def _readable(root: Path, raw: RawDataset) -> tuple[tuple[RawImage, ...], tuple[Repair, ...]]:
    """Return the images whose header can be read, with the boxes that a detector could be trained on."""
    repairs, pictures = list(raw.repairs), []
    headers = steps.headers(root, (image.path for image in raw.images), repairs)
    for image in raw.images:
        if header := headers.get(image.path):
            size = (header.width, header.height)
            pictures.append(replace(image, boxes=repair_boxes(image.boxes, *size, repairs), size=size))
    return tuple(pictures), tuple(repairs)


def _cleaning(root: Path) -> dict[str, Any]:
    labels = [row for row in _rows(root / LABELS, ("label", "class")) if row.get("reason") != label_table.GONE]
    groups: dict[str, list[tuple[str, float | None]]] = defaultdict(list)
    for row in _rows(root / NEAR, ("image", "group")):
        groups[row["group"]].append((row["image"], number(row.get("distance", ""))))
    findings = _rows(root / FINDINGS, ("kind", "action"))
    if wrong := sorted({row["action"] for row in findings} - {*Action}):
        rule = f"an action in {root / FINDINGS} must be one of {', '.join(Action)}"
        raise InputError(Fault(rule, ", ".join(map(repr, wrong)), _AGAIN))
    return {
        "labels": tuple(map(_label, labels)),
        "findings": tuple(map(_finding, findings)),
        "near_duplicates": groups,
        "summary": _json(root / SUMMARY),
    }


def _label(row: Mapping[str, str]) -> Label:
    """Return a line of the table; people may have removed columns that are not needed."""
    reason, matched, suggestion, decision = (
        row.get(key, "") for key in ("reason", "matched", "suggestion", "decision")
    )
    boxes, score, likeness = (number(row.get(key, "")) for key in ("boxes", "score", "suggestion_score"))
    return Label(
        row["label"], int(boxes or 0), row["class"], reason, score, matched, suggestion, likeness, decision.strip()
    )


def _finding(row: Mapping[str, str]) -> Finding:
    texts = {key: row.get(key, "") for key in ("kind", "detail", "image", "label", "where", "other")}
    return Finding(action=Action(row["action"]), **texts, box=as_box([row.get(key, "") for key in CORNERS]))


def _rows(file: Path, columns: Iterable[str]) -> list[dict[str, str]]:
    """Return the rows of a table of cleaning; a missing file has none."""
    rule = "a table of cleaning must be readable, with all of its columns"
    return steps.read_table(file, [*columns], rule, _AGAIN) if is_file(file) else []


def _outcomes(file: Path) -> tuple[dict[str, Any], ...]:
    """Read the manifest's lines, without a torn last line of a fetch that was killed."""
    if not is_file(file):
        return ()
    with file.open(encoding="utf-8", errors="replace") as lines:
        return tuple(line for line in map(_decoded, lines) if isinstance(line, dict))


def _json(file: Path) -> dict[str, Any]:
    content = _decoded(file.read_text(encoding="utf-8", errors="replace")) if is_file(file) else None
    return content if isinstance(content, dict) else {}


def _decoded(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return None
