"""Images to be split: each once, with its classes and its group of near duplicates; rare classes."""

from collections import defaultdict
from collections.abc import Collection, Hashable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from platform.curation import steps
from platform.curation.cleaning.duplicates import groups, joined
from platform.curation.cleaning.looks import Look, read_looks
from platform.data.detection import csv_boxes
from platform.data.detection.annotations import Kind, RawDataset, RawImage
from platform.data.detection.boxes import repair_boxes
from platform.data.files import absolute, is_file, place
from platform.data.findings import Repair
from platform.errors import Fault, InputError

NEAR = Path("cleaning") / "near_duplicates.csv"


@dataclass(frozen=True)
class Item:
    """Image to be split."""

    image: RawImage  # with its boxes as written
    classes: frozenset[str]  # of its usable boxes
    group: str  # name shared by near duplicates, which count as one picture


def items(root: Path, table: str | None, raw: RawDataset, repairs: list[Repair]) -> list[Item]:
    """Return the images that decode, in the order of their paths; the others are added to `repairs`.

    Args:
        root: The data set's folder, an absolute path.
        table: Name of the CSV table that was read, if any.
        raw: Annotations.
        repairs: List that faults are added to.
    """
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


def _groups(root: Path, table: str | None, looks: Mapping[Path, Look]) -> dict[Path, str]:
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


OTHER = "other"


def pictures(items: Iterable[Item]) -> dict[str, int]:
    """Return the number of different pictures of each class, in the order of names."""
    groups: defaultdict[str, set[str]] = defaultdict(set)
    for item in items:
        for name in item.classes:
            groups[name].add(item.group)
    return {name: len(groups[name]) for name in sorted(groups)}


def merge(items: Iterable[Item], rare: Collection[str]) -> list[Item]:
    """Rename the rare classes to OTHER."""
    merged = []
    for item in items:
        boxes = tuple(replace(box, name=OTHER) if box.name in rare else box for box in item.image.boxes)
        classes = frozenset(OTHER if name in rare else name for name in item.classes)
        merged.append(replace(item, image=replace(item.image, boxes=boxes), classes=classes))
    return merged


def drop(items: Iterable[Item], rare: Collection[str]) -> tuple[list[Item], list[Item]]:
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
