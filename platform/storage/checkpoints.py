"""A checkpoint: safetensors for tensors, and one visible JSON file for all the rest.

    model.safetensors        the model's parameters and buffers, but those of frozen stages where these are shelved
    frozen.json              where those are: a file for each frozen stage, shared by all trials that have it frozen
    model.json               what it is: task, configuration, classes, … (what a task's `load` needs)
    optimizer.safetensors    the optimizer's state, by parameter name
    resume.json              where training stands: epoch, scores, freezing
    assets/                  files that belong to the model, a tokenizer say; not every task has them
    manifest.json            a hash of each of these files, written last

The model, its metadata and its assets serve by themselves; the rest is only for going on. A checkpoint is written whole
or not at all, and read only as it was written.
"""

import contextlib
import errno
import hashlib
import json
import os
import shutil
import tempfile
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import nn

from platform.storage import manifest
from platform.storage.checkpoint_mirror import EPOCH, Mirror, StorageError
from platform.storage.manifest import MANIFEST, DamagedError, file_mark, seal

if TYPE_CHECKING:
    pass

MODEL, METADATA, OPTIMIZER, RESUME = "model.safetensors", "model.json", "optimizer.safetensors", "resume.json"
ASSETS, FROZEN = "assets", "frozen.json"
PARTIAL = ".partial-"  # beginning of the name of what is being written
NEWEST = 2  # checkpoints of a trial that are kept besides the best: should one be damaged, there is one before


class DiskFullError(OSError):
    """There is no room for a checkpoint; those before are whole."""


