"""Signature and input example of a logged model, which MLflow shows to callers.

The input is one column: "image", the bytes of picture files, which are base64 in JSON; or "text". The output is an
object a row, as the task predicts it. The example is
synthetic, as a model may be published where the data must not be.
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

TYPES = {"image": DataType.binary, "text": DataType.string}  # of the column, whose name is the kind of input
SENTENCE = "A sentence to predict something about."


class NotRun:
    """mlflow.pyfunc as a flavor for `Model.log` that does not run the input example.

    Running it would load the model a second time. `Model.log` has an argument against that, but passes it on to
    mlflow.pyfunc, which does not accept it.
    """

    @staticmethod
    def save_model(validate_serving_input: bool, **options: Any) -> None:
        mlflow.pyfunc.save_model(**options)


def signature_of(name: str, kind: str, folder: Path) -> ModelSignature:
    """Return the signature of a task's model, from the kind of its input and the folder with its metadata."""
    answer: dict[str, Any] = task.load(name).answer(checkpoints.read_metadata(folder))
    if kind == "text":
        answer = {"text": SENTENCE, **answer}
    return ModelSignature(Schema([ColSpec(TYPES[kind], kind)]), infer_signature(None, [answer]).outputs)


def example_of(kind: str) -> pd.DataFrame:
    """Return an example input: a sentence, or an image of a bright square."""
    if kind == "text":
        return pd.DataFrame({kind: [SENTENCE]})
    pixels = np.zeros((64, 64, 3), np.uint8)
    pixels[16:48, 16:48] = 200
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return pd.DataFrame({kind: [file.getvalue()]})
