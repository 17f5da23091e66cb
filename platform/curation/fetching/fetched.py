"""fetched.csv: a line for every box of the list whose image is there, made of the list and the manifest."""

import filecmp
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from platform.curation import steps
from platform.curation.fetching.list_rows import Labelled
from platform.curation.fetching.listing import Listing
from platform.curation.fetching.manifest import Known
from platform.data import sheets
from platform.data.detection import csv_boxes
from platform.data.detection.annotations import Box

BEFORE = "fetched.before.csv"
COLUMNS = (*csv_boxes.COLUMNS, "row", "url")
_CORNERS = csv_boxes.COLUMNS[2:6]


@dataclass
class Fetched:
    """What was written.

    Attributes:
        lines: Of the table.
        boxes: How many of them have a box.
        relative: Boxes that were given in shares of the image.
        inverted: Boxes whose second corner lies left of the first, or above it.
        moved: Images that the list has in several splits; the first counts.
        before: Whether another fetched.csv was there: people may have corrected it, so it is kept as BEFORE.
        removed: What later steps made of that one, and is gone.
    """

    lines: int = 0
    boxes: int = 0
    relative: int = 0
    inverted: int = 0
    moved: int = 0
    before: bool = False
    removed: tuple[str, ...] = ()


def write(root: Path, listing: Listing, known: Mapping[str, Known], splits: Mapping[str, str]) -> Fetched:
    """Writes the table, if it is another than the one that is there.

    Args:
        root: The data set's folder.
        listing: The list.
        known: What became of its addresses.
        splits: By address, where the list gives one.

    Raises:
        OSError: It cannot be written.
    """
    told = Fetched()
    by_image = _by_image(known, splits, told)
    fresh, file = root / f".{csv_boxes.FETCHED}", root / csv_boxes.FETCHED
    try:
        sheets.write(fresh, COLUMNS, _lines(listing, known, by_image, told))
        if not (file.is_file() and filecmp.cmp(fresh, file, shallow=False)):
            told.before = file.is_file()
            if told.before:
                file.replace(root / BEFORE)
            fresh.replace(file)
            told.removed = steps.remove_later(root, csv_boxes.FETCHED)
    finally:
        fresh.unlink(missing_ok=True)
    return told


def _by_image(known: Mapping[str, Known], splits: Mapping[str, str], told: Fetched) -> dict[str, str]:
    """The split of each image that has one: it may have several addresses, and is in one split all the same."""
    by_image: dict[str, str] = {}
    for url, split in splits.items():
        if image := known[url].image:
            told.moved += by_image.setdefault(image, split) != split
    return by_image


def _lines(
    listing: Listing, known: Mapping[str, Known], splits: Mapping[str, str], told: Fetched
) -> Iterator[dict[str, Any]]:
    for row in listing.rows():
        image = known.get(row.url) if row.url is not None else None
        if image is None or image.image is None:
            continue
        same = {"image": image.image, "split": splits.get(image.image), "row": row.line, "url": row.url}
        for labelled in row.boxes or (Labelled(""),):
            told.lines += 1
            yield same | {"label": labelled.label} | _corners(labelled, image, told)


def _corners(labelled: Labelled, image: Known, told: Fetched) -> dict[str, float]:
    if labelled.box is None:
        return {}
    box = _in_pixels(labelled.box, image) if labelled.relative else labelled.box
    told.boxes += 1
    told.relative += labelled.relative
    told.inverted += box[2] < box[0] or box[3] < box[1]
    return dict(zip(_CORNERS, box, strict=True))


def _in_pixels(box: Box, image: Known) -> Box:
    x1, y1, x2, y2 = box
    return x1 * image.width, y1 * image.height, x2 * image.width, y2 * image.height
