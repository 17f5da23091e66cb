"""Heads of a study as a file from which another study can start."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from platform.errors import Fault, InputError
from platform.models import text_encoders
from platform.models.multi_head import DECLARATION, MultiHead
from platform.storage import checkpoints

if TYPE_CHECKING:
    from platform.space import Space

_KEYS = {"classes", "layers", "width", "pooling", "hidden", "stages"}  # of the file's description


def save(model: MultiHead, file: Path) -> None:
    """Write the heads as a file of their own, with a description of their classes and of the encoder below them."""
    state = {key: value.contiguous() for key, value in model.heads.state_dict().items()}
    description = {key: getattr(model, key) for key in ("classes", "layers", "width", "pooling")}
    description |= {"hidden": model.encoder.hidden, "stages": len(model.encoder.stages())}
    save_file(state, file, {"heads": json.dumps(description)})


def read(file: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Read the description and the tensors in a file of heads.

    Returns:
        The description: "classes" and "layers" by head, "width" of a hidden layer, and of the encoder below the heads
        its "pooling", the number of "hidden" units and the number of its "stages"; and the tensors by name.

    Raises:
        InputError: The file does not hold heads.
    """
    try:
        metadata, state = checkpoints.read_tensors(file)
        description = json.loads(metadata["heads"])
        if missing := _KEYS - description.keys():
            raise KeyError(", ".join(sorted(missing)))
        _check(description)
    except (OSError, KeyError, TypeError, ValueError, AttributeError, RecursionError, SafetensorError) as error:
        rule = "heads must be 'new' or a study's weights/heads.safetensors"
        raise InputError(Fault(rule, f"{file}: {error}", "Check the path.")) from error
    return description, state


def _check(description: Mapping[str, Any]) -> None:
    """Raise an error if a description has values of other kinds than `save` writes."""
    classes, layers = description["classes"], description["layers"]
    words = all(isinstance(name, str) for names in classes.values() for name in list(names))
    sizes = [*(layers[head] for head in classes), *(description[key] for key in ("width", "hidden", "stages"))]
    counts = all(type(size) is int and size >= 0 for size in sizes)
    if not (words and counts and isinstance(description["pooling"], str)):
        raise ValueError("other kinds of values than a study writes")


def load(model: MultiHead, file: Path) -> None:
    """Load those heads of a file that the model has with the same classes."""
    description, state = read(file)
    for head, module in model.heads.items():
        if description["classes"].get(head) == model.classes[head]:
            prefix = f"{head}."
            module.load_state_dict({k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)})


def faults(space: "Space", classes: Mapping[str, Sequence[str]], file: Path) -> list[Fault]:
    """Return the reasons why the heads in a file do not fit a space without baselines, and the data's classes."""
    from platform.space import show  # a logged model comes without the spaces, and without Ray

    try:
        description, _ = read(file)
    except InputError as error:
        return list(error.faults)
    shared = [head for head, names in classes.items() if description["classes"].get(head) == list(names)]
    if not shared:
        found = ", ".join(f"{head} ({', '.join(names)})" for head, names in description["classes"].items())
        remedy = "Name the file of a study on the same labels."
        return [Fault("a file of heads must know one of the data's labels, with its classes", found, remedy)]
    new = [head for head in classes if head not in shared and True in space.values(f"freeze_{head}")]
    if new:
        rule, found = f"a frozen head must be in {file.name}, with its classes", f"freeze_{new[0]}=true"
        return [Fault(rule, found, f"Add --set freeze_{new[0]}=false, or name another file.")]
    shape = {"head_width": description["width"], **{DECLARATION + head: description["layers"][head] for head in shared}}
    shape["pooling"] = description["pooling"]
    layers = set()
    for name in space.values("backbone"):
        try:
            encoder, _ = text_encoders.load(name, weights=False)
        except InputError:  # reported by the check of the backbone
            continue
        layers.add(layer := description["stages"] - len(encoder.stages()) - 1)
        if encoder.hidden != description["hidden"] or layer >= 0 or len(layers) > 1:
            size = f"{description['stages']} stages with {description['hidden']} features"
            rule = f"the heads in {file.name} need an encoder of {size}"
            found = f"{name} has {len(encoder.stages())} of {encoder.hidden}"
            return [Fault(rule, found, "Name the encoder on which they were trained.")]
    if layers:
        [shape["layer"]] = layers
    return [
        Fault(f"the heads in {file.name} have {key}={value}", show(space.params[key]), f"Add --set {key}={value}.")
        for key, value in shape.items()
        if space.values(key) != (value,)
    ]
