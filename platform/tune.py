"""Search how to fine-tune a pretrained model.

python -m platform.tune detector                                  on the embedded data
python -m platform.tune detector --data DIR --set weights=FILE    on your own
python -m platform.tune detector --set freeze_depth=0..3 --set lr_head=1e-3 --trials 30
"""

import argparse
import json
import os
import shlex
import sys
import time
from pathlib import Path

EXIT_NO_SUCCESS, EXIT_BAD_INPUT, EXIT_INTERRUPTED = 1, 2, 130


def parser() -> argparse.ArgumentParser:
    """The options, the same for every task."""
    p = argparse.ArgumentParser(
        prog="python -m platform.tune", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    p.add_argument("task", nargs="?", help="what to train; --list shows the tasks")
    p.add_argument("--list", action="store_true", help="list the tasks with metric and budget")
    p.add_argument("--dry-run", action="store_true", help="print the resolved space, data and resources; start nothing")
    what = p.add_argument_group("what is searched")
    what.add_argument("--data", metavar="DIR", help="your data; without it, the task's embedded data")
    what.add_argument("--set", metavar="KEY=VALUE", action="append", default=[], dest="settings",
                      help="fix (lr_head=1e-3) or narrow (freeze_depth=0..3, unfreeze=never,gradual)")  # fmt: skip
    what.add_argument("--trials", type=int, metavar="N", help="configurations to try, baselines among them")
    what.add_argument("--epochs", type=int, metavar="N", help="the most epochs a trial gets")
    what.add_argument("--seed", type=int, default=0, metavar="N", help="of splits, search and training (default 0)")
    how = p.add_argument_group("with what")
    how.add_argument("--concurrent", type=int, metavar="N", help="trials at the same time (default: all cores or GPUs)")
    how.add_argument("--cpus-per-trial", type=int, metavar="N", help="cores and threads of a trial (default 1)")
    how.add_argument("--gpus-per-trial", type=float, metavar="X", help="GPUs of a trial; 0.5: two share one")
    how.add_argument("--time-budget", type=float, metavar="SECONDS", help="stop the search after this time")
    where = p.add_argument_group("where it is kept")
    where.add_argument("--storage", default="studies", metavar="DIR", help="folder of studies (default studies)")
    where.add_argument("--name", help="of the study (default: task and time)")
    where.add_argument("--resume", action="store_true", help="go on with the study --name, or with the newest")
    where.add_argument("--experiment", metavar="NAME", help="MLflow experiment (default: the task)")
    where.add_argument("--tracking-uri", metavar="URI",
                       help="of MLflow (default: MLFLOW_TRACKING_URI, else sqlite:///mlflow.db here)")  # fmt: skip
    where.add_argument("--json", metavar="FILE", help="write the result there")
    return p


def main(arguments: list[str] | None = None) -> int:
    """Runs the command line; returns the exit code."""
    options = parser().parse_args(arguments)
    if not options.list and not options.task:
        parser().error("name a task, or --list them")
    from rich.console import Console

    # Ray, torch and MLflow take seconds to import: only now, when --help and wrong options are past.
    from platform.errors import Fault, InputError

    # In a file or a pipe rich would wrap at 80 columns; lines of any length are easier to read and to search there.
    console = Console() if sys.stdout.isatty() else Console(width=160)
    if options.list:
        return _list(console)
    from platform.view import print_error, print_plan, print_result

    try:
        if options.json and not Path(options.json).resolve().parent.is_dir():
            raise InputError(Fault("--json needs an existing folder", options.json, "Make it first."))
        from platform import study, task

        task.check_name(options.task)
        request = _resumed(options) if options.resume else _request(options)
        plan = study.plan(request, resume=options.resume)
    except InputError as error:
        print_error(Console(stderr=True), error)
        return EXIT_BAD_INPUT
    title = f"{'Going on with' if options.resume else 'Study'} {request.name}"
    print_plan(console, title, plan.space, _describe(plan.dataset), plan.resources.describe())
    if options.dry_run:
        return 0
    console.print()
    try:
        result = study.run(plan, console, resume=options.resume)
    except InputError as error:
        print_error(Console(stderr=True), error)
        return EXIT_BAD_INPUT
    except KeyboardInterrupt:  # before or after the search; during it Ray ends the trials and returns
        result = {"interrupted": True}
    if options.json and "trials" in result:
        Path(options.json).write_text(json.dumps(result, indent=2, ensure_ascii=False))
    if result["interrupted"]:
        console.print(f"Interrupted. To go on: [bold]{study.resume_command(request)}[/]", soft_wrap=True)
        return EXIT_INTERRUPTED
    print_result(console, result, _places(request), _commands(request, result))
    if result["undelivered"]:
        console.print(f"[red]{result['undelivered']} records did not reach MLflow at {request.tracking_uri}.[/]")
    return 0 if result["best"] else EXIT_NO_SUCCESS


def _request(options: argparse.Namespace):
    from platform.study import Request

    uri = options.tracking_uri or os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{Path.cwd() / 'mlflow.db'}"
    return Request(
        task=options.task,
        name=options.name or f"{options.task}-{time.strftime('%Y%m%d-%H%M%S')}",
        storage=str(Path(options.storage).resolve()),
        experiment=options.experiment or options.task,
        tracking_uri=uri,
        data=str(Path(options.data).resolve()) if options.data else None,
        settings=tuple(_with_absolute_paths(setting) for setting in options.settings),
        **{
            key: getattr(options, key)
            for key in ("trials", "epochs", "seed", "concurrent", "cpus_per_trial", "gpus_per_trial", "time_budget")
        },
    )


def _with_absolute_paths(setting: str) -> str:
    """A setting whose values that are files, weights say, are found from any folder: trials work in their own."""
    key, equals, value = setting.partition("=")
    parts = [str(Path(part).resolve()) if Path(part).is_file() else part for part in value.split(",")]
    return key + equals + ",".join(parts)


def _resumed(options: argparse.Namespace):
    """What the study was asked for at first: nothing but the place and the name may be given again."""
    from platform.errors import Fault, InputError
    from platform.study import REQUEST, read_request

    storage = Path(options.storage).resolve()
    if options.name:
        return read_request(storage / options.name)
    mine = [p for p in storage.glob(f"*/{REQUEST}") if json.loads(p.read_text()).get("task") == options.task]
    if not mine:
        rule = "--resume needs an earlier study of the task"
        raise InputError(Fault(rule, f"none of {options.task} in {storage}", "Start one without --resume."))
    return read_request(max(mine, key=lambda path: path.stat().st_mtime).parent)


def _list(console) -> int:
    from platform import task

    known, unpaired = task.names()
    for name in known:
        space = task.space(name)
        budget = f"{space.trials} trials of up to {space.max_epochs} epochs"
        console.print(f"[bold]{name:14s}[/] {space.metric} ({space.mode}), {budget}", highlight=False)
    for line in unpaired:
        console.print(f"[yellow]{line}[/]")
    return 0


def _describe(dataset) -> dict[str, str]:
    return {"data": dataset.name, **dataset.lines()}


def _places(request) -> dict[str, str]:
    return {
        "study": str(request.folder),
        "best model and pictures": str(request.folder / "best"),
        "result": str(request.folder / "result.json"),
        "MLflow": f"experiment {request.experiment} at {request.tracking_uri}",
    }


def _commands(request, result) -> list[str]:
    local = f"sqlite:///{Path.cwd() / 'mlflow.db'}"
    ui = "mlflow ui" if request.tracking_uri == local else f"mlflow ui --backend-store-uri {request.tracking_uri}"
    commands = [f"{ui:58s} # compare the trials"]
    if result["best"]:
        predict = f"python -m platform.predict {request.task} FILE… --model {request.name}"
        commands.append(f"{predict:58s} # use the best model")
    more = ["python", "-m", "platform.tune", request.task, "--trials", str(2 * len(result["trials"]))]
    more += ["--data", request.data] if request.data else []
    more += [word for setting in request.settings for word in ("--set", setting)]
    return [*commands, f"{shlex.join(more):58s} # search longer"]


if __name__ == "__main__":
    sys.exit(main())
