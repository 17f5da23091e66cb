"""Markdown of texts that come from anywhere: data, paths, errors. They stay text, and stay in their place."""

import re
import unicodedata
from collections.abc import Sequence

_LONGEST = 300  # characters of a text
# What Markdown takes for more than text: anywhere, at the beginning of a line, and in what it would make a link of.
_MARKUP = re.compile(r"([\\`*_\[\]<>#!|~&$^]|^[-+=:]|(?:(?<=^\d)|(?<=^\d\d))[.)](?= )|:(?=//)|(?<=www)\.)")


def plain(value: object) -> str:
    """Text on one line and not too long, without what steers terminals or turns the direction of writing."""
    text = re.sub(r"\s+", " ", str(value).encode("utf-8", "replace").decode())
    text = "".join(c for c in text if unicodedata.category(c)[0] != "C").strip()
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"


def placeless(value: object) -> str:
    """Text without the folders of this machine: a card is made to be given away."""
    return re.sub(r"(?:(?<=[\s:,'\"])|^)/(?:[^/\s,]+/)+", "…/", str(value))


def escaped(value: object) -> str:
    """Text that Markdown shows as it is."""
    return _MARKUP.sub(r"\\\1", plain(value))


def table(titles: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A Markdown table; its cells are escaped."""
    lines = [titles, ["---"] * len(titles), *([escaped(cell) for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def facts(rows: Sequence[tuple[str, object]]) -> str:
    """A Markdown list of what is known, by title."""
    return "\n".join(f"- **{escaped(title)}**: {escaped(value)}" for title, value in rows)
