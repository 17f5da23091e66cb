"""Decisions about the trials of a study: which one starts next, and which ones are pruned, retried or given up.

The module depends neither on Ray Tune's trials nor on MLflow. The first config comes first, then the baselines. They
are trained to the full budget, and the sampler does not learn of them, because few of their configs lie in the space.
Once all trials are done, the best configs are trained again over several seeds if this was asked for, and the plain
baselines as soon as there is room (`platform.search.confirmation`). Everything follows from the trial table, so that a
study which was killed continues as if it had not been.
"""

from collections import deque
from collections.abc import Mapping
from enum import Enum
from typing import Any

from platform.errors import last_line
from platform.search import confirmation
from platform.search.sampler import Sampler
from platform.search.scheduler import PruningScheduler
from platform.search.warm_start import first_configs
from platform.space import Space
from platform.study.trials import Trial, TrialTable

MAX_ATTEMPTS = 3  # in a row without a finished epoch; then the trial has failed
MAX_MOVES = 20  # the same for lost nodes: the trial itself may be what takes them down
ENDED_EARLY = "The trial ended before its last epoch without an error."


class Cause(Enum):
    """Cause of a failed attempt, as far as it decides what happens next."""

    OTHER = "other"  # the trial is retried
    PERMANENT = "permanent"  # another attempt would fail in the same way
    OUT_OF_MEMORY = "out of memory"  # the trial is retried with a larger share of a GPU
    STORAGE = "storage"  # checkpoints cannot be kept: the disk is full or the bucket does not answer
    NODE = "node"  # the node was lost or is unfit: the trial moves to another one


