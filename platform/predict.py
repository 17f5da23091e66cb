"""Predict with a trained model.

python -m platform.predict TASK photo.jpg more/                         # images and folders of images: lines of JSON
python -m platform.predict TASK more/ --to answers.csv --no-pictures    # a table
python -m platform.predict TASK lines.txt "A sentence."                 # if the input is text: each line is a text
python -m platform.predict TASK titles.csv --to answers.csv             # or the column "text" of a table
python -m platform.predict TASK photo.jpg --model champion              # the champion of MLflow's model registry
"""

import argparse
import contextlib
import os
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from platform.errors import EXIT_INCOMPLETE, Fault, InputError, file_faults, folder_faults, print_error, raise_if_any
from platform.serving import saved_models
from platform.serving.prediction_rows import FORMATS, writer
from platform.signals import run_and_exit

TEXT_BATCH = 64  # texts that are predicted at a time
STEM_BYTES = 200  # of an image's name: file systems allow 255, with suffix and number


def parser() -> argparse.ArgumentParser:
    """Return the parser of the options, which are the same for every task."""
    p = saved_models.command_parser("predict", __doc__)
    p.add_argument("inputs", nargs="+", metavar="INPUT", help="files, folders of images, or sentences")
    p.add_argument("--to", metavar="FILE", help="file for the predictions (default: standard output)")
    p.add_argument(
        "--format", choices=FORMATS, help="lines of JSON or a table (default: by the suffix of FILE, else jsonl)"
    )
    p.add_argument("--out", default="predictions", metavar="DIR", help="folder for pictures (default predictions)")
    p.add_argument("--no-pictures", action="store_true", help="do not draw the predictions on the images")
    return p


def main(arguments: list[str] | None = None) -> int:
    """Predict every input, draw the predictions on images, and return the exit code."""
    options = parser().parse_args(arguments)
    try:
        return _run(options)
    except BrokenPipeError:  # the reader of the lines, e.g. `head`, has ended
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_INCOMPLETE


def _run(options: argparse.Namespace) -> int:
    from rich.console import Console

    from platform import task
    from platform.data import prediction_inputs
    from platform.storage import checkpoints

    console = Console(stderr=True, highlight=False, soft_wrap=True)
    try:
        raise_if_any([*(file_faults("--to", options.to) if options.to else []), *folder_faults("--out", options.out)])
        task.check_name(options.task)
        module = task.load(options.task)
        is_text = module.INPUT == "text"
        read: Any = prediction_inputs.texts if is_text else prediction_inputs.pictures
        inputs = read(options.inputs)
        _check_not_overwritten(options.inputs if is_text else inputs, options.to)
        with saved_models.model_folder(options.task, options) as folder:
            console.print(f"Model: {folder}", markup=False)
            metadata, model = checkpoints.read_metadata(folder), module.load(folder)
    except InputError as error:
        return print_error(console, error)
    pictures = None if is_text or options.no_pictures else _Pictures(module.draw, Path(options.out))
    progress, started, stopped = _Progress(), time.monotonic(), ""
    try:
        _predict_all(module, model, metadata, inputs, pictures, options, console, progress)
    except BrokenPipeError:
        raise
    except OSError as error:  # a full disk, a folder without permission to write, …
        stopped = f"Stopped after {progress.predicted:,} of {len(inputs):,}: {error}"
    for note in filter(None, progress.notes):
        console.print(f"{progress.notes[note]:,} of {progress.predicted:,}: {note}", markup=False)
    for source, reason in progress.left_out:
        console.print(f"Left out: {source}: {reason}", markup=False)
    ending = f"; pictures in {options.out}" if pictures and progress.predicted else ""
    seconds = time.monotonic() - started
    finished = f"{progress.predicted:,} of {len(inputs):,} predicted in {seconds:.1f} s{ending}"
    console.print(stopped or finished, markup=False)
    return EXIT_INCOMPLETE if stopped or progress.left_out else 0


@dataclass
class _Progress:
    """Counts of the inputs that were predicted so far, and the inputs that were left out."""

    predicted: int = 0
    notes: Counter[str] = field(default_factory=Counter)  # predictions by their note; "" for those without one
    left_out: list[tuple[Path, str]] = field(default_factory=list)  # files that could not be read, with reasons


