"""manifest.jsonl: a line for every address of the list, written as soon as its outcome is known.

A torn last line, left by a killed process, is dropped. At the end the lines are put into the list's order, together
with the unreadable rows of the list.
"""

import json
import os
from collections.abc import Collection, Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, BinaryIO

from platform.curation.fetching.download import Outcome, Record
from platform.curation.fetching.image_store import is_name
from platform.curation.fetching.list_rows import Row
from platform.storage import atomic

NAME = "manifest.jsonl"
UNLISTED = "unlisted.jsonl"  # lines of addresses of earlier lists, used again if the addresses return


_DAMAGED = (ValueError, TypeError, KeyError, RecursionError)  # raised by what a line holds that we did not write


@dataclass(frozen=True, slots=True)
class KnownLine:
    """Part of a line that is kept in memory, as there may be a million lines."""

    outcome: Outcome
    start: int  # offset of the line in the file
    image: str | None  # as in `Record`, like the following
    width: int
    height: int


class Manifest:
    """Manifest of a folder, open for appending by one process at a time.

    Attributes:
        known: Last line of each address.
        damaged: Number of lines that could not be read; their addresses are asked again.
    """

    def __init__(self, root: Path, listed: Collection[str]) -> None:
        """Read the manifest's lines, and those of earlier lists for the addresses that are listed again."""
        self.known: dict[str, KnownLine] = {}
        self.damaged = 0
        self._root = root
        self._file = (root / NAME).open("a+b", buffering=0)
        whole = 0
        for line in _lines(root / NAME):
            self._learn(line, whole)
            whole += len(line)
        self._file.truncate(whole)
        for line in _lines(root / UNLISTED):
            if (url := _url(line)) in listed and url not in self.known:
                self._write(line)

    def add(self, record: Record) -> None:
        """Append a line, all of it or nothing; its image must have been written before."""
        self._write(_line(record))

    def forget(self, urls: Iterable[str]) -> None:
        """Remove addresses, so that they are asked again."""
        for url in urls:
            self.known.pop(url, None)

    def detail(self, url: str) -> str:
        """Return the detail of a known address."""
        with (self._root / NAME).open("rb") as lines:
            return json.loads(_line_at(lines, self.known[url].start))["detail"]

    def finish(self, rows: Iterable[Row]) -> int:
        """Put the lines into the order of the list, all of whose addresses must be known; nothing is written after it.

        Returns:
            Number of known addresses that the list does not have; their lines are moved to UNLISTED.
        """
        left = dict(self.known)
        with (
            atomic.new_file(self._root / NAME) as partial,
            partial.open("wb") as ordered,
            (self._root / NAME).open("rb") as lines,
        ):
            for row in rows:
                for fault in row.faults:
                    ordered.write(_line(Record(None, Outcome.UNREADABLE_ROW, f"line {row.line}: {fault}")))
                if row.url is not None and (known := left.pop(row.url, None)):
                    ordered.write(_line_at(lines, known.start))
            _keep_unlisted(self._root, (_line_at(lines, known.start) for known in left.values()))
            ordered.flush()
            os.fsync(ordered.fileno())  # it replaces lines that took hours to collect
        return len(left)

    def close(self) -> None:
        self._file.close()

    def _write(self, line: bytes) -> None:
        start = self._file.seek(0, os.SEEK_END)
        try:
            if (written := self._file.write(line)) < len(line):
                self._file.write(line[written:])  # a full disk writes a part, and raises at the next
        except OSError:
            self._file.truncate(start)
            raise
        self._learn(line, start)

    def _learn(self, line: bytes, start: int) -> None:
        try:
            record = json.loads(line)
            if record["url"] is not None:
                self.known[record["url"]] = _known(record, start)
        except _DAMAGED:
            self.damaged += 1


def _known(record: dict[str, Any], start: int) -> KnownLine:
    """Check a line, and return its part to be kept; raise an error if it was not written by `_line`."""
    outcome = Outcome(record["outcome"])
    if outcome is not Outcome.FETCHED:
        return KnownLine(outcome, start, None, 0, 0)
    if not is_name(record["image"]) or min(record["width"], record["height"]) < 1:
        raise ValueError("not an image name of the image store")
    return KnownLine(outcome, start, record["image"], int(record["width"]), int(record["height"]))


def _line(record: Record) -> bytes:
    return json.dumps(asdict(record), ensure_ascii=False).encode() + b"\n"


def _url(line: bytes) -> str | None:
    try:
        return json.loads(line)["url"]
    except _DAMAGED:
        return None


def _lines(file: Path) -> Iterator[bytes]:
    """Yield the complete lines of a file, none if it does not exist."""
    if not file.exists():
        return
    with file.open("rb") as stream:
        yield from (line for line in stream if line.endswith(b"\n"))


def _line_at(stream: BinaryIO, start: int) -> bytes:
    stream.seek(start)
    return stream.readline()


def _keep_unlisted(root: Path, lines: Iterator[bytes]) -> None:
    if (first := next(lines, None)) is not None:
        with (root / UNLISTED).open("ab") as stream:
            stream.writelines([first, *lines])
