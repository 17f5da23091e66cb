"""CSV: a line per box, the only layout that people can read and write without a tool.

image,label,x1,y1,x2,y2[,split]      paths from the table's folder, pixels; further columns are passed over

A line without label and corners is a background image. The data sets that `platform.dataset` makes have several such
tables, one for each step; the last step's is the one that counts.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from platform.data import sheets
from platform.data.annotations import Kind, RawBox, RawDataset, RawImage
from platform.data.files import absolute, class_name, inside, is_file, place, printable
from platform.data.findings import Repair
from platform.data.splits import SPLITS

LAYOUT = "CSV"
COLUMNS = ("image", "label", "x1", "y1", "x2", "y2", "split")
NEEDS = f"annotations.csv with the columns {', '.join(COLUMNS)}, the last one optional"

FETCHED, CLEANED, SPLIT, OWN = "fetched.csv", "cleaned.csv", "split.csv", "annotations.csv"
STEPS = (FETCHED, CLEANED, SPLIT)  # what platform.dataset writes, in this order; it never writes annotations.csv

_CORNERS = ("x1", "y1", "x2", "y2")


def recognise(root: Path) -> bool:
    """Whether the folder holds such a table."""
    return table_of(root) is not None


def table_of(root: Path, before: str | None = None) -> Path | None:
    """The table that counts: of the last step that was made, else the folder's own.

    Args:
        root: The folder.
        before: One of STEPS: only what that step is made from.
    """
    steps = STEPS[: STEPS.index(before)] if before else STEPS
    files = [root / name for name in (*reversed(steps), OWN)]
    return next((file for file in files if is_file(file) and _is_ours(file)), None)


def read(root: Path) -> RawDataset:
    """Reads the table that counts."""
    root = absolute(root)
    file = table_of(root)
    if file is None:
        raise ValueError(f"no such table in {root}")
    return read_table(root, file)


def read_table(root: Path, file: Path) -> RawDataset:
    """Reads one table; what cannot be used of it is told in the result's repairs."""
    repairs: list[Repair] = []
    try:
        _, rows = sheets.read(file)
    except (OSError, ValueError) as error:
        return RawDataset((), (Repair(Kind.UNREADABLE_FILE, place(root, file, f"({error})")),))
    images: dict[tuple[Path, str | None], RawImage] = {}
    boxes: dict[tuple[Path, str | None], list[RawBox]] = {}
    for number, row in enumerate(rows, start=1):
        where = place(root, file, f"row {number}")
        path = inside(root, root, row["image"].strip())
        if path is None or not is_file(path):
            kind = Kind.ESCAPING_PATH if path is None else Kind.MISSING_IMAGE
            repairs.append(Repair(kind, printable(f"{where} {row['image']}")))
            continue
        split = row.get("split", "").strip().lower() or None
        if split not in (None, *SPLITS):
            repairs.append(Repair(Kind.UNREADABLE_ENTRY, printable(f"{where} split {split}")))
            continue
        key = (path, split)
        images.setdefault(key, RawImage(path, (), split, where))
        boxes.setdefault(key, [])
        try:
            boxes[key] += _boxes(row, where)
        except ValueError:
            repairs.append(Repair(_fault(row), printable(f"{where} {row['label']}"), image=path))
    whole = (RawImage(path, tuple(boxes[path, split]), split, image.where) for (path, split), image in images.items())
    return RawDataset(tuple(whole), tuple(repairs))


def write(file: Path, root: Path, images: Iterable[RawImage], more: Mapping[str, Any] | None = None) -> None:
    """Writes a table, whole or not at all; `read_table` reads back what was given, numbers exactly.

    Args:
        file: The table.
        root: The folder that the images' paths are told from.
        images: With their boxes; one without has a line of its own.
        more: Further columns by name, each a mapping from an image's path; none if not given.
    """
    columns = [*COLUMNS, *(more or {})]
    sheets.write(file, columns, (row for image in images for row in _rows(image, root, more or {})))


def _rows(image: RawImage, root: Path, more: Mapping[str, Any]) -> Iterable[dict[str, Any]]:
    same = {"image": image.path.relative_to(root).as_posix(), "split": image.split}
    same |= {name: values.get(image.path) for name, values in more.items()}
    if not image.boxes:
        yield same
    for box in image.boxes:
        yield same | {"label": box.name} | dict(zip(_CORNERS, map(float, box.box), strict=True))


def _boxes(row: Mapping[str, str], where: str) -> list[RawBox]:
    if not any(row[key].strip() for key in ("label", *_CORNERS)):
        return []
    x1, y1, x2, y2 = (float(row[corner]) for corner in _CORNERS)
    return [RawBox((x1, y1, x2, y2), class_name(row["label"]), where)]


def _fault(row: Mapping[str, str]) -> Kind:
    """What is wrong with a row whose box cannot be read."""
    corners = [row[corner].strip() for corner in _CORNERS]
    if row["label"].strip():
        return Kind.UNREADABLE_ENTRY if any(corners) else Kind.NO_BOX
    return Kind.NO_LABEL if all(corners) else Kind.UNREADABLE_ENTRY


def _is_ours(file: Path) -> bool:
    return set(COLUMNS[:-1]) <= set(sheets.columns(file))
