"""Shared parts of the steps: marks of unfinished ones, tables and outdated files, headers of images, progress."""

import contextlib
import filecmp
import os
import time
from collections.abc import Callable, Collection, Iterable, Iterator
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from platform.data import images, sheets
from platform.data.arrays import in_threads
from platform.data.detection import csv_boxes
from platform.data.detection.annotations import Kind
from platform.data.files import place
from platform.data.findings import Repair
from platform.errors import Fault, InputError

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


def read_table(file: Path, columns: Collection[str], rule: str, remedy: str) -> list[dict[str, str]]:
    """Return the rows of a table that people may have edited.

    Raises:
        InputError: It cannot be read, or lacks one of the columns; with this rule and remedy.
    """
    try:
        there, rows = sheets.read(file)
    except (OSError, ValueError) as error:
        raise InputError(Fault(rule, f"{file}: {error}", remedy)) from error
    if missing := [column for column in columns if column not in there]:
        raise InputError(Fault(rule, f"no {', '.join(missing)} in {file}", remedy))
    return rows


def replace_table(fresh: Path, file: Path, before: Path | None = None) -> tuple[str, ...] | None:
    """Replace a table by a fresh one that differs, and remove the files that were made from it.

    Args:
        fresh: File on the same disk, which is gone afterwards.
        file: The table, which need not exist.
        before: File that the replaced table is kept in.

    Returns:
        Names of the removed files; None if the table is the same.
    """
    try:
        if file.is_file() and filecmp.cmp(fresh, file, shallow=False):
            return None
        if before and file.is_file():
            file.replace(before)
        removed = remove_later(file.parent, file.name)
        fresh.replace(file)
        return removed
    finally:
        fresh.unlink(missing_ok=True)


def remove_later(root: Path, table: str) -> tuple[str, ...]:
    """Remove the files that were made from a table that has changed; return their names."""
    later = (*csv_boxes.STEPS[csv_boxes.STEPS.index(table) + 1 :], SPLIT_FACTS, PAGE)
    there = tuple(name for name in later if (root / name).is_file())
    for name in there:
        (root / name).unlink()
    return there


def headers(root: Path, paths: Iterable[Path], repairs: list[Repair]) -> dict[Path, images.Header]:
    """Return the headers of the images that can be read; the others are added to `repairs`."""
    paths = list(dict.fromkeys(paths))
    found: dict[Path, images.Header] = {}
    for path, header in zip(paths, in_threads(_header, paths), strict=True):
        if isinstance(header, images.ImageFault):
            repairs.append(Repair(Kind.BROKEN_IMAGE, place(root, path, f"({header})")))
        else:
            found[path] = header
    return found


def _header(path: Path) -> images.Header | images.ImageFault:
    try:
        return images.header(path)
    except images.ImageFault as fault:
        return fault


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
