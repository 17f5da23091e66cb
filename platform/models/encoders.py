"""Pretrained image encoders by name, in stages from input to output, the last of which pools.

    name                        weights
    resnet18, resnet50, …       as in `models.backbones`: DEFAULT, starter, none, a name of torchvision's, a file
    ViT-B-32, RN50, …           one of open_clip's tags (openai, laion2b_s34b_b79k, …), a file, or none
    hf-hub:ORG/MODEL            DEFAULT for the model's own, a file, or none
    local-dir:FOLDER            the same; the folder is relative to the working directory or to the project's root

"none" gives the architecture with random weights. A file is a checkpoint of the whole model, or one that `save` wrote.
Of an open_clip model only the image tower is built. Weights that are not in the local cache are fetched.
"""

import contextlib
import json
from collections import OrderedDict
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file as load_tensors
from safetensors.torch import save_file
from torch import Tensor, nn
from torchvision.transforms import v2

from platform.data.files import is_file
from platform.errors import Fault, InputError, first_line
from platform.models import backbones, clip_towers, open_clip_models
from platform.models.stages import Stage

USUAL_SIZE = 224  # pixels a side, for encoders that take any size

_METADATA = "encoder"  # key of the configuration in a saved file's metadata
_REMEDY = "Name an encoder.safetensors that a study wrote."


class Encoder(nn.Sequential):
    """Encoder from images (N, 3, S, S) in [0, 1] to features (N, channels).

    It is a plain sequence of stages, each of which maps one tensor to one tensor. The first stage begins with the
    normalisation of the colour channels, (x - mean) / std.

    Attributes:
        channels: Number of features.
        image_size: Pixels a side for which the encoder was made.
        fixed_size: True if the encoder takes no other size.
        crop: Share of an image's shorter side that the central crop keeps.
        mean: Mean of each colour channel.
        std: Standard deviation of each colour channel.
        config: Configuration from which `build` makes the same architecture, as JSON.
    """

    def __init__(
        self, stages: clip_towers.Stages, *, channels: int, image_size: int, fixed_size: bool, config: dict[str, Any]
    ) -> None:
        (first, stage), *others = stages.items()
        normalise = v2.Normalize(config["mean"], config["std"])  # of constants, not buffers, which would need a stage
        super().__init__(OrderedDict([(first, nn.Sequential(normalise, stage)), *others]))
        self.mean, self.std, self.crop = tuple(config["mean"]), tuple(config["std"]), float(config.get("crop", 1.0))
        self.channels, self.image_size, self.fixed_size, self.config = channels, image_size, fixed_size, config

    def stages(self, prefix: str = "") -> list[Stage]:
        """Return the stages from input to output, of an encoder at the path `prefix` in the model."""
        at = f"{prefix}." if prefix else ""
        return [Stage(name, (f"{at}{name}",), backbone=True) for name, _ in self.named_children()]

    def pooled(self, images: Tensor) -> dict[str, Tensor]:
        """Return the output of each stage averaged over places or tokens, (N, width), by the stage's name."""
        outputs, x = {}, images
        for name, stage in self.named_children():
            x = stage(x)
            outputs[name] = x.mean((2, 3)) if x.ndim == 4 else x.mean(1) if x.ndim == 3 else x
        return outputs


def load(name: str, weights: str) -> Encoder:
    """Load an encoder with its weights in float32.

    Raises:
        InputError: The encoder is unknown or cannot be divided into stages, or its weights cannot be found, cannot be
            fetched, or do not fit.
    """
    file = backbones.local_file(weights)
    saved = read_config(file) if file else None
    with torch.device("meta") if saved else contextlib.nullcontext():  # shapes are enough for what is replaced
        if name in backbones.NAMES:
            encoder = _of_torchvision(name, "none" if saved else weights, backbones.crop(name, weights))
        else:
            source = open_clip_models.find(name, "none" if saved else weights)
            encoder = _of_open_clip(open_clip_models.image_config(source), source.file)
    if saved and file:
        _check_same(name, encoder.config, file, saved)
        encoder = load_file(file)
    return encoder


def build(config: dict[str, Any]) -> Encoder:
    """Build the encoder that an `Encoder.config` describes, with random weights and without network."""
    if "torchvision" in config:
        return _of_torchvision(config["torchvision"], "none", config.get("crop", 1.0))
    return _of_open_clip(config)


def stage_count(name: str) -> int:
    """Return the number of stages of an encoder, from its configuration alone.

    Raises:
        InputError: The encoder is unknown or cannot be divided into stages.
    """
    if name in backbones.NAMES:
        return len(backbones.STAGES)
    with torch.device("meta"):  # shapes alone, without weights
        return len(_of_open_clip(open_clip_models.image_config(open_clip_models.find(name, "none"))))


