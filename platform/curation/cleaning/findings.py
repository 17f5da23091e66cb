"""cleaning/findings.csv: a line for everything that cleaning found and did, or leaves to a person."""

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from enum import StrEnum
from pathlib import Path
from typing import NamedTuple

from platform.curation.labels.label_table import cell
from platform.data import sheets
from platform.data.detection.annotations import Box, RawBox

CORNERS = ("x1", "y1", "x2", "y2")
COLUMNS = ("kind", "action", "detail", "image", "label", *CORNERS, "where", "other")


class Action(StrEnum):
    """What was done."""

    REPAIRED = "repaired"
    SET_ASIDE = "set aside"  # not in cleaned.csv; the file and its annotation stay where they are
    KEPT = "kept"
    ASK = "ask"  # a person should look; the detail says what stands until then


class Finding(NamedTuple):
    """A line.

    Attributes:
        kind: What is wrong.
        action: What was done about it.
        detail: More about it.
        image: The image's path from the data set's folder; "" where it is about none.
        label: Of a box, as written; "" in a line about an image.
        box: As written; None in a line about an image.
        where: The annotation.
        other: The image that this one is a copy of, or the box that this one became: "x1 y1 x2 y2".
    """

    kind: str
    action: Action
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


def of_image(kind: str, action: Action, image: str, where: str = "", detail: str = "", other: str = "") -> Finding:
    """A line about a whole image."""
    return Finding(kind, action, detail, image, where=where, other=other)


def of_box(kind: str, action: Action, image: str, raw: RawBox, detail: str = "", became: Box | None = None) -> Finding:
    """A line about a box."""
    other = " ".join(f"{edge:.10g}" for edge in became) if became else ""
    return Finding(kind, action, detail, image, raw.name, raw.box, raw.where, other)


def as_box(texts: Sequence[str]) -> Box | None:
    """Four finite numbers, or None."""
    try:
        x1, y1, x2, y2 = map(float, texts)
    except ValueError:
        return None
    return (x1, y1, x2, y2) if all(map(math.isfinite, (x1, y1, x2, y2))) else None


def counted(findings: Iterable[Finding]) -> dict[str, dict[str, int]]:
    """How many there are, by kind and action, the most frequent kind first."""
    counts = Counter((each.kind, str(each.action)) for each in findings)
    kinds: dict[str, dict[str, int]] = {}
    for (kind, action), count in sorted(counts.items()):
        kinds.setdefault(kind, {})[action] = count
    return dict(sorted(kinds.items(), key=lambda item: -sum(item[1].values())))


def write(file: Path, findings: Iterable[Finding]) -> None:
    """Writes the table, whole or not at all."""
    sheets.write(file, COLUMNS, map(_row, findings))


def _row(finding: Finding) -> dict[str, object]:
    told = finding._asdict() | {name: cell(getattr(finding, name)) for name in ("detail", "image", "label", "where")}
    corners = dict(zip(CORNERS, told.pop("box") or (), strict=False))
    return told | corners | {"action": str(finding.action)}
