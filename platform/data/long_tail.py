"""Long tails: images of rare classes drawn more often, and classes told apart by how rare they are.

Repeat-factor sampling and the groups are those of LVIS (Gupta, Dollár and Girshick 2019, arXiv:1908.03195). There an
epoch grows with the repeats. Here it stays as long as it was, and other images are drawn less often instead: schedules
keep their steps, and all that ASHA compares after an epoch has seen as many examples. All draws of an example in an
epoch show the same view of it (see `platform.training.examples`).

Weights of the loss by class are not offered besides: torchvision's detectors take none, and they would let the few
boxes of a class pull harder without showing its images any more often.
"""

import math
import statistics
from collections import Counter
from collections.abc import Collection, Iterable, Sequence

import numpy as np

TAIL = 10  # times as many images as half of the classes have: then the most frequent one makes the others a tail
GROUPS = {"rare": 10, "common": 100, "frequent": math.inf}  # up to how many training images its classes have


def counts(labels: Iterable[Collection[int]]) -> Counter[int]:
    """In how many examples each label occurs."""
    return Counter(label for each in labels for label in set(each))


def group_of(images: int) -> str:
    """Which of GROUPS a class is in that occurs in so many training images."""
    return next(name for name, most in GROUPS.items() if images <= most)


def advice(images: Sequence[int]) -> str:
    """What is to be told of a long tail, "" where there is none.

    Args:
        images: In how many training images each class is.
    """
    median, most = statistics.median(images), max(images)
    if most <= TAIL * median:
        return ""
    return (
        f"half of the {len(images)} classes are in at most {median:.0f} training images, the most frequent one in "
        f"{most}: --set oversample=0,0.1 also tries to draw images of rare classes more often"
    )


def repeat_factors(labels: Sequence[Collection[int]], oversample: float) -> np.ndarray:
    """How much more often than others each example is to be drawn, (n,), 1 or more.

    A label's factor is max(1, √(oversample / the share of examples that have it)), an example's its labels' largest.

    Args:
        labels: Of each example; one without has the factor 1.
        oversample: The share of examples below which a label counts as rare; LVIS has 0.001.
    """
    least = oversample * len(labels)
    factors = {label: max(1.0, math.sqrt(least / count)) for label, count in counts(labels).items()}
    return np.array([max((factors[label] for label in each), default=1.0) for each in labels])


def draw(indices: np.ndarray, factors: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """As many indices as there are, in random order, each as often as its factor asks for.

    That is n × factor / sum of factors times on average, and never off by one or more: systematic resampling
    (Carpenter et al. 1999) goes through the indices in random order with equal steps and one random start.

    Args:
        indices: (n,) of the examples.
        factors: (n,) positive.
        generator: Decides what is drawn.
    """
    order = generator.permutation(len(indices))
    ends = np.cumsum(factors[order])
    steps = (generator.random() + np.arange(len(indices))) * (ends[-1] / len(indices))
    places = np.minimum(np.searchsorted(ends, steps, side="right"), len(indices) - 1)  # rounding may lead beyond
    return generator.permutation(indices[order[places]])
