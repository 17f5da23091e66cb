"""What clean tells in the terminal."""

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from platform.curation.cleaning.findings import Action
from platform.data.detection import csv_boxes
from platform.data.detection.layouts import Source

_REASONS = 4  # of merged labels, that are told


def tell(console: Console, folder: Path, source: Source, summary: Mapping[str, Any], removed: Sequence[str]) -> None:
    """What was done, what a person should look at, and the next commands."""
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
        told = f"Made from an earlier {csv_boxes.CLEANED}, and removed: {', '.join(removed)}"
        console.print(told, style="yellow", markup=False)
    _tell_next(console, folder, summary)


def _tell_next(console: Console, folder: Path, summary: Mapping[str, Any]) -> None:
    asked = sum(actions.get(Action.ASK, 0) for actions in summary["findings"].values())
    here, labels = shlex.quote(str(folder)), shlex.quote(str(folder / "cleaning" / "labels.csv"))
    to_decide = summary["labels"]["to_decide"]
    if to_decide:
        console.print(f"{to_decide:,} labels need a person: write the column decision of {labels}, then", markup=False)
        console.print(f"  python -m platform.dataset clean {here} --decisions {labels}", markup=False)
    if asked:
        findings = shlex.quote(str(folder / "cleaning" / "findings.csv"))
        console.print(f"{asked:,} more to look at: {findings}, action {Action.ASK}", markup=False)
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
    """How many labels were given another label's class, and the most frequent reasons."""
    shown = [f"{count:,} {reason}" for reason, count in list(reasons.items())[:_REASONS]]
    rest = sum(list(reasons.values())[_REASONS:])
    told = ", ".join([*shown, *([f"{rest:,} for other reasons"] if rest else [])])
    return f"{sum(reasons.values()):,}{': ' if told else ''}{told}"
