"""The command of a search on the toy task: run in a process of its own, or refused in this one."""

import subprocess
import sys
from pathlib import Path

import pytest

from platform.tune import main


def tune(project: Path, *arguments: str) -> subprocess.CompletedProcess:
    """Run the command on the toy task in a process of its own."""
    command = [sys.executable, "-m", "platform.tune", "toy", *arguments]
    return subprocess.run(command, cwd=project, capture_output=True, text=True, timeout=600, check=False)


def refused(capsys: pytest.CaptureFixture, *arguments: str) -> str:
    """Return the errors of a command that cannot start. It runs in this process: all imports take seconds."""
    assert main(list(arguments)) == 2
    return capsys.readouterr().err
