"""Search how to fine-tune a pretrained model.

python -m platform.tune detector                                  on the embedded data
python -m platform.tune detector --data DIR --set weights=FILE    on your own
python -m platform.tune detector --set freeze_depth=0..3 --set lr_head=1e-3 --trials 30
"""

import argparse
import atexit
import errno
import functools
import gc
import json
import math
import os
import shlex
import signal
import sys
import threading
import time
from dataclasses import asdict, replace
from pathlib import Path
from types import FrameType
from typing import NoReturn

EXIT_NO_SUCCESS, EXIT_BAD_INPUT, EXIT_INTERRUPTED = 1, 2, 130
NOTHING_STARTED = "Interrupted before anything was started."


def parser() -> argparse.ArgumentParser:
    """The options, the same for every task."""
    p = argparse.ArgumentParser(
        prog="python -m platform.tune", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    p.add_argument("task", nargs="?", help="what to train; --list shows the tasks")
    p.add_argument("--list", action="store_true", help="list the tasks with metric and budget")
    p.add_argument("--dry-run", action="store_true", help="print the resolved space, data and resources; start nothing")
    what = p.add_argument_group("what is searched")
    what.add_argument("--data", metavar="PLACE", action="append", default=[],
                      help="your data, a folder or a file; several where the task reads several; "
                      "without it, the task's embedded data")  # fmt: skip
    what.add_argument("--set", metavar="KEY=VALUE", action="append", default=[], dest="settings",
                      help="fix (lr_head=1e-3) or narrow (freeze_depth=0..3, unfreeze=never,gradual)")  # fmt: skip
    what.add_argument("--warm-start", metavar="STUDY", action="append", default=[],
                      help="try first what did best in an earlier study in --storage, or in those of an MLflow "
                      "experiment; several times for several")  # fmt: skip
    what.add_argument("--trials", type=int, metavar="N", help="configurations to try, baselines among them")
    what.add_argument("--epochs", type=int, metavar="N", help="the most epochs a trial gets")
    what.add_argument("--seed", type=int, default=0, metavar="N", help="of splits, search and training (default 0)")
    how = p.add_argument_group("with what")
    how.add_argument("--concurrent", type=int, metavar="N", help="trials at the same time (default: all cores or GPUs)")
    how.add_argument("--cpus-per-trial", type=int, metavar="N", help="cores and threads of a trial (default 1)")
    how.add_argument("--gpus-per-trial", type=_finite, metavar="X", help="GPUs of a trial; 0.5: two share one")
    how.add_argument("--no-reuse", action="store_true",
                     help="run frozen stages in each epoch, instead of once for all trials")  # fmt: skip
    how.add_argument("--store-gb", type=_finite, metavar="GB",
                     help="what frozen stages made of the data may take on the disk "
                     "(default: half of the memory, at most a quarter of what is free)")  # fmt: skip
    how.add_argument("--time-budget", type=_finite, metavar="SECONDS", help="stop the search after this time")
    how.add_argument("--max-hours", type=_finite, metavar="HOURS", help="the same in hours")
    how.add_argument("--max-cost", type=_finite, metavar="USD",
                     help="stop the search when the cluster's nodes have cost so much")  # fmt: skip
    where = p.add_argument_group("where it is kept")
    where.add_argument("--storage", metavar="PLACE",
                       help="folder of studies, or s3://… or gs://… (default studies)")  # fmt: skip
    where.add_argument("--name", help="of the study (default: task and time)")
    where.add_argument("--resume", action="store_true", help="go on with the study --name, or with the newest")
    where.add_argument("--experiment", metavar="NAME", help="MLflow experiment (default: the task)")
    where.add_argument("--tracking-uri", metavar="URI",
                       help="of MLflow (default: MLFLOW_TRACKING_URI, else sqlite:///mlflow.db here)")  # fmt: skip
    where.add_argument("--json", metavar="FILE", help="write the result there")
    many = p.add_argument_group("on a cluster")
    many.add_argument("--cluster", metavar="YAML", help="run the study there, as a job, and follow it")
    many.add_argument("--follow", metavar="NAME", help="with --cluster: pick up a study that is running there")
    many.add_argument("--stop", metavar="NAME", help="with --cluster: interrupt a study that is running there")
    many.add_argument("--wait-for-nodes", type=_finite, default=600.0, metavar="SECONDS",
                      help="until a trial must have room (default 600)")  # fmt: skip
    return p


def _finite(text: str) -> float:
    if not math.isfinite(value := float(text)):
        raise ValueError(text)
    return value


_finite.__name__ = "finite number"  # as argparse calls it when it refuses


def main(arguments: list[str] | None = None) -> int:
    """Runs the command line; returns the exit code."""
    options = parser().parse_args(arguments)
    _hear_ctrl_c()
    _stop_on_sigterm()
    _usual_uri()
    if not options.list and not options.task:
        parser().error("name a task, or --list them")
    from rich.console import Console

    # Ray, torch and MLflow take seconds to import: only now, when --help and wrong options are past.
    from platform.errors import Fault, InputError

    # In a file or a pipe rich would wrap at 80 columns; lines of any length are easier to read and to search there.
    console = Console() if sys.stdout.isatty() else Console(width=160)
    if options.list:
        return _list(console)
    if options.cluster or options.follow or options.stop:
        return _on_cluster(options, console)
    from platform import cluster

    cluster.quiet()
    from platform import fit, rollout, study, task
    from platform.plan import make_plan
    from platform.recorder import set_environment
    from platform.view import print_error, print_plan

    faults = []
    if options.json and (Path(options.json).is_dir() or not Path(options.json).resolve().parent.is_dir()):
        faults.append(Fault("--json needs a file in an existing folder", options.json, "Make the folder first."))
    try:
        task.check_name(options.task)
        request = _resumed(options) if options.resume else _request(options)
        # One after the other, though each takes seconds: both set environment variables, and where one thread adds one,
        # another that reads any can crash in the C library.
        plan = make_plan(request, resume=options.resume)
        _if_heard()
        if (not options.dry_run or cluster.joins()) and not faults:
            set_environment()
            os.environ["MLFLOW_TRACKING_URI"] = request.tracking_uri  # else added later, by the thread that delivers
            cluster.connect(cluster.resources())
            _stop_on_sigterm()  # Ray's own would end the process with nothing said
        if cluster.joins() and not faults:
            plan = rollout.on_cluster(plan, console, wait=not options.dry_run)
        _if_heard()
    except InputError as error:
        faults = [*error.faults, *faults]
    if faults:
        print_error(Console(stderr=True), InputError(*faults))
        return EXIT_BAD_INPUT
    fit.spare_the_libraries()  # a Ctrl-C that falls into the half second of walking them would be lost
    gc.enable()  # the imports are done
    title = f"{'Going on with' if options.resume else 'Study'} {request.name}"
    about = {**_describe(plan.dataset), **plan.warm_start.lines(), "frozen stages": _reuse(plan.request)}
    print_plan(console, title, plan.space, about, plan.resources.describe())
    if options.dry_run:
        return 0
    console.print()
    try:
        result = study.run(plan, console, resume=options.resume)
    except InputError as error:
        print_error(Console(stderr=True), error)
        return EXIT_BAD_INPUT
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO):
            raise
        result = {"stopped": f"{error.filename or request.folder}: {error.strerror}"}
    except KeyboardInterrupt:  # after the search; during it Ray ends the trials and returns
        result = {"interrupted": True}
    if options.json and "trials" in result:
        Path(options.json).write_text(json.dumps(result, indent=2, ensure_ascii=False))
    return _tell(console, request, result)


