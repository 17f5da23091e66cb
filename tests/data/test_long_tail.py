"""Images of rare classes are drawn more often, all else stays as it was."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from platform.data.long_tail import advice, draw, group_of, repeat_factors
from platform.training.examples import shuffled

FACTORS = st.lists(st.floats(1.0, 50.0), min_size=1, max_size=60).map(np.array)


def test_a_factor_is_that_of_the_rarest_class():
    labels = [[1], [1, 1], [1, 2], [1, 3, 2], [], [1], [1], [1], [1], [1]]  # 1 in nine of ten, 2 in two, 3 in one
    assert repeat_factors(labels, 0.4).tolist() == pytest.approx([1, 1, 2**0.5, 2, 1, 1, 1, 1, 1, 1])
    assert repeat_factors(labels, 0.1).tolist() == [1.0] * 10, "no class is in less than a tenth of them"


@given(FACTORS, st.integers(0, 2**32))
def test_each_is_drawn_as_often_as_its_factor_asks_for(factors, seed):
    indices = np.arange(len(factors)) * 3 + 100
    drawn = draw(indices, factors, np.random.default_rng(seed))
    times = np.array([(drawn == number).sum() for number in indices])
    assert times.sum() == len(drawn) == len(indices), "an epoch is as long as before"
    expected = len(indices) * factors / factors.sum()
    assert (np.abs(times - expected) < 1 + 1e-6).all()
    assert np.array_equal(drawn, draw(indices, factors, np.random.default_rng(seed)))


def test_over_epochs_the_shares_are_those_of_the_factors():
    factors = np.array([1.0, 1.0, 1.0, 2.5, 7.0])
    drawn = np.concatenate([draw(np.arange(5), factors, np.random.default_rng((7, epoch))) for epoch in range(4000)])
    shares = np.bincount(drawn) / len(drawn)
    assert shares == pytest.approx(factors / factors.sum(), abs=0.005)


def test_copies_of_an_example_do_not_stay_together():
    drawn = draw(np.arange(400), np.where(np.arange(400) < 4, 40.0, 1.0), np.random.default_rng(0))
    neighbours = (drawn[:-1] == drawn[1:]).mean()
    assert (drawn < 4).mean() > 0.25
    assert neighbours < 0.05


@given(st.integers(1, 50), st.integers(1, 9), st.integers(0, 2**32), st.sampled_from([None, 1.0, 3.0]))
def test_without_rare_classes_an_epoch_is_the_permutation_that_it_always_was(count, batch_size, seed, factor):
    indices = np.arange(count) + 7
    factors = None if factor is None else np.full(count, factor)
    batches = list(shuffled(indices, batch_size, np.random.default_rng(seed), factors))
    assert np.concatenate(batches).tolist() == np.random.default_rng(seed).permutation(indices).tolist()
    assert max(map(len, batches)) - min(map(len, batches)) <= 1


def test_batches_are_as_many_with_rare_classes():
    factors = np.array([1.0] * 9 + [5.0])
    batches = list(shuffled(np.arange(10), 4, np.random.default_rng(0), factors))
    assert [len(batch) for batch in batches] == [4, 3, 3]


def test_groups_are_those_of_lvis():
    assert [group_of(n) for n in (1, 10, 11, 100, 101)] == ["rare", "rare", "common", "common", "frequent"]


def test_a_long_tail_is_reported():
    assert advice([100, 60, 10]) == advice([9, 9, 90]) == ""
    assert advice([300, 4, 4, 5]).startswith(
        "half of the 4 classes are in at most 4 training images, the most frequent"
    )
