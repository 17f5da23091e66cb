"""Projection of embeddings to two dimensions, and the silhouette coefficient."""

import math

import numpy as np
import pytest

from platform.evaluation import figures
from platform.evaluation.projection import project, silhouette

RNG = np.random.default_rng(0)
CLASSES = ["a"] * 30 + ["b"] * 30
APART = np.concatenate([RNG.normal(size=(30, 8)) + 6, RNG.normal(size=(30, 8)) - 6]).astype(np.float32)


def test_classes_that_lie_apart_stay_apart_in_both_pictures():
    points = project(APART, seed=0)
    assert [title.split(",")[0] for title in points] == ["PCA", "t-SNE"]
    for places in points.values():
        assert places.shape == (60, 2)
        middles = [places[:30].mean(0), places[30:].mean(0)]
        assert np.linalg.norm(middles[0] - middles[1]) > 2 * places[:30].std()
    assert np.array_equal(project(APART, seed=0)["t-SNE"], points["t-SNE"])


@pytest.mark.parametrize("shape", [(1, 5), (2, 1), (3, 4), (5, 1)])
def test_few_vectors_and_few_dimensions_are_drawn_too(shape):
    points = project(RNG.normal(size=shape), seed=0)
    assert all(places.shape == (shape[0], 2) for places in points.values())
    assert len(figures.embeddings(points, ["x"] * shape[0], "few").axes) == len(points)


def test_the_silhouette_tells_classes_from_noise():
    assert silhouette(APART, CLASSES) > 0.7
    assert abs(silhouette(RNG.normal(size=(60, 8)), CLASSES)) < 0.15
    assert math.isnan(silhouette(APART, ["a"] * 60))
