"""List of addresses, labels and boxes: CSV, TSV or JSON lines, read row by row, as often as needed.

A list may have a million rows, typed by anyone. A row that cannot be read is a `Row` with a fault, and does not affect
the others: after a quote that was never closed, the following lines are read as rows again.
"""

import csv
import json
import re
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, TextIO

from platform.curation.fetching import list_rows
from platform.curation.fetching.list_rows import ChosenColumns, Columns, Row, find, key
from platform.data import tables
from platform.errors import Fault, InputError, raise_if_any

_DELIMITERS = ",;\t"  # tried where the suffix does not tell
_LONGEST = 2**20  # characters of a first line
_TRIED = 100  # first lines of JSON, one of which must have an address
_TOLD = 20  # columns in a fault's message
_SHAPE = "a list must be CSV, TSV or JSON lines"


@dataclass(frozen=True)
class Listing:
    """Readable list."""

    file: Path
    encoding: str  # as of `open`
    errors: str
    delimiter: str | None  # between the fields of a row; None for JSON lines
    names: tuple[str, ...]  # its columns, as `list_rows.key` writes them
    chosen: ChosenColumns  # columns that the user named
    notes: tuple[str, ...] = ()  # messages about the encoding, for people

    @property
    def columns(self) -> Columns:
        """Meaning of its columns; for JSON lines, of the first object that has an address."""
        return find(self.names, self.chosen)

    def version(self) -> tuple[int, int]:
        """Return a value that changes with the file."""
        stat = self.file.stat()
        return stat.st_mtime_ns, stat.st_size

    def rows(self) -> Iterator[Row]:
        """Yield the rows in order; raise a UnicodeError if the file has another encoding."""
        with self.file.open(encoding=self.encoding, errors=self.errors, newline="") as stream:
            if self.delimiter is None:
                yield from _json_rows(stream, self.chosen)
            else:
                yield from _csv_rows(stream, self.delimiter, self.names, self.chosen)


def open_list(file: Path, chosen: ChosenColumns, encoding: str = tables.DETECT) -> Listing:
    """Detect delimiter, columns and, if it is "detect", encoding of a list.

    Raises:
        InputError: It cannot be read, or no column has addresses.
    """
    notes: tuple[str, ...] = ()
    errors = "strict"
    try:
        if encoding == tables.DETECT:
            encoding, notes, damaged = tables.detect(file.read_bytes(), file.name)
            if damaged:
                errors, first = "replace", damaged[0].where
                notes += (f"{len(damaged):,} lines have bytes that are not UTF-8, the first is {first}",)
        with file.open(encoding=encoding, errors=errors, newline="") as stream:
            delimiter, names = _shape(stream, file, chosen)
    except UnicodeError as error:
        raise wrong_encoding(file, encoding, error) from error
    except (OSError, LookupError) as error:
        raise InputError(Fault("the list must be readable", f"{file}: {error}", "Check it.")) from error
    raise_if_any(_column_faults(file, names, chosen))
    return Listing(file, encoding, errors, delimiter, names, chosen, notes)


def wrong_encoding(file: Path, encoding: str, error: UnicodeError) -> InputError:
    """Return the error for a list whose bytes do not fit the encoding."""
    rule, remedy = f"the list must be {encoding} throughout", "Save it as UTF-8, or give another --encoding."
    return InputError(Fault(rule, f"{file}: {error}", remedy))


def _shape(stream: TextIO, file: Path, chosen: ChosenColumns) -> tuple[str | None, tuple[str, ...]]:
    """Return the delimiter and the names of the columns; for JSON, of the first object that has an address."""
    first = stream.readline(_LONGEST)
    while first.isspace():
        first = stream.readline(_LONGEST)
    stream.seek(0)
    if first.lstrip("\ufeff \t").startswith("{"):
        records = (record for _, record in islice(_json_records(stream), _TRIED))
        objects = [tuple(record) for record in records if isinstance(record, dict)]
        with_address = (names for names in objects if find(names, chosen).url in names)
        return None, next(with_address, objects[0] if objects else ())
    if first.lstrip("\ufeff \t").startswith("["):
        remedy = f"Write an object a line: jq -c '.[]' {file.name} > {file.stem}.jsonl"
        raise InputError(Fault(_SHAPE, f"a JSON array in {file}", remedy))
    headers = {}
    for mark in tables.DELIMITERS.get(file.suffix.lower(), _DELIMITERS):
        fields = next(csv.reader([first.lstrip("\ufeff")], delimiter=mark), [])
        headers[mark] = tuple(map(key, fields))
    fitting = [mark for mark, names in headers.items() if find(names, chosen).url in names]
    mark = max(fitting or headers, key=lambda mark: len(headers[mark]))
    return mark, headers[mark]


def _column_faults(file: Path, names: Sequence[str], chosen: ChosenColumns) -> list[Fault]:
    found = f"{', '.join(names[:_TOLD]) or 'nothing'}{', …' if len(names) > _TOLD else ''} in {file}"
    named = {"--url-column": chosen.url, "--label-column": chosen.label, "--box-column": chosen.box}
    missing = {option: name for option, name in named.items() if name and name not in names}
    faults = [
        Fault(f"{option} must name a column of the list", f"{name}, not among {found}", "Name one of them.")
        for option, name in missing.items()
    ]
    if not chosen.url and find(tuple(names), chosen).url is None:
        remedy = "Name the column of addresses with --url-column; the first line must hold the columns' names."
        faults.append(Fault("a list must have a column of addresses, such as url", found, remedy))
    return faults


