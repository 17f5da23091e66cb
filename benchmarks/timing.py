"""How benchmarks time: both sides in one run, taking turns, medians told with the lowest and highest."""

import os
import statistics
import time
from collections.abc import Callable, Mapping, Sequence


def interleaved(
    sides: Mapping[str, Callable[[], object]], repeats: int, warm_up: bool = True
) -> dict[str, list[float]]:
    """Seconds of each side, in turns: what slows the machine down for a while slows all of them.

    Args:
        sides: What to time, by name. What returns a number has timed itself, in seconds.
        repeats: How often each.
        warm_up: Whether each is run once before, untimed.
    """
    if warm_up:
        for action in sides.values():
            action()
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(repeats):
        for name, action in sides.items():
            started = time.perf_counter()
            told = action()
            seconds[name].append(told if isinstance(told, float) else time.perf_counter() - started)
    return seconds


def spread(values: Sequence[float], scale: float = 1.0, digits: int = 2) -> str:
    """The median, with the lowest and highest."""
    low, middle, high = (value * scale for value in (min(values), statistics.median(values), max(values)))
    return f"{middle:.{digits}f} ({low:.{digits}f}–{high:.{digits}f})"


def ratios(slower: Sequence[float], faster: Sequence[float]) -> list[float]:
    """Pair by pair, as they were timed one after the other."""
    return [a / b for a, b in zip(slower, faster, strict=True)]


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """In Markdown."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def machine() -> str:
    """What it was measured on."""
    import torch

    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU"
    return f"{os.cpu_count()} cores, {gpu}, torch {torch.__version__.split('+')[0]}"
