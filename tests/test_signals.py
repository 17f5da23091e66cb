"""Ctrl-C, as whoever types it sees it."""

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
    """A command at work, which hears Ctrl-C whatever this process does."""
    hears = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)"
    command = [sys.executable, "-c", f"{hears}\n{COMMAND}"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "begun\n"
        yield process
        process.kill()


def test_ctrl_c_ends_a_command_with_a_word(begun):
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
def test_what_is_swallowed_where_nothing_can_be_raised_is_heard_all_the_same(how, before):
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
        raise ValueError("what a library made of it") from None
""",
)


def test_another_error_that_a_library_makes_of_it_is_ctrl_c_all_the_same():
    hears = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)"
    command = [sys.executable, "-c", f"{hears}\n{TURNED}"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "begun\n"
        process.send_signal(signal.SIGINT)
        assert process.communicate(timeout=30)[1] == "Interrupted. All is kept.\n"
        assert process.returncode == 130


def test_an_error_of_its_own_stays_what_it_is():
    failing = "from platform.signals import run_and_exit\ndef main(): raise ValueError('mine')\nrun_and_exit(main, '')"
    done = subprocess.run([sys.executable, "-c", failing], cwd=ROOT, capture_output=True, text=True, check=False)
    assert "ValueError: mine" in done.stderr
