"""CSV files that people open in a spreadsheet, edit and give back.

A spreadsheet runs a cell that begins with =, +, - or @ as a formula, and labels may come from untrusted data. Such a
text is written with a leading apostrophe, the spreadsheets' own mark for text, which is removed when it is read.
"""

import csv
import io
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TextIO

from platform.storage import atomic

_FORMULA = re.compile(r"'*[=+\-@\t\r\n\uff1d\uff0b\uff0d\uff20]")  # the last four are the full-width forms of = + - @
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)
_LONGEST = 2**17  # characters of a cell: the csv module's limit, which is global to the process


def write(file: Path, columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> None:
    """Write a table, whole or not at all; missing cells and None are empty cells.

    Args:
        file: File in an existing folder.
        columns: Names of the columns, in order; a row has no others.
        rows: Texts and numbers by column. They are read back exactly, except for lone surrogates, which become "?",
            and blank rows, which are skipped.

    Raises:
        OSError: The file cannot be written.
        ValueError: A cell is too long to be read back.
    """
    with (
        atomic.new_file(file) as partial,
        partial.open("w", encoding="utf-8", errors="replace", newline="") as stream,
    ):
        _put(stream, columns, rows)


def text(columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> str:
    """Return the text that `write` puts into a file."""
    stream = io.StringIO(newline="")
    _put(stream, columns, rows)
    return stream.getvalue()


def read(file: Path) -> tuple[list[str], list[dict[str, str]]]:
    """Return a table's columns, and its rows as texts by column.

    Short rows are filled with "", further cells are dropped and blank rows are left out; `numbered` also returns the
    rows' numbers. The separator is comma, semicolon or tab, whichever is most frequent in the first line, as
    spreadsheets use the one of their language settings.

    Raises:
        OSError: The file cannot be read.
        ValueError: The file is not a table, or not UTF-8.
    """
    columns, rows = numbered(file)
    return columns, [row for _, row in rows]


def numbered(file: Path) -> tuple[list[str], list[tuple[int, dict[str, str]]]]:
    """Return the same as `read`, each row with its number in the spreadsheet, which counts from 2."""
    columns, *lines = _lines(_text(file), strict=True) or [[]]
    columns = [name.strip().lower() for name in columns]
    rows = ((number, [*map(_read, line)]) for number, line in enumerate(lines, start=2))
    filled = ((n, [*row, *[""] * (len(columns) - len(row))]) for n, row in rows if any(cell.strip() for cell in row))
    return columns, [(number, dict(zip(columns, row, strict=False))) for number, row in filled]


def columns(file: Path) -> list[str]:
    """Return a table's columns; none if the file does not exist or is not a table."""
    try:
        with file.open(encoding="utf-8-sig", errors="replace", newline="") as stream:
            first = _lines(stream.readline(_LONGEST))
    except (OSError, ValueError):
        return []
    return [name.strip().lower() for name in first[0]] if first else []


def _put(stream: TextIO, columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> None:
    bare = csv.DictWriter(stream, columns, lineterminator="\n")
    quoted = csv.DictWriter(stream, columns, lineterminator="\n", quoting=csv.QUOTE_ALL)
    bare.writeheader()
    for row in rows:
        cells = {key: _written(value) for key, value in row.items()}
        # Python before 3.13 does not quote a lone carriage return, and reads it as the end of the line.
        (quoted if any("\r" in cell for cell in cells.values()) else bare).writerow(cells)


def _text(file: Path) -> str:
    content = file.read_bytes()
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise ValueError(f"line {line} is not UTF-8: save it as CSV UTF-8") from error


def _lines(text: str, strict: bool = False) -> list[list[str]]:
    stream = io.StringIO(text, newline="")
    first = stream.readline()
    stream.seek(0)
    table = csv.reader(stream, delimiter=max(",;\t", key=first.count), strict=strict)
    try:
        return list(table)
    except csv.Error as error:
        raise ValueError(f"line {table.line_num}: {error}") from error


def _written(value: Any) -> str:
    if value is None:
        return ""
    text = float.__repr__(value) if isinstance(value, float) else str(value)  # NumPy's repr of a float names its type
    if len(text) >= _LONGEST - 1:  # and an apostrophe
        raise ValueError(f"a cell of {len(text):,} characters")
    return f"'{text}" if _FORMULA.match(text) and not _NUMBER.fullmatch(text) else text


def _read(cell: str) -> str:
    return cell[1:] if cell.startswith("'") and _FORMULA.match(cell[1:]) else cell
