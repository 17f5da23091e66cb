"""TODO."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import nn

from platform.models.stages import Stage, assign
from platform.training import schedules
from platform.training.freezing import Freezer


@dataclass(frozen=True)
class Optimization:
    """How a model learns.

    Attributes:
        lr_head: Peak learning rate of what is not pretrained.
        backbone_ratio: The backbone's rate as a fraction of lr_head.
        layer_decay: Factor on the rate for each backbone stage further from the top.
        weight_decay: AdamW's, on weights; norms and biases are spared.
        schedule: One of schedules.NAMES.
        warmup: Fraction of the budget over which the rate rises.
        clip_norm: Largest gradient norm.
    """

    lr_head: float
    backbone_ratio: float = 0.1
    layer_decay: float = 1.0
    weight_decay: float = 1e-4
    schedule: str = "one_cycle"
    warmup: float = 0.0
    clip_norm: float = 5.0

    @classmethod
    def of(cls, point: Mapping[str, Any]) -> "Optimization":
        """What a configuration says of it, by the names above."""
        return cls(**{each.name: point[each.name] for each in fields(cls) if each.name in point})


def _factor(optimization: Optimization, step: int, steps: int) -> float:
    return schedules.factor(optimization.schedule, (step + 1) / steps, optimization.warmup)


def _set_rates(
    optimizer: torch.optim.Optimizer,
    freezer: Freezer,
    optimization: Optimization,
    step: int,
    steps_per_epoch: int,
    epochs: int,
) -> None:
    """Sets each group's rate for a step: base × schedule × a ramp over the epoch in which its stage was unfrozen."""
    scheduled = _factor(optimization, step, steps_per_epoch * epochs)
    depth_before = freezer.freezing.depth
    ramp_of: dict[str, float] = {}
    for epoch, frozen in freezer.unfreezings:
        ramp = min(1.0, (step + 1 - epoch * steps_per_epoch) / steps_per_epoch)
        ramp_of |= {stage.name: ramp for stage in freezer.stages[frozen:depth_before]}
        depth_before = frozen
    for group in optimizer.param_groups:
        group["lr"] = group["base_lr"] * scheduled * ramp_of.get(group["stage"], 1.0)


def parameter_groups(
    model: nn.Module,
    stages: Sequence[Stage],
    *,
    lr_head: float,
    lr_backbone: float,
    layer_decay: float,
    weight_decay: float,
) -> list[dict]:
    """The optimizer's groups, all of them, also those of frozen stages: the structure never changes over a trial.

    Each stage has a group with weight decay and one without (norms and biases). Backbone stages learn at
    `lr_backbone * layer_decay ** k`, k stages below the top of the backbone (Clark et al. 2020, ELECTRA); the others at
    `lr_head`.
    """
    stage_of = assign(model, stages)
    backbone = [stage.name for stage in stages if stage.backbone]
    groups = []
    for stage in stages:
        below_top = len(backbone) - 1 - backbone.index(stage.name) if stage.backbone else 0
        lr = lr_backbone * layer_decay**below_top if stage.backbone else lr_head
        own = [parameter for name, parameter in model.named_parameters() if stage_of[name] == stage.name]
        for decays in (True, False):
            members = [parameter for parameter in own if (parameter.ndim > 1) == decays]
            if members:
                decay = weight_decay if decays else 0.0
                groups.append({"params": members, "lr": lr, "base_lr": lr, "weight_decay": decay, "stage": stage.name})
    return groups
