"""Copy of a study's folder in its bucket: event log, result, best model, figures. Another machine can continue it."""

import threading
import time
import uuid
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from platform.errors import Fault, InputError
from platform.storage import filesystem

INTERVAL_S = 5.0  # between two uploads of the growing files, and between two changes of the mark
SETTLE_S = 1.0  # between writing a mark and checking that no other machine replaced it
INTERVALS = 3  # a machine whose mark does not change for so many intervals has left the study
MARK = ".at-work"  # file in the bucket by which a machine claims a study


class StudyMirror:
    """Thread that uploads the growing files of a study, and tells other machines that this one works on it.

    Attributes:
        last_error: Reason why the latest file that could not be uploaded failed, "" if there is none.
        taken: Whether another machine works on the study now, because this one could not be reached for too long.
    """

    def __init__(self, folder: Path, place: str, growing: tuple[str, ...], left_out: tuple[str, ...]) -> None:
        """
        Args:
            folder: Folder of the study on this machine.
            place: Address of the study in the bucket.
            growing: Names of the files that are uploaded while the study runs.
            left_out: Names in the folder that are never uploaded.
        """
        self.folder, self.place, self.growing, self.left_out = folder, place, growing, left_out
        self.last_error, self.taken = "", False
        self._own_mark = b""
        self._uploaded: dict[str, tuple[int, int]] = {}  # size and time of each file when it was uploaded last
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="study-mirror", daemon=True)

    def start(self) -> bool:
        """Claim the study and start the thread.

        Return False if another machine works on the study: its mark changes while this one waits a few intervals.

        Raises:
            InputError: The bucket does not answer.
        """
        with filesystem.as_input_error("--storage must be reachable and writable"):
            found = self._read_mark()
            until = time.monotonic() + INTERVALS * INTERVAL_S
            while found is not None and time.monotonic() < until:
                time.sleep(SETTLE_S)
                if self._read_mark() != found:
                    return False
            self._write_mark()
            time.sleep(SETTLE_S)  # if two machines start at the same moment, the later mark stays
            if self._read_mark() != self._own_mark:
                return False
        self._thread.start()
        return True

    def upload_all(self) -> str:
        """End the thread, and upload all files that have changed since they were uploaded last.

        Return the reason why a file could not be uploaded, "" if all were.
        """
        self._end_thread()
        self.last_error = ""
        files = [path.relative_to(self.folder) for path in sorted(self.folder.rglob("*")) if path.is_file()]
        names = [file.as_posix() for file in files if file.parts[0] not in self.left_out]
        for name in sorted(names, key=lambda name: name in self.growing):  # the event log last
            self._upload(name)
        return self.last_error

    def stop(self) -> None:
        """End the thread, and give the study up, so that another machine may continue it."""
        self._end_thread()
        if not self.taken:
            for name in self.growing:
                self._upload(name)
            with suppress(OSError):
                filesystem.delete(f"{self.place}/{MARK}")

    def _end_thread(self) -> None:
        self._stopped.set()
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        while not self._stopped.wait(INTERVAL_S):
            try:
                if self._read_mark() not in (self._own_mark, None):
                    self.taken = True
                    return
                self._write_mark()
            except OSError as error:
                self.last_error = f"{MARK}: {error}"
            for name in self.growing:
                self._upload(name)

    def _write_mark(self) -> None:
        """Change the mark. Other machines notice the change itself, since the machines' clocks may differ."""
        self._own_mark = uuid.uuid4().hex.encode()
        filesystem.write(f"{self.place}/{MARK}", self._own_mark)

    def _read_mark(self) -> bytes | None:
        return filesystem.read(f"{self.place}/{MARK}")

    def _upload(self, name: str) -> None:
        """Upload a file if it exists and has changed; a failure is kept in `last_error`."""
        try:
            stat = (self.folder / name).stat()
            state = (stat.st_size, stat.st_mtime_ns)
            if self._uploaded.get(name) != state:
                filesystem.upload_file(self.folder / name, f"{self.place}/{name}")
                self._uploaded[name] = state
        except FileNotFoundError:
            pass
        except OSError as error:
            self.last_error = f"{name}: {error}"


def download(
    place: str,
    event_log: str,
    result: str,
    left_out: tuple[str, ...],
    is_wanted: Callable[[str], bool] = lambda name: True,
) -> None:
    """Download the studies of a bucket to this machine, without their checkpoints.

    A study is replaced if its event log here is shorter than the one in the bucket, and kept if it is longer.

    Args:
        place: Address of the folder of studies.
        event_log: Name of a study's event log.
        result: Name of the file that is written last of all.
        left_out: Names in a study that are not downloaded.
        is_wanted: Returns by a study's name whether it is downloaded.

    Raises:
        InputError: The bucket does not answer, or a study was continued both here and on another machine.
    """
    with filesystem.as_input_error("--storage must be reachable"):
        for name in filesystem.names(place):
            if not name.startswith(".") and is_wanted(name):
                _download_study(f"{place}/{name}", filesystem.local_folder(place) / name, event_log, result, left_out)


def _download_study(place: str, folder: Path, event_log: str, result: str, left_out: tuple[str, ...]) -> None:
    remote_log = filesystem.read(f"{place}/{event_log}")
    local_log = (folder / event_log).read_bytes() if (folder / event_log).exists() else b""
    if remote_log is None or (local_log.startswith(remote_log) and len(local_log) > len(remote_log)):
        return
    if not remote_log.startswith(local_log):
        rule = "a study must be continued on one machine at a time"
        remedy = f"Delete the copy that you do not want to continue: {folder}, or the one in the bucket."
        raise InputError(Fault(rule, f"two event logs of {place} that differ", remedy))
    names = [name for name in filesystem.names(place) if name not in (*left_out, MARK, event_log)]
    if local_log == remote_log and (result not in names or (folder / result).exists()):
        return
    # the result and then the event log last: they say that the rest is here
    for name in [*sorted(names, key=lambda name: name == result), event_log]:
        filesystem.download(f"{place}/{name}", folder / name)
