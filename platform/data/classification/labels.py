"""Common output of the readers of class folders and CSV files: image files with labels, not decoded yet."""

import os
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from platform.data.files import class_name
from platform.data.findings import Repair
from platform.data.images import SUFFIXES


class Kind(StrEnum):
    """Kinds of problems for which something is left out of a set of labelled images."""

    BROKEN_IMAGE = "broken image"
    DUPLICATE = "duplicate image"
    TWO_CLASSES = "one picture in two classes"
    NO_CLASS = "image in no class folder"
    EMPTY_CLASS = "class folder without images"
    BESIDE_SPLITS = "folder beside the split folders"
    UNREADABLE_FOLDER = "folder that cannot be read"
    LINKED_FOLDER = "link to a folder below a class folder"
    NO_IMAGE = "file that is no image"
    UNREADABLE_ROW = "row of too few or too many cells"
    BLANK_LABEL = "blank label"
    ESCAPING_PATH = "path that leaves the data folder"
    MISSING_IMAGE = "row of a missing image"
    NO_ROW = "image in no row"
    UNKNOWN_SPLIT = "unknown split name"
    NO_SPLIT = "image in no split"


@dataclass(frozen=True)
class Labelled:
    """Image file and its class.

    Attributes:
        path: Absolute path.
        label: Name of the class.
        split: "train", "val" or "test", or None if the data gives none.
        where: File below the root, or the row that names it.
    """

    path: Path
    label: str
    split: str | None
    where: str


@dataclass(frozen=True)
class Labels:
    """Everything that a reader found.

    Attributes:
        root: Absolute path of the folder; for a CSV file the folder in which it lies.
        layout: Description of the layout.
        images: Images ordered by path.
        given: Splits that the data names, even those without images.
        repairs: Everything that was left out.
    """

    root: Path
    layout: str
    images: tuple[Labelled, ...]
    given: frozenset[str]
    repairs: tuple[Repair, ...]


def label_of(text: str) -> str | None:
    """Return a class name in Unicode's form NFC, as systems store the same name differently; None if blank."""
    try:
        return unicodedata.normalize("NFC", class_name(text))
    except ValueError:
        return None


def ordered(root: Path, images: Iterable[Labelled]) -> tuple[Labelled, ...]:
    """Sort by path and split, so that the order of rows or of files on disk has no influence."""
    return tuple(sorted(images, key=lambda i: (i.path.relative_to(root).as_posix(), i.split or "", i.label)))


def is_image(path: Path) -> bool:
    """Return True if this is a file with the suffix of an image."""
    return path.suffix.lower() in SUFFIXES and path.is_file()


def is_hidden(path: Path) -> bool:
    """Return True if the name is hidden, such as .DS_Store or .ipynb_checkpoints."""
    return path.name.startswith(".")


def visible(folder: Path) -> list[Path]:
    """Return the files and folders in a folder that are not hidden, sorted; none if it cannot be read."""
    return sorted(path for path in folder.iterdir() if not is_hidden(path)) if is_readable(folder) else []


def folders(folder: Path) -> list[Path]:
    """Return the folders in a folder that are not hidden, sorted."""
    return [path for path in visible(folder) if path.is_dir()]


def is_readable(folder: Path) -> bool:
    """Return True if the folder may be listed and entered."""
    return os.access(folder, os.R_OK | os.X_OK)
