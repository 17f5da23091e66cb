"""Ctrl-C and SIGTERM end a command with a message and its exit code, even if a library swallows them."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
COMMAND = """
import time
from platform.signals import run_and_exit
def main():
    print("begun", flush=True)
    time.sleep(60)
run_and_exit(main, "All is kept.")
"""


@pytest.fixture
def begun():
    """Start a command that handles Ctrl-C even if this process ignores it."""
    handle_ctrl_c = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)"
    command = [sys.executable, "-c", f"{handle_ctrl_c}\n{COMMAND}"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "begun\n"
        yield process
        process.kill()


def test_ctrl_c_ends_a_command_with_a_message(begun):
    begun.send_signal(signal.SIGINT)
    assert begun.communicate(timeout=30)[1] == "Interrupted. All is kept.\n"
    assert begun.returncode == 130


SWALLOWED = """
import signal, sys, time
signal.signal(signal.SIGINT, getattr(signal, sys.argv[1]))
from platform.signals import run_and_exit, raise_if_interrupted, stop_on_sigterm
class Slow:
    def __del__(self):
        print("begun", flush=True)
        time.sleep(60)
def main():
    stop_on_sigterm()
    Slow()
    raise_if_interrupted()
    return 0
run_and_exit(main, "All is kept.")
"""


@pytest.mark.parametrize(
    ("how", "before"), [(signal.SIGINT, "default_int_handler"), (signal.SIGTERM, "SIG_IGN")], ids=["Ctrl-C", "SIGTERM"]
)
def test_an_interrupt_in_a_destructor_is_not_lost(how, before):
    command = [sys.executable, "-c", SWALLOWED, before]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "begun\n"
        process.send_signal(how)
        assert process.communicate(timeout=30)[1] == "Interrupted. All is kept.\n"
    assert process.returncode == 130


TURNED = COMMAND.replace(
    "    time.sleep(60)\n",
    """    try:
        time.sleep(60)
    except KeyboardInterrupt:
        raise ValueError("a library's error") from None
""",
)


def test_an_error_that_a_library_raises_in_place_of_the_interrupt_counts_as_ctrl_c():
    handle_ctrl_c = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)"
    command = [sys.executable, "-c", f"{handle_ctrl_c}\n{TURNED}"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "begun\n"
        process.send_signal(signal.SIGINT)
        assert process.communicate(timeout=30)[1] == "Interrupted. All is kept.\n"
        assert process.returncode == 130


def test_an_error_without_ctrl_c_is_raised():
    failing = "from platform.signals import run_and_exit\ndef main(): raise ValueError('mine')\nrun_and_exit(main, '')"
    done = subprocess.run([sys.executable, "-c", failing], cwd=ROOT, capture_output=True, text=True, check=False)
    assert "ValueError: mine" in done.stderr
