"""Use a trained model.

python -m platform.predict detector photo.jpg more/ --model best
"""

import argparse
import json
import sys
from pathlib import Path

EXIT_BAD_INPUT = 2


def parser() -> argparse.ArgumentParser:
    """The options, the same for every task."""
    p = argparse.ArgumentParser(
        prog="python -m platform.predict", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    p.add_argument("task", help="what the model was trained for")
    p.add_argument("inputs", nargs="+", metavar="FILE", help="files, or folders of them")
    p.add_argument("--model", default="best", help="a study's name, a model's folder, or best: of the newest study")
    p.add_argument("--storage", default="studies", metavar="DIR", help="folder of studies (default studies)")
    p.add_argument("--out", default="predictions", metavar="DIR", help="where pictures go (default predictions)")
    return p


def main(arguments: list[str] | None = None) -> int:
    """Prints one JSON line per input and saves a picture of each; returns the exit code."""
    options = parser().parse_args(arguments)
    from rich.console import Console

    from platform import task
    from platform.errors import InputError
    from platform.view import print_error

    try:
        task.check_name(options.task)
        folder = _model_folder(options.task, options.model, Path(options.storage))
        paths = _files(options.inputs)
        module = task.load(options.task)
        model = module.load(folder)
        _check_readable(paths)
    except InputError as error:
        print_error(Console(stderr=True), error)
        return EXIT_BAD_INPUT
    out = Path(options.out)
    out.mkdir(parents=True, exist_ok=True)
    for path, prediction in zip(paths, module.predict(model, paths), strict=True):
        picture = _free_name(out, path)
        module.draw(prediction).save(picture)
        print(json.dumps({**prediction, "picture": str(picture)}, ensure_ascii=False), flush=True)
    return 0


def _model_folder(name: str, model: str, storage: Path) -> Path:
    from platform.checkpoints import CARD, read_card
    from platform.errors import Fault, InputError

    found = [path.parent for path in storage.glob(f"*/best/{CARD}") if read_card(path.parent).get("task") == name]
    if model == "best":
        if not found:
            rule, remedy = "--model best needs a finished study", f"Run python -m platform.tune {name} first."
            raise InputError(Fault(rule, f"none of {name} in {storage.resolve()}", remedy))
        return max(found, key=lambda folder: (folder / CARD).stat().st_mtime)
    for folder in (Path(model), storage / model / "best", Path(model) / "best"):
        if (folder / CARD).is_file():
            return folder
    known = ", ".join(sorted(folder.parent.name for folder in found)) or "none"
    raise InputError(
        Fault("--model must be a study, a folder with model.json, or best", repr(model), f"Studies of {name}: {known}.")
    )


def _files(inputs: list[str]) -> list[Path]:
    from platform.data.annotations import image_files_below
    from platform.errors import Fault, InputError

    missing = [name for name in inputs if not Path(name).exists()]
    if missing:
        raise InputError(*[Fault("every input must exist", name, "Check the path.") for name in missing])
    files: list[Path] = []
    for path in map(Path, inputs):
        # In a folder only what looks like a picture; a file that is named must be one.
        files += image_files_below(path) if path.is_dir() else [path]
    if not files:
        raise InputError(Fault("there must be an input", "only folders without pictures", "Name files."))
    return files


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
