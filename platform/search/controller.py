"""What happens next in a study: which trial is begun, which is cut, which is tried again. Knows neither Ray nor MLflow.

The first point comes first, then the baselines: they are trained to their full budget and kept from the sampler, since
few are points of the space. Where it was asked for, the best are trained again over seeds once all trials are done, and
beside them the plain baselines, as soon as there is room (`platform.search.confirmation`). Everything is decided from
the trial_table, so that a study which was killed goes on as if it had not been.
"""

import re
from collections import deque
from collections.abc import Mapping
from typing import Any

from platform.search import confirmation
from platform.search.sampler import Sampler
from platform.search.scheduler import Asha
from platform.search.warm_start import first_points
from platform.space import Space
from platform.study.trials import Trial, TrialTable

ATTEMPTS = 3  # in a row without a finished epoch, then a trial has failed
MOVES = 20  # likewise of nodes that went away: it may be the trial that takes them down
HOPELESS = ("NonFiniteLossError", "FrozenChangedError", "NotFrozenError", "NotAsAskedError")  # would come again
OUT_OF_MEMORY, CANNOT_KEEP = "OutOfMemoryError", ("DiskFullError", "StorageError")  # no room, or no bucket that answers
ENDED_EARLY = "it ended before its last epoch without saying why"


class Search:
    """Decides, and writes down what was decided before it is acted upon.

    Attributes:
        stopped: Why no more is begun although trials are left, "" if nothing is in the way.
        enough: Whether what the study may cost is spent: what runs is ended, and no more is begun.
    """

    def __init__(self, space: Space, seed: int, trial_table: TrialTable, gpus: float = 0.0) -> None:
        """
        Args:
            space: What is searched.
            seed: Of what is proposed.
            trial_table: What happened so far.
            gpus: The share of a GPU that a trial gets.
        """
        self.space, self.trial_table, self.gpus = space, trial_table, gpus
        self.stopped, self.enough = "", False
        self.baselines = dict(space.baseline_configs())
        self.asha, self._cut = Asha(space), set[str]()
        epochs: dict[str, int] = {}
        for event in trial_table.events:
            if event.kind == "report":
                trial_id = event.data["trial_id"]
                epochs[trial_id] = epochs.get(trial_id, 0) + 1
                self._judge(trial_table.trials[trial_id], epochs[trial_id])
        self.confirms = confirmation.parse(trial_table.confirm)
        known = list(trial_table.trials.values())
        for trial in known:
            self.baselines.pop(trial.baseline, None)
        first, proposed = first_points(trial_table.events, space), [trial for trial in known if trial.is_searched]
        self.seed, self.sampler = seed, Sampler(space, seed, proposed, first)
        self._queue = deque(trial for trial in known if not trial.is_done)
        for trial in list(self._queue):  # killed between its last epoch and the word of it
            if self._is_over(trial):
                self._queue.remove(trial)
                self.ended(trial)

    @property
    def is_over(self) -> bool:
        """Whether all trials are done, and trained again what was asked for."""
        return (
            self._is_searched() and self._again() is None and all(t.is_done for t in self.trial_table.trials.values())
        )

    def next(self) -> Trial | None:
        """The trial to begin or to go on with; None where there is none now."""
        if self._queue:
            return self._queue.popleft()
        if self.stopped or self.enough:
            return None
        number = 1 + sum(not trial.confirms for trial in self.trial_table.trials.values())
        if number > self.space.trials:
            return self._train_again()
        trial_id, baseline = f"{number:03d}", ""
        if number > 1 and self.baselines:
            baseline = next(iter(self.baselines))
            config = self.baselines.pop(baseline)
        else:
            config = {**self.space.fixed, **self.sampler.ask(trial_id)}
        told = self._tell("trial", trial_id=trial_id, config=config, baseline=baseline)
        return self.trial_table.trials[trial_id] if told else None

    def _train_again(self) -> Trial | None:
        if (left := self._again()) is None:
            return None
        row, seed = left
        trial_id = f"{row.slug}-seed-{seed}"
        again = {"confirms": row.name, "seed": seed}
        told = self._tell("trial", trial_id=trial_id, config=dict(row.config), baseline="", **again)
        return self.trial_table.trials[trial_id] if told else None

    def _again(self) -> tuple[confirmation.Row, int] | None:
        """What is to be trained again next, as far as it is known; None for nothing."""
        if self.confirms is None:
            return None
        trials = self.trial_table.trials
        rows = confirmation.rows_of(trials, self.confirms, self.space, self._is_searched())
        seeds = confirmation.seeds_of(self.confirms, self.seed)
        return next(iter(confirmation.missing(rows, seeds, trials.values())), None)

    def _is_searched(self) -> bool:
        """Whether all that is not trained again is done."""
        first = [trial for trial in self.trial_table.trials.values() if not trial.confirms]
        return len(first) >= self.space.trials and all(trial.is_done for trial in first)

    def started(self, trial: Trial) -> None:
        """An attempt at a trial began."""
        self._tell("trial_start", trial_id=trial.id)

    def epoch(
        self,
        trial: Trial,
        step: int,
        metrics: Mapping[str, float],
        notes: Mapping[str, str],
        last: bool = False,
        first_unfreeze: int | None = None,
    ) -> bool:
        """A trial finished an epoch.

        Args:
            trial: The trial.
            step: The epoch, from 1. One that is known already is passed over: an attempt began further back.
            metrics: Its metrics.
            notes: What is to be said of the trial.
            last: Whether nothing is left to do.
            unfreeze: How many epochs it trains before its first unfreeze, None if it has none.

        Returns:
            Whether the trial goes on.
        """
        if step > trial.epochs:
            told = {"metrics": dict(metrics), "notes": dict(notes), "last": last, "first_unfreeze": first_unfreeze}
            if not self._tell("report", trial_id=trial.id, step=step, **told):
                return False
            if trial.is_searched:
                self.sampler.report(trial.id, step, metrics[self.space.metric])
            self._judge(trial, step)
        return not self._is_over(trial)

    def ended(self, trial: Trial) -> None:
        """A trial ended by itself, or because it was told to."""
        if self.stopped or (self.enough and not self._is_over(trial)):  # and so had to end
            return
        if not self._is_over(trial):
            self._end(trial, "failed", ENDED_EARLY)
        elif trial.last or trial.epochs >= self.space.max_epochs:
            self._end(trial, "finished")
        else:
            self._end(trial, "pruned")

    def failed(self, trial: Trial, error: str, moved: bool = False) -> None:
        """An attempt at a trial ended in an error: it is tried again, unless that has no hope.

        Args:
            trial: The trial.
            error: The end of what was raised.
            moved: Whether the node was at fault: it was taken away, or would not do. That is no failure of the trial.
        """
        gpus = self.gpus if trial.gpus is None else trial.gpus
        if moved and trial.moves + 1 < MOVES:
            self._tell("attempt_failed", trial_id=trial.id, error=error, gpus=trial.gpus, moved=True)
            self._queue.append(trial)
        elif _names(error, *CANNOT_KEEP):
            self.stopped = self.stopped or error.strip().splitlines()[-1]
            self._tell("attempt_failed", trial_id=trial.id, error=error, gpus=trial.gpus)
        elif _names(error, *HOPELESS) or trial.failures + 1 >= ATTEMPTS or (_names(error, OUT_OF_MEMORY) and gpus >= 1):
            self._end(trial, "failed", error)
        else:
            # Alone on a GPU, a trial has all of its memory: the next step up.
            more = min(1.0, 2 * gpus) if _names(error, OUT_OF_MEMORY) else trial.gpus
            self._tell("attempt_failed", trial_id=trial.id, error=error, gpus=more)
            self._queue.append(trial)

    def interrupted(self) -> None:
        """The process ends: what was running will be gone on with."""
        for trial in list(self.trial_table.trials.values()):
            if trial.attempts and not trial.is_done:
                self._tell("trial_end", trial_id=trial.id, status="interrupted", error="")

    def _end(self, trial: Trial, status: str, error: str = "") -> None:
        if self._tell("trial_end", trial_id=trial.id, status=status, error=error) and trial.is_searched:
            self.sampler.tell(trial)

    def _tell(self, kind: str, **data: Any) -> bool:
        """Writes down what happened; where that fails it has not, and the study stops."""
        try:
            self.trial_table.record(kind, **data)
            return True
        except OSError as error:
            self.stopped = self.stopped or f"the event log cannot be written: {error.strerror}"
            return False

    def _judge(self, trial: Trial, epoch: int) -> None:
        score = trial.metrics[epoch - 1][self.space.metric]
        if trial.is_searched and self.asha.cuts(trial.id, epoch, score, trial.first_unfreeze):
            self._cut.add(trial.id)

    def _is_over(self, trial: Trial) -> bool:
        return trial.last or trial.epochs >= self.space.max_epochs or trial.id in self._cut


def _names(error: str, *classes: str) -> bool:
    """Whether what was raised is of a class, by the line that a traceback tells it with."""
    return re.search(rf"^[\w.]*\b({'|'.join(classes)})\b", error, re.MULTILINE) is not None
