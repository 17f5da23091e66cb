"""A stage that is trained once, ahead of the trials, and shared by all that ask for the same."""

import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from filelock import FileLock

from platform.reporters import ToFolder

DONE = "done.json"


def key_of(facts: Mapping[str, Any]) -> str:
    """A folder's name from everything that the stage depends on."""
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]


def once(folder: Path, train: Callable[[ToFolder], None]) -> bool:
    """Trains a stage into a folder, unless that was done; one trial does it, the others wait.

    What was begun and interrupted goes on from its last epoch. A trial that is killed gives the lock back.

    Args:
        folder: For this stage alone.
        train: Calls `fit` with the reporter that it is given.

    Returns:
        Whether it was there already.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{folder}.lock"):
        if (folder / DONE).exists():
            return True
        reporter = ToFolder(folder)
        train(reporter)
        (folder / DONE).write_text(json.dumps({"epochs": len(reporter.history())}))
        reporter.forget_checkpoints()
        return False
