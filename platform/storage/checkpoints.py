"""Checkpoints of a trial: a folder for each epoch that is kept.

    model.safetensors        parameters and buffers of the model, without frozen stages that are stored once per study
    frozen.json              files of those frozen stages, shared by all checkpoints of the study
    model.json               model metadata: task, config, classes, … (what the task's `load` needs)
    optimizer.pt             state of the optimizer, as torch.save writes it
    resume.json              state of the training: epoch, scores, freezing
    assets/                  further files of the model, such as a tokenizer; not every task has them
    manifest.json            a hash of each of these files, written last

Model, metadata and assets are enough to use the model; the rest is for resuming. A checkpoint is written as a whole or
not at all, and is read only if it still matches its manifest.
"""

import contextlib
import errno
import json
import os
import shutil
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import nn

from platform.storage import atomic, hashing, manifest
from platform.storage.atomic import PARTIAL
from platform.storage.checkpoint_mirror import EPOCH, CheckpointMirror, StorageError
from platform.storage.manifest import MANIFEST, DamagedError, seal

MODEL, METADATA, OPTIMIZER, RESUME = "model.safetensors", "model.json", "optimizer.pt", "resume.json"
ASSETS, FROZEN = "assets", "frozen.json"
NEWEST = 2  # checkpoints that are kept besides the best when another is written; a damaged one has one before it


class DiskFullError(OSError):
    """The disk has no room for a checkpoint; earlier checkpoints are intact."""


@dataclass(frozen=True)
class SharedStages:
    """Frozen stages that are stored once for all checkpoints of a study.

    Attributes:
        folder: Folder that holds them.
        stages: Names of the tensors of each frozen stage, by a hash of the stage.
    """

    folder: Path
    stages: Mapping[str, Sequence[str]]


def save(
    folder: Path,
    model: nn.Module,
    metadata: dict,
    optimizer: torch.optim.Optimizer,
    resume: dict[str, Any],
    assets: Path | None = None,
    shared: SharedStages | None = None,
) -> None:
    """Write a checkpoint into a folder, which is made if it is missing.

    Args:
        folder: Folder of the checkpoint.
        model: Model whose parameters and buffers are saved.
        metadata: Model metadata.
        optimizer: Optimizer whose state is saved.
        resume: State of the training; JSON.
        assets: Folder with further files of the model.
        shared: Frozen stages that are stored outside of the checkpoint; None: the checkpoint holds the whole model.
    """
    folder.mkdir(parents=True, exist_ok=True)
    state = {name: value.contiguous() for name, value in model.state_dict().items()}
    if shared and shared.stages:
        files = []
        for digest, names in shared.stages.items():  # their buffers that are not persistent have no place in the state
            stage = {name: state.pop(name) for name in names if name in state}
            files.append(_store_stage(shared.folder, digest, stage))
        # Relative to the checkpoint, so that both can lie in other places on another node.
        (folder / FROZEN).write_text(json.dumps([os.path.relpath(file, folder) for file in files]))
    save_file(state, folder / MODEL)
    with (folder / OPTIMIZER).open("wb") as file:  # given a path, torch hides that the disk is full
        torch.save(optimizer.state_dict()["state"], file)
    (folder / METADATA).write_text(json.dumps(metadata, indent=2, ensure_ascii=False))
    (folder / RESUME).write_text(json.dumps(resume, indent=2))
    if assets is not None:
        _copy_folder(assets, folder / ASSETS)


