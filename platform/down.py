"""Ends a cluster, after making sure that nothing runs on it and that what it has made is here.

python -m platform.down cluster.yaml                  results to ./from-cluster/TIME, then `ray down`
python -m platform.down cluster.yaml --keep           the same without `ray down`

Brought are the folders of studies that are kept in buckets (journals, results, best models, pictures) and MLflow's
database with all that lies beside it. Studies in a shared folder stay there.
"""

import argparse
import shlex
import subprocess
import time
from pathlib import Path

from platform.errors import EXIT_BAD_INPUT
from platform.signals import end_with

MLFLOW = "~/platform/mlflow"  # on the head, as the yaml starts it


def parser() -> argparse.ArgumentParser:
    """The options."""
    p = argparse.ArgumentParser(
        prog="python -m platform.down", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    p.add_argument("cluster", metavar="YAML", help="of the cluster")
    p.add_argument("--to", metavar="DIR", help="where results go (default from-cluster/TIME)")
    p.add_argument("--keep", action="store_true", help="bring the results, leave the cluster up")
    p.add_argument("--force", action="store_true", help="end it whatever runs on it, or did not reach MLflow")
    return p


def main(arguments: list[str] | None = None) -> int:
    """Runs the command line; returns the exit code."""
    options = parser().parse_args(arguments)
    from rich.console import Console
    from rich.markup import escape

    from platform import jobs

    jobs.use_token()
    from platform import storage
    from platform.errors import Fault, InputError, raise_if_any
    from platform.view import print_error

    console = Console()
    target = Path(options.to or f"from-cluster/{time.strftime('%Y%m%d-%H%M%S')}").resolve()
    try:
        there = jobs.read(options.cluster)
        if not there.is_file:
            raise InputError(Fault("this needs the cluster's yaml", options.cluster, "Name the file."))
        busy = [] if options.force or options.keep else jobs.running(there)
        remedy = "Wait for it, or --stop it; --force ends the cluster all the same."
        raise_if_any(Fault("a cluster that is ended must be at rest", job, remedy) for job in busy)
        folders = {str(storage.MIRRORS): target / "studies", MLFLOW: target / "mlflow"}
        subprocess.run(
            jobs.ray_command("exec", there.place, shlex.join(["mkdir", "-p"]) + " " + " ".join(folders)),
            stdout=subprocess.DEVNULL, check=False,
        )  # fmt: skip
        faults: list[Fault] = []
        for source, folder in folders.items():
            folder.mkdir(parents=True, exist_ok=True)
            try:
                jobs.bring(there, f"{source}/", folder)
            except InputError as error:
                faults += error.faults
        faults += _unfinished(target / "studies")
        if options.force:
            for fault in faults:
                console.print(f"[yellow]Ended all the same: {escape(str(fault))}[/]", soft_wrap=True)
        else:
            raise_if_any(faults)
    except InputError as error:
        print_error(Console(stderr=True), error)
        return EXIT_BAD_INPUT
    studies = sorted(path.parent.name for path in (target / "studies").rglob("result.json"))
    console.print(f"Here now: {', '.join(studies) or 'no study'} in {target / 'studies'}", soft_wrap=True)
    database = target / "mlflow" / "mlflow.db"
    if database.exists():
        artifacts = database.parent / "artifacts"
        ui = f"mlflow server --backend-store-uri sqlite:///{database} --artifacts-destination {artifacts}"
        console.print(f"MLflow's records: [bold]{ui}[/]", soft_wrap=True, highlight=False)
    return 0 if options.keep else subprocess.run(jobs.ray_command("down", "-y", there.place), check=False).returncode


def _unfinished(folder: Path) -> list:
    """What of the studies that were brought is not as it must be before its machine goes away."""
    import json

    from platform import journal
    from platform.errors import Fault, InputError
    from platform.plan import JOURNAL, RESULT

    faults = []
    for file in sorted(folder.rglob(JOURNAL)):
        name, result = file.parent.name, file.parent / RESULT
        try:
            last = journal.read(file)[-1]
        except (InputError, IndexError) as error:
            faults.append(Fault("a study's journal must arrive whole", f"{name}: {error}", "Try again."))
            continue
        told = json.loads(result.read_text()) if result.exists() else {}
        if last.kind != "close" or last.data["status"] == "KILLED":
            remedy = "Its copy in the bucket can be gone on with: --resume. --force ends the cluster all the same."
            faults.append(Fault("a study must have come to its end", f"{name}: interrupted", remedy))
        for key, what in (("undelivered", "records did not reach MLflow"), ("not_copied", "not all is in the bucket")):
            if told.get(key):
                remedy = f"On the head: python -m platform.deliver {name}. --force ends the cluster all the same."
                faults.append(Fault("a study's records must have arrived", f"{name}: {told[key]} {what}", remedy))
    return faults


if __name__ == "__main__":
    end_with(main, "The same command does all of it again.")
