"""A trained model as an ONNX file, for programs that have neither this project nor torch.

python -m platform.export TASK --out model.onnx                         # the best of the newest study
python -m platform.export TASK --out model.onnx --check photos/         # compared with the model on your own inputs

The file says itself what it takes and gives, as JSON under the name card. A classifier in a program with onnxruntime
alone:

    import json
    import numpy as np
    import onnxruntime
    from PIL import Image

    session = onnxruntime.InferenceSession("model.onnx")
    card = json.loads(session.get_modelmeta().custom_metadata_map["card"])
    image = Image.open("photo.jpg").convert("RGB")
    short, (height, width) = min(image.size), card["size"]
    image = image.resize([side * card["resize"] // short for side in image.size], Image.Resampling.BICUBIC)
    left, top = (image.width - width) // 2, (image.height - height) // 2
    pixels = np.asarray(image.crop((left, top, left + width, top + height)), np.float32) / 255
    [probabilities] = session.run(None, {"images": pixels.transpose(2, 0, 1)[None]})
    print(card["classes"][probabilities[0].argmax()], probabilities[0].max())
"""

import argparse
import csv
import importlib.util
import itertools
import json
import logging
import os
import shutil
import sys
import tempfile
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from platform import models

if TYPE_CHECKING:
    import torch

    from platform.task import Graph

EXIT_REFUSED, EXIT_BAD_INPUT, EXIT_INTERRUPTED = 1, 2, 130
NEEDED = ("onnx", "onnxscript", "onnxruntime")
TOLERANCE = 1e-4  # of a value, or of 1 where it is smaller
BATCHES = (1, 2, 7)  # sizes that are compared; from the last on all are of its size
MOST = 64  # examples to compare on
ONE_FILE = 1_800_000_000  # bytes of weights: more than 2 GiB do not fit into one file of that format
CARD, DATA = "card", ".data"  # the metadata's name; the suffix of a file of weights