def restore(folder: Path, model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """Load a checkpoint into a model and its optimizer, both built as they were, and return the training's state."""
    load_model(folder, model)
    state = torch.load(folder / OPTIMIZER, weights_only=True, map_location="cpu")
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
    return json.loads((folder / RESUME).read_text())


def load_model(folder: Path, model: nn.Module) -> None:
    """Load the weights of a checkpoint or of a saved model; all tensors must match."""
    model.load_state_dict(read_state(folder))


def read_state(folder: Path) -> dict[str, torch.Tensor]:
    """Return all tensors of a checkpoint or of a saved model, including those of frozen stages.

    Raises:
        FileNotFoundError: The file of a frozen stage is gone.
    """
    return {key: value for file in [*stage_files(folder), folder / MODEL] for key, value in load_file(file).items()}


def read_tensors(file: Path) -> tuple[dict[str, str], dict[str, torch.Tensor]]:
    """Return the metadata of a safetensors file, and its tensors by name.

    Raises:
        OSError, SafetensorError: The file cannot be read, or is of another kind.
    """
    with safe_open(file, "pt") as opened:
        return opened.metadata() or {}, {key: opened.get_tensor(key) for key in opened.keys()}  # noqa: SIM118


def read_metadata(folder: Path) -> dict[str, Any]:
    """Return the metadata of a saved model."""
    return json.loads((folder / METADATA).read_text())


def copy_model(folder: Path, target: Path) -> None:
    """Copy the model of a checkpoint without what only resuming needs; each file as a whole or not at all.

    Raises:
        DamagedError: The checkpoint differs from what was written.
    """
    if (folder / MANIFEST).exists():
        verify(folder)
    target.mkdir(parents=True, exist_ok=True)
    with atomic.new_file(target / MODEL) as model, atomic.new_file(target / METADATA) as metadata:
        save_file(read_state(folder), model)
        shutil.copyfile(folder / METADATA, metadata)
    if (folder / ASSETS).exists():
        _copy_folder(folder / ASSETS, target / ASSETS)


def _copy_folder(source: Path, target: Path) -> None:
    """Copy a folder file by file: the error of shutil.copytree does not say in a code that the disk is full."""
    for file in sorted(path for path in source.rglob("*") if path.is_file()):
        copy = target / file.relative_to(source)
        copy.parent.mkdir(parents=True, exist_ok=True)
        with atomic.new_file(copy) as partial:
            shutil.copyfile(file, partial)


def _store_stage(folder: Path, digest: str, state: dict[str, torch.Tensor]) -> str:
    """Write a frozen stage unless another trial has, and return its file; the name ends with a digest of the bytes."""
    if there := sorted(folder.glob(f"{digest}-*.safetensors")):
        return str(there[0])
    folder.mkdir(parents=True, exist_ok=True)
    partial = folder / f".{digest}-{uuid.uuid4().hex}"
    try:
        save_file(state, partial)
        file = folder / f"{digest}-{hashing.file_digest(partial)}.safetensors"
        partial.replace(file)
    finally:
        partial.unlink(missing_ok=True)
    return str(file)


class Checkpoints:
    """Checkpoints of a trial in its checkpoint folder: the newest ones, and that of the best epoch.

    Attributes:
        notes: Why damaged checkpoints were not used.
    """

    def __init__(self, folder: Path, remote: str = "") -> None:
        """`remote` is an address in a bucket to upload them to for other nodes; "" if all nodes see the folder."""
        self.folder, self.mirror = folder, CheckpointMirror(remote) if remote else None
        self.notes: list[str] = []

    def add(self, epoch: int, best: bool, write: Callable[[Path], None]) -> Path:
        """Delete checkpoints that are no longer needed, and write that of an epoch as a whole.

        Args:
            epoch: Number of the epoch, from 1.
            best: Whether no earlier epoch was better.
            write: Writes the files into a given folder.

        Raises:
            DiskFullError: The disk has no room.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        for stale in self.folder.glob(f"{PARTIAL}*"):  # left by an attempt that was killed
            shutil.rmtree(stale, ignore_errors=True)
        self._delete_old()
        target = self.path(epoch)
        try:
            # an earlier attempt may have written the same epoch and died before its report arrived
            with atomic.new_folder(target, PARTIAL, replace=True) as partial:
                write(partial)
                seal(partial, best=best)
            if self.mirror:
                self.mirror.upload(target, stage_files(target))
        except (OSError, SafetensorError) as error:
            if isinstance(error, StorageError) or not _is_disk_full(error):
                raise
            text = f"no room for the checkpoint of epoch {epoch} in {self.folder}; earlier checkpoints are intact"
            raise DiskFullError(errno.ENOSPC, text) from error
        return target

    def path(self, epoch: int) -> Path:
        """Return the folder of the checkpoint of an epoch; it need not exist."""
        return self.folder / f"{EPOCH}{epoch}"

    def epochs(self) -> list[int]:
        """Return the epochs that have a checkpoint, in order."""
        return sorted(int(path.name.removeprefix(EPOCH)) for path in self.folder.glob(f"{EPOCH}*"))

    def newest(self, known: int | None = None) -> Path | None:
        """Return the newest checkpoint that is not damaged, None if there is none.

        Checkpoints of epochs after `known`, the study's last recorded one, are deleted: these epochs are repeated.
        """
        self._download()
        for epoch in reversed(self.epochs()):
            if known is not None and epoch > known:
                self._drop(epoch)
                continue
            try:
                verify(self.path(epoch))
                return self.path(epoch)
            except DamagedError as error:
                self.notes.append(f"the checkpoint of epoch {epoch} is damaged ({error})")
        return None

    def _download(self) -> None:
        """Make the folder equal to the mirror, if there is a mirror."""
        if self.mirror is None:
            return
        in_mirror = self.mirror.epochs()
        for epoch in set(self.epochs()) - set(in_mirror):  # left by an attempt before the trial moved to another node
            shutil.rmtree(self.path(epoch))
        for epoch in in_mirror:
            try:
                self.mirror.download(self.path(epoch), stage_files)
            except DamagedError as error:
                self.notes.append(f"the checkpoint of epoch {epoch} is damaged in {self.mirror.place} ({error})")

    def get(self, epoch: int) -> Path:
        """Return the checkpoint of an epoch, and fetch it from the mirror if necessary.

        Raises:
            DamagedError, OSError: The checkpoint differs from what was written, or cannot be reached.
        """
        if self.mirror:
            self.mirror.download(self.path(epoch), stage_files)
        return self.path(epoch)

    def delete_all(self) -> None:
        """Delete all checkpoints, and the folder if nothing else is in it.

        Raises:
            OSError: The mirror could not be reached.
        """
        if self.mirror:
            self.mirror.delete_all()
        for path in [*self.folder.glob(f"{EPOCH}*"), *self.folder.glob(f"{PARTIAL}*")]:
            shutil.rmtree(path, ignore_errors=True)
        with contextlib.suppress(OSError):
            self.folder.rmdir()

    def _delete_old(self) -> None:
        epochs = self.epochs()
        best = [epoch for epoch in epochs if _is_best(self.path(epoch))][-1:]
        for epoch in set(epochs) - set(epochs[-NEWEST:]) - set(best):
            self._drop(epoch)

    def _drop(self, epoch: int) -> None:
        shutil.rmtree(self.path(epoch))
        if self.mirror:
            self.mirror.delete(self.path(epoch).name)


def verify(folder: Path) -> None:
    """Check the files of a checkpoint, and the files of its frozen stages, of which damaged ones are set aside.

    Raises:
        DamagedError: A file is missing or differs from what was written.
    """
    manifest.verify(folder)
    changed = []
    for file in stage_files(folder):
        if not file.exists():
            changed.append(file.name)
        elif not file.stem.endswith(hashing.file_digest(file)):
            file.rename(file.with_suffix(".damaged"))  # so that the next checkpoint writes it again
            changed.append(file.name)
    if changed:
        raise DamagedError(f"{', '.join(changed)}: differs from what was written")


def stage_files(folder: Path) -> list[Path]:
    """Return the files that hold the frozen stages of a checkpoint."""
    names = json.loads((folder / FROZEN).read_text()) if (folder / FROZEN).exists() else []
    return [Path(os.path.normpath(folder / name)) for name in names]


def _is_disk_full(error: Exception) -> bool:
    """Return whether an error means that the disk is full; safetensors says so only in its message."""
    codes = (errno.ENOSPC, errno.EDQUOT)
    return getattr(error, "errno", None) in codes or any(f"(os error {code})" in str(error) for code in codes)


def _is_best(folder: Path) -> bool:
    try:
        return bool(json.loads((folder / MANIFEST).read_text()).get("best"))
    except (OSError, ValueError):
        return False
