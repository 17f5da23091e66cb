"""Options of `fetch`, all checked at once."""

import argparse
import math
import resource
from dataclasses import dataclass
from pathlib import Path

from platform.curation.fetching.addresses import Network, networks
from platform.curation.fetching.download import Limits
from platform.curation.fetching.list_rows import Chosen, key
from platform.curation.fetching.listing import Listing, open_list
from platform.data import images
from platform.errors import Fault, InputError, folder_faults, raise_if_any

_MILLION = 1_000_000
_SPARE_FILES = 100  # open files besides connections


@dataclass(frozen=True)
class Request:
    """Checked options of `fetch`."""

    listing: Listing
    out: Path  # the data set's folder
    limits: Limits  # of one address
    max_pixels: float  # of an image
    concurrent: int  # connections at a time
    per_host: int  # connections to one host at a time
    allowed: tuple[Network, ...]  # networks that may be reached although they are not public
    user_agent: str  # value of the HTTP header
    again: bool  # whether to retry addresses whose failure may have passed


def read_options(options: argparse.Namespace) -> Request:
    """Check the options and open the list.

    Raises:
        InputError: With all faults of the options and of the list's first lines.
    """
    allowed, faults = networks(options.allow)
    faults += [*_number_faults(options), *folder_faults("--out", options.out), *_agent_faults(options.user_agent)]
    named = [options.url_column, options.label_column, options.box_column]
    url, label, box = (key(name or "") or None for name in named)
    try:
        listing = open_list(options.list, Chosen(url, label, box, options.box), options.encoding)
    except InputError as error:
        raise InputError(*faults, *error.faults) from error
    raise_if_any(faults)
    return Request(
        listing=listing,
        out=options.out,
        limits=Limits(options.timeout, int(options.max_mb * _MILLION), options.tries),
        max_pixels=options.max_mpx * _MILLION,
        concurrent=options.concurrent,
        per_host=min(options.per_host, options.concurrent),
        allowed=tuple(allowed),
        user_agent=options.user_agent,
        again=options.again,
    )


def _number_faults(options: argparse.Namespace) -> list[Fault]:
    open_files = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    connections = open_files - _SPARE_FILES if open_files != resource.RLIM_INFINITY else math.inf
    bounds = (
        ("--concurrent", options.concurrent, 1, connections, f"ulimit -n is {open_files:,}"),
        ("--per-host", options.per_host, 1, math.inf, ""),
        ("--timeout", options.timeout, 0.001, math.inf, ""),
        ("--max-mb", options.max_mb, 0.001, math.inf, ""),
        ("--max-mpx", options.max_mpx, 0.001, images.MAX_PIXELS / _MILLION, "larger images are not read"),
        ("--tries", options.tries, 1, math.inf, ""),
    )
    faults = []
    for option, value, least, most, why in bounds:
        if not (least <= value <= most and math.isfinite(value)):
            rule = f"{option} must be at least {least:g}" + (f" and at most {most:g}" if why else "")
            faults.append(Fault(rule, f"{value:g}", f"Choose another: {why}." if why else "Choose another."))
    return faults


def _agent_faults(text: str) -> list[Fault]:
    if text.isascii() and text.isprintable():
        return []
    return [Fault("--user-agent must be a line of ASCII", repr(text), "Write for example a name and a mail address.")]
