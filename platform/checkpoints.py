"""A checkpoint: safetensors for tensors, and one visible JSON file for all the rest.

    model.safetensors        the model's parameters and buffers
    model.json               what it is: task, configuration, classes, … (what a task's `load` needs)
    optimizer.safetensors    the optimizer's state, by parameter name
    resume.json              where training stands: epoch, scores, freezing
    assets/                  files that belong to the model, a tokenizer say; not every task has them

The model, its card and its assets serve by themselves; the rest is only for going on.
"""

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import nn

MODEL, CARD, OPTIMIZER, RESUME = "model.safetensors", "model.json", "optimizer.safetensors", "resume.json"
ASSETS = "assets"


def save(
    folder: Path,
    model: nn.Module,
    card: dict,
    optimizer: torch.optim.Optimizer,
    resume: dict[str, Any],
    assets: Path | None = None,
) -> None:
    """Writes a checkpoint into a folder, which is made if it is missing."""
    folder.mkdir(parents=True, exist_ok=True)
    save_file({name: value.contiguous() for name, value in model.state_dict().items()}, folder / MODEL)
    names = _parameter_names(model, optimizer)
    state = optimizer.state_dict()["state"]
    save_file(
        {f"{names[index]}/{key}": value.contiguous() for index, slots in state.items() for key, value in slots.items()},
        folder / OPTIMIZER,
    )
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
    model.load_state_dict(load_file(folder / MODEL))


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
    """Copies the model of a checkpoint, without what only resuming needs; whole or not at all."""
    target.mkdir(parents=True, exist_ok=True)
    for name in (MODEL, CARD):
        partial = target / f".{name}.partial"
        partial.write_bytes((folder / name).read_bytes())
        partial.replace(target / name)
    if (folder / ASSETS).exists():
        shutil.copytree(folder / ASSETS, target / ASSETS, dirs_exist_ok=True)


def file_hash(path: Path) -> str:
    """The SHA-256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _parameter_names(model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[int, str]:
    """The name of each parameter by its index in the optimizer's state."""
    name_of = {id(parameter): name for name, parameter in model.named_parameters()}
    members = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    return {index: name_of[id(parameter)] for index, parameter in enumerate(members)}
