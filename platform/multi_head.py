"""One text encoder under several heads, a label each: the model, what it minimises, and its heads as a file."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from platform import heads, text_encoders
from platform.data.text_arrays import MISSING
from platform.errors import Fault, InputError
from platform.freezing import Stage

WEIGHTINGS = ("fixed", "uncertainty")


class MultiHead(nn.Module):
    """Tokens and mask (N, T) → logits (N, classes) of each head.

    Attributes:
        classes: The class names of each head.
        layers: Hidden layers of each head.
        pooling: One of text_encoders.POOLINGS.
        width: Units of a hidden layer.
        log_variances: A scalar for each head where the losses are weighted by uncertainty, else None.
    """

    def __init__(
        self,
        encoder: text_encoders.TextEncoder,
        classes: Mapping[str, Sequence[str]],
        *,
        pooling: str,
        layers: Mapping[str, int],
        width: int,
        dropout: float,
        weighting: str,
    ) -> None:
        super().__init__()
        self.encoder, self.pooling, self.width = encoder, pooling, width
        self.classes = {head: list(names) for head, names in classes.items()}
        self.layers = {head: layers[head] for head in classes}
        shape: dict[str, Any] = {"width": width, "dropout": dropout, "norm": "layer"}
        self.heads = nn.ModuleDict(
            {
                head: heads.mlp(encoder.hidden, len(names), layers=layers[head], **shape)
                for head, names in classes.items()
            }
        )
        learned = weighting == "uncertainty"
        zeros = {head: nn.Parameter(torch.zeros(())) for head in classes}
        self.log_variances = nn.ParameterDict(zeros) if learned else None

    def forward(self, tokens: Tensor, mask: Tensor) -> dict[str, Tensor]:
        features = self.encoder(tokens, mask, self.pooling)
        return {head: module(features) for head, module in self.heads.items()}

    def stages(self) -> list[Stage]:
        """From input to output: the encoder's, then the heads side by side."""
        stages = [*self.encoder.stages(prefix="encoder"), *(Stage(head, (f"heads.{head}",)) for head in self.heads)]
        return stages if self.log_variances is None else [*stages, Stage("loss_weights", ("log_variances",))]

    def weights(self, fixed: Mapping[str, float]) -> dict[str, float]:
        """What each head's loss counts now."""
        if self.log_variances is None:
            return {head: fixed[head] for head in self.heads}
        return {head: float(torch.exp(-value.detach())) for head, value in self.log_variances.items()}


def losses(logits: Mapping[str, Tensor], labels: Tensor) -> dict[str, Tensor]:
    """Each head's mean cross-entropy over the rows that have its label; a head whose label none has is left out.

    Args:
        logits: By head (N, classes).
        labels: (N, heads), MISSING where there is none.
    """
    known = {head: labels[:, column] != MISSING for column, head in enumerate(logits)}
    return {
        head: F.cross_entropy(outputs[known[head]], labels[known[head], column])
        for column, (head, outputs) in enumerate(logits.items())
        if known[head].any()
    }


def weighted(
    parts: Mapping[str, Tensor], fixed: Mapping[str, float], log_variances: Mapping[str, Tensor] | None
) -> Tensor:
    """The sum of the heads' losses: by fixed weights, or by learned uncertainty.

    With s the logarithm of a head's variance, its share is exp(-s) · loss + s / 2 (Kendall et al. 2018, "Multi-Task
    Learning Using Uncertainty to Weigh Losses"). A head that is left out of the parts is left out altogether: its
    variance would otherwise be learned from batches that say nothing of it.
    """
    if log_variances is None:
        return torch.stack([fixed[head] * part for head, part in parts.items()]).sum()
    shares = [torch.exp(-log_variances[head]) * part + log_variances[head] / 2 for head, part in parts.items()]
    return torch.stack(shares).sum()


def save_heads(model: MultiHead, file: Path) -> None:
    """Writes the heads as a file of their own, which says of itself what they tell apart and what they stand on."""
    state = {key: value.contiguous() for key, value in model.heads.state_dict().items()}
    told = {key: getattr(model, key) for key in ("classes", "layers", "width", "pooling")}
    told |= {"hidden": model.encoder.hidden, "stages": len(model.encoder.stages())}
    save_file(state, file, {"heads": json.dumps(told)})


def read_heads(file: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """What a file of heads says of itself, and its tensors.

    Returns:
        {"classes" and "layers" by head, "width" of a hidden layer, and of the encoder that they were trained on
        "pooling", "hidden" units and "stages" as far as its output was taken}, and the tensors by name.

    Raises:
        InputError: It is no such file.
    """
    try:
        with safe_open(file, "pt") as opened:
            told = json.loads((opened.metadata() or {})["heads"])
            return told, {key: opened.get_tensor(key) for key in opened.keys()}  # noqa: SIM118
    except (OSError, KeyError, ValueError, SafetensorError) as error:
        rule = "heads must be 'new' or a study's weights/heads.safetensors"
        raise InputError(Fault(rule, f"{file}: {error}", "Check the path.")) from error


def load_heads(model: MultiHead, file: Path) -> None:
    """Loads those heads of a file that the model has too, with the same classes."""
    told, state = read_heads(file)
    for head, module in model.heads.items():
        if told["classes"].get(head) == model.classes[head]:
            prefix = f"{head}."
            module.load_state_dict({k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)})
