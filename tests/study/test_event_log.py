"""Recorded events survive whatever happens to the process, and damage is always detected."""

import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from platform.errors import InputError
from platform.study.event_log import EventLog, first, read

ROOT = Path(__file__).parents[2]


def written(file: Path, count: int = 5) -> list:
    event_log = EventLog(file)
    for number in range(count):
        event_log.append("report", {"number": number, "name": "Кока\n-Кола", "score": 0.1 + 0.2, "bad": float("inf")})
    event_log.close()
    return event_log.events


def test_a_log_is_read_and_continued(tmp_path):
    events = written(tmp_path / "j")
    event_log = EventLog(tmp_path / "j")
    assert event_log.events == events == read(tmp_path / "j")
    assert not event_log.torn
    event_log.append("close", {})
    event_log.close()
    assert [event.kind for event in read(tmp_path / "j")] == ["report"] * 5 + ["close"]
    assert first(tmp_path / "j") == events[0]
    assert first(tmp_path / "none") is None


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_damage_is_detected(tmp_path_factory, data):
    """A truncated file keeps the whole lines; an altered byte, or a line lost or moved, is refused."""
    file = tmp_path_factory.mktemp("event log") / "j"
    events = written(file, 4)
    whole = file.read_bytes()
    how = data.draw(st.sampled_from(["truncated", "altered", "lost", "moved"]))
    lines = whole.splitlines(keepends=True)
    if how == "truncated":
        length = data.draw(st.integers(0, len(whole)))
        file.write_bytes(whole[:length])
        event_log = EventLog(file)
        assert event_log.events == events[: whole[:length].count(b"\n")]
        assert event_log.torn == (whole[:length] != b"".join(lines[: len(event_log.events)]))
        event_log.append("more", {})
        assert read(file) == event_log.events
        return
    if how == "altered":
        at = data.draw(st.integers(0, len(whole) - 2))  # not the very last byte: without it the line is torn
        changed = bytes([whole[at] ^ data.draw(st.integers(1, 255))])
        file.write_bytes(whole[:at] + changed + whole[at + 1 :])
    elif how == "lost":
        del lines[data.draw(st.integers(0, 2))]
        file.write_bytes(b"".join(lines))
    else:
        at = data.draw(st.integers(0, 2))
        lines[at], lines[at + 1] = lines[at + 1], lines[at]
        file.write_bytes(b"".join(lines))
    with pytest.raises(InputError, match="as it was written"):
        read(file)


def test_a_killed_process_leaves_all_that_it_has_written(tmp_path):
    code = (
        "import sys; from pathlib import Path; from platform.study.event_log import EventLog\n"
        "log = EventLog(Path(sys.argv[1]))\n"
        "for number in range(10**9): log.append('epoch', {'n': number}); print(number, flush=True)"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path / "j")], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout
    process.stdout.readline()
    time.sleep(0.2)
    process.send_signal(signal.SIGKILL)
    printed = 1 + len(process.stdout.read().splitlines())
    event_log = EventLog(tmp_path / "j")
    assert printed <= len(event_log.events) <= printed + 1
    assert [event.data["n"] for event in event_log.events] == list(range(len(event_log.events)))


def test_an_event_that_the_disk_does_not_take_has_not_happened(tmp_path):
    code = (
        "import sys, resource; from pathlib import Path; from platform.study.event_log import EventLog, read\n"
        "file = Path(sys.argv[1]); log = EventLog(file); log.append('first', {})\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (file.stat().st_size + 100, resource.RLIM_INFINITY))\n"
        "import signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "try: log.append('large', {'text': 'x' * 1000})\n"
        "except OSError as error: print(type(error).__name__)\n"
        "log.append('small', {}); print([event.kind for event in read(file)])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "j")], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines() == ["OSError", "['first', 'small']"]
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] == resource.RLIM_INFINITY, "the limit was the child's"
