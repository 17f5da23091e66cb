"""Command-line options of `python -m platform.tune`, and their conversion to a request and back."""

import argparse
import math
import shlex
import time
from dataclasses import asdict, replace

from platform.study.request import default_tracking_uri
from platform.study.settings import absolute_paths

# Fields of a request that are not written as --field VALUE.
SPECIAL_FIELDS = ("task", "name", "id", "fingerprint", "training_seed", "settings", "data", "warm_start")

# Fields that have the value of the option of the same name.
SAME_FIELDS = (
    "trials", "epochs", "seed", "concurrent", "cpus_per_trial", "gpus_per_trial", "no_reuse", "store_gb", "max_cost",
    "wait_for_nodes",
)  # fmt: skip


def parser(description: str | None = None) -> argparse.ArgumentParser:
    """Return the parser of the options, which are the same for every task."""
    p = argparse.ArgumentParser(
        prog="python -m platform.tune", description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    p.add_argument("task", nargs="?", help="the task to train; --list shows the tasks")
    p.add_argument("--list", action="store_true", help="list the tasks with metric and budget")
    p.add_argument(
        "--dry-run", action="store_true", help="print the resolved space, data and resources, and start nothing"
    )
    what = p.add_argument_group("search")
    what.add_argument("--data", metavar="PLACE", action="append", default=[],
                      help="folder or file with your data, repeated if the task reads several "
                      "(default: the task's embedded data)")  # fmt: skip
    what.add_argument("--set", metavar="KEY=VALUE", action="append", default=[], dest="settings",
                      help="fix a parameter (lr_head=1e-3) or narrow its range "
                      "(freeze_depth=0..3, unfreeze=never,gradual)")  # fmt: skip
    what.add_argument("--warm-start", metavar="STUDY", action="append", default=[],
                      help="try the best configurations of an earlier study in --storage first, or those of the "
                      "studies in an MLflow experiment; can be repeated")  # fmt: skip
    what.add_argument(
        "--trials", type=int, metavar="N", help="number of configurations to try, including the baselines"
    )
    what.add_argument("--epochs", type=int, metavar="N", help="largest number of epochs of a trial")
    what.add_argument("--confirm", metavar="NxM",
                      help="train the best N configurations again with M seeds, beside two baselines (only the heads "
                      "trained; everything trained); or none (default: 1x3 on embedded data)")  # fmt: skip
    what.add_argument(
        "--seed", type=int, default=0, metavar="N", help="seed of splits, search and training (default 0)"
    )
    how = p.add_argument_group("resources")
    how.add_argument(
        "--concurrent",
        type=int,
        metavar="N",
        help="number of trials that run at the same time (default: all cores or GPUs)",
    )
    how.add_argument("--cpus-per-trial", type=int, metavar="N", help="cores and threads per trial (default 1)")
    how.add_argument(
        "--gpus-per-trial", type=finite, metavar="X", help="GPUs per trial; with 0.5, two trials share a GPU"
    )
    how.add_argument("--no-reuse", action="store_true",
                     help="run frozen stages in each epoch instead of once for all trials")  # fmt: skip
    how.add_argument("--store-gb", type=finite, metavar="GB",
                     help="size limit of the stored outputs of frozen stages "
                     "(default: half of the memory, at most a quarter of the free disk)")  # fmt: skip
    how.add_argument("--time-budget", type=finite, metavar="SECONDS", help="stop the search after this time")
    how.add_argument("--max-hours", type=finite, metavar="HOURS", help="the same in hours")
    how.add_argument("--max-cost", type=finite, metavar="USD",
                     help="stop the search when the cluster's nodes have cost this much")  # fmt: skip
    again = p.add_argument_group("replay of a recorded run")
    again.add_argument("--replay", metavar="RUN_ID", help="train this MLflow run again, and compare the scores")
    again.add_argument("--tolerance", type=finite, default=0.01, metavar="X",
                       help="largest accepted difference of a replay's score (default 0.01)")  # fmt: skip
    where = p.add_argument_group("storage and records")
    where.add_argument("--storage", metavar="PLACE",
                       help="folder of studies, s3://… or gs://… (default: studies)")  # fmt: skip
    where.add_argument("--name", help="name of the study (default: task and time)")
    where.add_argument("--resume", action="store_true", help="continue the study --name, or the newest one")
    where.add_argument("--experiment", metavar="NAME", help="MLflow experiment (default: the task)")
    where.add_argument("--tracking-uri", metavar="URI",
                       help="MLflow address (default: MLFLOW_TRACKING_URI, else sqlite:///mlflow.db here)")  # fmt: skip
    where.add_argument("--json", metavar="FILE", help="write the result into this file")
    many = p.add_argument_group("on a cluster")
    many.add_argument("--cluster", metavar="YAML", help="run the study on this cluster as a job, and follow it")
    many.add_argument("--follow", metavar="NAME", help="with --cluster: follow a study that is running there")
    many.add_argument("--stop", metavar="NAME", help="with --cluster: interrupt a study that is running there")
    many.add_argument("--wait-for-nodes", type=finite, default=600.0, metavar="SECONDS",
                      help="time until a trial must have room (default 600)")  # fmt: skip
    return p


def finite(text: str) -> float:
    """Return a finite number from its text.

    Raises:
        ValueError: The text is not a finite number.
    """
    if not math.isfinite(value := float(text)):
        raise ValueError(text)
    return value


finite.__name__ = "finite number"  # argparse shows this name in its error message


def typed(options: argparse.Namespace, but: set[str]) -> list[str]:
    """Return the options that were given as command-line words, without those in `but`."""
    default, words = vars(parser().parse_args([])), list[str]()
    for key, value in vars(options).items():
        if key not in but and value != default[key]:
            name = "--" + key.replace("_", "-")
            each = value if isinstance(value, list) else [value]
            words += [word for one in each for word in ([name] if one is True else [name, str(one)])]
    return words


def new_name(name: str) -> str:
    """Return a name with the current time appended."""
    return f"{name}-{time.strftime('%Y%m%d-%H%M%S')}"


def request_of(options: argparse.Namespace):
    """Return the request that the options make."""
    from platform.storage.filesystem import resolved
    from platform.study.request import Request

    hours = None if options.max_hours is None else 3600 * options.max_hours
    limits = [seconds for seconds in (options.time_budget, hours) if seconds is not None]
    return Request(
        task=options.task,
        name=options.name or new_name(f"replay-{options.replay[:8]}" if options.replay else options.task),
        storage=resolved(options.storage or "studies"),
        experiment=options.experiment or options.task,
        tracking_uri=options.tracking_uri or default_tracking_uri(),
        data=tuple(map(resolved, options.data)),
        time_budget=min(limits, default=None),
        settings=tuple(absolute_paths(setting) for setting in options.settings),
        warm_start=tuple(options.warm_start),
        confirm=options.confirm or "",
        **{key: getattr(options, key) for key in SAME_FIELDS},
    )


def resumed(options: argparse.Namespace):
    """Return the request of the study to resume. Only its place, its name and a confirmation can be given again.

    Raises:
        InputError: Other options are given, or no study fits, or an earlier version began it.
    """
    from platform.errors import Fault, InputError
    from platform.storage.filesystem import resolved
    from platform.study.event_log import first, is_current
    from platform.study.request import EVENT_LOG, read_request, studies_in

    default = vars(parser().parse_args([options.task]))
    again = {"resume", "name", "storage", "json", "dry_run", "confirm"}
    given = [key for key, value in vars(options).items() if key not in again and value != default[key]]
    if given:
        names = ", ".join("--set" if key == "settings" else "--" + key.replace("_", "-") for key in given)
        rule = "--resume continues the study's first request, and takes no other options"
        raise InputError(Fault(rule, names, "Leave these out, or start a new study."))
    place = resolved(options.storage or "studies")
    storage = studies_in(place, options.name)
    begun = {path: first(path) for path in storage.glob(f"*/{EVENT_LOG}")}
    of_task = [path for path, study in begun.items() if study and study.data["request"]["task"] == options.task]
    if not options.name and not of_task:
        rule = "--resume needs an earlier study of the task"
        raise InputError(Fault(rule, f"none of {options.task} in {place}", "Start one without --resume."))
    newest = max(of_task, key=lambda path: path.stat().st_mtime, default=storage).parent
    request = read_request(storage / options.name if options.name else newest)
    if request.task != options.task:
        rule, remedy = "--resume needs a study of the task", f"python -m platform.tune {request.task} --resume …"
        raise InputError(Fault(rule, f"{request.name} is a study of {request.task}", remedy))
    if request.storage != place:
        rule = "--resume needs the study where it was started: its trials hold absolute paths"
        raise InputError(Fault(rule, place, f"Move it back to {request.storage}."))
    start = first(request.folder / EVENT_LOG)
    if start is None or not is_current(start):
        commit = start.data["facts"]["tags"].get("commit", "unknown") if start else "unknown"
        rule, found = "--resume needs a study that this version began", f"{request.name} was begun at commit {commit}"
        remedy = f"Check out that commit to continue it, or start a new study with --warm-start {request.name}."
        raise InputError(Fault(rule, found, remedy))
    return replace(request, confirm=options.confirm or request.confirm)


def as_typed(request) -> str:
    """Return the command that makes the same request for a new study."""
    default = asdict(request_of(parser().parse_args([request.task])))
    words = ["python", "-m", "platform.tune", request.task]
    for key, value in asdict(request).items():
        if key in SPECIAL_FIELDS or value == default[key]:
            continue
        words += ["--" + key.replace("_", "-"), *([] if value is True else [str(value)])]
    words += [word for place in request.data for word in ("--data", place)]
    words += [word for name in request.warm_start for word in ("--warm-start", name)]
    return shlex.join(words + [word for setting in request.settings for word in ("--set", setting)])
