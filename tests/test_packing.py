"""Chosen elements set side by side and put back, by vector instructions as one at a time."""

import numba
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simscope.kernels import packing

THRESHOLD = np.float32(4.0)
shares = st.tuples(st.integers(0, 2**32 - 1), st.integers(1, 4), st.floats(0, 1))


def keys_and_values(seed, groups, share_low):
    """Keys of which about a share lies below the threshold, and random words."""
    rng = np.random.default_rng(seed)
    size = groups * packing.LANES
    keys = np.where(rng.random(size) < share_low, rng.uniform(-9, 4, size), rng.uniform(4, 9, size))
    keys[rng.integers(size)] = THRESHOLD  # not below itself
    return keys.astype(np.float32), rng.integers(0, 2**32, size, dtype=np.uint32)


@settings(max_examples=50, deadline=None)
@given(shares)
def test_split_keeps_the_order_on_either_side_and_merge_undoes_it(case):
    keys, values = keys_and_values(*case)
    sides = [np.empty_like(array) for array in (keys, values, keys, values)]
    low = packing.split(keys, values, THRESHOLD, *sides)
    below = keys < THRESHOLD
    assert low == below.sum()
    expected = (keys[below], values[below], keys[~below], values[~below])
    for side, chosen in zip(sides, expected, strict=True):
        np.testing.assert_array_equal(side[: chosen.size], chosen)
    merged = np.empty_like(keys)
    packing.merge(keys, THRESHOLD, sides[0], sides[2], merged)
    np.testing.assert_array_equal(merged, keys)


@settings(max_examples=50, deadline=None)
@given(shares)
def test_places_are_those_below(case):
    keys, _ = keys_and_values(*case)
    places = np.empty(keys.size, np.int32)
    size = packing.places_below(keys, THRESHOLD, places)
    np.testing.assert_array_equal(places[:size], np.flatnonzero(keys < THRESHOLD))


@pytest.mark.parametrize("compiler", [lambda function: function, numba.njit])
def test_one_at_a_time_and_instructions_agree(compiler):
    # What processors without the instructions run, next to what this one runs.
    keys, values = keys_and_values(1, 3, 0.4)
    pack, unpack = compiler(packing.pack), compiler(packing.unpack)
    low, high = (np.empty(keys.size, np.uint32) for _ in range(2))
    sides = [np.empty_like(array) for array in (keys, values, keys, values)]
    count, at, merged = 0, 0, np.empty_like(values)
    for start in range(0, keys.size, packing.LANES):
        pack(keys, THRESHOLD, False, start, values, high, start - count)
        count = pack(keys, THRESHOLD, True, start, values, low, count)
    assert packing.split(keys, values, THRESHOLD, *sides) == count
    np.testing.assert_array_equal(sides[1][:count], low[:count])
    np.testing.assert_array_equal(sides[3][: keys.size - count], high[: keys.size - count])
    for start in range(0, keys.size, packing.LANES):
        at = unpack(keys, THRESHOLD, start, low, at, high, start - at, merged)
    np.testing.assert_array_equal(merged, values)
