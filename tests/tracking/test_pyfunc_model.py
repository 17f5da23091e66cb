"""A logged model loads anywhere: in a fresh process, outside the project, with pickle refused."""

import base64
import io
import json
import subprocess
import sys
from pathlib import Path

import logged_models
import mlflow
import numpy as np
import pandas as pd
import pytest
from faulty_server import huge_png
from mlflow_stores import new_store
from PIL import Image

import platform
import trainables

ROOT = Path(__file__).parents[2]

TOY = '''
"""A task in a few lines: it predicts the size of a picture, times a number it has learned."""
import json
from platform.errors import InputError

INPUT = "image"

def load(folder):
    return json.loads((folder / "weights.json").read_text())["times"]

def predict(model, inputs):
    return [{"size": [model * side for side in image.size], "grey": {"mean": 0.5}} for image in inputs]

def answer(metadata):
    return {"size": [1, 1], "grey": {"mean": 0.5}}
'''

LOAD_AND_PREDICT = """
import io, json, sys
import mlflow.pyfunc, pandas
from PIL import Image
def png(width):
    file = io.BytesIO()
    Image.new("RGB", (width, 2)).save(file, "PNG")
    return file.getvalue()
mlflow.set_tracking_uri(sys.argv[1])
model = mlflow.pyfunc.load_model(sys.argv[2])
frame = pandas.DataFrame({"image": [png(3), png(4)]})
listed = [{"image": png(3)}, {"image": png(4)}]
bare = model.unwrap_python_model().predict(None, [png(3), png(4)])
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
    uri = new_store(folder / "mlflow.db")
    with pytest.MonkeyPatch.context() as patch:
        patch.delitem(sys.modules, "trainables.toy", raising=False)  # of another test's project
        patch.setattr(trainables, "__path__", [str(folder / "trainables")])
        code_paths = (ROOT / "platform", folder / "trainables")
        there = logged_models.log("toy", "image", folder / "model", uri, folder, code_paths=code_paths)
        there.uri = uri
        yield there
    sys.modules.pop("trainables.toy", None)


@pytest.fixture(scope="module")
def model(logged):
    return mlflow.pyfunc.load_model(f"models:/{logged.model.model_id}")


def png(width: int = 3) -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.zeros((2, width, 3), np.uint8)).save(file, "PNG")
    return file.getvalue()


def test_model_is_ready_and_belongs_to_the_best_run(logged):
    child = logged.run
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
        "xxhash",
    }
    assert not any("+" in line for line in requirements)
    assert not list(folder.rglob("__pycache__"))
    assert not list(folder.rglob("*.pkl"))


def test_model_loads_in_a_fresh_process_elsewhere(logged, tmp_path):
    process = subprocess.run(
        [sys.executable, "-c", LOAD_AND_PREDICT, logged.uri, f"models:/{logged.model.model_id}"],
        cwd=tmp_path,
        env=logged_models.environment_without_project(),
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert (process.returncode, process.stderr) == (0, "")
    frame, listed, bare, system, package = json.loads(process.stdout)
    assert frame == [{"size": [6, 4], "grey": {"mean": 0.5}}, {"size": [8, 4], "grey": {"mean": 0.5}}]
    assert listed == bare == frame
    assert system == platform.system(), "the standard library's functions are still there"
    assert not package.startswith(str(ROOT)), "the shipped copy is used, not the project's"


def test_the_signature_tells_what_goes_in_and_comes_out_and_the_example_is_a_picture(model):
    signature = model.metadata.signature
    assert [(column.name, column.type.name) for column in signature.inputs] == [("image", "binary")]
    assert [column.name for column in signature.outputs] == ["size", "grey"]
    [[content]] = model.input_example.to_numpy()
    served = base64.decodebytes(content.encode()) if isinstance(content, str) else content
    assert Image.open(io.BytesIO(served)).size == (64, 64)
    assert model.predict(pd.DataFrame({"image": [served]})) == [{"size": [128, 128], "grey": {"mean": 0.5}}]


def test_base64_that_mlflow_left_as_it_is_is_decoded(model):
    bare = model.unwrap_python_model()
    encoded = base64.b64encode(png(5))
    assert bare.predict(None, [encoded, encoded.decode(), bytearray(png(5))]) == 3 * bare.predict(None, [png(5)])


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([png(), b"not a picture"], "row 1: not a picture in a known format"),
        ([b""], "row 0: not a picture"),
        (["/etc/passwd"], "row 0: not a picture"),
        ([png(), 5], "row 1: of type int"),
        ([None] * 100, "and 95 more rows"),
        (png(), "must be a list of rows"),
        (pd.DataFrame({"path": ["/etc/passwd"]}), "found ['path']"),
    ],
)
def test_what_is_no_picture_is_refused_by_its_row(model, rows, message):
    with pytest.raises(mlflow.MlflowException) as caught:
        model.unwrap_python_model().predict(None, rows)
    assert message in caught.value.message
    assert caught.value.get_http_status_code() == 400


def test_a_picture_that_would_fill_the_memory_is_refused(model, tmp_path):
    with pytest.raises(mlflow.MlflowException, match=r"row 0: .*pixels"):
        model.predict(pd.DataFrame({"image": [huge_png(20_000, 20_000)]}))


def test_no_rows_give_no_answers(model):
    assert model.unwrap_python_model().predict(None, []) == []
