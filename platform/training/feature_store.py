"""Feature store: disk cache of frozen stages' outputs, shared by all trials of a node.

An entry is a folder, named by a hash of the facts that determine its content. It is filled in blocks: a trial claims a
free block with a lock, computes it and records it as done, so that trials share the work, and the claim of a killed
trial is free again. A hash of each block's bytes is recorded, and checked when the entry is opened: a truncated or
altered block is computed again.

    facts.json      the facts, for people
    layout.json     number of rows; shape of a row and type of each tensor
    NAME.bin        a tensor, row by row; feature maps with channels last, which convolutions read fastest
    done.jsonl      a line for each block that is done
    claims/         a lock for each block
    used            modified at each use; locked by the trials that use the entry

The store has a capacity. To make room for a new entry, entries that no trial uses are removed, the least
recently used first.
"""

import fcntl
import json
import math
import os
import shutil
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch
import xxhash
from filelock import FileLock, Timeout
from torch import Tensor

from platform.storage import atomic
from platform.storage.hashing import key_of

FORMAT = 2  # version of the files' format
# Rows that are computed together. The last bits of an output depend on the batch's size, so all blocks consist of whole
# batches: the same rows are computed together whatever the machine's speed.
BATCH = 64
BLOCKS = 64  # most blocks of an entry; rows that are quick to compute get larger blocks, since a claim takes time
BLOCK_SECONDS, BLOCK_BYTES = 0.5, 1 << 26
RESERVE = 1 << 30  # bytes of the disk that are left to checkpoints and records
FACTS, LAYOUT, DONE, CLAIMS, USED = "facts.json", "layout.json", "done.jsonl", "claims", "used"
PARTIAL, PROBE = ".partial-", ".probe-"
STALE = 3600  # seconds after which a probe's process is taken to have been killed

Layout = Mapping[str, tuple[tuple[int, ...], str]]  # name → shape of a row in the model, NumPy type


class StoreError(Exception):
    """The store cannot create or read an entry; the trial continues without it."""


