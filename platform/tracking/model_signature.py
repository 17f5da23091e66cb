"""What a logged model takes and gives, as MLflow shows it to those who call it.

The input is one column: "image", the bytes of picture files, which are base64 in JSON; or "text". The output is an
object a row, as the task predicts it. The example is made up: a model may go where the data must not.
"""

import io
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
from mlflow.models import ModelSignature, infer_signature
from mlflow.types import ColSpec, DataType, Schema
from PIL import Image

from platform import task
from platform.storage import checkpoints

TYPES = {"image": DataType.binary, "text": DataType.string}  # of the column, which is called like the input
SENTENCE = "A sentence to be told something about."


class NotRun:
    """mlflow.pyfunc as `Model.log` takes it, for an example that is not run at once.

    That would be a second load of the model, only to check what our tests check. `Model.log` can be told so, but hands
    the word on to mlflow.pyfunc, which does not know it.
    """

    @staticmethod
    def save_model(validate_serving_input: bool, **options: Any) -> None:
        mlflow.pyfunc.save_model(**options)


def signature_of(name: str, kind: str, folder: Path) -> ModelSignature:
    """The signature of a task's model.

    Args:
        name: The task's.
        kind: What its input is, "image" or "text".
        folder: The model's, with its metadata.
    """
    answer: dict[str, Any] = task.load(name).answer(checkpoints.read_metadata(folder))
    if kind == "text":
        answer = {"text": SENTENCE, **answer}
    return ModelSignature(Schema([ColSpec(TYPES[kind], kind)]), infer_signature(None, [answer]).outputs)


def example_of(kind: str) -> pd.DataFrame:
    """An input: a sentence, or a picture of a bright square."""
    if kind == "text":
        return pd.DataFrame({kind: [SENTENCE]})
    pixels = np.zeros((64, 64, 3), np.uint8)
    pixels[16:48, 16:48] = 200
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return pd.DataFrame({kind: [file.getvalue()]})
