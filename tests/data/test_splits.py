import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from platform.data.splits import SPLITS, complete, stratified_split
from platform.errors import InputError


@st.composite
def labelled(draw):
    """Label sets in which each class has three items of its own, so that a full split exists, shuffled; with names."""
    classes = draw(st.integers(1, 6))
    own = [{label} | draw(st.sets(st.integers(0, classes - 1))) for label in range(classes) for _ in range(3)]
    more = draw(st.lists(st.sets(st.integers(0, classes - 1)), max_size=20))
    return draw(st.permutations([(f"item{i}", labels) for i, labels in enumerate(own + more)]))


@settings(deadline=None, max_examples=60)
@given(labelled(), st.integers(0, 2**32 - 1))
def test_each_class_is_in_each_split_by_seed_whatever_the_order(items, seed):
    def split(items):
        splits = stratified_split([labels for _, labels in items], seed=seed, groups=[name for name, _ in items])
        return {name: split for (name, _), split in zip(items, splits, strict=True)}

    splits = split(items)
    for label in {label for _, labels in items for label in labels}:
        assert {splits[name] for name, labels in items if label in labels} == set(SPLITS)
    assert split(items) == split(items[::-1]) == splits


def test_shares_are_kept_for_sizes_and_for_each_class():
    indicators = np.random.default_rng(0).random((1000, 4)) < [0.5, 0.2, 0.1, 0.02]
    splits = np.array(stratified_split(indicators, (0.7, 0.15, 0.15), seed=1))
    for split, share in zip(SPLITS, (0.7, 0.15, 0.15), strict=True):
        assert (splits == split).mean() == pytest.approx(share, abs=0.02)
        assert indicators[splits == split].sum(axis=0) / indicators.sum(axis=0) == pytest.approx(share, abs=0.06)


def test_seeds_differ_and_integers_count_as_booleans():
    indicators = np.eye(2, dtype=int)[np.arange(60) % 2]
    assert stratified_split(indicators, seed=1) != stratified_split(indicators, seed=2)
    assert stratified_split(indicators, seed=1) == stratified_split(indicators.astype(bool), seed=1)


def test_groups_stay_together():
    groups = [f"group{i // 4}" for i in range(40)]
    splits = stratified_split([{"a"}] * 40, seed=0, groups=groups)
    assert len(set(zip(groups, splits, strict=True))) == 10
    assert set(splits) == set(SPLITS)


def test_a_share_of_zero_makes_no_split():
    assert set(stratified_split([{"a"}] * 20, (0.8, 0.2, 0.0))) == {"train", "val"}
    assert set(stratified_split([{"a"}] * 20, (0.8, 0.0, 0.2))) == {"train", "test"}


def test_rare_classes_go_to_training_first():
    splits = stratified_split([{"common"}] * 30 + [{"once"}], seed=3)
    assert splits[-1] == "train"
    assert stratified_split([{"a"}]) == ["train"]
    assert stratified_split([]) == []


def test_where_no_full_split_exists_training_still_has_all():
    triples = [{0, 1, 2}, {0, 1, 3}, {0, 2, 3}, {1, 2, 3}]  # four items, each class in three of them
    for seed in range(5):
        splits = stratified_split(triples, seed=seed)
        assert set.union(*[labels for labels, split in zip(triples, splits, strict=True) if split == "train"]) == {
            *range(4)
        }
        assert set(splits) == set(SPLITS)


@st.composite
def with_splits(draw):
    """Items of two classes, some of them equal, with the splits of one of the kinds that data come with."""
    size = draw(st.integers(12, 40))
    made = draw(st.sampled_from([("train",), ("train", "val"), ("train", "test"), ("train", "val", "test"), ()]))
    rest = draw(st.lists(st.sampled_from(made or (None,)), min_size=size - 2 * len(made), max_size=size))
    given = draw(st.permutations([*made, *made, *rest]))
    labels = [{number % 2} for number in range(len(given))]
    groups = [f"group{draw(st.integers(0, len(given)))}" for _ in given]
    return given, labels, groups


@settings(deadline=None, max_examples=100)
@given(with_splits(), st.integers(0, 2**32 - 1))
def test_given_splits_are_kept_and_missing_ones_made(data, seed):
    before, labels, groups = data
    after, notes = complete(before, labels, groups, seed)
    assert (after, notes) == complete(before, labels, groups, seed)
    assert set(after) <= set(SPLITS)
    assert len(after) == len(before)
    assert all(split == "test" for was, split in zip(before, after, strict=True) if was == "test")
    made_from = [number for number, was in enumerate(before) if was in (None, "train")]
    assert len({(groups[n], after[n]) for n in made_from}) == len({groups[n] for n in made_from})
    if {"train", "val"} == set(before):
        assert [n for n, split in enumerate(after) if split == "test"] == [
            n for n, was in enumerate(before) if was == "val"
        ]
    if {"val", "test"} <= set(before):
        assert (after, notes) == (before, [])


@pytest.mark.parametrize(
    ("before", "counts", "notes"),
    [
        ([None] * 100, (70, 15, 15), []),
        (
            ["train"] * 100,
            (70, 15, 15),
            ["the data has no val and no test split: they were taken from training with seed 4"],
        ),
        (
            ["train"] * 85 + ["test"] * 15,
            (70, 15, 15),
            ["the data has no val split: it was taken from training with seed 4"],
        ),
        (
            ["train"] * 85 + ["val"] * 15,
            (70, 15, 15),
            [
                "the data has no test split: its validation split is kept for the final test, "
                "and a new validation split was taken from training with seed 4"
            ],
        ),
        (["train"] * 2 + ["val"] + ["test"], (2, 1, 1), []),
    ],
)
def test_the_shares_of_made_splits_and_their_notes(before, counts, notes):
    after, lines = complete(before, [{"a"}] * len(before), [str(n) for n in range(len(before))], seed=4)
    assert tuple(after.count(split) for split in SPLITS) == counts
    assert lines == notes


def test_splits_without_training_are_refused_and_half_given_ones_are_a_mistake():
    with pytest.raises(InputError, match="only test and val"):
        complete(["test", "val"], [{"a"}] * 2, ["a", "b"], 0)
    with pytest.raises(ValueError, match="all items have a split or none"):
        complete(["train", None], [{"a"}] * 2, ["a", "b"], 0)
    assert complete([], [], [], 0) == ([], [])


def test_a_rare_label_of_a_large_set_is_in_each_split_and_little_else_is_moved():
    labels = [{f"common{i % 7}"} for i in range(6000)]
    for number, index in enumerate((5, 17, 4000)):
        labels[index] = {"rare", f"common{number}"}
    splits = np.array(stratified_split(labels, seed=2))
    assert set(splits[[5, 17, 4000]]) == set(SPLITS)
    for split, share in zip(SPLITS, (0.7, 0.15, 0.15), strict=True):
        assert (splits == split).mean() == pytest.approx(share, abs=0.01)