def _on_cluster(options: argparse.Namespace, console) -> int:
    """Sends the study to a cluster, or looks after one there; returns the exit code."""
    from rich.console import Console

    from platform import jobs

    jobs.use_token()
    from platform import task
    from platform.errors import Fault, InputError, raise_if_any
    from platform.plan import RESULT, absolute_paths, address_faults
    from platform.view import print_error

    try:
        task.check_name(options.task)
        if not options.cluster:
            raise InputError(Fault("--follow and --stop need --cluster", "none", "Add --cluster cluster.yaml"))
        there = jobs.read(options.cluster)
        if options.json and not there.is_file:
            raise InputError(Fault("--json needs the cluster's yaml", options.cluster, "Name the file."))
        if options.stop:
            return jobs.stop(there, options.task, options.stop, console)
        if options.resume and not options.name and not options.follow:
            raise InputError(Fault("--resume on a cluster needs --name", "none", "--follow NAME shows its state."))
        name = options.follow or options.name or _new_name(options.task)
        place = "" if options.follow and not options.json else jobs.storage_of(there, options.storage)
        settings = [absolute_paths(setting) for setting in options.settings]
        faults = [] if options.follow else jobs.place_faults([*options.data, place], settings)
        raise_if_any([*faults, *address_faults(options.tracking_uri or "")])
        words = ["--name", name, "--storage", place]
        words += [word for setting in settings for word in ("--set", jobs.relative(setting))]
        words += _typed(options, but={"task", "cluster", "name", "storage", "settings", "json", "list"})
        if options.follow:
            code = jobs.follow(there, options.task, name, console)
        else:
            code = jobs.run(there, options.task, name, place, words, console)
        if options.json and code in (0, EXIT_NO_SUCCESS):
            jobs.bring(there, f"{jobs.on_head(place, name)}/{RESULT}", Path(options.json))
        return code or 0
    except InputError as error:
        print_error(Console(stderr=True), error)
        return EXIT_BAD_INPUT