class Store:
    """Feature store in a folder of the node, with a capacity in bytes for all entries together."""

    def __init__(self, root: Path, capacity: int) -> None:
        self.root, self.capacity = root, capacity

    def open(self, facts: Mapping[str, Any], rows: int, layout: Layout, row_seconds: float = 1.0) -> "Entry":
        """Return the entry of the facts that determine its content, created empty if there is none; close it after use.

        A row takes about `row_seconds` to compute.

        Raises:
            StoreError: There is no room for it, or the disk refuses.
        """
        folder = self.root / key_of(facts)
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            with FileLock(self.root / ".lock"):
                if not _is_sound(folder, rows, layout):
                    shutil.rmtree(folder, ignore_errors=True)
                    self._make_room(_size(rows, layout))
                    self._make(folder, facts, rows, layout, _block_rows(rows, layout, row_seconds))
                return Entry(folder)
        except OSError as error:
            raise _refused(error, self.root) from error

    def find(self, facts: Mapping[str, Any]) -> "Entry | None":
        """Return the entry of these facts if it is complete, else None; close it after use."""
        folder = self.root / key_of(facts)
        try:
            with FileLock(self.root / ".lock"):
                if not (folder / LAYOUT).exists():
                    return None
                entry = Entry(folder)
        except (OSError, ValueError, KeyError):  # not a usable entry
            return None
        if entry.missing():
            entry.close()
            return None
        return entry

    def remember(self, facts: Mapping[str, Any], measure: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """Return the stored measurement under these facts on this node; measure now if there is none.

        Raises:
            StoreError: The disk refuses.
        """
        file = self.root / "measured" / f"{key_of(facts)}.json"
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            with FileLock(f"{file}.lock"):
                try:
                    return json.loads(file.read_text())
                except (OSError, ValueError):
                    measured = measure()
                    atomic.write_json(file, measured)
                    return measured
        except OSError as error:
            raise _refused(error, self.root) from error

    def _make_room(self, needed: int) -> None:
        entries = sorted(self.root.glob(f"*/{USED}"), key=lambda used: used.stat().st_mtime)
        sizes = {used: sum(file.stat().st_size for file in used.parent.glob("*.bin")) for used in entries}
        taken = sum(sizes.values())
        for used in entries:
            if taken + needed <= self.capacity and self._free() >= needed:
                return
            if needed <= self.capacity and _remove_unused(used):
                taken -= sizes[used]
        if taken + needed > self.capacity:
            free = _gib(max(0, self.capacity - taken))
            raise StoreError(f"the store of {_gib(self.capacity)} has {free} free, not {_gib(needed)}")
        if self._free() < needed:
            raise StoreError(f"the disk has no room for {_gib(needed)}: {self.root}")

    def _free(self) -> int:
        return shutil.disk_usage(self.root).free - RESERVE

    def _make(self, folder: Path, facts: Mapping[str, Any], rows: int, layout: Layout, block_rows: int) -> None:
        probes = [path for path in self.root.glob(f"{PROBE}*") if time.time() - path.stat().st_mtime > STALE]
        for left in (*self.root.glob(f"{PARTIAL}*"), *probes):  # from killed processes, since this one holds the lock
            shutil.rmtree(left, ignore_errors=True)
        with atomic.new_folder(folder, PARTIAL) as partial:
            for name, tensor in _on_disk(layout).items():
                _reserve(partial / f"{name}.bin", rows * tensor.itemsize)
            (partial / CLAIMS).mkdir()
            for name in (USED, DONE):
                (partial / name).touch()
            (partial / FACTS).write_text(json.dumps(facts, indent=2))
            (partial / LAYOUT).write_text(json.dumps(_describe(rows, layout) | {"block_rows": block_rows}))


class Entry:
    """Open entry of the feature store.

    Attributes:
        rows: Number of examples.
        altered: Blocks that were recorded as done, and whose bytes have changed since.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        written = json.loads((folder / LAYOUT).read_text())
        self.rows: int = written["rows"]
        self.tensors = {name: np.dtype((dtype, tuple(shape))) for name, shape, dtype in written["tensors"]}
        self.block_rows: int = written["block_rows"]
        self.altered: set[int] = set()
        self._used = (folder / USED).open("a")
        fcntl.flock(self._used, fcntl.LOCK_SH)
        os.utime(folder / USED)
        self._maps = {
            name: np.memmap(folder / f"{name}.bin", tensor.base, "r", shape=(self.rows, *tensor.shape))
            for name, tensor in self.tensors.items()
        }
        self._sound: dict[int, str] = {}  # block → hash with which its bytes agreed

    @property
    def bytes(self) -> int:
        return self.rows * sum(tensor.itemsize for tensor in self.tensors.values())

    def missing(self) -> list[int]:
        """Return the blocks that are missing or altered."""
        noted = self._noted()
        for block, digest in noted.items():
            if self._sound.get(block) != digest:
                if self._digest(block) == digest:
                    self._sound[block] = digest
                else:
                    self._sound.pop(block, None)
                    self.altered.add(block)
        return [block for block in range(-(-self.rows // self.block_rows)) if block not in self._sound]

    def fill(self, compute: Callable[[slice], Mapping[str, Tensor]]) -> int:
        """Complete the entry: compute the blocks that no other trial computes, and wait for the others.

        Args:
            compute: Slice of rows → tensors (n, …) by name, as in the layout or shorter along the second axis.

        Returns:
            Number of rows computed by this process.

        Raises:
            StoreError: The disk refuses.
        """
        rows = 0
        try:
            for timeout in (0, -1):  # first the free blocks, then those that others had claimed
                for block in self.missing():
                    try:
                        with FileLock(self.folder / CLAIMS / f"{block}.lock", timeout=timeout):
                            if block in self.missing():
                                rows += self._fill_block(block, compute)
                    except Timeout:
                        continue
        except OSError as error:
            raise _refused(error, self.folder) from error
        return rows

    def read(self, rows: np.ndarray, longest: int | None = None) -> dict[str, Tensor]:
        """Return rows, (n, …) by name, copied into memory; of varying lengths along their first axis, `longest`."""
        read = {}
        for name, array in self._maps.items():
            taken = array[rows] if longest is None or array.ndim < 3 else array[rows, :longest]
            tensor = torch.from_numpy(np.asarray(taken))
            read[name] = tensor.permute(0, 3, 1, 2) if tensor.ndim == 4 else tensor
        return read

    def close(self) -> None:
        """Close the entry, so that the store may remove it."""
        self._maps = {}
        self._used.close()

    def _slice(self, block: int) -> slice:
        return slice(block * self.block_rows, min(self.rows, (block + 1) * self.block_rows))

    def _fill_block(self, block: int, compute: Callable[[slice], Mapping[str, Tensor]]) -> int:
        where = self._slice(block)
        for name, tensor in compute(where).items():
            rows = tensor.permute(0, 2, 3, 1) if tensor.ndim == 4 else tensor
            array = np.ascontiguousarray(rows.cpu().numpy(), self.tensors[name].base)
            if array.shape[1:] != self.tensors[name].shape:  # padded to the longest of these rows, not of all
                whole = np.zeros((len(array), *self.tensors[name].shape), array.dtype)
                whole[:, : array.shape[1]] = array
                array = whole
            # Written, not memory-mapped: a full disk is an error here, but would kill the process there.
            with (self.folder / f"{name}.bin").open("r+b") as file:
                file.seek(where.start * self.tensors[name].itemsize)
                file.write(array.data)
        line = json.dumps({"block": block, "digest": self._digest(block)})
        with (self.folder / DONE).open("a") as file:
            file.write(f"\n{line}\n")  # in one write; the first newline ends a half-written line
        return where.stop - where.start

    def _noted(self) -> dict[int, str]:
        noted = {}
        for line in (self.folder / DONE).read_text(errors="replace").splitlines():
            try:
                record = json.loads(line)
                noted[int(record["block"])] = str(record["digest"])
            except (ValueError, KeyError, TypeError):  # the process was killed while it wrote the line
                continue
        return {block: digest for block, digest in noted.items() if 0 <= block * self.block_rows < self.rows}

    def _digest(self, block: int) -> str:
        digest = xxhash.xxh3_128()
        for name in sorted(self._maps):
            digest.update(self._maps[name][self._slice(block)].data)
        return digest.hexdigest()


def capacity(root: Path, gigabytes: float | None) -> int:
    """Return the capacity of a store in bytes.

    Where the user set none, it is half of the memory, so that the page cache can hold it, and at most a quarter of the
    free space on the disk.
    """
    if gigabytes is not None:
        return int(gigabytes * 1e9)
    place = next(path for path in (root, *root.parents) if path.exists())
    return min(psutil.virtual_memory().total // 2, shutil.disk_usage(place).free // 4)


def layout_of(state: Mapping[str, Tensor], longest: int | None = None) -> dict[str, tuple[tuple[int, ...], str]]:
    """Return the layout of rows like these; `longest` is the length of rows of varying length, which have two axes."""
    layout = {}
    for name, tensor in state.items():
        shape = tuple(tensor.shape[1:])
        if longest is not None and tensor.ndim == 3:
            shape = (longest, *shape[1:])
        layout[name] = (shape, str(tensor.dtype).removeprefix("torch."))
    return layout


def _on_disk(layout: Layout) -> dict[str, np.dtype]:
    """Return shape and type of a row of each tensor on the disk, where feature maps (C, H, W) have channels last."""
    return {
        name: np.dtype((dtype, (*shape[1:], shape[0]) if len(shape) == 3 else tuple(shape)))
        for name, (shape, dtype) in layout.items()
    }


def _describe(rows: int, layout: Layout) -> dict[str, Any]:
    tensors = [[name, list(tensor.shape), tensor.base.name] for name, tensor in sorted(_on_disk(layout).items())]
    return {"rows": rows, "tensors": tensors}


def _block_rows(rows: int, layout: Layout, row_seconds: float) -> int:
    """Return the number of rows in a block, in whole batches."""
    quick = min(BLOCK_SECONDS / max(row_seconds, 1e-9), BLOCK_BYTES / max(1, _size(1, layout)), rows)
    return BATCH * math.ceil(max(1, rows / BLOCKS, quick) / BATCH)


def _size(rows: int, layout: Layout) -> int:
    return rows * sum(tensor.itemsize for tensor in _on_disk(layout).values())


def _is_sound(folder: Path, rows: int, layout: Layout) -> bool:
    """Return True if an entry's files exist and have the right size; contents are checked block by block."""
    try:
        written = json.loads((folder / LAYOUT).read_text())
        sizes = {name: (folder / f"{name}.bin").stat().st_size for name in layout}
    except (OSError, ValueError):
        return False
    right = all(sizes[name] == rows * tensor.itemsize for name, tensor in _on_disk(layout).items())
    others = all((folder / name).exists() for name in (USED, DONE, CLAIMS))
    known = isinstance(written, dict) and _describe(rows, layout).items() <= written.items()
    return right and others and known and written.get("block_rows", 0) > 0


def _reserve(file: Path, size: int) -> None:
    """Write a file of zeros with its space on the disk allocated."""
    with file.open("wb") as opened:
        if hasattr(os, "posix_fallocate") and size:
            os.posix_fallocate(opened.fileno(), 0, size)
        else:
            opened.truncate(size)


def _remove_unused(used: Path) -> bool:
    """Remove an entry unless a trial uses it, and return True if it is gone; no trial can begin to use it meanwhile."""
    with suppress(FileNotFoundError), used.open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        shutil.rmtree(used.parent, ignore_errors=True)
    return True


def _refused(error: OSError, place: Path) -> StoreError:
    return StoreError(f"{error.strerror or error}: {place}")


def _gib(size: int) -> str:
    return f"{size / 2**30:.2f} GiB"
