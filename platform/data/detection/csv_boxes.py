"""CSV with one line per box, the only layout that people can read and write without a tool.

image,label,x1,y1,x2,y2[,split]      paths from the table's folder, corners in pixels; further columns are ignored

It is enough to give an image's split on one of its lines. A line without label and corners is a background image; an
image of which no line can be used is left out and not taken for a background image. The data sets that
`platform.dataset` makes have several such tables, one for each step; the table of the last step is read.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from typing import Any

from platform.data import sheets
from platform.data.detection.annotations import Kind, RawBox, RawDataset, RawImage
from platform.data.files import absolute, class_name, inside, is_file, is_utf8, place, printable, split_of
from platform.data.findings import Repair
from platform.errors import Fault, InputError

LAYOUT = "CSV"
COLUMNS = ("image", "label", "x1", "y1", "x2", "y2", "split")
NEEDS = f"annotations.csv with the columns {', '.join(COLUMNS)}, the last one optional"

FETCHED, CLEANED, SPLIT, OWN = "fetched.csv", "cleaned.csv", "split.csv", "annotations.csv"
STEPS = (FETCHED, CLEANED, SPLIT)  # tables that platform.dataset writes, in order; it never writes annotations.csv

_CORNERS = ("x1", "y1", "x2", "y2")
_NEEDED = COLUMNS[:-1]
_POINT = re.compile(r"(?<=\d),(?=\d+\s*$)")  # decimal commas, which spreadsheets write in many countries


def recognise(root: Path) -> bool:
    """Return True if the folder holds such a table."""
    return table_of(root) is not None


def table_of(root: Path, before: str | None = None) -> Path | None:
    """Return the table to read: the one of the last step that was made, else annotations.csv, or None.

    The tables from the step `before` on, one of STEPS, are ignored.
    """
    steps = STEPS[: STEPS.index(before)] if before else STEPS
    files = [root / name for name in (*reversed(steps), OWN)]
    return next((file for file in files if is_file(file) and _is_ours(file)), None)


def read(root: Path) -> RawDataset:
    """Read the table that `table_of` finds."""
    root = absolute(root)
    file = table_of(root)
    if file is None:
        raise ValueError(f"there is no such table in {root}")
    return read_table(root, file)


def read_table(root: Path, file: Path) -> RawDataset:
    """Read one table; lines that cannot be used are in the result's repairs."""
    root = absolute(root)
    try:
        columns, rows = sheets.numbered(file)
        if missing := [name for name in _NEEDED if name not in columns]:
            raise ValueError(f"no columns {', '.join(missing)}")
    except (OSError, ValueError) as error:
        return RawDataset((), (Repair(Kind.UNREADABLE_FILE, place(root, file, f"({error})")),))
    repairs: list[Repair] = []
    images: dict[tuple[Path, str | None], RawImage] = {}
    boxes: defaultdict[tuple[Path, str | None], list[RawBox]] = defaultdict(list)
    find = cache(partial(_find, root))
    name = place(root, file)
    for number, row in rows:
        where = f"{name} row {number}"
        path = find(row["image"])
        if isinstance(path, Kind):
            repairs.append(Repair(path, printable(f"{where} {row['image']}")))
            continue
        try:
            key = path, _split(row.get("split", ""))
            boxes[key] += _boxes(row, where)
            images.setdefault(key, RawImage(path, (), key[1], where))
        except ValueError:
            repairs.append(Repair(_fault(row), printable(f"{where} {row['label']}"), image=path))
    whole = [replace(image, boxes=tuple(boxes[key])) for key, image in images.items()]
    cells = (item for _, row in rows for item in row.items())
    beyond = Counter(column for column, cell in cells if column not in COLUMNS and cell.strip())
    return RawDataset(tuple(_placed(whole, repairs)), tuple(repairs), beyond=beyond)


def write(file: Path, root: Path, images: Iterable[RawImage], more: Mapping[str, Any] | None = None) -> None:
    """Write a table, whole or not at all; `read_table` reads the same back, numbers exactly.

    Paths are relative to `root`, and an image without boxes has a line of its own. `more` has further columns by name,
    each a mapping from an image's path to a value.

    Raises:
        InputError: The name of an image is not UTF-8.
    """
    images = list(images)
    names = [image.path.relative_to(root).as_posix() for image in images]
    if wrong := [name for name in names if not is_utf8(name)]:
        rule = "names of images must be UTF-8, to be written into a table"
        raise InputError(Fault(rule, f"{len(wrong)}, {printable(wrong[0])}", "Rename them."))
    columns = [*COLUMNS, *(more or {})]
    sheets.write(file, columns, (row for image in images for row in _rows(image, root, more or {})))


def _rows(image: RawImage, root: Path, more: Mapping[str, Any]) -> Iterable[dict[str, Any]]:
    same = {"image": image.path.relative_to(root).as_posix(), "split": image.split}
    same |= {name: values.get(image.path) for name, values in more.items()}
    if not image.boxes:
        yield same
    for box in image.boxes:
        yield same | {"label": box.name} | dict(zip(_CORNERS, map(float, box.box), strict=True))


def _find(root: Path, text: str) -> Path | Kind:
    """Return the image that a cell names, first taken literally, then as people write paths; or why there is none."""
    exact, usual = absolute(root / text), inside(root, root, text.strip())
    if exact.is_relative_to(root) and is_file(exact):
        return exact
    if usual is None:
        return Kind.ESCAPING_PATH
    return usual if is_file(usual) else Kind.MISSING_IMAGE


def _split(text: str) -> str | None:
    split = split_of(text)
    if split is None and text.strip():
        raise ValueError(f"no split is named {text}")
    return split


def _boxes(row: Mapping[str, str], where: str) -> list[RawBox]:
    if not any(row[key].strip() for key in ("label", *_CORNERS)):
        return []
    x1, y1, x2, y2 = (float(_POINT.sub(".", row[corner])) for corner in _CORNERS)
    return [RawBox((x1, y1, x2, y2), class_name(row["label"]), where)]


def _placed(images: Iterable[RawImage], repairs: list[Repair]) -> list[RawImage]:
    """Add the boxes of lines without a split to the split of the image's other lines, if these are all in one."""
    by_path: defaultdict[Path, dict[str | None, RawImage]] = defaultdict(dict)
    for image in images:
        by_path[image.path][image.split] = image
    for splits in by_path.values():
        if None not in splits or len(splits) == 1:
            continue
        rest = splits.pop(None)
        if len(splits) == 1:
            ((split, image),) = splits.items()
            splits[split] = replace(image, boxes=image.boxes + rest.boxes)
        else:
            repairs += [Repair(Kind.NO_SPLIT, box.where, image=rest.path) for box in rest.boxes]
    return [image for splits in by_path.values() for image in splits.values()]


def _fault(row: Mapping[str, str]) -> Kind:
    """Return the kind of problem of a row whose box cannot be read."""
    corners = [row[corner].strip() for corner in _CORNERS]
    if row["label"].strip():
        return Kind.UNREADABLE_ENTRY if any(corners) else Kind.NO_BOX
    return Kind.NO_LABEL if all(corners) else Kind.UNREADABLE_ENTRY


def _is_ours(file: Path) -> bool:
    return set(_NEEDED) <= set(sheets.columns(file))
