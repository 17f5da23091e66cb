"""A study in the terminal: its plan before it starts, and its result at the end."""

import itertools
import shlex
import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.filesize import decimal
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from platform.cluster import ray_runtime
from platform.runner import replay
from platform.runner.live_view import STATUS_STYLE
from platform.runner.plan import Plan, deliver_command, resume_command, storage_option
from platform.runner.replay import RecordedRun
from platform.search import confirmation
from platform.space import former_name_notices, show
from platform.study import event_log
from platform.study.options import as_typed
from platform.study.request import BEST, EVENT_LOG, FIGURES, FINDINGS, RESULT, WEIGHTS, Request
from platform.study.wording import as_text, clock, counted
from platform.task import PER_CLASS
from platform.tracking.mlflow_store import trials_page
from platform.training.feature_store import capacity
from platform.training.reporters import RESUMED

NOTHING_STARTED = "Interrupted before anything was started."
SHOWN_CLASSES = 20  # of more classes than these, only the best and the weakest are printed
NARROW_COLUMNS, VARIED_COLUMN = 60, 15  # characters: name, status, epochs, seconds and score; one parameter
SERVE = "mlflow models serve -m {} --env-manager local --host 127.0.0.1 --port 5001"


def print_plan(console: Console, plan: Plan, resume: bool = False) -> None:
    """Print the resolved space, the data, the resources and the extent of the confirmation."""
    space, request = plan.space, plan.request
    console.print(Text(f"{'Continuing study' if resume else 'Study'} {request.name}", style="bold"))
    for notice in former_name_notices(request.settings):
        console.print(f"[yellow]Note:[/] {escape(notice)}", highlight=False)
    table = Table("parameter", "searched in, or fixed to", "starts at", box=None, pad_edge=False, header_style="bold")
    for key, value in space.params.items():
        table.add_row(key, show(value), as_text(space.start[key]) if key in space.start else "")
    console.print(table)
    # The first trial is the start. A very small budget leaves room for some of the baselines only.
    baselines = list(itertools.islice(space.baseline_configs(), space.trials - 1))
    for name in baselines:
        changed = ", ".join(f"{key}={value}" for key, value in space.baselines[name].items())
        console.print(f"[bold]baseline[/] {name}: the start with {changed}", highlight=False)
    among = ", the baselines among them" if baselines else ""
    lines = {
        "metric": f"{space.metric} ({space.mode})",
        "budget": f"{counted(space.trials, 'trial')}{among}; up to {counted(space.max_epochs, 'epoch')} each",
        "confirmation": _confirmation_line(plan.confirm),
        "data": plan.dataset.name,
        **plan.dataset.lines(),
        **plan.warm_start.lines(),
        "frozen stages": _reuse_line(request),
        "resources": plan.resources.describe(),
    }
    grid = Table.grid(padding=(0, 2))
    for key, text in lines.items():
        grid.add_row(Text(key, style="bold"), Text(str(text)))
    console.print(grid)


def _confirmation_line(asked: str) -> str:
    """Explain the value of --confirm."""
    if (extent := confirmation.parse(asked)) is None:
        return "none; use --confirm 3x3 to learn whether the best result is reliable"
    plain = f"{confirmation.ONLY_HEADS}, {confirmation.EVERYTHING}"
    best = "best configuration" if extent.configurations == 1 else f"{extent.configurations} best configurations"
    return f"the {best}, {plain}: each with {extent.seeds} new seeds, to the full budget"


def _reuse_line(request: Request) -> str:
    """Say what becomes of the outputs of frozen stages."""
    if request.store is None:
        return "run in each epoch of each trial"
    if ray_runtime.joins_cluster():
        return "run once on each node; their output is kept on the node's own disk"
    limit = decimal(capacity(request.store, request.store_gb))
    return f"run once; their output is kept in {request.store}, up to {limit}"


