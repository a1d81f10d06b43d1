"""Binomial variates are exact in distribution for any number of trials and any probability."""

import math
from fractions import Fraction

import numba
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from simscope.kernels import binomial, poisson

GUARDED = [(200, 0.5), (250, 0.4), (400, 0.25), (1000, 0.1), (10**4, 0.01), (10**6, 0.3)]
FEW = 5 if numba.config.DISABLE_JIT else 60
LAWS = [(1, 0.5), (7, 0.3), (150, 0.7), (1000, 0.5), (100_000, 0.999), (10**6, 0.3)]


def threshold(n, trials, p):
    """Largest u that gives a count of at most n, by bisection: F(n), if the law is right."""
    low, high = 2.0**-53, 1 - 2.0**-53
    while True:
        middle = (low + high) / 2
        if middle in (low, high):
            return low
        if binomial.binomial_quantile(middle, float(trials), p) <= n:
            low = middle
        else:
            high = middle


@pytest.mark.parametrize(("trials", "p"), LAWS)
def test_every_count_has_its_exact_share_of_the_unit_interval(trials, p):
    law = stats.binom(trials, p)
    low, high = law.ppf([1e-5, 1 - 1e-5])
    for n in np.unique(np.round(np.linspace(low, min(high, trials - 1), FEW))):
        share = law.cdf(n)
        assert threshold(n, trials, p) == pytest.approx(share, abs=1e-13)


@settings(max_examples=100, deadline=None)
@given(st.floats(1e-4, 1 - 1e-4), st.floats(2.01, 6.5), st.floats(-4, -0.302))
def test_expansion_and_sums_of_probabilities_agree(u, decades, log_p):
    p = 10.0**log_p
    trials = float(round(10.0**decades / p))
    expanded = binomial.quantile_to_half(u, trials, p)
    guess = float(round(trials * p))
    assert binomial.quantile_by_sums(u, trials, p, guess) == expanded


def test_expansion_errs_less_than_its_guard():
    # Q(u) is n + 1 where u = F(n): there the guard must cover all of the expansion's error
    for trials, p in [
        (200, 0.5),
        (250, 0.4),
        (400, 0.25),
        (1000, 0.1),
        (10**4, 0.01),
        (10**6, 0.3),
    ]:
        v, law = p * (1 - p), stats.binom(trials, p)
        variance = trials * v
        n = np.unique(np.round(law.ppf(np.linspace(0.001, 0.999, 4 * FEW))))
        w = np.where(n < trials * p, stats.norm.ppf(law.cdf(n)), -stats.norm.ppf(law.sf(n)))
        sigma = math.sqrt(variance)
        shift = np.array([binomial.expansion(x, sigma, v, 1 - 2 * p) for x in w])
        error = abs(sigma * w + shift - (n + 1 - trials * p))
        guard = (binomial.REMAINDER_W8 * w**8 + binomial.REMAINDER_1) / variance**3
        assert (error < guard + 1e-11 * sigma).all()


@settings(max_examples=50, deadline=None)
@given(st.floats(-5, 5), st.floats(7, 3000))
def test_rare_successes_of_many_trials_follow_the_poisson_expansion(w, sigma):
    ours = binomial.expansion(w, sigma, 0.0, 1.0)
    assert ours == pytest.approx(poisson.expansion(w, 1 / sigma, poisson.EXPANSION_64), rel=1e-12)


@pytest.mark.parametrize(("k", "trials", "p"), [(16, 300, 0.25), (70, 200, 0.5), (484, 500, 0.9)])
def test_probabilities_equal_those_of_exact_fractions(k, trials, p):
    exact = math.comb(trials, k) * Fraction(p) ** k * (1 - Fraction(p)) ** (trials - k)
    assert binomial.probability_of(float(k), float(trials), p) == pytest.approx(
        float(exact), rel=1e-13, abs=0
    )


def test_failures_of_rare_successes_keep_their_last_digits():
    for p in (1e-300, 1e-17, 1e-9, 0.3, 0.5):
        assert binomial.log_of_failure(p) == pytest.approx(math.log1p(-p), rel=4e-16, abs=0)


def test_impossible_and_certain_successes():
    for u in (2.0**-53, 0.3, 1 - 2.0**-53):
        for trials in (0.0, 1.0, 5.0, 2.0**31 - 1):
            assert binomial.binomial_quantile(u, trials, 0.0) == 0
            assert binomial.binomial_quantile(u, trials, 1.0) == trials


@settings(max_examples=100, deadline=None)
@given(st.floats(2.0**-53, 1 - 2.0**-53), st.integers(0, 2**31 - 1), st.floats(0, 1))
def test_counts_lie_between_none_and_all(u, trials, p):
    assert 0 <= binomial.binomial_quantile(u, float(trials), p) <= trials
