"""Command split: stratified splits for training, validation and test, with near duplicates in the same split."""

import argparse
import json
import math
from collections import Counter, defaultdict
from collections.abc import Collection, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rich.console import Console

from platform.curation import steps
from platform.curation.cleaning.duplicates import groups, joined
from platform.curation.cleaning.looks import ImageFeatures, read_looks
from platform.data.detection import csv_boxes, layouts
from platform.data.detection.annotations import Kind, RawDataset, RawImage
from platform.data.detection.boxes import repair_boxes
from platform.data.detection.layouts import Source
from platform.data.files import absolute, folder_faults, is_file, place
from platform.data.findings import Findings, Repair, counted, lacking, summarise
from platform.data.splits import SPLITS, stratified_split
from platform.errors import EXIT_INCOMPLETE, Fault, InputError, raise_if_any
from platform.storage import atomic

FACTS = steps.SPLIT_FACTS

NEAR = Path("cleaning") / "near_duplicates.csv"
OTHER, DROP = "other", "drop"

_ANY = ""  # extra class of all images with a box, so that no split consists of background images only
_SEEDS = 2**32


@dataclass(frozen=True)
class Item:
    """Image to be split."""

    image: RawImage  # with its boxes as written
    classes: frozenset[str]  # of its usable boxes
    group: str  # name shared by near duplicates, which count as one picture


@dataclass(frozen=True)
class SplitResult:
    """Finished split."""

    root: Path  # the data set's folder, absolute
    source: Source
    before: Sequence[Item]  # as they were read
    few: Mapping[str, int]  # number of pictures of each rare class
    set_aside: Sequence[Item]  # images with rare classes only, where these are dropped
    splits: Mapping[str, Sequence[Item]]  # images by name of the split
    options: argparse.Namespace


def run(options: argparse.Namespace, console: Console) -> int:
    """Write split.csv and split.json; the tables that they are made from are not changed."""
    root = absolute(options.dir)
    folder = folder_faults(root, "DIR must be a folder with images and annotations")
    raise_if_any([*_option_faults(options), *folder, *steps.faults(root, "fetch", "clean")])
    raise_if_any(steps.writing_faults(root))
    source = layouts.read(root, before=csv_boxes.SPLIT)
    repairs = list(source.raw.repairs)
    try:
        items = _items(root, source.table, source.raw, repairs)
        raise_if_any(_class_faults(_pictures(items), options.min_per_class, repairs))
        made = _make(root, source, items, options)
        raise_if_any(_split_faults(made))
        facts = _facts(made)
        _write(made, facts)
    except OSError as error:
        console.print(f"Not split: {error.strerror or error}: {error.filename or root}.", markup=False)
        return EXIT_INCOMPLETE
    found = Findings(tuple(repairs), warnings=tuple(_notes(made)))
    for title, line in (_lines(facts) | found.lines()).items():
        console.print(f"{title}: {line}", markup=False)
    console.print(f"Next: python -m platform.dataset report {options.dir}", markup=False)
    console.print(f"      python -m platform.tune detector --data {options.dir}", markup=False)
    return 0


def _option_faults(options: argparse.Namespace) -> list[Fault]:
    shares = all(math.isfinite(share) and share > 0 for share in options.shares)
    rules = (
        (
            shares,
            "--shares needs three positive numbers, of training, validation and test",
            " ".join(map(str, options.shares)),
            "Give for example --shares 0.7 0.15 0.15.",
        ),
        (0 <= options.seed < _SEEDS, f"--seed must lie in 0..{_SEEDS - 1}", options.seed, "Use --seed 0."),
        (options.min_per_class >= 1, "--min-per-class must be 1 or more", options.min_per_class, "Leave it out."),
    )
    return [Fault(rule, str(value), remedy) for holds, rule, value, remedy in rules if not holds]


def _class_faults(pictures: Mapping[str, int], least: int, repairs: Sequence[Repair]) -> list[Fault]:
    if not pictures:
        remedy = summarise(repairs) or "Add annotated images."
        return [Fault("at least one image must have a usable box", "none", remedy)]
    name, most = max(pictures.items(), key=lambda item: item[1])
    if most < least:
        found, remedy = f"{most} of {name}, the most frequent", f"Give --min-per-class {most} or less."
        return [Fault(f"a class must be in {least} pictures, as --min-per-class says", found, remedy)]
    return []


