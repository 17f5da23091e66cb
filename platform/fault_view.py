"""How faults look in a terminal. Apart from how studies do: what refuses bad input waits for neither Ray nor torch."""

from rich.console import Console
from rich.text import Text

from platform.errors import InputError


def print_error(console: Console, error: InputError) -> None:
    """All faults at once, a line each."""
    count = len(error.faults)
    console.print(f"[red]Cannot start: {count} {'fault' if count == 1 else 'faults'}.[/]")
    for fault in error.faults:
        console.print(Text(f"  · {fault}"), soft_wrap=True)
