"""Columns and rows of a list: each row has one address, and the labels and boxes of the image there.

Columns are known by their usual names, listed in the tables below, or named by the user (`Chosen`); the keys of a JSON
object are columns, too. A box may be four columns, a text ("1,2,3,4", "[1 2 3 4]", JSON), four JSON numbers, an object
with any of the columns that a row may have, or a list of these. What cannot be read of a row is reported as a fault,
and the rest of the row is kept.
"""

import contextlib
import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from platform.data.detection.annotations import Box
from platform.data.files import printable, split_of

XYXY, XYWH, CXCYWH = "xyxy", "xywh", "cxcywh"
CONVENTIONS = (XYXY, XYWH, CXCYWH)

# Names as `key` writes them; the first one that the list has is used.
URL = (
    *("url", "image_url", "img_url", "imageurl", "imgurl", "photo_url", "picture_url", "file_url", "download_url"),
    *("coco_url", "uri", "image_uri", "link", "image_link", "href", "src", "image_src", "image", "img"),
)
LABEL = (
    *("label", "label_name", "labels", "class", "class_name", "classname", "classes", "category", "category_name"),
    *("brand", "brand_name", "logo", "name", "tag", "object", "text"),
)
SPLIT = ("split", "subset", "set", "partition")
BOXES = (
    *("boxes", "bboxes", "annotations", "objects", "box", "bbox", "bounding_box", "bounding_boxes", "bndbox"),
    "rectangle",
)
CORNERS = {
    XYXY: ("x1 y1 x2 y2", "xmin ymin xmax ymax", "x_min y_min x_max y_max", "left top right bottom"),
    CXCYWH: ("cx cy w h", "cx cy width height", "x_center y_center w h", "x_center y_center width height"),
    XYWH: ("x y w h", "x y width height", "left top width height"),
}
_BOX_ENDS = ("_box", "_bbox", *CONVENTIONS)
_BOX_STARTS = re.compile("^(b?box|bounding_box|bndbox)_")


@dataclass(frozen=True)
class ChosenColumns:
    """Names of columns that the user gave, as `key` writes them, and one of CONVENTIONS; None where not given."""

    url: str | None = None
    label: str | None = None
    box: str | None = None
    convention: str | None = None


@dataclass(frozen=True)
class Columns:
    """Names of a list's columns by their meaning; None, or empty, where there is no such column."""

    url: str | None
    label: str | None
    split: str | None
    boxes: str | None  # holds whole boxes
    corners: tuple[str, ...]  # the four columns that hold one number of a box each, in this order
    convention: str  # meaning of a box's four numbers, one of CONVENTIONS
    assumed: bool  # whether the convention is only the default


def key(name: str) -> str:
    """Return a column's name in the form that is compared: "Image URL" is "image_url"."""
    return re.sub(r"\W+", "_", name.strip().lower()).strip("_")


@lru_cache(maxsize=4096)  # the objects of a file of JSON lines have nearly the same keys
def find(names: tuple[str, ...], chosen: ChosenColumns) -> Columns:
    """Return the meaning of columns, whose names are as `key` writes them; the chosen ones precede the usual ones."""
    corners, named = _corner_columns(names) if chosen.box is None else ((), None)
    ending = (name for name in names if name.endswith(_BOX_ENDS))
    boxes = None if corners else chosen.box or _first(BOXES, names) or next(ending, None)
    if boxes is not None:
        named = next((convention for convention in CONVENTIONS if boxes.endswith(convention)), None)
    return Columns(
        url=chosen.url or _first(URL, names),
        label=chosen.label or _first(LABEL, names),
        split=_first(SPLIT, names),
        boxes=boxes,
        corners=corners,
        convention=chosen.convention or named or XYXY,
        assumed=not (chosen.convention or named),
    )


def _corner_columns(names: Sequence[str]) -> tuple[tuple[str, ...], str | None]:
    plain = {_BOX_STARTS.sub("", name): name for name in names}
    for convention, usual in CORNERS.items():
        for wanted in map(str.split, usual):
            if all(name in plain for name in wanted):
                return tuple(plain[name] for name in wanted), convention
    return (), None


def _first(wanted: Sequence[str], names: Sequence[str]) -> str | None:
    return next((name for name in wanted if name in names), None)


_RELATIVE = 2.0  # a box of which no number is larger is in shares of the image, as it would be invisible in pixels
_MISSING = frozenset({"", "nan", "null", "none"})  # spellings of an empty cell
_SHOWN = 60  # characters of a value in a fault's message


@dataclass(frozen=True, slots=True)
class WrittenLabel:
    """Label as written, "" if there is none, with its box."""

    label: str
    box: Box | None = None  # (x1, y1, x2, y2) as written
    relative: bool = False  # whether the box is in shares of the image's width and height, not in pixels


