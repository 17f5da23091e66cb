"""What is deleted, and when: the checkpoints of trials that can no longer win."""

from collections.abc import Callable

from platform.space import Space
from platform.storage.checkpoints import Checkpoints
from platform.study.event_log import Event
from platform.study.trials import Trial, TrialTable


class Janitor:
    """Deletes checkpoints while a study runs, and when it is over.

    Attributes:
        left: Trials whose checkpoints could not be deleted, and why.
    """

    def __init__(self, space: Space, trial_table: TrialTable, checkpoints_of: Callable[[str], Checkpoints]) -> None:
        """
        Args:
            space: What is searched.
            trial_table: What happened so far.
            checkpoints_of: Those of a trial, by its id.
        """
        self.space, self.trial_table, self.checkpoints_of = space, trial_table, checkpoints_of
        self.left: dict[str, str] = {}
        self.leader: Trial | None = None  # the best of those that are done
        for trial in list(trial_table.trials.values()):
            if trial.is_done:
                self._settle(trial)

    def told(self, event: Event) -> None:
        """Something happened."""
        if event.kind == "trial_end" and (trial := self.trial_table.trials[event.data["trial_id"]]).is_done:
            self._settle(trial)

    def forget_all_but(self, best: str) -> None:
        """Deletes what is left once all is scored: checkpoints of baselines and confirmations, and those of trials out
        of time."""
        for trial_id in self.trial_table.trials:
            if trial_id != best:
                self._forget(trial_id)

    def _settle(self, trial: Trial) -> None:
        """Deletes the checkpoints of a trial that is done, or those of the leader that it has beaten; but not those of
        the baselines and confirmations, which are scored in the end.
        """
        loser: Trial | None = trial
        if not trial.confirms and self._may_lead(trial) and (self.leader is None or self._beats(trial, self.leader)):
            loser, self.leader = self.leader, trial
        if loser is not None and (loser.is_searched or loser.status == "failed"):
            self._forget(loser.id)

    def _may_lead(self, trial: Trial) -> bool:
        scored = trial.status != "failed" and trial.best_epoch(self.space) is not None
        return scored and self.space.may_win(trial.config, trial.baseline)

    def _beats(self, trial: Trial, other: Trial) -> bool:
        """Of equal ones the first, as in the result."""
        mine, theirs = (self.space.goodness(one.best_score(self.space) or 0.0) for one in (trial, other))
        return mine > theirs or (mine == theirs and int(trial.id) < int(other.id))

    def _forget(self, trial_id: str) -> None:
        try:
            self.checkpoints_of(trial_id).forget()
        except OSError as error:  # of a bucket that does not answer
            self.left[trial_id] = str(error)
