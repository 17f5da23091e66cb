"""Training of a stage ahead of the trials: once, for all trials that need the same."""

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

DONE, WHOLE = "done.json", "whole"  # WHOLE names the upload that other nodes download


def once(folder: Path, train: Callable[[ToFolder], None], origin: str = "") -> bool:
    """Train a stage into a folder unless that is done; one trial trains it, the others wait.

    An interrupted training continues after its last epoch. A killed trial releases the lock. In a cluster, a node
    downloads the stage that another node has trained; two nodes that start at the same time both train it.

    Args:
        folder: Folder for this stage alone.
        train: Function that calls `fit` with the given reporter.
        origin: Address from which other nodes download it, "" where all nodes see the folder.

    Returns:
        True if the stage was there already.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{folder}.lock"):
        bring(folder, origin)
        if (folder / DONE).exists():
            return True
        reporter = ToFolder(folder)
        train(reporter)
        (folder / DONE).write_text(json.dumps({"epochs": len(reporter.history())}))
        reporter.checkpoints.delete_all()
        if origin and filesystem.read(f"{origin}/{WHOLE}") is None:
            seal(folder)
            own = uuid.uuid4().hex  # another node may send its own at the same time
            filesystem.upload(folder, f"{origin}/{own}")
            filesystem.write(f"{origin}/{WHOLE}", own.encode())
        return False


def bring(folder: Path, origin: str) -> None:
    """Download the stage that another node has trained, if there is an intact one.

    Raises:
        OSError: The address cannot be reached.
    """
    if origin and not (folder / DONE).exists() and (own := filesystem.read(f"{origin}/{WHOLE}")) is not None:
        shutil.rmtree(folder, ignore_errors=True)
        with suppress(DamagedError):
            filesystem.download_verified(f"{origin}/{own.decode()}", folder)
