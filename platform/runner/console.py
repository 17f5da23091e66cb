"""What a study looks like in a terminal: before it starts, while it runs, and when it is over."""

import itertools
import statistics
import time
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from platform.search import confirmation
from platform.space import Space, show
from platform.study.event_log import Event
from platform.study.trials import Trial, TrialTable
from platform.task import PER_CLASS
from platform.training.reporters import RESUMED

SHOWN_TRIALS = 12
SHOWN_CLASSES = 20  # whose scores are a line each
LINE_EVERY = 60.0  # seconds between lines about a running study, where there is no terminal
NARROW_COLUMNS, VARIED_COLUMN = 60, 15  # characters: of a trial's name, status, epochs, seconds, score; of a parameter
STATUS_STYLE = {
    "finished": "green",
    "running": "cyan",
    "waiting": "dim",
    "pruned": "yellow",
    "failed": "red",
    "interrupted": "red",
}


def print_plan(
    console: Console, title: str, space: Space, data: Mapping[str, str], resources: str, confirm: str = ""
) -> None:
    """The resolved space, the data, the resources, and what is trained again in the end."""
    console.print(Text(title, style="bold"))
    table = Table("parameter", "searched in, or fixed to", "starts at", box=None, pad_edge=False, header_style="bold")
    for key, value in space.params.items():
        table.add_row(key, show(value), _number(space.start[key]) if key in space.start else "")
    console.print(table)
    # The first trial is the start; what is left of a very small budget goes to the baselines.
    baselines = list(itertools.islice(space.baseline_configs(), space.trials - 1))
    for name in baselines:
        changes = space.baselines[name]
        changed = ", ".join(f"{key}={value}" for key, value in changes.items())
        console.print(f"[bold]baseline[/] {name}: the start with {changed}", highlight=False)
    among = ", the baselines among them" if baselines else ""
    budget = f"{_count(space.trials, 'trial')}{among}; up to {_count(space.max_epochs, 'epoch')} each"
    lines = {"metric": f"{space.metric} ({space.mode})", "budget": budget, "confirmation": _confirmed(confirm)}
    lines |= {**data, "resources": resources}
    grid = Table.grid(padding=(0, 2))
    for key, text in lines.items():
        grid.add_row(Text(key, style="bold"), Text(str(text)))
    console.print(grid)


def _confirmed(asked: str) -> str:
    """What --confirm means."""
    if (told := confirmation.parse(asked)) is None:
        return "none: --confirm 3x3 tells whether to believe the best"
    plain = f"{confirmation.ONLY_HEADS}, {confirmation.EVERYTHING}"
    best = "the best configuration" if told.configurations == 1 else f"the {told.configurations} best configurations"
    return f"{best}, {plain}: each with {told.seeds} new seeds, to the full budget"


