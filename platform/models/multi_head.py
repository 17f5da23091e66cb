"""Text encoder with several classification heads, one for each label, and their joint loss."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from platform.data.text.arrays import MISSING
from platform.models import heads, text_encoders
from platform.models.stages import Stage, State

DECLARATION = "head_layers_"  # a parameter of this prefix and a label's name declares a head in a space
WEIGHTINGS = ("fixed", "uncertainty")
# Keys of an encoder's configuration without influence on its first stages.
_NOT_OF_A_PREFIX = ("num_hidden_layers", "_name_or_path", "architectures")


class MultiHead(nn.Module):
    """Text encoder with several classification heads side by side.

    It maps {"tokens", "mask"}, both (N, T), or the output of its first `split_index` stages, to the logits (N, classes)
    of each head. The output of some of the encoder's stages is {"hidden": (N, T, hidden), "mask"}, that of all of them
    {"pooled": (N, hidden)}.

    Attributes:
        max_split_index: Number of the encoder's stages, which can be run apart from the heads.
        classes: Class names of each head.
        layers: Number of hidden layers of each head.
        pooling: One of text_encoders.POOLINGS.
        width: Units of a hidden layer.
        log_variances: One scalar for each head if the losses are weighted by uncertainty, else None.
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
        self.max_split_index = len(encoder.stages())
        self.classes = {head: list(names) for head, names in classes.items()}
        self.layers = {head: layers[head] for head in classes}
        self.heads = nn.ModuleDict()
        for head, names in classes.items():
            shape: dict[str, Any] = {"layers": layers[head], "width": width, "dropout": dropout, "norm": "layer"}
            self.heads[head] = heads.mlp(encoder.hidden, len(names), **shape)
        zeros = {head: nn.Parameter(torch.zeros(())) for head in classes}
        self.log_variances = nn.ParameterDict(zeros) if weighting == "uncertainty" else None

    def run(self, state: State, start: int, stop: int) -> dict[str, Tensor]:
        hidden = self.encoder.run(state["hidden" if start else "tokens"], state["mask"], start, stop)
        if stop == self.max_split_index:
            return {"pooled": text_encoders.pool(hidden, state["mask"], self.pooling)}
        return {"hidden": hidden, "mask": state["mask"]}

    def prefix_facts(self, split_index: int) -> dict[str, Any]:
        config = {key: value for key, value in self.encoder.config().items() if key not in _NOT_OF_A_PREFIX}
        return {"encoder": config, "pooling": self.pooling if split_index == self.max_split_index else ""}

    def forward(self, state: State, split_index: int = 0) -> dict[str, Tensor]:
        if split_index < self.max_split_index:
            state = self.run(state, split_index, self.max_split_index)
        return {head: module(state["pooled"]) for head, module in self.heads.items()}

    def stages(self) -> list[Stage]:
        """Return the stages from input to output: those of the encoder, then the heads, which lie side by side."""
        stages = [*self.encoder.stages(prefix="encoder"), *(Stage(head, (f"heads.{head}",)) for head in self.heads)]
        return stages if self.log_variances is None else [*stages, Stage("loss_weights", ("log_variances",))]

    def weights(self, fixed: Mapping[str, float]) -> dict[str, float]:
        """Return the current weight of each head's loss."""
        if self.log_variances is None:
            return {head: fixed[head] for head in self.heads}
        return {head: float(torch.exp(-value.detach())) for head, value in self.log_variances.items()}


def declared_heads(params: Mapping[str, Any]) -> list[str]:
    """Return the label columns that a space declares."""
    return [key.removeprefix(DECLARATION) for key in params if key.startswith(DECLARATION)]


def is_head_name(name: str) -> bool:
    """Check that a label's name can be used for a module, a stage and parameters without a clash."""
    taken = name.lower() in ("depth", "loss", "loss_weights", "embeddings", "text", "split", "note")
    taken |= any(hasattr(kind, name) for kind in (nn.ModuleDict(), nn.ParameterDict()))
    return name.isidentifier() and not taken and not re.fullmatch(r"layer\d+", name)


def losses(logits: Mapping[str, Tensor], labels: Tensor) -> dict[str, Tensor]:
    """Return the mean cross-entropy of each head over the rows that have its label.

    A head whose label is in no row is left out.

    Args:
        logits: Logits (N, classes) by head.
        labels: Class indices (N, heads), MISSING for a missing label.
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
    """Sum the losses of the heads, weighted by fixed weights or by learned uncertainty.

    With s the logarithm of a head's variance, the head contributes exp(-s) · loss + s / 2 (Kendall et al. 2018,
    "Multi-Task Learning Using Uncertainty to Weigh Losses"). A head without a loss contributes nothing: otherwise its
    variance would be learned from batches without its label.
    """
    if log_variances is None:
        return torch.stack([fixed[head] * part for head, part in parts.items()]).sum()
    shares = [torch.exp(-log_variances[head]) * part + log_variances[head] / 2 for head, part in parts.items()]
    return torch.stack(shares).sum()
