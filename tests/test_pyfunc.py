"""A logged model loads anywhere: in a fresh process, outside the project, with pickle refused."""

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import mlflow
import pytest

import platform
from platform.delivery import Delivery
from platform.facts import StudyFacts
from platform.journal import Event

ROOT = Path(__file__).parent.parent

TOY = '''
"""A task in nine lines: it predicts the length of a file's name, times a number it has learned."""
import json
from platform.errors import InputError

INPUT = "image"

def load(folder):
    return json.loads((folder / "weights.json").read_text())["times"]

def predict(model, paths):
    return [{"path": str(path), "score": model * len(path.name)} for path in paths]
'''

LOAD_AND_PREDICT = """
import json, sys
import mlflow.pyfunc, pandas
mlflow.set_tracking_uri(sys.argv[1])
model = mlflow.pyfunc.load_model(sys.argv[2])
frame = pandas.DataFrame({"path": ["/x/a.jpg", "/x/abc.jpg"]})
listed = [{"path": "/x/a.jpg"}, {"path": "/x/abc.jpg"}]
bare = model.unwrap_python_model().predict(None, ["/x/a.jpg", "/x/abc.jpg"])
import platform
print(json.dumps([model.predict(frame), model.predict(listed), bare, platform.system(), platform.__path__[0]]))
"""


@pytest.fixture(scope="module")
def logged(tmp_path_factory):
    """A study of one trial whose model was logged, with a task that exists nowhere but in what was shipped."""
    folder = tmp_path_factory.mktemp("logged")
    (folder / "trainables").mkdir()
    (folder / "trainables" / "__init__.py").touch()
    (folder / "trainables" / "toy.py").write_text(TOY)
    (folder / "model").mkdir()
    (folder / "model" / "model.json").write_text(json.dumps({"task": "toy"}))
    (folder / "model" / "weights.json").write_text(json.dumps({"times": 2}))
    uri = f"sqlite:///{folder}/mlflow.db"
    code_paths = (ROOT / "platform", folder / "trainables")
    facts = StudyFacts(uri, "toys", "study", "1234", "toy", "val/score", "max", 1, code_paths=code_paths)
    best = {"metrics": {"test/score": 0.5}, "model_dir": str(folder / "model"), "figures": {}, "files": [], "note": ""}
    events = [
        Event("open", 1, {}),
        Event("trial", 2, {"trial_id": "t1", "config": {"lr": 0.1}, "baseline": ""}),
        Event("trial_start", 3, {"trial_id": "t1"}),
        Event("best", 4, {"trial_id": "t1", **best}),
        Event("best", 5, {"trial_id": "t1", **best}),  # once more after a restart: one model all the same
    ]
    delivery = Delivery(facts, events, folder)
    delivery.start()
    assert delivery.close() == 0, delivery.last_error
    client = mlflow.MlflowClient(uri)
    experiment = client.get_experiment_by_name("toys")
    (model,) = client.search_logged_models([experiment.experiment_id])
    return SimpleNamespace(uri=uri, model=model, client=client, experiment=experiment)


def test_model_is_ready_and_belongs_to_the_best_run(logged):
    (child,) = logged.client.search_runs([logged.experiment.experiment_id], "tags.trial_id = 't1'")
    assert (logged.model.name, str(logged.model.status), logged.model.source_run_id) == (
        "model",
        "READY",
        child.info.run_id,
    )
    assert [output.model_id for output in child.outputs.model_outputs] == [logged.model.model_id]
    assert {metric.key: metric.value for metric in logged.model.metrics} == {"test/score": 0.5}
    assert logged.model.params == {"lr": "0.1"}


def test_requirements_are_pinned_and_short(logged):
    folder = Path(mlflow.artifacts.download_artifacts(f"models:/{logged.model.model_id}", tracking_uri=logged.uri))
    requirements = (folder / "requirements.txt").read_text().split()
    assert {line.split("==")[0] for line in requirements} == {
        "matplotlib",
        "mlflow",
        "numpy",
        "pillow",
        "safetensors",
        "torch",
        "torchvision",
    }
    assert not any("+" in line for line in requirements)
    assert not list(folder.rglob("__pycache__"))
    assert not list(folder.rglob("*.pkl"))


def test_model_loads_in_a_fresh_process_elsewhere(logged, tmp_path):
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    process = subprocess.run(
        [
            sys.executable,
            "-c",
            LOAD_AND_PREDICT,
            logged.uri,
            f"models:/{logged.model.model_id}",
        ],
        cwd=tmp_path,
        env=environment | {"MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false", "MLFLOW_LOGGING_LEVEL": "WARNING"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert (process.returncode, process.stderr) == (0, "")
    frame, listed, bare, system, package = json.loads(process.stdout)
    assert frame == [{"path": "/x/a.jpg", "score": 10}, {"path": "/x/abc.jpg", "score": 14}]
    assert listed == bare == frame
    assert system == platform.system(), "the standard library's functions are still there"
    assert not package.startswith(str(ROOT)), "the shipped copy is used, not the project's"