def _make(root: Path, source: Source, items: Sequence[Item], options: argparse.Namespace) -> SplitResult:
    few = {name: n for name, n in _pictures(items).items() if n < options.min_per_class and name != OTHER}
    kept, set_aside = _drop(items, few) if options.rare == DROP else (_merge(items, few), [])
    labels = [{*item.classes, _ANY} if item.classes else set() for item in kept]
    train, val, test = options.shares
    split_of = stratified_split(labels, (train, val, test), options.seed, [item.group for item in kept])
    splits = {split: [item for item, own in zip(kept, split_of, strict=True) if own == split] for split in SPLITS}
    return SplitResult(root, source, items, few, set_aside, splits, options)


def _split_faults(made: SplitResult) -> list[Fault]:
    if all(any(item.classes for item in items) for items in made.splits.values()):
        return []
    pictures = {item.group for items in made.splits.values() for item in items if item.classes}
    rule = "there must be a picture with a usable box for each of training, validation and test"
    found = f"{len(pictures)} that are no near duplicates"
    return [Fault(rule, found, "Add annotated images, or drop fewer classes.")]


def _write(made: SplitResult, facts: Mapping[str, Any]) -> None:
    images = [replace(item.image, split=split) for split, items in made.splits.items() for item in items]
    steps.remove_later(made.root, csv_boxes.SPLIT)
    with atomic.new_file(made.root / FACTS) as partial:
        partial.write_text(json.dumps(facts, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        csv_boxes.write(made.root / csv_boxes.SPLIT, made.root, sorted(images, key=lambda image: image.path))


def _facts(made: SplitResult) -> dict[str, Any]:
    """Return the content of split.json."""
    options = made.options
    boxes = Counter(box.name for item in made.before for box in item.image.boxes if box.name in made.few)
    sizes = Counter(item.group for items in made.splits.values() for item in items)
    return {
        "from": made.source.table or made.source.layout,
        "seed": options.seed,
        "shares": dict(zip(SPLITS, options.shares, strict=True)),
        "rare": {
            "min_per_class": options.min_per_class,
            "became": "dropped" if options.rare == DROP else OTHER,
            "pictures": dict(made.few),
            "boxes": dict(boxes),
            "images_set_aside": [item.image.path.relative_to(made.root).as_posix() for item in made.set_aside],
        },
        "near_duplicates": {
            "groups": sum(size > 1 for size in sizes.values()),
            "images": sum(size for size in sizes.values() if size > 1),
        },
        "splits": {split: _counts(items) for split, items in made.splits.items()},
    }


def _counts(items: Sequence[Item]) -> dict[str, Any]:
    images = Counter(name for item in items for name in item.classes)
    boxes = Counter(box.name for item in items for box in item.image.boxes)
    return {
        "images": len(items),
        "background_images": sum(not item.image.boxes for item in items),
        "boxes": boxes.total(),
        "images_per_class": dict(sorted(images.items())),
        "boxes_per_class": dict(sorted(boxes.items())),
    }


def _lines(facts: Mapping[str, Any]) -> dict[str, str]:
    """Return the content of split.json for people, by title."""
    lines = {f"{facts['from']} → {csv_boxes.SPLIT}": f"seed {facts['seed']}"}
    for split, counts in facts["splits"].items():
        classes, background = len(counts["images_per_class"]), counts["background_images"]
        lines[split] = f"images {counts['images']:,}, boxes {counts['boxes']:,}, classes {classes:,}"
        lines[split] += f"; of background {background:,}" if background else ""
    few, near = facts["rare"], facts["near_duplicates"]
    if near["groups"]:
        lines["near duplicates"] = f"images {near['images']:,}, groups {near['groups']:,}, each group in one split"
    if few["pictures"]:
        sizes = f"classes {len(few['pictures']):,}, boxes {sum(few['boxes'].values()):,}"
        became = f"{few['became']} now: {counted(few['pictures'])}"
        lines[f"in fewer than {few['min_per_class']} pictures"] = f"{sizes}, {became}"
    if few["images_set_aside"]:
        lines["set aside"] = f"images {len(few['images_set_aside']):,}, which show nothing else"
    return lines


def _notes(made: SplitResult) -> list[str]:
    """Return a line for each thing that a person should know."""
    notes = list(made.source.warnings)
    given = Counter(image.split for image in made.source.raw.images if image.split)
    if given:
        notes.append(f"the given splits (images: {counted(given)}) are replaced")
    before = _pictures(made.before).get(OTHER, 0)
    after = _pictures(item for items in made.splits.values() for item in items)
    if before and made.few and made.options.rare != DROP:
        notes.append(f"the existing class {OTHER} (pictures: {before:,}) now also contains the rare classes")
    if 0 < after.get(OTHER, 0) < made.options.min_per_class:
        notes.append(f"the class {OTHER} itself is rare (pictures: {after[OTHER]})")
    if made.source.raw.beyond:
        notes.append(f"ignored, and not in {csv_boxes.SPLIT}: {counted(made.source.raw.beyond)}")
    for split, items in made.splits.items():
        shown = {name for item in items for name in item.classes}
        notes += lacking([name for name in after if name not in shown], after, f"image in {split}")
    return notes


def _items(root: Path, table: str | None, raw: RawDataset, repairs: list[Repair]) -> list[Item]:
    """Return the images that decode, in the order of their paths; the others are added to `repairs`."""
    images = _joined(raw.images)
    looks = read_looks(root, sorted(images))
    repairs += [
        Repair(Kind.BROKEN_IMAGE, place(root, path, f"({each.fault})")) for path, each in looks.items() if each.fault
    ]
    looks = {path: each for path, each in looks.items() if not each.fault}
    group_of = _groups(root, table, looks)
    found = []
    for path, look in looks.items():
        usable = repair_boxes(images[path].boxes, look.width, look.height, [])
        found.append(Item(images[path], frozenset(box.name for box in usable), group_of[path]))
    return found


def _joined(read: Iterable[RawImage]) -> dict[Path, RawImage]:
    """Join the annotations of each image; a box that several of them have, as in two splits, counts once."""
    joined: dict[Path, RawImage] = {}
    for image in read:
        before = joined.get(image.path, replace(image, boxes=()))
        known = {(box.name, box.box) for box in before.boxes}
        new = tuple(box for box in image.boxes if (box.name, box.box) not in known)
        joined[image.path] = replace(before, boxes=before.boxes + new)
    return joined


def _groups(root: Path, table: str | None, looks: Mapping[Path, ImageFeatures]) -> dict[Path, str]:
    """Return the group of each image, named after its first image: near duplicates and images of equal pixels."""
    file = root / NEAR
    near = _groups_of_cleaning(root, file) if table == csv_boxes.CLEANED and is_file(file) else groups(root, looks)
    first: dict[Hashable, Path] = {}
    pairs = [(first.setdefault(each.pixels, path), path) for path, each in looks.items()]
    pairs += [(first.setdefault(near[path], path), path) for path in looks if path in near]
    names: dict[int, str] = {}
    numbers = joined(list(looks), pairs)
    return {path: names.setdefault(number, path.relative_to(root).as_posix()) for path, number in numbers.items()}


def _groups_of_cleaning(root: Path, file: Path) -> dict[Path, int]:
    """Return the groups that cleaning found."""
    rule, remedy = f"{NEAR} must be readable and unchanged", "Run python -m platform.dataset clean again."
    rows = steps.read_table(file, ("image", "group"), rule, remedy)
    try:
        return {absolute(root / row["image"]): int(row["group"]) for row in rows}
    except ValueError as error:
        raise InputError(Fault(rule, f"{file}: {error}", remedy)) from error


def _pictures(items: Iterable[Item]) -> dict[str, int]:
    """Return the number of different pictures of each class, in the order of names."""
    groups: defaultdict[str, set[str]] = defaultdict(set)
    for item in items:
        for name in item.classes:
            groups[name].add(item.group)
    return {name: len(groups[name]) for name in sorted(groups)}


def _merge(items: Iterable[Item], rare: Collection[str]) -> list[Item]:
    """Rename the rare classes to OTHER."""
    merged = []
    for item in items:
        boxes = tuple(replace(box, name=OTHER) if box.name in rare else box for box in item.image.boxes)
        classes = frozenset(OTHER if name in rare else name for name in item.classes)
        merged.append(replace(item, image=replace(item.image, boxes=boxes), classes=classes))
    return merged


def _drop(items: Iterable[Item], rare: Collection[str]) -> tuple[list[Item], list[Item]]:
    """Drop the boxes of rare classes.

    Returns:
        Kept images, and images without any other box, which must not be used as background.
    """
    kept, set_aside = [], []
    for item in items:
        left = tuple(box for box in item.image.boxes if box.name not in rare)
        if left or not item.image.boxes:
            kept.append(replace(item, image=replace(item.image, boxes=left), classes=item.classes - set(rare)))
        else:
            set_aside.append(item)
    return kept, set_aside
