"""The first ten minutes of the README: each command as it is written there, with a smaller budget."""

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
SMALL = "--trials 2 --epochs 1 --confirm none --set image_size=64 --set channels=32"
SERVED = ("mlflow ui", "mlflow models serve", "platform.demo", "tensorboard")  # run until they are ended


def commands() -> list[str]:
    """Return the commands of the section."""
    text = (ROOT / "README.md").read_text()
    section = text[text.index("## The first ten minutes") :].split("\n## ")[0]
    return [line.strip().split("  # ")[0] for line in re.findall(r"^    .*$", section, re.MULTILINE)]


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """A clone of the project, as a new user has it."""
    folder = tmp_path_factory.mktemp("readme") / "clone"
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
        ["bash", "-c", command], cwd=place, env=environment(), capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@contextlib.contextmanager
def served(command: str, place: Path):
    """Run a command that serves until it is ended; yield its address and process."""
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
    """Return the answer of an address, as soon as there is one."""
    for _ in range(240):
        assert process.poll() is None, process.communicate()[0]
        asked = urllib.request.Request(address, data, {"Content-Type": "application/json"} if data else {})
        with contextlib.suppress(urllib.error.URLError, ConnectionError):
            return urllib.request.urlopen(asked, timeout=30).read().decode()
        time.sleep(0.5)
    raise AssertionError(f"{address} did not answer")


def test_each_command_of_the_section(place):
    lines = commands()
    first = next(line for line in lines if "platform.tune" in line)
    out = run(f"{first} {SMALL}", place)
    study = shlex.split(first)[shlex.split(first).index("--name") + 1]
    figures = {path.name for path in (place / "studies" / study / "figures").glob("*.png")}
    assert {"learning_curves.png", "precision_recall.png", "test_images.png"} <= figures

    plain = [
        line for line in lines if line != first and not any(each in line for each in SERVED) and "curl" not in line
    ]
    outputs = {line: run(line, place) for line in plain}
    report = next(line for line in outputs if "platform.report" in line)
    assert outputs[report].strip().endswith("report.html")
    assert (place / "studies" / study / "report.html").stat().st_size > 500_000
    predict = next(line for line in outputs if "platform.predict" in line)
    assert all("detections" in json.loads(line) for line in outputs[predict].splitlines())
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
        prediction = run(re.sub(r"http://127\.0\.0\.1:5001", address, request), place)
    assert "detections" in json.loads(prediction)["predictions"][0]
