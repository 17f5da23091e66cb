"""Faults of the user's input: the rule that was broken, the value found and the remedy; and exit codes of commands."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

# Exit codes besides 0: only a part of the work was done; the command could not start; it was interrupted.
EXIT_INCOMPLETE, EXIT_BAD_INPUT, EXIT_INTERRUPTED = 1, 2, 130


@dataclass(frozen=True)
class Fault:
    """One thing wrong with what the user gave.

    Attributes:
        rule: What must hold, e.g. "freeze_depth must lie in 0..5".
        value: What was found instead, e.g. "9".
        remedy: What to do about it, e.g. "Use --set freeze_depth=0..5.".
    """

    rule: str
    value: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.rule}; found {self.value}. {self.remedy}"


class InputError(Exception):
    """One or more faults in what the user gave, found before any work starts. The command line exits with code 2."""

    def __init__(self, *faults: Fault) -> None:
        super().__init__(*faults)
        self.faults = faults

    def __str__(self) -> str:
        return "\n".join(str(fault) for fault in self.faults)


def print_error(console: "Console", error: InputError) -> int:
    """Print all faults of an error at once, a line each, and return the exit code."""
    from rich.text import Text

    count = len(error.faults)
    console.print(f"[red]Cannot start: {count} {'fault' if count == 1 else 'faults'}.[/]")
    for fault in error.faults:
        console.print(Text(f"  · {fault}"), soft_wrap=True)
    return EXIT_BAD_INPUT


def raise_if_any(faults: Iterable[Fault]) -> None:
    """Raise all faults as one error.

    Raises:
        InputError: There is a fault.
    """
    if found := tuple(faults):
        raise InputError(*found)


@contextmanager
def collecting(faults: list[Fault]) -> Iterator[None]:
    """Add the faults of an error in the block to the list, so that all are reported at once."""
    try:
        yield
    except InputError as error:
        faults += error.faults


def last_line(error: object, otherwise: str = "no reason was given") -> str:
    """Return the last line of an error's or a traceback's text, which says what went wrong.

    Args:
        error: The exception, or the text.
        otherwise: Returned for an empty text.
    """
    return (str(error).strip().splitlines() or [otherwise])[-1]


def file_faults(option: str, place: str) -> list[Fault]:
    """Return the faults of an option that names a file to write: its folder must exist."""
    if Path(place).is_dir() or not Path(place).resolve().parent.is_dir():
        return [Fault(f"{option} must name a file in an existing folder", place, "Create the folder first.")]
    return []


def folder_faults(option: str, place: str) -> list[Fault]:
    """Return the faults of an option that names a folder to write files into, which need not exist yet."""
    there = next((path for path in (Path(place), *Path(place).parents) if path.exists()), None)
    if there and not there.is_dir():
        return [Fault(f"{option} must name a folder", f"the file {there}", "Choose another folder.")]
    return []


def first_line(error: BaseException) -> str:
    """Return an exception's type and the first line of its message."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
