"""The copy of a study's folder in its bucket: event log, result, best model, pictures. A study outlives its machine."""

import threading
import time
import uuid
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from platform.errors import Fault, InputError
from platform.storage import filesystem

PACE_S = 5.0  # what the bucket lacks when the machine is lost
SETTLE_S = 1.0  # between a mark and the look whether it stays
TURNS = 3  # without a change of its mark, and a machine has left the study
MARK = ".at-work"


class BucketCopy:
    """The thread that sends the files that grow, and tells other machines that this one is at work.

    Attributes:
        last_error: Why the latest file that did not arrive did not, or "".
        taken: Whether another machine works on the study now: this one was out of sight for too long.
    """

    def __init__(self, folder: Path, place: str, growing: tuple[str, ...], left_out: tuple[str, ...]) -> None:
        """
        Args:
            folder: The study's, on this machine.
            place: Its address in the bucket.
            growing: Files that are sent all the time.
            left_out: Names in the folder that are never sent.
        """
        self.folder, self.place, self.growing, self.left_out = folder, place, growing, left_out
        self.last_error, self.taken = "", False
        self._own = b""
        self._sent: dict[str, tuple[int, int]] = {}  # size and time of what was sent last
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="bucket", daemon=True)

    def start(self) -> bool:
        """Begins, unless another machine works on the study: then its mark there changes within a few turns.

        Raises:
            InputError: The bucket does not answer.
        """
        with filesystem.told("--storage must be reached and written", "Check the address, and the credentials for it."):
            there = self._mark_there()
            until = time.monotonic() + TURNS * PACE_S
            while there is not None and time.monotonic() < until:
                time.sleep(SETTLE_S)
                if self._mark_there() != there:
                    return False
            self._mark()
            time.sleep(SETTLE_S)  # another one may begin at the same moment: the later mark stays
            if self._mark_there() != self._own:
                return False
        self._thread.start()
        return True

    def send_all(self) -> str:
        """Sends what has not been sent as it is now; the growing files are not sent any more after that.

        Returns:
            Why something did not arrive, "" if all did.
        """
        self._end()
        self.last_error = ""
        files = [path.relative_to(self.folder) for path in sorted(self.folder.rglob("*")) if path.is_file()]
        names = [file.as_posix() for file in files if file.parts[0] not in self.left_out]
        for name in sorted(names, key=lambda name: name in self.growing):  # the event log's last words come last
            self._send(name)
        return self.last_error

    def stop(self) -> None:
        """Ends the work on it: another machine may begin."""
        self._end()
        if not self.taken:
            for name in self.growing:
                self._send(name)
            with suppress(OSError):
                filesystem.delete(f"{self.place}/{MARK}")

    def _end(self) -> None:
        self._over.set()
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        while not self._over.wait(PACE_S):
            try:
                if self._mark_there() not in (self._own, None):
                    self.taken = True
                    return
                self._mark()
            except OSError as error:
                self.last_error = f"{MARK}: {error}"
            for name in self.growing:
                self._send(name)

    def _mark(self) -> None:
        """Tells other machines that this one is at work: by a change, for clocks differ."""
        self._own = uuid.uuid4().hex.encode()
        filesystem.write(f"{self.place}/{MARK}", self._own)

    def _mark_there(self) -> bytes | None:
        return filesystem.read(f"{self.place}/{MARK}")

    def _send(self, name: str) -> None:
        try:
            state = (self.folder / name).stat()
            mark = (state.st_size, state.st_mtime_ns)
            if self._sent.get(name) != mark:
                filesystem.send_file(self.folder / name, f"{self.place}/{name}")
                self._sent[name] = mark
        except FileNotFoundError:
            pass
        except OSError as error:
            self.last_error = f"{name}: {error}"


def bring(
    place: str,
    event_log: str,
    result: str,
    left_out: tuple[str, ...],
    only: Callable[[str], bool] = lambda name: True,
) -> None:
    """Brings the studies that a bucket holds to this machine, without their checkpoints.

    An event log that has less here than in the bucket is replaced; one that has more stays, and all of its study with
    it.

    Args:
        place: Address of the folder of studies.
        event log: The name of a study's event log.
        result: The name of the file that is written last of all.
        left_out: Names in a study that are not brought.
        only: Tells by its name whether a study is wanted.

    Raises:
        InputError: The bucket does not answer, or an event log went on here in another way than there.
    """
    with filesystem.told("--storage must answer", "Check the address, and the credentials for it."):
        for name in filesystem.names(place):
            if not name.startswith(".") and only(name):
                _bring(f"{place}/{name}", filesystem.here(place) / name, event_log, result, left_out)


def _bring(place: str, folder: Path, event_log: str, result: str, left_out: tuple[str, ...]) -> None:
    there = filesystem.read(f"{place}/{event_log}")
    here = (folder / event_log).read_bytes() if (folder / event_log).exists() else b""
    if there is None or (here.startswith(there) and len(here) > len(there)):
        return
    if not there.startswith(here):
        remedy = f"Delete the one that is not to be gone on with: {folder}, or the one in the bucket."
        rule = "a study must have gone on in one place"
        raise InputError(Fault(rule, f"two event logs of {place} that differ", remedy))
    names = [name for name in filesystem.names(place) if name not in (*left_out, MARK, event_log)]
    if here == there and (result not in names or (folder / result).exists()):
        return
    for name in [
        *sorted(names, key=lambda name: name == result),
        event_log,
    ]:  # the one that tells that all is here last
        filesystem.bring(f"{place}/{name}", folder / name)
