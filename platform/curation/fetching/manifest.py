"""manifest.jsonl: a line for every address of the list, with its outcome, written as soon as that is known.

A process may be killed at any time: its last line may be torn, and is then dropped. In the end the lines are put in the
list's order, and with them what could not be read of the list.
"""

import json
import os
import tempfile
from collections.abc import Collection, Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, BinaryIO

from platform.curation.fetching.list_rows import Row
from platform.curation.fetching.outcomes import Outcome, Record
from platform.curation.fetching.pictures import is_name

NAME = "manifest.jsonl"
UNLISTED = "unlisted.jsonl"  # lines of addresses that an earlier list had; should they come back, they are known


@dataclass(frozen=True, slots=True)
class Known:
    """What is kept in memory of a line: there may be a million.

    Attributes:
        outcome: How it ended.
        start: Where the line begins in the file.
        image, width, height: As in `Record`.
    """

    outcome: Outcome
    start: int
    image: str | None
    width: int
    height: int


class Manifest:
    """The manifest of a folder, open for writing at its end; one process at a time.

    Attributes:
        known: By address, the last that was written of it.
        damaged: How many lines could not be read; what they told is asked again.
    """

    def __init__(self, root: Path, listed: Collection[str]) -> None:
        """
        Args:
            root: The folder.
            listed: The addresses of the list; what an earlier list had is only looked at for these.
        """
        self.known: dict[str, Known] = {}
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
        """Writes a line, after all that it tells of.

        Raises:
            OSError: The disk did not take it; it is as if it had not been written.
        """
        self._write(_line(record))

    def forget(self, urls: Iterable[str]) -> None:
        """What is known of these addresses holds no longer."""
        for url in urls:
            self.known.pop(url, None)

    def detail(self, url: str) -> str:
        """What the line of a known address says besides its outcome."""
        with (self._root / NAME).open("rb") as lines:
            return json.loads(_line_at(lines, self.known[url].start))["detail"]

    def finish(self, rows: Iterable[Row]) -> int:
        """Puts the lines in the order of a list all of whose addresses are known; nothing can be written after it.

        Returns:
            How many addresses are known that the list does not have: their lines are kept in UNLISTED.

        Raises:
            OSError: The disk has no room; the file is as it was.
        """
        handle, partial = tempfile.mkstemp(prefix=f".{NAME}.", dir=self._root)
        try:
            with os.fdopen(handle, "wb") as ordered, (self._root / NAME).open("rb") as lines:
                left = dict(self.known)
                for row in rows:
                    ordered.writelines(_line(_unreadable(row, fault)) for fault in row.faults)
                    if row.url is not None and (known := left.pop(row.url, None)):
                        ordered.write(_line_at(lines, known.start))
                _keep_unlisted(self._root, (_line_at(lines, known.start) for known in left.values()))
                ordered.flush()
                os.fsync(ordered.fileno())
            os.chmod(partial, 0o644)  # noqa: PTH101 (mkstemp gives a name)
            os.replace(partial, self._root / NAME)  # noqa: PTH105
        except BaseException:
            Path(partial).unlink(missing_ok=True)
            raise
        return len(left)

    def close(self) -> None:
        """Ends the writing; what was written is on the disk, or with the system."""
        self._file.close()

    def _write(self, line: bytes) -> None:
        start = self._file.seek(0, os.SEEK_END)
        try:
            if (written := self._file.write(line)) < len(line):
                self._file.write(line[written:])  # a full disk takes a part, and raises at the next
        except OSError:
            self._file.truncate(start)
            raise
        self._learn(line, start)

    def _learn(self, line: bytes, start: int) -> None:
        try:
            told = json.loads(line)
            if told["url"] is not None:
                self.known[told["url"]] = _known(told, start)
        except (ValueError, TypeError, KeyError, RecursionError):
            self.damaged += 1


def _known(told: dict[str, Any], start: int) -> Known:
    """
    Raises:
        ValueError, TypeError, KeyError: It is not what `_line` writes.
    """
    outcome = Outcome(told["outcome"])
    if outcome is not Outcome.FETCHED:
        return Known(outcome, start, None, 0, 0)
    if not is_name(told["image"]) or min(told["width"], told["height"]) < 1:
        raise ValueError("no image of ours")
    return Known(outcome, start, told["image"], int(told["width"]), int(told["height"]))


def _line(record: Record) -> bytes:
    return json.dumps(asdict(record), ensure_ascii=False).encode() + b"\n"


def _unreadable(row: Row, fault: str) -> Record:
    return Record(None, Outcome.UNREADABLE_ROW, f"line {row.line}: {fault}")


def _url(line: bytes) -> str | None:
    try:
        return json.loads(line)["url"]
    except (ValueError, TypeError, KeyError, RecursionError):
        return None


def _lines(file: Path) -> Iterator[bytes]:
    """The whole lines of a file that may not be there."""
    if not file.exists():
        return
    with file.open("rb") as stream:
        yield from (line for line in stream if line.endswith(b"\n"))


def _line_at(stream: BinaryIO, start: int) -> bytes:
    stream.seek(start)
    return stream.readline()


def _keep_unlisted(root: Path, lines: Iterator[bytes]) -> None:
    first = next(lines, None)
    if first is None:
        return
    with (root / UNLISTED).open("ab") as stream:
        stream.write(first)
        stream.writelines(lines)
