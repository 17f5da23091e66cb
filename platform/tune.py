"""Search how to fine-tune a pretrained model.

python -m platform.tune detector                                  on the embedded data
python -m platform.tune detector --data DIR --set weights=FILE    on your own
python -m platform.tune detector --set freeze_depth=0..3 --set lr_head=1e-3 --trials 30
"""

import atexit
import errno
import gc
import json
import os
import shlex
import sys
from dataclasses import replace
from pathlib import Path
from typing import NoReturn

from platform.errors import EXIT_BAD_INPUT, EXIT_INCOMPLETE, EXIT_INTERRUPTED
from platform.signals import as_ctrl_c, hear_ctrl_c, if_heard, stop_on_sigterm
from platform.study.options import as_typed, parser, request_of, resumed
from platform.study.request import usual_uri
from platform.tracking import mlflow_store

SERVE = "mlflow models serve -m {} --env-manager local --host 127.0.0.1 --port 5001"
NOTHING_STARTED = "Interrupted before anything was started."


def main(arguments: list[str] | None = None) -> int:
    """Runs the command line; returns the exit code."""
    options = parser(__doc__).parse_args(arguments)
    hear_ctrl_c()
    stop_on_sigterm()
    usual_uri()
    if not options.list and not options.task:
        parser().error("name a task, or --list them")
    from rich.console import Console

    # Ray, torch and MLflow take seconds to import: only now, when --help and wrong options are past.
    from platform.errors import InputError, file_faults

    # In a file or a pipe rich would wrap at 80 columns; lines of any length are easier to read and to search there.
    console = Console() if sys.stdout.isatty() else Console(width=160)
    if options.list:
        return _list(console)
    if options.cluster or options.follow or options.stop:
        return _on_cluster(options, console)
    from platform.cluster import ray_runtime

    ray_runtime.quiet()
    from platform import task
    from platform.errors import print_error
    from platform.runner import cluster_setup, replay, run_study
    from platform.runner.console import print_plan
    from platform.runner.plan import make_plan
    from platform.tracking.mlflow_store import set_environment
    from platform.training import context

    faults = file_faults("--json", options.json) if options.json else []
    try:
        task.check_name(options.task)
        request = resumed(options) if options.resume else request_of(options)
        recorded = replay.read(options.replay, request.tracking_uri) if options.replay else None
        request = replay.request_of(recorded, request) if recorded else request
        # One after the other, though each takes seconds: both set environment variables, and where one thread adds one,
        # another that reads any can crash in the C library.
        plan = make_plan(request, resume=options.resume)
        if recorded:
            replay.check(plan, recorded)
        if_heard()
        if (not options.dry_run or ray_runtime.joins()) and not faults:
            set_environment()
            os.environ["MLFLOW_TRACKING_URI"] = request.tracking_uri  # else added later, by the thread that delivers
            ray_runtime.connect(ray_runtime.resources())
            stop_on_sigterm()  # Ray's own would end the process with nothing said
        if ray_runtime.joins() and not faults:
            plan = cluster_setup.on_cluster(plan, console, wait=not options.dry_run)
        if_heard()
    except InputError as error:
        faults = [*error.faults, *faults]
    if faults:
        print_error(Console(stderr=True), InputError(*faults))
        return EXIT_BAD_INPUT
    context.spare_the_libraries()  # a Ctrl-C that falls into the half second of walking them would be lost
    gc.enable()  # the imports are done
    title = f"{'Going on with' if options.resume else 'Study'} {request.name}"
    about = {**_describe(plan.dataset), **plan.warm_start.lines(), "frozen stages": _reuse(plan.request)}
    print_plan(console, title, plan.space, about, plan.resources.describe(), plan.confirm)
    if options.dry_run:
        return 0
    console.print()
    try:
        with as_ctrl_c():
            result = run_study.run(plan, console, resume=options.resume)
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
    code = _tell(console, request, result)
    return _compared(console, request, recorded, options.tolerance) if recorded and code == 0 else code


