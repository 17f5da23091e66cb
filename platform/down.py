"""End a cluster after checking that nothing runs on it and that its results are on this machine.

python -m platform.down cluster.yaml                  results to ./from-cluster/TIME, then `ray down`
python -m platform.down cluster.yaml --keep           the same without `ray down`

It fetches the folders of studies that are kept in buckets (event logs, results, best models, figures) and MLflow's
database with its files. Studies in a shared folder stay there.
"""

import argparse
import json
import subprocess
import time
from pathlib import Path

from platform.errors import Fault, InputError, print_error, raise_if_any
from platform.signals import run_and_exit

MLFLOW = "~/platform/mlflow"  # on the head, as the yaml starts it
FORCE_HINT = "--force ends the cluster anyway."


def parser() -> argparse.ArgumentParser:
    """Return the parser of the options."""
    p = argparse.ArgumentParser(
        prog="python -m platform.down", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    p.add_argument("cluster", metavar="YAML", help="the cluster's yaml")
    p.add_argument("--to", metavar="DIR", help="where results go (default from-cluster/TIME)")
    p.add_argument("--keep", action="store_true", help="fetch the results and leave the cluster up")
    p.add_argument("--force", action="store_true", help="end it even if something runs on it or did not reach MLflow")
    return p


def main(arguments: list[str] | None = None) -> int:
    """Run the command line and return the exit code."""
    options = parser().parse_args(arguments)
    from rich.console import Console
    from rich.markup import escape

    from platform.cluster import head_node, jobs

    head_node.use_token()
    from platform.storage import filesystem

    console = Console()
    target = Path(options.to or f"from-cluster/{time.strftime('%Y%m%d-%H%M%S')}").resolve()
    try:
        there = head_node.read(options.cluster)
        if not there.is_file:
            raise InputError(Fault("this needs the cluster's yaml", options.cluster, "Name the file."))
        busy = [] if options.force or options.keep else jobs.running(there)
        remedy = f"Wait for it or stop it with --stop. {FORCE_HINT}"
        raise_if_any(Fault("no job may run on a cluster that is ended", job, remedy) for job in busy)
        folders = {str(filesystem.MIRRORS): target / "studies", MLFLOW: target / "mlflow"}
        make = head_node.ray_command("exec", there.place, f"mkdir -p {' '.join(folders)}")
        subprocess.run(make, stdout=subprocess.DEVNULL, check=False)
        faults: list[Fault] = []
        for source, folder in folders.items():
            folder.mkdir(parents=True, exist_ok=True)
            try:
                head_node.download(there, f"{source}/", folder)
            except InputError as error:
                faults += error.faults
        faults += _unfinished(target / "studies", options.cluster)
        if options.force:
            for fault in faults:
                console.print(f"[yellow]Ended anyway: {escape(str(fault))}[/]", soft_wrap=True)
        else:
            raise_if_any(faults)
    except InputError as error:
        return print_error(Console(stderr=True), error)
    studies = sorted(path.parent.name for path in (target / "studies").rglob("result.json"))
    console.print(f"Here now: {', '.join(studies) or 'no study'} in {target / 'studies'}", soft_wrap=True)
    database = target / "mlflow" / "mlflow.db"
    if database.exists():
        artifacts = database.parent / "artifacts"
        ui = f"mlflow server --backend-store-uri sqlite:///{database} --artifacts-destination {artifacts}"
        console.print(f"MLflow's records: [bold]{ui}[/]", soft_wrap=True, highlight=False)
    if options.keep:
        return 0
    return subprocess.run(head_node.ray_command("down", "-y", there.place), check=False).returncode


def _unfinished(folder: Path, yaml: str) -> list[Fault]:
    """Return a fault for each fetched study that is incomplete."""
    from platform.study import event_log
    from platform.study.request import EVENT_LOG, RESULT

    faults = []
    for file in sorted(folder.rglob(EVENT_LOG)):
        name, result = file.parent.name, file.parent / RESULT
        try:
            events = event_log.read(file)
            first, last = events[0], events[-1]
        except (InputError, IndexError) as error:
            faults.append(Fault("a study's event log must be fetched completely", f"{name}: {error}", "Try again."))
            continue
        outcome = json.loads(result.read_text()) if result.exists() else {}
        if last.kind != "close" or last.data["status"] == "KILLED":
            remedy = f"Its copy in the bucket can be continued with --resume. {FORCE_HINT}"
            faults.append(Fault("a study must have ended", f"{name}: interrupted", remedy))
        if missing := outcome.get("undelivered"):
            tunnel = f"ray dashboard {yaml} --port 5000 --remote-port 5000"
            deliver = f"python -m platform.deliver {name} --storage {first.data['request']['storage']}"
            remedy = f"Deliver them: {tunnel}, and at the same time {deliver} --tracking-uri http://localhost:5000."
            found = f"{name}: {missing} did not"
            faults.append(Fault("a study's records must have reached MLflow", found, f"{remedy} {FORCE_HINT}"))
        if reason := outcome.get("not_copied"):
            remedy = f"All of it is here now, in {file.parent}. {FORCE_HINT}"
            faults.append(Fault("a study must have reached its bucket", f"{name}: {reason}", remedy))
    return faults


if __name__ == "__main__":
    run_and_exit(main, "The same command starts again.")
