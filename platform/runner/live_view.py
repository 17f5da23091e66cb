"""A running study in the terminal."""

import time

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from platform.errors import last_line
from platform.search import confirmation
from platform.space import Space
from platform.study.event_log import Event
from platform.study.trials import StudyListener, Trial, TrialTable, best_of
from platform.study.wording import as_text, clock

SHOWN_TRIALS = 12  # rows of the live table
LINE_EVERY_S = 60.0  # between two lines about a running study without a terminal
STATUS_STYLE = {
    "finished": "green",
    "running": "cyan",
    "waiting": "dim",
    "pruned": "yellow",
    "failed": "red",
    "interrupted": "red",
}


class LiveView(StudyListener):
    """Progress of a running study: a live table in a terminal, else a line for each ended trial and one a minute."""

    def __init__(self, space: Space, trial_table: TrialTable, console: Console, time_budget: float | None) -> None:
        self.space, self.trial_table, self.console, self.time_budget = space, trial_table, console, time_budget
        self.started = self.last_line = time.monotonic()
        asked = confirmation.parse(trial_table.confirm)
        self.max_confirmations = asked.max_trainings if asked else 0
        self.ended = sum(trial.is_done for trial in trial_table.trials.values())
        self.earlier_epochs = sum(trial.epochs for trial in trial_table.trials.values())  # of an earlier process
        self.best = best_of(trial_table.trials.values(), space)
        self.live: Live | None = None

    def open(self) -> None:
        """Start the live table if there is a terminal."""
        if self.console.is_terminal:
            self.live = Live(console=self.console, get_renderable=self._render, refresh_per_second=2, transient=True)
            self.live.start()

    def on_report(self, trial: Trial, event: Event) -> None:
        """Update the best score."""
        self.best = best_of(filter(None, (self.best, trial)), self.space)

    def on_attempt_failed(self, trial: Trial, event: Event) -> None:
        """Print why an attempt failed."""
        outcome = "moves to another node" if event.data.get("moved") else "failed and will be tried again"
        self._print_line(f"{trial.name}  {outcome}: {last_line(event.data['error'])}")

    def on_trial_end(self, trial: Trial, event: Event) -> None:
        """Print a line about a trial that is done."""
        if not trial.is_done:
            return
        self.ended += 1
        if trial.status == "failed":
            self.best = best_of(self.trial_table.trials.values(), self.space)  # it may have been this trial
        if not self.live:
            self._print_line(
                f"{trial.name}  {trial.status:9s} {trial.epochs:3d} epochs  "
                f"{self.space.metric} {as_text(trial.best_score(self.space)):8s} best {self._best_score():8s} "
                f"{self._counts()}"
            )

    def tick(self) -> None:
        """Print a line about the running trials if there is no terminal and a minute has passed."""
        if self.live or time.monotonic() - self.last_line < LINE_EVERY_S:
            return
        trials = self.trial_table.trials.values()
        running = [f"{trial.name} {self._progress(trial)}" for trial in trials if trial.status == "running"]
        elapsed, names = time.monotonic() - self.started, ", ".join(running) or "none"
        self._print_line(f"running: {names}  {clock(elapsed)} so far, {self._time_left(elapsed)}")

    def close(self) -> None:
        """Remove the live table from the terminal."""
        if self.live:
            self.live.stop()
            self.live = None

    def _print_line(self, text: str) -> None:
        self.last_line = time.monotonic()
        self.console.print(text, highlight=False, soft_wrap=True, markup=False)

    def _progress(self, trial: Trial) -> str:
        return f"{trial.epochs}/{self.space.max_epochs}"

    def _counts(self) -> str:
        """Return the numbers of ended trials and confirmations."""
        again = sum(trial.is_done for trial in self.trial_table.trials.values() if trial.confirms)
        confirmed = f", {again}/{self.max_confirmations} confirmations" if self.max_confirmations else ""
        return f"{self.ended - again}/{self.space.trials} trials{confirmed}"

    def _best_score(self) -> str:
        return as_text(self.best.best_score(self.space) if self.best else None)

    def _render(self) -> Group:
        trials, elapsed = list(self.trial_table.trials.values()), time.monotonic() - self.started
        counts = ", ".join(
            f"{sum(trial.status == status for trial in trials)} {status}"
            for status in ("running", "finished", "pruned", "failed")
        )
        bar = ProgressBar(self.space.trials + self.max_confirmations, self.ended, width=24)
        head = Table.grid(padding=(0, 2))
        head.add_row(Text(self._counts(), style="bold"), bar, counts)
        best = f"best {self.space.metric} {self._best_score()}"
        head.add_row(best, f"{clock(elapsed)} so far", self._time_left(elapsed))
        keys = list(self.space.searched)[:4]
        table = Table("trial", "", "epochs", self.space.metric, *keys, box=None, pad_edge=False)
        for trial in trials[-SHOWN_TRIALS:]:
            table.add_row(
                trial.name + (f" ({trial.baseline})" if trial.baseline else ""),
                Text(trial.status, style=STATUS_STYLE[trial.status]),
                self._progress(trial),
                as_text(trial.best_score(self.space)) + (" ←" if trial is self.best else ""),
                *[as_text(trial.config.get(key)) for key in keys],
            )
        return Group(head, table)

    def _time_left(self, elapsed: float) -> str:
        """Estimate the time left from the epochs left and the time that an epoch of this process took on average."""
        trials = list(self.trial_table.trials.values())
        epochs = sum(trial.epochs for trial in trials)
        if epochs <= self.earlier_epochs:
            return "time left: after the first epoch"
        running = [trial for trial in trials if not trial.is_done]
        # Until a trial has ended nothing is known about pruning: assume none.
        per_trial = (epochs - sum(t.epochs for t in running)) / self.ended if self.ended else self.space.max_epochs
        confirmations = sum(bool(trial.confirms) for trial in trials)
        epochs_left = sum(max(0.0, per_trial - trial.epochs) for trial in running)
        epochs_left += (self.space.trials - (len(trials) - confirmations)) * per_trial
        epochs_left += (self.max_confirmations - confirmations) * self.space.max_epochs
        seconds = epochs_left * elapsed / (epochs - self.earlier_epochs)
        if self.time_budget:
            seconds = min(seconds, max(0.0, self.time_budget - elapsed))
        return f"{'about' if self.ended else 'up to about'} {clock(seconds)} left"
