"""Images in a folder for each class, these in a folder for each split if there are splits."""

import os
from collections.abc import Iterator
from pathlib import Path

from platform.data.classification.labels import (
    Kind,
    Labelled,
    Labels,
    folders,
    is_image,
    is_readable,
    label_of,
    ordered,
    visible,
)
from platform.data.files import place, split_folders
from platform.data.findings import Repair


def read(root: Path) -> Labels:
    """Read ROOT/CLASS/… or ROOT/SPLIT/CLASS/…; images in folders below a class folder belong to it."""
    splits = _splits(root)
    split_of_folder = dict(splits)
    images: list[Labelled] = []
    repairs: list[Repair] = []
    for base in [root, *split_of_folder]:
        loose = [path for path in visible(base) if not path.is_dir()]
        repairs += [Repair(Kind.NO_CLASS if is_image(path) else Kind.NO_IMAGE, place(root, path)) for path in loose]
        if not is_readable(base):
            repairs.append(Repair(Kind.UNREADABLE_FOLDER, place(root, base)))
    if splits:
        repairs += [Repair(Kind.BESIDE_SPLITS, place(root, f)) for f in folders(root) if f not in split_of_folder]
    bases: list[tuple[Path, str | None]] = [*splits] or [(root, None)]
    for base, split in bases:
        for folder in folders(base):
            images += _read_class(root, folder, split, repairs)
    layout = "split folders of class folders" if splits else "class folders"
    return Labels(root, layout, ordered(root, images), frozenset(split_of_folder.values()), tuple(repairs))


def holds_images(folder: Path) -> bool:
    """Return True if there is an image in a folder or below it."""
    return any(is_image(path) for path in _walk(folder, folder, []))


def _splits(root: Path) -> list[tuple[Path, str]]:
    """Return the split folders, or none if `root` holds class folders.

    A class may be called train, too: a single folder of such a name that holds images and no folders, beside others.
    """
    named = split_folders(root)
    alone = len({split for _, split in named}) == 1 and len(folders(root)) > len(named)
    return [] if alone and not any(folders(folder) for folder, _ in named) else named


def _read_class(root: Path, folder: Path, split: str | None, repairs: list[Repair]) -> list[Labelled]:
    label = label_of(folder.name)
    if label is None:
        repairs.append(Repair(Kind.BLANK_LABEL, place(root, folder)))
        return []
    files = list(_walk(root, folder, repairs))
    repairs += [Repair(Kind.NO_IMAGE, place(root, path)) for path in files if not is_image(path)]
    images = [Labelled(path, label, split, place(root, path)) for path in files if is_image(path)]
    if not images:
        repairs.append(Repair(Kind.EMPTY_CLASS, place(root, folder)))
    return images


def _walk(root: Path, folder: Path, repairs: list[Repair]) -> Iterator[Path]:
    """Yield the visible files in a folder and below it; folders that are not entered are added to `repairs`."""
    unreadable: list[OSError] = []
    for parent, below, names in os.walk(folder, onerror=unreadable.append):
        below[:] = sorted(name for name in below if not name.startswith("."))
        linked = [Path(parent, name) for name in below if Path(parent, name).is_symlink()]
        repairs += [Repair(Kind.LINKED_FOLDER, place(root, path)) for path in linked]
        yield from (Path(parent, name) for name in sorted(names) if not name.startswith("."))
    repairs += [Repair(Kind.UNREADABLE_FOLDER, place(root, Path(error.filename))) for error in unreadable]
