r"""MLflow python model of any task: its `load` and `predict` behind MLflow's pyfunc interface.

This is a models-from-code script: MLflow ships it as text beside the weights and runs it again at load time, so a model
loads without pickle. The task is named in the folder's `model.json`. To serve a model and to send a request:

    mlflow models serve -m models:/NAME@champion --env-manager local --host 127.0.0.1 --port 5001
    echo '{"inputs": {"image": ["'$(base64 -w0 photo.jpg)'"]}}' | curl -s -H 'Content-Type: application/json' -d @- \
        http://127.0.0.1:5001/invocations
"""

import base64
import importlib
import itertools
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import pandas as pd
from mlflow.exceptions import MlflowException
from mlflow.models import set_model
from mlflow.pyfunc import PythonModel

import platform

MAX_FAULTS = 5  # faults listed in an error


def attach_shipped_package() -> None:
    """Make this project's `platform` package importable in a process that was not started from the project's root.

    There `platform` is the standard library's module, and the copy of the package that MLflow put on the path has to be
    attached to it. In a process of the project the package is loaded already.
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
        """Load the artifact folder "model" with the task that `model.json` names."""
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
        """Predict for images or texts.

        Args:
            context: Unused; the model is loaded already.
            model_input: A DataFrame with a column "image" of the bytes of image files, or, for a task whose input is
                text, with a column "text". A list works too, but MLflow warns about that annotation.
            params: Unused; predictions have no parameters.

        Returns:
            One dictionary of plain Python values per input, in order; for a text it includes the text.

        Raises:
            MlflowException: The column is missing, or a row has another type, is empty or no image (HTTP 400).
        """
        rows = rows_of(model_input, self.module.INPUT)
        if self.module.INPUT == "text":
            predictions = self.module.predict(self.model, rows)
            return [{"text": text, **answer} for text, answer in zip(rows, predictions, strict=True)]
        # Imported here because the package may not be attached yet when this file is read.
        from platform.data.images import ImageFault
        from platform.data.prediction_inputs import decoded

        found: list[dict[str, Any]] = []
        for group in decoded(rows):
            faults = {len(found) + n: str(one) for n, (_, one) in enumerate(group) if isinstance(one, ImageFault)}
            refuse_if_any(faults, "picture")
            found += self.module.predict(self.model, [image for _, image in group])
        return found


def rows_of(model_input: pd.DataFrame | Sequence[Any], kind: str) -> list[Any]:
    """Return the inputs, bytes or texts, of a DataFrame or a list."""
    if isinstance(model_input, pd.DataFrame):
        if kind not in model_input.columns:
            found = [str(column) for column in model_input.columns]
            raise MlflowException.invalid_parameter_value(f'the input must have a column "{kind}"; found {found}')
        model_input = list(model_input[kind])
    if isinstance(model_input, str | bytes):
        raise MlflowException.invalid_parameter_value("the input must be a list of rows; found one value")
    wanted = str if kind == "text" else str | bytes | bytearray | memoryview
    rows = list(model_input)
    faults = {n: f"of type {type(row).__name__}" for n, row in enumerate(rows) if not isinstance(row, wanted)}
    refuse_if_any(faults, "text" if kind == "text" else "picture's bytes")
    if kind == "text":
        refuse_if_any({n: "blank" for n, row in enumerate(rows) if not row.strip()}, "text")
        return rows
    return [file_of(row) for row in rows]


def file_of(row: str | bytes | bytearray | memoryview) -> bytes:
    """Return a file's bytes. MLflow decodes base64 in some request formats (dataframe_split), not in others."""
    content = row.encode() if isinstance(row, str) else bytes(row)
    try:
        return base64.b64decode(content, validate=True)
    except ValueError:  # no image file consists of base64 characters only
        return content


def refuse_if_any(faults: Mapping[int, str], what: str) -> None:
    """Raise an MlflowException that lists the first faults by row number, if there is one."""
    if faults:
        listed = "; ".join(f"row {number}: {fault}" for number, fault in itertools.islice(faults.items(), MAX_FAULTS))
        more = f" and {len(faults) - MAX_FAULTS:,} more rows" if len(faults) > MAX_FAULTS else ""
        raise MlflowException.invalid_parameter_value(f"every row must be a {what}; found {listed}{more}")


set_model(TaskModel())
