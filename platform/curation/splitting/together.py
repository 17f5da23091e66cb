"""What is to be split: each image once, with its classes, and with the images that it must not be separated from."""

from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from platform.curation.cleaning.duplicates import groups, joined
from platform.curation.cleaning.looks import Look, look
from platform.data import sheets
from platform.data.detection import csv_boxes
from platform.data.detection.annotations import Kind, RawDataset, RawImage
from platform.data.detection.boxes import mend
from platform.data.files import absolute, is_file, place
from platform.data.findings import Repair
from platform.errors import Fault, InputError

NEAR = Path("cleaning") / "near_duplicates.csv"


@dataclass(frozen=True)
class Item:
    """An image to be split.

    Attributes:
        image: With its boxes as written.
        classes: Of those of the boxes that can be used.
        group: Near duplicates have the same, and count as one picture.
    """

    image: RawImage
    classes: frozenset[str]
    group: str


def items(root: Path, table: str | None, raw: RawDataset, repairs: list[Repair]) -> list[Item]:
    """Returns the images that decode, in the order of their paths; others are told in `repairs`.

    Args:
        root: The data set's folder, an absolute path.
        table: The name of the CSV table that was read, if it was one.
        raw: What was read.
        repairs: Is added to.

    Raises:
        InputError: What cleaning found cannot be read.
        OSError: What the images look like cannot be kept.
    """
    images = _joined(raw.images)
    seen = look(root, sorted(images))
    repairs += [
        Repair(Kind.BROKEN_IMAGE, place(root, path, f"({each.fault})")) for path, each in seen.items() if each.fault
    ]
    seen = {path: each for path, each in seen.items() if not each.fault}
    group_of = _groups(root, table, seen)
    return [
        Item(
            image=images[path],
            classes=frozenset(box.name for box in mend(images[path].boxes, each.width, each.height, [])),
            group=group_of[path],
        )
        for path, each in seen.items()
    ]


def _joined(read: Iterable[RawImage]) -> dict[Path, RawImage]:
    """Joins an image that several annotations name; a box that several of them have, as in two splits, counts once."""
    joined: dict[Path, RawImage] = {}
    for image in read:
        before = joined.get(image.path, replace(image, boxes=()))
        known = {(box.name, box.box) for box in before.boxes}
        new = tuple(box for box in image.boxes if (box.name, box.box) not in known)
        joined[image.path] = replace(before, boxes=before.boxes + new)
    return joined


def _groups(root: Path, table: str | None, seen: Mapping[Path, Look]) -> dict[Path, str]:
    """Returns the group of each image, named after the first in it: near duplicates, and those of equal pixels."""
    file = root / NEAR
    near = _told(root, file) if table == csv_boxes.CLEANED and is_file(file) else groups(root, seen)
    first: dict[Hashable, Path] = {}
    pairs = [(first.setdefault(each.pixels, path), path) for path, each in seen.items()]
    pairs += [(first.setdefault(near[path], path), path) for path in seen if path in near]
    names: dict[int, str] = {}
    numbers = joined(list(seen), pairs)
    return {path: names.setdefault(number, path.relative_to(root).as_posix()) for path, number in numbers.items()}


def _told(root: Path, file: Path) -> dict[Path, int]:
    """Returns the groups that cleaning found."""
    try:
        _, rows = sheets.read(file)
        return {absolute(root / row["image"]): int(row["group"]) for row in rows}
    except (OSError, ValueError, KeyError) as error:
        rule, remedy = f"{NEAR} must be as it was written", "Run python -m platform.dataset clean again."
        raise InputError(Fault(rule, f"{file} ({error})", remedy)) from error
