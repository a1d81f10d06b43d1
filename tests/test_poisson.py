"""Poisson variates are exact in distribution for every mean.

The vector path may only settle a count when no completion of the 52 bits could give another one;
the tests look beside every edge of the distribution, where it would go wrong first. Goodness of
fit uses fixed counters; each test would fail with probability 1e-4 for a randomly picked key.
"""

import numba
import numpy as np
import pytest
from goodness import fit_of_counts, fit_of_tails
from hypothesis import given, settings
from hypothesis import strategies as st
from reference import philox4x32_10, poisson_quantile, unit_interval
from scipy import special, stats

from simscope.kernels import inversion, numeric, poisson
from simscope.keys import Key

FALSE_ALARM = 1e-4
STREAM = tuple(np.uint32(w) for w in (2, 40, 0, 987, 654))
STREAM_INTS = (2, 40, 0, 987, 654)
needs_speed = pytest.mark.skipif(
    numba.config.DISABLE_JIT, reason="a million draws need compiled kernels"
)


def drawn(means, dtype=np.int64):
    out = np.empty(len(means), dtype)
    poisson.fill_poisson(out, np.asarray(means), *STREAM)
    return out


@needs_speed
@pytest.mark.parametrize("mean", [0.01, 0.5, 3, 3.99, 4.01, 10, 12, 30, 100, 1e3, 1e5, 1e7])
def test_counts_follow_the_poisson_law(mean):
    counts = drawn(np.full(1_000_000, mean))
    assert fit_of_counts(counts, stats.poisson(np.float32(mean))) > FALSE_ALARM


MILLIONS = 10
SLOW_FALSE_ALARM = 1e-6 / 54


@pytest.mark.slow
@needs_speed
@pytest.mark.parametrize("path", ["vectors", "one by one"])
@pytest.mark.parametrize("mean", [0.01, 0.5, 3, 10, 12, 30, 100, 1e3, 1e5])
def test_ten_million_counts_follow_the_poisson_law_to_its_tails(mean, path):
    """Chi-square, and how many counts lie beyond the quantiles at 1e-5 on either side.

    Three p values a case, 54 in all: had the keys been picked at random, any of them would fail
    with probability 1e-6.
    """
    law = stats.poisson(np.float32(mean))
    counts = np.empty((MILLIONS, 1_000_000), np.int64)
    key = Key(2026).child(f"goodness/{path}/{mean:g}")
    for sample, row in enumerate(counts):
        if path == "vectors":
            address = (np.uint32(0), np.uint32(sample), np.uint32(0))
            poisson.fill_poisson(row, np.full(row.size, mean, np.float32), *address, *key.words)
        else:
            row[:] = key.poisson(np.arange(row.size), np.float32(mean), sample=sample)
    p_values = [fit_of_counts(counts.ravel(), law), *fit_of_tails(counts.ravel(), law)]
    print("p values", mean, path, *(f"{p:.3g}" for p in p_values))
    assert min(p_values) > SLOW_FALSE_ALARM


@needs_speed
@pytest.mark.parametrize("mean", [0.1, 2.0, 5.0, 50.0, 5e3, 5e6])
def test_variance_equals_mean(mean):
    # Sample variance of a Poisson variate: standard error mean * sqrt((2 + 1/mean) / n); 4 sigma.
    counts = drawn(np.full(400_000, mean), np.float64)
    assert counts.mean() == pytest.approx(mean, abs=4 * np.sqrt(mean / counts.size))
    error = mean * np.sqrt((2 + 1 / mean) / counts.size)
    assert counts.var() == pytest.approx(mean, abs=4 * error)


