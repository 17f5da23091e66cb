"""Export a trained model as an ONNX file, for programs that have neither this project nor torch.

python -m platform.export TASK --out model.onnx                         # the best model of the newest study
python -m platform.export TASK --out model.onnx --check photos/         # compared with the model on your own inputs

The outputs of onnxruntime are compared with those of the model, on embedded examples if --check names no others; a
detector must find something in them. A file whose outputs differ is not written.

The file describes its inputs and outputs as JSON under the key "metadata". This program uses a classifier with
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

from platform.errors import EXIT_INCOMPLETE, Fault, InputError, first_line, print_error, raise_if_any
from platform.serving import saved_models
from platform.signals import raise_if_interrupted, run_and_exit

NEEDED = ("onnx", "onnxscript", "onnxruntime")
MOST, EMBEDDED = 64, 10  # examples that are compared: at most of the given ones, and of the embedded ones


def parser() -> argparse.ArgumentParser:
    """Return the parser of the options, which are the same for every task."""
    p = saved_models.command_parser("export", __doc__)
    p.add_argument("--out", required=True, metavar="FILE", help="file to write, *.onnx")
    p.add_argument(
        "--check",
        nargs="+",
        metavar="INPUT",
        help=f"inputs for the comparison, of which {MOST} are used (default: embedded examples)",
    )
    return p


def main(arguments: list[str] | None = None) -> int:
    """Write the file if its outputs are those of the model, and return the exit code."""
    options = parser().parse_args(arguments)
    from rich.console import Console

    console = Console(stderr=True, highlight=False, soft_wrap=True)
    try:
        return _run(options, console)
    except OSError as error:  # a full disk, a folder without permission to write, …
        console.print(f"Stopped: {error}", markup=False)
        return EXIT_INCOMPLETE


def _run(options: argparse.Namespace, console: Any) -> int:
    out = Path(options.out)
    try:
        raise_if_any(_faults(out))
        from platform import task
        from platform.serving import onnx_export

        task.check_name(options.task)
        module = task.load_exporter(options.task)
        examples, given = _examples(module.INPUT, options.check)
        with saved_models.model_folder(options.task, options) as folder:
            console.print(f"Model: {folder}", markup=False)
            graph = module.onnx(module.load(folder))
    except InputError as error:
        return print_error(console, error)
    if problem := _export(graph, options.task, examples, out, console):
        console.print(f"{problem} Nothing was written.", markup=False)
        return EXIT_INCOMPLETE
    kind = f"of {given} given" if options.check else "embedded; use --check INPUT… to compare on your own"
    console.print(f"Examples compared: {len(examples)} {kind}", markup=False)
    size = sum(file.stat().st_size for file in (out, out.with_name(out.name + onnx_export.DATA)) if file.exists()) / 1e6
    beside = "".join(f", with {out.stem}.{name}/ beside it" for name in graph.beside)
    print(f"{out}: {size:.1f} MB{beside}")
    return 0


def _export(graph: Any, task: str, examples: Sequence[Any], out: Path, console: Any) -> str:
    """Write the file, and the folders beside it, if its outputs are those of the model; else return the reason."""
    from platform.serving import onnx_export

    with tempfile.TemporaryDirectory(prefix=".partial-", dir=out.resolve().parent) as temporary:
        partial = Path(temporary) / out.name
        try:
            onnx_export.write(graph, {"task": task, **graph.about}, examples, partial)
        except OSError:
            raise
        except Exception as error:  # torch.onnx raises errors of every type, after Ctrl-C too
            raise_if_interrupted()
            return f"torch.onnx cannot export this model: {first_line(error)}."
        compared = onnx_export.differences(graph, examples, partial)
        _print_differences(console, graph, compared)
        if not all(sum(count for count, _ in batches) for batches in compared.values()):
            return "The model found nothing in these examples, so nothing was compared; name others with --check."
        if not onnx_export.is_same(graph, compared):
            return f"The outputs of onnxruntime differ from the model's by more than {onnx_export.TOLERANCE:.0e}."
        for file in Path(temporary).iterdir():
            _replace(file, out.with_name(file.name))
    return ""


def _print_differences(console: Any, graph: Any, compared: dict[str, list[tuple[int, float]]]) -> None:
    from platform.serving.onnx_export import agreeing

    for output, batches in compared.items():
        worst = max(difference for _, difference in batches)
        difference = "but not of the same number" if worst == float("inf") else f"largest difference {worst:.1e}"
        console.print(f"  {output}: {sum(count for count, _ in batches):,} values, {difference}", markup=False)
    if graph.traced:
        agree, total = agreeing(compared)
        note = "" if agree == total else "; either of two nearly equal boxes may be kept"
        console.print(f"  {agree} of {total} examples agree{note}", markup=False)


def _examples(kind: str, names: Sequence[str] | None) -> tuple[list[Any], int]:
    """Return the examples for the comparison and the number of inputs they were chosen from.

    At most MOST of the user's inputs are used; without any, EMBEDDED embedded examples.
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


def _faults(out: Path) -> list[Fault]:
    faults = []
    if missing := [name for name in NEEDED if importlib.util.find_spec(name) is None]:
        remedy = "Install them: uv pip install -r pyproject.toml --extra onnx"
        faults.append(Fault(f"export needs {', '.join(NEEDED)}", f"no {', '.join(missing)}", remedy))
    if out.suffix != ".onnx" or out.is_dir() or not out.resolve().parent.is_dir():
        faults.append(Fault("--out must name an .onnx file in an existing folder", str(out), "Write --out FILE.onnx."))
    return faults


if __name__ == "__main__":
    run_and_exit(main, "Nothing was written.")
