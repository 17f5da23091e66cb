import json

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from platform.models import detectors
from platform.models.backbones import NAMES, load
from platform.models.stages import Stage, assign
from platform.training.freezing import UNFREEZE, Freezer, Freezing, FrozenChangedError
from platform.training.optimization import Optimization, parameter_groups

STAGES = [Stage("stem", ("0",), backbone=True), Stage("body", ("1",), backbone=True), Stage("head", ("2",))]


def model() -> nn.Sequential:
    torch.manual_seed(0)
    parts = (nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Dropout(0.5)) for _ in range(1))
    body = nn.Sequential(nn.Conv2d(4, 4, 3), nn.BatchNorm2d(4))
    return nn.Sequential(*parts, body, nn.Conv2d(4, 2, 1))


def train(net: nn.Module, freezer: Freezer, steps: int = 3) -> None:
    groups = parameter_groups(net, STAGES, Optimization(0.1, backbone_ratio=1.0, layer_decay=1.0, weight_decay=0.1))
    optimizer = torch.optim.AdamW(groups)
    for _ in range(steps):
        freezer.train()
        optimizer.zero_grad()
        net(torch.randn(2, 3, 8, 8)).square().mean().backward()
        optimizer.step()


@pytest.mark.parametrize("depth", [0, 1, 2])
def test_frozen_tensors_and_statistics_are_bitwise_unchanged(depth):
    net = model()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    freezer = Freezer(net, STAGES, Freezing(depth, batch_norm="updated"), epochs=4)
    train(net, freezer)
    freezer.verify()
    changed = {name.split(".")[0] for name, value in net.state_dict().items() if not torch.equal(value, before[name])}
    assert changed == {str(index) for index in range(depth, 3)}


def test_an_unfrozen_stage_may_keep_its_statistics():
    net = model()
    before = net[1][1].running_mean.clone()
    train(net, Freezer(net, STAGES, Freezing(0, batch_norm="frozen"), epochs=4))
    assert torch.equal(net[1][1].running_mean, before)
    train(net, Freezer(net, STAGES, Freezing(0, batch_norm="updated"), epochs=4))
    assert not torch.equal(net[1][1].running_mean, before)


def test_a_change_of_a_frozen_tensor_names_it():
    net = model()
    freezer = Freezer(net, STAGES, Freezing(1), epochs=4)
    net[0][1].running_var += 1e-6
    with pytest.raises(FrozenChangedError, match=r"0\.1\.running_var"):
        freezer.verify()


@pytest.mark.parametrize(
    ("unfreeze", "expected"),
    [
        ("never", [2, 2, 2, 2, 2, 2]),
        ("at_once", [2, 2, 2, 0, 0, 0]),
        ("gradual", [2, 2, 2, 1, 0, 0]),
    ],
)
def test_schedules(unfreeze, expected):
    freezer = Freezer(model(), STAGES, Freezing(2, unfreeze, unfreeze_at=0.5), epochs=6)
    frozen = []
    for epoch in range(6):
        freezer.advance(epoch, [0.1] * epoch)
        frozen.append(freezer.frozen)
    assert frozen == expected


def test_on_plateau_unfreezes_only_when_the_score_stands_still():
    freezing = Freezing(2, "on_plateau", unfreeze_at=0.2)
    rising, still = Freezer(model(), STAGES, freezing, 10), Freezer(model(), STAGES, freezing, 10)
    for epoch in range(10):
        rising.advance(epoch, [i / 10 for i in range(epoch)])
        still.advance(epoch, [0.5] * epoch)
    assert rising.frozen == 2
    assert still.frozen == 0
    assert all(epoch >= 2 for epoch, _ in still.unfreezings)


@given(
    st.integers(0, 2),
    st.sampled_from(UNFREEZE),
    st.floats(0, 1),
    st.integers(1, 20),
    st.lists(st.floats(0, 1), min_size=20, max_size=20),
)
def test_an_unfrozen_stage_never_freezes_again(depth, unfreeze, unfreeze_at, epochs, scores):
    freezing, frozen, last_unfreeze = Freezing(depth, unfreeze, unfreeze_at), depth, -1
    for epoch in range(epochs):
        now = freezing.frozen_at(epoch, epochs, frozen, last_unfreeze, scores[:epoch])
        assert 0 <= now <= frozen
        last_unfreeze, frozen = (epoch if now < frozen else last_unfreeze), now


