"""File names for the images of a data set that is written anew: kept where they can be, else told."""

import re
import unicodedata
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from platform.data.images import SUFFIXES

# What lists, XML and other systems' paths cannot hold: control characters and ends of lines, backslashes, half letters.
_UNSAFE = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff\ufffe\uffff\\\\]")
_LONGEST = 200  # bytes of a stem: file systems take 255 of a name


def safe(path: Path, kind: str) -> str:
    """Returns an image's file name, changed as little as all layouts need.

    Args:
        path: Of the image.
        kind: Its format as Pillow names it, for a name without the suffix of an image, which tools go by.
    """
    stem, suffix = path.stem, path.suffix
    if suffix.lower() not in SUFFIXES:
        stem, suffix = path.name, ".jpg" if kind in ("JPEG", "MPO") else f".{kind.lower()}"
    stem = _UNSAFE.sub("_", stem)
    if len(stem.encode()) > _LONGEST:
        stem = stem.encode()[:_LONGEST].decode(errors="ignore")
    return f"{stem.strip() or '_'}{suffix}"


def unique(names: Sequence[str], folders: Sequence[str], by_stem: bool) -> list[str]:
    """Returns names of which none is in a folder twice: the first keeps its name, "a.jpg", others get "a_2.jpg".

    Not by case alone either, as what is copied to another system would overwrite it there.

    Args:
        names: As they are.
        folders: Where each is going to lie.
        by_stem: Whether "a.jpg" and "a.png" are twice the same, as where each has an annotation file beside it.
    """

    def key(folder: str, name: str) -> tuple[str, str]:
        return folder, unicodedata.normalize("NFC", PurePosixPath(name).stem if by_stem else name).casefold()

    made: list[str | None] = []
    taken: set[tuple[str, str]] = set()
    for name, folder in zip(names, folders, strict=True):
        made.append(None if key(folder, name) in taken else name)
        taken.add(key(folder, name))
    tried: dict[tuple[str, str], int] = {}
    for place, (name, folder) in enumerate(zip(names, folders, strict=True)):
        if made[place] is not None:
            continue
        path, number = PurePosixPath(name), tried.get(key(folder, name), 1)
        other = name
        while key(folder, other) in taken:
            number += 1
            other = f"{path.stem}_{number}{path.suffix}"
        tried[key(folder, name)] = number
        taken.add(key(folder, other))
        made[place] = other
    return [name for name in made if name is not None]
