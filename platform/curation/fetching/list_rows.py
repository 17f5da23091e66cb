"""What a row of a list says: one address, and the labels and boxes of the image there.

A box may be four columns, a text ("1,2,3,4", "[1 2 3 4]", JSON), four JSON numbers, an object with any of the columns
that a row may have, or a list of these. What cannot be read of a row is told beside the rest of it, which is kept.
"""

import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from platform.curation.fetching.columns import CXCYWH, XYWH, Chosen, Columns, find, key
from platform.data.detection.annotations import Box
from platform.data.files import printable, split_of

_RELATIVE = 2.0  # a box whose numbers are all at most this in size is none in pixels: so small nothing can be seen
_MISSING = frozenset({"", "nan", "null", "none"})  # what an empty cell of numbers is written as
_SHOWN = 60  # characters of a value that a fault names


@dataclass(frozen=True, slots=True)
class Labelled:
    """A label as written, "" if there is none, and its box (x1, y1, x2, y2) as written, None if there is none.

    Attributes:
        relative: Whether the box is in shares of the image's width and height, not in pixels.
    """

    label: str
    box: Box | None = None
    relative: bool = False


@dataclass(frozen=True, slots=True)
class Row:
    """A row of the list.

    Attributes:
        line: Where it begins in the file, from 1.
        url: As written; None if the row has none that can be read.
        boxes: Empty for an image without label and box.
        split: "train", "val", "test" or None.
        faults: What could not be read.
    """

    line: int
    url: str | None
    boxes: tuple[Labelled, ...] = ()
    split: str | None = None
    faults: tuple[str, ...] = ()


class Unreadable(Exception):  # noqa: N818 (it is a fault of the user's file, as in platform.errors)
    """A part of a row that cannot be used; the message says why."""


def read(line: int, record: Mapping[str, Any], columns: Columns, chosen: Chosen) -> Row:
    """What a row says.

    Args:
        line: Its number.
        record: Its values by column: texts, or what JSON has.
        columns: What its columns mean.
        chosen: The same for objects within it.
    """
    url = _text(record.get(columns.url)) if columns.url else ""
    if not url:
        return Row(line, None, faults=("no url",))
    faults: list[str] = []
    boxes: tuple[Labelled, ...] = ()
    try:
        boxes = tuple(_boxes(record, columns, chosen, faults))
    except RecursionError:
        faults.append("objects within objects without end")
    split = _text(record.get(columns.split)) if columns.split else ""
    known = split_of(split)
    if split and known is None:
        faults.append(f"the split {_short(split)} is none of train, val, test")
    return Row(line, url, boxes, known, tuple(faults))


def _boxes(record: Mapping[str, Any], columns: Columns, chosen: Chosen, faults: list[str]) -> Iterator[Labelled]:
    """The labels and boxes of a record; a label whose box cannot be read stays, without."""
    labels = record.get(columns.label) if columns.label else None
    if isinstance(labels, list) and len(labels) < 2:
        labels = labels[0] if labels else None
    try:
        values = _values(record, columns)
    except Unreadable as error:
        faults.append(str(error))
        values = []
    each = labels if isinstance(labels, list) else [labels] * max(1, len(values))
    if values and len(each) != len(values):
        faults.append(f"{len(each)} labels for {len(values)} boxes")
        values = []
    if any(isinstance(label, (dict, list)) for label in each):
        faults.append("a label that is no text")
    for label, value in zip(each, values or [None] * len(each), strict=True):
        yield from _labelled(_text(label), value, columns, chosen, faults)


def _labelled(label: str, value: Any, columns: Columns, chosen: Chosen, faults: list[str]) -> Iterator[Labelled]:
    if isinstance(value, dict):
        within = {key(str(name)): item for name, item in value.items()}
        inner = find(tuple(within), Chosen(convention=chosen.convention))
        if inner.label is None:
            within, inner = {**within, "label": label}, find((*within, "label"), Chosen(convention=chosen.convention))
        yield from _boxes(within, inner, chosen, faults)
        return
    box = None
    try:
        box = _numbers(value) if value is not None else None
    except Unreadable as error:
        faults.append(str(error))
    if box is not None:
        yield Labelled(label, _corners(box, columns.convention), max(map(abs, box)) <= _RELATIVE)
    elif label:
        yield Labelled(label)


def _values(record: Mapping[str, Any], columns: Columns) -> list[Any]:
    """The boxes of a record, each as four numbers still to be read, or an object; empty if there are none."""
    if columns.corners:
        given = [record.get(corner) for corner in columns.corners]
        return [] if all(_is_missing(value) for value in given) else [given]
    value = record.get(columns.boxes) if columns.boxes else None
    if isinstance(value, str) and value.lstrip().startswith(("[", "{")):
        value = _decoded(value)
    if _is_missing(value) or value == []:
        return []
    if isinstance(value, list) and all(isinstance(item, (list, dict)) for item in value):
        return value
    return [value]


def _decoded(text: str) -> Any:
    """What JSON holds; else the text itself: numpy and others also write brackets."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


def _numbers(value: Any) -> Box:
    items = re.split(r"[\s,;]+", value.strip(" ()[]\t\r\n")) if isinstance(value, str) else value
    try:
        if isinstance(items, Sequence) and not any(isinstance(item, bool) for item in items):
            x1, y1, x2, y2 = (float(item) for item in items)
            if all(map(math.isfinite, (x1, y1, x2, y2))):
                return x1, y1, x2, y2
    except (TypeError, ValueError, OverflowError):
        pass
    raise Unreadable(f"the box {_short(value)} is not four numbers")


def _corners(box: Box, convention: str) -> Box:
    a, b, c, d = box
    if convention == XYWH:
        return a, b, a + c, b + d
    if convention == CXCYWH:
        return a - c / 2, b - d / 2, a + c / 2, b + d / 2
    return box


def _is_missing(value: Any) -> bool:
    return value is None or str(value).strip().lower() in _MISSING


def _text(value: Any) -> str:
    """A label, an address; "" where there is none. JSON's NaN is how pandas writes that."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    return printable(value) if isinstance(value, (str, int, float)) else ""


def _short(value: Any) -> str:
    text = printable(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))
    return repr(text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…")