class SearchController:
    """Makes the decisions of a study, and records each one before it takes effect.

    Attributes:
        stop_reason: Why no more trials start although some are left, "" if there is no such reason.
        budget_spent: Whether the study has cost what it may. Running trials are then stopped and no more start.
    """

    def __init__(self, space: Space, seed: int, trial_table: TrialTable, gpus: float = 0.0) -> None:
        """`gpus` is the share of a GPU that a trial gets."""
        self.space, self.seed, self.trial_table, self.gpus = space, seed, trial_table, gpus
        self.stop_reason, self.budget_spent = "", False
        self.confirmations = confirmation.parse(trial_table.confirm)
        known = list(trial_table.trials.values())
        used = {trial.baseline for trial in known}
        self._baselines = deque((name, config) for name, config in space.baseline_configs().items() if name not in used)
        proposed = [trial for trial in known if trial.is_searched]
        self.sampler = Sampler(space, seed, proposed, first_configs(trial_table.events, space))
        self.scheduler, self.pruned = PruningScheduler(space), set[str]()
        self._replay_reports()
        self._queue = deque(trial for trial in known if not trial.is_done)
        for trial in list(self._queue):  # an earlier process may have been killed just before it recorded the end
            if self._has_ended(trial):
                self._queue.remove(trial)
                self.on_trial_complete(trial)

    @property
    def is_over(self) -> bool:
        """True if all trials and all confirmations are done."""
        trials = self.trial_table.trials.values()
        return self._search_is_over() and self._next_confirmation() is None and all(trial.is_done for trial in trials)

    def next_trial(self) -> Trial | None:
        """Return the trial to start or to continue, None if there is none now."""
        if self._queue:
            return self._queue.popleft()
        if self.stop_reason or self.budget_spent:
            return None
        number = 1 + sum(not trial.confirms for trial in self.trial_table.trials.values())
        if number > self.space.trials:
            if (confirmed := self._next_confirmation()) is None:
                return None
            row, seed = confirmed
            return self._add(f"{row.slug}-seed-{seed}", row.config, confirms=row.name, seed=seed)
        trial_id = f"{number:03d}"
        if number > 1 and self._baselines:
            baseline, config = self._baselines.popleft()
            return self._add(trial_id, config, baseline)
        return self._add(trial_id, {**self.space.fixed, **self.sampler.ask(trial_id)})

    def on_trial_start(self, trial: Trial) -> None:
        """Record that an attempt at a trial began."""
        self._record("trial_start", trial_id=trial.id)

    def on_report(
        self,
        trial: Trial,
        epoch: int,
        metrics: Mapping[str, float],
        notes: Mapping[str, str],
        last: bool = False,
        first_unfreeze: int | None = None,
    ) -> bool:
        """Record a report, and decide whether the trial continues.

        Args:
            trial: Trial that finished an epoch.
            epoch: Number of the epoch, from 1. A known epoch is ignored: an attempt can begin further back.
            metrics: Metrics of the epoch.
            notes: Remarks on the trial, by subject.
            last: Whether the trial has nothing left to do.
            first_unfreeze: Epochs that the trial trains before its first unfreezing, None if it never unfreezes.

        Returns:
            Whether the trial continues.
        """
        if epoch > trial.epochs:
            report = {"metrics": dict(metrics), "notes": dict(notes), "last": last, "first_unfreeze": first_unfreeze}
            if not self._record("report", trial_id=trial.id, step=epoch, **report):
                return False
            if trial.is_searched:
                self.sampler.report(trial.id, epoch, metrics[self.space.metric])
            self._schedule(trial, epoch)
        return not self._has_ended(trial)

    def on_trial_complete(self, trial: Trial) -> None:
        """Record the end of a trial that ended without an error, by itself or because it was stopped."""
        has_ended = self._has_ended(trial)
        if self.stop_reason or (self.budget_spent and not has_ended):  # it was stopped, and can continue later
            return
        if not has_ended:
            self._end(trial, "failed", ENDED_EARLY)
        elif trial.last or trial.epochs >= self.space.max_epochs:
            self._end(trial, "finished")
        else:
            self._end(trial, "pruned")

    def on_trial_error(self, trial: Trial, error: str, cause: Cause = Cause.OTHER) -> None:
        """Record a failed attempt with the last lines of the error's text, and decide whether the trial is retried."""
        gpus = self.gpus if trial.gpus is None else trial.gpus
        if cause == Cause.NODE and trial.moves + 1 < MAX_MOVES:  # no failure of the trial
            self._record("attempt_failed", trial_id=trial.id, error=error, gpus=trial.gpus, moved=True)
            self._queue.append(trial)
        elif cause == Cause.STORAGE:
            self.stop_reason = self.stop_reason or last_line(error)
            self._record("attempt_failed", trial_id=trial.id, error=error, gpus=trial.gpus)
        elif (
            cause == Cause.PERMANENT
            or trial.failures + 1 >= MAX_ATTEMPTS
            or (cause == Cause.OUT_OF_MEMORY and gpus >= 1)
        ):
            self._end(trial, "failed", error)
        else:
            # A trial that is alone on a GPU has all of its memory: the share grows up to that.
            larger = min(1.0, 2 * gpus) if cause == Cause.OUT_OF_MEMORY else trial.gpus
            self._record("attempt_failed", trial_id=trial.id, error=error, gpus=larger)
            self._queue.append(trial)

    def interrupt_trials(self) -> None:
        """Record that the process ends, and that the trials which are not done will be continued."""
        for trial in list(self.trial_table.trials.values()):
            if trial.attempts and not trial.is_done:
                self._record("trial_end", trial_id=trial.id, status="interrupted", error="")

    def _replay_reports(self) -> None:
        """Show the scheduler the recorded reports, in their order."""
        epochs: dict[str, int] = {}
        for event in self.trial_table.events:
            if event.kind == "report":
                trial = self.trial_table.trials[event.data["trial_id"]]
                epochs[trial.id] = epochs.get(trial.id, 0) + 1
                self._schedule(trial, epochs[trial.id])

    def _schedule(self, trial: Trial, epoch: int) -> None:
        """Ask the scheduler whether to prune a trial after an epoch."""
        if trial.is_searched:
            score = trial.metrics[epoch - 1][self.space.metric]
            if self.scheduler.prunes(trial.id, epoch, score, trial.first_unfreeze):
                self.pruned.add(trial.id)

    def _has_ended(self, trial: Trial) -> bool:
        return trial.last or trial.epochs >= self.space.max_epochs or trial.id in self.pruned

    def _search_is_over(self) -> bool:
        """Return whether all trials but the confirmations are done."""
        trials = [trial for trial in self.trial_table.trials.values() if not trial.confirms]
        return len(trials) >= self.space.trials and all(trial.is_done for trial in trials)

    def _next_confirmation(self) -> tuple[confirmation.Row, int] | None:
        """Return what is to be trained again next and with which seed, None if nothing is known to be left."""
        if self.confirmations is None:
            return None
        trials = self.trial_table.trials
        rows = confirmation.rows_of(trials, self.confirmations, self.space, self._search_is_over())
        seeds = confirmation.seeds_of(self.confirmations, self.seed)
        return next(iter(confirmation.missing(rows, seeds, trials.values())), None)

    def _add(self, trial_id: str, config: Mapping[str, Any], baseline: str = "", **confirmed: Any) -> Trial | None:
        """Record a new trial and return it, None if it cannot be recorded."""
        data = {"trial_id": trial_id, "config": dict(config), "baseline": baseline, **confirmed}
        return self.trial_table.trials[trial_id] if self._record("trial", **data) else None

    def _end(self, trial: Trial, status: str, error: str = "") -> None:
        if self._record("trial_end", trial_id=trial.id, status=status, error=error) and trial.is_searched:
            self.sampler.on_trial_end(trial)

    def _record(self, kind: str, **data: Any) -> bool:
        """Record an event; if that fails, nothing has happened, and the study stops. Return whether it succeeded."""
        try:
            self.trial_table.record(kind, **data)
            return True
        except OSError as error:
            self.stop_reason = self.stop_reason or f"the event log cannot be written: {error.strerror}"
            return False