def _on_cluster(options, console) -> int:
    """Sends the study to a cluster, or looks after one there; returns the exit code."""
    from rich.console import Console

    from platform.cluster import head_node, jobs

    head_node.use_token()
    from platform.errors import InputError, print_error

    try:
        return jobs.command(options, console)
    except InputError as error:
        print_error(Console(stderr=True), error)
        return EXIT_BAD_INPUT


def _tell(console, request, result) -> int:
    """What came of a study, and what to type next; returns the exit code."""
    from rich.markup import escape

    from platform.runner.console import print_result
    from platform.runner.plan import deliver_command, resume_command
    from platform.study.request import EVENT_LOG

    if result.get("stopped"):
        console.print(f"[red]Stopped:[/] {escape(result['stopped'])}", soft_wrap=True)
        console.print(f"To go on, once that is mended: [bold]{resume_command(request)}[/]", soft_wrap=True)
        return EXIT_INCOMPLETE
    if result["interrupted"] and not (request.folder / EVENT_LOG).exists():
        console.print(NOTHING_STARTED)
        return EXIT_INTERRUPTED
    if result["interrupted"]:
        console.print(f"Interrupted. To go on: [bold]{resume_command(request)}[/]", soft_wrap=True)
        return EXIT_INTERRUPTED
    print_result(console, result, _places(request), _commands(request, result))
    if result["registered"]:
        console.print(f"[green]Registered in MLflow:[/] {result['registered']}", soft_wrap=True, highlight=False)
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
    return 0 if result["best"] else EXIT_INCOMPLETE


def _compared(console, request, recorded, tolerance: float) -> int:
    """Tells whether a replay came to the same; returns the exit code."""
    from platform.runner import replay
    from platform.study import event_log
    from platform.study.request import EVENT_LOG

    same, lines = replay.verdict(recorded, event_log.read(request.folder / EVENT_LOG), tolerance)
    console.print(f"\n[bold]Replay of {recorded.run_id}[/]")
    console.print("\n".join(lines), style="green" if same else "red", markup=False, soft_wrap=True)
    return 0 if same else EXIT_INCOMPLETE


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

    from platform.cluster import ray_runtime
    from platform.training.feature_store import capacity

    if request.store is None:
        return "run in each epoch of each trial"
    if ray_runtime.joins():
        return "run once on each node, their output kept on its own disk"
    most = decimal(capacity(request.store, request.store_gb))
    return f"run once, their output kept in {request.store}, up to {most}"


def _places(request) -> dict[str, str]:
    from platform.runner.results import BEST, FIGURES, WEIGHTS
    from platform.study.request import FINDINGS, RESULT

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
    from platform.runner.plan import storage_option

    uri, server = request.tracking_uri, "http://127.0.0.1:5000"
    ui = f"mlflow ui --backend-store-uri {uri}"
    if uri == f"sqlite:///{Path.cwd() / 'mlflow.db'}":
        ui = "mlflow ui"
    elif uri.startswith("http"):
        ui, server = uri, uri.rstrip("/")  # a server shows its own pages
    commands = [f"{ui:58s} # compare the trials"]
    if result["experiment_id"]:
        commands.append(f"{server}/#{mlflow_store.trials_page(result['experiment_id'], request.name)}")
    if result["trials"]:
        report = f"python -m platform.report {request.name}{storage_option(request)}"
        commands.append(f"{report:58s} # a page of what it found")
    if result["best"]:
        predict = f"python -m platform.predict {request.task} FILE… --model {request.name}{storage_option(request)}"
        commands.append(f"{predict:58s} # use the best model")
        demo = f"python -m platform.demo {request.task} --model {request.name}{storage_option(request)}"
        commands.append(f"{demo:58s} # a page to try it on")
    if result["model_uri"]:
        commands.append(f"MLFLOW_TRACKING_URI={shlex.quote(uri)} {SERVE.format(result['model_uri'])}")
    if request.training_seed is not None:  # a replay
        return commands
    spent = {"trials": len(result["trials"])}
    if result["out_of_time"] or result["out_of_money"]:
        spent = {"time_budget": request.time_budget} if result["out_of_time"] else {"max_cost": request.max_cost}
    more = as_typed(replace(request, **{key: 2 * value for key, value in spent.items()}))
    return [*commands, f"{more:58s} # search longer"]


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