def print_outcome(console: Console, request: Request, result: Mapping[str, Any]) -> None:
    """Print the result of a study, or why it has none, and the commands to use next.

    `result` is as in result.json; with nothing but "stopped" or "interrupted" if the study ended without one.
    """
    resume = f"[bold]{resume_command(request)}[/]"
    if result.get("stopped"):
        console.print(f"[red]Stopped:[/] {escape(result['stopped'])}", soft_wrap=True)
        console.print(f"Repair that, then continue the study with: {resume}", soft_wrap=True)
        return
    if result["interrupted"]:
        is_started = (request.folder / EVENT_LOG).exists()
        console.print(f"Interrupted. To continue: {resume}" if is_started else NOTHING_STARTED, soft_wrap=True)
        return
    print_result(console, result, _places(request), _next_commands(request, result))
    if result["registered"]:
        console.print(f"[green]Registered in MLflow:[/] {result['registered']}", soft_wrap=True, highlight=False)
    if result["not_copied"]:
        _print_line(console, f"Not all of the study reached {request.remote}: {result['not_copied']}", "red")
        _print_line(console, f"The whole study is in {request.folder}.")
    if result["not_deleted"]:
        trials = ", ".join(result["not_deleted"])
        _print_line(console, f"The checkpoints of these trials could not be deleted: {trials}.", "yellow")
    if result["undelivered"]:
        records = f"{result['undelivered']} events did not reach MLflow at {request.tracking_uri}"
        _print_line(console, f"{records}: {result['undelivered_reason']}", "red")
        console.print(f"They are kept. To deliver them: [bold]{deliver_command(request)}[/]", soft_wrap=True)


def print_comparison(console: Console, request: Request, recorded: RecordedRun, tolerance: float) -> bool:
    """Print how a replay compares with the recorded run; return whether it reproduced the run."""
    is_same, lines = replay.verdict(recorded, event_log.read(request.folder / EVENT_LOG), tolerance)
    console.print(f"\n[bold]Replay of {recorded.run_id}[/]")
    console.print("\n".join(lines), style="green" if is_same else "red", markup=False, soft_wrap=True)
    return is_same


def print_result(
    console: Console, result: Mapping[str, Any], places: Mapping[str, str], commands: Sequence[str]
) -> None:
    """Print the trials, the best configuration with its test scores, all places, and the commands to use next.

    Args:
        console: Where to print.
        result: As written to result.json.
        places: Paths and addresses by what is found there.
        commands: Shell commands.
    """
    metric, best = result["metric"], result["best"]
    ranked = sorted(result["trials"], key=lambda trial: _sort_key(trial, metric, result["mode"]))
    _print_trials(console, result, ranked)
    for trial in ranked:
        _print_troubles(console, trial)
    if best is None:
        _print_line(console, _why_no_best(result), "red")
    else:
        console.print(Text("\nBest configuration", style="bold"), Text(f"({best['name']})"))
        for key, value in best["config"].items():
            _print_line(console, f"  {key:24s}{as_text(value)}")
        for line in _better_baselines(result, ranked):
            _print_line(console, line, "yellow")
        _print_scores(console, result)
    _print_confirmation(console, result)
    if best is not None and result["out_of_time"]:
        _print_line(console, "The time budget ended before all trials were trained.", "yellow")
    for alarm in result["alarms"]:
        _print_line(console, f"Alarm: {alarm}", "red")
    _print_reuse(console, result["reuse"])
    _print_spent(console, result)
    if result["pareto"]:
        names = [trial["name"] for trial in ranked if trial["trial_id"] in result["pareto"]]
        console.print(Text("\nNot dominated in the objectives (Pareto front)", style="bold"), ", ".join(names))
    _print_line(console, "\nWhere everything is", "bold")
    for content, place in places.items():
        _print_line(console, f"  {content:24s}{place}")
    _print_line(console, "\nNext", "bold")
    for command in commands:
        _print_line(console, f"  {command}")


def _print_line(console: Console, text: str, style: str = "") -> None:
    """Print a text literally on one line, however long it is."""
    console.print(Text(text, style=style), soft_wrap=True)


