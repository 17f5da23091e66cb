"""Learning-rate schedules as pure functions of progress: resuming needs no state but the step."""

import math

NAMES = ("constant", "step", "cosine", "one_cycle")
_ONE_CYCLE_PEAK = 0.3  # Smith & Topin 2018, as in torch.optim.lr_scheduler.OneCycleLR
_ONE_CYCLE_START = 1 / 25
_FLOOR = 0.01
_STEPS = (0.6, 0.85)  # where "step" divides the rate by ten


def factor(name: str, progress: float, warmup: float = 0.0) -> float:
    """Return the factor on the base learning rate, where the fraction `progress` of the trial's budget is done.

    Over the fraction `warmup` of the budget the rate also rises linearly from 0.
    """
    if name not in NAMES:
        raise ValueError(f"a schedule must be one of {', '.join(NAMES)}; found {name!r}")
    ramp = min(1.0, progress / warmup) if warmup > 0 else 1.0
    if name == "constant":
        return ramp
    if name == "step":
        return ramp * 0.1 ** sum(progress >= step for step in _STEPS)
    if name == "cosine":
        return ramp * _anneal(1.0, _FLOOR, progress)
    if progress < _ONE_CYCLE_PEAK:
        return ramp * _anneal(_ONE_CYCLE_START, 1.0, progress / _ONE_CYCLE_PEAK)
    return ramp * _anneal(1.0, _FLOOR, (progress - _ONE_CYCLE_PEAK) / (1 - _ONE_CYCLE_PEAK))


def _anneal(start: float, end: float, progress: float) -> float:
    return end + (start - end) * (1 + math.cos(math.pi * progress)) / 2
