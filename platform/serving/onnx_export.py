"""Export of a model to an ONNX file that holds the model's metadata, and comparison of the file with the model.

The metadata is JSON under the key "metadata" of the file's `custom_metadata_map`. The same text is also written under
"card", the key's old name, because programs that users wrote earlier read that one.
"""

import itertools
import json
import logging
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import onnx
import onnxruntime
import torch
from torch import Tensor, nn

from platform.task import Graph

BATCHES = (1, 2, 7)  # batch sizes that are compared; all further batches have the last size
METADATA, OLD_METADATA = "metadata", "card"  # keys in the ONNX file: today's, and the old name of the same
DATA = ".data"  # suffix of a separate file of weights
TOLERANCE = 1e-4  # largest difference, relative to the value, or absolute if the value is below 1
LEAST_AGREEING = 0.9  # share of the examples that must agree if the model selects boxes
Differences = dict[str, list[tuple[int, float]]]
_ONE_FILE = 1_800_000_000  # bytes of weights in one file; the format's limit is 2 GiB


def write(graph: Graph, metadata: Mapping[str, Any], examples: Sequence[Any], file: Path) -> None:
    """Write the graph and its metadata to an ONNX file, and the graph's folders beside it, named after the file."""
    for name in ("torch.onnx", "onnxscript", "onnx_ir"):
        logging.getLogger(name).setLevel(logging.ERROR)
    whole = _whole(graph)
    tensors = tuple(graph.tensors(examples[:2] if _has_batches(graph) else examples[:1]).values())
    names: dict[str, Any] = {"input_names": list(graph.inputs), "output_names": list(graph.outputs)}
    with torch.inference_mode(False), torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about deprecation, constants in the traced code, …
        if graph.traced:
            axes = {name: dims for name, dims in {**graph.inputs, **graph.outputs}.items() if dims}
            torch.onnx.export(whole, tensors, str(file), dynamo=False, dynamic_axes=axes, **names)
        else:
            shapes = [{n: torch.export.Dim(name) for n, name in dims.items()} for dims in graph.inputs.values()]
            program = torch.onnx.export(
                whole, tensors, dynamo=True, dynamic_shapes=(tuple(shapes),), verbose=False, **names
            )
            assert program is not None
            bytes_of_weights = sum(value.nbytes for value in whole.state_dict().values())
            program.save(str(file), external_data=bytes_of_weights > _ONE_FILE)
    exported = onnx.load(str(file), load_external_data=False)
    text = json.dumps(metadata, ensure_ascii=False)
    onnx.helper.set_model_props(exported, {METADATA: text, OLD_METADATA: text})
    onnx.save(exported, str(file))
    onnx.checker.check_model(str(file))
    for name, write_folder in graph.beside.items():
        write_folder(file.with_name(f"{file.stem}.{name}"))


def differences(graph: Graph, examples: Sequence[Any], file: Path) -> Differences:
    """Compare the outputs of onnxruntime with the model's own.

    Returns:
        By output and batch size, for each batch: the number of values compared and their largest difference, relative
        to the value, or absolute if the value is below 1; infinite if the shapes differ.
    """
    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    whole, left = _whole(graph), list(examples)
    sizes = itertools.chain(BATCHES, itertools.repeat(BATCHES[-1])) if _has_batches(graph) else itertools.repeat(1)
    compared: Differences = {}
    for size in sizes:
        batch, left = left[:size], left[size:]
        if not batch:
            return compared
        tensors = graph.tensors(batch)
        with torch.inference_mode():
            expected = whole(*tensors.values())
        exported = session.run(None, {name: tensor.numpy() for name, tensor in tensors.items()})
        for name, ours, theirs in zip(graph.outputs, expected, exported, strict=True):
            key = f"{name}, {len(batch)} at a time"
            compared.setdefault(key, []).append((ours.numel(), _difference(ours, torch.from_numpy(theirs))))
    raise AssertionError("sizes do not end")


def agreeing(compared: Differences) -> tuple[int, int]:
    """Return the number of batches that agree in all outputs, and the number of all batches."""
    batches = list(zip(*compared.values(), strict=True))
    return sum(all(worst <= TOLERANCE for _, worst in batch) for batch in batches), len(batches)


def is_same(graph: Graph, compared: Differences) -> bool:
    """Return True if the comparison shows that the file computes the same as the model.

    A detector keeps one of two nearly equal boxes, and a rounding error may change which. So nine of ten images must
    agree, not all.
    """
    if graph.traced:
        agree, total = agreeing(compared)
        return agree >= LEAST_AGREEING * total
    return all(worst <= TOLERANCE for batches in compared.values() for _, worst in batches)


def _difference(ours: Tensor, theirs: Tensor) -> float:
    if ours.shape != theirs.shape:
        return float("inf")
    if not ours.numel():
        return 0.0
    distance = ((ours - theirs).abs() / ours.abs().clamp(min=1)).max()
    return float(distance.nan_to_num(nan=float("inf")))


def _whole(graph: Graph) -> nn.Module:
    """Return the graph's function as a module on the CPU, the form that torch.onnx takes."""

    class Whole(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.module = graph.module

        def forward(self, *tensors: Any) -> Any:
            return graph.forward(*tensors)

    return Whole().cpu().eval()


def _has_batches(graph: Graph) -> bool:
    return all(0 in dims for dims in graph.inputs.values())
