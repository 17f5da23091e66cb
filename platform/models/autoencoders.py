"""Convolutional autoencoder for small grey images with an encoder in four stages, and a binary classifier on it.

    stage        output for an image of H x W           layers
    stem         width x H x W                          dropout of pixels, convolution
    layer1       2 width x H/2 x W/2                    convolution of stride 2
    layer2       4 width x H/4 x W/4                    convolution of stride 2
    bottleneck   a vector of `bottleneck`               linear

Each stage has a ReLU and, except for the last, dropout. Dropping pixels of the input makes it a denoising autoencoder
(Vincent et al. 2008, "Extracting and Composing Robust Features with Denoising Autoencoders").
"""

from collections import OrderedDict
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor, nn

from platform.errors import Fault, InputError
from platform.models.stages import Stage, State, run_stages
from platform.storage import checkpoints

STAGES = ("stem", "layer1", "layer2", "bottleneck")
HEAD_UNITS = 64


class Encoder(nn.Sequential):
    """Encoder from images (N, 1, H, W) in [0, 1] to vectors (N, bottleneck), as a plain sequence of its stages."""

    def __init__(self, size: tuple[int, int], width: int, bottleneck: int, dropout: float) -> None:
        self.shape = {"height": size[0], "width_of_image": size[1], "width": width, "bottleneck": bottleneck}
        flat = _flat(size, width)
        super().__init__(
            OrderedDict(
                stem=nn.Sequential(nn.Dropout(dropout), nn.Conv2d(1, width, 3, 1, 1), nn.ReLU()),
                layer1=_block(width, 2 * width, dropout),
                layer2=_block(2 * width, 4 * width, dropout),
                bottleneck=nn.Sequential(nn.Flatten(), nn.Linear(flat, bottleneck), nn.ReLU()),
            )
        )


class Autoencoder(nn.Module):
    """Autoencoder of images (N, 1, H, W) in [0, 1].

    The output is linear: a sigmoid saturates on images that are mostly black, and learning stops.
    """

    def __init__(self, size: tuple[int, int], width: int, bottleneck: int, dropout: float) -> None:
        super().__init__()
        half, quarter = _halved(size, 1), _halved(size, 2)
        self.encoder = Encoder(size, width, bottleneck, dropout)
        self.decoder = nn.Sequential(
            nn.Linear(bottleneck, 4 * width * quarter[0] * quarter[1]),
            nn.ReLU(),
            nn.Unflatten(1, (4 * width, *quarter)),
            nn.Upsample(half),
            nn.Conv2d(4 * width, 2 * width, 3, 1, 1),
            nn.ReLU(),
            nn.Upsample(size),
            nn.Conv2d(2 * width, width, 3, 1, 1),
            nn.ReLU(),
            nn.Conv2d(width, 1, 3, 1, 1),
        )

    def forward(self, images: Tensor) -> Tensor:
        return self.decoder(self.encoder(images))

    @staticmethod
    def stages() -> list[Stage]:
        """Return the stages from input to output."""
        return [*encoder_stages(), Stage("decoder", ("decoder",))]


class BinaryClassifier(nn.Module):
    """Classifier of small grey images into yes and no: the autoencoder's encoder under a small head.

    It maps {"x": (N, 1, H, W) in [0, 1]}, or the output of its first `split_index` stages, to the logit of "yes", (N,).
    """

    max_split_index = len(STAGES)

    def __init__(self, size: tuple[int, int], width: int, bottleneck: int, dropout: float) -> None:
        super().__init__()
        self.encoder = Encoder(size, width, bottleneck, dropout)
        hidden = (nn.Linear(bottleneck, HEAD_UNITS), nn.ReLU(), nn.Dropout(dropout))
        self.head = nn.Sequential(*hidden, nn.Linear(HEAD_UNITS, 1))

    def run(self, state: State, start: int, stop: int) -> dict[str, Tensor]:
        return {"x": run_stages(self.encoder, state["x"], start, stop)}

    def prefix_facts(self, split_index: int) -> dict[str, Any]:
        return {"encoder": self.encoder.shape}

    def forward(self, state: State, split_index: int = 0) -> Tensor:
        return self.head(self.run(state, split_index, self.max_split_index)["x"]).squeeze(1)

    @staticmethod
    def stages() -> list[Stage]:
        """Return the stages from input to output."""
        return [*encoder_stages(), Stage("head", ("head",))]


def encoder_stages() -> list[Stage]:
    """Return the stages of the encoder, from its input to the bottleneck."""
    return [Stage(name, (f"encoder.{name}",), backbone=True) for name in STAGES]


def save_encoder(encoder: Encoder, path: Path) -> None:
    """Write an encoder as a file of its own that also states the encoder's size."""
    state = {key: value.contiguous() for key, value in encoder.state_dict().items()}
    save_file(state, path, {key: str(value) for key, value in encoder.shape.items()})


def load_encoder(encoder: Encoder, path: Path) -> None:
    """Load an encoder from a file that `save_encoder` wrote.

    Raises:
        InputError: The file holds no encoder, or one of another size.
    """
    written, state = _read(path)
    wanted = {key: str(value) for key, value in encoder.shape.items()}
    if written.keys() != wanted.keys():
        raise _refused(path)
    if written != wanted:
        found = ", ".join(f"{key}={value}" for key, value in written.items())
        remedy = f"Fix the space: --set width={written['width']} --set bottleneck={written['bottleneck']}."
        asked = ", ".join(f"{key}={value}" for key, value in wanted.items())
        raise InputError(Fault(f"the weights must fit an encoder of {asked}", f"{path} of {found}", remedy))
    try:
        encoder.load_state_dict(state)
    except RuntimeError as error:  # the metadata is that of an encoder, the tensors are not
        raise _refused(path, error) from error


def saved_size(path: Path) -> tuple[int, int]:
    """Return height and width of the images that a saved encoder takes.

    Raises:
        InputError: The file holds no encoder.
    """
    written, state = _read(path)
    try:
        size, width = (int(written["height"]), int(written["width_of_image"])), int(written["width"])
        # The stated size must be that of the tensors: a damaged file could make us build something enormous.
        if min(size) < 1 or state["bottleneck.1.weight"].shape[1] != _flat(size, width):
            raise ValueError(f"no encoder of {written}")
    except (KeyError, ValueError, IndexError) as error:
        raise _refused(path, error) from error
    return size


def _read(path: Path) -> tuple[dict[str, str], dict[str, Tensor]]:
    try:
        return checkpoints.read_tensors(path)
    except (OSError, SafetensorError) as error:
        raise _refused(path, error) from error


def _refused(path: Path, error: Exception | None = None) -> InputError:
    rule = "an encoder's weights must be a safetensors file that an autoencoder study wrote"
    found = f"{path}: {error}" if error else str(path)
    return InputError(Fault(rule, found, "Name one of a study's weights/*.safetensors."))


def _flat(size: tuple[int, int], width: int) -> int:
    """Return the number of inputs of the bottleneck."""
    height, width_of_image = _halved(size, 2)
    return 4 * width * height * width_of_image


def _block(inputs: int, outputs: int, dropout: float) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(inputs, outputs, 3, 2, 1), nn.ReLU(), nn.Dropout(dropout))


def _halved(size: tuple[int, int], times: int) -> tuple[int, int]:
    """Return height and width after a number of convolutions of stride 2, which round up."""
    return -(-size[0] // 2**times), -(-size[1] // 2**times)
