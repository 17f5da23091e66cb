"""What tests share: one thread for torch, one small Ray, and a tiny detection data set."""

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@pytest.fixture(autouse=True, scope="session")
def _one_thread():
    # Two processes with two threads each on two cores run many times slower than with one.
    os.environ["OMP_NUM_THREADS"] = "1"
    import torch

    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def ray_cluster():
    import ray

    # Workers import our packages, and the test files whose functions they are sent.
    os.environ["PYTHONPATH"] = os.pathsep.join([str(ROOT), str(ROOT / "tests")])
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    yield
    ray.shutdown()


@pytest.fixture(scope="session")
def scenes_folder(tmp_path_factory) -> Path:
    """A few scenes of digits, as a COCO data set."""
    from platform.data import scenes

    root = tmp_path_factory.mktemp("scenes") / "data"
    return scenes.write(root, seed=1, counts={"train": 24, "val": 8, "test": 8}, size=64)
