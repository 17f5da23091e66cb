"""Repeat-factor sampling for long-tailed data, and groups of classes by their number of training images.

Both are those of LVIS (Gupta, Dollár and Girshick 2019, arXiv:1908.03195), with one difference: there an epoch grows
with the repeats; here its length stays the same and other images are drawn less often, so that schedules keep their
steps and trials that ASHA compares after an epoch have trained on the same number of examples. All draws of an example
in an epoch give the same view of it (see `platform.training.examples`).

Class weights of the loss are not offered: torchvision's detectors do not support them, and they would increase the
gradient of the few boxes of a class without showing its images more often.
"""

import math
import statistics
from collections import Counter
from collections.abc import Collection, Iterable, Sequence

import numpy as np

TAIL = 10  # ratio of the largest class to the median class from which data counts as long-tailed
GROUPS = {"rare": 10, "common": 100, "frequent": math.inf}  # most training images of a class in the group


def counts(labels: Iterable[Collection[int]]) -> Counter[int]:
    """Count the examples in which each label occurs."""
    return Counter(label for each in labels for label in set(each))


def group_of(images: int) -> str:
    """Return the group, one of GROUPS, of a class with this number of training images."""
    return next(name for name, most in GROUPS.items() if images <= most)


def advice(images: Sequence[int]) -> str:
    """Return advice about a long tail in the numbers of training images of each class, or "" if there is none."""
    median, most = statistics.median(images), max(images)
    if most <= TAIL * median:
        return ""
    return (
        f"half of the {len(images)} classes are in at most {median:.0f} training images, the most frequent one in "
        f"{most}: --set oversample=0,0.1 also tries to draw images of rare classes more often"
    )


def repeat_factors(labels: Sequence[Collection[int]], oversample: float) -> np.ndarray:
    """Return each example's repeat factor, (n,), 1 or more.

    A label's factor is max(1, √(oversample / share of the examples that have it)); an example's factor is the largest
    of its labels.

    Args:
        labels: Labels of each example; an example without labels has the factor 1.
        oversample: Share of examples below which a label counts as rare; 0.001 in LVIS.
    """
    least = oversample * len(labels)
    factors = {label: max(1.0, math.sqrt(least / count)) for label, count in counts(labels).items()}
    return np.array([max((factors[label] for label in each), default=1.0) for each in labels])


def draw(indices: np.ndarray, factors: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Draw n of n indices in random order, each in proportion to its factor.

    An index is drawn n × factor / (sum of factors) times on average and never differs from that by one or more:
    systematic resampling (Carpenter et al. 1999) goes through the indices in random order with equal steps and one
    random start.
    """
    order = generator.permutation(len(indices))
    ends = np.cumsum(factors[order])
    steps = (generator.random() + np.arange(len(indices))) * (ends[-1] / len(indices))
    places = np.minimum(np.searchsorted(ends, steps, side="right"), len(indices) - 1)  # rounding may lead beyond
    return generator.permutation(indices[order[places]])
