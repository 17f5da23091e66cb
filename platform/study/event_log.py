"""Event log: the file that records everything that happens in a study, one event a line.

A line consists of a hash, a space and JSON. The hash covers the JSON and the previous line's hash, so that a line which
was altered, lost or moved is detected. A line is written in one piece before anything follows from it. If the machine
goes down, the last line may be incomplete; it is then dropped, because nothing has followed from it yet.

The first event holds the number of the log's format. Events of earlier formats are translated when they are read.

Kinds of events:
    study: The request, the first event of all.
    open: A process began to work on the study.
    confirm: The best configs and the plain baselines are to be trained again, over several seeds.
    trial: A config was proposed, or one is to be trained again.
    trial_start: An attempt at a trial began.
    report: A trial finished an epoch.
    attempt_failed: An attempt ended in an error, and another one follows. With "moved", the node was at fault.
    spent: The cost of the process's nodes so far.
    trial_end: A trial finished, was pruned or failed; or it was interrupted, to be continued later.
    best: The best trial with its test scores and files.
    close: A process ended its work on the study.
"""

import json
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import xxhash

from platform.errors import Fault, InputError

# Format 1, which has no number, says "epoch" for "report", "thaw" for "first_unfreeze" and "points" for a warm start's
# "configs", and uses former names of parameters.
FORMAT = 2
# A killed process loses nothing that it has written. A power failure can lose the events of the last second, but none
# that was sent to MLflow.
SYNC_S = 1.0


@dataclass(frozen=True)
class Event:
    """One thing that happened in a study. Its meaning depends on no other event.

    Attributes:
        kind: Kind of the event, e.g. "report", as listed above.
        time_ms: Time in milliseconds since 1970.
        data: JSON object.
    """

    kind: str
    time_ms: int
    data: dict[str, Any]


class EventLog:
    """Event log, open for appending.

    Attributes:
        events: All events of the file.
        torn: Whether an incomplete last line was dropped.
    """

    def __init__(self, file: Path) -> None:
        """
        Raises:
            InputError: A line is not as it was written.
        """
        self.events, self.torn = list[Event](), False
        self._hash, self._synced = "", time.monotonic()
        self._size = 0  # bytes of whole lines
        if file.exists():
            text = file.read_bytes()
            self.events, self._hash, self._size = _parse(text, file)
            self.torn = self._size < len(text)
        self._file = os.open(file, os.O_WRONLY | os.O_CREAT, 0o600)
        self._truncate()

    def append(self, kind: str, data: dict[str, Any]) -> Event:
        """Write an event and return it.

        Raises:
            OSError: The disk is full or failed. The file is unchanged.
        """
        if not self.events:
            data = {"format": FORMAT, **data}
        event = Event(kind, int(time.time() * 1000), data)
        text = json.dumps([event.kind, event.time_ms, event.data], ensure_ascii=False)
        line_hash = _hash(self._hash, text)
        line = f"{line_hash} {text}\n".encode()
        try:
            if (written := os.write(self._file, line)) < len(line):
                os.write(self._file, line[written:])  # a full disk takes a part, and raises at the next write
        except OSError:
            self._truncate()
            raise
        self._size += len(line)
        self._hash = line_hash
        self.events.append(event)
        if time.monotonic() - self._synced > SYNC_S:
            self.sync()
        return event

    def sync(self) -> None:
        """Wait until everything is on the disk."""
        os.fsync(self._file)
        self._synced = time.monotonic()

    def close(self) -> None:
        """Wait until everything is on the disk, and close the file."""
        self.sync()
        os.close(self._file)

    def _truncate(self) -> None:
        """Remove an incomplete last line."""
        os.ftruncate(self._file, self._size)
        os.lseek(self._file, self._size, os.SEEK_SET)


def first(file: Path) -> Event | None:
    """Return the first event of a log, None if it cannot be read."""
    try:
        with file.open("rb") as opened:
            return _parse(opened.readline(), file)[0][0]
    except (OSError, IndexError, InputError):
        return None


def read(file: Path) -> list[Event]:
    """Return the events of a log without changing the file.

    Raises:
        InputError: The file does not exist, or a line is not as it was written.
    """
    try:
        return _parse(file.read_bytes(), file)[0]
    except OSError as error:
        remedy = "Check the path, or start a new study."
        raise InputError(Fault("a study needs its event log", f"{file}: {error.strerror}", remedy)) from error


def is_current(event: Event) -> bool:
    """Return whether a log's first event says that this version of the format wrote the log."""
    return event.data.get("format", 1) == FORMAT


def _parse(text: bytes, file: Path) -> tuple[list[Event], str, int]:
    """Return the events, the hash of the last line, and the number of bytes of whole lines."""
    *lines, rest = text.split(b"\n")
    events, line_hash = list[Event](), ""
    for number, line in enumerate(lines, start=1):
        found, _, body = line.partition(b" ")
        if found.decode("ascii", "replace") != (line_hash := _hash(line_hash, body.decode("utf-8", "replace"))):
            remedy = "Restore the file from a copy, or start a new study: continuing would falsify the results."
            raise InputError(Fault("a study's event log must be as it was written", f"{file}, line {number}", remedy))
        events.append(Event(*json.loads(body)))
    if events and (newest := events[0].data.get("format", 1)) > FORMAT:
        rule = f"an event log's format must be {FORMAT} or lower"
        raise InputError(Fault(rule, f"{file}: {newest}", "Use the version of the platform that wrote it."))
    if events and not is_current(events[0]):
        events = [_translated(event) for event in events]
    return events, line_hash, len(text) - len(rest)


def _translated(event: Event) -> Event:
    """Translate an event from format 1."""
    from platform.space import current_names  # here, as a space imports Ray, which --help does without

    kind, data = event.kind, dict(event.data)
    if kind == "epoch":
        kind, data["first_unfreeze"] = "report", data.pop("thaw", None)
    elif kind == "trial":
        data["config"] = current_names(data["config"])
    elif kind == "study":
        data["space"] = current_names(data.get("space", {}))
        if warm_start := data.get("warm_start"):
            points = warm_start.pop("points")
            warm_start["configs"] = [{**point, "values": current_names(point["values"])} for point in points]
    return Event(kind, event.time_ms, data)


def _hash(previous: str, text: str) -> str:
    """Return the hash of a line. It protects against accidents, not against an attacker."""
    return xxhash.xxh3_64_hexdigest((previous + text).encode())
