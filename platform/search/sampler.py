"""Sampler: Optuna's TPE proposes configs. It learns of every trial's scores and how the trial ended.

A pruned trial is a pruned one for Optuna too, with the scores it had on the way, and a failed one has failed. The
sampler's state follows from the trials, and its proposals from that state and the seed: a resumed study proposes what
it would have proposed without the interruption.
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

# TPE's time per proposal grows with the trials that it knows. Once it knows twice as many as MAX_TRIALS, it continues
# with that many: the best ones and the newest ones.
MAX_TRIALS, MAX_BEST = 300, 50


class Sampler:
    """Optuna study of the searched trials."""

    def __init__(
        self, space: Space, seed: int, trials: Iterable[Trial] = (), first: Sequence[dict[str, Any]] = ()
    ) -> None:
        """
        Args:
            space: Space of the study.
            seed: Seed of the proposals.
            trials: Trials that were proposed before, in order. Those that are not done will be reported later.
            first: Configs that are proposed first.
        """
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self.space, self.seed = space, seed
        self.distributions: dict[str, BaseDistribution] = OptunaSearch.convert_search_space(dict(space.searched))
        # The first third of a small study is random, so that TPE has data to model; at most Optuna's default of 10.
        self.random_trials = max(3, min(10, space.trials // 3))
        self.running: dict[str, optuna.Trial] = {}
        earlier = list(trials)
        self.asked = len(earlier)
        done = [self._frozen(trial) for trial in earlier if trial.is_done]
        self.study = self._study(done, {trial.id: self._frozen(trial) for trial in earlier if not trial.is_done})
        for config in first[self.asked :]:
            self.study.enqueue_trial(config)

    def ask(self, trial_id: str) -> dict[str, Any]:
        """Return the values of a new trial's searched parameters: one of the first configs, or TPE's proposal."""
        if len(self.study.get_trials(deepcopy=False)) > 2 * MAX_TRIALS:
            self._forget()
        # The seed depends on the number of the proposal only, so random draws of an earlier process need no repeating.
        seed = int(np.random.SeedSequence((self.seed, self.asked)).generate_state(1)[0])
        self.study.sampler = optuna.samplers.TPESampler(
            seed=seed, multivariate=True, n_startup_trials=self.random_trials
        )
        self.asked += 1
        self.running[trial_id] = self.study.ask(self.distributions)
        return dict(self.running[trial_id].params)

    def report(self, trial_id: str, epoch: int, score: float) -> None:
        """Add a trial's score after an epoch."""
        self.running[trial_id].report(score, epoch)

    def on_trial_end(self, trial: Trial) -> None:
        """Add the outcome of a trial that is done."""
        frozen = self._frozen(trial)
        value = frozen.value if frozen.state == TrialState.COMPLETE else None  # Optuna takes none with other states
        self.study.tell(self.running.pop(trial.id), value, frozen.state)

    def _frozen(self, trial: Trial) -> FrozenTrial:
        """Return a trial as Optuna knows it.

        The value of a complete trial is that of its best epoch, whose weights are kept. A complete trial without any
        score has failed for Optuna. The value of a pruned trial is its last score, as always in Optuna.
        """
        states = {"finished": TrialState.COMPLETE, "pruned": TrialState.PRUNED, "failed": TrialState.FAIL}
        state, scores = states.get(trial.status, TrialState.RUNNING), trial.scores(self.space.metric)
        best = trial.best_score(self.space)
        if state == TrialState.COMPLETE and best is None:
            state = TrialState.FAIL
        values = {TrialState.COMPLETE: best, TrialState.PRUNED: scores[-1] if scores else None}
        return optuna.trial.create_trial(
            state=state,
            value=values.get(state),
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
        """Continue with the best and the newest trials only."""
        trials = self.study.get_trials()
        done = [trial for trial in trials if trial.state.is_finished()]
        complete = [trial for trial in done if trial.state == TrialState.COMPLETE]
        best = sorted(complete, key=lambda trial: self.space.as_maximised(trial.values[0]))[-MAX_BEST:]  # type: ignore[index]
        newest = done[len(best) - MAX_TRIALS :]
        older = [trial for trial in best if trial.number < newest[0].number]
        self.study = self._study(older + newest, {key: trials[t.number] for key, t in self.running.items()})
