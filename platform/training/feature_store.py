"""The prefix store: what frozen stages made of examples, kept once for all trials of a node.

An entry is a folder, named by a hash of all that its content follows from (`facts`). It is filled in blocks: whoever
needs it claims a block that nobody has, computes it and notes it as done, so that trials share the work, and what a
killed one had claimed is free again. Each block is noted with a hash of its bytes, which is checked when the entry is
opened: what was truncated or altered is computed again.

    facts.json      what the entry is of, for people
    layout.json     rows, and of each tensor the shape of a row and the type
    NAME.bin        a tensor: rows one after the other, maps with their channels last, as convolutions read them fastest
    done.jsonl      a line for each block that is done
    claims/         a lock for each block
    used            its time is that of the last use; locked by those who use the entry

The store has a size. For a new entry to fit, those that nobody uses go, the longest unused first.
"""

import fcntl
import json
import math
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
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

FORMAT = 2  # of what is on the disk
# Rows that go through the frozen stages at a time. The last bits of what comes out depend on how many they are, so all
# blocks are made of whole batches: the same rows are computed together however quick the machine is just then.
BATCH = 64
BLOCKS = 64  # at most so many an entry; larger ones of what is quick to compute: claiming a block takes time too
BLOCK_SECONDS, BLOCK_BYTES = 0.5, 1 << 26
RESERVE = 1 << 30  # bytes of the disk that are left to checkpoints and records
FACTS, LAYOUT, DONE, CLAIMS, USED = "facts.json", "layout.json", "done.jsonl", "claims", "used"
PARTIAL, PROBE = ".partial-", ".probe-"
STALE = 3600  # seconds after which a probe was left by one that was killed

Layout = Mapping[str, tuple[tuple[int, ...], str]]  # by name: the shape of a row as the model has it, and NumPy's type


class StoreError(Exception):
    """The store cannot take or give an entry, and why; the trial goes on without it."""


@dataclass(frozen=True)
class _Tensor:
    """How a tensor lies on the disk."""

    shape: tuple[int, ...]  # of a row
    dtype: np.dtype

    @property
    def row_bytes(self) -> int:
        return int(np.prod(self.shape)) * self.dtype.itemsize


class Store:
    """Entries in a folder of the node."""

    def __init__(self, root: Path, capacity: int) -> None:
        """
        Args:
            root: The folder.
            capacity: Bytes that all entries may take together.
        """
        self.root, self.capacity = root, capacity

    def open(self, facts: Mapping[str, Any], rows: int, layout: Layout, row_seconds: float = 1.0) -> "Entry":
        """The entry of these facts, to be closed after use; made, empty, if it is not there.

        Args:
            facts: All that its content follows from.
            rows: How many examples it is of.
            layout: What a row is like.
            row_seconds: What computing one takes, about.

        Raises:
            StoreError: There is no room for it, or the disk does not let us.
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
            raise StoreError(f"{error.strerror or error}: {self.root}") from error

    def find(self, facts: Mapping[str, Any]) -> "Entry | None":
        """The entry of these facts if all of it is there, to be closed after use."""
        folder = self.root / key_of(facts)
        try:
            with FileLock(self.root / ".lock"):
                if not (folder / LAYOUT).exists():
                    return None
                entry = Entry(folder)
        except (OSError, ValueError, KeyError):  # nothing that could be used
            return None
        if entry.missing():
            entry.close()
            return None
        return entry

    def remember(self, facts: Mapping[str, Any], measure: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """What was once measured under these facts on this node; measured now if it was not.

        Raises:
            StoreError: The disk does not let us.
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
            raise StoreError(f"{error.strerror or error}: {self.root}") from error

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
            raise StoreError(
                f"the store of {_gib(self.capacity)} has {_gib(max(0, self.capacity - taken))} free, not {_gib(needed)}"
            )
        if self._free() < needed:
            raise StoreError(f"the disk has no room for {_gib(needed)}: {self.root}")

    def _free(self) -> int:
        return shutil.disk_usage(self.root).free - RESERVE

    def _make(self, folder: Path, facts: Mapping[str, Any], rows: int, layout: Layout, block_rows: int) -> None:
        probes = [path for path in self.root.glob(f"{PROBE}*") if time.time() - path.stat().st_mtime > STALE]
        for left in (*self.root.glob(f"{PARTIAL}*"), *probes):  # by one that was killed: we hold the lock
            shutil.rmtree(left, ignore_errors=True)
        partial = Path(tempfile.mkdtemp(prefix=PARTIAL, dir=self.root))
        try:
            for name, tensor in _on_disk(layout).items():
                _reserve(partial / f"{name}.bin", rows * tensor.row_bytes)
            (partial / CLAIMS).mkdir()
            for name in (USED, DONE):
                (partial / name).touch()
            (partial / FACTS).write_text(json.dumps(facts, indent=2))
            (partial / LAYOUT).write_text(json.dumps(_describe(rows, layout) | {"block_rows": block_rows}))
            partial.rename(folder)
        except OSError:
            shutil.rmtree(partial, ignore_errors=True)
            raise


