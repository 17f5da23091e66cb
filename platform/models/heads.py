"""Classification head on a pretrained encoder: a multi-layer perceptron."""

from torch import nn

NORMS = ("none", "batch", "layer")


def mlp(inputs: int, outputs: int, *, layers: int, width: int, dropout: float, norm: str) -> nn.Sequential:
    """Build a classifier that maps feature vectors (N, inputs) to logits (N, outputs).

    The features are normalised first, since encoders differ in their scale. A hidden layer consists of linear layer,
    normalisation, ReLU and dropout.

    Args:
        layers: Number of hidden layers; 0 for a linear classifier.
        width: Units of a hidden layer.
        dropout: Probability of dropout after each hidden layer; without hidden layers, of the features.
        norm: One of NORMS.

    Raises:
        ValueError: The norm is unknown.
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
