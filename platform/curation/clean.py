"""Command clean: group labels and repair images and boxes → cleaned.csv, and a record of all changes in cleaning/."""

import argparse
import json
import math
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from rich.console import Console

from platform.curation import steps
from platform.curation.cleaning import findings, frames, repair
from platform.curation.cleaning.duplicates import BITS, UNLIKE
from platform.curation.cleaning.findings import Action, Finding
from platform.curation.cleaning.looks import ImageFeatures, read_looks
from platform.curation.cleaning.repair import RepairResult
from platform.curation.cleaning.rules import Limits
from platform.curation.labels import grouping, label_table
from platform.curation.labels.grouping import LabelDecision, Settings
from platform.curation.labels.label_table import NO_DECISIONS, Decisions
from platform.curation.labels.normalise import key
from platform.curation.steps import progress
from platform.data import sheets
from platform.data.detection import csv_boxes, layouts
from platform.data.detection.annotations import RawBox
from platform.data.detection.layouts import Source
from platform.data.files import absolute
from platform.errors import EXIT_INCOMPLETE, Fault, InputError, collecting, raise_if_any
from platform.storage import atomic

FOLDER = "cleaning"
LABELS, FINDINGS, NEAR, SUMMARY = "labels.csv", "findings.csv", "near_duplicates.csv", "summary.json"
NO_LABEL_LIKE, NO_SUCH_LABEL = "alias that no label is like", "decision about a label that is not there"

_KINDS = 3  # kinds of findings in the message when nothing is left
_LIBRARIES = ("pillow", "numpy", "scipy", "imagehash", "rapidfuzz", "anyascii", "ftfy")


@dataclass(frozen=True)
class Request:
    """Checked options of `clean`, and the data to be cleaned."""

    root: Path  # the data set's folder, absolute
    source: Source
    boxes: Mapping[str, Sequence[tuple[Path, RawBox]]]  # by raw label, each with its image
    aliases: Mapping[str, str]  # class by alias
    decisions: Decisions
    settings: Settings  # thresholds for labels
    limits: Limits  # of boxes
    min_side: int  # pixels that the shorter side of an image must have


def run(options: argparse.Namespace, console: Console) -> int:
    """Clean a data set; the files that it consisted of before are not changed.

    Returns:
        The exit code: 1 if a table could not be written.

    Raises:
        InputError: An option is wrong, a table cannot be read, the folder has no known layout or cannot be written;
            no box is left to train on, or boxes seem to be sides where corners should be. No table is written then.
    """
    request = _read_options(options)
    try:
        (request.root / FOLDER).mkdir(exist_ok=True)
        counts = {label: len(of) for label, of in request.boxes.items()}
        verdicts = grouping.group(counts, request.aliases, request.decisions.of, request.settings)
        paths = sorted({image.path for image in request.source.raw.images})
        with progress(console, "examined", len(paths)) as advance:
            looks = read_looks(request.root, paths, lambda: advance(""))
        raise_if_any(_convention_faults(request.source, looks))
        with console.status("comparing images"):
            cleaned = repair.repair(request.root, request.source, looks, verdicts, request.limits, request.min_side)
        cleaned.findings.extend(_without_effect(request, verdicts))
        summary = _summary(request, verdicts, cleaned)
        raise_if_any(_nothing_left_faults(cleaned))
        with steps.under_way(request.root, "clean"):
            removed = _write(request, verdicts, cleaned, summary)
    except OSError as error:
        what = f"{error.strerror or error}: {error.filename or request.root}"
        console.print(f"Not cleaned: {what}. {csv_boxes.CLEANED} is unchanged.", markup=False)
        return EXIT_INCOMPLETE
    findings.print_summary(console, options.dir, request.source, summary, removed)
    return 0


