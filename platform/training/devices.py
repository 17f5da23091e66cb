"""Where models run."""

import torch
from torch import nn


def device() -> torch.device:
    """The GPU, the trial's own in a trial; else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def device_of(module: nn.Module) -> torch.device:
    """Where a module's parameters lie."""
    return next(module.parameters()).device


def device_name() -> str:
    """What kind it is: two of a kind compute the same."""
    return torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"
