"""A stage that is trained once, ahead of the trials, and shared by all that ask for the same."""

import json
import shutil
import uuid
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from filelock import FileLock

from platform.storage import filesystem
from platform.storage.manifest import DamagedError, seal
from platform.training.reporters import ToFolder

DONE, WHOLE = "done.json", "whole"  # the second tells which of those that nodes have sent is to be brought


def once(folder: Path, train: Callable[[ToFolder], None], origin: str = "") -> bool:
    """Trains a stage into a folder, unless that was done; one trial does it, the others wait.

    What was begun and interrupted goes on from its last epoch. A trial that is killed gives the lock back. Of a
    cluster, each node brings what another has trained; two that begin at a time both train it.

    Args:
        folder: For this stage alone.
        train: Calls `fit` with the reporter that it is given.
        origin: Where other nodes find it, "" where all see the folder.

    Returns:
        Whether it was there already.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{folder}.lock"):
        bring(folder, origin)
        if (folder / DONE).exists():
            return True
        reporter = ToFolder(folder)
        train(reporter)
        (folder / DONE).write_text(json.dumps({"epochs": len(reporter.history())}))
        reporter.checkpoints.forget()
        if origin and filesystem.read(f"{origin}/{WHOLE}") is None:
            seal(folder)
            own = uuid.uuid4().hex  # another node may send its own at the same time
            filesystem.send(folder, f"{origin}/{own}")
            filesystem.write(f"{origin}/{WHOLE}", own.encode())
        return False


def bring(folder: Path, origin: str) -> None:
    """Makes a folder hold what another node has trained, if one has; what is not as it was written is none.

    Raises:
        OSError: It cannot be reached.
    """
    if origin and not (folder / DONE).exists() and (own := filesystem.read(f"{origin}/{WHOLE}")) is not None:
        shutil.rmtree(folder, ignore_errors=True)
        with suppress(DamagedError):
            filesystem.bring_whole(f"{origin}/{own.decode()}", folder)
