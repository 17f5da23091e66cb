"""Deletion of the checkpoints of trials that can no longer win."""

from collections.abc import Callable

from platform.space import Space
from platform.storage.checkpoints import Checkpoints
from platform.study.event_log import Event
from platform.study.trials import StudyListener, Trial, TrialTable, may_win, rank


class CheckpointCleanup(StudyListener):
    """Deletes checkpoints while a study runs, and the remaining ones when it is over.

    A trial that is done loses its checkpoints if another one leads, else the former leader does. Baselines and
    confirmations keep theirs until they are scored on the test split.

    Attributes:
        errors: Why checkpoints could not be deleted, by trial.
    """

    def __init__(self, space: Space, trial_table: TrialTable, checkpoints_of: Callable[[str], Checkpoints]) -> None:
        self.space, self.trial_table, self.checkpoints_of = space, trial_table, checkpoints_of
        self.errors: dict[str, str] = {}
        self._leader: Trial | None = None  # the best of those that are done
        for trial in list(trial_table.trials.values()):
            if trial.is_done:
                self._settle(trial)

    def on_trial_end(self, trial: Trial, event: Event) -> None:
        """Delete the checkpoints that the end of this trial makes superfluous."""
        if trial.is_done:
            self._settle(trial)

    def keep_only(self, best: str) -> None:
        """Delete all checkpoints but those of one trial, once all trials are scored."""
        for trial_id in self.trial_table.trials:
            if trial_id != best:
                self._delete(trial_id)

    def _settle(self, trial: Trial) -> None:
        """Delete the checkpoints of a trial that is done, or of the leader that it has beaten."""
        loser: Trial | None = trial
        if may_win(trial, self.space) and self._leads(trial):
            loser, self._leader = self._leader, trial
        if loser is not None and (loser.is_searched or loser.status == "failed"):
            self._delete(loser.id)

    def _leads(self, trial: Trial) -> bool:
        """Return whether a trial is better than the leader; of equal trials the first is better, as in the result."""
        in_order = sorted(filter(None, (trial, self._leader)), key=lambda each: int(each.id))
        return rank(in_order, self.space)[0] is trial

    def _delete(self, trial_id: str) -> None:
        try:
            self.checkpoints_of(trial_id).delete_all()
        except OSError as error:  # of a bucket that does not answer
            self.errors[trial_id] = str(error)
