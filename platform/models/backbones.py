"""Pretrained image backbones of torchvision, each divided into the same five stages from input to output.

Every backbone is divided where its feature map shrinks, so that a freeze depth means the same for all:

    stage    resnet18/50      mobilenet_v2     mobilenet_v3_large   stride of its output
    stem     conv1…maxpool    features[0:2]    features[0:2]        4 (resnet), 2 (mobilenet)
    layer1   layer1           features[2:4]    features[2:4]        4
    layer2   layer2           features[4:7]    features[4:7]        8
    layer3   layer3           features[7:14]   features[7:13]       16
    layer4   layer4           features[14:]    features[13:]        32

Weights are the name of torchvision weights ("DEFAULT", "IMAGENET1K_V1", …, which torchvision fetches and caches), a
local file (safetensors, or a state dict that `torch.load(weights_only=True)` accepts), "starter" (shipped with this
project) or "none" (random initialisation).
"""

import itertools
import os
import zipfile
from collections import OrderedDict
from pathlib import Path

import torch
import torchvision
from safetensors.torch import load_file
from torch import Tensor, nn

from platform import project
from platform.data.files import is_file, unpacked_limit
from platform.errors import Fault, InputError

STAGES = ("stem", "layer1", "layer2", "layer3", "layer4")
NAMES = ("resnet18", "resnet50", "mobilenet_v2", "mobilenet_v3_large")
USUAL_CROP = 224 / 256  # of an image's shorter side
# with which torchvision's weights were trained
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

_MOBILENET_BOUNDARIES = {"mobilenet_v2": (0, 2, 4, 7, 14, 19), "mobilenet_v3_large": (0, 2, 4, 7, 13, 17)}
_MAX_SHOWN = 60  # characters of a tensor's name in a message
_CLASSIFIER = ("classifier.", "fc.")  # prefixes of the tensors that a backbone omits


class Backbone(nn.Sequential):
    """Backbone as a plain sequence of its named stages.

    Attributes:
        channels: Number of channels of each stage's output, by stage name.
    """

    def __init__(self, stages: "OrderedDict[str, nn.Module]") -> None:
        super().__init__(stages)
        self.channels = _measure_channels(stages)

    def torchvision_state(self) -> dict[str, Tensor]:
        """Return the tensors under their names in torchvision's whole model, as `load` reads them from a file."""
        if hasattr(self.stem, "conv1"):  # in a ResNet layer1 … layer4 have the same names
            return {key.removeprefix("stem."): value for key, value in self.state_dict().items()}
        blocks = [block for stage in self.children() for block in stage.children()]
        return {
            f"features.{number}.{key}": value
            for number, block in enumerate(blocks)
            for key, value in block.state_dict().items()
        }


def load(name: str, weights: str) -> Backbone:
    """Load one of the backbones NAMES with its weights, which are named as above.

    Raises:
        InputError: The backbone is unknown, or its weights cannot be found or do not fit.
    """
    if name not in NAMES:
        raise InputError(Fault(f"a backbone must be one of {', '.join(NAMES)}", repr(name), "Choose one of them."))
    model = torchvision.models.get_model(name, weights=None)
    if weights != "none":
        _load_state(model, name, weights, _read_state(name, weights))
    return Backbone(_split_into_stages(name, model))


def crop(name: str, weights: str) -> float:
    """Return the share of an image's shorter side that torchvision's central crop keeps for these weights.

    For weights that are not torchvision's own it is the usual share: 224 of 256 pixels.
    """
    available = torchvision.models.get_model_weights(name)
    if weights not in available.__members__:
        return USUAL_CROP
    preset = available[weights].transforms()
    return float(preset.crop_size[0] / preset.resize_size[0])


def _split_into_stages(name: str, model: nn.Module) -> "OrderedDict[str, nn.Module]":
    if name in _MOBILENET_BOUNDARIES:
        boundaries = _MOBILENET_BOUNDARIES[name]
        blocks = list(model.features)  # type: ignore[arg-type]
        parts = [nn.Sequential(*blocks[start:end]) for start, end in itertools.pairwise(boundaries)]
        return OrderedDict(zip(STAGES, parts, strict=True))
    stem = nn.Sequential(OrderedDict((part, getattr(model, part)) for part in ("conv1", "bn1", "relu", "maxpool")))
    return OrderedDict([("stem", stem)] + [(stage, getattr(model, stage)) for stage in STAGES[1:]])


