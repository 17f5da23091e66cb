"""Studies that a benchmark runs, each in its own process, and their scores as text."""

import json
import statistics
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent


def run(task: str, name: str, options: Sequence[str], folder: Path) -> dict[str, Any]:
    """Run a study by the shipped command and return the content of its --json file.

    Raises:
        SystemExit: The study failed; the message holds its output.
    """
    command = [sys.executable, "-m", "platform.tune", task, "--name", name, "--storage", str(folder), *options]
    command += ["--tracking-uri", f"sqlite:///{folder / name}.db", "--json", str(folder / f"{name}.json")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{name} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
    result = json.loads((folder / f"{name}.json").read_text())
    print(f"{name} done: {result['metric']} {result['best']['metrics'][result['metric']]:.3f}", file=sys.stderr)
    return result


def spread(values: Sequence[float], digits: int = 3) -> str:
    """Return a value as text, or the mean of several values with the lowest and highest."""
    if len(values) == 1:
        return f"{values[0]:.{digits}f}"
    return f"{statistics.mean(values):.{digits}f} ({min(values):.{digits}f}–{max(values):.{digits}f})"