def test_state_survives_json_and_is_checked():
    net = model()
    freezer = Freezer(net, STAGES, Freezing(2, "gradual", unfreeze_at=0.0), epochs=4)
    freezer.advance(0, [])
    again = Freezer(net, STAGES, Freezing(2, "gradual", unfreeze_at=0.0), epochs=4)
    again.restore(json.loads(json.dumps(freezer.state())))
    assert (again.frozen, again.unfreezings) == (1, [(0, 1)])
    net[0][0].weight.data += 1
    with pytest.raises(FrozenChangedError):
        again.restore(json.loads(json.dumps(freezer.state())))


def test_every_tensor_belongs_to_exactly_one_stage():
    with pytest.raises(ValueError, match=r"2\.weight belongs to none"):
        assign(model(), STAGES[:2])
    with pytest.raises(ValueError, match=r"belongs to head and more"):
        assign(model(), [*STAGES, Stage("more", ("2",))])
    with pytest.raises(ValueError, match="nothing match nothing"):
        assign(model(), [*STAGES, Stage("nothing", ("9",))])
    with pytest.raises(ValueError, match=r"0\.\.2"):
        Freezer(model(), STAGES, Freezing(3), epochs=4)


def test_rates_fall_towards_the_input_and_norms_are_spared_decay():
    groups = parameter_groups(model(), STAGES, Optimization(1.0, backbone_ratio=0.1, layer_decay=0.5, weight_decay=0.2))
    rates = {group["stage"]: group["lr"] for group in groups}
    assert rates == {"stem": 0.05, "body": 0.1, "head": 1.0}
    assert {(p.ndim > 1, g["weight_decay"]) for g in groups for p in g["params"]} == {(True, 0.2), (False, 0.0)}


@pytest.mark.parametrize("architecture", detectors.ARCHITECTURES)
@pytest.mark.parametrize("backbone", [name for name in NAMES if name != "resnet50"])
def test_every_detector_falls_into_its_stages_and_learns(architecture, backbone):
    net = detectors.build(architecture, load(backbone, "none"), 2, (64, 96), channels=32)
    freezer = Freezer(net, detectors.stages(), Freezing(5), epochs=1)
    freezer.train()
    target = {"boxes": torch.tensor([[8.0, 8.0, 40.0, 40.0]]), "labels": torch.tensor([1])}
    images = {"images": torch.rand(2, 3, 64, 96)}
    losses = net(images, [target] * 2)
    sum(losses.values()).backward()
    assert set(losses) <= set(detectors.LOSS_PARTS)
    learning = {freezer.stage_of[name] for name, p in net.named_parameters() if p.grad is not None}
    assert learning == {"neck", "head"}
    freezer.verify()
    net.eval()
    with torch.inference_mode():
        whole = net(images)
        for split_index in range(1, net.max_split_index + 1):
            halves = net(net.run(images, 0, split_index), None, split_index)
            for one, other in zip(whole, halves, strict=True):
                assert all(torch.equal(value, other[key]) for key, value in one.items()), split_index


@pytest.mark.parametrize(
    ("freezing", "expected"),
    [
        (Freezing(2, "never"), None),
        (Freezing(0, "at_once", 0.5), None),
        (Freezing(2, "at_once", 0.5), 5),
        (Freezing(2, "gradual", 0.41), 5),
        (Freezing(2, "on_plateau", 0.5), 7),
        (Freezing(2, "on_plateau", 0.9), None),
    ],
)
def test_the_first_unfreezing_of_ten_epochs(freezing, expected):
    assert freezing.first_unfreeze(10) == expected
    if freezing.unfreeze in ("at_once", "gradual"):  # the config decides
        frozen = [freezing.frozen_at(epoch, 10, freezing.depth, -1, ()) for epoch in range(10)]
        assert next((n for n, count in enumerate(frozen) if count < freezing.depth), None) == expected
