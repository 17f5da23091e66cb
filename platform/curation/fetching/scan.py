"""A list read once through: its addresses, each once, and what could not be read of it."""

from dataclasses import dataclass, field

from platform.curation.fetching.listing import Listing, wrong_encoding
from platform.errors import Fault, InputError


@dataclass
class Scan:
    """What a list holds.

    Attributes:
        rows: How many.
        urls: In the order of the list, each once.
        splits: By address, the first that the list gives it.
        faults: How many parts of rows could not be read.
        first_fault: The first of them, with its line.
    """

    rows: int = 0
    urls: dict[str, None] = field(default_factory=dict)
    splits: dict[str, str] = field(default_factory=dict)
    faults: int = 0
    first_fault: str = ""


def scan(listing: Listing) -> Scan:
    """Reads a list.

    Raises:
        InputError: It has no address, or is in another encoding.
    """
    found = Scan()
    try:
        for row in listing.rows():
            found.rows += 1
            found.faults += len(row.faults)
            if row.faults and not found.first_fault:
                found.first_fault = f"line {row.line}: {row.faults[0]}"
            if row.url is not None:
                found.urls.setdefault(row.url)
                if row.split:
                    found.splits.setdefault(row.url, row.split)
    except UnicodeError as error:
        raise wrong_encoding(listing.file, listing.encoding, error) from error
    if not found.urls:
        remedy = f"The first that could not be read is {found.first_fault}." if found.faults else "Fill it."
        raise InputError(Fault("a list must have a row with an address", f"{found.rows:,} in {listing.file}", remedy))
    return found
