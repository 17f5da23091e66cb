"""Shape of the head for each setting."""

import pytest
import torch
from torch import nn

from platform.models import heads


@pytest.mark.parametrize("norm", heads.NORMS)
@pytest.mark.parametrize("layers", [0, 1, 3])
def test_a_head_has_the_layers_and_norms_asked_for(layers, norm):
    head = heads.mlp(7, 3, layers=layers, width=5, dropout=0.5, norm=norm)
    kinds = [type(module) for module in head]
    assert kinds.count(nn.Linear) == layers + 1
    kind = {"none": None, "batch": nn.BatchNorm1d, "layer": nn.LayerNorm}[norm]
    assert sum(issubclass(k, nn.BatchNorm1d | nn.LayerNorm) for k in kinds) == (0 if kind is None else layers + 1)
    assert kinds.count(kind) == (0 if kind is None else layers + 1)
    assert kinds.count(nn.Dropout) == max(1, layers)
    assert head(torch.randn(4, 7)).shape == (4, 3)


def test_an_unknown_norm_is_refused():
    with pytest.raises(ValueError, match="none, batch, layer"):
        heads.mlp(7, 3, layers=1, width=5, dropout=0.0, norm="group")
