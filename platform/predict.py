"""Use a trained model.

python -m platform.predict TASK photo.jpg more/                         # pictures, and folders of them: lines of JSON
python -m platform.predict TASK more/ --to answers.csv --no-pictures    # a table
python -m platform.predict TASK lines.txt "A sentence."                 # where the input is text: a line each
python -m platform.predict TASK titles.csv --to answers.csv             # or the column text of a table
python -m platform.predict TASK photo.jpg --model champion              # the one that MLflow's registry calls so
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

from platform.errors import EXIT_BAD_INPUT, EXIT_INCOMPLETE
from platform.serving import saved_models
from platform.serving.prediction_rows import KINDS, writer
from platform.signals import run_and_exit

TEXTS = 64  # sentences predicted at a time
STEM_BYTES = 200  # of a picture's name: the system's limit is 255, with suffix and number


def parser() -> argparse.ArgumentParser:
    """The options, the same for every task."""
    p = argparse.ArgumentParser(
        prog="python -m platform.predict", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    p.add_argument("task", help="what the model was trained for")
    p.add_argument("inputs", nargs="+", metavar="INPUT", help="files, folders of pictures, or sentences")
    saved_models.add_options(p)
    p.add_argument("--to", metavar="FILE", help="where the predictions are written (default: standard output)")
    p.add_argument("--format", choices=KINDS, help="lines of JSON, or a table (default: by FILE's suffix, else jsonl)")
    p.add_argument("--out", default="predictions", metavar="DIR", help="where pictures go (default predictions)")
    p.add_argument("--no-pictures", action="store_true", help="draw none")
    return p


def main(arguments: list[str] | None = None) -> int:
    """Predicts for each input, and saves a picture of each picture; returns the exit code."""
    options = parser().parse_args(arguments)
    try:
        return _run(options)
    except BrokenPipeError:  # who read the lines has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_INCOMPLETE


def _run(options: argparse.Namespace) -> int:
    from rich.console import Console

    from platform import task
    from platform.data import prediction_inputs
    from platform.errors import InputError, file_faults, folder_faults, print_error, raise_if_any
    from platform.storage import checkpoints

    console = Console(stderr=True, highlight=False, soft_wrap=True)
    try:
        file_is_wrong = file_faults("--to", options.to) if options.to else []
        raise_if_any([*file_is_wrong, *folder_faults("--out", options.out)])
        task.check_name(options.task)
        module = task.load(options.task)
        is_text = module.INPUT == "text"
        asked: list = prediction_inputs.texts(options.inputs) if is_text else prediction_inputs.pictures(options.inputs)
        _spare(options.inputs if is_text else asked, options.to)
        with saved_models.found(options.task, options) as folder:
            console.print(f"Model: {folder}", markup=False)
            metadata, model = checkpoints.read_metadata(folder), module.load(folder)
    except InputError as error:
        print_error(console, error)
        return EXIT_BAD_INPUT
    drawn = not is_text and not options.no_pictures
    done, started, stopped = _Done(), time.monotonic(), ""
    try:
        _predict_all(module, model, metadata, asked, drawn, options, console, done)
    except BrokenPipeError:
        raise
    except OSError as error:  # a full disk, a folder that may not be written, …
        stopped = f"Stopped after {done.predicted:,} of {len(asked):,}: {error}"
    for note in filter(None, done.notes):
        console.print(f"{done.notes[note]:,} of {done.predicted:,}: {note}", markup=False)
    for source, reason in done.left_out:
        console.print(f"Left out: {source}: {reason}", markup=False)
    where = f"; pictures in {options.out}" if drawn and done.predicted else ""
    took = f"{time.monotonic() - started:.1f} s"
    told = stopped or f"{done.predicted:,} of {len(asked):,} predicted in {took}{where}"
    console.print(told, markup=False)
    return EXIT_INCOMPLETE if stopped or done.left_out else 0


@dataclass
class _Done:
    """What became of the inputs so far: how many were predicted, with which notes, and which were left out, and why."""

    predicted: int = 0
    notes: Counter[str] = field(default_factory=Counter)
    left_out: list[tuple[Path, str]] = field(default_factory=list)


def _predict_all(
    module: Any,
    model: Any,
    metadata: Mapping[str, Any],
    asked: Sequence[Any],
    drawn: bool,
    options: argparse.Namespace,
    console: Any,
    done: _Done,
) -> None:
    """Writes the predictions, a batch at a time, and counts them as they are written."""
    is_text = module.INPUT == "text"
    key = "text" if is_text else "path"
    pictures = _Pictures(module.draw, Path(options.out)) if drawn else None
    example = {key: "", **module.answer(metadata)} | ({"picture": ""} if pictures else {})
    with _stream(options) as stream, _progress(console, len(asked), options) as advance:
        write = writer(_kind(options), stream, example)
        for batch, faults in _batches(asked, is_text):
            done.left_out += faults
            predictions = module.predict(model, [shown for _, shown in batch]) if batch else []
            for (source, shown), prediction in zip(batch, predictions, strict=True):
                told = {key: str(source), **prediction}
                write(told | ({"picture": pictures.save(source, shown, prediction)} if pictures else {}))
                done.notes[prediction.get("note", "")] += 1
                done.predicted += 1
            stream.flush()
            advance(len(batch) + len(faults))


def _batches(asked: Sequence[Any], is_text: bool) -> Iterator[tuple[list[tuple[Any, Any]], list[tuple[Path, str]]]]:
    """Some inputs, each with what the model is given of it; and which could not be read, with the reason."""
    from platform.data.images import ImageFault
    from platform.data.prediction_inputs import decoded

    if is_text:
        for first in range(0, len(asked), TEXTS):
            yield [(text, text) for text in asked[first : first + TEXTS]], []
        return
    for group in decoded(asked):
        read = [(file, image) for file, image in group if not isinstance(image, ImageFault)]
        yield read, [(file, str(fault)) for file, fault in group if isinstance(fault, ImageFault)]


class _Pictures:
    """Saves pictures of predictions in a folder; two inputs of one name do not overwrite each other's."""

    def __init__(self, draw: Callable[..., Any], folder: Path) -> None:
        self.draw, self.folder = draw, folder
        self.taken: dict[str, int] = {}  # by stem: how many have it
        folder.mkdir(parents=True, exist_ok=True)

    def save(self, source: Path, image: Any, prediction: Mapping[str, Any]) -> str:
        file = self.free(source)
        self.draw(image, prediction).save(file)
        return str(file)

    def free(self, source: Path) -> Path:
        """Where the next picture of that name goes."""
        stem = os.fsdecode(os.fsencode(source.stem)[:STEM_BYTES])
        while True:
            number = self.taken[stem] = self.taken.get(stem, 0) + 1
            file = self.folder / (f"{stem}.png" if number == 1 else f"{stem}-{number}.png")
            if not file.exists():
                return file