def _measure_channels(stages: "OrderedDict[str, nn.Module]") -> dict[str, int]:
    """Return the number of channels of each stage's output, found by running the stages."""
    channels, x = {}, torch.zeros(1, 3, 64, 64)
    with torch.no_grad():
        for name, stage in stages.items():
            x = stage.eval()(x)
            stage.train()
            channels[name] = x.shape[1]
    return channels


def _read_state(name: str, weights: str) -> dict[str, Tensor]:
    if weights == "starter":
        path = project.STARTERS / f"{name}.safetensors"
        if not path.exists():
            shipped = ", ".join(sorted(file.stem for file in project.STARTERS.glob("*.safetensors"))) or "none"
            rule = "a starter is shipped for some backbones only"
            raise InputError(Fault(rule, name, f"Shipped: {shipped}. Or name a file."))
        return {key: value.float() for key, value in load_file(path).items()}
    if file := local_file(weights):
        return read_file(file)
    available = torchvision.models.get_model_weights(name)
    if weights not in available.__members__:
        rule = "weights must be a file, 'starter', 'none' or a torchvision name"
        raise InputError(Fault(rule, repr(weights), f"{name} has {', '.join(available.__members__)}."))
    try:
        return available[weights].get_state_dict(progress=False, check_hash=True)
    except (OSError, RuntimeError) as error:  # no network, or a file whose hash is wrong
        rule = f"torchvision must be able to fetch {name} {weights} or find it in its cache"
        remedy = "Connect to the network once, or give a local file: --set weights=FILE."
        raise InputError(Fault(rule, str(error), remedy)) from error


def local_file(text: str) -> Path | None:
    """Return the file that a text names, with ~ for the home folder; None if there is no such file."""
    path = Path(os.path.expanduser(text))  # noqa: PTH111 (no error on any name)
    return path if is_file(path) else None


def read_file(path: Path) -> dict[str, Tensor]:
    """Read the tensors of a file by name without running code from it.

    Raises:
        InputError: The file is neither safetensors nor a state dict that consists of tensors alone.
    """
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                unpacked = sum(entry.file_size for entry in archive.infolist())
            if unpacked > unpacked_limit(path):
                raise ValueError(f"an archive that unpacks to {unpacked >> 20} MiB")
        state = torch.load(path, map_location="cpu", weights_only=True)
        state = state.get("state_dict", state) if isinstance(state, dict) else state
        if not isinstance(state, dict):
            raise TypeError(f"a {type(state).__name__}")
        if strange := [key for key, value in state.items() if not (isinstance(key, str) and _is_plain(value))]:
            raise TypeError(f"no tensor is {str(strange[0])[:_MAX_SHOWN]!r}")
    except Exception as error:  # every reader has its own errors; all of them mean an unusable file
        rule = "a weights file must be safetensors or a state dict without pickled code"
        found = f"{path}: {type(error).__name__}: {str(error).partition(chr(10))[0]}"
        remedy = "Save it with safetensors.torch.save_file(model.state_dict(), path)."
        raise InputError(Fault(rule, found, remedy)) from error
    return state


def _is_plain(value: object) -> bool:
    """Check that an object is a dense CPU tensor of plain numbers."""
    if not isinstance(value, Tensor):
        return False
    return value.layout == torch.strided and value.device.type == "cpu" and not value.is_quantized


def _load_state(model: nn.Module, name: str, weights: str, state: dict[str, Tensor]) -> None:
    """Load a state dict into a whole torchvision model; only the classifier may be missing or of another size."""
    wanted = {key: value.shape for key, value in model.state_dict().items() if not key.startswith(_CLASSIFIER)}
    missing = [key for key in wanted if key not in state and not key.endswith("num_batches_tracked")]
    unknown = [key for key in state if key not in wanted and not key.startswith(_CLASSIFIER)]
    shapes = [key for key in wanted if key in state and state[key].shape != wanted[key]]
    if missing or unknown or shapes:
        found = "; ".join(
            f"{len(keys)} {what} (first: {keys[0]})"
            for what, keys in (("missing", missing), ("unknown", unknown), ("of another shape", shapes))
            if keys
        )
        rule = f"the weights must fit torchvision's {name}"
        raise InputError(Fault(rule, f"{weights}: {found}", "Name the matching backbone."))
    model.load_state_dict({key: state[key] for key in wanted if key in state}, strict=False)
