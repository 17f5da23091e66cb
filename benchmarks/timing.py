"""Timing of alternatives in turns within one run, and tables of medians with the lowest and highest value."""

import os
import statistics
import time
from collections.abc import Callable, Mapping, Sequence


def interleaved(
    sides: Mapping[str, Callable[[], object]], repeats: int, warm_up: bool = True
) -> dict[str, list[float]]:
    """Return the seconds of each side, timed in turns, so that a slow phase of the machine slows all of them.

    Args:
        sides: Functions to time, by name. One that returns a float has timed itself, in seconds.
        repeats: Number of runs of each function.
        warm_up: Whether each function is run once before, untimed.
    """
    if warm_up:
        for action in sides.values():
            action()
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(repeats):
        for name, action in sides.items():
            started = time.perf_counter()
            measured = action()
            seconds[name].append(measured if isinstance(measured, float) else time.perf_counter() - started)
    return seconds


def spread(values: Sequence[float], scale: float = 1.0, digits: int = 2) -> str:
    """Return the median, with the lowest and highest value, as text."""
    low, middle, high = (value * scale for value in (min(values), statistics.median(values), max(values)))
    return f"{middle:.{digits}f} ({low:.{digits}f}–{high:.{digits}f})"


def ratios(slower: Sequence[float], faster: Sequence[float]) -> list[float]:
    """Return the ratio of each pair of values, which were timed one after the other."""
    return [a / b for a, b in zip(slower, faster, strict=True)]


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table in Markdown."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def machine() -> str:
    """Return the machine's cores and GPU, and the version of torch, as text."""
    import torch

    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU"
    return f"{os.cpu_count()} cores, {gpu}, torch {torch.__version__.split('+')[0]}"
