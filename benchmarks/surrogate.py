"""Surrogate of training, learned from recorded curves: it predicts the learning curve of any config of a space.

python -m benchmarks.surrogate      prints how well the surrogates predict configs that they were not fitted to

A search proposes configs that were not recorded, and in so many dimensions the nearest recorded config predicts little.
So a random forest predicts the curve, which Eggensperger et al. found best ("Efficient Benchmarking of Hyperparameter
Optimizers via Surrogates", 2015). Its features are the parameters, the rates of the stages and the epochs that each
stage is trained.
"""

import argparse
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import xxhash
from ray.tune.search.sample import Categorical, LogUniform
from scipy.stats import spearmanr
from sklearn.ensemble import RandomForestRegressor
from sklearn.model_selection import KFold, cross_val_predict

from benchmarks import timing
from benchmarks.curves import CURVES, Recorded
from platform.space import Space

TREES = 200


def main() -> None:
    """Print how well each table's surrogate, and the nearest neighbour, predict configs outside their data."""
    p = argparse.ArgumentParser(
        prog="python -m benchmarks.surrogate", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    p.add_argument("files", nargs="*", type=Path, default=sorted(CURVES.glob("*.json.gz")))
    rows = []
    for file in p.parse_args().files:
        recorded = Recorded.of(file)
        best = _best(recorded, recorded.scores)
        features = np.array([_features(recorded, config) for config in recorded.configs])
        folds = KFold(10, shuffle=True, random_state=0)
        predicted = _best(recorded, cross_val_predict(_forest(), features, recorded.scores, cv=folds))
        plain = np.array([_scaled(recorded.space, config) for config in recorded.configs])
        apart = np.square(plain[:, None] - plain[None]).sum(-1)
        np.fill_diagonal(apart, np.inf)
        nearest = best[apart.argmin(1)]
        ranks = [f"{spearmanr(best, other).statistic:.2f}" for other in (predicted, nearest)]
        rows.append([recorded.name, str(len(best)), *ranks, f"{np.std(best - predicted):.3f} of {np.std(best):.3f}"])
    print(timing.table(["table", "points", "surrogate, rank correlation", "nearest point", "left of the spread"], rows))


class Surrogate:
    """Learning curves of any config of a recorded space.

    Attributes:
        recorded: Curves that the forest is fitted to.
    """

    def __init__(self, recorded: Recorded, noise: bool = False) -> None:
        """
        Args:
            recorded: Curves that the forest is fitted to.
            noise: Whether the out-of-bag residual of a recorded curve, chosen by a hash of the config, is added. It
                holds the noise of the training and the forest's own error, so that a score may exceed 1.
        """
        self.recorded, self.noise = recorded, noise
        features = np.array([_features(recorded, config) for config in recorded.configs])
        forest = _forest().fit(features, recorded.scores)
        self._trees = [tree.tree_ for tree in forest.estimators_]
        self._residuals = recorded.scores - forest.oob_prediction_

    def curve(self, config: dict[str, Any]) -> np.ndarray:
        """Return the metric after each epoch (epochs,) for a config."""
        features = np.array([_features(self.recorded, config)], dtype=np.float32)
        curve = np.mean([tree.predict(features).reshape(-1) for tree in self._trees], axis=0)
        if self.noise:
            drawn = xxhash.xxh3_64_intdigest(json.dumps(config, sort_keys=True).encode()) % len(self._residuals)
            curve = curve + self._residuals[drawn]
        return curve

    def targets(self, shares: tuple[float, ...], points: int = 5000) -> list[float]:
        """Return the best scores that only these shares of random configs reach; greater is better."""
        generator = np.random.default_rng(12345)
        space = self.recorded.space
        best = [max(map(space.as_maximised, self.curve(random_config(space, generator)))) for _ in range(points)]
        return [float(np.quantile(best, 1 - share)) for share in shares]


def random_config(space: Space, generator: np.random.Generator) -> dict[str, Any]:
    """Draw a config from the space."""
    drawn = {key: domain.sample(random_state=generator) for key, domain in space.searched.items()}
    plain = {key: value.item() if hasattr(value, "item") else value for key, value in drawn.items()}
    return {**space.fixed, **plain}


def _forest() -> RandomForestRegressor:
    return RandomForestRegressor(TREES, max_features=0.5, oob_score=True, random_state=0)


def _best(recorded: Recorded, scores: np.ndarray) -> np.ndarray:
    return scores.max(1) if recorded.space.mode == "max" else -scores.min(1)


def _scaled(space: Space, config: dict[str, Any]) -> list[float]:
    """Return a config as a point of the unit cube, each parameter on its own scale, an unordered choice one-hot."""
    at: list[float] = []
    domain: Any
    for key, domain in space.searched.items():
        value = config[key]
        if isinstance(domain, Categorical):
            numbers = all(isinstance(one, int | float) for one in domain.categories)
            place = list(domain.categories).index(value)
            share = place / max(1, len(domain.categories) - 1)
            at += [share] if numbers else [float(place == other) for other in range(len(domain.categories))]
        elif isinstance(domain.get_sampler(), LogUniform):
            at.append(math.log(value / domain.lower) / math.log(domain.upper / domain.lower))
        else:
            at.append((value - domain.lower) / (domain.upper - domain.lower))
    return at


def _features(recorded: Recorded, config: dict[str, Any]) -> list[float]:
    """Return a config's features: its parameters, and what follows from them for the stages."""
    epochs, depth = recorded.space.max_epochs, config["freeze_depth"]
    first_unfreeze = recorded.first_unfreeze(config)
    pace = {"at_once": epochs, "gradual": 1.0, "on_plateau": 1 / 3}.get(config["unfreeze"], 0.0)
    frozen = [
        depth if first_unfreeze is None or e < first_unfreeze else max(0.0, depth - pace * (e - first_unfreeze + 1))
        for e in range(epochs)
    ]
    head, middle = math.log(config["lr_head"]), math.log(config["lr_head"] * config["backbone_ratio"])
    lowest = middle + recorded.space.depth * math.log(config["layer_decay"])
    steps = -math.log(config["batch_size"])
    return [
        *_scaled(recorded.space, config),
        *(
            epochs if first_unfreeze is None else first_unfreeze,
            min(frozen),
            sum(frozen) / epochs,
            sum(f < depth or not f for f in frozen),
        ),
        *(middle, lowest, head + steps, middle + steps),
    ]


if __name__ == "__main__":
    main()
