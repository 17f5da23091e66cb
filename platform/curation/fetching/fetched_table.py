"""Results of fetch: fetched.csv, with a line for every box whose image was fetched, and the console messages."""

import shlex
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.text import Text

from platform.curation import steps
from platform.curation.fetching import manifest
from platform.curation.fetching.download import BOUNDED, MAY_PASS, Outcome
from platform.curation.fetching.list_rows import WrittenLabel
from platform.curation.fetching.listing import ListContent, Listing
from platform.curation.fetching.manifest import KnownLine, Manifest
from platform.data import sheets
from platform.data.detection import csv_boxes

BEFORE = "fetched.before.csv"
COLUMNS = (*csv_boxes.COLUMNS, "row", "url")
_CORNERS = csv_boxes.COLUMNS[2:6]


@dataclass
class FetchedCounts:
    """Content of fetched.csv in numbers."""

    lines: int = 0
    boxes: int = 0  # lines with a box
    relative: int = 0  # boxes that were given in shares of the image
    inverted: int = 0  # boxes whose second corner lies left of the first, or above it
    moved: int = 0  # addresses that give an image another split than the first, which counts
    before: bool = False  # whether another fetched.csv existed; people may have corrected it, so it is kept as BEFORE
    removed: tuple[str, ...] = ()  # tables of later steps that were made from that one and were removed


def write(root: Path, listing: Listing, known: Mapping[str, KnownLine], splits: Mapping[str, str]) -> FetchedCounts:
    """Write the table of a list into the data set's folder, if it differs from the existing one.

    `known` are the outcomes of the list's addresses, `splits` those that it gives to addresses.
    """
    counts = FetchedCounts()
    of_image: dict[str, str] = {}
    for url, split in splits.items():
        if image := known[url].image:
            counts.moved += of_image.setdefault(image, split) != split
    fresh, file = root / f".{csv_boxes.FETCHED}", root / csv_boxes.FETCHED
    there = file.is_file()
    sheets.write(fresh, COLUMNS, _lines(listing, known, of_image, counts))
    removed = steps.replace_table(fresh, file, root / BEFORE)
    counts.before, counts.removed = there and removed is not None, removed or ()
    return counts


def _lines(
    listing: Listing, known: Mapping[str, KnownLine], splits: Mapping[str, str], counts: FetchedCounts
) -> Iterator[dict[str, Any]]:
    for row in listing.rows():
        image = known.get(row.url) if row.url is not None else None
        if image is None or image.image is None:
            continue
        same = {"image": image.image, "split": splits.get(image.image), "row": row.line, "url": row.url}
        for labelled in row.boxes or (WrittenLabel(""),):
            counts.lines += 1
            yield same | {"label": labelled.label} | _corners(labelled, image, counts)


def _corners(labelled: WrittenLabel, image: KnownLine, counts: FetchedCounts) -> dict[str, float]:
    if labelled.box is None:
        return {}
    width, height = (image.width, image.height) if labelled.relative else (1, 1)
    x1, y1, x2, y2 = labelled.box
    counts.boxes += 1
    counts.relative += labelled.relative
    counts.inverted += x2 < x1 or y2 < y1
    return dict(zip(_CORNERS, (x1 * width, y1 * height, x2 * width, y2 * height), strict=True))


_INVERTED = 0.05  # share of boxes from which their convention is doubted
_LONGEST_URL = 100  # characters of an address in a message
_NUMBERS = {"xyxy": "x1 y1 x2 y2", "xywh": "x y width height", "cxcywh": "centre x, centre y, width, height"}


def print_list(console: Console, listing: Listing, scan: ListContent) -> None:
    """Print the size of the list and the meaning of its columns."""
    columns = listing.columns
    boxes = ", ".join(columns.corners) or columns.boxes
    found = {"addresses": columns.url, "labels": columns.label, "boxes": boxes, "splits": columns.split}
    used = ", ".join(f"{what} from {name}" for what, name in found.items() if name)
    _line(console, f"{listing.file}: {scan.rows:,} rows, {len(scan.urls):,} addresses; {used}")
    if boxes:
        why = "the default; --box changes it" if columns.assumed else "as given"
        _line(console, f"Boxes are {_NUMBERS[columns.convention]} ({why})")
    for what, option in (("labels", "--label-column"), ("boxes", "--box-column")):
        if not found[what] and not (boxes and listing.delimiter is None):  # objects may contain their labels
            _line(console, f"There is no column of {what}. Name it with {option}.", "yellow")
    for note in listing.notes:
        _line(console, note, "yellow")


