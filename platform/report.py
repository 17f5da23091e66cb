"""Write a page about a study: its results, their uncertainty and their cost.

python -m platform.report STUDY                    one self-contained HTML file in the study's folder
python -m platform.report STUDY --compare STUDY…   several studies side by side
"""

import argparse
from pathlib import Path

from platform.errors import Fault, InputError, print_error
from platform.signals import run_and_exit

REPORT, COMPARISON = "report.html", "comparison.html"  # in a study's folder


def parser() -> argparse.ArgumentParser:
    """Return the parser of the options."""
    p = argparse.ArgumentParser(
        prog="python -m platform.report", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    p.add_argument("study", nargs="?", help="name of the study, which may still be running")
    p.add_argument("--compare", nargs="+", default=[], metavar="STUDY", help="other studies to compare it with")
    p.add_argument(
        "--storage", default="studies", metavar="PLACE", help="folder or bucket of studies (default studies)"
    )
    p.add_argument("--out", metavar="FILE", help=f"page to write (default {REPORT} or {COMPARISON} of the study)")
    return p


def write(folder: Path, out: Path | None = None) -> Path:
    """Write the page of a study, by default report.html in its folder, and its charts as files in figures/report.

    Return the file of the page.

    Raises:
        InputError: There is no study, or its event log or its result is damaged.
        OSError: A file cannot be written.
    """
    from platform.reporting import study_data, study_page

    page = out or folder / REPORT
    study_page.write(study_data.read(folder), page)
    return page


def record(folder: Path, page: Path) -> str:
    """Record a study's page in its MLflow run; return "", or why MLflow did not accept it."""
    from platform.study import metadata
    from platform.study.event_log import first
    from platform.study.request import EVENT_LOG
    from platform.tracking import mlflow_recorder

    event = first(folder / EVENT_LOG)
    if event is None:
        return "The page is not in MLflow: the study has no event log yet."
    return mlflow_recorder.record_page(metadata.from_json(event.data["facts"]), page)


def main(arguments: list[str] | None = None) -> int:
    """Run the command line and return the exit code."""
    options = parser().parse_args(arguments)
    names = list(dict.fromkeys([*([options.study] if options.study else []), *options.compare]))
    if not names or (options.compare and len(names) < 2):
        parser().error("name a study, or two or more with --compare")
    from rich.console import Console

    console, errors = Console(soft_wrap=True), Console(stderr=True)
    try:
        folders = [_folder(options.storage, name) for name in names]
        if options.compare:
            from platform.reporting import compare_page, study_data

            page, problem = Path(options.out or folders[0] / COMPARISON), ""
            compare_page.write([study_data.read(folder) for folder in folders], page)
        else:
            page = write(folders[0], Path(options.out) if options.out else None)
            problem = record(folders[0], page)
        for line in filter(None, (problem, _copy_to_bucket(options.storage, names[0], folders[0], page))):
            console.print(line, markup=False, highlight=False)
    except InputError as error:
        return print_error(errors, error)
    except OSError as error:
        rule = "the study's files must be readable and the page writable"
        return print_error(errors, InputError(Fault(rule, str(error), "Restore the file, or name another --out.")))
    console.print(str(page), markup=False, highlight=False)
    return 0


def _folder(storage: str, name: str) -> Path:
    """Return a study's folder on this machine, after a check that it is a study of this user."""
    from platform.study.request import read_request, studies_in

    folder = studies_in(storage, name) / name
    read_request(folder)
    return folder


def _copy_to_bucket(storage: str, name: str, folder: Path, page: Path) -> str:
    """Copy the page and its charts to a study in a bucket; return "", or why the copy failed."""
    from platform.storage import filesystem

    address = filesystem.resolved(storage)
    if not filesystem.is_bucket(address) or page.parent != folder:
        return ""
    try:
        filesystem.upload_file(page, f"{address}/{name}/{page.name}")
        filesystem.upload(folder / "figures" / "report", f"{address}/{name}/figures/report")
    except OSError as error:
        return f"The page is not in the bucket: {error}"
    return ""


if __name__ == "__main__":
    run_and_exit(main, "The page is complete: either the old one or the new one.")