@dataclass(frozen=True)
class Shelf:
    """Where frozen stages are kept, once for all checkpoints of a study.

    Attributes:
        folder: The folder.
        stages: By a hash of its tensors, the names of those of each frozen stage.
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
    shelf: Shelf | None = None,
) -> None:
    """Writes a checkpoint into a folder, which is made if it is missing.

    Args:
        folder: Where to.
        model: Its parameters and buffers are saved.
        metadata: What the model is.
        optimizer: Its state is saved.
        resume: Where training stands.
        assets: Files that belong to the model.
        shelf: Where frozen stages go; None: into the checkpoint.
    """
    folder.mkdir(parents=True, exist_ok=True)
    state = {name: value.contiguous() for name, value in model.state_dict().items()}
    if shelf and shelf.stages:
        files = [_shelve(shelf.folder, digest, {n: state.pop(n) for n in own if n in state})
                 for digest, own in shelf.stages.items()]  # fmt: skip
        # As seen from the checkpoint, so that both can be somewhere else on another node.
        (folder / FROZEN).write_text(json.dumps([os.path.relpath(file, folder) for file in files]))
    save_file(state, folder / MODEL)
    names = _parameter_names(model, optimizer)
    slots = optimizer.state_dict()["state"].items()
    moments = {f"{names[index]}/{key}": value.contiguous() for index, own in slots for key, value in own.items()}
    save_file(moments, folder / OPTIMIZER)
    (folder / METADATA).write_text(json.dumps(metadata, indent=2, ensure_ascii=False))
    (folder / RESUME).write_text(json.dumps(resume, indent=2))
    if assets is not None:
        shutil.copytree(assets, folder / ASSETS, dirs_exist_ok=True)


def restore(folder: Path, model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """Loads a checkpoint into a model and its optimizer, both built as they were.

    Returns:
        The resume state.
    """
    load_model(folder, model)
    index_of = {name: index for index, name in _parameter_names(model, optimizer).items()}
    parameters, state = dict(model.named_parameters()), dict[int, dict[str, torch.Tensor]]()
    for key, value in load_file(folder / OPTIMIZER).items():
        name, _, slot = key.rpartition("/")
        if value.shape == (parameter := parameters[name]).shape:
            # In the parameter's memory format: a fused step pairs what lies at the same place, whatever the strides.
            value = torch.empty_like(parameter, requires_grad=False).copy_(value)
        state.setdefault(index_of[name], {})[slot] = value
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
    return json.loads((folder / RESUME).read_text())


def load_model(folder: Path, model: nn.Module) -> None:
    """Loads the weights of a checkpoint or of a saved model, strictly."""
    model.load_state_dict(read_state(folder))


def read_state(folder: Path) -> dict[str, torch.Tensor]:
    """All tensors of a checkpoint or of a saved model, those of its frozen stages among them.

    Raises:
        FileNotFoundError: A frozen stage is no longer on its shelf.
    """
    return {key: value for file in [*shelved(folder), folder / MODEL] for key, value in load_file(file).items()}


def read_told(file: Path) -> tuple[dict[str, str], dict[str, torch.Tensor]]:
    """What a safetensors file says of itself, and its tensors by name.

    Raises:
        OSError, SafetensorError: It cannot be read, or is something else.
    """
    with safe_open(file, "pt") as opened:
        return opened.metadata() or {}, {key: opened.get_tensor(key) for key in opened.keys()}  # noqa: SIM118


def read_metadata(folder: Path) -> dict[str, Any]:
    """What a saved model says of itself."""
    return json.loads((folder / METADATA).read_text())


def export(folder: Path, target: Path) -> None:
    """Copies the model of a checkpoint, without what only resuming needs; each file whole or not at all.

    Raises:
        DamagedError: The checkpoint is not as it was written.
    """
    if (folder / MANIFEST).exists():
        verify(folder)
    target.mkdir(parents=True, exist_ok=True)
    save_file(read_state(folder), target / f".{MODEL}.partial")
    shutil.copyfile(folder / METADATA, target / f".{METADATA}.partial")
    for name in (MODEL, METADATA):
        (target / f".{name}.partial").replace(target / name)
    if (folder / ASSETS).exists():
        shutil.copytree(folder / ASSETS, target / ASSETS, dirs_exist_ok=True)


def _shelve(folder: Path, digest: str, state: dict[str, torch.Tensor]) -> str:
    """Writes a frozen stage, unless another trial has; returns its file, whose name ends with a hash of its bytes."""
    if there := sorted(folder.glob(f"{digest}-*.safetensors")):
        return str(there[0])
    folder.mkdir(parents=True, exist_ok=True)
    partial = folder / f".{digest}-{uuid.uuid4().hex}"
    save_file(state, partial)
    file = folder / f"{digest}-{file_mark(partial)}.safetensors"
    partial.replace(file)
    return str(file)


class Checkpoints:
    """A trial's, in a folder: the newest, and that of the best epoch.

    Attributes:
        notes: What was wrong with those that were passed over.
    """

    def __init__(self, folder: Path, remote: str = "") -> None:
        """
        Args:
            folder: Theirs alone.
            remote: Address in a bucket that they are sent to, and found by other nodes; "" where all see the folder.
        """
        self.folder, self.mirror = folder, Mirror(remote) if remote else None
        self.notes: list[str] = []

    def add(self, epoch: int, best: bool, write: Callable[[Path], None]) -> Path:
        """Writes the checkpoint of an epoch, whole or not at all, and deletes those that are no longer needed.

        Args:
            epoch: The epoch, from 1.
            best: Whether no epoch before was better.
            write: Writes the files into the folder that it is given.

        Raises:
            DiskFullError: There is no room.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        for stale in self.folder.glob(f"{PARTIAL}*"):  # of an attempt that was killed
            shutil.rmtree(stale, ignore_errors=True)
        self._prune()
        partial, target = Path(tempfile.mkdtemp(prefix=PARTIAL, dir=self.folder)), self.path(epoch)
        try:
            write(partial)
            seal(partial, best=best)
            partial.chmod(0o755)
            if target.exists():  # of an attempt before, whose word of it was lost
                shutil.rmtree(target)
            partial.rename(target)
            if self.mirror:
                self.mirror.send(target, shelved(target))
        except (OSError, SafetensorError) as error:
            shutil.rmtree(partial, ignore_errors=True)
            if isinstance(error, StorageError):
                raise
            if not _is_no_room(error):
                raise
            text = f"no room for the checkpoint of epoch {epoch} in {self.folder}; the one before is whole"
            raise DiskFullError(errno.ENOSPC, text) from error
        return target

    def path(self, epoch: int) -> Path:
        """Where the checkpoint of an epoch is, if there is one."""
        return self.folder / f"{EPOCH}{epoch}"

    def epochs(self) -> list[int]:
        """Of which there are checkpoints, in order."""
        return sorted(int(path.name.removeprefix(EPOCH)) for path in self.folder.glob(f"{EPOCH}*"))

    def newest(self, known: int | None = None) -> Path | None:
        """The newest that is as it was written, None where there is none.

        Args:
            known: The newest epoch that the study knows of: what was computed after it has not happened, and is
                deleted.
        """
        self.bring()
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

    def bring(self) -> None:
        """Makes the folder hold what its mirror holds, where there is one."""
        if self.mirror is None:
            return
        there = self.mirror.epochs()
        for epoch in set(self.epochs()) - set(there):  # of an attempt whose trial went on elsewhere
            shutil.rmtree(self.path(epoch))
        for epoch in there:
            try:
                self.mirror.bring(self.path(epoch), shelved)
            except DamagedError as error:
                self.notes.append(f"the checkpoint of epoch {epoch} is damaged in {self.mirror.place} ({error})")

    def get(self, epoch: int) -> Path:
        """The checkpoint of an epoch, brought here if need be.

        Raises:
            DamagedError, OSError: It is not as it was written, or cannot be reached.
        """
        if self.mirror:
            self.mirror.bring(self.path(epoch), shelved)
        return self.path(epoch)

    def forget(self) -> None:
        """Deletes all, and the folder if nothing else is in it.

        Raises:
            OSError: The mirror could not be reached.
        """
        if self.mirror:
            self.mirror.forget()
        for path in [*self.folder.glob(f"{EPOCH}*"), *self.folder.glob(f"{PARTIAL}*")]:
            shutil.rmtree(path, ignore_errors=True)
        with contextlib.suppress(OSError):
            self.folder.rmdir()

    def _prune(self) -> None:
        epochs = self.epochs()
        best = [epoch for epoch in epochs if _is_best(self.path(epoch))][-1:]
        for epoch in set(epochs) - set(epochs[-NEWEST:]) - set(best):
            self._drop(epoch)

    def _drop(self, epoch: int) -> None:
        shutil.rmtree(self.path(epoch))
        if self.mirror:
            self.mirror.drop(self.path(epoch).name)


