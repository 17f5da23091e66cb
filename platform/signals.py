"""Ctrl-C and SIGTERM, heard alike, and not lost in libraries."""

import signal
import threading
from types import FrameType

_heard = threading.Event()


def hear_ctrl_c() -> None:
    """Takes note of Ctrl-C besides raising it: some libraries swallow all that is raised while they are imported."""

    def hear(number: int, frame: FrameType | None) -> None:
        _heard.set()
        raise KeyboardInterrupt

    _heard.clear()
    ours = threading.current_thread() is threading.main_thread()
    if ours and signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # a shell's "&" makes deaf to it
        signal.signal(signal.SIGINT, hear)


def if_heard() -> None:
    if _heard.is_set():
        raise KeyboardInterrupt


def stop_on_sigterm() -> None:
    """What ends a process politely is heard as Ctrl-C is, also where a shell script made it deaf to that by "&"."""

    def stop(number: int, frame: FrameType | None) -> None:
        heard = signal.getsignal(signal.SIGINT)
        if not callable(heard):
            raise KeyboardInterrupt
        heard(signal.SIGINT, frame)  # Python's, or Ray's while it runs trials

    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, stop)
