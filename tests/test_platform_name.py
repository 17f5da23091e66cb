"""`platform` is the standard library's module, wherever Python starts from the project's root."""

import importlib.util
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest
import ray

import platform

ROOT = Path(__file__).parent.parent
FUNCTIONS = ("uname", "system", "machine", "python_version", "platform", "node")


def answers(module) -> list[str]:
    return [str(getattr(module, name)()) for name in FUNCTIONS]


@pytest.fixture(scope="module")
def standard():
    path = Path(sysconfig.get_path("stdlib")) / "platform.py"
    spec = importlib.util.spec_from_file_location("standard_platform", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return answers(module)


def test_driver(standard):
    assert answers(platform) == standard


def test_child_process(standard):
    code = f"import platform, platform.errors; print([str(getattr(platform, n)()) for n in {FUNCTIONS!r}])"
    child = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert child.stdout.strip() == str(standard)


def test_worker(standard, ray_cluster):
    @ray.remote
    def ask():
        import platform
        import platform.errors

        return [str(getattr(platform, name)()) for name in FUNCTIONS]

    assert ray.get(ask.remote()) == standard
