"""Importances of a study's parameters, beside what chance alone would show.

A random forest predicts each trial's tally of wins and losses at equal epochs (`parameter_effects.tallies`) from its
config, so pruned trials count as well. A parameter's importance is its share of the variance that the forest explains
(`feature_importances_` of `sklearn.ensemble.RandomForestRegressor`). A forest finds something in noise too. So it is
fitted again to shuffled tallies, and a parameter is important where its share is above the largest one of nearly all
shuffles (Altmann et al., "Permutation importance: a corrected feature importance measure", 2010).
"""

from dataclasses import dataclass

import numpy as np
from sklearn.ensemble import RandomForestRegressor

from platform.reporting.parameter_effects import LEAST_GROUP, parameter_values, sample, tallies
from platform.reporting.study_data import StudyData

TREES, DEPTH, SHUFFLES = 32, 8, 20
MOST_TRIALS = 300  # of a larger study as many are drawn
CHANCE = 0.95  # quantile of the largest shares in the shuffles


@dataclass(frozen=True)
class Importance:
    """Importance of one parameter.

    Attributes:
        key: The parameter.
        share: Share of the explained variance between trials, in 0..1; the shares of all parameters sum to 1.
        chance: Share that chance alone reaches: the 95 % quantile of the largest share in the shuffles.
        trials: Number of trials that were looked at.
    """

    key: str
    share: float
    chance: float
    trials: int

    @property
    def is_clear(self) -> bool:
        """True if the share is larger than chance explains."""
        return self.share > self.chance


def importances(data: StudyData) -> list[Importance]:
    """Return the searched parameters that took several values, most important first; none for a handful of trials."""
    trials = sample(data.scored, MOST_TRIALS)
    if len(trials) < LEAST_GROUP:
        return []
    columns = {key: parameter_values(data, trials, key) for key in data.space.searched}
    columns = {key: column for key, column in columns.items() if len(np.unique(column)) > 1}
    tally = tallies(data, trials)
    if not columns or len(np.unique(tally)) < 2:
        return []
    configs, generator = np.column_stack(list(columns.values())), np.random.default_rng(0)
    shares = _shares(configs, tally)
    largest = [_shares(configs, generator.permutation(tally)).max() for _ in range(SHUFFLES)]
    chance = float(np.quantile(largest, CHANCE))
    found = [Importance(key, float(share), chance, len(trials)) for key, share in zip(columns, shares, strict=True)]
    return sorted(found, key=lambda each: -each.share)


def _shares(configs: np.ndarray, tally: np.ndarray) -> np.ndarray:
    forest = RandomForestRegressor(TREES, max_depth=DEPTH, random_state=0)
    return forest.fit(configs, tally).feature_importances_
