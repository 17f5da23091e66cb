"""Reader of CSV files that list images, one a row: path, label and, if there are splits, split."""

import csv
from pathlib import Path

from platform.data.classification.labels import Kind, Labelled, Labels, is_hidden, label_of, ordered
from platform.data.files import inside, is_file, place, printable, split_of, unlisted_images
from platform.data.findings import Repair
from platform.data.tables import column_names, rows
from platform.errors import Fault, InputError

SUFFIX = ".csv"

_NEEDED = frozenset({"path", "label"})


def read(file: Path) -> Labels:
    """Read a CSV file with the columns path, label and perhaps split; others are ignored.

    Paths are relative to the file's folder, and nothing outside it is read.

    Args:
        file: Absolute path of the file.

    Raises:
        InputError: The file cannot be parsed, or lacks a column.
    """
    root, (header, *lines) = file.parent, _rows(file) or [(1, [])]
    columns = column_names(header[1])
    if not set(columns) >= _NEEDED:
        rule = "a CSV file of images must have the columns path and label, separated by commas"
        raise InputError(Fault(rule, f"{', '.join(columns) or 'nothing'} in {file}", "Write them in the first line."))
    repairs: list[Repair] = []
    entries = []
    for line, cells in lines:
        where = place(root, file, f"line {line}")
        if len(cells) == len(columns):
            entries.append((where, {column: cell.strip() for column, cell in zip(columns, cells, strict=True)}))
        else:
            repairs.append(Repair(Kind.UNREADABLE_ROW, where))
    names = {row["split"] for _, row in entries if row.get("split")}
    images = []
    for where, row in entries:
        taken = _take(root, f"{where} {row['path']}", row, has_splits=bool(names))
        if isinstance(taken, Repair):
            repairs.append(taken)
        else:
            images.append(taken)
    repairs += [Repair(Kind.NO_ROW, place(root, path)) for path in _unlisted(root, entries)]
    given = frozenset(split for split in map(split_of, names) if split is not None)
    return Labels(root, f"CSV file {printable(file.name)}", ordered(root, images), given, tuple(repairs))


def has_columns(file: Path) -> bool:
    """Return True if this is a CSV file with the columns path and label; False if it cannot be read."""
    try:
        with file.open(encoding="utf-8-sig", newline="") as stream:
            return set(column_names(next(csv.reader(stream), []))) >= _NEEDED
    except (OSError, ValueError, csv.Error):
        return False


def _take(root: Path, where: str, row: dict[str, str], has_splits: bool) -> Labelled | Repair:
    path, label, split = inside(root, root, row["path"]), label_of(row["label"]), None
    where = printable(where)
    if path is None:
        return Repair(Kind.ESCAPING_PATH, where)
    if not is_file(path):
        return Repair(Kind.MISSING_IMAGE, where)
    if label is None:
        return Repair(Kind.BLANK_LABEL, where)
    if has_splits:
        if not row["split"]:
            return Repair(Kind.NO_SPLIT, where)
        split = split_of(row["split"])
        if split is None:
            return Repair(Kind.UNKNOWN_SPLIT, printable(f"{where}: {row['split']}"))
    return Labelled(path, label, split, where)


def _unlisted(root: Path, entries: list[tuple[str, dict[str, str]]]) -> list[Path]:
    """Return the images that no row names, in the folders of listed images."""
    listed = {path for _, row in entries if (path := inside(root, root, row["path"])) is not None and is_file(path)}
    return [path for path in unlisted_images(listed) if not is_hidden(path)]


def _rows(file: Path) -> list[tuple[int, list[str]]]:
    """Return the rows that are not blank, each with the number of its first line."""
    try:
        return rows(file.read_bytes().decode("utf-8-sig"), str(file))
    except OSError as error:
        raise InputError(Fault("the CSV file must be readable", str(error), "Allow reading it.")) from error
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        fault = Fault("the CSV file must be UTF-8", f"other bytes in {file} line {line}", "Save it as UTF-8.")
        raise InputError(fault) from error
