import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from platform.data.splits import SPLITS, stratified_split


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
