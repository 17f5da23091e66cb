"""cleaning/findings.csv: everything that cleaning found in images and boxes, a line each."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from platform.data import sheets
from platform.data.annotations import Box

REPAIRED, SET_ASIDE, KEPT, ASK = "repaired", "set aside", "kept", "ask"  # actions
CORNERS = ("x1", "y1", "x2", "y2")
COLUMNS = ("kind", "action", "detail", "image", "label", *CORNERS, "where", "other")


@dataclass(frozen=True)
class Finding:
    """A line.

    Attributes:
        kind: What was found; equal texts are counted together.
        action: One of REPAIRED, SET_ASIDE, KEPT, ASK.
        detail: More about this one.
        image: From the data set's folder; "" where none is concerned.
        label: As typed.
        box: As written; None where the whole image is concerned.
        where: The entry in the annotations.
        other: Another image, or the box that this one became, as "x1 y1 x2 y2".
    """

    kind: str
    action: str
    detail: str = ""
    image: str = ""
    label: str = ""
    box: Box | None = None
    where: str = ""
    other: str = ""

    @property
    def mended(self) -> Box | None:
        """The box that this one became."""
        return as_box(self.other.split())


def write(file: Path, findings: Iterable[Finding]) -> None:
    """Writes the table, whole or not at all."""
    rows = (vars(each) | dict(zip(CORNERS, each.box or (), strict=False)) for each in findings)
    sheets.write(file, COLUMNS, ({key: row.get(key) for key in COLUMNS} for row in rows))


def as_box(texts: Sequence[str]) -> Box | None:
    """Four finite numbers, or None."""
    try:
        x1, y1, x2, y2 = map(float, texts)
    except ValueError:
        return None
    return (x1, y1, x2, y2) if all(map(math.isfinite, (x1, y1, x2, y2))) else None


def told(box: Box) -> str:
    """A box as `Finding.other` has it."""
    return " ".join(f"{edge:g}" if edge == int(edge) else repr(edge) for edge in box)
