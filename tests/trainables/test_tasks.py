"""Every shipped task has a valid space and can train a tiny trial; a new task consists of two files."""

import json
import shutil
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import pytest
from PIL import Image
from ray import tune
from ray.tune.search.sample import Domain

from platform import task
from platform.task import space_of
from platform.training.context import Context

ROOT = Path(__file__).parents[2]
TASKS, _ = task.names()

# What makes a trial of a task tiny; a task that is not named here runs as it is shipped.
TINY = {
    "detector": ["image_size=64", "channels=32"],
    "autoencoder": ["width=8", "pretrain_epochs=10"],
}


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.mark.parametrize("name", TASKS)
def test_a_shipped_space_is_sound(name):
    space, faults = space_of(task.load(name), name, [])
    assert faults == []
    assert space.params.keys() == task.space(name).params.keys()
    assert space.depth == task.space(name).depth, "the space is written for the backbone that it names"
    assert space.metric.startswith("val/")
    assert "freeze_depth" in space.searched
    assert space.baselines
    for config in space.baseline_configs().values():
        assert config.keys() == space.params.keys()
        assert not any(isinstance(value, Domain) for value in config.values())


@pytest.mark.parametrize("name", TASKS)
def test_one_tiny_trial_runs_through_ray_and_its_model_is_used(name, ray_cluster, cache, tmp_path):
    module = task.load(name)
    space, faults = space_of(module, name, TINY.get(name, []), max_epochs=1)
    dataset = module.read([], cache, 0, space)
    assert faults + module.check(space, dataset) == []
    assert {"train", "val", "test"} <= dataset.lines().keys()
    json.dumps(dataset.summary())
    data = module.prepare(space, dataset, cache)
    trial = {"trial": "001", "folder": str(tmp_path / "001")}
    context = Context(name, str(data.resolve()), 0, 1, space.metric, space.mode, **trial)
    tuner = tune.Tuner(
        module.train,
        param_space={**space.fixed, **space.start, "context": asdict(context)},
        run_config=tune.RunConfig(storage_path=str(tmp_path), verbose=0),
    )
    [result] = list(tuner.fit())
    assert result.error is None
    assert space.metric in result.metrics
    model = module.load(tmp_path / "001" / "epoch-1")
    inputs = ["A sentence."] if module.INPUT == "text" else [Image.new("RGB", (90, 60))]
    [prediction] = module.predict(model, inputs)
    metadata = json.loads((tmp_path / "001" / "epoch-1" / "model.json").read_text())
    assert list(prediction) == list(module.answer(metadata))
    evaluation = module.test(model, data)
    assert space.metric.replace("val/", "test/") in evaluation.metrics
    assert evaluation.figures
    (tmp_path / "weights").mkdir()
    module.write_weights(model, data, tmp_path / "weights")
    assert any((tmp_path / "weights").iterdir())
    for metrics in module.references(space, data).values():
        assert all(0 <= value <= 1 for value in metrics.values())


def test_a_fifth_task_is_two_files(toy_project):
    (toy_project / "search_spaces" / "toy.py").unlink()

    def ran(*arguments: str) -> str:
        command = [sys.executable, "-m", *arguments]
        done = subprocess.run(command, cwd=toy_project, capture_output=True, text=True, timeout=200, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    assert "trainables/toy.py needs a search_spaces/toy.py" in ran("platform.tune", "--list")
    shutil.copy(ROOT / "tests" / "toy_task" / "space.py", toy_project / "search_spaces" / "toy.py")
    listed = ran("platform.tune", "--list").splitlines()
    assert any(line.split()[:3] == ["toy", "val/error", "(min),"] for line in listed)
    assert {line.split()[0] for line in listed} == {*TASKS, "toy"}
