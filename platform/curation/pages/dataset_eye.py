"""What of a data set needs a person's eye, and how each thing is decided."""

import shlex
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from platform.curation.cleaning.findings import Action
from platform.curation.labels.grouping import DROP
from platform.curation.pages.album import Album, Cut
from platform.curation.pages.dataset_data import LABELS, Dataset, Label
from platform.curation.pages.dataset_findings import (
    GROUPS_SHOWN,
    LARGE_GROUP,
    by_kind,
    drawn,
    groups_of,
    spread,
    strip,
    titled,
)
from platform.curation.shown import counted, visible
from platform.data.detection import csv_boxes
from platform.data.detection.annotations import Box

ASKED_SHOWN, SILENT_SHOWN, KIND_SHOWN = 96, 12, 12  # of each, in pictures


def eye(data: Dataset, album: Album) -> dict[str, Any]:
    """Labels in doubt, labels that say nothing, findings that nobody but a person can judge, large groups of copies."""
    open_labels = [each for each in data.labels if not each.decision]
    asked = _together(each for each in open_labels if each.suggestion not in ("", DROP))
    silent = _together(each for each in open_labels if each.suggestion == DROP or not each.name)
    kinds = by_kind(each for each in data.findings if each.action == Action.ASK)
    groups = groups_of(data, LARGE_GROUP)
    folder = shlex.quote(str(data.root))
    return {
        "count": len(asked) + len(silent) + sum(map(len, kinds.values())) + len(groups),
        "asked": [_asked(data, each, album) for each in asked[:ASKED_SHOWN]],
        "asked_count": len(asked),
        "asked_told": _told(asked),
        "silent": [_silent(data, each, album) for each in silent[:SILENT_SHOWN]],
        "silent_count": len(silent),
        "silent_told": _told(silent),
        "kinds": [
            {"kind": titled(kind), "count": len(found), "shown": drawn(data, found, album, KIND_SHOWN)}
            for (_, kind), found in kinds.items()
        ],
        "groups": [strip(data, group, album) for group in groups[:GROUPS_SHOWN]],
        "groups_count": len(groups),
        "groups_told": f"{counted(len(groups), 'group', 'groups')} of {LARGE_GROUP} or more",
        "large_group": LARGE_GROUP,
        "source": _source(data),
        "again": f"python -m platform.dataset clean {folder}",
        "decide": f"python -m platform.dataset clean {folder} --decisions {shlex.quote(str(data.root / LABELS))}",
    }


def _together(labels: Iterable[Label]) -> list[list[Label]]:
    """Spellings of one class with one suggestion are one question; the most frequent first, within each as well."""
    questions: dict[tuple[str, str], list[Label]] = defaultdict(list)
    for each in labels:
        questions[each.name or each.label, each.suggestion].append(each)
    for question in questions.values():
        question.sort(key=lambda each: (each.label != each.name, -each.boxes, each.label))
    return sorted(questions.values(), key=lambda question: (-_boxes(question), question[0].label))


def _asked(data: Dataset, labels: Sequence[Label], album: Album) -> dict[str, Any]:
    """A label whose class a person is asked for, beside the class that is suggested."""
    first = labels[0]
    theirs = spread(data.seen.get(first.suggestion, []), 1)
    return {
        "label": visible(first.label),
        "more": counted(len(labels) - 1, "more spelling", "more spellings") if len(labels) > 1 else "",
        "suggestion": visible(first.suggestion),
        "score": first.suggestion_score,
        "boxes": counted(_boxes(labels), "box", "boxes"),
        "mine": next((album.want(Cut(path, (box,))) for path, box in _seen(data, first)), None),
        "theirs": next((album.want(Cut(picture.path, (box,))) for picture, box in theirs), None),
    }


def _silent(data: Dataset, labels: Sequence[Label], album: Album) -> dict[str, Any]:
    """A label that seems to name nothing."""
    first = labels[0]
    return {
        "label": visible(first.label),
        "boxes": counted(_boxes(labels), "box", "boxes"),
        "kept": bool(first.name),
        "reason": visible(first.reason),
        "cut": next((album.want(Cut(path, (box,))) for path, box in _seen(data, first)), None),
    }


def _seen(data: Dataset, label: Label) -> Sequence[tuple[Path, Box]]:
    return data.raw.get(label.label, [])


def _boxes(labels: Iterable[Label]) -> int:
    return sum(each.boxes for each in labels)


def _told(questions: Sequence[Sequence[Label]]) -> str:
    labels = [each for question in questions for each in question]
    return f"{counted(len(labels), 'label', 'labels')}, {counted(_boxes(labels), 'box', 'boxes')}"


def _source(data: Dataset) -> str:
    """The table that cleaning reads, for who corrects a box there."""
    file = csv_boxes.table_of(data.root, before=csv_boxes.CLEANED)
    return file.name if file else "the annotations"
