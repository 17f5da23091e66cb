"""Splits into training, validation and test that keep the share of every class."""

from collections.abc import Collection, Hashable, Sequence

import numpy as np
from iterstrat.ml_stratifiers import IterativeStratification
from scipy.optimize import Bounds, LinearConstraint, milp
from scipy.sparse import csr_array, hstack, identity, kron
from sklearn.preprocessing import MultiLabelBinarizer

from platform.errors import Fault, InputError

SPLITS = ("train", "val", "test")

_FRACTIONS = (0.7, 0.15, 0.15)
_NODE_LIMIT = 20
_SPARE = 8  # items of a label in a split that the repair of splits may move


def complete(
    given: Sequence[str | None], labels: Sequence[Collection[Hashable]], groups: Sequence[str], seed: int
) -> tuple[list[str], list[str]]:
    """Keep the splits that the data gives and make the missing ones, stratified.

    Where none are given, everything is split. Otherwise what is missing is taken from training. The search must not see
    what its result is published on: where only training and validation are given, the latter becomes the test split.

    Args:
        given: "train", "val" or "test" for each item, or None for all of them.
        labels: The labels of each item.
        groups: A name for each item; items of one name are not separated where splits are made. See `stratified_split`.
        seed: Seed of the splits made here.

    Returns:
        The split of each item, and notes about splits that the data gives and that were changed.

    Raises:
        InputError: Splits are given, but none for training.
        ValueError: Some items have a split and some have none.
    """
    named = set(given)
    if named == {None}:
        return stratified_split(labels, _FRACTIONS, seed, groups), []
    if None in named:
        raise ValueError("all items have a split or none; found some with and some without")
    if named and "train" not in named:
        rule = "the data must have a training split where it has others"
        found = f"only {' and '.join(sorted(map(str, named)))}"
        raise InputError(Fault(rule, found, "Name a part of it train, or give no splits at all."))
    splits = [str(split) for split in given]
    missing = [split for split in SPLITS if split not in named]
    were = "it was" if len(missing) == 1 else "they were"
    note = f"the data has no {' and no '.join(missing)} split: {were} taken from training with seed {seed}"
    if missing == ["test"]:
        splits = ["test" if split == "val" else split for split in splits]
        missing = ["val"]
        note = (
            "the data has no test split: its validation split is kept for the final test, "
            f"and a new validation split was taken from training with seed {seed}"
        )
    if not named or not missing:
        return splits, []
    train, val, test = (share if s in ("train", *missing) else 0.0 for s, share in zip(SPLITS, _FRACTIONS, strict=True))
    pool = [number for number, split in enumerate(splits) if split == "train"]
    carved = stratified_split([labels[n] for n in pool], (train, val, test), seed, [groups[n] for n in pool])
    for number, split in zip(pool, carved, strict=True):
        splits[number] = split
    return splits, [note]


def stratified_split(
    labels: np.ndarray | Sequence[Collection[Hashable]],
    fractions: tuple[float, float, float] = _FRACTIONS,
    seed: int = 0,
    groups: Sequence[str] | None = None,
) -> list[str]:
    """Split items that may have several labels each, or none, by iterative stratification.

    Every label is in training. Beyond that, as many (label, split) pairs as possible are covered: all of them for
    labels with at least as many groups as there are splits, except where labels share their few items in a way that
    makes it impossible. Where iterative stratification (Sechidis et al. 2011) falls short of this, the fewest items are
    moved.

    Args:
        labels: The labels of n items: an indicator matrix of shape (n, labels), or n collections of labels.
        fractions: Shares of train, val and test; a split of share 0 is not made.
        seed: 0 .. 2**32 - 1; the same seed gives the same splits.
        groups: n names; items of the same name are never separated. If each item has its own name, the split does not
            depend on the order of the items. Shares are shares of groups.

    Returns:
        "train", "val" or "test" for each item.
    """
    indicators = csr_array(
        labels if isinstance(labels, np.ndarray) else MultiLabelBinarizer(sparse_output=True).fit_transform(labels)
    )
    n, _ = indicators.shape
    if n == 0:
        return []
    names, group_of = np.unique(np.arange(n) if groups is None else np.asarray(groups), return_inverse=True)
    members = csr_array((np.ones(n, int), (group_of, np.arange(n))), shape=(len(names), n))
    grouped = csr_array((members @ indicators.astype(int)).astype(bool))
    grouped.sort_indices()
    made = [index for index, fraction in enumerate(fractions) if fraction > 0]
    shares = np.array([fractions[index] for index in made])
    random = np.random.RandomState(seed)
    order = random.permutation(len(names))
    assigned = np.empty(len(names), int)
    # The library needs a dense matrix of bool: it would take integers for indices, with wrong quotas.
    assigned[order] = IterativeStratification(grouped[order].toarray(), shares / shares.sum(), random)
    assigned = _cover(grouped, assigned, len(made))
    return [SPLITS[made[split]] for split in assigned[group_of]]


def _cover(grouped: csr_array, assigned: np.ndarray, splits: int) -> np.ndarray:
    """Move the fewest items so that each split has each label, the first split above all, and no split is empty.

    An integer program, because a greedy repair of one label takes away from another. Its variables are x[item, split]
    in {0, 1} and a slack for each (label, split): 1 where the label has to be missing. The first split gets no slack,
    as training can always hold everything. The search is bounded by nodes, not by time, so that it ends the same way on
    every machine: hundreds of labels that share a handful of items would keep it busy for hours. Few items may move:
    those of labels that are missing somewhere, and of each other label enough to replace those.
    """
    anything = csr_array(np.ones((grouped.shape[0], 1), int))
    wanted = csr_array(hstack([grouped.astype(int), anything]))[:, [*np.flatnonzero(grouped.sum(axis=0)), -1]]
    current = np.eye(splits, dtype=int)[assigned]  # (items, splits)
    short = ~(wanted.T @ current).astype(bool).all(axis=1)
    if not short.any():
        return assigned
    movable = np.asarray(wanted[:, np.flatnonzero(short[:-1])].sum(axis=1)) > 0
    by_label = wanted.tocsc()
    for items in np.split(by_label.indices, by_label.indptr[1:-1]):
        for split in range(splits):
            movable[items[assigned[items] == split][:_SPARE]] = True
    moved = assigned.copy()
    moved[movable] = _solve(wanted[np.flatnonzero(movable)], current[movable])
    return moved


def _solve(wanted: csr_array, current: np.ndarray) -> np.ndarray:
    (items, labels), splits = wanted.shape, current.shape[1]
    one_split = hstack([kron(identity(items), np.ones((1, splits))), csr_array((items, labels * splits))])
    covered = hstack([kron(wanted.T.astype(float), identity(splits)), identity(labels * splits)])
    slack_allowed = np.tile(np.arange(splits) > 0, labels)
    result = milp(
        np.concatenate([1 - current.ravel(), np.full(labels * splits, items + 1)]),
        constraints=[LinearConstraint(one_split, 1, 1), LinearConstraint(covered, 1)],
        integrality=np.ones(items * splits + labels * splits),
        bounds=Bounds(0, np.concatenate([np.ones(items * splits), slack_allowed])),
        options={"node_limit": _NODE_LIMIT},
    )
    return result.x[: items * splits].reshape(items, splits).argmax(axis=1)
