"""Tables as CSV files that people open in a spreadsheet, edit and hand back.

A spreadsheet runs a cell that begins with =, +, - or @ as a formula, and labels may come from anywhere. Such a text is
written with an apostrophe before it, as spreadsheets themselves mark texts, and read without.
"""

import csv
import io
import os
import re
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TextIO

_FORMULA = re.compile(r"'*[=+\-@\t\r]")
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")
_LONGEST = 2**20  # characters of a cell


def write(file: Path, columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> None:
    """Writes a table, whole or not at all; what a row lacks, and None, are empty cells.

    Args:
        file: In an existing folder.
        columns: Their names, in order; a row has no others.
        rows: Their cells by column: texts, and numbers, which are read back exactly.
    """
    handle, partial = tempfile.mkstemp(prefix=f".{file.name}.", dir=file.parent)
    try:
        with os.fdopen(handle, "w", encoding="utf-8", newline="") as stream:
            _put(stream, columns, rows)
        os.chmod(partial, 0o644)  # noqa: PTH101 (mkstemp gives a name)
        os.replace(partial, file)  # noqa: PTH105
    except BaseException:
        Path(partial).unlink(missing_ok=True)
        raise


def text(columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> str:
    """What `write` puts into a file."""
    stream = io.StringIO(newline="")
    _put(stream, columns, rows)
    return stream.getvalue()


def read(file: Path) -> tuple[list[str], list[dict[str, str]]]:
    """A table's columns, and its rows as texts by column: short rows filled with "", further cells dropped.

    Comma, semicolon or tab, whichever the first line has most of: spreadsheets save what their country is used to.

    Raises:
        OSError: The file cannot be read.
        ValueError: It is no table: a cell without end, a zero byte.
    """
    with file.open(encoding="utf-8-sig", errors="replace", newline="") as stream:
        columns, *lines = _lines(stream) or [[]]
    columns = [name.strip().lower() for name in columns]
    rows = [[_read(cell) for cell in line] for line in lines if any(cell.strip() for cell in line)]
    return columns, [dict(zip(columns, [*row, *[""] * (len(columns) - len(row))], strict=False)) for row in rows]


def columns(file: Path) -> list[str]:
    """A table's columns; none if there is no such file, or it is no table."""
    try:
        with file.open(encoding="utf-8-sig", errors="replace", newline="") as stream:
            first = _lines(io.StringIO(stream.readline(_LONGEST)))
    except (OSError, ValueError):
        return []
    return [name.strip().lower() for name in first[0]] if first else []


def _put(stream: TextIO, columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> None:
    table = csv.DictWriter(stream, columns, lineterminator="\n")
    table.writeheader()
    table.writerows({key: _written(value) for key, value in row.items()} for row in rows)


def _lines(stream: TextIO) -> list[list[str]]:
    first = stream.readline()
    stream.seek(0)
    limit = csv.field_size_limit(_LONGEST)  # of all readers: put back below
    try:
        return list(csv.reader(stream, delimiter=max(",;\t", key=first.count)))
    except csv.Error as error:
        raise ValueError(str(error)) from error
    finally:
        csv.field_size_limit(limit)


def _written(value: Any) -> Any:
    if isinstance(value, str) and _FORMULA.match(value) and not _NUMBER.fullmatch(value):
        return f"'{value}"
    return repr(value) if isinstance(value, float) else value


def _read(cell: str) -> str:
    return cell[1:] if cell.startswith("'") and _FORMULA.match(cell[1:]) else cell