def _table(*titles: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in titles:
        table.add_column(title, no_wrap=True)
    return table


def _print_trials(console: Console, result: Mapping[str, Any], ranked: Sequence[Mapping[str, Any]]) -> None:
    """Print a table of the trials with as many of the searched parameters as have room."""
    configs = [trial["config"] for trial in result["trials"] if not trial["baseline"]]
    varied = [key for key in (configs or [{}])[0] if len({str(config.get(key)) for config in configs}) > 1]
    varied = varied[: max(1, (console.width - NARROW_COLUMNS) // VARIED_COLUMN)]
    table = _table("trial", "", "epochs", "seconds", result["metric"])
    for key in varied:
        table.add_column(key, overflow="fold")
    for trial in ranked:
        is_best = result["best"] is not None and trial["trial_id"] == result["best"]["trial_id"]
        table.add_row(
            trial["name"] + (f" ({trial['baseline']})" if trial["baseline"] else ""),
            Text(trial["status"], style=STATUS_STYLE.get(trial["status"], "")),
            str(trial["epochs"]),
            f"{trial['seconds']:.0f}",
            as_text(trial["metrics"].get(result["metric"])),
            *[as_text(trial["config"].get(key)) for key in varied],
            style="bold" if is_best else "",
        )
    console.print(table)


def _print_troubles(console: Console, trial: Mapping[str, Any]) -> None:
    """Print why a trial failed, was tried again, moved to another node or resumed from an earlier checkpoint."""
    if trial["status"] == "failed":
        _print_line(console, f"{trial['name']} failed: {trial['error']}", "red")
    for key, event, style in (("retried", "was tried again", "yellow"), ("moved", "moved to another node", "")):
        for reason, count in Counter(trial[key]).items():
            _print_line(console, f"{trial['name']} {event}, {counted(count, 'time')}: {reason}", style)
    if RESUMED in trial["notes"]:
        _print_line(console, f"{trial['name']}: {trial['notes'][RESUMED]}", "yellow")


def _places(request: Request) -> dict[str, str]:
    """Return where the parts of a finished study are, by what they are."""
    folder = request.folder
    places = {
        "study": folder,
        "best model": folder / BEST,
        "figures and reports": folder / FIGURES,
        "weights to start from": folder / WEIGHTS,
        "result": folder / RESULT,
        "findings in the data": folder / FINDINGS,
    }
    existing = {content: str(place) for content, place in places.items() if place.exists()}
    if request.remote:
        existing["copy in the bucket"] = request.remote
    return {**existing, "MLflow": f"experiment {request.experiment} at {request.tracking_uri}"}


def _next_commands(request: Request, result: Mapping[str, Any]) -> list[str]:
    """Return commands, with comments, that use a study's result."""
    uri, server = request.tracking_uri, "http://127.0.0.1:5000"
    ui = f"mlflow ui --backend-store-uri {uri}"
    if uri == f"sqlite:///{Path.cwd() / 'mlflow.db'}":
        ui = "mlflow ui"
    elif uri.startswith("http"):
        ui, server = uri, uri.rstrip("/")  # a server shows its own pages
    commands = [f"{ui:58s} # compare the trials"]
    if result["experiment_id"]:
        commands.append(f"{server}/#{trials_page(result['experiment_id'], request.name)}")
    storage = storage_option(request)
    if result["trials"]:
        report = f"python -m platform.report {request.name}{storage}"
        commands.append(f"{report:58s} # a page about the study")
    if result["best"]:
        predict = f"python -m platform.predict {request.task} FILE… --model {request.name}{storage}"
        demo = f"python -m platform.demo {request.task} --model {request.name}{storage}"
        commands += [f"{predict:58s} # use the best model", f"{demo:58s} # a page to try it on"]
    if result["model_uri"]:
        commands.append(f"MLFLOW_TRACKING_URI={shlex.quote(uri)} {SERVE.format(result['model_uri'])}")
    if request.training_seed is not None:  # a replay
        return commands
    doubled: dict[str, Any] = {"trials": 2 * len(result["trials"])}
    if result["out_of_time"] and request.time_budget:
        doubled = {"time_budget": 2 * request.time_budget}
    elif result["out_of_money"] and request.max_cost:
        doubled = {"max_cost": 2 * request.max_cost}
    return [*commands, f"{as_typed(replace(request, **doubled)):58s} # search longer"]


def _better_baselines(result: Mapping[str, Any], ranked: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return a sentence for each baseline that did better in the search than the best trial, and could not win."""
    metric, best = result["metric"], result["best"]["trial_id"]
    [score] = [trial["metrics"][metric] for trial in ranked if trial["trial_id"] == best]
    # A trial that was trained again could have won, and lost there.
    confirmed = {row["trial_id"] for row in result["confirmation"]["rows"]} if result["confirmation"] else set()
    lines = []
    for trial in itertools.takewhile(lambda trial: trial["trial_id"] != best, ranked):
        if trial["baseline"] and trial["trial_id"] not in confirmed and trial["metrics"][metric] != score:
            better = f"{metric} {as_text(trial['metrics'][metric])} against {as_text(score)}"
            lines.append(f"{trial['baseline']} did better, {better}, but is not in the space that was searched.")
    return lines


def _print_confirmation(console: Console, result: Mapping[str, Any]) -> None:
    """Print how the best configurations compare with the plain baselines over several seeds."""
    if not (confirmed := result["confirmation"]):
        return
    table = _table("", confirmed["test_metric"], "95 % interval", "seeds")
    for row in confirmed["rows"]:
        interval = "–" if row["low"] is None else f"{row['low']:.3f} to {row['high']:.3f}"
        style = "bold" if row["name"] == confirmed["winner"] else ""
        table.add_row(row["name"], as_text(row["mean"]), interval, str(confirmation.scored(row)), style=style)
    _print_line(console, "\nTrained again over seeds, scored on the test split", "bold")
    console.print(table)
    _print_line(console, confirmed["verdict"], "green" if confirmed["is_champion"] else "yellow")


def _print_reuse(console: Console, reuse: Mapping[str, Any]) -> None:
    """Print what the feature store saved, and which trials could not use it."""
    if not reuse:
        return
    text = f"the outputs of frozen stages were loaded for {reuse['loaded']:,.0f} examples and computed for "
    text += f"{reuse['computed']:,.0f}; about {clock(max(0.0, reuse['saved']))} of one core's time were saved"
    console.print(Text("\nReuse", style="bold"), text, soft_wrap=True, highlight=False)
    for name, note in reuse["without"].items():
        _print_line(console, f"  {name}: {note}", "yellow")


def _print_spent(console: Console, result: Mapping[str, Any]) -> None:
    """Print what the nodes of a cluster have cost."""
    if not (spent := result["spent"]):
        return
    hours = ", ".join(f"{hours:.2f} h of {kind or 'nodes'}" for kind, hours in spent["hours"].items())
    dollars = f"{spent['total']:.2f} US dollars in all" if spent["total"] else "the cluster's yaml has no prices"
    over = " The search ended because --max-cost was reached." if result["out_of_money"] else ""
    console.print(Text("\nSpent", style="bold"), f"{hours}; {dollars}.{over}", soft_wrap=True, highlight=False)


def _why_no_best(result: Mapping[str, Any]) -> str:
    searched = [trial for trial in result["trials"] if not trial["baseline"]]
    if not any(trial["epochs"] or trial["status"] == "failed" for trial in searched):
        for key, option in (("out_of_time", "--time-budget"), ("out_of_money", "--max-cost")):
            if result[key]:
                return f"{option} was reached before an epoch ended: there is no best configuration. Allow more of it."
    return "No trial of the search succeeded: there is no best configuration."


def _print_scores(console: Console, result: Mapping[str, Any]) -> None:
    """Print the test scores of the best trial beside those of baselines and references, then its other scores."""
    best = result["best"]["test_metrics"]
    rows = {"best": best, **{b["baseline"]: b["test_metrics"] for b in result["baselines"]}, **result["references"]}
    keys, room = [key for key in best if PER_CLASS not in key], console.width - max(map(len, rows))
    widths = itertools.accumulate(len(key) + 2 for key in keys)
    columns = [key for key, width in zip(keys, widths, strict=True) if width <= room or key == keys[0]]
    table = _table("", *columns)
    for name, metrics in rows.items():
        style = "bold" if metrics is best else ""
        table.add_row(name, *[as_text(metrics.get(key)) for key in columns], style=style)
    _print_line(console, "\nScores on the test split, which the search never used", "bold")
    console.print(table)
    for reason in [*(f"A reference is missing: {reason}" for reason in result["left_out"]), *result["no_map"]]:
        _print_line(console, reason, "yellow")
    if others := {key: value for key, value in best.items() if key not in columns}:
        _print_line(console, "\nMore scores of the best configuration", "bold")
    for line in _summarized(others):
        _print_line(console, f"  {line}")


def _summarized(scores: Mapping[str, float]) -> list[str]:
    """Return a line for each score; of a score with many classes the median, the best and the weakest classes."""
    by_class: dict[str, dict[str, float]] = {}
    for key, value in scores.items():
        metric, is_of_a_class, name = key.partition(PER_CLASS)
        if is_of_a_class:
            by_class.setdefault(metric + PER_CLASS, {})[name] = value
    many = {metric: values for metric, values in by_class.items() if len(values) > SHOWN_CLASSES}
    lines = [f"{key:36s}{value:.4f}" for key, value in scores.items() if not key.startswith(tuple(many))]
    for metric, values in many.items():
        zeros = sum(value == 0 for value in values.values())
        median = statistics.median(values.values())
        counts = f"the median of {len(values)} classes; {zeros} scored 0; all are in the result"
        lines.append(f"{metric + '…':36s}{median:.4f}, {counts}")
        ranked = [f"  {name:34s}{values[name]:.4f}" for name in sorted(values, key=lambda name: -values[name])]
        lines += [*ranked[: SHOWN_CLASSES // 4], "  …", *ranked[-SHOWN_CLASSES // 4 :]]
    return lines


def _sort_key(trial: Mapping[str, Any], metric: str, mode: str) -> tuple[bool, float]:
    score = trial["metrics"].get(metric)
    missing = score is None or trial["status"] == "failed"
    return missing, 0.0 if missing else (-score if mode == "max" else score)