def _typed(options: argparse.Namespace, but: set[str]) -> list[str]:
    """The options that were given, as they are typed."""
    default, words = vars(parser().parse_args([])), list[str]()
    for key, value in vars(options).items():
        if key not in but and value != default[key]:
            name = "--" + key.replace("_", "-")
            each = value if isinstance(value, list) else [value]
            words += [word for one in each for word in ([name] if one is True else [name, str(one)])]
    return words


def _new_name(name: str) -> str:
    return f"{name}-{time.strftime('%Y%m%d-%H%M%S')}"


def _tell(console, request, result) -> int:
    """What came of a study, and what to type next; returns the exit code."""
    from rich.markup import escape

    from platform.plan import JOURNAL, deliver_command, resume_command
    from platform.view import print_result

    if result.get("stopped"):
        console.print(f"[red]Stopped:[/] {escape(result['stopped'])}", soft_wrap=True)
        console.print(f"To go on, once that is mended: [bold]{resume_command(request)}[/]", soft_wrap=True)
        return EXIT_NO_SUCCESS
    if result["interrupted"] and not (request.folder / JOURNAL).exists():
        console.print(NOTHING_STARTED)
        return EXIT_INTERRUPTED
    if result["interrupted"]:
        console.print(f"Interrupted. To go on: [bold]{resume_command(request)}[/]", soft_wrap=True)
        return EXIT_INTERRUPTED
    print_result(console, result, _places(request), _commands(request, result))
    if result["not_copied"]:
        console.print(f"[red]Not all of the study reached {request.remote}:[/] {escape(result['not_copied'])}")
        console.print(f"All of it is in {request.folder}.", soft_wrap=True, highlight=False)
    if result["not_deleted"]:
        trials = ", ".join(result["not_deleted"])
        console.print(f"[yellow]Checkpoints that could not be deleted: of trials {trials}.[/]")
    if result["undelivered"]:
        console.print(f"[red]{result['undelivered']} records did not reach MLflow at {request.tracking_uri}:[/]")
        console.print(result["undelivered_reason"], markup=False, soft_wrap=True)
        console.print(f"They are kept. To deliver them: [bold]{deliver_command(request)}[/]", soft_wrap=True)
    return 0 if result["best"] else EXIT_NO_SUCCESS


_heard = threading.Event()


def _hear_ctrl_c() -> None:
    """Takes note of Ctrl-C besides raising it: some libraries swallow all that is raised while they are imported."""

    def hear(number: int, frame: FrameType | None) -> None:
        _heard.set()
        raise KeyboardInterrupt

    _heard.clear()
    ours = threading.current_thread() is threading.main_thread()
    if ours and signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # a shell's "&" makes deaf to it
        signal.signal(signal.SIGINT, hear)


def _if_heard() -> None:
    if _heard.is_set():
        raise KeyboardInterrupt


def _stop_on_sigterm() -> None:
    """What ends a process politely is heard as Ctrl-C is, also where a shell script made it deaf to that by "&"."""

    def stop(number: int, frame: FrameType | None) -> None:
        heard = signal.getsignal(signal.SIGINT)
        if not callable(heard):
            raise KeyboardInterrupt
        heard(signal.SIGINT, frame)  # Python's, or Ray's while it runs trials

    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, stop)


@functools.cache  # as it was at first: MLflow sets the variable as soon as it is told an address
def _usual_uri() -> str:
    from platform.project import COMMIT

    folder = Path.home() if os.environ.get(COMMIT) else Path.cwd()  # a job's own folder does not stay
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{folder / 'mlflow.db'}"


def _request(options: argparse.Namespace):
    from platform.plan import Request, absolute_paths
    from platform.storage import resolved

    hours = None if options.max_hours is None else 3600 * options.max_hours
    limits = [seconds for seconds in (options.time_budget, hours) if seconds is not None]
    return Request(
        task=options.task,
        name=options.name or _new_name(options.task),
        storage=resolved(options.storage or "studies"),
        experiment=options.experiment or options.task,
        tracking_uri=options.tracking_uri or _usual_uri(),
        data=tuple(map(resolved, options.data)),
        time_budget=min(limits, default=None),
        settings=tuple(absolute_paths(setting) for setting in options.settings),
        warm_start=tuple(options.warm_start),
        **{
            key: getattr(options, key)
            for key in (
                "trials",
                "epochs",
                "seed",
                "concurrent",
                "cpus_per_trial",
                "gpus_per_trial",
                "no_reuse",
                "store_gb",
                "max_cost",
                "wait_for_nodes",
            )
        },
    )


