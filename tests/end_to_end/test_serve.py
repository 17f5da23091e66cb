"""A logged model of each task, served by MLflow over HTTP, with nothing but what its requirements install."""

import base64
import contextlib
import io
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import logged_models
import numpy as np
import pytest
import tiny_models
from PIL import Image

from platform import task

ROOT = Path(__file__).parents[2]
TASKS, _ = task.names()
IMAGE, TEXT = "classifier", "sentences"
CHAMPION = "classifier"  # served by its registered name


def picture() -> bytes:
    """Return a JPEG of a few thousand bytes."""
    pixels = np.random.default_rng(0).integers(0, 255, (12, 16, 3)).astype(np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).resize((160, 120)).save(file, "JPEG")
    return file.getvalue()


class Server:
    """MLflow's server of one model, in a process of its own."""

    def __init__(self, uri: str, tracking: str, requirements: Path, folder: Path) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self.address, self.log = f"http://127.0.0.1:{port}", folder / f"{port}.log"
        programs = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        environment = logged_models.environment_without_project() | {
            "MLFLOW_TRACKING_URI": tracking,
            "PYTHONPATH": str(folder / "hiding"),
            "REQUIREMENTS": str(requirements),
            "PATH": programs,
        }
        options = ["--env-manager", "local", "--host", "127.0.0.1", "--port", str(port)]
        self.process = subprocess.Popen(
            [sys.executable, "-m", "mlflow", "models", "serve", "-m", uri, *options],
            cwd=folder,
            env=environment,
            stdout=self.log.open("wb"),
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )

    def wait(self) -> None:
        while self.process.poll() is None:
            try:
                urllib.request.urlopen(f"{self.address}/ping", timeout=5)
                return
            except OSError:
                time.sleep(0.2)
        raise AssertionError(self.log.read_text())

    def ask(self, body: object, kind: str = "application/json") -> tuple[int, dict]:
        """Return the status and the answer of a request."""
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        request = urllib.request.Request(f"{self.address}/invocations", content, {"Content-Type": kind})
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return answer.status, json.load(answer)
        except urllib.error.HTTPError as error:
            return error.code, json.load(error)

    def stop(self) -> None:
        with contextlib.suppress(ProcessLookupError):  # it ended by itself, which wait() reports
            os.killpg(self.process.pid, signal.SIGTERM)
        self.process.wait(20)


