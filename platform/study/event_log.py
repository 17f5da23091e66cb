"""What happened in a study, a line for each event, so that a killed process takes nothing with it.

A line is a hash, a space and JSON. The hash is of the JSON and of the hash before it, so that a line which was altered,
lost or moved is noticed. A line is written in one piece before anything follows from it; the last may be torn if the
machine went down, and is then left out: what it told had not been acted upon.
"""

import json
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import xxhash

from platform.errors import Fault, InputError

# What a process has written survives the process at any time. A power failure may cost what was written within this
# time, or since the last event before; nothing that MLflow was told.
SYNC_S = 1.0


@dataclass(frozen=True)
class Event:
    """One thing that happened, complete in itself: told later, it says the same.

    Attributes:
        kind: What, e.g. "epoch".
        time_ms: When, in milliseconds since 1970.
        data: JSON.
    """

    kind: str
    time_ms: int
    data: dict[str, Any]


class EventLog:
    """The file, open for writing at its end.

    Attributes:
        events: All that it holds.
        torn: Whether an unfinished last line was left out.
    """

    def __init__(self, file: Path) -> None:
        """
        Raises:
            InputError: A line is not what was written.
        """
        self.events, self.torn = list[Event](), False
        self._hash, self._synced = "", time.monotonic()
        whole = 0
        if file.exists():
            text = file.read_bytes()
            self.events, self._hash, whole = _read(text, file)
            self.torn = whole < len(text)
        self._file = os.open(file, os.O_WRONLY | os.O_CREAT, 0o600)
        os.ftruncate(self._file, whole)
        os.lseek(self._file, whole, os.SEEK_SET)
        self._whole = whole

    def append(self, kind: str, data: dict[str, Any]) -> Event:
        """Writes an event.

        Raises:
            OSError: The disk did not take it; the file is as it was.
        """
        event = Event(kind, int(time.time() * 1000), data)
        text = json.dumps([event.kind, event.time_ms, event.data], ensure_ascii=False)
        mark = _mark(self._hash, text)
        line = f"{mark} {text}\n".encode()
        try:
            if (written := os.write(self._file, line)) < len(line):
                os.write(self._file, line[written:])  # a full disk takes a part, and raises at the next
        except OSError:
            os.ftruncate(self._file, self._whole)
            os.lseek(self._file, self._whole, os.SEEK_SET)
            raise
        self._whole += len(line)
        self._hash = mark
        self.events.append(event)
        if time.monotonic() - self._synced > SYNC_S:
            self.sync()
        return event

    def sync(self) -> None:
        """Waits until the disk holds all."""
        os.fsync(self._file)
        self._synced = time.monotonic()

    def close(self) -> None:
        """Ends the writing."""
        self.sync()
        os.close(self._file)


class ReadOnlyEventLog(EventLog):
    """An event log as it is now, which another process may be writing: read, never written."""

    def __init__(self, file: Path) -> None:
        """
        Raises:
            InputError: A line is not what was written, or there is no such file.
        """
        self.events, self.torn = read(file), False

    def append(self, kind: str, data: dict[str, Any]) -> Event:
        """
        Raises:
            TypeError: Always.
        """
        raise TypeError("this event log is only read")


def first(file: Path) -> Event | None:
    """The event that an event log begins with, None where that cannot be read."""
    try:
        with file.open("rb") as opened:
            return _read(opened.readline(), file)[0][0]
    except (OSError, IndexError, InputError):
        return None


def read(file: Path) -> list[Event]:
    """What an event log holds, without touching it.

    Raises:
        InputError: A line is not what was written, or there is no such file.
    """
    try:
        return _read(file.read_bytes(), file)[0]
    except OSError as error:
        raise InputError(Fault("a study needs its event log", f"{file}: {error.strerror}", "Start anew.")) from error


def _read(text: bytes, file: Path) -> tuple[list[Event], str, int]:
    """The events, the last hash, and the bytes of whole lines."""
    *lines, rest = text.split(b"\n")
    events, before = list[Event](), ""
    for number, line in enumerate(lines, start=1):
        mark, _, told = line.partition(b" ")
        if mark.decode("ascii", "replace") != (before := _mark(before, told.decode("utf-8", "replace"))):
            remedy = "Restore the file from a copy, or start a new study: going on would falsify what is known."
            raise InputError(Fault("a study's event log must be as it was written", f"{file}, line {number}", remedy))
        events.append(Event(*json.loads(told)))
    return events, before, len(text) - len(rest)


def _mark(before: str, text: str) -> str:
    """Against accidents, not against an attacker."""
    return xxhash.xxh3_64_hexdigest((before + text).encode())
