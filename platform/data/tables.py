"""Reader of columns of CSV, TSV and Parquet files, with the line number of every value and a detected encoding.

The encoding is the one of the byte order mark, if there is one. Otherwise it is UTF-8 if all bytes are valid UTF-8 or,
where single lines are damaged, if most of the lines with non-ASCII bytes are. Otherwise charset-normalizer guesses, and
a note says so, as a guess can be wrong.
"""

import csv
import io
import math
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from charset_normalizer import from_bytes

from platform.data.files import unpacked_limit
from platform.data.findings import Repair
from platform.errors import Fault, InputError, raise_if_any

if TYPE_CHECKING:
    import pyarrow
    import pyarrow.parquet

DELIMITERS = {".csv": ",;\t", ".tsv": "\t", ".tab": "\t"}
PARQUET = (".parquet", ".pq")
SUFFIXES = (*DELIMITERS, *PARQUET)
DETECT = "detect"
MANY = 1000  # distinct values that are counted

_MARKS = {
    b"\xef\xbb\xbf": "utf-8-sig",
    b"\xff\xfe\x00\x00": "utf-32",
    b"\x00\x00\xfe\xff": "utf-32",
    b"\xff\xfe": "utf-16",
    b"\xfe\xff": "utf-16",
}
_WINDOWS = ("cp1252", "cp1251")  # by far the most frequent: chosen if hardly less likely than the best guess
_HARDLY_LESS = (0.02, 0.1)  # in charset-normalizer's measures of chaos and coherence, both from 0 to 1
_MAX_LINES = 5  # that a fault names
_BATCH = 1024  # rows of a Parquet file that are unpacked at a time
_ROW = 100  # bytes that a row takes at least as Python objects


@dataclass(frozen=True)
class Table:
    """Some columns of a file.

    Attributes:
        places: Place of each row: "line 7" for text, its first line if it has several; "row 6" in Parquet.
        columns: Values by the column's name, which is in lower case and stripped; None for an empty cell.
        others: Number of different values, at most MANY, of each other column of the file.
        notes: Decisions about the file, such as a guessed encoding.
        repairs: Repairs made in it.
    """

    places: Sequence[str]
    columns: dict[str, list[str | None]]
    others: dict[str, int]
    notes: tuple[str, ...] = ()
    repairs: tuple[Repair, ...] = ()


def read(file: Path, name: str, wanted: Collection[str], encoding: str = DETECT) -> Table:
    """Read a file with a line of column names.

    Args:
        file: A path that ends in one of SUFFIXES.
        name: Name of the file in messages.
        wanted: Columns to read if they exist, in lower case. The first one must exist.
        encoding: Encoding of CSV and TSV by Python's name, or "detect".

    Raises:
        InputError: With all the file's faults.
    """
    try:
        if file.suffix.lower() in PARQUET:
            return _read_parquet(file, name, list(wanted))
        data = file.read_bytes()
    except OSError as error:
        raise InputError(Fault("a data file must be readable", f"{name}: {error}", "Check it.")) from error
    notes, repairs = tuple[str, ...](), tuple[Repair, ...]()
    if encoding == DETECT:
        encoding, notes, repairs = detect(data, name)
    text = _decode(data, name, encoding, "replace" if repairs else "strict")
    if "\0" in text:
        line = text.count("\n", 0, text.index("\0")) + 1
        remedy = "Save it as UTF-8; give its encoding if it is UTF-16 without a mark."
        raise InputError(Fault("a text file must not have zero bytes", f"one in {name} line {line}", remedy))
    header, rows = _parse(text, name, DELIMITERS[file.suffix.lower()], next(iter(wanted)))
    columns: dict[str, list[str | None]] = {}
    others = {}
    for place, column in enumerate(header):
        if column in wanted:
            columns[column] = [row[place].strip() or None for _, row in rows]
        else:
            others[column] = min(MANY, len({row[place] for _, row in rows}))
    return Table([f"line {number}" for number, _ in rows], columns, others, notes, repairs)


def rows(text: str, name: str, delimiter: str = ",") -> list[tuple[int, list[str]]]:
    """Return the fields of each row of a text that is not blank, with the number of the row's first line.

    Raises:
        InputError: A row of the file of this name cannot be parsed.
    """
    found, line = [], 1
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    try:
        for fields in reader:
            if any(field.strip() for field in fields):
                found.append((line, fields))
            line = reader.line_num + 1
    except csv.Error as error:
        remedy = 'Put fields with separators, quotes or line breaks in double quotes, and double quotes in them: "".'
        at = f"the row that begins in {name} line {line}: {error}"
        raise InputError(Fault("every row must parse; its quotes must be closed", at, remedy)) from error
    return found


def detect(data: bytes, name: str) -> tuple[str, tuple[str, ...], tuple[Repair, ...]]:
    """Detect the encoding of a text in a file of this name.

    Returns:
        The encoding, notes about a guess, and the damaged lines, whose bad bytes are to be read as \ufffd.

    Raises:
        InputError: No encoding fits.
    """
    for mark, marked in _MARKS.items():
        if data.startswith(mark):
            return marked, (), ()
    try:
        data.decode("utf-8")
        return "utf-8", (), ()
    except UnicodeDecodeError:
        lines = [(n, line) for n, line in enumerate(data.split(b"\n"), start=1) if not line.isascii()]
    damaged = [number for number, line in lines if "\ufffd" in line.decode("utf-8", "replace")]
    if len(damaged) < len(lines) / 2:
        repairs = [Repair("bytes that are not UTF-8", f"{name} line {number}", "read as \ufffd") for number in damaged]
        return "utf-8", (), tuple(repairs)
    matches = from_bytes(b"\n".join(line for _, line in lines))  # ASCII lines are equal in all encodings
    best = matches.best()
    if best is None:
        rule, found = "the encoding of a text file must be known", f"no encoding that fits {name}"
        raise InputError(Fault(rule, found, "Save it as UTF-8, or give its encoding."))
    chaos, coherence = best.chaos + _HARDLY_LESS[0], best.coherence - _HARDLY_LESS[1]
    likely = [match for match in matches if match.chaos <= chaos and match.coherence >= coherence]
    possible = {name for match in likely for name in match.could_be_from_charset}
    guess = next((name for name in _WINDOWS if name in possible), best.encoding)
    note = f"{name} is not UTF-8 and was read as {guess}, which is a guess: give its encoding if letters look wrong"
    return guess, (note,), ()


