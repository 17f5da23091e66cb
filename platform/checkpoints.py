"""A checkpoint: safetensors for tensors, and one visible JSON file for all the rest.

    model.safetensors        the model's parameters and buffers, but those of frozen stages where these are shelved
    frozen.json              where those are: a file for each frozen stage, shared by all trials that have it frozen
    model.json               what it is: task, configuration, classes, … (what a task's `load` needs)
    optimizer.safetensors    the optimizer's state, by parameter name
    resume.json              where training stands: epoch, scores, freezing
    assets/                  files that belong to the model, a tokenizer say; not every task has them

The model, its card and its assets serve by themselves; the rest is only for going on.
"""

import hashlib
import json
import shutil
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import nn

MODEL, CARD, OPTIMIZER, RESUME = "model.safetensors", "model.json", "optimizer.safetensors", "resume.json"
ASSETS, FROZEN = "assets", "frozen.json"


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
    card: dict,
    optimizer: torch.optim.Optimizer,
    resume: dict[str, Any],
    assets: Path | None = None,
    shelf: Shelf | None = None,
) -> None:
    """Writes a checkpoint into a folder, which is made if it is missing.

    Args:
        folder: Where to.
        model: Its parameters and buffers are saved.
        card: What the model is.
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
        (folder / FROZEN).write_text(json.dumps(files))
    save_file(state, folder / MODEL)
    names = _parameter_names(model, optimizer)
    slots = optimizer.state_dict()["state"].items()
    moments = {f"{names[index]}/{key}": value.contiguous() for index, own in slots for key, value in own.items()}
    save_file(moments, folder / OPTIMIZER)
    (folder / CARD).write_text(json.dumps(card, indent=2, ensure_ascii=False))
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
    state: dict[int, dict[str, torch.Tensor]] = {}
    for key, value in load_file(folder / OPTIMIZER).items():
        name, _, slot = key.rpartition("/")
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
    shelved = json.loads((folder / FROZEN).read_text()) if (folder / FROZEN).exists() else []
    return {key: value for file in [*shelved, folder / MODEL] for key, value in load_file(file).items()}


def read_told(file: Path) -> tuple[dict[str, str], dict[str, torch.Tensor]]:
    """What a safetensors file says of itself, and its tensors by name.

    Raises:
        OSError, SafetensorError: It cannot be read, or is something else.
    """
    with safe_open(file, "pt") as opened:
        return opened.metadata() or {}, {key: opened.get_tensor(key) for key in opened.keys()}  # noqa: SIM118


def read_card(folder: Path) -> dict[str, Any]:
    """What a saved model says of itself."""
    return json.loads((folder / CARD).read_text())


def export(folder: Path, target: Path) -> None:
    """Copies the model of a checkpoint, without what only resuming needs; each file whole or not at all."""
    target.mkdir(parents=True, exist_ok=True)
    save_file(read_state(folder), target / f".{MODEL}.partial")
    shutil.copyfile(folder / CARD, target / f".{CARD}.partial")
    for name in (MODEL, CARD):
        (target / f".{name}.partial").replace(target / name)
    if (folder / ASSETS).exists():
        shutil.copytree(folder / ASSETS, target / ASSETS, dirs_exist_ok=True)


def _shelve(folder: Path, digest: str, state: dict[str, torch.Tensor]) -> str:
    """Writes a frozen stage, unless another trial has; returns its file."""
    file = folder / f"{digest}.safetensors"
    if not file.exists():
        folder.mkdir(parents=True, exist_ok=True)
        partial = folder / f".{digest}-{uuid.uuid4().hex}"
        save_file(state, partial)
        partial.replace(file)
    return str(file)


def file_hash(path: Path) -> str:
    """The SHA-256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _parameter_names(model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[int, str]:
    """The name of each parameter by its index in the optimizer's state."""
    name_of = {id(parameter): name for name, parameter in model.named_parameters()}
    members = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    return {index: name_of[id(parameter)] for index, parameter in enumerate(members)}
