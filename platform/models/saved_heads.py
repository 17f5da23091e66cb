"""The heads of a study as a file that the next one can start from."""

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

TOLD = ("classes", "layers", "width", "pooling", "hidden", "stages")  # what a file says of itself


def save(model: MultiHead, file: Path) -> None:
    """Writes the heads as a file of their own, which says of itself what they tell apart and what they stand on."""
    state = {key: value.contiguous() for key, value in model.heads.state_dict().items()}
    told = {key: getattr(model, key) for key in ("classes", "layers", "width", "pooling")}
    told |= {"hidden": model.encoder.hidden, "stages": len(model.encoder.stages())}
    save_file(state, file, {"heads": json.dumps(told)})


def read(file: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """What a file of heads says of itself, and its tensors.

    Returns:
        {"classes" and "layers" by head, "width" of a hidden layer, and of the encoder that they were trained on
        "pooling", "hidden" units and "stages" as far as its output was taken}, and the tensors by name.

    Raises:
        InputError: It is no such file.
    """
    try:
        metadata, state = checkpoints.read_told(file)
        told = json.loads(metadata["heads"])
        if missing := set(TOLD) - told.keys():
            raise KeyError(", ".join(sorted(missing)))
        _check(told)
    except (OSError, KeyError, TypeError, ValueError, AttributeError, RecursionError, SafetensorError) as error:
        rule = "heads must be 'new' or a study's weights/heads.safetensors"
        raise InputError(Fault(rule, f"{file}: {error}", "Check the path.")) from error
    return told, state


def _check(told: Mapping[str, Any]) -> None:
    classes, layers = told["classes"], told["layers"]
    words = all(isinstance(name, str) for names in classes.values() for name in list(names))
    sizes = [*(layers[head] for head in classes), *(told[key] for key in ("width", "hidden", "stages"))]
    if not (words and all(type(size) is int and size >= 0 for size in sizes) and isinstance(told["pooling"], str)):
        raise ValueError("other kinds of values than a study writes")


def load(model: MultiHead, file: Path) -> None:
    """Loads those heads of a file that the model has too, with the same classes."""
    told, state = read(file)
    for head, module in model.heads.items():
        if told["classes"].get(head) == model.classes[head]:
            prefix = f"{head}."
            module.load_state_dict({k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)})


def faults(space: "Space", classes: Mapping[str, Sequence[str]], file: Path) -> list[Fault]:
    """What keeps the heads of a file from being those that a space asks for.

    Args:
        space: Without baselines.
        classes: Of the data, by head.
        file: The heads.
    """
    from platform.space import show  # a logged model comes without the spaces, and without Ray

    try:
        told, _ = read(file)
    except InputError as error:
        return list(error.faults)
    shared = [head for head, names in classes.items() if told["classes"].get(head) == list(names)]
    if not shared:
        found = ", ".join(f"{head} ({', '.join(names)})" for head, names in told["classes"].items())
        remedy = "Give the file of a study on the same labels."
        return [Fault("a file of heads must know one of the data's labels, with its classes", found, remedy)]
    new = [head for head in classes if head not in shared and True in space.values(f"freeze_{head}")]
    if new:
        rule, found = f"a frozen head must be in {file.name}, with its classes", f"freeze_{new[0]}=true"
        return [Fault(rule, found, f"Add --set freeze_{new[0]}=false, or name another file.")]
    shape = {"head_width": told["width"], **{DECLARATION + head: told["layers"][head] for head in shared}}
    shape["pooling"] = told["pooling"]
    layers = set()
    for name in space.values("backbone"):
        try:
            encoder, _ = text_encoders.load(name, weights=False)
        except InputError:  # it is told of already
            continue
        layers.add(layer := told["stages"] - len(encoder.stages()) - 1)
        if encoder.hidden != told["hidden"] or layer >= 0 or len(layers) > 1:
            rule = f"the heads in {file.name} stand on {told['stages']} stages of {told['hidden']} features"
            found = f"{name} has {len(encoder.stages())} of {encoder.hidden}"
            return [Fault(rule, found, "Name the encoder that they were trained on.")]
    if layers:
        [shape["layer"]] = layers
    return [
        Fault(f"the heads in {file.name} have {key}={value}", show(space.params[key]), f"Add --set {key}={value}.")
        for key, value in shape.items()
        if space.values(key) != (value,)
    ]
