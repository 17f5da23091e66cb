"""Findings of cleaning: cleaning/findings.csv, with a line for every change or question, and the console summary."""

import math
import shlex
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Any, NamedTuple

from rich.console import Console
from rich.table import Table
from rich.text import Text

from platform.curation.labels.label_table import cell
from platform.data import sheets
from platform.data.detection import csv_boxes
from platform.data.detection.annotations import Box, RawBox
from platform.data.detection.layouts import Source

CORNERS = ("x1", "y1", "x2", "y2")
COLUMNS = ("kind", "action", "detail", "image", "label", *CORNERS, "where", "other")


class Action(StrEnum):
    """Action taken on a finding."""

    REPAIRED = "repaired"
    SET_ASIDE = "set aside"  # not in cleaned.csv; the file and its annotation are not touched
    KEPT = "kept"
    ASK = "ask"  # a person should decide; the detail says what holds until then


class Finding(NamedTuple):
    """Line of findings.csv."""

    kind: str  # of the problem
    action: Action
    detail: str = ""
    image: str = ""  # path from the data set's folder; "" where no image is concerned
    label: str = ""  # of the box, as written; "" in a line about an image, where also `box` is empty
    box: Box | None = None  # as written
    where: str = ""  # place of the annotation
    other: str = ""  # image that this one is a copy of, or the repaired box: "x1 y1 x2 y2"

    @property
    def mended(self) -> Box | None:
        """Repaired box, if there is one."""
        return as_box(self.other.split())


def of_image(kind: str, action: Action, image: str, where: str = "", detail: str = "", other: str = "") -> Finding:
    """Return a finding about a whole image."""
    return Finding(kind, action, detail, image, where=where, other=other)


def of_box(kind: str, action: Action, image: str, raw: RawBox, detail: str = "", became: Box | None = None) -> Finding:
    """Return a finding about a box."""
    other = " ".join(f"{edge:.10g}" for edge in became) if became else ""
    return Finding(kind, action, detail, image, raw.name, raw.box, raw.where, other)


def number(text: str) -> float | None:
    """Return a text as a finite number, or None if it is none."""
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def as_box(texts: Sequence[str]) -> Box | None:
    """Return four texts as a box, or None if they are not four finite numbers."""
    match [number(text) for text in texts]:
        case [float(x1), float(y1), float(x2), float(y2)]:
            return x1, y1, x2, y2
    return None


def counted(findings: Iterable[Finding]) -> dict[str, dict[str, int]]:
    """Return the number of findings by kind and action, the most frequent kind first."""
    counts = Counter((each.kind, str(each.action)) for each in findings)
    kinds: dict[str, dict[str, int]] = {}
    for (kind, action), count in sorted(counts.items()):
        kinds.setdefault(kind, {})[action] = count
    return dict(sorted(kinds.items(), key=lambda item: -sum(item[1].values())))


def write(file: Path, findings: Iterable[Finding]) -> None:
    """Write the table atomically."""
    sheets.write(file, COLUMNS, map(_row, findings))


def _row(finding: Finding) -> dict[str, object]:
    row = finding._asdict() | {name: cell(getattr(finding, name)) for name in ("detail", "image", "label", "where")}
    corners = dict(zip(CORNERS, row.pop("box") or (), strict=False))
    return row | corners | {"action": str(finding.action)}


_REASONS = 4  # reasons for merging labels that are printed


def print_summary(
    console: Console, folder: Path, source: Source, summary: Mapping[str, Any], removed: Sequence[str]
) -> None:
    """Print the changes, the open questions and the next commands."""
    before, after, labels = summary["before"], summary["after"], summary["labels"]
    for warning in source.warnings:
        console.print(warning, style="yellow", markup=False)
    if summary["findings"]:
        console.print(_table(summary["findings"]))
    console.print(f"{summary['from']} → {csv_boxes.CLEANED}", style="bold", markup=False)
    for what, change in (
        ("images", f"{before['images']:,} → {after['images']:,}, {after['background_images']:,} without boxes"),
        ("boxes", f"{before['boxes']:,} → {after['boxes']:,}"),
        ("labels", f"{before['labels']:,} → {after['classes']:,} classes"),
        ("merged", _merged(labels["by_reason"])),
    ):
        console.print(f"  {what:8}{change}", markup=False)
    if removed:
        text = f"Removed, because made from an earlier {csv_boxes.CLEANED}: {', '.join(removed)}"
        console.print(text, style="yellow", markup=False)
    _print_next(console, folder, summary)


def _print_next(console: Console, folder: Path, summary: Mapping[str, Any]) -> None:
    asked = sum(actions.get(Action.ASK, 0) for actions in summary["findings"].values())
    here, labels = shlex.quote(str(folder)), shlex.quote(str(folder / "cleaning" / "labels.csv"))
    to_decide = summary["labels"]["to_decide"]
    if to_decide:
        what = f"{to_decide:,} labels need a decision."
        console.print(f"{what} Fill the column decision of {labels}, then run", markup=False)
        console.print(f"  python -m platform.dataset clean {here} --decisions {labels}", markup=False)
    if asked:
        findings = shlex.quote(str(folder / "cleaning" / "findings.csv"))
        console.print(f"{asked:,} more questions are in {findings}, with the action {Action.ASK}.", markup=False)
    console.print(f"Next: python -m platform.dataset split {here}", markup=False)


def _table(findings: Mapping[str, Mapping[str, int]]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("found")
    actions = [action for action in Action if any(action in counts for counts in findings.values())]
    for action in actions:
        table.add_column(str(action), justify="right")
    for kind, counts in findings.items():
        table.add_row(Text(kind), *(f"{counts[action]:,}" if action in counts else "" for action in actions))
    return table


def _merged(reasons: Mapping[str, int]) -> str:
    """Return the number of labels that were given another label's class, and the most frequent reasons."""
    counts = list(reasons.items())
    shown = [f"{count:,} {reason}" for reason, count in counts[:_REASONS]]
    if rest := sum(count for _, count in counts[_REASONS:]):
        shown.append(f"{rest:,} for other reasons")
    return ": ".join([f"{sum(reasons.values()):,}", *([", ".join(shown)] if shown else [])])