def _read_options(options: argparse.Namespace) -> Request:
    """Check the options and read the data set; raise an InputError with all faults of both."""
    settings = Settings(options.merge_at, options.ask_at)
    faults = [*grouping.faults(settings), *_limit_faults(options)]
    aliases, decisions, source = dict[str, str](), NO_DECISIONS, None
    with collecting(faults):
        aliases = label_table.read_aliases(options.aliases) if options.aliases else {}
    with collecting(faults):
        source = layouts.read(options.dir, before=csv_boxes.CLEANED)
    if source is None:
        raise InputError(*faults)
    root, boxes = absolute(options.dir), _by_label(source)
    with collecting(faults):
        decisions = _decisions(options.decisions, root, boxes)
    folder = root / FOLDER
    if folder.exists() and not folder.is_dir():
        faults.append(Fault("clean writes to a folder of this name", f"{folder} is a file", "Move it away."))
    else:
        faults += steps.writing_faults(root, *([folder] if folder.exists() else []))
    raise_if_any([*faults, *steps.faults(root, "fetch")])
    limits = Limits(options.min_box, options.max_box)
    return Request(root, source, boxes, aliases, decisions, settings, limits, options.min_image)


def _limit_faults(options: argparse.Namespace) -> list[Fault]:
    rules = (
        (options.min_image >= 1, "--min-image must be 1 or more pixels", options.min_image),
        (0 <= options.min_box < math.inf, "--min-box must be 0 or more pixels", options.min_box),
        (0 < options.max_box <= 1, "--max-box must be a share of the image, above 0 and up to 1", options.max_box),
    )
    return [Fault(rule, f"{value:g}", "Give another.") for holds, rule, value in rules if not holds]


def _convention_faults(source: Source, looks: Mapping[Path, ImageFeatures]) -> list[Fault]:
    """Return a fault if boxes seem to be x, y, width, height; repairing them as corners would make wrong boxes."""
    if source.layout != csv_boxes.LAYOUT:
        return []
    boxes = [(box.box, looks[image.path]) for image in source.raw.images for box in image.boxes]
    inverted = frames.sides_not_corners([(box, look.width, look.height) for box, look in boxes])
    if not inverted:
        return []
    rule = "boxes must be given by two corners, the second right of the first and below it"
    value = f"{inverted:,} of {len(boxes):,} are not, and nearly all would fit as x, y, width, height"
    return [Fault(rule, value, "Fetch again with --box xywh, or correct the table: x2 = x1 + width, y2 = y1 + height.")]


def _nothing_left_faults(cleaned: RepairResult) -> list[Fault]:
    """Return a fault if no box is left, with the most frequent kinds of findings and the first of each."""
    if any(image.boxes for image in cleaned.images):
        return []
    found = []
    for kind, actions in [*findings.counted(cleaned.findings).items()][:_KINDS]:
        first = next(each for each in cleaned.findings if each.kind == kind)
        parts = filter(None, (first.where or first.image, first.label, first.detail))
        found.append(f"{sum(actions.values())} x {kind} (the first: {', '.join(parts)})")
    rule, remedy = "a box must be left to train on", "Correct the annotations, or relax the limits; see clean --help."
    return [Fault(rule, f"none, but {'; '.join(found) or 'no findings either'}", remedy)]


def _decisions(given: Path | None, root: Path, labels: Mapping[str, Any]) -> Decisions:
    """Return the decisions; those in an existing cleaning/labels.csv must be among them, as it is overwritten."""
    decisions = label_table.read_decisions(given, labels) if given else NO_DECISIONS
    table = root / FOLDER / LABELS
    if not table.is_file() or (given and given.resolve() == table.resolve()):
        return decisions
    rule, remedy = f"{table} is overwritten, so its decisions must be given", f"Give --decisions {table}."
    try:
        there = label_table.read_decisions(table, labels)
    except InputError as error:
        faults = [Fault(rule, str(fault), "Correct it, or move it away.") for fault in error.faults]
        raise InputError(*faults) from error
    applied = decisions.by_cell().items()
    if lost := sorted(label for label, cls in there.by_cell().items() if (label, cls) not in applied):
        raise InputError(Fault(rule, f"{len(lost)} about {', '.join(lost[:3])}", f"{remedy} Or move it away."))
    return decisions


