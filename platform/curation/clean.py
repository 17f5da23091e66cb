"""The command clean: labels, boxes and images put in order; what is certain is repaired, all else is set aside."""

import argparse
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

from rich.console import Console
from rich.table import Table

from platform.curation import duplicates, findings, grouping, label_table, orientation
from platform.curation.box_checks import Limits, Place, judge
from platform.curation.findings import ASK, REPAIRED, SET_ASIDE, Finding
from platform.curation.grouping import DROP, Settings, Verdict
from platform.curation.looks import Look, look
from platform.curation.progress import progress
from platform.data import csv_boxes, layouts, sheets
from platform.data.annotations import Kind, RawBox, RawImage
from platform.data.files import absolute, folder_faults
from platform.data.layouts import Source
from platform.errors import EXIT_INCOMPLETE, Fault, InputError, raise_if_any

FOLDER = "cleaning"
LABELS, FINDINGS, NEAR, SUMMARY = "labels.csv", "findings.csv", "near_duplicates.csv", "summary.json"
LATER = (csv_boxes.SPLIT, "split.json")  # made of the table before

TOO_SMALL, COPY = "image too small", "copy of another image"
LOST_ALL, LOST_SOME = "image without any of its boxes", "image without some of its boxes"
STRANGE_TURN, IN_SPLITS = "orientation flag that means nothing", "image in several splits"
_LOSES = frozenset({Kind.UNREADABLE_ENTRY, Kind.NO_BOX, Kind.NO_LABEL, Kind.UNKNOWN_CLASS, Kind.CROWD})
_VERSIONS = ("Pillow", "ImageHash", "rapidfuzz", "anyascii", "ftfy")
_TOLD = 3


class Decided(NamedTuple):
    """What people say of labels.

    Attributes:
        aliases: Class by alias.
        decisions: Class by raw label; None leaves its boxes out.
        gone: Labels decided that are not there.
    """

    aliases: Mapping[str, str]
    decisions: Mapping[str, str | None]
    gone: tuple[str, ...]


@dataclass(frozen=True)
class Cleaned:
    """A data set in order.

    Attributes:
        images: That are kept, with their boxes.
        verdicts: On each raw label.
        findings: What was found in images and boxes.
        near: Of images that are nearly the same, the number of their group and the distance to the nearest.
        before: Images and boxes as they were read.
    """

    images: Sequence[RawImage]
    verdicts: Sequence[Verdict]
    findings: Sequence[Finding]
    near: Mapping[Path, tuple[int, float]]
    before: tuple[int, int]


def run(options: argparse.Namespace, console: Console) -> int:
    """Writes cleaned.csv and what was found, into cleaning/; what it is made from is not changed."""
    root = absolute(options.dir)
    settings = Settings(options.merge_at, options.ask_at)
    faults = [*folder_faults(root, "DIR must be a folder with images and annotations"), *grouping.faults(settings)]
    raise_if_any([*faults, *_option_faults(options)])
    source = layouts.read(root, before=csv_boxes.CLEANED)
    read = _joined(source)
    labels = Counter(box.name for image in read.values() for box in image.boxes)
    decided = _decided(options, labels)
    try:
        with progress(console, "looked at", len(read)) as advance:
            seen = look(root, sorted(read), lambda: advance(""))
        made = _clean(root, source, read, seen, decided, settings, options)
        if not any(image.boxes for image in made.images):
            found = ", ".join(f"{count} x {kind}" for kind, count in _kinds(made.findings).most_common(_TOLD))
            rule, remedy = "a box must be left once all is in order", "Look at the data, or allow more: see --help."
            raise InputError(Fault(rule, f"none; {found}", remedy))
        _write(root, source, made, decided, settings, options)
        removed = [name for name in LATER if (root / name).is_file()]
        for name in removed:
            (root / name).unlink()
    except OSError as error:
        console.print(f"Not cleaned: {error.strerror or error}: {error.filename or root}.", markup=False)
        return EXIT_INCOMPLETE
    _tell(console, options, source, made, decided, removed)
    return 0


