"""Ctrl-C and SIGTERM end a command in the same way, even if a library swallows the exception that they raise."""

import contextlib
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from types import FrameType
from typing import NoReturn

from platform.errors import EXIT_INTERRUPTED

_interrupted = threading.Event()


def note_ctrl_c() -> None:
    """Record Ctrl-C besides raising KeyboardInterrupt, since some libraries swallow exceptions while imported."""

    def handle(number: int, frame: FrameType | None) -> None:
        _interrupted.set()
        raise KeyboardInterrupt

    _interrupted.clear()
    if sys.unraisablehook is sys.__unraisablehook__:
        sys.unraisablehook = _hide_interrupt
    in_main_thread = threading.current_thread() is threading.main_thread()
    # A shell's "&" makes a process ignore Ctrl-C, which stays so.
    if in_main_thread and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, handle)


def _hide_interrupt(error: "sys.UnraisableHookArgs") -> None:
    """Print exceptions that cannot be raised, for example in a destructor, except Ctrl-C, which is recorded already."""
    if not issubclass(error.exc_type, KeyboardInterrupt):
        sys.__unraisablehook__(error)


def raise_if_interrupted() -> None:
    """Raise the interrupt that a library swallowed, if there was one.

    Raises:
        KeyboardInterrupt: Ctrl-C or SIGTERM arrived since `note_ctrl_c`.
    """
    if _interrupted.is_set():
        raise KeyboardInterrupt


@contextlib.contextmanager
def interrupt_over_errors() -> Iterator[None]:
    """Replace an error that follows Ctrl-C, since some libraries turn the interrupt into an error of their own.

    Raises:
        KeyboardInterrupt: The block failed after Ctrl-C.
    """
    try:
        yield
    except Exception as error:
        if _interrupted.is_set():
            raise KeyboardInterrupt from error
        raise


def stop_on_sigterm() -> None:
    """Handle SIGTERM like Ctrl-C, even in a process that ignores Ctrl-C because a shell script started it with "&"."""

    def stop(number: int, frame: FrameType | None) -> None:
        on_ctrl_c = signal.getsignal(signal.SIGINT)
        if not callable(on_ctrl_c):
            _interrupted.set()
            raise KeyboardInterrupt
        on_ctrl_c(signal.SIGINT, frame)  # Python's handler, or Ray's while it runs trials

    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, stop)


def run_and_exit(main: Callable[[], int], interrupted: str) -> NoReturn:
    """Run a command and end the process with its exit code.

    Args:
        main: Returns the exit code.
        interrupted: Printed after Ctrl-C; says what was completed.
    """
    note_ctrl_c()
    try:
        with interrupt_over_errors():
            code = main()
    except KeyboardInterrupt:
        print(f"Interrupted. {interrupted}", file=sys.stderr)
        code = EXIT_INTERRUPTED
    sys.exit(code)