def _decode(data: bytes, name: str, encoding: str, errors: str) -> str:
    try:
        return data.decode(encoding, errors)
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        found = f"{data[error.start : error.start + 4]!r} in {name} line {line}"
        raise InputError(Fault(f"a text file must be {encoding} throughout", found, "Give its encoding.")) from error
    except (LookupError, ValueError) as error:  # no such encoding, or none for text
        rule = f"the encoding must be {DETECT} or one that Python knows"
        raise InputError(Fault(rule, repr(encoding), "Try utf-8, cp1252, utf-16 …")) from error


def _parse(text: str, name: str, delimiters: str, needed: str) -> tuple[list[str], list[tuple[int, list[str]]]]:
    """Return the column names, and the other rows as `rows` does."""
    headers = {delimiter: _header(text, delimiter) for delimiter in delimiters}
    delimiter = next((d for d, header in headers.items() if needed in header), delimiters[0])
    header = headers[delimiter]
    raise_if_any(_header_faults(header, name, needed))
    content = rows(text, name, delimiter)[1:]
    odd = [str(number) for number, fields in content if len(fields) != len(header)]
    if odd:
        more = f" and {len(odd) - _MAX_LINES} more" if len(odd) > _MAX_LINES else ""
        rule = f"every row of {name} must have {len(header)} fields, as its first line"
        found = f"another number in line {', '.join(odd[:_MAX_LINES])}{more}"
        raise InputError(Fault(rule, found, "Put fields that contain the separator in double quotes."))
    return header, content


def _header(text: str, delimiter: str) -> list[str]:
    try:
        return column_names(next(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter), []))
    except csv.Error:
        return []


def column_names(columns: Sequence[str]) -> list[str]:
    """Return the names as they are looked up: in lower case, without blanks around them."""
    return [column.strip().lower() for column in columns]


def _header_faults(header: Sequence[str], name: str, needed: str) -> list[Fault]:
    if needed not in header:
        rule, found = f"a data file must have a column named {needed}", ", ".join(header[:10]) or "nothing"
        return [Fault(rule, f"{found} in {name}", "Write the columns' names in the first line.")]
    twice = sorted(column for column, times in Counter(header).items() if times > 1)
    rule, found = "the columns of a data file must have different names", f"{', '.join(twice[:10])} twice in {name}"
    return [Fault(rule, found, "Rename one.")] if twice else []


def _read_parquet(file: Path, name: str, wanted: Sequence[str]) -> Table:
    import pyarrow
    import pyarrow.parquet

    try:
        with pyarrow.parquet.ParquetFile(file) as opened:
            raise_if_any(_header_faults(column_names(opened.schema_arrow.names), name, wanted[0]))
            return _take_columns(_unpack(opened, name, unpacked_limit(file)), name, wanted)
    # pyarrow checks the content late: names and texts that are not UTF-8, impossible dates
    except (pyarrow.ArrowException, ValueError, OverflowError) as error:
        found = f"{name}: {next(iter(str(error).splitlines()), type(error).__name__)}"
        raise InputError(Fault("a Parquet file must be whole", found, "Write it again.")) from error


def _unpack(opened: "pyarrow.parquet.ParquetFile", name: str, most: int) -> "pyarrow.Table":
    """Return the whole table, read a few rows at a time: repeated values take no room in the file, but do in memory."""
    import pyarrow

    given = opened.schema_arrow
    kinds = [kind.value_type if pyarrow.types.is_dictionary(kind) else kind for kind in given.types]
    plain = pyarrow.schema(list(zip(given.names, kinds, strict=True)))
    parts, held = [], 0
    for part in opened.iter_batches(batch_size=_BATCH):
        parts.append(part.cast(plain))
        held += parts[-1].nbytes + _ROW * len(part)
        if held > most:
            rule, found = "a Parquet file must not hold many times its size", f"more than {most >> 20} MiB in {name}"
            raise InputError(Fault(rule, found, "Save the table as CSV if it is really this large."))
    return pyarrow.Table.from_batches(parts, plain)


def _take_columns(table: "pyarrow.Table", name: str, wanted: Sequence[str]) -> Table:
    from pyarrow import types

    faults, others = [], {}
    columns: dict[str, list[str | None]] = {}
    for column, values in zip(column_names(table.column_names), table.columns, strict=True):
        kind = values.type
        string = types.is_string(kind) or types.is_large_string(kind)
        if column not in wanted:
            others[column] = min(MANY, len(values.unique())) if not types.is_nested(kind) else MANY
        elif string or (column != wanted[0] and (types.is_primitive(kind))):
            columns[column] = [_string(value) for value in values.to_pylist()]
        else:
            rule = f"the column {column} must hold {'text' if column == wanted[0] else 'text or numbers'}"
            faults.append(Fault(rule, f"{kind} in {name}", "Convert it."))
    raise_if_any(faults)
    return Table([f"row {number}" for number in range(1, len(table) + 1)], columns, others)


def _string(value: Any) -> str | None:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return None
    return str(value).strip() or None