def verify(folder: Path) -> None:
    """Reads a checkpoint's files, and the frozen stages that it names.

    Raises:
        DamagedError: One is missing or is not as it was written.
    """
    manifest.verify(folder)
    changed = []
    for file in shelved(folder):
        if not file.exists():
            changed.append(file.name)
        elif not file.stem.endswith(file_mark(file)):
            file.rename(file.with_suffix(".damaged"))  # so that it is written anew
            changed.append(file.name)
    if changed:
        raise DamagedError(f"{', '.join(changed)}: not as written")


def shelved(folder: Path) -> list[Path]:
    """The files that hold a checkpoint's frozen stages."""
    told = json.loads((folder / FROZEN).read_text()) if (folder / FROZEN).exists() else []
    return [Path(os.path.normpath(folder / name)) for name in told]


def _is_no_room(error: Exception) -> bool:
    """Whether the disk is full; safetensors tells of it in words alone."""
    return getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT) or f"(os error {errno.ENOSPC})" in str(error)


def _is_best(folder: Path) -> bool:
    try:
        return bool(json.loads((folder / MANIFEST).read_text()).get("best"))
    except (OSError, ValueError):
        return False


def file_hash(path: Path) -> str:
    """The SHA-256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _parameter_names(model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[int, str]:
    """The name of each parameter by its index in the optimizer's state."""
    name_of = {id(parameter): name for name, parameter in model.named_parameters()}
    members = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    return {index: name_of[id(parameter)] for index, parameter in enumerate(members)}
