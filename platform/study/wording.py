"""Numbers, counts, durations and tables of a study as text."""

import math
from collections.abc import Iterable, Sequence
from typing import Any


def number(value: float) -> str:
    """Return a number with as many digits as people compare."""
    return f"{value:.3g}" if abs(value) < 0.01 or abs(value) >= 1000 else f"{value:.3f}"


def as_text(value: Any) -> str:
    """Return any value as people read it; None is a dash."""
    if value is None:
        return "–"
    return number(value) if isinstance(value, float) and math.isfinite(value) else str(value)


def counted(count: int, noun: str) -> str:
    """Return a count with its noun, e.g. "3 trials"."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def clock(seconds: float) -> str:
    """Return a duration, e.g. "1:05" or "2:00:10"."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def markdown_table(titles: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a Markdown table; titles and cells must be escaped already."""
    return "\n".join(f"| {' | '.join(cells)} |" for cells in [titles, ["---"] * len(titles), *rows])