def _by_label(source: Source) -> dict[str, list[tuple[Path, RawBox]]]:
    boxes: defaultdict[str, dict[tuple[Path, RawBox], None]] = defaultdict(dict)
    for image in source.raw.images:
        for box in image.boxes:
            boxes[box.name][image.path, box] = None
    return {label: list(boxes[label]) for label in sorted(boxes)}


def _without_effect(request: Request, verdicts: Sequence[LabelDecision]) -> list[Finding]:
    """Return a finding for each alias and decision without effect, which is probably mistyped."""
    used = {key(text) for verdict in verdicts for text in (verdict.label, verdict.matched)}
    aliases = [alias for alias in sorted(request.aliases) if key(alias) not in used]
    unused = ((NO_LABEL_LIKE, aliases), (NO_SUCH_LABEL, request.decisions.gone))
    return [Finding(kind, Action.KEPT, label=label) for kind, labels in unused for label in labels]


def _write(
    request: Request, verdicts: Sequence[LabelDecision], cleaned: RepairResult, summary: Mapping[str, Any]
) -> Sequence[str]:
    """Write all tables, each atomically; return the removed files of later steps."""
    folder = request.root / FOLDER
    boxes = {label: len(of) for label, of in request.boxes.items()}
    images = {label: len({path for path, _ in of}) for label, of in request.boxes.items()}
    label_table.write(folder / LABELS, verdicts, boxes, images, request.decisions)
    findings.write(folder / FINDINGS, cleaned.findings)
    nearest = repair.nearest(cleaned.near)
    rows = [
        {"image": path.relative_to(request.root).as_posix(), "group": group, "distance": round(nearest[path][0], 4)}
        for path, group in sorted(cleaned.groups.items(), key=lambda item: (item[1], item[0]))
    ]
    sheets.write(folder / NEAR, ("image", "group", "distance"), rows)
    atomic.write_text(folder / SUMMARY, json.dumps(summary, indent=1, ensure_ascii=False) + "\n")
    fresh = folder / csv_boxes.CLEANED
    csv_boxes.write(fresh, request.root, cleaned.images)
    return steps.replace_table(fresh, request.root / csv_boxes.CLEANED) or ()


def _summary(request: Request, verdicts: Sequence[LabelDecision], cleaned: RepairResult) -> dict[str, Any]:
    """Return the content of summary.json."""
    raw = request.source.raw
    unread = [repair.image for repair in raw.repairs]
    classes = Counter(box.name for image in cleaned.images for box in image.boxes)
    merged = Counter(verdict.reason for verdict in verdicts if grouping.is_merged(*verdict[:3]))
    return {
        "from": request.source.table or request.source.layout,
        "notes": list(request.source.warnings),
        "before": {
            "images": len({image.path for image in raw.images} | {path for path in unread if path}),
            "boxes": sum(map(len, request.boxes.values())) + sum(path is not None for path in unread),
            "labels": len(request.boxes),
        },
        "after": {
            "images": len(cleaned.images),
            "background_images": sum(not image.boxes for image in cleaned.images),
            "boxes": classes.total(),
            "classes": len(classes),
        },
        "labels": {
            "by_reason": dict(merged.most_common()),
            "dropped": sum(verdict.cls is None for verdict in verdicts),
            "to_decide": sum(bool(verdict.suggestion) for verdict in verdicts),
        },
        "near_duplicates": {"images": len(cleaned.groups), "groups": len(set(cleaned.groups.values()))},
        "findings": findings.counted(cleaned.findings),
        "thresholds": {
            "merge_at": request.settings.merge_at,
            "ask_at": request.settings.ask_at,
            "min_image": request.min_side,
            "min_box": request.limits.side,
            "max_box": request.limits.share,
            "near_duplicate": {"unlike": UNLIKE, "bits": BITS},
        },
        "versions": {name: version(name) for name in _LIBRARIES},
    }