def _json_rows(stream: TextIO, chosen: ChosenColumns) -> Iterator[Row]:
    for line, record in _json_records(stream):
        if isinstance(record, dict):
            yield list_rows.read(line, record, find(tuple(record), chosen), chosen)
        else:
            yield Row(line, None, faults=(record,))


def _json_records(stream: TextIO) -> Iterator[tuple[int, dict[str, Any] | str]]:
    """Yield the number of each line that is not blank, with its object or the fault."""
    for number, text in enumerate(stream, start=1):
        if not text.strip():
            continue
        try:
            record = json.loads(text.lstrip("\ufeff"))
        except (ValueError, RecursionError) as error:
            yield number, f"not JSON: {error}"
            continue
        fields = {key(name): value for name, value in record.items()} if isinstance(record, dict) else None
        yield number, "not an object" if fields is None else fields


def _csv_rows(stream: TextIO, delimiter: str, names: Sequence[str], chosen: ChosenColumns) -> Iterator[Row]:
    columns = find(tuple(names), chosen)
    for line, fields in islice(_fields(stream, delimiter, len(names)), 1, None):
        if fields is None:
            yield Row(line, None, faults=(f"a field of more than {csv.field_size_limit():,} characters",))
        elif len(fields) > len(names):
            yield Row(line, None, faults=(f"{len(fields)} fields, the first line has {len(names)}",))
        else:
            fields += [""] * (len(names) - len(fields))
            record = dict(zip(reversed(names), reversed(fields), strict=True))  # of two equal names the first is used
            yield list_rows.read(line, record, columns, chosen)


class _Lines(Iterator[str]):
    """Iterator over lines that can return all but the first of the lines `taken`, to read them again."""

    def __init__(self, stream: TextIO) -> None:
        self.stream, self.ahead, self.taken = stream, deque[str](), list[str]()

    def __next__(self) -> str:
        self.taken.append(self.ahead.popleft() if self.ahead else next(self.stream))
        return self.taken[-1]

    def give_back(self) -> None:
        """Return the lines taken after the first."""
        self.ahead.extendleft(reversed(self.taken[1:]))
        del self.taken[1:]


def _fields(stream: TextIO, delimiter: str, width: int) -> Iterator[tuple[int, list[str] | None]]:
    """Yield (number of the first line, fields) of each row that is not blank, without empty fields beyond the width.

    The fields of a row that cannot be read are None.
    """
    lines = _Lines(stream)
    rows = csv.reader(lines, delimiter=delimiter, strict=True)
    number = 1
    while True:
        lines.taken.clear()
        fields = _next(rows, width)
        if fields is None and not lines.taken:
            return
        if fields is None or (len(lines.taken) > 1 and (len(fields) != width or _swallows(fields))):
            lines.give_back()
            fields = _alone(lines.taken[0], delimiter, width)
        if fields is None or any(field.strip() for field in fields):
            yield number, fields
        number += len(lines.taken)


def _swallows(fields: Sequence[str]) -> bool:
    """Return whether a field contains another row's address, as after a quote that was opened by mistake."""
    return any(re.search(r"[\r\n].*\bhttps?://", field, re.DOTALL | re.IGNORECASE) for field in fields)


def _alone(line: str, delimiter: str, width: int) -> list[str] | None:
    """Return the fields of a line with unbalanced quotes, in the reading closest to the expected width."""
    with_quotes = _next(csv.reader([line], delimiter=delimiter), width)
    without = _next(csv.reader([line], delimiter=delimiter, quoting=csv.QUOTE_NONE), width)
    readings = [fields for fields in (with_quotes, without) if fields is not None]
    return max(readings, key=lambda fields: len(fields) if len(fields) <= width else 0, default=None)


def _next(rows: Iterator[list[str]], width: int) -> list[str] | None:
    """Return the next row; None at the end, and where the quotes are wrong."""
    try:
        fields = next(rows, None)
    except csv.Error:
        return None
    while fields and len(fields) > width and not fields[-1].strip():
        fields.pop()
    return fields


@dataclass
class ListContent:
    """Content of a list, read once."""

    rows: int = 0
    urls: dict[str, None] = field(default_factory=dict)  # in the order of the list, each once
    splits: dict[str, str] = field(default_factory=dict)  # first split of each address that has one
    faults: int = 0  # parts of rows that could not be read
    first_fault: str = ""  # with its line


def scan(listing: Listing) -> ListContent:
    """Read a list once.

    Raises:
        InputError: It has no address, or another encoding.
    """
    found = ListContent()
    try:
        for row in listing.rows():
            found.rows += 1
            found.faults += len(row.faults)
            if row.faults and not found.first_fault:
                found.first_fault = f"line {row.line}: {row.faults[0]}"
            if row.url is not None:
                found.urls.setdefault(row.url)
                if row.split:
                    found.splits.setdefault(row.url, row.split)
    except UnicodeError as error:
        raise wrong_encoding(listing.file, listing.encoding, error) from error
    if not found.urls:
        remedy = f"The first that could not be read is {found.first_fault}." if found.faults else "Fill it."
        raise InputError(Fault("a list must have a row with an address", f"{found.rows:,} in {listing.file}", remedy))
    return found
