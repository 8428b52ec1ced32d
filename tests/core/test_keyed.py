import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from aigc_lightning.core import keyed

KEYS = st.integers(min_value=0, max_value=2**63 - 1)


def test_first_part_of_the_key_is_mixed_as_published():
    # SplitMix64 seeded with 0 gives this number first (Vigna's splitmix64.c).
    assert int(keyed.hashed(0)) == 0xE220A8397B1DCDAF


@settings(deadline=None)
@given(KEYS, st.lists(KEYS, min_size=1, max_size=5))
def test_arrays_give_what_their_elements_give(seed, indices):
    together = keyed.hashed(seed, np.array(indices))
    assert together.tolist() == [int(keyed.hashed(seed, index)) for index in indices]


def test_order_and_length_of_the_key_matter():
    keys = [(1, 2), (2, 1), (1,), (1, 2, 0), (0, 1, 2)]
    assert len({int(keyed.hashed(*key)) for key in keys}) == len(keys)


def test_uniform_fills_the_unit_interval_evenly():
    numbers = keyed.uniform(7, np.arange(100_000))
    assert numbers.min() >= 0 and numbers.max() < 1
    counts, _ = np.histogram(numbers, bins=20, range=(0, 1))
    # 5,000 are expected in each bin, with a standard deviation of 69.
    assert np.abs(counts - 5000).max() < 5 * 69


def test_neighbouring_keys_are_uncorrelated():
    numbers = keyed.uniform(np.arange(200)[:, None], np.arange(200)[None, :])
    for left, right in ((numbers[1:], numbers[:-1]), (numbers[:, 1:], numbers[:, :-1])):
        # The standard deviation of the estimate is 1 / sqrt(200 * 199) = 0.005.
        assert abs(np.corrcoef(left.ravel(), right.ravel())[0, 1]) < 0.025


def test_permutation_is_one_and_depends_on_the_key():
    order = keyed.permutation(1000, 3, 4)
    assert sorted(order.tolist()) == list(range(1000))
    assert torch.equal(order, keyed.permutation(1000, 3, 4))
    assert not torch.equal(order, keyed.permutation(1000, 3, 5))


def test_normal_is_standard_and_leaves_the_global_stream_alone():
    torch.manual_seed(0)
    before = torch.get_rng_state()
    numbers = keyed.normal((100, 1000), 5)
    assert torch.equal(torch.get_rng_state(), before)
    assert numbers.dtype == torch.float32
    assert abs(numbers.mean()) < 0.02 and abs(numbers.std() - 1) < 0.02
    assert not torch.equal(numbers, keyed.normal((100, 1000), 6))


@given(st.lists(st.integers(0, 2**63), min_size=1, max_size=5))
def test_plain_integers_are_mixed_like_arrays(key):
    assert keyed.mixed(*key) == int(keyed.hashed(*key))
