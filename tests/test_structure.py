"""The dependency rules of the house, read from the code."""

import ast
import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

from platform import task

ROOT = Path(__file__).parent.parent


def imports(path: Path, anywhere: bool = True) -> set[str]:
    tree = ast.parse(path.read_text())
    found = set()
    for node in ast.walk(tree) if anywhere else tree.body:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return found


@pytest.mark.parametrize("path", sorted((ROOT / "search_spaces").glob("[a-z]*.py")), ids=lambda p: p.name)
def test_a_space_imports_only_ray_tune_and_space(path):
    assert imports(path) <= {"ray", "ray.tune", "platform.space", "platform.space.Space"}


@pytest.mark.parametrize("path", sorted((ROOT / "trainables").glob("[a-z]*.py")), ids=lambda p: p.name)
def test_a_trainable_knows_neither_mlflow_nor_optuna_nor_another(path):
    forbidden = ("mlflow", "optuna", "trainables", "search_spaces")
    assert not {name for name in imports(path) if name.split(".")[0] in forbidden}


LAYERS = (  # from top to bottom: a package imports from layers below its own, never from its own or above
    {"tune", "predict", "report", "export", "demo", "embed", "dataset", "deliver", "down"},
    {"curation"},
    {"reporting", "runner"},
    {"serving", "search"},
    {"evaluation", "cluster"},
    {"training", "tracking"},
    {"models", "study"},
    {"data"},
    {"storage"},
    {"errors", "project", "signals", "space", "task"},
)


def ours(path: Path) -> set[str]:
    """The modules of platform/ that a file imports anywhere, as their paths from there, e.g. "study.request"."""
    found = set()
    for name in imports(path):
        parts = name.removeprefix("platform.").split(".") if name.startswith("platform.") else []
        while parts and not (ROOT / "platform" / "/".join(parts)).with_suffix(".py").exists():
            parts.pop()  # a name within a module
        if parts:
            found.add(".".join(parts))
    return found


def test_imports_go_down_the_layers():
    layer = {package: index for index, packages in enumerate(LAYERS) for package in packages}
    upward = []
    for path in (ROOT / "platform").rglob("*.py"):
        relative = path.relative_to(ROOT / "platform").with_suffix("")
        package = relative.parts[0]
        if package == "__init__":
            continue
        for name in ours(path):
            other = name.split(".")[0]
            if other != package and layer[other] <= layer[package] < len(LAYERS) - 1:
                upward.append(f"{relative} imports {name}")
    assert upward == []


def test_no_module_imports_itself_by_way_of_others():
    root = ROOT / "platform"
    graph = {".".join(path.relative_to(root).with_suffix("").parts): ours(path) for path in root.rglob("*.py")}
    graph["task"] -= {"space"}  # in functions only; space knows nothing of task
    TopologicalSorter(graph).prepare()  # raises CycleError, which names the circle


def test_an_init_file_imports_nothing():
    for path in (ROOT / "platform").rglob("__init__.py"):
        if path.parent.name != "platform":
            assert not imports(path), path
            assert ast.get_docstring(ast.parse(path.read_text())), path


def test_the_engine_names_no_task():
    known, _ = task.names()
    for path in (ROOT / "platform").rglob("*.py"):
        assert not {name for name in imports(path) if name.startswith(("trainables.", "search_spaces."))}, path
        text = [n.value for n in ast.walk(ast.parse(path.read_text())) if isinstance(n, ast.Constant)]
        assert not set(known) & {value for value in text if isinstance(value, str)}, path


def test_only_tracking_and_logged_models_import_mlflow():
    users = {p.name for p in (ROOT / "platform").rglob("*.py") if any(n.startswith("mlflow") for n in imports(p))}
    assert users == {
        "mlflow_recorder.py",
        "model_registry.py",
        "mlflow_store.py",
        "pyfunc_model.py",
        "model_signature.py",
        "saved_models.py",
    }


@pytest.mark.parametrize(
    "command", ["tune", "predict", "export", "report", "demo", "embed", "deliver", "down", "dataset"]
)
def test_help_imports_neither_torch_nor_ray(command):
    heavy = {"torch", "ray", "mlflow", "gradio"}
    code = f"import sys, platform.{command} as m; m.parser().format_help(); assert not {heavy!r} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


def test_a_logged_model_needs_neither_ray_nor_optuna_nor_mlflow():
    known, _ = task.names()
    imported = ", ".join(f"trainables.{name}" for name in known)
    code = f"import sys, {imported}; assert not {{'ray', 'optuna', 'mlflow', 'pandas'}} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


def test_every_task_has_both_files():
    known, unpaired = task.names()
    assert known
    assert unpaired == []
