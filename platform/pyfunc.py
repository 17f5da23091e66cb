"""What MLflow runs to load a logged model: the task's own `load` and `predict`, behind MLflow's interface.

This is a models-from-code script: MLflow ships it as text beside the weights and runs it again at load time, so a model
loads with pickle refused. It names no task: the folder's `model.json` does.
"""

import importlib
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import pandas as pd
from mlflow.models import set_model
from mlflow.pyfunc import PythonModel

import platform


def attach_shipped_package() -> None:
    """Makes `platform.<ours>` importable in a process that was not started from the project's root.

    There `platform` is the standard library's module, long imported, and knows nothing of the copy of our package that
    MLflow put on the path. Within the project the loaded package is ours already, and stays.
    """
    if hasattr(platform, "__path__"):
        return
    for entry in sys.path:
        folder = Path(entry) / "platform"
        if (folder / "errors.py").is_file():
            platform.__path__ = [str(folder)]  # type: ignore[attr-defined]
            return
    raise RuntimeError(
        "this model needs the code it was logged with, and no folder on the path holds platform/errors.py. "
        "Log it with code_paths, or load it from the project's root."
    )


class TaskModel(PythonModel):
    """A trained model of any task: `trainables.<task>` says how to load it and how to predict."""

    module: ModuleType
    model: Any

    def load_context(self, context: Any) -> None:
        """Loads the artifact folder "model" with the task that `model.json` names."""
        folder = Path(context.artifacts["model"])
        task = json.loads((folder / "model.json").read_text())["task"]
        if not task.isidentifier():
            raise ValueError(f"model.json must name a task that is a Python module; found {task!r}")
        attach_shipped_package()
        self.module = importlib.import_module(f"trainables.{task}")
        self.model = self.module.load(folder)

    def predict(
        self, context: Any, model_input: pd.DataFrame, params: dict[str, Any] | None = None
    ) -> list[dict[str, Any]]:
        """Predicts for pictures or sentences.

        Args:
            context: MLflow's; the model is loaded already.
            model_input: A DataFrame with a column "path" of pictures' paths, or, for a task whose input is text, with
                a column "text". A list of them works too; the annotation is the one of those MLflow accepts without a
                warning.
            params: Unused: a task's predictions have no knobs.

        Returns:
            One dictionary of plain Python values per input, in the order given.
        """
        return list(self.module.predict(self.model, inputs_of(model_input, self.module.INPUT)))


def inputs_of(model_input: pd.DataFrame | Sequence[Any], kind: str) -> list[Any]:
    """The inputs asked for, paths or sentences, from the two shapes that MLflow and people hand in."""
    column = "text" if kind == "text" else "path"
    if isinstance(model_input, pd.DataFrame):
        if column not in model_input.columns:
            raise ValueError(f'the input must have a column "{column}"; found {list(model_input.columns)}')
        model_input = list(model_input[column])
    if isinstance(model_input, str):
        raise TypeError(f"the input must be a list, not one string; found {model_input!r}")
    return [str(text) for text in model_input] if kind == "text" else [Path(path) for path in model_input]


set_model(TaskModel())
