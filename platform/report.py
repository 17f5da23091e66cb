"""Make a page of a study to look at: what it found, how sure that is, and what it cost.

python -m platform.report STUDY                    one HTML file that needs nothing else, in the study's folder
python -m platform.report STUDY --compare STUDY…   studies side by side
"""

import argparse
from pathlib import Path

from platform.errors import EXIT_BAD_INPUT
from platform.signals import run_and_exit

REPORT, COMPARISON = "report.html", "comparison.html"  # in a study's folder


def parser() -> argparse.ArgumentParser:
    """The options."""
    p = argparse.ArgumentParser(
        prog="python -m platform.report", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    p.add_argument("study", nargs="?", help="its name; it may still be at work")
    p.add_argument("--compare", nargs="+", default=[], metavar="STUDY", help="other studies, to be put beside it")
    p.add_argument("--storage", default="studies", metavar="PLACE", help="where studies are kept (default studies)")
    p.add_argument("--out", metavar="FILE", help=f"the page (default {REPORT} or {COMPARISON} in the study's folder)")
    return p


def write(folder: Path, out: Path | None = None) -> Path:
    """Writes the page of a study, and its charts as PNG and SVG files into figures/report.

    Args:
        folder: The study's.
        out: The page; None: report.html in the study's folder.

    Returns:
        The page.

    Raises:
        InputError: There is no study, or its event log or its result is not as it was written.
        OSError: The disk did not take it.
    """
    from platform.reporting import study_data, study_page

    page = out or folder / REPORT
    study_page.write(study_data.read(folder), page)
    return page


def record(folder: Path, page: Path) -> str:
    """Keeps a study's page with its MLflow run.

    Returns:
        "", or why MLflow did not take it.

    Raises:
        InputError: There is no study.
    """
    from platform.study import metadata
    from platform.study.event_log import first
    from platform.study.request import EVENT_LOG
    from platform.tracking import mlflow_recorder

    event = first(folder / EVENT_LOG)
    return (
        mlflow_recorder.record_page(metadata.from_json(event.data["facts"]), page)
        if event
        else "Not in MLflow: no event log"
    )


def main(arguments: list[str] | None = None) -> int:
    """Runs the command line; returns the exit code."""
    options = parser().parse_args(arguments)
    names = list(dict.fromkeys([*([options.study] if options.study else []), *options.compare]))
    if not names or (options.compare and len(names) < 2):
        parser().error("name a study; with --compare, two or more")
    from rich.console import Console

    from platform.errors import Fault, InputError, print_error

    console = Console(soft_wrap=True)
    try:
        folders = [_folder(options.storage, name) for name in names]
        if options.compare:
            out = Path(options.out or folders[0] / COMPARISON)
            _compare(folders, out)
        else:
            out = write(folders[0], Path(options.out) if options.out else None)
            if reason := record(folders[0], out):
                console.print(reason, markup=False, highlight=False)
        if reason := _send(options.storage, names[0], folders[0], out):
            console.print(reason, markup=False, highlight=False)
    except InputError as error:
        print_error(Console(stderr=True), error)
        return EXIT_BAD_INPUT
    except OSError as error:
        rule, remedy = (
            "a study's files must be readable, and its page writable",
            "Restore the file, or name another --out.",
        )
        print_error(Console(stderr=True), InputError(Fault(rule, str(error), remedy)))
        return EXIT_BAD_INPUT
    console.print(str(out), markup=False, highlight=False)
    return 0


def _folder(storage: str, name: str) -> Path:
    """A study's folder on this machine."""
    from platform.study.request import read_request, studies_in

    folder = studies_in(storage, name) / name
    read_request(folder)  # that there is one, and whose it is
    return folder


def _compare(folders: list[Path], out: Path) -> None:
    from platform.reporting import compare_page, study_data

    compare_page.write([study_data.read(folder) for folder in folders], out)


def _send(given: str, name: str, folder: Path, page: Path) -> str:
    """Sends the page to the bucket of its study.

    Returns:
        "", or why it did not arrive.
    """
    from platform.storage import filesystem

    place = filesystem.resolved(given)
    if not filesystem.is_bucket(place) or page.parent != folder:
        return ""
    try:
        filesystem.upload_file(page, f"{place}/{name}/{page.name}")
        filesystem.upload(folder / "figures" / "report", f"{place}/{name}/figures/report")
    except OSError as error:
        return f"Not in the bucket: {error}"
    return ""


if __name__ == "__main__":
    run_and_exit(main, "The page is whole, as it was or anew.")
