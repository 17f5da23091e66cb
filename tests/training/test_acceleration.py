"""Acceleration options are measured, and chosen only if they make a step faster."""

import pytest
import torch
from torch import nn

from platform.training import acceleration
from platform.training.acceleration import Speed, choose


class Slow(nn.Module):
    """Computes faster, or something else, or not at all, in bfloat16."""

    def __init__(self, in_bfloat16: str) -> None:
        super().__init__()
        self.layer, self.in_bfloat16 = nn.Linear(8, 1), in_bfloat16

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        cast = torch.is_autocast_enabled("cpu")
        if cast and self.in_bfloat16 == "fails":
            raise RuntimeError("no such kernel")
        side = {"slower": 2000, "faster": 2}.get(self.in_bfloat16, 1000) if cast else 1000
        torch.rand(side, side).sin().exp().cos().sum()
        value = self.layer(x).float().square().mean()
        return value * 2 if cast and self.in_bfloat16 == "differs" else value


@pytest.mark.parametrize(
    ("in_bfloat16", "options", "note"),
    [
        ("faster", ("bfloat16",), "bfloat16: yes ("),
        ("slower", (), "bfloat16: no ("),
        ("differs", (), "but the loss is"),
        ("fails", (), "bfloat16: no (RuntimeError: no such kernel)"),
    ],
)
def test_an_option_is_on_if_it_gains_and_computes_the_same(in_bfloat16, options, note):
    torch.manual_seed(0)
    model = Slow(in_bfloat16)
    before = model.layer.weight.clone()
    x = torch.rand(4, 8)
    chosen = choose(model, lambda model: model(x), ["bfloat16"])
    assert chosen.options == options
    assert note in chosen.note
    assert torch.equal(model.layer.weight, before)
    assert model.layer.weight.grad is None


def test_each_option_changes_what_its_name_says():
    model = nn.Conv2d(3, 4, 3)
    Speed(("channels_last",)).apply(model)
    assert model.weight.is_contiguous(memory_format=torch.channels_last)
    with Speed(("bfloat16",)).autocast():
        assert model(torch.rand(1, 3, 8, 8)).dtype == torch.bfloat16
    with Speed().autocast():
        assert model(torch.rand(1, 3, 8, 8)).dtype == torch.float32


def test_choosing_draws_no_random_numbers_of_the_trial():
    model = nn.Linear(2, 1)
    torch.manual_seed(0)
    expected = torch.rand(1)
    torch.manual_seed(0)
    choose(model, lambda model: model(torch.rand(4, 2)).mean(), acceleration.OPTIONS[:1])
    assert torch.equal(torch.rand(1), expected)
