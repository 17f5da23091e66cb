"""Trials that share a GPU. Memory can only be measured on a GPU; everything else is tested here."""

from pathlib import Path

import pytest
from ray import tune
from ray.tune.search.sample import Domain

from platform import task
from platform.cluster import gpu_packing
from platform.cluster.ray_runtime import Resources
from platform.space import Space


@pytest.mark.parametrize(
    ("peak", "total", "cpus", "trials"),
    [
        (0.0, 80.0, 16, 8),
        (5.0, 80.0, 16, 8),
        (10.0, 80.0, 16, 6),
        (10.0, 80.0, 4, 4),
        (39.0, 80.0, 16, 1),
        (200.0, 80.0, 16, 1),
    ],
)
def test_as_many_as_have_room_and_a_core(peak, total, cpus, trials):
    assert gpu_packing.gpu_fraction(peak, total, cpus) == pytest.approx(1 / trials)
    resources = gpu_packing.pack(Resources(cpus, 1, cpus, 1.0, 1), peak, total)
    assert resources.concurrent == trials
    assert resources.faults() == []
    assert resources.cpus_per_trial * trials <= cpus


def test_the_hungriest_is_as_large_as_can_be_chosen():
    space = Space(
        params={
            "freeze_depth": tune.randint(0, 6),
            "batch_size": tune.choice([16, 64, 32]),
            "kind": tune.choice(["a", "b"]),
            "lr_head": tune.loguniform(1e-4, 1e-2),
            "width": 8,
        },
        metric="val/x", mode="max", max_epochs=3, grace_epochs=1, trials=2, depth=5,
        start={"freeze_depth": 5, "batch_size": 16, "kind": "a", "lr_head": 1e-3},
    )  # fmt: skip
    assert gpu_packing.largest_config(space) == {
        "freeze_depth": 0,
        "batch_size": 64,
        "kind": "a",
        "lr_head": 1e-3,
        "width": 8,
    }


@pytest.mark.parametrize("name", task.names()[0])
def test_the_hungriest_of_a_shipped_space_is_a_point_of_it(name):
    space = task.space(name)
    config = gpu_packing.largest_config(space)
    assert config.keys() == space.params.keys()
    assert not any(isinstance(value, Domain) for value in config.values())


def test_it_is_measured_in_a_worker_of_its_own(ray_cluster, tmp_path):
    module = task.load("autoencoder")
    space = task.space("autoencoder")
    data = module.prepare(space, module.read([], tmp_path, 0, space), tmp_path)
    peak, total = gpu_packing.measure(module, space, Path(data).resolve(), 0, Resources(2, 0, 1, 0.0, 2))
    assert (peak, total) == (0.0, 0.0), "there is no GPU here"
