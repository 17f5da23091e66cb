"""Duplicate images: equal pixels, or nearly the same after another compression, size, crop or brightness.

A perceptual hash finds the candidates, and a comparison of small grey images decides. The thresholds come from
`benchmarks.duplicates`, which measures precision and recall.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from platform.curation.cleaning.alignment import unlikeness
from platform.curation.cleaning.looks import ImageFeatures, read_looks
from platform.data.arrays import in_threads

UNLIKE = 0.22  # distance from which two images are different, see `alignment.unlikeness`
BITS = 100  # of 256; images with more different bits are not compared
STRETCHED = 1.2  # largest ratio of two aspect ratios; crops change it by a little less
NEAREST = 24  # images that each is compared with, at most, as thousands of words in one style have similar hashes

_PAIRS = 64  # pairs of pictures aligned at a time
_CELLS = 2**22  # pairs of hashes compared at a time, which bounds the memory


class NearDuplicate(NamedTuple):
    """Two near duplicates; `distance` is below UNLIKE, and 0 if nothing differs."""

    one: Path
    other: Path
    distance: float


def exact(looks: Mapping[Path, ImageFeatures]) -> list[list[Path]]:
    """Return groups of two or more images with equal pixels, in the order given."""
    equal: dict[str, list[Path]] = defaultdict(list)
    for path, look in looks.items():
        if not look.fault:
            equal[look.pixels].append(path)
    return [paths for paths in equal.values() if len(paths) > 1]


def near(looks: Mapping[Path, ImageFeatures]) -> list[NearDuplicate]:
    """Return pairs of near duplicates in the order given; of images with equal pixels only the first is compared."""
    first = {look.pixels: path for path, look in reversed([*looks.items()]) if not look.fault}
    paths = [path for path, look in looks.items() if first.get(look.pixels) == path]
    if len(paths) < 2:
        return []
    pairs = _candidates(np.array([looks[path].hash for path in paths]))
    aspect = np.log([looks[path].aspect for path in paths])
    pairs = pairs[np.abs(aspect[pairs[:, 0]] - aspect[pairs[:, 1]]) < np.log(STRETCHED)]
    grey = np.array([looks[path].grey for path in paths])

    def compare(some: np.ndarray) -> np.ndarray:
        return unlikeness(grey[some[:, 0]], grey[some[:, 1]])

    chunks = [pairs[start : start + _PAIRS] for start in range(0, len(pairs), _PAIRS)]
    distances = np.concatenate([np.zeros(0), *in_threads(compare, chunks)])
    found = zip(pairs.tolist(), distances.tolist(), strict=True)
    return [NearDuplicate(paths[one], paths[other], distance) for (one, other), distance in found if distance < UNLIKE]


def joined(paths: Sequence[Path], pairs: Iterable[tuple[Path, Path]]) -> dict[Path, int]:
    """Return the number of each path's group of connected pairs; groups are numbered by their first path."""
    place = {path: number for number, path in enumerate(paths)}
    ends = np.array([(place[one], place[other]) for one, other in pairs], int).reshape(-1, 2)
    graph = coo_array((np.ones(len(ends)), (ends[:, 0], ends[:, 1])), shape=(len(paths), len(paths)))
    _, labels = connected_components(graph, directed=False)
    numbers: dict[int, int] = {}
    return {path: numbers.setdefault(label, len(numbers)) for path, label in zip(paths, labels.tolist(), strict=True)}


def groups(root: Path, paths: Iterable[Path]) -> dict[Path, int]:
    """Return the number of each image's group of duplicates and near duplicates; a broken one is a group of its own."""
    paths = list(dict.fromkeys(paths))
    looks = read_looks(root, paths)
    same = [(each[0], other) for each in exact(looks) for other in each[1:]]
    return joined(paths, [*same, *((pair.one, pair.other) for pair in near(looks))])


def _candidates(hashes: np.ndarray) -> np.ndarray:
    """Return candidate pairs, sorted, of shape (pairs, 2), for hashes of shape (images, words)."""
    found = [np.zeros((0, 2), int), *_near_hashes(hashes)]
    return np.unique(np.sort(np.concatenate(found), axis=1), axis=0)


def _near_hashes(hashes: np.ndarray) -> Iterator[np.ndarray]:
    step = max(1, _CELLS // len(hashes))
    for start in range(0, len(hashes), step):
        rows = hashes[start : start + step]
        apart = sum(np.bitwise_count(rows[:, None, word] ^ hashes[:, word]).astype(np.uint16) for word in range(4))
        apart[np.arange(len(rows)), np.arange(start, start + len(rows))] = np.iinfo(np.uint16).max
        for row in np.flatnonzero((apart <= BITS).sum(1) > NEAREST):
            nearest = np.argsort(apart[row], kind="stable")[:NEAREST]
            others = np.ones(len(hashes), bool)
            others[nearest] = False
            apart[row, others] = np.iinfo(np.uint16).max
        one, other = np.nonzero(apart <= BITS)
        yield np.stack([one + start, other], 1)
