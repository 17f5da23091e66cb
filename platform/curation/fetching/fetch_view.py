"""What `fetch` tells: how the list is read, what is known already, and how everything ended."""

import shlex
from collections import Counter
from pathlib import Path

from rich.console import Console
from rich.text import Text

from platform.curation.fetching import manifest
from platform.curation.fetching.fetched import BEFORE, Fetched
from platform.curation.fetching.listing import Listing
from platform.curation.fetching.manifest import Manifest
from platform.curation.fetching.outcomes import BOUNDED, MAY_PASS, Outcome
from platform.curation.fetching.scan import Scan
from platform.data.detection import csv_boxes

_INVERTED = 0.05  # share of boxes from which their numbers seem to be something else
_SHOWN = 100  # characters of an address
_NUMBERS = {"xyxy": "x1 y1 x2 y2", "xywh": "x y width height", "cxcywh": "centre x, centre y, width, height"}


def tell_list(console: Console, listing: Listing, scan: Scan) -> None:
    """How many there are, and which columns are taken for what."""
    columns = listing.columns
    boxes = ", ".join(columns.corners) or columns.boxes
    found = {"addresses": columns.url, "labels": columns.label, "boxes": boxes, "splits": columns.split}
    taken = ", ".join(f"{what} from {name}" for what, name in found.items() if name)
    _line(console, f"{listing.file}: {scan.rows:,} rows, {len(scan.urls):,} addresses; {taken}")
    if boxes:
        why = "nothing says so: --box" if columns.assumed else "as named"
        _line(console, f"Boxes are {_NUMBERS[columns.convention]} ({why})")
    for what in ("labels", "boxes"):
        if not found[what] and not (boxes and listing.delimiter is None):  # objects may have their labels within
            _line(
                console, f"No column of {what}: --{what.removesuffix('es').removesuffix('s')}-column names it", "yellow"
            )
    for note in listing.notes:
        _line(console, note, "yellow")


def tell_known(console: Console, known: int, altered: int, damaged: int, to_ask: int) -> None:
    """What is left to do."""
    if altered:
        _line(console, f"{altered:,} images are gone or were altered since: fetched again", "yellow")
    if damaged:
        _line(console, f"{damaged:,} lines of {manifest.NAME} cannot be read: asked again", "yellow")
    if known:
        _line(console, f"{known:,} are known from an earlier run, {to_ask:,} are asked")


def tell_result(console: Console, root: Path, scan: Scan, ended: Manifest, written: Fetched) -> None:
    """How many ended how, with the first of each; what to know about it, where it is, and what comes next."""
    counts = Counter(ended.known[url].outcome for url in scan.urls)
    firsts: dict[Outcome, str] = {}
    for url in scan.urls:
        firsts.setdefault(ended.known[url].outcome, url)
    for outcome in Outcome:
        if counts[outcome]:
            _tell_outcome(console, outcome, counts[outcome], ended.detail(firsts[outcome]), firsts[outcome])
    if scan.faults:
        _line(console, f"{scan.faults:>9,}  {Outcome.UNREADABLE_ROW:20s}{scan.first_fault}")
    images = {known.image for url in scan.urls if (known := ended.known[url]).image}
    if len(images) < counts[Outcome.FETCHED]:
        _line(console, f"{counts[Outcome.FETCHED]:,} addresses led to {len(images):,} different images")
    _tell_boxes(console, written)
    if not images:
        _line(console, "Not a single image was fetched.", "red")
    _line(console, "\nWhere everything lies", "bold")
    _line(console, f"  {len(images):,} images".ljust(26) + f"{root / 'images'}")
    _line(console, f"  {written.lines:,} lines".ljust(26) + f"{root / csv_boxes.FETCHED}")
    _line(console, "  every address".ljust(26) + f"{root / manifest.NAME}")
    if images:
        _line(console, "\nNext", "bold")
        _line(console, f"  python -m platform.dataset clean {shlex.quote(str(root))}")


def _tell_outcome(console: Console, outcome: Outcome, count: int, detail: str, first: str) -> None:
    example = "" if outcome is Outcome.FETCHED else f"{_short(first)}{f': {detail}' if detail else ''}"
    help_ = ["--again asks again"] if outcome in MAY_PASS else []
    help_ += [f"{BOUNDED[outcome]} with --again lets it through"] if outcome in BOUNDED else []
    _line(console, f"{count:>9,}  {outcome:20s}{example}{''.join(f' ({text})' for text in help_)}")


def _tell_boxes(console: Console, written: Fetched) -> None:
    if written.relative:
        _line(console, f"{written.relative:,} of {written.boxes:,} boxes were relative and are in pixels now")
    if written.inverted > _INVERTED * written.boxes:
        wrong = f"{written.inverted:,} of {written.boxes:,} boxes end left of where they begin, or above"
        _line(console, f"{wrong}: should the numbers be x y width height, run it again with --box xywh", "yellow")
    if written.moved:
        _line(console, f"{written.moved:,} addresses give an image another split than the first: that counts", "yellow")
    if written.before:
        _line(console, f"{csv_boxes.FETCHED} is another now; what it was, with all corrections, is {BEFORE}", "yellow")
    if written.removed:
        _line(console, f"Made from what it was, and removed: {', '.join(written.removed)}", "yellow")


def tell_left(console: Console, addresses: int) -> None:
    """What an earlier list had that this one does not."""
    if addresses:
        told = f"{addresses:,} addresses of an earlier list are not in this one, so their boxes are not either"
        _line(console, f"{told}; their lines are in {manifest.UNLISTED}", "yellow")


def _line(console: Console, text: str, style: str = "") -> None:
    """A line that may hold text from elsewhere: nothing in it steers the terminal."""
    plain = "".join(letter if letter.isprintable() or letter == "\n" else "\ufffd" for letter in text)
    console.print(Text(plain.rstrip(), style=style), soft_wrap=True)


def _short(text: str) -> str:
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"
