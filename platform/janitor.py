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

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "trials": {}}

    def on_trial_complete(self, iteration: int, trials: list, trial: Any, **info: Any) -> None:
        # Ray marks a trial as finished only after it told us. An interrupted one will go on from its checkpoint.
        done = [other for other in trials if other is trial or other.is_finished()]
        self._sweep([other for other in done if self.status_of(other, other.status == "ERROR") != "interrupted"])

    def on_trial_error(self, iteration: int, trials: list, trial: Any, **info: Any) -> None:
        self._forget(trial)

    def on_experiment_end(self, trials: list, **info: Any) -> None:
        self.trials = {trial.trial_id: trial for trial in trials}

    def forget_all_but(self, best: str) -> None:
        """Deletes what is left once all is scored: the baselines' checkpoints, and those of trials out of time."""
        for trial in self.trials.values():
            if trial.trial_id != best:
                self._forget(trial)

    def _sweep(self, done: list) -> None:
        """Deletes all checkpoints but the leader's and those of the baselines, which are scored in the end."""
        metric, mode = self.space.metric, self.space.mode
        scored = [trial for trial in done if trial.status != "ERROR" and metric in trial.metric_analysis]
        scored = [trial for trial in scored if self.space.may_win(trial.config, baseline_of(trial))]
        scored.sort(key=trial_name)  # of equal ones the first, as in the result
        leader = max(scored, key=lambda trial: self.space.goodness(trial.metric_analysis[metric][mode]), default=None)
        for trial in done:
            if trial is not leader and not baseline_of(trial):
                self._forget(trial)

    def _forget(self, trial: Any) -> None:
        # Looked for on the disk: of a trial that was stopped, Ray may not know the last one.
        storage, folder = trial.storage.storage_filesystem, trial.storage.trial_fs_path
        for file in storage.get_file_info(FileSelector(folder, allow_not_found=True)):
            if file.base_name.startswith("checkpoint_"):
                storage.delete_dir(file.path)
