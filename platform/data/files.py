"""Files of a data set: finding images and split folders, checking paths, and printable names for messages."""

import os
import re
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

from platform.data import images
from platform.errors import Fault

_SPLIT_NAMES = {
    name: names[0]
    for names in (("train", "training"), ("val", "valid", "validation"), ("test", "testing"))
    for name in names
}
_UNPACKED_LEAST, _UNPACKED_RATIO = 2**26, 100  # limits of a packed file's content: bytes, and multiples of its size


def absolute(root: Path) -> Path:
    """Return the path from the file system's root, with no ".." left, without asking the disk."""
    return Path(os.path.abspath(root))  # noqa: PTH100 (Path.absolute keeps "..")


def folder_faults(root: Path, rule: str) -> list[Fault]:
    """Return the faults of a data folder that can be seen without reading its files."""
    if not os.path.exists(root):  # noqa: PTH110 (Path.exists raises where a folder above may not be entered)
        return [Fault(rule, f"no {root}", "Check the path.")]
    if not root.is_dir():
        return [Fault(rule, f"the file {root}", "Give the folder; unpack an archive first.")]
    if not os.access(root, os.R_OK | os.X_OK):
        return [Fault(rule, f"{root} without permission to read it", "Allow reading it.")]
    if not any(root.iterdir()):
        return [Fault(rule, f"the empty folder {root}", "Put the data there.")]
    return []


def split_of(name: str) -> str | None:
    """Return the split that a file or folder name contains, such as "val" for "instances_val2017", or None."""
    words = re.findall("[a-z]+", name.lower())
    return next((_SPLIT_NAMES[word] for word in words if word in _SPLIT_NAMES), None)


def split_folders(root: Path) -> list[tuple[Path, str]]:
    """Return the folders in `root` named for a split, as (folder, split)."""
    if not root.is_dir():
        return []
    named = [(folder, _SPLIT_NAMES.get(folder.name.lower())) for folder in sorted(root.iterdir())]
    return [(folder, split) for folder, split in named if split is not None and folder.is_dir()]


def inside(root: Path, base: Path, text: str) -> Path | None:
    """Join a path found in an annotation to `base`; return None if it leads out of `root`.

    Only the text is checked, and the path returned has no ".." left. Symbolic links are followed, as an annotation
    cannot create them.
    """
    path = absolute(base / text.replace("\\", "/"))
    return path if path.is_relative_to(absolute(root)) else None


def is_file(path: Path) -> bool:
    """Return True if this is a file; False, without an error, for impossible names (too long, a zero byte)."""
    return os.path.isfile(path)  # noqa: PTH113 (Path.is_file raises on such names)


def is_folder(path: Path) -> bool:
    """Return True if this is a folder; False, without an error, for impossible names."""
    return os.path.isdir(path)  # noqa: PTH112 (Path.is_dir raises on such names)


def unpacked_limit(file: Path) -> int:
    """Return how many bytes a packed file may hold: more than real data needs, far less than a decompression bomb."""
    return max(_UNPACKED_LEAST, _UNPACKED_RATIO * file.stat().st_size)


def image_files(folder: Path) -> list[Path]:
    """Return the images in a folder, sorted, known by their suffix."""
    return _images(folder.iterdir()) if folder.is_dir() else []


def unlisted_images(listed: Collection[Path]) -> list[Path]:
    """Return the other images in the folders of the listed ones, sorted by folder and name."""
    known = set(listed)
    folders = sorted({path.parent for path in known})
    return [path for folder in folders for path in image_files(folder) if path not in known]


def image_files_below(folder: Path) -> list[Path]:
    """Return the images in a folder and all its subfolders, sorted, known by their suffix."""
    return _images(folder.rglob("*"))


def place(root: Path, file: Path, entry: object = "") -> str:
    """Return the place that a message names: the file's path below the root, and the entry in it."""
    return printable(f"{os.path.relpath(file, root)} {entry}")


def class_name(text: Any) -> str:
    """Return a class name without surrounding blanks.

    Raises:
        ValueError: Not text, or empty.
    """
    if isinstance(text, str) and (name := printable(text)):
        return name
    raise ValueError("not a class name")


def is_utf8(name: str) -> bool:
    """Return True if a text file can hold this file name; others can only be shown, changed by `printable`."""
    return not any("\ud800" <= char <= "\udfff" for char in name)


def printable(value: object) -> str:
    """Return the value as text that can be encoded as UTF-8; lone surrogates, as annotations may hold, become "?"."""
    return str(value).encode("utf-8", "replace").decode().strip()


def _images(paths: Iterator[Path]) -> list[Path]:
    return sorted(path for path in paths if path.suffix.lower() in images.SUFFIXES and path.is_file())
