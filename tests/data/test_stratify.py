import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from iterstrat.ml_stratifiers import IterativeStratification
from scipy.sparse import csr_array

from platform.data.stratify import stratify


@settings(deadline=None, max_examples=200)
@given(
    shape=st.tuples(st.integers(1, 40), st.integers(0, 12)),
    density=st.sampled_from([0.02, 0.1, 0.3, 1.0]),
    shares=st.sampled_from([(0.7, 0.15, 0.15), (0.8, 0.2), (1.0,)]),
    seed=st.integers(0, 2**32 - 1),
)
def test_every_item_has_the_fold_that_the_reference_gives_it(shape, density, shares, seed):
    labels = np.random.default_rng(seed).random(shape) < density
    ours = stratify(csr_array(labels), np.array(shares), np.random.RandomState(seed))
    theirs = IterativeStratification(labels, np.array(shares), np.random.RandomState(seed))
    assert ours.tolist() == theirs.tolist()
