"""State of the steps in a data set's folder: marks of unfinished ones, outdated files, progress on the console."""

import contextlib
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from platform.data.detection import csv_boxes
from platform.errors import Fault

PAGE, SPLIT_FACTS = "dataset.html", "split.json"  # made from the tables, and outdated with any of them


@contextlib.contextmanager
def under_way(root: Path, step: str) -> Iterator[None]:
    """Mark a step as unfinished; the mark remains if the step is interrupted."""
    mark = _mark(root, step)
    mark.touch()
    yield
    mark.unlink(missing_ok=True)


def faults(root: Path, *steps: str) -> list[Fault]:
    """Return a fault for each earlier step that was interrupted, as its tables may come from two runs."""
    return [
        Fault(f"{step} must have finished", f"it was stopped in {root}",
              f"Run it again, or remove {_mark(root, step)} to use its tables as they are.")
        for step in steps
        if _mark(root, step).exists()
    ]  # fmt: skip


def writing_faults(*folders: Path) -> list[Fault]:
    """Return a fault for each folder that is read-only, before a step works in vain."""
    shut = [folder for folder in folders if not os.access(folder, os.W_OK | os.X_OK)]
    return [Fault("the data set's folder must be writable", f"{each} is read-only", "Allow it.") for each in shut]


def remove_later(root: Path, table: str) -> tuple[str, ...]:
    """Remove the files that were made from a table that has changed; return their names."""
    later = (*csv_boxes.STEPS[csv_boxes.STEPS.index(table) + 1 :], SPLIT_FACTS, PAGE)
    there = tuple(name for name in later if (root / name).is_file())
    for name in there:
        (root / name).unlink()
    return there


def _mark(root: Path, step: str) -> Path:
    return root / f".{step}-unfinished"


_LINE_EVERY = 60.0  # seconds


@contextlib.contextmanager
def progress(console: Console, what: str, total: int) -> Iterator[Callable[[str], None]]:
    """Show a progress bar on a terminal, otherwise a line a minute.

    Yields:
        Function that advances it by one; its argument is a note on what is done, "" for none.
    """
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task(what, total=total)
        done, printed = 0, time.monotonic()

        def advance(note: str = "") -> None:
            nonlocal done, printed
            done += 1
            bar.update(task, advance=1, description=f"{what}{note}")
            if not console.is_terminal and time.monotonic() - printed > _LINE_EVERY:
                printed = time.monotonic()
                console.print(f"{what}{note}: {done:,} of {total:,}", markup=False)

        yield advance