def print_known(console: Console, known: int, altered: int, damaged: int, to_ask: int) -> None:
    """Print what is known from an earlier run and what is left to do."""
    for count, text, style in (
        (altered, "images are missing or were altered, and are fetched again.", "yellow"),
        (damaged, f"lines of {manifest.NAME} cannot be read and are fetched again.", "yellow"),
        (known, f"addresses are known from an earlier run, {to_ask:,} are asked.", ""),
    ):
        if count:
            _line(console, f"{count:,} {text}", style)


def print_result(console: Console, root: Path, scan: ListContent, ended: Manifest, written: FetchedCounts) -> None:
    """Print the number of addresses by outcome with examples, warnings, the written files and the next command."""
    counts = Counter(ended.known[url].outcome for url in scan.urls)
    firsts: dict[Outcome, str] = {}
    for url in scan.urls:
        firsts.setdefault(ended.known[url].outcome, url)
    for outcome in Outcome:
        if counts[outcome]:
            _print_outcome(console, outcome, counts[outcome], ended.detail(firsts[outcome]), firsts[outcome])
    if scan.faults:
        _line(console, f"{scan.faults:>9,}  {Outcome.UNREADABLE_ROW:20s}{scan.first_fault}")
    images = {known.image for url in scan.urls if (known := ended.known[url]).image}
    if len(images) < counts[Outcome.FETCHED]:
        _line(console, f"{counts[Outcome.FETCHED]:,} addresses led to {len(images):,} different images.")
    _print_boxes(console, written)
    if not images:
        _line(console, "Not a single image was fetched.", "red")
    _line(console, "\nFiles", "bold")
    for what, name in (
        (f"{len(images):,} images", "images"),
        (f"{written.lines:,} lines", csv_boxes.FETCHED),
        ("every address", manifest.NAME),
    ):
        _line(console, f"  {what:24}{root / name}")
    if images:
        _line(console, "\nNext", "bold")
        _line(console, f"  python -m platform.dataset clean {shlex.quote(str(root))}")


def _print_outcome(console: Console, outcome: Outcome, count: int, detail: str, first: str) -> None:
    example = "" if outcome is Outcome.FETCHED else f"{_short(first)}{f': {detail}' if detail else ''}"
    help_ = ["--again retries"] if outcome in MAY_PASS else []
    help_ += [f"{BOUNDED[outcome]} with --again allows it"] if outcome in BOUNDED else []
    _line(console, f"{count:>9,}  {outcome:20s}{example}{''.join(f' ({text})' for text in help_)}")


def _print_boxes(console: Console, written: FetchedCounts) -> None:
    if written.relative:
        _line(console, f"{written.relative:,} of {written.boxes:,} boxes were relative and are in pixels now.")
    if written.inverted > _INVERTED * written.boxes:
        boxes = f"In {written.inverted:,} of {written.boxes:,} boxes the second corner"
        remedy = "If the numbers are x y width height, run it again with --box xywh."
        _line(console, f"{boxes} lies left of the first or above it. {remedy}", "yellow")
    if written.moved:
        _line(console, f"{written.moved:,} addresses give an image a second split; the first one counts.", "yellow")
    if written.before:
        _line(console, f"{csv_boxes.FETCHED} has changed; the one before, with all corrections, is {BEFORE}.", "yellow")
    if written.removed:
        _line(console, f"Removed, because they were made from the old one: {', '.join(written.removed)}.", "yellow")


def print_unlisted(console: Console, addresses: int) -> None:
    """Print how many addresses of an earlier list are missing from this one."""
    if addresses:
        text = f"{addresses:,} addresses of an earlier list are not in this one, and neither are their boxes"
        _line(console, f"{text}; their lines are in {manifest.UNLISTED}.", "yellow")


def _line(console: Console, text: str, style: str = "") -> None:
    """Print a line of possibly foreign text, without control characters."""
    plain = "".join(letter if letter.isprintable() or letter == "\n" else "\ufffd" for letter in text)
    console.print(Text(plain.rstrip(), style=style), soft_wrap=True)


def _short(text: str) -> str:
    return text if len(text) <= _LONGEST_URL else f"{text[:_LONGEST_URL]}…"
