"""A stage that is trained once, ahead of the trials, and shared by all that ask for the same."""

import json
from collections.abc import Callable
from pathlib import Path

from filelock import FileLock

from platform.reporters import ToFolder

DONE = "done.json"


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
        reporter.checkpoints.forget()
        return False