def _predict_all(
    module: Any,
    model: Any,
    metadata: Mapping[str, Any],
    inputs: Sequence[Any],
    pictures: "_Pictures | None",
    options: argparse.Namespace,
    console: Any,
    progress: _Progress,
) -> None:
    """Write the predictions a batch at a time, and count them in `progress` as they are written."""
    is_text = module.INPUT == "text"
    key = "text" if is_text else "path"
    example = {key: "", **module.answer(metadata)} | ({"picture": ""} if pictures else {})
    if pictures:
        pictures.folder.mkdir(parents=True, exist_ok=True)
    with _output(options) as stream, _progress_bar(console, len(inputs), options) as advance:
        write = writer(_format(options), stream, example)
        for batch, faults in _batches(inputs, is_text):
            progress.left_out += faults
            predictions = module.predict(model, [content for _, content in batch]) if batch else []
            for (source, content), prediction in zip(batch, predictions, strict=True):
                row = {key: str(source), **prediction}
                write(row | ({"picture": pictures.save(source, content, prediction)} if pictures else {}))
                progress.notes[prediction.get("note", "")] += 1
                progress.predicted += 1
            stream.flush()
            advance(len(batch) + len(faults))


def _batches(inputs: Sequence[Any], is_text: bool) -> Iterator[tuple[list[tuple[Any, Any]], list[tuple[Path, str]]]]:
    """Yield some inputs at a time, each with its content, and the files that could not be read, with reasons."""
    from platform.data.images import ImageFault
    from platform.data.prediction_inputs import decoded

    if is_text:
        for first in range(0, len(inputs), TEXT_BATCH):
            yield [(text, text) for text in inputs[first : first + TEXT_BATCH]], []
        return
    for group in decoded(inputs):
        images = [(file, image) for file, image in group if not isinstance(image, ImageFault)]
        yield images, [(file, str(fault)) for file, fault in group if isinstance(fault, ImageFault)]


class _Pictures:
    """Pictures of predictions in a folder; images of the same name get pictures of different names."""

    def __init__(self, draw: Callable[..., Any], folder: Path) -> None:
        self.draw, self.folder = draw, folder
        self.numbers: dict[str, int] = {}  # last number that was given to a stem

    def save(self, source: Path, image: Any, prediction: Mapping[str, Any]) -> str:
        """Draw a prediction on its image, save the picture and return its path."""
        file = self._unused_file(source)
        self.draw(image, prediction).save(file)
        return str(file)

    def _unused_file(self, source: Path) -> Path:
        stem = os.fsdecode(os.fsencode(source.stem)[:STEM_BYTES])
        while True:
            number = self.numbers[stem] = self.numbers.get(stem, 0) + 1
            file = self.folder / (f"{stem}.png" if number == 1 else f"{stem}-{number}.png")
            if not file.exists():
                return file


def _check_not_overwritten(sources: Sequence[Any], to: str | None) -> None:
    """Check that the predictions are not written over an input."""
    # os.path accepts any text from a command line; Path raises an error if it is too long to be a name.
    if to and os.path.isfile(to) and any(os.path.isfile(one) and os.path.samefile(one, to) for one in sources):  # noqa: PTH113, PTH121
        raise InputError(Fault("--to must not be an input", to, "Name another file."))


def _format(options: argparse.Namespace) -> str:
    return options.format or ("csv" if str(options.to).lower().endswith(".csv") else "jsonl")


@contextlib.contextmanager
def _output(options: argparse.Namespace) -> Iterator[Any]:
    """Yield the stream for the predictions; what is not Unicode, e.g. in file names, is escaped as in JSON."""
    settings: dict[str, Any] = {"encoding": "utf-8", "errors": "backslashreplace", "newline": ""}
    if options.to:
        with Path(options.to).open("w", **settings) as file:
            yield file
    else:
        sys.stdout.reconfigure(**settings)  # type: ignore[union-attr]
        yield sys.stdout


@contextlib.contextmanager
def _progress_bar(console: Any, total: int, options: argparse.Namespace) -> Iterator[Callable[[int], None]]:
    """Show a bar on a terminal, unless the predictions are printed there; yield the function that advances it."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

    visible = console.is_terminal and (options.to or not sys.stdout.isatty())
    columns = (BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not visible) as bar:
        task = bar.add_task("", total=total)
        yield lambda count: bar.advance(task, count)


if __name__ == "__main__":
    run_and_exit(main, "All predictions that were written are complete lines.")