def _option_faults(options: argparse.Namespace) -> list[Fault]:
    rules = (
        (options.min_image >= 1, "--min-image must be 1 pixel or more", options.min_image, "The default is 32."),
        (options.min_box > 0, "--min-box must be above 0 pixels", options.min_box, "The default is 4."),
        (0 < options.max_box <= 1, "--max-box is a share, above 0 and at most 1", options.max_box, "1 allows all."),
    )
    return [Fault(rule, f"{value:g}", remedy) for holds, rule, value, remedy in rules if not holds]


def _decided(options: argparse.Namespace, labels: Mapping[str, int]) -> Decided:
    """
    Raises:
        InputError: A file cannot be read, or contradicts itself; all that is wrong with both.
    """
    faults: list[Fault] = []
    aliases: dict[str, str] = {}
    decisions = label_table.Decisions({}, ())
    try:
        aliases = label_table.read_aliases(options.aliases) if options.aliases else {}
    except InputError as error:
        faults += error.faults
    try:
        decisions = label_table.read_decisions(options.decisions, labels) if options.decisions else decisions
    except InputError as error:
        faults += error.faults
    raise_if_any(faults)
    return Decided(aliases, decisions.of, decisions.gone)


def _joined(source: Source) -> dict[Path, RawImage]:
    """Each image once, with all that was said of it."""
    joined: dict[Path, RawImage] = {}
    for image in source.raw.images:
        before = joined.get(image.path)
        joined[image.path] = replace(before, boxes=before.boxes + image.boxes) if before else image
    return joined


def _clean(
    root: Path,
    source: Source,
    read: Mapping[Path, RawImage],
    seen: Mapping[Path, Look],
    decided: Decided,
    settings: Settings,
    options: argparse.Namespace,
) -> Cleaned:
    told = [*_from_reading(root, source), *_unusable_images(root, read, seen, options.min_image)]
    aside = {each.image for each in told if each.action == SET_ASIDE and each.kind in (Kind.BROKEN_IMAGE, TOO_SMALL)}
    usable = {path: read[path] for path in seen if _name(root, path) not in aside}
    united, copies = _united(root, usable, seen)
    told += copies
    counts = Counter(box.name for image in united.values() for box in image.boxes)
    verdicts = grouping.group(counts, decided.aliases, decided.decisions, settings)
    classes = {verdict.label: verdict.cls for verdict in verdicts}
    lost = Counter(repair.image for repair in source.raw.repairs if repair.image and repair.kind in _LOSES)
    limits = Limits(options.min_box, options.max_box)
    kept = []
    for path, image in united.items():
        each = seen[path]
        place = Place(_name(root, path), each.width, each.height, each.orientation, image.size)
        judged = judge(image.boxes, place, classes, limits)
        told += judged.findings
        told += (problem := _of_the_whole(place, len(judged.kept), judged.lost + lost[path]))
        if not any(finding.kind == LOST_ALL for finding in problem):
            kept.append(replace(image, boxes=judged.kept, size=None))
    before = len(read), sum(len(image.boxes) for image in read.values())
    return Cleaned(kept, verdicts, told, _near({image.path: seen[image.path] for image in kept}), before)


def _from_reading(root: Path, source: Source) -> list[Finding]:
    """What could not be read, and images that were read more than once."""
    told = [
        Finding(str(repair.kind), SET_ASIDE, "", _name(root, repair.image) if repair.image else "", where=repair.where)
        for repair in source.raw.repairs
    ]
    splits: dict[Path, dict[str, None]] = {}
    for image in source.raw.images:
        splits.setdefault(image.path, {})[image.split or "none"] = None
    return told + [
        Finding(IN_SPLITS, REPAIRED, f"{', '.join(names)}: the first is kept", _name(root, path))
        for path, names in splits.items()
        if len(names) > 1
    ]


