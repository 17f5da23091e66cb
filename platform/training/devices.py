"""Device on which models run."""

import torch
from torch import nn


def device() -> torch.device:
    """Return the GPU, in a trial the trial's own, or the CPU if there is none."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def device_of(module: nn.Module) -> torch.device:
    """Return the device of a module's parameters."""
    return next(module.parameters()).device


def device_name() -> str:
    """Return the device's model name; two devices of one model compute the same."""
    return torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"
