"""Search how to fine-tune a pretrained model.

python -m platform.tune detector                                  on the embedded data
python -m platform.tune detector --data DIR --set weights=FILE    on your own
python -m platform.tune detector --set freeze_depth=0..3 --set lr_head=1e-3 --trials 30
"""

import argparse
import atexit
import errno
import gc
import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from platform.errors import (
    EXIT_INCOMPLETE,
    EXIT_INTERRUPTED,
    InputError,
    file_faults,
    print_error,
    raise_if_any,
)
from platform.signals import interrupt_over_errors, note_ctrl_c, raise_if_interrupted, stop_on_sigterm
from platform.study.options import parser, request_of, resumed
from platform.study.request import default_tracking_uri

if TYPE_CHECKING:
    from rich.console import Console

    from platform.runner.plan import Plan
    from platform.runner.replay import RecordedRun

NO_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO)  # the disk is full, read-only or broken


def main(arguments: list[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    options = parser(__doc__).parse_args(arguments)
    note_ctrl_c()
    stop_on_sigterm()
    default_tracking_uri()
    if not options.list and not options.task:
        parser().error("name a task, or use --list to see the tasks")
    from rich.console import Console

    # In a file or a pipe rich would wrap at 80 columns; longer lines are easier to read and to search there.
    console = Console() if sys.stdout.isatty() else Console(width=160)
    if options.list:
        return _list_tasks(console)
    try:
        if options.cluster or options.follow or options.stop:
            return _on_cluster(options, console)
        return _study(options, console)
    except InputError as error:
        return print_error(Console(stderr=True), error)


def _list_tasks(console: "Console") -> int:
    from platform import task

    known, unpaired = task.names()
    for name in known:
        space = task.space(name)
        budget = f"{space.trials} trials of up to {space.max_epochs} epochs"
        console.print(f"[bold]{name:14s}[/] {space.metric} ({space.mode}), {budget}", highlight=False)
    for line in unpaired:
        console.print(f"[yellow]{line}[/]")
    return 0


def _on_cluster(options: argparse.Namespace, console: "Console") -> int:
    """Send the study to a cluster as a job, or follow or stop one there."""
    from platform.cluster import head_node

    head_node.use_token()  # before jobs imports Ray
    from platform.cluster import jobs

    return jobs.command(options, console)


def _study(options: argparse.Namespace, console: "Console") -> int:
    """Run a study from this process, on this machine or on the cluster that it belongs to."""
    # Ray, torch and MLflow take seconds to import: only now, when --help and wrong options are past.
    from platform.cluster import ray_runtime

    ray_runtime.silence_ray_logs()
    from platform.runner import run_study
    from platform.runner.console import print_comparison, print_outcome, print_plan
    from platform.training import context

    plan, recorded = _checked_plan(options, console)
    context.freeze_imports()  # a Ctrl-C that falls into the half second of walking them would be lost
    gc.enable()  # the imports are done
    print_plan(console, plan, resume=options.resume)
    if options.dry_run:
        return 0
    console.print()
    request, result = plan.request, dict[str, Any]()
    try:
        with interrupt_over_errors():
            result = run_study.run(plan, console, resume=options.resume)
    except OSError as error:
        if error.errno not in NO_DISK:
            raise
        result = {"stopped": f"{error.filename or request.folder}: {error.strerror}"}
    except KeyboardInterrupt:  # after the search; during it Ray ends the trials and returns
        result = {"interrupted": True}
    if options.json and "trials" in result:
        Path(options.json).write_text(json.dumps(result, indent=2, ensure_ascii=False))
    print_outcome(console, request, result)
    if result.get("stopped"):
        return EXIT_INCOMPLETE
    if result["interrupted"]:
        return EXIT_INTERRUPTED
    is_complete = bool(result["best"])
    if is_complete and recorded:
        is_complete = print_comparison(console, request, recorded, options.tolerance)
    return 0 if is_complete else EXIT_INCOMPLETE


def _checked_plan(options: argparse.Namespace, console: "Console") -> "tuple[Plan, RecordedRun | None]":
    """Check all that was asked for and connect to Ray; return the plan, and the recorded run that it replays."""
    from platform import task
    from platform.cluster import ray_runtime
    from platform.runner import cluster_setup, replay
    from platform.runner.plan import make_plan
    from platform.tracking.mlflow_store import set_environment

    json_faults = file_faults("--json", options.json) if options.json else []
    try:
        task.check_name(options.task)
        request = resumed(options) if options.resume else request_of(options)
        recorded = replay.read(options.replay, request.tracking_uri) if options.replay else None
        request = replay.request_of(recorded, request) if recorded else request
        # One after the other, though each takes seconds: making the plan and connecting to Ray set environment
        # variables, and where one thread adds one, another that reads any can crash in the C library.
        plan = make_plan(request, resume=options.resume)
        if recorded:
            replay.check(plan, recorded)
    except InputError as error:
        raise InputError(*error.faults, *json_faults) from error
    raise_if_any(json_faults)
    raise_if_interrupted()
    if not options.dry_run or ray_runtime.joins_cluster():
        set_environment()
        os.environ["MLFLOW_TRACKING_URI"] = request.tracking_uri  # the thread that delivers would add it later
        ray_runtime.connect(ray_runtime.resources())
        stop_on_sigterm()  # Ray's own handler would end the process without a word
    if ray_runtime.joins_cluster():
        plan = cluster_setup.with_cluster_resources(plan, console, wait=not options.dry_run)
    raise_if_interrupted()
    return plan, recorded


def run() -> NoReturn:
    """Run the command in a process of its own and end the process."""
    gc.disable()  # during imports it would walk the new objects again and again, for seconds
    try:
        code = main()
    except KeyboardInterrupt:
        print("Interrupted before anything was started.")
        code = EXIT_INTERRUPTED
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)  # Python would take two more seconds to release the libraries


if __name__ == "__main__":
    run()
