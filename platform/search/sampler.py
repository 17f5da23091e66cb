"""What proposes configurations: Optuna's TPE, told honestly how each trial went.

It hears of a stopped trial as pruned, with the scores it had on the way, and of a failed one as failed. What it knows
follows from the trials, and what it proposes from that and the seed: a study that goes on proposes what it would have.
"""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution
from optuna.trial import FrozenTrial, TrialState
from ray.tune.search.optuna import OptunaSearch

from platform.space import Space
from platform.study.trials import Trial

REMEMBERED, OF_THEM_BEST = 300, 50  # trials that it goes by once there are twice as many; the rest the newest


class Sampler:
    """Asks Optuna, and tells it."""

    def __init__(
        self, space: Space, seed: int, trials: Iterable[Trial] = (), first: Sequence[dict[str, Any]] = ()
    ) -> None:
        """
        Args:
            space: What is searched.
            seed: Of what is proposed.
            trials: What was proposed before, in that order; those that are not done yet will be told of.
            first: The points that are proposed first.
        """
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self.space, self.seed = space, seed
        self.distributions: dict[str, BaseDistribution] = OptunaSearch.convert_search_space(dict(space.searched))
        # A third of a small study is drawn at random before TPE has anything to go by; never more than its default 10.
        self.random_trials = max(3, min(10, space.trials // 3))
        self.running: dict[str, optuna.Trial] = {}
        before = list(trials)
        self.asked = len(before)
        done = [self._frozen(trial) for trial in before if trial.is_done]
        self.study = self._study(done, {trial.id: self._frozen(trial) for trial in before if not trial.is_done})
        for point in first[self.asked :]:
            self.study.enqueue_trial(point)

    def ask(self, trial_id: str) -> dict[str, Any]:
        """The first points, then what TPE proposes."""
        if len(self.study.get_trials(deepcopy=False)) > 2 * REMEMBERED:
            self._forget()
        # Of the number of the question alone: what was drawn before a restart need not be drawn again.
        seed = int(np.random.SeedSequence((self.seed, self.asked)).generate_state(1)[0])
        self.study.sampler = optuna.samplers.TPESampler(
            seed=seed, multivariate=True, n_startup_trials=self.random_trials
        )
        self.asked += 1
        self.running[trial_id] = self.study.ask(self.distributions)
        return dict(self.running[trial_id].params)

    def report(self, trial_id: str, epoch: int, score: float) -> None:
        """Tells of an epoch."""
        self.running[trial_id].report(score, epoch)

    def tell(self, trial: Trial) -> None:
        """Tells of a trial that is done."""
        told = self._frozen(trial)
        value = told.value if told.state == TrialState.COMPLETE else None  # Optuna takes none with the other states
        self.study.tell(self.running.pop(trial.id), value, told.state)

    def _frozen(self, trial: Trial) -> FrozenTrial:
        """A trial as Optuna knows it. A complete one is worth its best epoch, whose weights are kept; a pruned one, as
        Optuna has it, its last.
        """
        states = {"finished": TrialState.COMPLETE, "pruned": TrialState.PRUNED, "failed": TrialState.FAIL}
        state, scores = states.get(trial.status, TrialState.RUNNING), trial.scores(self.space.metric)
        worth = {TrialState.COMPLETE: trial.best_score(self.space), TrialState.PRUNED: scores[-1] if scores else None}
        return optuna.trial.create_trial(
            state=state,
            value=worth.get(state),
            params={key: trial.config[key] for key in self.distributions},
            distributions=self.distributions,
            intermediate_values=dict(enumerate(scores, start=1)),
        )

    def _study(self, done: list[FrozenTrial], running: dict[str, FrozenTrial]) -> optuna.Study:
        study = optuna.create_study(direction="maximize" if self.space.mode == "max" else "minimize")
        study.add_trials(done)
        for trial_id, trial in running.items():
            study.add_trial(trial)
            self.running[trial_id] = optuna.trial.Trial(study, len(study.get_trials(deepcopy=False)) - 1)
        return study

    def _forget(self) -> None:
        """Goes on with the best trials and the newest: TPE's time to propose one grows with all that it knows."""
        trials = self.study.get_trials()
        done = [trial for trial in trials if trial.state.is_finished()]
        complete = [trial for trial in done if trial.state == TrialState.COMPLETE]
        best = sorted(complete, key=lambda trial: self.space.goodness(trial.value or 0.0))[-OF_THEM_BEST:]
        newest = done[len(best) - REMEMBERED :]
        older = [trial for trial in best if trial.number < newest[0].number]
        self.study = self._study(older + newest, {key: trials[t.number] for key, t in self.running.items()})