class Entry:
    """An open entry.

    Attributes:
        rows: How many examples it is of.
        altered: Blocks that were noted as done, and whose bytes were no longer what they had been.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        written = json.loads((folder / LAYOUT).read_text())
        self.rows: int = written["rows"]
        self.tensors = {name: _Tensor(tuple(shape), np.dtype(dtype)) for name, shape, dtype in written["tensors"]}
        self.block_rows: int = written["block_rows"]
        self.altered: set[int] = set()
        self._used = (folder / USED).open("a")
        fcntl.flock(self._used, fcntl.LOCK_SH)
        os.utime(folder / USED)
        self._maps = {
            name: np.memmap(folder / f"{name}.bin", tensor.dtype, "r", shape=(self.rows, *tensor.shape))
            for name, tensor in self.tensors.items()
        }
        self._sound: dict[int, str] = {}  # block → the hash under which its bytes were found to be right

    @property
    def bytes(self) -> int:
        return self.rows * sum(tensor.row_bytes for tensor in self.tensors.values())

    def missing(self) -> list[int]:
        """The blocks that are not there, or no longer as they were written."""
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
        """Sees to it that all of the entry is there: computes what nobody has, and waits for what others compute.

        Args:
            compute: The rows of a slice → tensors (n, …) by name, as the layout says or shorter along the second axis.

        Returns:
            How many rows were computed here.

        Raises:
            StoreError: The disk does not let us.
        """
        rows = 0
        try:
            for timeout in (0, -1):  # first what is free, then what the others were at
                for block in self.missing():
                    try:
                        with FileLock(self.folder / CLAIMS / f"{block}.lock", timeout=timeout):
                            if block in self.missing():
                                rows += self._fill_block(block, compute)
                    except Timeout:
                        continue
        except OSError as error:
            raise StoreError(f"{error.strerror or error}: {self.folder}") from error
        return rows

    def read(self, rows: np.ndarray, longest: int | None = None) -> dict[str, Tensor]:
        """Some rows, (n, …) by name, copied into memory.

        Args:
            rows: Their indices.
            longest: Where the rows end along their first axis, if they are of varying length.
        """
        read = {}
        for name, array in self._maps.items():
            taken = array[rows] if longest is None or array.ndim < 3 else array[rows, :longest]
            tensor = torch.from_numpy(np.asarray(taken))
            read[name] = tensor.permute(0, 3, 1, 2) if tensor.ndim == 4 else tensor
        return read

    def close(self) -> None:
        """Gives the entry free for removal."""
        self._maps = {}
        self._used.close()

    def _slice(self, block: int) -> slice:
        return slice(block * self.block_rows, min(self.rows, (block + 1) * self.block_rows))

    def _fill_block(self, block: int, compute: Callable[[slice], Mapping[str, Tensor]]) -> int:
        where = self._slice(block)
        for name, tensor in compute(where).items():
            rows = tensor.permute(0, 2, 3, 1) if tensor.ndim == 4 else tensor
            array = np.ascontiguousarray(rows.cpu().numpy(), self.tensors[name].dtype)
            if array.shape[1:] != self.tensors[name].shape:  # padded to the longest of these rows, not of all
                whole = np.zeros((len(array), *self.tensors[name].shape), array.dtype)
                whole[:, : array.shape[1]] = array
                array = whole
            # Written, not mapped: a full disk is an error here, and would kill the process there.
            with (self.folder / f"{name}.bin").open("r+b") as file:
                file.seek(where.start * self.tensors[name].row_bytes)
                file.write(array.data)
        line = json.dumps({"block": block, "digest": self._digest(block)})
        with (self.folder / DONE).open("a") as file:
            file.write(f"\n{line}\n")  # in one piece; a half-written line of one that was killed ends here
        return where.stop - where.start

    def _noted(self) -> dict[int, str]:
        noted = {}
        for line in (self.folder / DONE).read_text(errors="replace").splitlines():
            try:
                told = json.loads(line)
                noted[int(told["block"])] = str(told["digest"])
            except (ValueError, KeyError, TypeError):  # a writer was killed
                continue
        return {block: digest for block, digest in noted.items() if 0 <= block * self.block_rows < self.rows}

    def _digest(self, block: int) -> str:
        digest = xxhash.xxh3_128()
        for name in sorted(self._maps):
            digest.update(self._maps[name][self._slice(block)].data)
        return digest.hexdigest()


def capacity(root: Path, gigabytes: float | None) -> int:
    """Bytes that a store may hold.

    Args:
        root: Its folder.
        gigabytes: What was asked for; None: half of the memory, so that what is read lies in it, and at most a quarter
            of what is free on the disk.
    """
    if gigabytes is not None:
        return int(gigabytes * 1e9)
    place = next(path for path in (root, *root.parents) if path.exists())
    return min(psutil.virtual_memory().total // 2, shutil.disk_usage(place).free // 4)


def layout_of(state: Mapping[str, Tensor], longest: int | None = None) -> dict[str, tuple[tuple[int, ...], str]]:
    """The layout of rows like these.

    Args:
        state: Tensors (n, …) by name.
        longest: How long rows of varying length can be: what has a second and a third axis is of such rows then.
    """
    layout = {}
    for name, tensor in state.items():
        shape = tuple(tensor.shape[1:])
        if longest is not None and tensor.ndim == 3:
            shape = (longest, *shape[1:])
        layout[name] = (shape, str(tensor.dtype).removeprefix("torch."))
    return layout


def _on_disk(layout: Layout) -> dict[str, _Tensor]:
    """Maps (C, H, W) lie there with their channels last."""
    return {
        name: _Tensor((*shape[1:], shape[0]) if len(shape) == 3 else tuple(shape), np.dtype(dtype))
        for name, (shape, dtype) in layout.items()
    }


def _describe(rows: int, layout: Layout) -> dict[str, Any]:
    tensors = [[name, list(tensor.shape), tensor.dtype.name] for name, tensor in sorted(_on_disk(layout).items())]
    return {"rows": rows, "tensors": tensors}


def _block_rows(rows: int, layout: Layout, row_seconds: float) -> int:
    """How many rows are claimed at a time, in whole batches."""
    quick = min(BLOCK_SECONDS / max(row_seconds, 1e-9), BLOCK_BYTES / max(1, _size(1, layout)), rows)
    return BATCH * math.ceil(max(1, rows / BLOCKS, quick) / BATCH)


def _size(rows: int, layout: Layout) -> int:
    return rows * sum(tensor.row_bytes for tensor in _on_disk(layout).values())


def _is_sound(folder: Path, rows: int, layout: Layout) -> bool:
    """Whether the files of an entry are there and of the right size; what is in them is checked block by block."""
    try:
        written = json.loads((folder / LAYOUT).read_text())
        sizes = {name: (folder / f"{name}.bin").stat().st_size for name in layout}
    except (OSError, ValueError):
        return False
    right = all(sizes[name] == rows * tensor.row_bytes for name, tensor in _on_disk(layout).items())
    others = all((folder / name).exists() for name in (USED, DONE, CLAIMS))
    known = isinstance(written, dict) and _describe(rows, layout).items() <= written.items()
    return right and others and known and written.get("block_rows", 0) > 0


def _reserve(file: Path, size: int) -> None:
    """A file of zeros for which the disk has set room aside."""
    with file.open("wb") as opened:
        if hasattr(os, "posix_fallocate") and size:
            os.posix_fallocate(opened.fileno(), 0, size)
        else:
            opened.truncate(size)


def _remove_unused(used: Path) -> bool:
    with _exclusive(used) as is_mine:
        if is_mine:
            shutil.rmtree(used.parent, ignore_errors=True)
        return is_mine


@contextmanager
def _exclusive(used: Path) -> Iterator[bool]:
    """Whether nobody uses an entry; while inside, nobody can."""
    try:
        with used.open("a") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                yield False
                return
            yield True
    except FileNotFoundError:
        yield True


def _gib(size: int) -> str:
    return f"{size / 2**30:.2f} GiB"
