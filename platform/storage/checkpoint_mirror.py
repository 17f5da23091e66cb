"""A trial's checkpoints in a bucket: other nodes go on from them when the one that wrote them goes away."""

import functools
import os
import posixpath
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from platform.storage import filesystem
from platform.storage.manifest import MANIFEST, DamagedError

EPOCH = "epoch-"  # beginning of a checkpoint's name


class StorageError(OSError):
    """The bucket did not take or give a checkpoint."""


def _told(method: Callable[..., Any]) -> Callable[..., Any]:
    """Says of what a bucket answers that it was the bucket."""

    @functools.wraps(method)
    def guarded(self: "Mirror", *arguments: Any) -> Any:
        try:
            return method(self, *arguments)
        except OSError as error:
            raise StorageError(f"{self.place}: {error}") from error

    return guarded


class Mirror:
    """A place that checkpoints are sent to. What they share, frozen stages, lies beside it as it does in folders.

    All methods raise StorageError where it does not answer.
    """

    def __init__(self, place: str) -> None:
        """
        Args:
            place: The trial's, e.g. "s3://bucket/studies/NAME/trials/007".
        """
        self.place = place
        self._sent: set[str] = set()  # frozen stages

    @_told
    def epochs(self) -> list[int]:
        """Of which there are checkpoints, in order. One that was not sent to its end is none."""
        names = [name for name in filesystem.names(self.place) if name.startswith(EPOCH)]
        whole = [name for name in names if filesystem.read(f"{self.place}/{name}/{MANIFEST}") is not None]
        return sorted(int(name.removeprefix(EPOCH)) for name in whole)

    @_told
    def send(self, folder: Path, stage_files: Iterable[Path]) -> None:
        """Sends a checkpoint, after the files that it shares with others."""
        for file in stage_files:
            place = self._beside(folder, file)
            if place not in self._sent and file.name not in filesystem.names(posixpath.dirname(place)):
                filesystem.send_file(file, place)
            self._sent.add(place)
        filesystem.send(folder, f"{self.place}/{folder.name}")

    @_told
    def bring(self, folder: Path, stage_files: Callable[[Path], Iterable[Path]]) -> None:
        """Brings the checkpoint of a folder's name into it, and what it shares with others, unless they are there.

        Args:
            folder: Where to.
            stage_files: Tells the files that a checkpoint shares with others.

        Raises:
            DamagedError: It is not as it was written.
        """
        place, study = f"{self.place}/{folder.name}", folder.parent.parent.parent
        mine = (folder / MANIFEST).read_bytes() if (folder / MANIFEST).exists() else b""
        theirs = filesystem.read(f"{place}/{MANIFEST}")
        if theirs is None:
            raise FileNotFoundError(f"{place} is not there")
        if mine != theirs:
            shutil.rmtree(folder, ignore_errors=True)
            filesystem.bring_whole(place, folder)
        for file in stage_files(folder):
            if not file.is_relative_to(study):
                raise DamagedError(f"{file} is not of the study")
            if not file.exists():
                filesystem.bring(self._beside(folder, file), file)

    @_told
    def drop(self, name: str) -> None:
        """Deletes a checkpoint."""
        filesystem.delete(f"{self.place}/{name}/{MANIFEST}")  # first: what is left is no checkpoint
        filesystem.delete(f"{self.place}/{name}")

    @_told
    def forget(self) -> None:
        """Deletes all."""
        filesystem.delete(self.place)

    def _beside(self, folder: Path, file: Path) -> str:
        scheme, path = f"{self.place}/{folder.name}".split("://")
        return f"{scheme}://{posixpath.normpath(posixpath.join(path, os.path.relpath(file, folder)))}"