@pytest.fixture(scope="module")
def models(tmp_path_factory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("models")
    return {name: tiny_models.save(name, root / name / "model") for name in TASKS}


@pytest.fixture(scope="module")
def servers(models, tmp_path_factory):
    """A server for each task's model, all started at once: each imports for seconds."""
    folder = tmp_path_factory.mktemp("served")
    (folder / "hiding").mkdir()
    shutil.copy(ROOT / "tests" / "only_required.py", folder / "hiding" / "sitecustomize.py")
    tracking, started = f"sqlite:///{folder}/mlflow.db", dict[str, Server]()
    try:
        for name, model in models.items():
            module = task.load(name)
            (folder / name).mkdir()
            there = logged_models.log(
                name, module.INPUT, model, tracking, folder / name, requirements=tuple(module.REQUIREMENTS)
            )
            uri = f"models:/{there.model.model_id}"
            if name == CHAMPION:
                there.client.create_registered_model("animals")
                version = there.client.create_model_version("animals", uri, model_id=there.model.model_id)
                there.client.set_registered_model_alias("animals", "champion", version.version)
                uri = "models:/animals@champion"
            requirements = Path(there.model.artifact_location.removeprefix("file://")) / "requirements.txt"
            started[name] = Server(uri, tracking, requirements, folder)
        for server in started.values():
            server.wait()
        yield started
    finally:
        for server in started.values():
            server.stop()


@pytest.mark.parametrize("name", TASKS)
def test_a_served_model_answers_as_the_model_itself(servers, models, name):
    module = task.load(name)
    model = module.load(models[name])
    if module.INPUT == "text":
        inputs = asked = ["A dull book.", "A wonderful train, and a murder on it."]
        wanted = [{"text": text, **answer} for text, answer in zip(inputs, module.predict(model, inputs), strict=True)]
    else:
        inputs = [Image.open(io.BytesIO(picture())).convert("RGB")] * 2
        asked, wanted = [base64.b64encode(picture()).decode()] * 2, list(module.predict(model, inputs))
    wanted = json.loads(json.dumps(wanted))
    column = module.INPUT
    for body in (
        {"inputs": {column: asked}},
        {"dataframe_split": {"columns": [column], "data": [[one] for one in asked]}},
        {"dataframe_records": [{column: one} for one in asked]},
    ):
        status, answer = servers[name].ask(body)
        assert status == 200, answer
        assert answer == {"predictions": wanted}


@pytest.mark.skipif(not (shutil.which("curl") and shutil.which("base64")), reason="no curl, or no base64")
def test_the_documented_command_is_answered(servers, tmp_path):
    documented = (ROOT / "platform" / "tracking" / "pyfunc_model.py").read_text().split('"""')[1]
    command = re.search(r"echo .*?invocations", documented, re.DOTALL).group()
    (tmp_path / "photo.jpg").write_bytes(picture())
    command = command.replace("http://127.0.0.1:5001", servers["classifier"].address)
    output = subprocess.run(["bash", "-c", command], cwd=tmp_path, capture_output=True, text=True, check=True).stdout
    [prediction] = json.loads(output)["predictions"]
    assert prediction.keys() == {"class", "probability", "probabilities"}
    assert prediction["class"] in tiny_models.CLASSES["classifier"]


@pytest.mark.parametrize("name", [IMAGE, TEXT])
def test_many_requests_at_a_time(servers, name):
    one = "A sentence." if task.load(name).INPUT == "text" else base64.b64encode(picture()).decode()
    body = {"inputs": {task.load(name).INPUT: [one]}}
    with ThreadPoolExecutor(8) as callers:
        answers = list(callers.map(lambda _: servers[name].ask(body), range(16)))
    assert answers == [answers[0]] * 16
    assert answers[0][0] == 200


NOT_ONE = base64.b64encode(b"not a picture").decode()


@pytest.mark.parametrize(
    ("name", "body", "kind", "message"),
    [
        (IMAGE, {"inputs": {"image": [NOT_ONE]}}, "json", "row 0: not a picture"),
        (IMAGE, {"dataframe_records": [{"image": NOT_ONE}]}, "json", "row 0: not a picture"),
        (IMAGE, {"dataframe_records": [{"image": None}]}, "json", "column image"),
        (IMAGE, {"inputs": {"path": ["/etc/passwd"]}}, "json", "missing inputs ['image']"),
        (IMAGE, {"inputs": {"image": [""] * 1_000_000}}, "json", "row 0: not a picture"),
        (IMAGE, {"dataframe_split": {"columns": ["image"], "data": [[[1, 2]]]}}, "json", "column image"),
        (IMAGE, b'{"inputs": {"ima', "json", "valid JSON"),
        (IMAGE, b"\xff\xfe", "json", "valid JSON"),
        (IMAGE, [1, 2], "json", "Received a list"),
        (IMAGE, b"image\n/etc/passwd", "csv", "row 0: not a picture"),
        (TEXT, {"inputs": {"text": [" "]}}, "json", "row 0: blank"),
        (TEXT, {"dataframe_records": [{"text": None}]}, "json", "text"),
        (TEXT, {"dataframe_records": [{"text": 1}]}, "json", "text"),
        (TEXT, {"inputs": {"text": [""] * 1_000_000}}, "json", "and 999,995 more rows"),
    ],
)
def test_a_wrong_request_gets_an_error_and_the_server_continues(servers, name, body, kind, message):
    status, answer = servers[name].ask(body, {"json": "application/json", "csv": "text/csv"}[kind])
    assert status == 400, answer
    assert message in answer["message"]
    good = base64.b64encode(picture()).decode() if name == IMAGE else "Still there?"
    assert servers[name].ask({"inputs": {task.load(name).INPUT: [good]}})[0] == 200
