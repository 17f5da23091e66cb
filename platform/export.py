"""A trained model as an ONNX file, for programs that have neither this project nor torch.

python -m platform.export TASK --out model.onnx                         # the best of the newest study
python -m platform.export TASK --out model.onnx --check photos/         # compared with the model on your own inputs

What onnxruntime computes is compared with what the model does, on embedded examples if there are no others; a detector
must find something in them. A file that computes something else is not written.

The file says itself what it takes and gives, as JSON under the name metadata. A classifier in a program with
onnxruntime alone:

    import json
    import numpy as np
    import onnxruntime
    from PIL import Image

    session = onnxruntime.InferenceSession("model.onnx")
    metadata = json.loads(session.get_modelmeta().custom_metadata_map["metadata"])
    image = Image.open("photo.jpg").convert("RGB")
    short, (height, width) = min(image.size), metadata["size"]
    image = image.resize([side * metadata["resize"] // short for side in image.size], Image.Resampling.BICUBIC)
    left, top = (image.width - width) // 2, (image.height - height) // 2
    pixels = np.asarray(image.crop((left, top, left + width, top + height)), np.float32) / 255
    [probabilities] = session.run(None, {"images": pixels.transpose(2, 0, 1)[None]})
    print(metadata["classes"][probabilities[0].argmax()], probabilities[0].max())
"""

import argparse
import csv
import importlib.util
import itertools
import os
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from platform.errors import EXIT_BAD_INPUT, EXIT_INCOMPLETE
from platform.serving import saved_models
from platform.signals import raise_if_interrupted, run_and_exit

NEEDED = ("onnx", "onnxscript", "onnxruntime")
MOST, EMBEDDED = 64, 10  # examples to compare on: of those given, and where none are


def parser() -> argparse.ArgumentParser:
    """The options, the same for every task."""
    p = argparse.ArgumentParser(
        prog="python -m platform.export", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    p.add_argument("task", help="what the model was trained for")
    saved_models.add_options(p)
    p.add_argument("--out", required=True, metavar="FILE", help="the file to write, *.onnx")
    p.add_argument(
        "--check", nargs="+", metavar="INPUT", help=f"what to compare on, at most {MOST} (default: embedded examples)"
    )
    return p


def main(arguments: list[str] | None = None) -> int:
    """Writes the file if it computes what the model does; returns the exit code."""
    options = parser().parse_args(arguments)
    from rich.console import Console

    console = Console(stderr=True, highlight=False, soft_wrap=True)
    try:
        return _run(options, console)
    except OSError as error:  # of the folder, the disk, or what lies there
        console.print(f"Stopped: {error}", markup=False)
        return EXIT_INCOMPLETE


def _run(options: argparse.Namespace, console: Any) -> int:
    from platform.errors import InputError, print_error, raise_if_any

    out = Path(options.out)
    try:
        raise_if_any(_faults(out))
        from platform import task
        from platform.serving import onnx_export

        task.check_name(options.task)
        module = task.load_exporter(options.task)
        examples, known = _examples(module.INPUT, options.check)
        with saved_models.found(options.task, options) as folder:
            console.print(f"Model: {folder}", markup=False)
            graph = module.onnx(module.load(folder))
    except InputError as error:
        print_error(console, error)
        return EXIT_BAD_INPUT
    if refused := _written(graph, options.task, examples, out, console):
        console.print(f"{refused} Nothing was written.", markup=False)
        return EXIT_INCOMPLETE
    which = f"of {known} given" if options.check else "embedded; for your own: --check INPUT…"
    console.print(f"Examples compared: {len(examples)} {which}", markup=False)
    size = sum(file.stat().st_size for file in (out, out.with_name(out.name + onnx_export.DATA)) if file.exists()) / 1e6
    beside = "".join(f", with {out.stem}.{name}/ beside it" for name in graph.beside)
    print(f"{out}: {size:.1f} MB{beside}")
    return 0


def _written(graph: Any, task: str, examples: Sequence[Any], out: Path, console: Any) -> str:
    """Writes the file and what belongs beside it if it computes what the model does; else tells why not."""
    from platform.serving import onnx_export

    with tempfile.TemporaryDirectory(prefix=".partial-", dir=out.resolve().parent) as temporary:
        partial = Path(temporary) / out.name
        try:
            onnx_export.write(graph, {"task": task, **graph.about}, examples, partial)
        except OSError:
            raise
        except Exception as error:  # torch.onnx raises of all kinds, of Ctrl-C too
            raise_if_interrupted()
            lines = str(error).strip().splitlines() or [""]
            return f"torch.onnx does not take this model: {type(error).__name__}: {lines[0]}."
        compared = onnx_export.differences(graph, examples, partial)
        _tell(console, graph, compared)
        if not all(sum(count for count, _ in batches) for batches in compared.values()):
            return "Refused: nothing was found in these examples, so nothing was compared; --check takes others."
        if not onnx_export.is_same(graph, compared):
            return (
                f"Refused: what onnxruntime computes differs from the model by more than {onnx_export.TOLERANCE:.0e}."
            )
        for file in Path(temporary).iterdir():
            _replace(file, out.with_name(file.name))
    return ""


def _tell(console: Any, graph: Any, compared: dict[str, list[tuple[int, float]]]) -> None:
    from platform.serving.onnx_export import agreeing

    for what, batches in compared.items():
        worst = max(difference for _, difference in batches)
        told = "in number" if worst == float("inf") else f"by {worst:.1e} at most"
        console.print(f"  {what}: {sum(count for count, _ in batches):,} values, differing {told}", markup=False)
    if graph.traced:
        agree, of = agreeing(compared)
        note = "" if agree == of else "; of nearly equal boxes one or the other may be kept"
        console.print(f"  {agree} of {of} examples agree{note}", markup=False)


def _examples(kind: str, names: Sequence[str] | None) -> tuple[list[Any], int]:
    """What to compare on, MOST of the inputs that are named, or some of the embedded data; and how many there were.

    Raises:
        InputError: One is missing or cannot be read.
    """
    from platform.data import images, prediction_inputs

    if names and kind == "text":
        lines = prediction_inputs.texts(names)
        return lines[:MOST], len(lines)
    with tempfile.TemporaryDirectory() as folder:
        if kind == "text":
            from platform.data.embedded import blurbs

            blurbs.write(Path(folder) / "blurbs.csv", seed=0)
            with (Path(folder) / "blurbs.csv").open(encoding="utf-8", newline="") as file:
                return [row["text"] for row in itertools.islice(csv.DictReader(file), EMBEDDED)], EMBEDDED
        if names is None:
            from platform.data.embedded import scenes

            scenes.write(Path(folder) / "scenes", seed=0, counts={"test": EMBEDDED}, size=128)
            names = [folder]
        files = prediction_inputs.pictures(names)
        prediction_inputs.check_readable(files[:MOST])
        return [images.load(file) for file in files[:MOST]], len(files)


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
    run_and_exit(main, "Nothing was written.")