def _spare(sources: Sequence[Any], to: str | None) -> None:
    """
    Raises:
        InputError: The predictions would be written over one of these files.
    """
    from platform.errors import Fault, InputError

    # os.path answers for all that there is on a command line; Path raises on what is too long to be a name.
    if to and os.path.isfile(to) and any(os.path.isfile(one) and os.path.samefile(one, to) for one in sources):  # noqa: PTH113, PTH121
        raise InputError(Fault("--to must not be an input", to, "Name another file."))


def _kind(options: argparse.Namespace) -> str:
    return options.format or ("csv" if str(options.to).lower().endswith(".csv") else "jsonl")


@contextlib.contextmanager
def _stream(options: argparse.Namespace) -> Iterator[Any]:
    """Where predictions go. What is no Unicode, in a file's name say, is escaped, which JSON understands."""
    how: dict[str, Any] = {"encoding": "utf-8", "errors": "backslashreplace", "newline": ""}
    if options.to:
        with Path(options.to).open("w", **how) as file:
            yield file
    else:
        sys.stdout.reconfigure(**how)  # type: ignore[union-attr]
        yield sys.stdout


@contextlib.contextmanager
def _progress(console: Any, total: int, options: argparse.Namespace) -> Iterator[Callable[[int], None]]:
    """A bar on a terminal, unless the predictions themselves appear there; yields what moves it on."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

    shown = console.is_terminal and (options.to or not sys.stdout.isatty())
    columns = (BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not shown) as bar:
        task = bar.add_task("", total=total)
        yield lambda count: bar.advance(task, count)


if __name__ == "__main__":
    run_and_exit(main, "What was written is whole lines.")
