"""How far a step is: a bar on a terminal, else a line a minute."""

import contextlib
import time
from collections.abc import Callable, Iterator

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

_LINE_EVERY = 60.0  # seconds


@contextlib.contextmanager
def progress(console: Console, what: str, total: int) -> Iterator[Callable[[str], None]]:
    """Yields what moves it on by one, and is given what to say of those that are done, "" for nothing."""
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task(what, total=total)
        done, told = 0, time.monotonic()

        def advance(note: str = "") -> None:
            nonlocal done, told
            done += 1
            bar.update(task, advance=1, description=f"{what}{note}")
            if not console.is_terminal and time.monotonic() - told > _LINE_EVERY:
                told = time.monotonic()
                console.print(f"{what}{note}: {done:,} of {total:,}", markup=False)

        yield advance
