"""Tables as CSV files that people open in a spreadsheet, edit and hand back.

A spreadsheet runs a cell that begins with =, +, - or @ as a formula, and labels may come from anywhere. Such a text is
written with an apostrophe before it, as spreadsheets themselves mark texts, and read without.
"""

import csv
import io
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TextIO

from platform.storage import atomic

_FORMULA = re.compile(r"'*[=+\-@\t\r\n\uff1d\uff0b\uff0d\uff20]")  # the wide ones are East Asia's
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)
_LONGEST = 2**17  # characters of a cell: the csv module's own limit, which is the whole process's


def write(file: Path, columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> None:
    """Write a table, whole or not at all; what a row lacks, and None, are empty cells.

    Args:
        file: In an existing folder.
        columns: Their names, in order; a row has no others.
        rows: Their cells by column: texts and numbers. They are read back exactly, but for lone surrogates, which no
            file holds ("?"), and rows of blanks only.

    Raises:
        OSError: It cannot be written.
        ValueError: A cell is longer than what is read back.
    """
    with (
        atomic.new_file(file) as partial,
        partial.open("w", encoding="utf-8", errors="replace", newline="") as stream,
    ):
        _put(stream, columns, rows)


def text(columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> str:
    """What `write` puts into a file."""
    stream = io.StringIO(newline="")
    _put(stream, columns, rows)
    return stream.getvalue()


def read(file: Path) -> tuple[list[str], list[dict[str, str]]]:
    """A table's columns, and its rows as texts by column: short rows filled with "", further cells dropped.

    Rows of blanks are left out; `numbered` tells which row of the spreadsheet each is.

    Comma, semicolon or tab, whichever the first line has most of: spreadsheets save what their country is used to.

    Raises:
        OSError: The file cannot be read.
        ValueError: It is no table, or not UTF-8.
    """
    columns, rows = numbered(file)
    return columns, [row for _, row in rows]


def numbered(file: Path) -> tuple[list[str], list[tuple[int, dict[str, str]]]]:
    """The same as `read`, each row with its number as a spreadsheet counts, from 2."""
    columns, *lines = _lines(_text(file), strict=True) or [[]]
    columns = [name.strip().lower() for name in columns]
    rows = ((number, [*map(_read, line)]) for number, line in enumerate(lines, start=2))
    filled = ((n, [*row, *[""] * (len(columns) - len(row))]) for n, row in rows if any(cell.strip() for cell in row))
    return columns, [(number, dict(zip(columns, row, strict=False))) for number, row in filled]


def columns(file: Path) -> list[str]:
    """A table's columns; none if there is no such file, or it is no table."""
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
        # Python before 3.13 takes a lone carriage return for no reason to quote, and then for the end of the line.
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
