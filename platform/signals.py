"""Ctrl-C and SIGTERM, heard alike, and not lost in libraries."""

import contextlib
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from types import FrameType
from typing import NoReturn

from platform.errors import EXIT_INTERRUPTED

_heard = threading.Event()


def hear_ctrl_c() -> None:
    """Takes note of Ctrl-C besides raising it: some libraries swallow all that is raised while they are imported."""

    def hear(number: int, frame: FrameType | None) -> None:
        _heard.set()
        raise KeyboardInterrupt

    _heard.clear()
    if sys.unraisablehook is sys.__unraisablehook__:
        sys.unraisablehook = _swallowed
    ours = threading.current_thread() is threading.main_thread()
    if ours and signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # a shell's "&" makes deaf to it
        signal.signal(signal.SIGINT, hear)


def _swallowed(error: "sys.UnraisableHookArgs") -> None:
    """Where nothing can be raised, in a destructor say, Ctrl-C is not lost but noted, and nothing is printed."""
    if not issubclass(error.exc_type, KeyboardInterrupt):
        sys.__unraisablehook__(error)


def if_heard() -> None:
    """
    Raises:
        KeyboardInterrupt: There was one, or a SIGTERM, since `hear_ctrl_c`, whatever became of it.
    """
    if _heard.is_set():
        raise KeyboardInterrupt


@contextlib.contextmanager
def as_ctrl_c() -> Iterator[None]:
    """What fails after Ctrl-C was heard failed of it: some libraries make another error of what is raised in them.

    Raises:
        KeyboardInterrupt: In place of that error.
    """
    try:
        yield
    except Exception as error:
        if _heard.is_set():
            raise KeyboardInterrupt from error
        raise


def stop_on_sigterm() -> None:
    """What ends a process politely is heard as Ctrl-C is, also where a shell script made it deaf to that by "&"."""

    def stop(number: int, frame: FrameType | None) -> None:
        heard = signal.getsignal(signal.SIGINT)
        if not callable(heard):
            _heard.set()
            raise KeyboardInterrupt
        heard(signal.SIGINT, frame)  # Python's, or Ray's while it runs trials

    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, stop)


def end_with(main: Callable[[], int], interrupted: str) -> NoReturn:
    """A command, and the end of its process.

    Args:
        main: Returns the exit code.
        interrupted: What is told at Ctrl-C: how far it came, for the user to judge.
    """
    hear_ctrl_c()
    try:
        with as_ctrl_c():
            code = main()
    except KeyboardInterrupt:
        print(f"Interrupted. {interrupted}", file=sys.stderr)
        code = EXIT_INTERRUPTED
    sys.exit(code)