def parser() -> argparse.ArgumentParser:
    """The options, the same for every task."""
    p = argparse.ArgumentParser(
        prog="python -m platform.export", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    p.add_argument("task", help="what the model was trained for")
    models.add_options(p)
    p.add_argument("--out", required=True, metavar="FILE", help="the file to write, *.onnx")
    p.add_argument("--check", nargs="+", metavar="INPUT", help="what to compare on (default: embedded examples)")
    return p


def main(arguments: list[str] | None = None) -> int:
    """Writes the file if it computes what the model does; returns the exit code."""
    options = parser().parse_args(arguments)
    from rich.console import Console

    console = Console(stderr=True, highlight=False, soft_wrap=True)
    try:
        return _run(options, console)
    except KeyboardInterrupt:
        console.print("Interrupted. Nothing was written.")
        return EXIT_INTERRUPTED


def _run(options: argparse.Namespace, console: Any) -> int:
    from platform.errors import InputError, raise_if_any
    from platform.view import print_error

    out = Path(options.out)
    try:
        raise_if_any(_faults(out))
        from platform import task

        task.check_name(options.task)
        module = task.load_exporter(options.task)
        examples = _examples(module.INPUT, options.check)
        with models.found(options.task, options) as folder:
            console.print(f"Model: {folder}", markup=False)
            graph = module.onnx(module.load(folder))
    except InputError as error:
        print_error(console, error)
        return EXIT_BAD_INPUT
    with tempfile.TemporaryDirectory(prefix=".partial-", dir=out.resolve().parent) as temporary:
        partial = Path(temporary) / out.name
        try:
            write(graph, {"task": options.task, **graph.about}, examples, partial)
        except Exception as error:  # torch.onnx raises of all kinds
            lines = str(error).strip().splitlines() or [""]
            console.print(f"torch.onnx does not take this model: {type(error).__name__}: {lines[0]}", markup=False)
            return EXIT_REFUSED
        compared = differences(graph, examples, partial)
        for what, (count, worst) in compared.items():
            console.print(f"  {what}: {count:,} values, differing by {worst:.1e} at most", markup=False)
        if (worst := max(worst for _, worst in compared.values())) > TOLERANCE:
            console.print(
                f"Refused: what it computes differs by {worst:.1e}, more than {TOLERANCE:.0e}. Nothing written."
            )
            return EXIT_REFUSED
        for file in Path(temporary).iterdir():
            _replace(file, out.with_name(file.name))
    on = "given" if options.check else "embedded; on your own: --check INPUT…"
    console.print(f"Compared on {len(examples)} examples, {on}", markup=False)
    size = sum(file.stat().st_size for file in (out, out.with_name(out.name + DATA)) if file.exists()) / 1e6
    beside = "".join(f", with {out.stem}.{name}/ beside it" for name in graph.beside)
    print(f"{out}: {size:.1f} MB{beside}")
    return 0


def write(graph: "Graph", card: Mapping[str, Any], examples: Sequence[Any], file: Path) -> None:
    """Writes the file with its card, and beside it what belongs to it, named after it."""
    import onnx
    import torch

    for name in ("torch.onnx", "onnxscript", "onnx_ir"):
        logging.getLogger(name).setLevel(logging.ERROR)
    whole = _whole(graph)
    tensors = tuple(graph.tensors(examples[:2] if _has_batches(graph) else examples[:1]).values())
    names: dict[str, Any] = {"input_names": list(graph.inputs), "output_names": list(graph.outputs)}
    with torch.inference_mode(False), torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that it is deprecated, that what was traced is constant, …
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
            program.save(str(file), external_data=bytes_of_weights > ONE_FILE)
    told = onnx.load(str(file), load_external_data=False)
    onnx.helper.set_model_props(told, {CARD: json.dumps(card, ensure_ascii=False)})
    onnx.save(told, str(file))
    onnx.checker.check_model(str(file))
    for name, write_folder in graph.beside.items():
        write_folder(file.with_name(f"{file.stem}.{name}"))


def differences(graph: "Graph", examples: Sequence[Any], file: Path) -> dict[str, tuple[int, float]]:
    """How far what onnxruntime computes is from what the model does, by output and size of the batch.

    Returns:
        How many values were compared, and their largest difference: as a share of the value, or of 1 where it is
        smaller; infinite where the shapes differ.
    """
    import onnxruntime
    import torch

    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    whole, left = _whole(graph), list(examples)
    sizes = itertools.chain(BATCHES, itertools.repeat(BATCHES[-1])) if _has_batches(graph) else itertools.repeat(1)
    found: dict[str, tuple[int, float]] = {}
    for size in sizes:
        some, left = left[:size], left[size:]
        if not some:
            return found
        tensors = graph.tensors(some)
        with torch.inference_mode():
            wanted = whole(*tensors.values())
        given = session.run(None, {name: tensor.numpy() for name, tensor in tensors.items()})
        for name, ours, theirs in zip(graph.outputs, wanted, given, strict=True):
            what = f"{name}, {len(some)} at a time"
            count, worst = found.get(what, (0, 0.0))
            found[what] = (count + ours.numel(), max(worst, _difference(ours, torch.from_numpy(theirs))))
    raise AssertionError("sizes do not end")


def _difference(ours: "torch.Tensor", theirs: "torch.Tensor") -> float:
    if ours.shape != theirs.shape:
        return float("inf")
    if not ours.numel():
        return 0.0
    distance = ((ours - theirs).abs() / ours.abs().clamp(min=1)).max()
    return float(distance.nan_to_num(nan=float("inf")))


def _whole(graph: "Graph") -> "torch.nn.Module":
    """The graph's function as a module on the CPU, as torch.onnx takes it."""
    from torch import nn

    class Whole(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.module = graph.module

        def forward(self, *tensors: Any) -> Any:
            return graph.forward(*tensors)

    return Whole().cpu().eval()


def _has_batches(graph: "Graph") -> bool:
    return all(0 in dims for dims in graph.inputs.values())


def _examples(kind: str, names: Sequence[str] | None) -> list[Any]:
    """What to compare on: the inputs that are named, or some of the embedded data.

    Raises:
        InputError: One is missing or cannot be read.
    """
    from platform import inputs
    from platform.data import images

    if names and kind == "text":
        return list(inputs.texts(names))[:MOST]
    with tempfile.TemporaryDirectory() as folder:
        if kind == "text":
            from platform.data import blurbs

            blurbs.write(Path(folder) / "blurbs.csv", seed=0)
            with (Path(folder) / "blurbs.csv").open(encoding="utf-8", newline="") as file:
                return [row["text"] for row in itertools.islice(csv.DictReader(file), sum(BATCHES))]
        if names is None:
            from platform.data import scenes

            scenes.write(Path(folder) / "scenes", seed=0, counts={"test": sum(BATCHES)}, size=128)
            names = [folder]
        files = inputs.pictures(names)[:MOST]
        inputs.check_readable(files)
        return [images.load(file) for file in files]


def _replace(source: Path, target: Path) -> None:
    if target.is_dir():
        shutil.rmtree(target)
    os.replace(source, target)  # noqa: PTH105


def _faults(out: Path) -> list[Any]:
    from platform.errors import Fault

    faults = []
    if missing := [name for name in NEEDED if importlib.util.find_spec(name) is None]:
        remedy = "uv pip install -r pyproject.toml --extra onnx"
        faults.append(Fault(f"export needs {', '.join(NEEDED)}", f"no {', '.join(missing)}", f"Install: {remedy}"))
    if out.suffix != ".onnx" or out.is_dir() or not out.resolve().parent.is_dir():
        faults.append(Fault("--out needs a file in an existing folder", str(out), "Write --out FILE.onnx."))
    return faults


if __name__ == "__main__":
    sys.exit(main())
