"""README's first ten minutes, each command as it stands there, but for a smaller budget."""

import contextlib
import json
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SMALL = "--trials 2 --epochs 1 --confirm 1x2 --set image_size=64 --set channels=32"
SERVED = ("mlflow ui", "mlflow models serve", "platform.demo", "tensorboard")  # run until they are ended


def commands() -> list[str]:
    """The lines of the walk."""
    text = (ROOT / "README.md").read_text()
    walk = text[text.index("## The first ten minutes") :].split("\n## ")[0]
    return [line.strip().split("  # ")[0] for line in re.findall(r"^    .*$", walk, re.MULTILINE)]


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """A clone, as a stranger has it."""
    folder = tmp_path_factory.mktemp("walk") / "clone"
    folder.mkdir()
    for name in ("platform", "trainables", "search_spaces", "starters"):
        (folder / name).symlink_to(ROOT / name)
    return folder


def environment() -> dict[str, str]:
    programs = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    kept = {key: value for key, value in os.environ.items() if not key.startswith("MLFLOW_TRACKING")}
    return kept | {"PATH": programs, "OMP_NUM_THREADS": "1"}


def run(command: str, place: Path) -> str:
    done = subprocess.run(
        ["bash", "-c", command], cwd=place, env=environment(), capture_output=True, text=True, timeout=280
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@contextlib.contextmanager
def served(command: str, place: Path):
    """A command that answers at an address until it is ended; the address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = re.sub(r" --port \d+", "", command) + f" --port {port}"
    process = subprocess.Popen(
        ["bash", "-c", f"exec {command}" if "=" not in command.split()[0] else command], cwd=place, env=environment(),
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True,
    )  # fmt: skip
    try:
        yield f"http://127.0.0.1:{port}", process
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(20)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)


def answer(address: str, process: subprocess.Popen, data: bytes | None = None) -> str:
    """What is answered, once something is."""
    for _ in range(240):
        assert process.poll() is None, process.communicate()[0]
        asked = urllib.request.Request(address, data, {"Content-Type": "application/json"} if data else {})
        with contextlib.suppress(urllib.error.URLError, ConnectionError):
            return urllib.request.urlopen(asked, timeout=30).read().decode()
        time.sleep(0.5)
    raise AssertionError(f"{address} did not answer")


def test_the_walk(place):
    lines = commands()
    first = next(line for line in lines if "platform.tune" in line)
    out = run(f"{first} {SMALL}", place)
    study = shlex.split(first)[shlex.split(first).index("--name") + 1]
    assert "Trained again over seeds, scored on the test split" in out

    plain = [
        line for line in lines if line != first and not any(each in line for each in SERVED) and "curl" not in line
    ]
    told = {line: run(line, place) for line in plain}
    report = next(line for line in told if "platform.report" in line)
    assert told[report].strip().endswith("report.html")
    assert (place / "studies" / study / "report.html").stat().st_size > 500_000
    predict = next(line for line in told if "platform.predict" in line)
    assert all("detections" in json.loads(line) for line in told[predict].splitlines())
    assert list((place / "predictions").glob("*.png"))

    page = next(line for line in lines if "mlflow ui" in line)
    with served(page, place) as (address, process):
        assert "MLflow" in answer(address, process)
    show = next(line for line in lines if "platform.demo" in line)
    with served(show, place) as (address, process):
        assert "gradio" in answer(address, process)
    curves = next(line for line in lines if "tensorboard" in line)
    with served(curves, place) as (address, process):
        assert "val/map" in answer(f"{address}/data/plugin/scalars/tags", process)

    serve = next(line.strip() for line in out.splitlines() if "mlflow models serve" in line)
    assert any("mlflow models serve" in line for line in lines)
    request = next(line for line in lines if "curl" in line)
    with served(serve, place) as (address, process):
        answer(f"{address}/ping", process)
        said = run(re.sub(r"http://127\.0\.0\.1:5001", address, request), place)
    assert "detections" in json.loads(said)["predictions"][0]