def _resumed(options: argparse.Namespace):
    """What the study was asked for at first: nothing but the place and the name may be given again."""
    from platform.errors import Fault, InputError
    from platform.journal import first
    from platform.plan import JOURNAL, read_request, studies_in
    from platform.storage import resolved

    default = vars(parser().parse_args([options.task]))
    again = {"resume", "name", "storage", "json", "dry_run"}
    given = [key for key, value in vars(options).items() if key not in again and value != default[key]]
    if given:
        names = ", ".join("--set" if key == "settings" else "--" + key.replace("_", "-") for key in given)
        rule = "--resume goes on with what the study was asked for at first"
        raise InputError(Fault(rule, names, "Leave these out, or start a new study."))
    place = resolved(options.storage or "studies")
    storage = studies_in(place, options.name)
    begun = {path: first(path) for path in storage.glob(f"*/{JOURNAL}")}
    mine = [path for path, study in begun.items() if study and study.data["request"]["task"] == options.task]
    if not options.name and not mine:
        rule = "--resume needs an earlier study of the task"
        raise InputError(Fault(rule, f"none of {options.task} in {place}", "Start one without --resume."))
    newest = max(mine, key=lambda path: path.stat().st_mtime, default=storage).parent
    request = read_request(storage / options.name if options.name else newest)
    if request.task != options.task:
        rule, remedy = "--resume needs a study of the task", f"python -m platform.tune {request.task} --resume …"
        raise InputError(Fault(rule, f"{request.name} is a study of {request.task}", remedy))
    if request.storage != place:
        rule = "--resume needs the study where it was started: its trials hold absolute paths"
        raise InputError(Fault(rule, place, f"Move it back to {request.storage}."))
    return request


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


def _reuse(request) -> str:
    from rich.filesize import decimal

    from platform import cluster
    from platform.features import capacity

    if request.store is None:
        return "run in each epoch of each trial"
    if cluster.joins():
        return "run once on each node, their output kept on its own disk"
    most = decimal(capacity(request.store, request.store_gb))
    return f"run once, their output kept in {request.store}, up to {most}"


def _places(request) -> dict[str, str]:
    from platform.outcome import BEST, FIGURES, WEIGHTS
    from platform.plan import RESULT
    from platform.study import FINDINGS

    places = {
        "study": request.folder,
        "best model": request.folder / BEST,
        "pictures and reports": request.folder / FIGURES,
        "weights to start from": request.folder / WEIGHTS,
        "result": request.folder / RESULT,
        "findings in the data": request.folder / FINDINGS,
    }
    there = {what: str(where) for what, where in places.items() if where.exists()}
    there |= {"the study's copy": request.remote} if request.remote else {}
    return {**there, "MLflow": f"experiment {request.experiment} at {request.tracking_uri}"}


def _commands(request, result) -> list[str]:
    from platform.plan import storage_option

    ui = f"mlflow ui --backend-store-uri {request.tracking_uri}"
    if request.tracking_uri == f"sqlite:///{Path.cwd() / 'mlflow.db'}":
        ui = "mlflow ui"
    elif request.tracking_uri.startswith("http"):
        ui = request.tracking_uri  # a server shows its own pages
    commands = [f"{ui:58s} # compare the trials"]
    if result["best"]:
        predict = f"python -m platform.predict {request.task} FILE… --model {request.name}{storage_option(request)}"
        commands.append(f"{predict:58s} # use the best model")
    spent = {"trials": len(result["trials"])}
    if result["out_of_time"] or result["out_of_money"]:
        spent = {"time_budget": request.time_budget} if result["out_of_time"] else {"max_cost": request.max_cost}
    more = _as_typed(replace(request, **{key: 2 * value for key, value in spent.items()}))
    return [*commands, f"{more:58s} # search longer"]


def _as_typed(request) -> str:
    """The command that asks for the same in a new study."""
    default = asdict(_request(parser().parse_args([request.task])))
    words = ["python", "-m", "platform.tune", request.task]
    for key, value in asdict(request).items():
        if key in ("task", "name", "id", "fingerprint", "settings", "data", "warm_start") or value == default[key]:
            continue
        words += ["--" + key.replace("_", "-"), *([] if value is True else [str(value)])]
    words += [word for place in request.data for word in ("--data", place)]
    words += [word for name in request.warm_start for word in ("--warm-start", name)]
    return shlex.join(words + [word for setting in request.settings for word in ("--set", setting)])


def run() -> NoReturn:
    """The command from the first import to the last: what a process does that does nothing else."""
    gc.disable()  # while libraries are imported it would walk what they have made over and over, for seconds
    try:
        code = main()
    except KeyboardInterrupt:
        print(NOTHING_STARTED)
        code = EXIT_INTERRUPTED
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)  # Python would take two seconds more to take the libraries apart


if __name__ == "__main__":
    run()
