"""Copy of a trial's checkpoints in a bucket, from which another node continues if the first is lost."""

import os
import posixpath
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from platform.storage import filesystem
from platform.storage.manifest import MANIFEST, DamagedError

EPOCH = "epoch-"  # beginning of a checkpoint's name


class StorageError(OSError):
    """A checkpoint could not be read from or written to the bucket."""


class CheckpointMirror:
    """Place in a bucket that holds a trial's checkpoints; the stages that they share lie beside it, as in folders.

    All methods raise StorageError if the bucket does not answer.
    """

    def __init__(self, place: str) -> None:
        """`place` is the address for the trial, e.g. "s3://bucket/studies/NAME/trials/007"."""
        self.place = place
        self._uploaded: set[str] = set()  # addresses of shared stages

    def epochs(self) -> list[int]:
        """Return the epochs that have a checkpoint, sorted. A checkpoint that was uploaded in part does not count."""
        with self._storage_errors():
            names = [name for name in filesystem.names(self.place) if name.startswith(EPOCH)]
            whole = [name for name in names if filesystem.read(f"{self.place}/{name}/{MANIFEST}") is not None]
        return sorted(int(name.removeprefix(EPOCH)) for name in whole)

    def upload(self, folder: Path, stage_files: Iterable[Path]) -> None:
        """Upload a checkpoint, after the files that it shares with other checkpoints."""
        with self._storage_errors():
            for file in stage_files:
                place = self._address(folder, file)
                if place not in self._uploaded and file.name not in filesystem.names(posixpath.dirname(place)):
                    filesystem.upload_file(file, place)
                self._uploaded.add(place)
            filesystem.upload(folder, f"{self.place}/{folder.name}")

    def download(self, folder: Path, stage_files: Callable[[Path], Iterable[Path]]) -> None:
        """Download a checkpoint and the files that it shares with others, unless they exist here.

        The name of the folder says which one is meant; `stage_files` returns what it shares.

        Raises:
            DamagedError: The checkpoint differs from what was written.
        """
        with self._storage_errors():
            place, study = f"{self.place}/{folder.name}", folder.parent.parent.parent
            local_manifest = (folder / MANIFEST).read_bytes() if (folder / MANIFEST).exists() else b""
            manifest = filesystem.read(f"{place}/{MANIFEST}")
            if manifest is None:
                raise FileNotFoundError(f"{place} does not exist")
            if local_manifest != manifest:
                shutil.rmtree(folder, ignore_errors=True)
                filesystem.download_verified(place, folder)
            for file in stage_files(folder):
                if not file.is_relative_to(study):
                    raise DamagedError(f"{file} does not lie in the study's folder")
                if not file.exists():
                    filesystem.download(self._address(folder, file), file)

    def delete(self, name: str) -> None:
        """Delete a checkpoint."""
        with self._storage_errors():
            filesystem.delete(f"{self.place}/{name}/{MANIFEST}")  # first: without it, the rest is no checkpoint
            filesystem.delete(f"{self.place}/{name}")

    def delete_all(self) -> None:
        """Delete all checkpoints of the trial."""
        with self._storage_errors():
            filesystem.delete(self.place)

    @contextmanager
    def _storage_errors(self) -> Iterator[None]:
        """Raise a StorageError that names the place instead of the block's OSError."""
        try:
            yield
        except OSError as error:
            raise StorageError(f"{self.place}: {error}") from error

    def _address(self, folder: Path, file: Path) -> str:
        """Return the address of a file whose place relative to the checkpoint is the same as here."""
        scheme, path = f"{self.place}/{folder.name}".split("://")
        return f"{scheme}://{posixpath.normpath(posixpath.join(path, os.path.relpath(file, folder)))}"
