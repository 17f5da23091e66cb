"""Random data for small models."""

from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from platform.training.examples import Examples


@dataclass(frozen=True)
class Numbers(Examples):
    """Rows of normally distributed numbers as "x", the same for the same size and seed.

    With views, a row is seen with other indices added to it in each.
    """

    size: int = 4
    train: int = 16
    val: int = 8
    seed: int = 0
    views: int = 0
    asked: list[int] = field(default_factory=list)  # how many rows were asked for, each time

    def indices(self, split: str) -> np.ndarray:
        return np.arange(self.train) if split == "train" else np.arange(self.train, self.train + self.val)

    def inputs(self, indices: np.ndarray, view: int | None) -> dict[str, Tensor]:
        self.asked.append(len(indices))
        rows = np.random.default_rng(self.seed).normal(size=(self.train + self.val, self.size))
        if view is not None:
            rows = rows + np.random.default_rng((self.seed, view)).normal(size=rows.shape)
        return {"x": torch.from_numpy(rows[indices]).float()}

    def facts(self, view: int | None) -> dict:
        return {"size": self.size, "seed": self.seed, "view": view}
