"""Which parameters made the difference between the trials of a search: fANOVA, beside what chance alone would show.

fANOVA splits the variance of a random forest over its inputs (Hutter, Hoos and Leyton-Brown, "An Efficient Approach for
Assessing Hyperparameter Importance", 2014; `optuna.importance`). Optuna looks at completed trials only, which leaves
out what was cut, most of a search. So each trial is worth how it stands against the others at equal epochs
(`evidence.standing`), whether it was cut or not.

A forest finds something to split by in noise as well. So all is done again with the trials' values shuffled (Altmann
et al., "Permutation importance: a corrected feature importance measure", 2010), and a parameter is said to matter where
it is above the most important one of nearly all shuffles.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import optuna
from optuna.distributions import BaseDistribution
from optuna.importance import FanovaImportanceEvaluator, get_param_importances
from ray.tune.search.optuna import OptunaSearch

from platform.reporting.parameter_effects import LEAST_TRIALS, sample, standing
from platform.reporting.study_data import StudyData

TREES, DEPTH, SHUFFLES = 16, 8, 20
MOST = 300  # trials: of more, so many are drawn
CHANCE = 0.95  # of the shuffles' most important parameters, as many lie below


@dataclass(frozen=True)
class Importance:
    """Of a parameter.

    Attributes:
        key: Its name.
        share: Of the variance between trials that it explains, in 0..1; all together are 1.
        chance: What the most important parameter has at most in 95 % of the shuffles.
        trials: Of how many trials that was found.
    """

    key: str
    share: float
    chance: float
    trials: int

    @property
    def is_clear(self) -> bool:
        """Whether it is more than chance."""
        return self.share > self.chance


def importances(data: StudyData) -> list[Importance]:
    """The searched parameters that took several values, the most important first; none where trials are too few."""
    trials = sample(data.scored, MOST)
    if len(trials) < LEAST_TRIALS:
        return []
    logging.getLogger("ray.tune.search.optuna.optuna_search").setLevel(logging.ERROR)  # quantized domains lose that
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    varied = {key: domain for key, domain in data.space.searched.items()
              if len({repr(trial.config[key]) for trial in trials}) > 1}  # fmt: skip
    worth = standing(data, trials)
    if len(set(worth)) < 2 or not varied:
        return []
    distributions = OptunaSearch.convert_search_space(dict(varied))
    points = [{key: trial.config[key] for key in varied} for trial in trials]
    found = _shares(points, worth, distributions)
    generator = np.random.default_rng(0)
    shuffled = [_shares(points, generator.permutation(worth), distributions) for _ in range(SHUFFLES)]
    chance = float(np.quantile([max(each.values()) for each in shuffled], CHANCE))
    return [Importance(key, found[key], chance, len(trials)) for key in sorted(varied, key=lambda key: -found[key])]


def _shares(
    points: Sequence[dict], worth: Sequence[float] | np.ndarray, distributions: dict[str, BaseDistribution]
) -> dict[str, float]:
    study = optuna.create_study(direction="maximize")
    study.add_trials(
        [
            optuna.trial.create_trial(params=point, distributions=distributions, value=float(value))
            for point, value in zip(points, worth, strict=True)
        ]
    )
    evaluator = FanovaImportanceEvaluator(n_trees=TREES, max_depth=DEPTH, seed=0)
    found = get_param_importances(study, evaluator=evaluator)
    return {key: float(found.get(key, 0.0)) for key in distributions}
