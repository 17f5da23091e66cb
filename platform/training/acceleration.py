"""Acceleration options of a model, chosen by measuring the model itself on this device.

    channels_last   convolutions over channels that lie side by side
    bfloat16        autocast: matrix products in bfloat16, weights and the rest in float32
    compile         torch.compile of the forward pass

On a GPU each option is tried on a copy of the model, together with those chosen before it, and is chosen if a step
becomes GAIN times as fast and the loss stays the same. On a CPU nothing is measured: channels_last is on (FCOS on
MobileNetV2 is 1.35 times as fast with it), autocast and compilation are off (bfloat16 was 4.4 times slower, and
compiling needs a C++ compiler).
"""

import contextlib
import copy
import math
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from platform.errors import first_line

OPTIONS = ("channels_last", "bfloat16", "compile")
GAIN = 1.05  # required speed-up of a step
TOLERANCE = 0.02  # relative difference of the loss
ROUNDS = 5

Step = Callable[[nn.Module], Tensor]  # model → loss of one batch


@dataclass(frozen=True)
class Speed:
    """Acceleration options that are on, and the measurements behind the choice.

    Attributes:
        options: Options that are on.
        note: Measured speed-up of each option, for people.
    """

    options: tuple[str, ...] = ("channels_last",)
    note: str = ""

    def notes(self) -> dict[str, str]:
        """Return the note for the trial's record."""
        return {"speed": self.note} if self.note else {}

    def apply(self, model: nn.Module) -> None:
        """Turn the options on for a model, except autocast."""
        if "channels_last" in self.options:
            model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        if "compile" in self.options:
            model.compile()

    def autocast(self) -> contextlib.AbstractContextManager:
        """Return the context manager in which forward passes run."""
        device = "cuda" if torch.cuda.is_available() else "cpu"
        return torch.autocast(device, torch.bfloat16, enabled="bfloat16" in self.options)


def choose(model: nn.Module, step: Step, candidates: Sequence[str] = OPTIONS) -> Speed:
    """Choose options by timing one after the other on copies of a model as it is trained, with its stages frozen."""
    chosen = Speed(())
    seconds, loss = _measure(model, step, chosen)
    results = []
    for option in candidates:
        tried = Speed((*chosen.options, option))
        try:
            faster, other = _measure(model, step, tried)
        except Exception as error:  # what cannot be compiled, a kernel that is missing: reasons to go without
            results.append(f"{option}: no ({first_line(error)})")
            continue
        same, gain = math.isclose(other, loss, rel_tol=TOLERANCE), seconds / faster
        changed = "" if same else f", but the loss is {other:.4g} and not {loss:.4g}"
        better = same and gain >= GAIN
        if better:
            chosen, seconds = tried, faster
        results.append(f"{option}: {'yes' if better else 'no'} ({gain:.2f} times as fast{changed})")
    return Speed(chosen.options, "; ".join(results))


def _measure(model: nn.Module, step: Step, speed: Speed) -> tuple[float, float]:
    """Return the median seconds of a forward and backward pass, and the loss."""
    model, seconds, loss = copy.deepcopy(model), [], math.nan
    speed.apply(model)
    for index in range(ROUNDS + 1):
        with torch.random.fork_rng():
            torch.manual_seed(0)
            started = time.perf_counter()
            with speed.autocast():
                value = step(model)
            if value.requires_grad:
                value.backward()
            loss = float(value.detach())
            if torch.cuda.is_available():
                torch.cuda.synchronize()
        if index:  # the first compiles, and allocates
            seconds.append(time.perf_counter() - started)
        model.zero_grad(set_to_none=True)
    return statistics.median(seconds), loss