def expected_count(element, mean):
    step, sample, draw, k0, k1 = STREAM_INTS
    word = philox4x32_10((element // 4, step, sample, draw), (k0, k1))[element % 4]
    lower = philox4x32_10((element, step, sample, draw + 2**31), (k0, k1))[0]
    return poisson_quantile(unit_interval(word, lower), float(np.float32(mean)))


@settings(max_examples=20, deadline=None)
@given(st.lists(st.floats(0, 1e7) | st.floats(0, 20), min_size=1, max_size=40))
def test_counts_are_quantiles_of_52_random_bits(means):
    expected = [expected_count(i, mean) for i, mean in enumerate(means)]
    np.testing.assert_array_equal(drawn(means), expected)


@needs_speed
def test_counts_are_quantiles_whichever_tile_they_fall_in():
    # Means around the switch at 4, longer than a tile: every path and the seams between tiles.
    means = np.linspace(0, 9, 3 * poisson.TILE + 7)
    expected = [expected_count(i, mean) for i, mean in enumerate(means)]
    np.testing.assert_array_equal(drawn(means), expected)


@numba.njit
def settled(words, mean):
    """Counts and doubts of the float32 path for one mean."""
    counts = np.empty(words.size, np.float32)
    for i in range(words.size):
        if mean < poisson.LOW_MEAN:
            counts[i] = poisson.low_mean_count(words[i], mean)
        else:
            counts[i] = poisson.high_mean_count(words[i], mean)
    return counts, counts < 0


def words_beside_edges(mean, most_edges=60):
    """Words near every edge of the distribution, and the count each must give (-1: undecided)."""
    low, high = stats.poisson.ppf([1e-6, 1 - 1e-6], mean)
    edges = np.unique(np.round(np.linspace(low, high, most_edges)))
    far = np.unique(np.round(np.geomspace(1, 1e6, 150)))
    offsets = np.r_[-far[::-1], np.arange(-3, 4), far].astype(np.int64)
    below, at, above = (stats.poisson.cdf(edges + d, mean)[:, None] * 2**32 for d in (-1, 0, 1))
    words = np.floor(at).astype(np.int64) + offsets
    kept = (words > below) & (words + 1 < above) & (words < 2**32)
    counts = np.where(words + 1 <= at, edges[:, None], edges[:, None] + 1)
    counts = np.where((words < at) & (words + 1 > at), -1, counts)
    return words[kept].astype(np.uint32), counts[kept]


EDGE_MEANS = np.r_[
    np.geomspace(0.01, 3.999, 20), np.geomspace(4, 60, 40), np.geomspace(60, 1e7, 30)
]


@needs_speed
def test_no_count_beside_an_edge_is_settled_wrongly():
    for mean in EDGE_MEANS.astype(np.float32):
        words, exact = words_beside_edges(float(mean))
        counts, doubts = settled(words, mean)
        wrong = ~doubts & (counts != exact)
        assert not wrong.any(), f"mean {mean}: word {words[wrong][0]} gives {counts[wrong][0]}"


def test_the_guard_exceeds_the_remainder_of_the_expansion():
    # Q at known u, from both tails of the incomplete gamma function; settled are tails from 1e-5.
    for mean in np.geomspace(4, 1e4, 40):
        root = np.sqrt(mean)
        exact = np.linspace(max(1e-9, mean - 4.6 * root - 1), mean + 5.5 * root + 4, 2001)
        below, above = special.gammaincc(exact, mean), special.gammainc(exact, mean)
        w = np.where(below < 0.5, special.ndtri(below), -special.ndtri(above))
        terms = poisson.EXPANSION_64[:5]
        found = mean + root * w + expansion_twin(w, 1 / root, terms)
        guard = (6e-3 * w**6 + 3e-2) / mean**2.5
        seen = np.minimum(below, above) > 0.9e-5
        assert np.all(np.abs(found - exact)[seen] < 0.75 * guard[seen])


def expansion_twin(w, inverse_root, terms):
    """Sum of the corrections, each a polynomial in w squared, every second times w."""
    return sum(
        w ** (k % 2) * np.polyval(term, w**2) * inverse_root**k for k, term in enumerate(terms)
    )


def test_settling_quantile_is_right_to_the_digits_the_guard_counts_on():
    # 2e-6 of w is guarded against; words of either half, down to the last tail.
    tails = np.r_[np.geomspace(1e-5, 0.5, 4000, endpoint=False), 0.5 - np.geomspace(1e-7, 0.1, 500)]
    words = (tails * 2**32).astype(np.uint32)
    for word in np.r_[words, ~words]:
        tail, q = numeric.tail_uniform32(word), numeric.centred_uniform32(word)
        # double precision of the word itself, by the tail that keeps its digits
        exact_tail = (min(int(word), 2**32 - 1 - int(word)) + 0.5) / 2**32
        exact = np.copysign(special.ndtri(exact_tail), q)
        assert poisson.settling_quantile32(q, tail) == pytest.approx(exact, rel=1.3e-6, abs=2e-7)


@needs_speed
def test_doubts_are_rare_enough_to_cost_nothing():
    words = np.random.default_rng(5).integers(0, 2**32, 200_000, dtype=np.uint32)
    for mean, most in [(0.1, 2e-4), (3.9, 1e-3), (4.0, 1e-2), (20.0, 4e-4), (1e3, 4e-4)]:
        assert settled(words, np.float32(mean))[1].mean() < most


@settings(max_examples=100, deadline=None)
@given(st.floats(1e-12, 1 - 1e-12), st.floats(1e-3, 1e7))
def test_float64_quantile_equals_scipy(u, mean):
    count = poisson.poisson_quantile(u, mean)
    if count != poisson_quantile(u, mean):
        # Both sides round: accept a neighbour only where u is on the edge to 1e-10 relative.
        edge = stats.poisson.cdf(min(count, poisson_quantile(u, mean)), mean)
        assert edge == pytest.approx(u, rel=1e-10)


def test_probabilities_agree_with_scipy_even_off_the_peak():
    # Loader's form keeps relative accuracy; scipy's own cancels at n log n ~ 1e8 times 1e-16.
    for n, mean in [(20.0, 100.0), (100.0, 100.0), (1e5, 1.01e5), (1e7, 1e7)]:
        expected = np.exp(stats.poisson.logpmf(n, mean))
        assert poisson.probability_of(n, mean) == pytest.approx(expected, rel=3e-8, abs=0)


def test_one_count_alone_equals_the_count_in_its_tile():
    # The scalar body that a GPU's threads call; the tile holds both paths and repaired counts.
    means = np.r_[np.linspace(0, 9, 400), np.geomspace(4, 1e7, 112)].astype(np.float32)
    words = np.random.default_rng(6).integers(0, 2**32, means.size, dtype=np.uint32)
    words[::7] = np.arange(words[::7].size) // 2  # in the tail: repaired
    counts = np.empty(means.size, np.float32)
    scratch = np.empty((6, poisson.ROW), np.uint32)
    poisson.poisson_tile(means, words, counts, scratch, 5, *STREAM)
    alone = [
        poisson.poisson_count(word, mean, np.uint32(5 + i), *STREAM)
        for i, (word, mean) in enumerate(zip(words, means, strict=True))
    ]
    np.testing.assert_array_equal(counts, alone)


def test_zero_mean_gives_zero_always():
    assert not drawn(np.zeros(500)).any()


def test_certain_and_summed_quantiles_agree():
    # The expansion's answer against the sum of probabilities, over the range where both apply.
    rng = np.random.default_rng(3)
    for mean in (101.0, 333.3, 2e3, 4e4):
        for u in rng.random(20 if numba.config.DISABLE_JIT else 200):
            guess = float(np.floor(mean))
            probability = poisson.probability_of(guess, mean)
            law = (0.0, mean, mean, np.inf)
            walked = inversion.quantile_from_guess(u, guess, probability, *law)
            assert walked == poisson.poisson_quantile(u, mean)
