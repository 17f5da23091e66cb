"""Fixtures that tests share: one thread for torch, a small Ray, a tiny detection data set, a toy project, a bucket."""

import os
import shutil
import signal
import sys
import uuid
from pathlib import Path

import pytest
from mlflow_stores import new_store

ROOT = Path(__file__).parent.parent
# The files that take longest start first, so that the processes of `pytest -n 2 --dist loadfile` end together.
LONG = (
    "ray_up", "kills", "jobs", "cluster_study", "first_ten_minutes", "ray_tune", "tune", "one_study", "report",
    "same_search", "delivery", "demo", "export", "serve",
)  # fmt: skip


def pytest_collection_modifyitems(items):
    order = {f"test_{name}": place for place, name in enumerate(LONG)}
    items.sort(key=lambda item: order.get(item.path.stem, len(LONG)))


@pytest.fixture(autouse=True, scope="session")
def _one_thread():
    # Two processes with two threads each on two cores run many times slower than with one thread each.
    os.environ["OMP_NUM_THREADS"] = "1"
    import torch

    torch.set_num_threads(1)


@pytest.fixture(autouse=True, scope="session")
def _handle_ctrl_c():
    # A shell's "&" makes a process and its children ignore Ctrl-C; some tests interrupt what they start.
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="module")
def ray_cluster(request):
    import ray

    # Workers import this project's packages and the test files whose functions they run.
    os.environ["PYTHONPATH"] = os.pathsep.join([str(ROOT), str(ROOT / "tests"), str(request.path.parent)])
    # "local": not the Ray of another process that runs tests at the same time.
    ray.init("local", num_cpus=2, include_dashboard=False, log_to_driver=False)
    yield
    ray.shutdown()


@pytest.fixture(scope="session")
def scenes_folder(tmp_path_factory) -> Path:
    """Write a few scenes of digits as a COCO data set, and return its folder."""
    from platform.data.embedded import scenes

    root = tmp_path_factory.mktemp("scenes") / "data"
    return scenes.write(root, seed=1, counts={"train": 24, "val": 8, "test": 8}, size=64)


def make_toy_project(folder: Path) -> Path:
    """Make this project with a fifth task, "toy", which trains a few numbers at once; --set pause=… makes it slower."""
    for name in ("platform", "trainables", "search_spaces"):
        (folder / name).mkdir()
        for file in (ROOT / name).glob("*"):
            (folder / name / file.name).symlink_to(file)
    shutil.copy(ROOT / "tests" / "toy_task" / "trainable.py", folder / "trainables" / "toy.py")
    shutil.copy(ROOT / "tests" / "toy_task" / "space.py", folder / "search_spaces" / "toy.py")
    new_store(folder / "mlflow.db")
    return folder


@pytest.fixture
def toy_project(tmp_path, monkeypatch) -> Path:
    """Make a toy project for one test."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "")  # MLflow sets it to the address that it was given last
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    return make_toy_project(tmp_path)


@pytest.fixture(scope="module")
def shared_toy_project(tmp_path_factory):
    """Make a toy project for all tests of a module."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", "")
        patch.delenv("MLFLOW_TRACKING_URI")
        yield make_toy_project(tmp_path_factory.mktemp("toy"))


@pytest.fixture(scope="module")
def known_toy_project(shared_toy_project):
    """Make the toy project of a module importable in this process as well."""
    import search_spaces
    import trainables

    with pytest.MonkeyPatch.context() as patch:
        for package in (trainables, search_spaces):
            patch.setattr(package, "__path__", [*package.__path__, str(shared_toy_project / package.__name__)])
        yield shared_toy_project
    for package in (trainables, search_spaces):  # other tests have other tasks of this name
        sys.modules.pop(f"{package.__name__}.toy", None)
        vars(package).pop("toy", None)


@pytest.fixture(scope="module")
def s3():
    """Run a bucket service on this machine, which later processes use."""
    import logging

    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
    server.start()
    with pytest.MonkeyPatch.context() as patch:
        for key, value in {
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_DEFAULT_REGION": "us-west-2",
            "AWS_REGION": "us-west-2",
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_ENDPOINT_URL": "http://{}:{}".format(*server.get_host_and_port()),
        }.items():
            patch.setenv(key, value)
        yield
    server.stop()


@pytest.fixture
def bucket(s3, monkeypatch, tmp_path) -> str:
    """Make a new bucket, and a new home for the local copies of its studies; return the bucket's address."""
    import boto3

    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    name = f"bucket-{uuid.uuid4().hex[:8]}"
    boto3.client("s3").create_bucket(Bucket=name, CreateBucketConfiguration={"LocationConstraint": "us-west-2"})
    return f"s3://{name}"


@pytest.fixture(scope="module")
def chromium():
    """Start a Chromium browser."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    found = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    with playwright.sync_playwright() as play:
        if found is None and not Path(play.chromium.executable_path).exists():
            pytest.skip("there is no Chromium on this machine")
        browser = play.chromium.launch(executable_path=found, args=["--no-sandbox"])
        yield browser
        browser.close()
