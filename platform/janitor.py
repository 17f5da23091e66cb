"""What is deleted, and when: the checkpoints of trials that can no longer win."""

from collections.abc import Callable
from typing import Any

from pyarrow.fs import FileSelector
from ray.tune import Callback

from platform.space import Space
from platform.tracking import baseline_of, trial_name


class Janitor(Callback):
    """Deletes checkpoints while a study runs, and when it is over.

    Attributes:
        trials: Ray's trials by their id, once the search has ended.
    """

    def __init__(self, space: Space, status_of: Callable[[Any, bool], str]) -> None:
        self.space, self.status_of = space, status_of
        self.trials: dict[str, Any] = {}
        self.leader: Any = None  # the best of those that are done

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "trials": {}, "leader": None}

    def on_trial_complete(self, iteration: int, trials: list, trial: Any, **info: Any) -> None:
        # Ray marks a trial as finished only after it told us. Of those of a process before, it told another.
        done = [trial] if self.leader else [other for other in trials if other is trial or other.is_finished()]
        for one in done:
            # An interrupted one will go on from its checkpoint.
            if self.status_of(one, one.status == "ERROR") != "interrupted":
                self._settle(one)

    def on_trial_error(self, iteration: int, trials: list, trial: Any, **info: Any) -> None:
        self._forget(trial)

    def on_experiment_end(self, trials: list, **info: Any) -> None:
        self.trials = {trial.trial_id: trial for trial in trials}

    def forget_all_but(self, best: str) -> None:
        """Deletes what is left once all is scored: the baselines' checkpoints, and those of trials out of time."""
        for trial in self.trials.values():
            if trial.trial_id != best:
                self._forget(trial)

    def _settle(self, trial: Any) -> None:
        """Deletes the checkpoints of a trial that is done, or those of the leader that it has beaten; but not those of
        the baselines, which are scored in the end.
        """
        loser = trial
        if self._may_lead(trial) and (self.leader is None or self._beats(trial, self.leader)):
            loser, self.leader = self.leader, trial
        if loser is not None and not baseline_of(loser):
            self._forget(loser)

    def _may_lead(self, trial: Any) -> bool:
        known = trial.status != "ERROR" and self.space.metric in trial.metric_analysis
        return known and self.space.may_win(trial.config, baseline_of(trial))

    def _beats(self, trial: Any, other: Any) -> bool:
        """Of equal ones the first, as in the result."""
        scores = (one.metric_analysis[self.space.metric][self.space.mode] for one in (trial, other))
        mine, theirs = map(self.space.goodness, scores)
        return mine > theirs or (mine == theirs and trial_name(trial) < trial_name(other))

    def _forget(self, trial: Any) -> None:
        # Looked for on the disk: of a trial that was stopped, Ray may not know the last one.
        storage, folder = trial.storage.storage_filesystem, trial.storage.trial_fs_path
        for file in storage.get_file_info(FileSelector(folder, allow_not_found=True)):
            if file.base_name.startswith("checkpoint_"):
                storage.delete_dir(file.path)
