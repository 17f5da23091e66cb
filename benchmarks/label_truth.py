"""Names of brands that people listed as the same: true pairs, and a division into two halves.

An item is a wikidata number, else an id, and lists the names of its lines. Two names belong together if some item lists
both. Which item somebody meant who typed "hofer" no text tells; so an item is held to list whatever differs from a name
of its own in case, width, accents, blanks and punctuation only (`in_letters`). Other readings of "the same text" can be
given, to see what hangs on it.
"""

import csv
import hashlib
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

Pair = tuple[str, str]

DEVELOPED, HELD_OUT = "developed on", "held out"


@dataclass(frozen=True)
class Row:
    """Line of the file: an item's first name and another."""

    item: str
    canonical: str
    alias: str
    kind: str


class Truth:
    """Pairs of names that belong together.

    Attributes:
        names: All, sorted.
        items: That list each name.
        pairs: Of names that some item lists both, each sorted.
    """

    def __init__(self, rows: Iterable[Row], same: Callable[[str], str]) -> None:
        lines = [(row.item, label) for row in rows for label in (row.canonical, row.alias)]
        listing: dict[str, set[str]] = defaultdict(set)
        for item, label in lines:
            listing[same(label)].add(item)
        self.names = sorted({label for _, label in lines})
        self.items = {label: frozenset(listing[same(label)]) for label in self.names}
        listed: dict[str, list[str]] = defaultdict(list)
        for label, items in self.items.items():
            for item in items:
                listed[item].append(label)
        self.pairs = {pair for names in listed.values() for pair in combinations(names, 2)}

    def joins(self, one: str, other: str) -> bool:
        """Return whether some item lists both names."""
        return bool(self.items[one] & self.items[other])


def in_letters(label: str) -> str:
    """Return a name without case, width, accents, blanks and punctuation."""
    text = unicodedata.normalize("NFD", unicodedata.normalize("NFKC", label).casefold())
    text = unicodedata.normalize("NFC", "".join(char for char in text if not "\u0300" <= char <= "\u036f"))
    return "".join(char for char in text if unicodedata.category(char)[0] in "LMN") or label


def in_lower_case(label: str) -> str:
    """Return a name in lower case."""
    return unicodedata.normalize("NFC", label).casefold()


def read(file: Path) -> list[Row]:
    """Read the lines of the file."""
    with file.open(encoding="utf-8", newline="") as stream:
        lines = [*csv.DictReader(stream, delimiter="\t", quoting=csv.QUOTE_NONE)]
    return [Row(line["wikidata"] or line["id"], line["canonical"], line["alias"], line["alias_kind"]) for line in lines]


def halves(rows: Sequence[Row]) -> dict[str, list[Row]]:
    """Return the rows for development and those held out; items that share a name are in the same half."""
    first = {row.item: row.item for row in rows}

    def root(item: str) -> str:
        while first[item] != item:
            item = first[item]
        return item

    lister: dict[str, str] = {}
    for row in rows:
        for label in (row.canonical, row.alias):
            one, other = sorted((root(row.item), root(lister.setdefault(in_letters(label), row.item))))
            first[other] = one
    sides: dict[str, list[Row]] = {DEVELOPED: [], HELD_OUT: []}
    for row in rows:
        drawn = int(hashlib.sha256(root(row.item).encode()).hexdigest(), 16) % 2
        sides[HELD_OUT if drawn else DEVELOPED].append(row)
    return sides