def _unusable_images(root: Path, read: Mapping[Path, RawImage], seen: Mapping[Path, Look], least: int) -> list[Finding]:
    told = []
    for path, each in seen.items():
        image, boxes = _name(root, path), f"{len(read[path].boxes)} boxes"
        if each.fault:
            told.append(Finding(str(Kind.BROKEN_IMAGE), SET_ASIDE, f"{each.fault}; {boxes}", image))
        elif min(each.width, each.height) < least:
            size = f"{each.width} x {each.height}, --min-image is {least}"
            told.append(Finding(TOO_SMALL, SET_ASIDE, f"{size}; {boxes}", image))
        elif each.orientation not in orientation.KNOWN:
            told.append(Finding(STRANGE_TURN, findings.KEPT, f"EXIF orientation {each.orientation}", image))
    return told


def _united(
    root: Path, images: Mapping[Path, RawImage], seen: Mapping[Path, Look]
) -> tuple[dict[Path, RawImage], list[Finding]]:
    """Of images of equal pixels the first, with the boxes of all."""
    united, told = dict(images), []
    for first, *others in duplicates.exact({path: seen[path] for path in images}):
        for other in others:
            copy = united.pop(other)
            known = {(box.name, box.box) for box in united[first].boxes}
            new = tuple(box for box in copy.boxes if (box.name, box.box) not in known)
            united[first] = replace(united[first], boxes=united[first].boxes + new)
            detail = f"{len(new)} of its {len(copy.boxes)} boxes are new there" if copy.boxes else "without boxes"
            told.append(Finding(COPY, SET_ASIDE, detail, _name(root, other), other=_name(root, first)))
    return united, told


def _of_the_whole(place: Place, kept: int, lost: int) -> list[Finding]:
    """What follows for an image that lost boxes: without any it would pass for one that shows nothing."""
    if not lost:
        return []
    if not kept:
        return [Finding(LOST_ALL, SET_ASIDE, f"{lost} set aside", place.image)]
    detail = f"{lost} set aside, {kept} kept: what they showed counts as background"
    return [Finding(LOST_SOME, ASK, detail, place.image)]


def _near(seen: Mapping[Path, Look]) -> dict[Path, tuple[int, float]]:
    pairs = duplicates.near(seen)
    nearest: dict[Path, float] = {}
    for pair in pairs:
        for path in (pair.one, pair.other):
            nearest[path] = min(nearest.get(path, pair.distance), pair.distance)
    groups = duplicates.joined(sorted(nearest), [(pair.one, pair.other) for pair in pairs])
    return {path: (number, nearest[path]) for path, number in groups.items()}


def _write(
    root: Path, source: Source, made: Cleaned, decided: Decided, settings: Settings, options: argparse.Namespace
) -> None:
    folder = root / FOLDER
    folder.mkdir(exist_ok=True)
    boxes = [(image, box) for image in _joined(source).values() for box in image.boxes]
    counts = Counter(box.name for _, box in boxes)
    images = Counter(label for label, _ in {(box.name, image.path) for image, box in boxes})
    label_table.write(folder / LABELS, made.verdicts, counts, images, decided.decisions)
    findings.write(folder / FINDINGS, made.findings)
    near = [{"image": _name(root, path), "group": group, "distance": round(distance, 4)}
            for path, (group, distance) in made.near.items()]  # fmt: skip
    sheets.write(folder / NEAR, ("image", "group", "distance"), near)
    facts = json.dumps(_facts(source, made, settings, options), indent=1, ensure_ascii=False)
    (folder / SUMMARY).write_text(facts + "\n", encoding="utf-8")
    csv_boxes.write(root / csv_boxes.CLEANED, root, made.images)


