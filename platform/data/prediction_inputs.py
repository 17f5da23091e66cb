"""Inputs of a prediction from the command line: pictures in files and folders, sentences in files."""

import math
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TypeVar

from PIL.Image import Image

from platform.data import images
from platform.data.arrays import in_threads
from platform.data.files import image_files_below
from platform.errors import Fault, InputError, raise_if_any

COLUMN = "text"  # column of a table that holds the sentences
GROUP, GROUP_PIXELS = 64, 64_000_000  # most pictures held at a time, and pixels from which a group is closed

Source = TypeVar("Source", Path, bytes)


def pictures(names: Sequence[str]) -> list[Path]:
    """Return the named files, and the pictures in the named folders, recognised by their suffix.

    Raises:
        InputError: A file is missing, or there are no files.
    """
    missing = [name for name in names if not os.path.exists(name)]  # noqa: PTH110 (Path.exists raises on long names)
    raise_if_any(Fault("every input must exist", name, "Check the path.") for name in missing)
    files: list[Path] = []
    for path in map(Path, names):
        files += image_files_below(path) if path.is_dir() else [path]
    if not files:
        raise InputError(Fault("there must be an input", "only folders without pictures", "Name picture files."))
    return files


def check_readable(files: Sequence[Path]) -> None:
    """Decode all pictures once to find those that cannot be read.

    Raises:
        InputError: A file is not a picture.
    """
    faults = []
    for group in decoded(files):
        for file, image in group:
            if isinstance(image, images.ImageFault):
                rule, remedy = "every input must be a picture", "Leave it out, or convert it."
                faults.append(Fault(rule, f"{file}: {image}", remedy))
    raise_if_any(faults)


def decoded(sources: Sequence[Source]) -> Iterator[list[tuple[Source, Image | images.ImageFault]]]:
    """Yield each source with its picture or its fault, in order and in small groups, as large pictures fill the memory.

    Sources are files, or the bytes of files.
    """
    for group in _groups(sources):
        yield list(zip(group, in_threads(images.load_or_fault, group), strict=True))


def texts(names: Sequence[str]) -> list[str]:
    """Return the sentences, without blank ones, of the named files; a name with several words is itself a sentence.

    Raises:
        InputError: A file is missing, is not UTF-8 text or is a table without sentences, or there is no sentence.
    """
    lines, faults = list[str](), list[Fault]()
    for name in names:
        if os.path.isfile(name):  # noqa: PTH113 (Path.is_file raises on long names)
            try:
                lines += [line.strip() for line in _lines(Path(name)) if line and line.strip()]
            except InputError as error:
                faults += error.faults
            except UnicodeDecodeError as error:
                faults.append(Fault("a file of sentences must be UTF-8 text", f"{name}: {error}", "Convert it."))
        elif len(name.split()) > 1:
            lines.append(name)
        else:
            remedy = "Check the path; a sentence has two words or more."
            faults.append(Fault("every input must be a file of lines, or a sentence", repr(name), remedy))
    if not lines and not faults:
        faults.append(Fault("there must be an input", "only blank lines", "Write one sentence a line."))
    raise_if_any(faults)
    return lines


def _lines(file: Path) -> Sequence[str | None]:
    """Return the column "text" of a CSV, TSV or Parquet file, or the lines of any other file."""
    from platform.data import tables  # its dependencies are not installed where a logged model is served

    if file.suffix.lower() in tables.SUFFIXES:
        return tables.read(file, str(file), [COLUMN], "utf-8-sig").columns[COLUMN]
    # Not splitlines, which also ends a line where a sentence has U+2028, U+0085 or a form feed in it.
    return file.read_text("utf-8-sig").split("\n")


def _groups(sources: Sequence[Source]) -> Iterator[list[Source]]:
    group, pixels = list[Source](), 0
    for source in sources:
        group.append(source)
        pixels += _area(source)
        if len(group) == GROUP or pixels >= GROUP_PIXELS:
            yield group
            group, pixels = [], 0
    if group:
        yield group


def _area(source: Path | bytes) -> int:
    try:
        return math.prod(images.size(source))
    except images.ImageFault:  # reported when the picture is decoded
        return 0