@dataclass(frozen=True, slots=True)
class Row:
    """Row of the list."""

    line: int  # number of its first line in the file, from 1
    url: str | None  # as written; None if the row has none that can be read
    boxes: tuple[WrittenLabel, ...] = ()  # empty for an image without label and box
    split: str | None = None  # "train", "val", "test" or None
    faults: tuple[str, ...] = ()  # what could not be read


def read(line: int, record: Mapping[str, Any], columns: Columns, chosen: ChosenColumns) -> Row:
    """Read a row from its values by column, which are texts or JSON values; objects within it follow `chosen`."""
    url = _text(record.get(columns.url)) if columns.url else ""
    if not url:
        return Row(line, None, faults=("no url",))
    faults: list[str] = []
    boxes: tuple[WrittenLabel, ...] = ()
    try:
        boxes = tuple(_boxes(record, columns, chosen, faults))
    except RecursionError:
        faults.append("too many objects within objects")
    split = _text(record.get(columns.split)) if columns.split else ""
    known = split_of(split)
    if split and known is None:
        faults.append(f"the split {_short(split)} is none of train, val, test")
    return Row(line, url, boxes, known, tuple(faults))


def _boxes(
    record: Mapping[str, Any], columns: Columns, chosen: ChosenColumns, faults: list[str]
) -> Iterator[WrittenLabel]:
    """Yield the labels and boxes of a record; a label whose box cannot be read is kept without a box."""
    labels = record.get(columns.label) if columns.label else None
    if isinstance(labels, list) and len(labels) < 2:
        labels = labels[0] if labels else None
    values = _values(record, columns)
    each = labels if isinstance(labels, list) else [labels] * max(1, len(values))
    if values and len(each) != len(values):
        faults.append(f"{len(each)} labels for {len(values)} boxes")
        values = []
    if any(isinstance(label, (dict, list)) for label in each):
        faults.append("a label that is no text")
    for label, value in zip(each, values or [None] * len(each), strict=True):
        yield from _labelled(_text(label), value, columns, chosen, faults)


def _labelled(
    label: str, value: Any, columns: Columns, chosen: ChosenColumns, faults: list[str]
) -> Iterator[WrittenLabel]:
    if isinstance(value, dict):
        within = {key(str(name)): item for name, item in value.items()}
        inner = find(tuple(within), ChosenColumns(convention=chosen.convention))
        if inner.label is None:
            within, inner = (
                {**within, "label": label},
                find((*within, "label"), ChosenColumns(convention=chosen.convention)),
            )
        yield from _boxes(within, inner, chosen, faults)
        return
    box = _numbers(value) if value is not None else None
    if box is not None:
        yield WrittenLabel(label, _as_corners(box, columns.convention), max(map(abs, box)) <= _RELATIVE)
        return
    if value is not None:
        faults.append(f"the box {_short(value)} is not four numbers")
    if label:
        yield WrittenLabel(label)


def _values(record: Mapping[str, Any], columns: Columns) -> list[Any]:
    """Return the boxes of a record, each as four unparsed numbers or an object; empty if there are none."""
    if columns.corners:
        given = [record.get(corner) for corner in columns.corners]
        return [] if all(_is_missing(value) for value in given) else [given]
    value = record.get(columns.boxes) if columns.boxes else None
    if isinstance(value, str) and value.lstrip().startswith(("[", "{")):
        with contextlib.suppress(ValueError, RecursionError):  # NumPy and others also write brackets
            value = json.loads(value)
    if _is_missing(value) or value == []:
        return []
    if isinstance(value, list) and all(isinstance(item, (list, dict)) for item in value):
        return value
    return [value]


def _numbers(value: Any) -> Box | None:
    items = re.split(r"[\s,;]+", value.strip(" ()[]\t\r\n")) if isinstance(value, str) else value
    with contextlib.suppress(TypeError, ValueError, OverflowError):
        if isinstance(items, Sequence) and not any(isinstance(item, bool) for item in items):
            x1, y1, x2, y2 = (float(item) for item in items)
            if all(map(math.isfinite, (x1, y1, x2, y2))):
                return x1, y1, x2, y2
    return None


def _as_corners(box: Box, convention: str) -> Box:
    a, b, c, d = box
    if convention == XYWH:
        return a, b, a + c, b + d
    if convention == CXCYWH:
        return a - c / 2, b - d / 2, a + c / 2, b + d / 2
    return box


def _is_missing(value: Any) -> bool:
    return value is None or str(value).strip().lower() in _MISSING


def _text(value: Any) -> str:
    """Return a label or address as text; "" where there is none, which pandas writes as NaN in JSON."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    return printable(value) if isinstance(value, (str, int, float)) else ""


def _short(value: Any) -> str:
    text = printable(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))
    return repr(text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…")
