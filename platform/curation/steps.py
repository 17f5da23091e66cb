"""What the steps leave in a data set's folder: marks of those that were stopped, and what is out of date."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from platform.data.detection import csv_boxes
from platform.errors import Fault

PAGE, SPLIT_FACTS = "dataset.html", "split.json"  # made of the tables: out of date with any of them


@contextlib.contextmanager
def under_way(root: Path, step: str) -> Iterator[None]:
    """Marks that a step is writing; the mark stays where it is stopped."""
    mark = _mark(root, step)
    mark.touch()
    yield
    mark.unlink(missing_ok=True)


def faults(root: Path, *steps: str) -> list[Fault]:
    """The steps before that were stopped: their tables may be of two runs, or of an earlier list."""
    return [
        Fault(f"{step} must have come to its end", f"it was stopped in {root}",
              f"Run it again, or remove {_mark(root, step)} to take what is there.")
        for step in steps
        if _mark(root, step).exists()
    ]  # fmt: skip


def writing_faults(*folders: Path) -> list[Fault]:
    """Where a step could not write its tables, before it works for nothing."""
    shut = [folder for folder in folders if not os.access(folder, os.W_OK | os.X_OK)]
    return [Fault("a step writes into the data set's folder", f"{each} is read-only", "Allow it.") for each in shut]


def remove_later(root: Path, table: str) -> tuple[str, ...]:
    """Removes what was made of a table that is another one now; returns the names."""
    later = (*csv_boxes.STEPS[csv_boxes.STEPS.index(table) + 1 :], SPLIT_FACTS, PAGE)
    there = tuple(name for name in later if (root / name).is_file())
    for name in there:
        (root / name).unlink()
    return there


def _mark(root: Path, step: str) -> Path:
    return root / f".{step}-unfinished"