def save(encoder: Encoder, path: Path) -> None:
    """Write an encoder as one safetensors file, with the configuration as JSON in its metadata."""
    state = {name: value.contiguous() for name, value in encoder.state_dict().items()}
    save_file(state, path, metadata={_METADATA: json.dumps(encoder.config)})


def load_file(path: Path) -> Encoder:
    """Load an encoder from a file that `save` wrote.

    Raises:
        InputError: The file holds something else, or its weights do not belong to its configuration.
    """
    config = read_config(path)
    if config is None:
        raise InputError(Fault("the file must be a saved encoder", str(path), _REMEDY))
    state = load_tensors(path)
    with torch.device("meta"):  # drawing random weights takes longer than all the rest
        encoder = build(config)
    shapes = {name: value.shape for name, value in encoder.state_dict().items()}
    wrong = [name for name in {**shapes, **state} if name not in state or state[name].shape != shapes.get(name)]
    if wrong:  # checked before memory is allocated: the configuration may be wrong
        rule, found = "a saved encoder's weights must be those of its configuration", f"{path}: another {wrong[0]}"
        raise InputError(Fault(rule, found, _REMEDY))
    if state.keys() >= {name for name, _ in (*encoder.named_parameters(), *encoder.named_buffers())}:
        # Copied, as the file's tensors are not aligned as convolutions need it.
        encoder.load_state_dict({name: value.clone() for name, value in state.items()}, assign=True)
        return encoder
    encoder = build(config)  # it has constants that the file does not hold
    encoder.load_state_dict(state)
    return encoder


def read_config(path: Path) -> dict[str, Any] | None:
    """Read the configuration in a file that `save` wrote; return None for any other file.

    Raises:
        InputError: The configuration is invalid.
    """
    if not is_file(path):
        return None
    try:
        with safe_open(path, "pt") as file:
            text = (file.metadata() or {}).get(_METADATA)
    except (OSError, SafetensorError):
        return None
    if text is None:
        return None
    try:
        config = json.loads(text)
        crop, means, deviations = config.get("crop", 1.0), *(list(map(float, config[k])) for k in ("mean", "std"))
        if not (0 < crop <= 1 and len(means) == len(deviations) == 3 and all(deviations)):
            raise ValueError(f"crop {crop}, mean {means}, std {deviations}")
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        found = f"{path}: {type(error).__name__}: {error}"
        raise InputError(Fault("a saved encoder must hold a valid configuration", found, _REMEDY)) from error
    return config


def _of_torchvision(name: str, weights: str, crop: float) -> Encoder:
    body = backbones.load(name, weights)
    stages = OrderedDict(body.named_children())
    stages["layer4"] = nn.Sequential(stages["layer4"], nn.AdaptiveAvgPool2d(1), nn.Flatten())
    config = {"torchvision": name, "mean": [*backbones.IMAGENET_MEAN], "std": [*backbones.IMAGENET_STD], "crop": crop}
    channels = body.channels["layer4"]
    return Encoder(stages, channels=channels, image_size=USUAL_SIZE, fixed_size=False, config=config)


def _of_open_clip(config: dict[str, Any], file: Path | None = None) -> Encoder:
    try:
        tower = open_clip_models.image_tower(config)
        stages, size = clip_towers.split_into_stages(tower), _side(tower)
    except Exception as error:  # a configuration may hold anything
        rule = f"the image tower must be one of {clip_towers.KINDS}, for square images"
        raise InputError(Fault(rule, first_line(error), "Choose another model, such as ViT-B-32 or RN50.")) from error
    if file is not None:
        open_clip_models.load_image_tower(tower, file)
    fixed_size = clip_towers.has_fixed_size(tower)
    return Encoder(stages, channels=config["embed_dim"], image_size=size, fixed_size=fixed_size, config=config)


def _side(tower: Any) -> int:
    size = tower.image_size if isinstance(tower.image_size, tuple | list) else (tower.image_size, tower.image_size)
    if size[0] != size[1]:
        raise ValueError(f"images of {size[0]} x {size[1]}")
    return int(size[0])


def _check_same(name: str, wanted: dict[str, Any], file: Path, saved: dict[str, Any]) -> None:
    """Check that a saved encoder is of the architecture that was named."""
    # Normalisation and activation belong to the weights: open_clip's tags differ in them.
    differing = [key for key in ("torchvision", "embed_dim", "vision_cfg") if wanted.get(key) != saved.get(key)]
    if differing:
        found = "; ".join(f"{key} {saved.get(key)} and not {wanted.get(key)}" for key in differing)
        remedy = "Name the encoder from which it was saved."
        raise InputError(Fault(f"the weights must be of {name}", f"{file} with {found}", remedy))
