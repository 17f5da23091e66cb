"""Use a trained model.

python -m platform.predict TASK photo.jpg more/ --model best      # pictures, and folders of them
python -m platform.predict TASK lines.txt "A sentence."           # where the input is text: a line each
"""

import argparse
import json
import os
import sys
from pathlib import Path

EXIT_BAD_INPUT = 2


def parser() -> argparse.ArgumentParser:
    """The options, the same for every task."""
    p = argparse.ArgumentParser(
        prog="python -m platform.predict", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    p.add_argument("task", help="what the model was trained for")
    p.add_argument("inputs", nargs="+", metavar="INPUT", help="files, folders of pictures, or sentences")
    p.add_argument("--model", default="best", help="a study's name, a model's folder, or best: of the newest study")
    p.add_argument("--storage", default="studies", metavar="DIR", help="folder of studies (default studies)")
    p.add_argument("--out", default="predictions", metavar="DIR", help="where pictures go (default predictions)")
    return p


def main(arguments: list[str] | None = None) -> int:
    """Prints one JSON line per input, and saves a picture of each picture; returns the exit code."""
    options = parser().parse_args(arguments)
    from rich.console import Console

    from platform import task
    from platform.errors import InputError
    from platform.plan import studies_in
    from platform.view import print_error

    try:
        task.check_name(options.task)
        studies = studies_in(options.storage, None if options.model == "best" else options.model)
        folder = model_folder(options.task, options.model, studies)
        module = task.load(options.task)
        inputs: list = texts(options.inputs) if module.INPUT == "text" else pictures(options.inputs)
        model = module.load(folder)
    except InputError as error:
        print_error(Console(stderr=True), error)
        return EXIT_BAD_INPUT
    out = Path(options.out)
    if module.INPUT == "image":
        out.mkdir(parents=True, exist_ok=True)
    for source, prediction in zip(inputs, module.predict(model, inputs), strict=True):
        if module.INPUT == "image":
            picture = _free_name(out, source)
            module.draw(prediction).save(picture)
            prediction = {**prediction, "picture": str(picture)}
        print(json.dumps(prediction, ensure_ascii=False), flush=True)
    return 0


def pictures(names: list[str]) -> list[Path]:
    """The pictures that are named, and those in the folders that are named.

    Raises:
        InputError: One is missing or cannot be read, or there is none.
    """
    from platform.data.files import image_files_below
    from platform.errors import Fault, InputError

    missing = [name for name in names if not os.path.exists(name)]  # noqa: PTH110 (Path.exists raises on long names)
    if missing:
        raise InputError(*[Fault("every input must exist", name, "Check the path.") for name in missing])
    files: list[Path] = []
    for path in map(Path, names):
        # In a folder only what looks like a picture; a file that is named must be one.
        files += image_files_below(path) if path.is_dir() else [path]
    if not files:
        raise InputError(Fault("there must be an input", "only folders without pictures", "Name files."))
    _check_readable(files)
    return files


def texts(names: list[str]) -> list[str]:
    """The lines of the files that are named, blank ones left out, and what is no file but a sentence.

    Raises:
        InputError: A file is missing or is no UTF-8 text, or there is no line.
    """
    from platform.errors import Fault, InputError

    lines, faults = list[str](), list[Fault]()
    for name in names:
        if os.path.isfile(name):  # noqa: PTH113 (Path.is_file raises on what is too long to be a name)
            try:
                lines += [line.strip() for line in Path(name).read_text("utf-8-sig").splitlines() if line.strip()]
            except UnicodeDecodeError as error:
                faults.append(Fault("a file of sentences must be UTF-8 text", f"{name}: {error}", "Convert it."))
        elif len(name.split()) > 1:
            lines.append(name)
        else:
            remedy = "Check the path; a sentence has two words or more."
            faults.append(Fault("every input must be a file of lines, or a sentence", repr(name), remedy))
    if not lines and not faults:
        faults.append(Fault("there must be an input", "only blank lines", "Write a sentence a line."))
    if faults:
        raise InputError(*faults)
    return lines


def model_folder(name: str, model: str, storage: Path) -> Path:
    """The folder of a model, by a study's name, its own path, or "best": of the newest study.

    Raises:
        InputError: There is none.
    """
    from platform.checkpoints import CARD, read_card
    from platform.errors import Fault, InputError

    found = [path.parent for path in storage.glob(f"*/best/{CARD}") if read_card(path.parent).get("task") == name]
    if model == "best":
        if not found:
            rule, remedy = "--model best needs a finished study", f"Run python -m platform.tune {name} first."
            raise InputError(Fault(rule, f"none of {name} in {storage.resolve()}", remedy))
        return max(found, key=lambda folder: (folder / CARD).stat().st_mtime)
    for folder in (Path(model), storage / model / "best", Path(model) / "best"):
        if os.path.isfile(folder / CARD):  # noqa: PTH113
            return folder
    known = ", ".join(sorted(folder.parent.name for folder in found)) or "none"
    raise InputError(
        Fault("--model must be a study, a folder with model.json, or best", repr(model), f"Studies of {name}: {known}.")
    )


def _check_readable(paths: list[Path]) -> None:
    from platform.data import images
    from platform.errors import Fault, InputError

    faults = []
    for path in paths:
        try:
            images.load(path)
        except images.ImageFault as fault:
            faults.append(Fault("every input must be a picture", f"{path}: {fault}", "Leave it out, or convert it."))
    if faults:
        raise InputError(*faults)


def _free_name(folder: Path, path: Path) -> Path:
    """Where a picture goes: two inputs of one name do not overwrite each other's."""
    name, count = folder / f"{path.stem}.png", 2
    while name.exists() and count < 10_000:
        name, count = folder / f"{path.stem}-{count}.png", count + 1
    return name


if __name__ == "__main__":
    sys.exit(main())
