"""Command report: a data set as one HTML page."""

import argparse
from pathlib import Path

from rich.console import Console

from platform.curation import steps
from platform.curation.pages import dataset_data, dataset_page
from platform.curation.steps import PAGE
from platform.data.files import absolute
from platform.errors import Fault, InputError, file_faults, raise_if_any
from platform.reporting import html_page


def run(options: argparse.Namespace, console: Console) -> int:
    """Write the page; the data set is not changed."""
    raise_if_any(steps.faults(absolute(options.dir), "fetch", "clean"))
    out = options.out or options.dir / PAGE
    if options.out:
        raise_if_any(file_faults("--out", str(out)))
    decisions = write(options.dir, out)
    console.print(str(out), markup=False)
    if decisions:
        console.print(f"{decisions:,} decisions need a person. The page shows them first.")
    return 0


def write(root: Path, out: Path) -> int:
    """Write the page of a data set; return how many decisions on it need a person.

    Raises:
        InputError: See `dataset_data.read`; or the page cannot be written there.
    """
    text, decisions = dataset_page.html(dataset_data.read(root))
    try:
        html_page.put(text, out)
    except OSError as error:
        rule = "the page needs a place that can be written to"
        raise InputError(Fault(rule, f"{out}: {error.strerror}", "Choose another with --out.")) from error
    return decisions
