"""Optimizer of a trial: parameter groups by stage, and the learning rate of each group at each step."""

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
    """Hyperparameters of the optimizer, AdamW.

    Attributes:
        lr_head: Peak learning rate of everything that is not pretrained.
        backbone_ratio: Learning rate of the backbone's top stage as a fraction of lr_head.
        layer_decay: Factor on the rate of each backbone stage further from the top.
        weight_decay: Weight decay of weights; norms and biases have none.
        schedule: One of schedules.NAMES.
        warmup: Fraction of the training over which the rate rises.
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
    def of(cls, config: Mapping[str, Any]) -> "Optimization":
        """Return the hyperparameters of a config, by the names above."""
        return cls(**{each.name: config[each.name] for each in fields(cls) if each.name in config})


def set_rates(
    optimizer: torch.optim.Optimizer,
    freezer: Freezer,
    optimization: Optimization,
    step: int,
    steps_per_epoch: int,
    epochs: int,
) -> None:
    """Set the rate of each group: base rate × schedule × a ramp over the epoch in which its stage was unfrozen.

    The optimizer has the groups of `parameter_groups`; steps count from 0 through the whole training of `epochs`.
    """
    scheduled = schedules.factor(optimization.schedule, (step + 1) / (steps_per_epoch * epochs), optimization.warmup)
    depth_before = freezer.freezing.depth
    ramp_of: dict[str, float] = {}
    for epoch, frozen in freezer.unfreezings:
        ramp = min(1.0, (step + 1 - epoch * steps_per_epoch) / steps_per_epoch)
        ramp_of |= {stage.name: ramp for stage in freezer.stages[frozen:depth_before]}
        depth_before = frozen
    for group in optimizer.param_groups:
        group["lr"] = group["base_lr"] * scheduled * ramp_of.get(group["stage"], 1.0)


def parameter_groups(model: nn.Module, stages: Sequence[Stage], optimization: Optimization) -> list[dict]:
    """Return the optimizer's groups, those of frozen stages included: the structure never changes during a trial.

    Each stage has a group with weight decay and one without (norms and biases). Backbone stages learn at
    `lr_head * backbone_ratio * layer_decay ** k`, k stages below the top of the backbone (Clark et al. 2020, ELECTRA);
    all others at `lr_head`.
    """
    stage_of = assign(model, stages)
    backbone = [stage.name for stage in stages if stage.backbone]
    lr_backbone = optimization.lr_head * optimization.backbone_ratio
    groups = []
    for stage in stages:
        below_top = len(backbone) - 1 - backbone.index(stage.name) if stage.backbone else 0
        lr = lr_backbone * optimization.layer_decay**below_top if stage.backbone else optimization.lr_head
        own = [parameter for name, parameter in model.named_parameters() if stage_of[name] == stage.name]
        for decays in (True, False):
            members = [parameter for parameter in own if (parameter.ndim > 1) == decays]
            if members:
                decay = optimization.weight_decay if decays else 0.0
                groups.append({"params": members, "lr": lr, "base_lr": lr, "weight_decay": decay, "stage": stage.name})
    return groups
