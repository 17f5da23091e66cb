"""What proposes a study's configurations, and what ends a trial early.

Optuna's TPE proposes; ASHA stops. Both differ from what Ray ships in what they are told: the sampler hears of a stopped
trial as pruned, with the scores it had on the way, and of a failed one as failed; a baseline is proposed once, trained
to its full budget, and kept from the sampler: few are points of the space.
"""

import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import TrialState
from ray.tune import Callback
from ray.tune.schedulers import AsyncHyperBandScheduler, TrialScheduler
from ray.tune.search import Searcher
from ray.tune.search.optuna import OptunaSearch

from platform.reporters import LAST
from platform.space import Space
from platform.tracking import baseline_of

REDUCTION = 3  # ASHA keeps the best third at each rung (Li et al. 2020)
REMEMBERED, OF_THEM_BEST = 300, 50  # trials that the sampler goes by once there are twice as many; the rest the newest


class OptunaSearcher(Searcher):
    """Optuna's ask and tell behind Ray's interface."""

    def __init__(self, space: Space, seed: int) -> None:
        super().__init__(metric=space.metric, mode=space.mode)
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self.max_epochs = space.max_epochs
        self.distributions = OptunaSearch.convert_search_space(dict(space.searched))
        self.baselines = dict(space.baseline_configs())
        # A third of a small study is drawn at random before TPE has anything to go by; never more than its default 10.
        random_trials = max(3, min(10, space.trials // 3))
        self.study = optuna.create_study(
            direction="maximize" if space.mode == "max" else "minimize",
            sampler=optuna.samplers.TPESampler(seed=seed, multivariate=True, n_startup_trials=random_trials),
        )
        self.study.enqueue_trial(dict(space.start))
        self.running: dict[str, optuna.Trial] = {}
        self.scores: dict[str, list[float]] = {}
        self.asked = 0

    def suggest(self, trial_id: str) -> dict[str, Any]:
        """The first point, then the baselines, then what Optuna proposes."""
        self.asked += 1
        if self.asked > 1 and self.baselines:
            name = next(iter(self.baselines))
            return {**self.baselines.pop(name), "context": {"baseline": name}}
        if len(self.study.get_trials(deepcopy=False)) > 2 * REMEMBERED:
            self._forget()
        trial = self.study.ask(self.distributions)
        self.running[trial_id], self.scores[trial_id] = trial, []
        return dict(trial.params)

    def on_trial_result(self, trial_id: str, result: Mapping[str, Any]) -> None:
        if trial_id in self.running:
            score, epoch = float(result[self.metric]), int(result["training_iteration"])
            self.running[trial_id].report(score, epoch)
            self.scores[trial_id].append(score)

    def on_trial_complete(self, trial_id: str, result: Mapping[str, Any] | None = None, error: bool = False) -> None:
        trial, scores = self.running.pop(trial_id, None), self.scores.pop(trial_id, [])
        if trial is None:
            return
        if result and self.metric in result and int(result["training_iteration"]) > len(scores):
            # Ray hands a trial's last result to this method alone.
            scores.append(float(result[self.metric]))
            trial.report(scores[-1], int(result["training_iteration"]))
        if error or not scores:
            self.study.tell(trial, state=TrialState.FAIL)
        elif len(scores) < self.max_epochs and not (result or {}).get(LAST):
            self.study.tell(trial, state=TrialState.PRUNED)
        else:
            # A trial is worth its best epoch, since that is the one whose weights are kept.
            self.study.tell(trial, max(scores) if self.mode == "max" else min(scores))

    def _forget(self) -> None:
        """Goes on in a new Optuna study with the best trials and the newest: TPE's time to propose one grows with all
        that it knows. MLflow and result.json keep all.
        """
        done = [trial for trial in self.study.get_trials(deepcopy=False) if trial.state.is_finished()]
        complete = [trial for trial in done if trial.state == TrialState.COMPLETE]
        best = sorted(complete, key=lambda trial: trial.value or 0.0, reverse=self.mode == "max")[:OF_THEM_BEST]
        newest = done[len(best) - REMEMBERED :]
        study = optuna.create_study(direction=self.study.direction, sampler=self.study.sampler)
        study.add_trials([trial for trial in best if trial.number < newest[0].number] + newest)
        for key, trial in self.running.items():
            study.add_trial(
                optuna.trial.create_trial(
                    state=TrialState.RUNNING, params=trial.params, distributions=trial.distributions
                )
            )
            again = optuna.trial.Trial(study, len(study.get_trials(deepcopy=False)) - 1)
            for epoch, score in enumerate(self.scores[key], start=1):
                again.report(score, epoch)
            self.running[key] = again
        self.study = study

    def save(self, checkpoint_path: str) -> None:
        Path(checkpoint_path).write_bytes(pickle.dumps(self.__dict__))

    def restore(self, checkpoint_path: str) -> None:
        self.__dict__.update(pickle.loads(Path(checkpoint_path).read_bytes()))


class Scheduler(AsyncHyperBandScheduler):
    """ASHA (Li et al. 2020), which leaves the baselines alone.

    Attributes:
        pruned: The trials that it cut.
    """

    def __init__(self, space: Space) -> None:
        self.pruned: set[str] = set()
        self.max_epochs = space.max_epochs
        super().__init__(
            time_attr="training_iteration",
            metric=space.metric,
            mode=space.mode,
            max_t=space.max_epochs,
            grace_period=space.grace_epochs,
            reduction_factor=REDUCTION,
        )

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        if baseline_of(trial):
            return TrialScheduler.CONTINUE
        decision = super().on_trial_result(tune_controller, trial, result)
        if decision == TrialScheduler.STOP:
            self.pruned.add(trial.trial_id)
        return decision

    def on_trial_complete(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> None:
        if not baseline_of(trial):
            super().on_trial_complete(tune_controller, trial, result)

    def status(self, trial: Any, failed: bool) -> str:
        """How a trial ended.

        Returns:
            "failed", "finished" (nothing was left to do), "pruned" (cut as one of the worse), or "interrupted" (by the
            user or the time budget).
        """
        if failed:
            return "failed"
        result = trial.last_result or {}
        if result.get(LAST) or int(result.get("training_iteration", 0)) >= self.max_epochs:
            return "finished"
        return "pruned" if trial.trial_id in self.pruned else "interrupted"


class SchedulerState(Callback):
    """Carries the scheduler over a restart: Ray keeps the state of callbacks and searcher, but not of schedulers."""

    def __init__(self, scheduler: Scheduler) -> None:
        self.scheduler = scheduler

    def get_state(self) -> dict[str, Any]:
        return dict(self.scheduler.__dict__)

    def set_state(self, state: dict[str, Any]) -> None:
        self.scheduler.__dict__.update(state)
