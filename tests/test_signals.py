"""Ctrl-C, as whoever types it sees it."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
COMMAND = """
import time
from platform.signals import end_with
def main():
    print("begun", flush=True)
    time.sleep(60)
end_with(main, "All is kept.")
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
