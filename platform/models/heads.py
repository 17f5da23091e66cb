"""The head that is put on a pretrained encoder: a multi-layer perceptron."""

from torch import nn

NORMS = ("none", "batch", "layer")


def mlp(inputs: int, outputs: int, *, layers: int, width: int, dropout: float, norm: str) -> nn.Sequential:
    """A classifier over feature vectors (N, inputs) → logits (N, outputs).

    The features are normalised first, since encoders differ in their scale; each hidden layer is linear, normalised,
    ReLU, dropout.

    Args:
        inputs: Features.
        outputs: Classes.
        layers: Hidden layers; 0: a linear classifier.
        width: Units of a hidden layer.
        dropout: Share of units dropped in training, after each hidden layer; with none, of the features.
        norm: One of NORMS.
    """
    if norm not in NORMS:
        raise ValueError(f"a head's norm must be one of {', '.join(NORMS)}; found {norm!r}")
    modules = _normalised(inputs, norm)
    for _ in range(layers):
        modules += [nn.Linear(inputs, width), *_normalised(width, norm), nn.ReLU(), nn.Dropout(dropout)]
        inputs = width
    if not layers:
        modules.append(nn.Dropout(dropout))
    return nn.Sequential(*modules, nn.Linear(inputs, outputs))


def _normalised(features: int, norm: str) -> list[nn.Module]:
    if norm == "none":
        return []
    return [nn.BatchNorm1d(features) if norm == "batch" else nn.LayerNorm(features)]