class LiveView:
    """Shows the study while it runs: a table that redraws itself in a terminal; elsewhere a line per ended trial, and
    one a minute.
    """

    def __init__(self, space: Space, trial_table: TrialTable, console: Console, time_budget: float | None) -> None:
        self.space, self.trial_table, self.console, self.time_budget = space, trial_table, console, time_budget
        self.started = self.last_line = time.monotonic()
        asked = confirmation.parse(trial_table.confirm)
        self.again = asked.most if asked else 0  # trainings after the search, at the most
        self.ended = sum(trial.is_done for trial in trial_table.trials.values())
        self.before = sum(trial.epochs for trial in trial_table.trials.values())  # of a process before
        self.best = self._best()
        self.live: Live | None = None

    def open(self) -> None:
        """Begins to show."""
        if self.console.is_terminal:
            self.live = Live(console=self.console, get_renderable=self._render, refresh_per_second=2, transient=True)
            self.live.start()

    def told(self, event: Event) -> None:
        """Something happened."""
        if event.kind not in ("epoch", "trial_end", "attempt_failed"):
            return
        trial = self.trial_table.trials[event.data["trial_id"]]
        if event.kind == "attempt_failed":
            reason = (event.data["error"].strip().splitlines() or [""])[-1]
            what = "moves to another node" if event.data.get("moved") else "failed and will be tried again"
            self._line(f"{trial.name}  {what}: {reason}")
        elif event.kind == "epoch":
            self._note_score(trial)
        elif trial.is_done:
            self._ended(trial)

    def tick(self) -> None:
        """Time has passed."""
        if self.live or time.monotonic() - self.last_line < LINE_EVERY:
            return
        trials = self.trial_table.trials.values()
        running = [f"{trial.name} {self._progress(trial)}" for trial in trials if trial.status == "running"]
        elapsed = time.monotonic() - self.started
        self._line(f"running: {', '.join(running) or 'none'}  {_clock(elapsed)} so far, {self._left(elapsed)}")

    def close(self) -> None:
        """Takes the live table off the terminal."""
        if self.live:
            self.live.stop()
            self.live = None

    def _note_score(self, trial: Trial) -> None:
        known = [score for score in (self.best, trial.best_score(self.space)) if score is not None]
        if known and self._may_win(trial):
            self.best = max(known, key=self.space.goodness)

    def _ended(self, trial: Trial) -> None:
        self.ended += 1
        if trial.status == "failed":
            self.best = self._best()  # which may have been this one's
        if not self.live:
            score, best = trial.best_score(self.space), self.best
            self._line(
                f"{trial.name}  {trial.status:9s} {trial.epochs:3d} epochs  "
                f"{self.space.metric} {_number(score):8s} best {_number(best):8s} "
                f"{self._counted()}"
            )

    def _line(self, text: str) -> None:
        self.last_line = time.monotonic()
        self.console.print(text, highlight=False, soft_wrap=True, markup=False)

    def _progress(self, trial: Trial) -> str:
        return f"{trial.epochs}/{self.space.max_epochs}"

    def _counted(self) -> str:
        """How many trials are over, and how many trainings after them."""
        again = sum(trial.is_done for trial in self.trial_table.trials.values() if trial.confirms)
        confirmed = f", {again}/{self.again} confirmations" if self.again else ""
        return f"{self.ended - again}/{self.space.trials} trials{confirmed}"

    def _may_win(self, trial: Trial) -> bool:
        return not trial.confirms and trial.status != "failed" and self.space.may_win(trial.config, trial.baseline)

    def _best(self) -> float | None:
        scores = [trial.best_score(self.space) for trial in self.trial_table.trials.values() if self._may_win(trial)]
        known = [score for score in scores if score is not None]
        return max(known, key=self.space.goodness, default=None)

    def _render(self) -> Group:
        trials, best = list(self.trial_table.trials.values()), self.best
        elapsed = time.monotonic() - self.started
        counts = ", ".join(
            f"{sum(trial.status == status for trial in trials)} {status}"
            for status in ("running", "finished", "pruned", "failed")
        )
        head = Table.grid(padding=(0, 2))
        head.add_row(
            Text(self._counted(), style="bold"),
            ProgressBar(self.space.trials + self.again, self.ended, width=24),
            counts,
        )
        head.add_row(f"best {self.space.metric} {_number(best)}", _clock(elapsed) + " so far", self._left(elapsed))
        table = Table(
            "trial", "", "epochs", self.space.metric, *list(self.space.searched)[:4], box=None, pad_edge=False
        )
        for trial in trials[-SHOWN_TRIALS:]:
            score = trial.best_score(self.space)
            mark = " ←" if score is not None and score == best and self._may_win(trial) else ""
            table.add_row(
                trial.name + (f" ({trial.baseline})" if trial.baseline else ""),
                Text(trial.status, style=STATUS_STYLE[trial.status]),
                self._progress(trial),
                _number(score) + mark,
                *[_number(trial.config.get(key)) for key in list(self.space.searched)[:4]],
            )
        return Group(head, table)

    def _left(self, elapsed: float) -> str:
        trials = list(self.trial_table.trials.values())
        epochs = sum(trial.epochs for trial in trials)
        if (now := epochs - self.before) <= 0:
            return "time left: after the first epoch"
        running = [trial for trial in trials if not trial.is_done]
        # Until a trial has ended nothing is known of how many are cut: none, then.
        per_trial = (epochs - sum(t.epochs for t in running)) / self.ended if self.ended else self.space.max_epochs
        to_do = sum(max(0.0, per_trial - t.epochs) for t in running)
        first = sum(not trial.confirms for trial in trials)
        to_do += (self.space.trials - first) * per_trial
        to_do += (self.again - (len(trials) - first)) * self.space.max_epochs
        left = to_do * elapsed / now
        if self.time_budget:
            left = min(left, max(0.0, self.time_budget - elapsed))
        return f"{'about' if self.ended else 'up to about'} {_clock(left)} left"