def _facts(source: Source, made: Cleaned, settings: Settings, options: argparse.Namespace) -> dict[str, Any]:
    """The content of summary.json."""
    kinds: dict[str, dict[str, int]] = {}
    for (action, kind), count in _counted(made.findings):
        kinds.setdefault(action, {})[kind] = count
    boxes: list[RawBox] = [box for image in made.images for box in image.boxes]
    return {
        "from": source.table or source.layout,
        "before": dict(zip(("images", "boxes"), made.before, strict=True)) | {"labels": len(made.verdicts)},
        "after": {
            "images": len(made.images), "boxes": len(boxes), "classes": len({box.name for box in boxes}),
        },
        "findings": kinds,
        "thresholds": {
            "merge_at": settings.merge_at, "ask_at": settings.ask_at, "min_image": options.min_image,
            "min_box": options.min_box, "max_box": options.max_box,
        },
        "versions": {name: version(name) for name in _VERSIONS},
    }  # fmt: skip


def _tell(
    console: Console, options: argparse.Namespace, source: Source, made: Cleaned, decided: Decided, removed: list[str]
) -> None:
    boxes = sum(len(image.boxes) for image in made.images)
    classes = {box.name for image in made.images for box in image.boxes}
    say = _plain(console)
    for warning in source.warnings:
        say(warning)
    say(f"{source.table or source.layout} → {csv_boxes.CLEANED}")
    say(f"  images   {made.before[0]:>8,} → {len(made.images):,}")
    say(f"  boxes    {made.before[1]:>8,} → {boxes:,}")
    say(f"  labels   {len(made.verdicts):>8,} → {len(classes):,} classes")
    say("")
    table = Table("", "images and boxes", "", box=None, pad_edge=False, show_header=False)
    for (action, kind), count in _counted(made.findings):
        table.add_row(action if action != ASK else "for you to decide", kind, f"{count:,}")
    for reason, count in Counter(each.reason for each in made.verdicts if each.cls != each.label).most_common(8):
        table.add_row("labels renamed", reason, f"{count:,}")
    asked = [each for each in made.verdicts if each.suggestion and each.label not in decided.decisions]
    for what, count in (("the same class as another?", sum(each.suggestion != DROP for each in asked)),
                        ("a name at all?", sum(each.suggestion == DROP for each in asked))):  # fmt: skip
        if count:
            table.add_row("for you to decide", f"labels: {what}", f"{count:,}")
    if made.near:
        table.add_row("kept", "near duplicates, never in different splits", f"{len(made.near):,}")
    console.print(table)
    if decided.gone:
        more = ", …" if len(decided.gone) > _TOLD else ""
        say(f"Decided, but no longer there: {len(decided.gone)}, {', '.join(decided.gone[:_TOLD])}{more}")
    if removed:
        say(f"{' and '.join(removed)} of an earlier run are removed: split again.")
    say(f"\nEverything is listed in {options.dir / FOLDER}: {LABELS}, {FINDINGS}, {NEAR}")
    if asked:
        say(f"To decide: write a class, or - to leave its boxes out, into the column decision of {LABELS}; then")
        say(f"      python -m platform.dataset clean {options.dir} --decisions {options.dir / FOLDER / LABELS}")
    say(f"Next: python -m platform.dataset split {options.dir}")


def _plain(console: Console) -> Any:
    return lambda line: console.print(line, markup=False)


def _counted(told: Sequence[Finding]) -> list[tuple[tuple[str, str], int]]:
    """How often what was done about what, in the actions' order, the most frequent first."""
    order = (REPAIRED, SET_ASIDE, findings.KEPT, ASK)
    counts = Counter((each.action, each.kind) for each in told)
    return sorted(counts.items(), key=lambda item: (order.index(item[0][0]), -item[1], item[0][1]))


def _kinds(told: Sequence[Finding]) -> Counter[str]:
    return Counter(each.kind for each in told)


def _name(root: Path, path: Path) -> str:
    return path.relative_to(root).as_posix()
