"""Folders of arrays that a data set is decoded into once and that all trials share."""

import json
import os
import shutil
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from platform.errors import Fault, InputError
from platform.storage import atomic

SPLITS = ("train", "val", "test")

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Arrays:
    """Opened folder of arrays.

    Attributes:
        index: Content of index.json, with "classes" and the split of each example in "splits".
    """

    index: dict[str, Any]

    @property
    def classes(self) -> Any:
        """Class names; of several heads by head."""
        return self.index["classes"]

    @cached_property
    def split(self) -> dict[str, np.ndarray]:
        """Indices of the examples in each split."""
        return indices_by_split(self.index["splits"])


def load(folder: Path, *names: str) -> dict[str, Any]:
    """Return the index of a folder and the arrays of these names, whose content stays on disk."""
    arrays = {name: np.load(folder / f"{name}.npy", mmap_mode="r") for name in names}
    return {"index": json.loads((folder / "index.json").read_text()), **arrays}


def write_once(folder: Path, fill: Callable[[Path], None], bytes_needed: int, to_need_less: str = "") -> None:
    """Make a folder, whole or not at all; an existing one is left unchanged.

    Several studies may do so at once: each fills its own temporary folder, and the first to finish provides the result.

    Args:
        folder: Folder to make.
        fill: Writes the files into the folder that it is given, which is renamed to `folder` after that.
        bytes_needed: Bytes that `fill` writes.
        to_need_less: Advice to a user whose disk is too small, e.g. "lower --set image_size".

    Raises:
        InputError: The disk has not enough room.
    """
    if folder.exists():
        return
    folder.parent.mkdir(parents=True, exist_ok=True)
    _check_room(bytes_needed, folder.parent, to_need_less)
    try:
        with atomic.new_folder(folder) as partial:
            fill(partial)
    except OSError:
        # another study may have finished the same folder first, with the same content
        if not folder.exists():
            raise


def in_threads(function: Callable[[Item], Result], items: Iterable[Item]) -> list[Result]:
    """Apply a function in threads and return the results in order; Pillow releases the GIL while it decodes."""
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        return list(pool.map(function, items))


def indices_by_split(splits: Sequence[str]) -> dict[str, np.ndarray]:
    """Return the indices of the items in each split, ascending."""
    return {name: np.flatnonzero(np.array(splits, dtype=str) == name) for name in SPLITS}


def _check_room(needed: int, where: Path, to_need_less: str) -> None:
    free = shutil.disk_usage(where).free
    if needed > free:
        remedies = ["Free some space", "choose another --storage", *([to_need_less] if to_need_less else [])]
        raise InputError(
            Fault(
                f"the decoded data needs {needed / 2**30:.1f} GiB in {where}",
                f"{free / 2**30:.1f} GiB free",
                f"{', '.join(remedies[:-1])} or {remedies[-1]}.",
            )
        )