def print_result(
    console: Console, result: Mapping[str, Any], paths: Mapping[str, str], commands: Sequence[str]
) -> None:
    """The trials, the best configuration with its test scores, where everything lies, and what to type next.

    Args:
        console: Where to.
        result: As written to --json.
        paths: Places, by what lies there.
        commands: Shell commands.
    """
    metric, best = result["metric"], result["best"]
    varied = _varied([trial["config"] for trial in result["trials"] if not trial["baseline"]])
    varied = varied[: max(1, (console.width - NARROW_COLUMNS) // VARIED_COLUMN)]
    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("trial", "", "epochs", "seconds", metric):
        table.add_column(title, no_wrap=True)
    for key in varied:
        table.add_column(key, overflow="fold")
    order = sorted(result["trials"], key=lambda trial: _sort_key(trial, metric, result["mode"]))
    for trial in order:
        status, is_best = trial["status"], best is not None and trial["trial_id"] == best["trial_id"]
        name = trial["name"] + (f" ({trial['baseline']})" if trial["baseline"] else "")
        table.add_row(
            name,
            Text(status, style=STATUS_STYLE.get(status, "")),
            str(trial["epochs"]),
            f"{trial['seconds']:.0f}",
            _number(trial["metrics"].get(metric)),
            *[_number(trial["config"].get(key)) for key in varied],
            style="bold" if is_best else "",
        )
    console.print(table)
    for trial in order:
        if trial["status"] == "failed":
            console.print(Text(f"{trial['name']} failed: {trial['error']}", style="red"), soft_wrap=True)
        for reason in dict.fromkeys(trial["retried"]):
            count = _count(trial["retried"].count(reason), "time")
            console.print(Text(f"{trial['name']} was tried again, {count}: {reason}", style="yellow"), soft_wrap=True)
        for reason in dict.fromkeys(trial["moved"]):
            count = _count(trial["moved"].count(reason), "time")
            console.print(Text(f"{trial['name']} moved to another node, {count}: {reason}"), soft_wrap=True)
        if RESUMED in trial["notes"]:
            console.print(Text(f"{trial['name']}: {trial['notes'][RESUMED]}", style="yellow"), soft_wrap=True)
    if best is None:
        console.print(Text(_why_no_best(result), style="red"), soft_wrap=True)
    else:
        console.print(Text("\nBest configuration", style="bold"), Text(f"({best['name']})"))
        for key, value in best["config"].items():
            console.print(Text(f"  {key:24s}{_number(value)}"))
        for line in _better_baselines(result, order):
            console.print(Text(line, style="yellow"), soft_wrap=True)
        _print_scores(console, result)
    _print_confirmation(console, result)
    if best is not None and result["out_of_time"]:
        console.print(Text("Time was up before all was trained: --time-budget.", style="yellow"), soft_wrap=True)
    for alarm in result["alarms"]:
        console.print(Text(f"Alarm: {alarm}", style="red"), soft_wrap=True)
    _print_reuse(console, result["reuse"])
    _print_spent(console, result)
    if result["pareto"]:
        names = [trial["name"] for trial in order if trial["trial_id"] in result["pareto"]]
        console.print(Text("\nBeaten by none in all objectives (Pareto)", style="bold"), ", ".join(names))
    console.print(Text("\nWhere everything lies", style="bold"))
    for what, where in paths.items():
        console.print(Text(f"  {what:24s}{where}"), soft_wrap=True)
    console.print(Text("\nNext", style="bold"))
    for command in commands:
        console.print(Text(f"  {command}"), soft_wrap=True)


def _better_baselines(result: Mapping[str, Any], order: Sequence[Mapping[str, Any]]) -> list[str]:
    """What is told of baselines that did better in the search than the best, and could not be it.

    Args:
        result: The study's.
        order: Its trials, the best score first.
    """
    metric, best = result["metric"], result["best"]["trial_id"]
    [score] = [trial["metrics"][metric] for trial in order if trial["trial_id"] == best]
    # What was trained again could have been the best, and lost there.
    again = {row["trial_id"] for row in result["confirmation"]["rows"]} if result["confirmation"] else set()
    told = []
    for trial in itertools.takewhile(lambda trial: trial["trial_id"] != best, order):
        if trial["baseline"] and trial["trial_id"] not in again and trial["metrics"][metric] != score:
            better = f"{metric} {_number(trial['metrics'][metric])} against {_number(score)}"
            told.append(f"{trial['baseline']} did better, {better}, but is not among what was searched.")
    return told


def _print_confirmation(console: Console, result: Mapping[str, Any]) -> None:
    """Whether the best configuration stands beside the plain baselines, over seeds."""
    if not (told := result["confirmation"]):
        return
    table = Table("", told["test_metric"], "95 % interval", "seeds", box=None, pad_edge=False, header_style="bold")
    for row in told["rows"]:
        interval = "–" if row["low"] is None else f"{row['low']:.3f} to {row['high']:.3f}"
        style = "bold" if row["name"] == told["winner"] else ""
        table.add_row(row["name"], _number(row["mean"]), interval, str(confirmation.scored(row)), style=style)
    console.print(Text("\nTrained again over seeds, scored on the test split", style="bold"))
    console.print(table)
    console.print(Text(told["verdict"], style="green" if told["is_champion"] else "yellow"), soft_wrap=True)


def _print_reuse(console: Console, reuse: Mapping[str, Any]) -> None:
    """What the prefix store spared, and which trials went without it, and why."""
    if not reuse:
        return
    told = f"{reuse['loaded']:,.0f} times an example came out of frozen stages ready, {reuse['computed']:,.0f} times it"
    told += f" was computed for that; about {_clock(max(0.0, reuse['saved']))} of a core saved"
    console.print(Text("\nReuse", style="bold"), told, soft_wrap=True, highlight=False)
    for name, note in reuse["without"].items():
        console.print(Text(f"  {name}: {note}", style="yellow"), soft_wrap=True)


def _print_spent(console: Console, result: Mapping[str, Any]) -> None:
    """What the nodes of a cluster have cost."""
    if not (spent := result["spent"]):
        return
    hours = ", ".join(f"{hours:.2f} h of {kind or 'nodes'}" for kind, hours in spent["hours"].items())
    dollars = f"; {spent['total']:.2f} US dollars in all" if spent["total"] else "; the cluster's yaml has no prices"
    over = " The search ended there: --max-cost." if result["out_of_money"] else ""
    console.print(Text("\nSpent", style="bold"), f"{hours}{dollars}.{over}", soft_wrap=True, highlight=False)


def _why_no_best(result: Mapping[str, Any]) -> str:
    searched = [trial for trial in result["trials"] if not trial["baseline"]]
    if result["out_of_time"] and not any(trial["epochs"] or trial["status"] == "failed" for trial in searched):
        return "Time was up before an epoch ended: there is no best configuration. Allow more with --time-budget."
    if result["out_of_money"] and not any(trial["epochs"] for trial in searched):
        return "The money was spent before an epoch ended: there is no best configuration. Allow more with --max-cost."
    return "No trial of what was searched succeeded: there is no best configuration."


def _print_scores(console: Console, result: Mapping[str, Any]) -> None:
    """The best trial's scores on the test split beside the baselines' and references', then the rest of them."""
    best = result["best"]["test_metrics"]
    rows = {"best": best, **{b["baseline"]: b["test_metrics"] for b in result["baselines"]}, **result["references"]}
    keys, left = [key for key in best if PER_CLASS not in key], console.width - max(map(len, rows))
    widths = itertools.accumulate(len(key) + 2 for key in keys)
    columns = [key for key, width in zip(keys, widths, strict=True) if width <= left or key == keys[0]]
    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("", *columns):
        table.add_column(title, no_wrap=True)
    for name, metrics in rows.items():
        style = "bold" if metrics is best else ""
        table.add_row(name, *[_number(metrics.get(key)) for key in columns], style=style)
    console.print(Text("\nScores on the test split, which the search never saw", style="bold"))
    console.print(table)
    for reason in result["left_out"]:
        console.print(Text(f"No reference beside it: {reason}", style="yellow"), soft_wrap=True)
    for reason in result["no_map"]:
        console.print(Text(reason, style="yellow"), soft_wrap=True)
    rest = {key: value for key, value in best.items() if key not in columns}
    if rest:
        console.print(Text("\nMore of the best configuration's", style="bold"))
    for line in _in_short(rest):
        console.print(Text(f"  {line}"), soft_wrap=True)


def _in_short(scores: Mapping[str, float]) -> list[str]:
    """A line for each score; where there are those of more classes than a person reads, of them the ends."""
    of_classes: dict[str, dict[str, float]] = {}
    for key, value in scores.items():
        what, is_of_a_class, name = key.partition(PER_CLASS)
        if is_of_a_class:
            of_classes.setdefault(what + PER_CLASS, {})[name] = value
    many = {what: values for what, values in of_classes.items() if len(values) > SHOWN_CLASSES}
    lines = [f"{key:36s}{value:.4f}" for key, value in scores.items() if not key.startswith(tuple(many))]
    for what, values in many.items():
        nothing = sum(value == 0 for value in values.values())
        median = statistics.median(values.values())
        told = f"{median:.4f}, the median of {len(values)} classes; {nothing} scored 0; all are in the result"
        lines.append(f"{what + '…':36s}{told}")
        ranked = sorted(values, key=lambda name: -values[name])
        ends = (ranked[: SHOWN_CLASSES // 4], ranked[-SHOWN_CLASSES // 4 :])
        best, weakest = ([f"  {name:34s}{values[name]:.4f}" for name in end] for end in ends)
        lines += [*best, "  …", *weakest]
    return lines


def _varied(configs: list[dict[str, Any]]) -> list[str]:
    """The parameters that the search varied."""
    keys = configs[0] if configs else {}
    return [key for key in keys if len({str(config.get(key)) for config in configs}) > 1]


def _sort_key(trial: Mapping[str, Any], metric: str, mode: str) -> tuple[bool, float]:
    score = trial["metrics"].get(metric)
    missing = score is None or trial["status"] == "failed"
    return missing, 0.0 if missing else (-score if mode == "max" else score)


def _count(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def _number(value: Any) -> str:
    if value is None:
        return "–"
    if isinstance(value, float):
        return f"{value:.3g}" if abs(value) < 0.01 or abs(value) >= 1000 else f"{value:.3f}"
    return str(value)


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
