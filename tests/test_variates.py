"""Variates from counters follow their laws, and every one of them can be had alone.

Goodness-of-fit tests run on fixed counters, so they pass or fail for good; each would have failed
with probability 1e-4 had the key been picked at random.
"""

import decimal
import math

import numba
import numpy as np
import pytest
from goodness import fit_of_counts, fit_of_tails, fit_of_values
from hypothesis import given, settings
from hypothesis import strategies as st
from reference import philox4x32_10, unit_interval
from scipy import special, stats

from simscope.kernels import numeric, variates
from simscope.keys import Key

FALSE_ALARM = 1e-4
STREAM = tuple(np.uint32(w) for w in (3, 17, 0, 1234, 5678))
STREAM_INTS = (3, 17, 0, 1234, 5678)
KEY = Key(41)
DRAWS = 2_000 if numba.config.DISABLE_JIT else 200_000

needs_speed = pytest.mark.skipif(
    numba.config.DISABLE_JIT, reason="a million draws need compiled kernels"
)


def drawn(fill, *arguments, size=DRAWS):
    out = np.empty(size)
    fill(out, *arguments, *STREAM)
    return out


def test_uniform_variates_are_52_bits_of_their_own_block():
    step, sample, draw, k0, k1 = STREAM_INTS
    blocks = [philox4x32_10((i, step, sample, draw), (k0, k1)) for i in range(20)]
    expected = [unit_interval(a, b) for a, b, _, _ in blocks]
    np.testing.assert_array_equal(drawn(variates.fill_uniform, size=20), expected)


def test_uniform_variates_lie_strictly_inside_the_unit_interval():
    ends = [variates.unit_interval(np.uint32(w), np.uint32(w)) for w in (0, 2**32 - 1)]
    assert ends == [2.0**-53, 1 - 2.0**-53]


@pytest.mark.parametrize(
    ("fill", "law"),
    [
        (variates.fill_uniform, stats.uniform),
        (variates.fill_normal, stats.norm),
        (variates.fill_exponential, stats.expon),
    ],
)
def test_variates_follow_their_law(fill, law):
    assert stats.kstest(drawn(fill), law.cdf).pvalue > FALSE_ALARM


@pytest.mark.parametrize("shape", [0.05, 0.5, 0.999, 1.0, 3.0, 50.0, 1e4])
def test_gamma_variates_follow_the_gamma_law(shape):
    values = drawn(variates.fill_gamma, shape, size=DRAWS // 4)
    assert stats.kstest(values, stats.gamma(shape).cdf).pvalue > FALSE_ALARM


def test_lognormal_variates_have_median_one():
    values = drawn(variates.fill_lognormal, 0.7)
    assert stats.kstest(values, stats.lognorm(0.7).cdf).pvalue > FALSE_ALARM


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 999), st.floats(0.01, 1e6))
def test_a_variate_alone_equals_itself_in_an_array(element, shape):
    out = np.empty(1000)
    variates.fill_gamma(out[: element + 1], shape, *STREAM)
    assert variates.gamma(shape, np.uint32(element), *STREAM) == out[element]


def test_float32_variates_lie_strictly_inside_the_unit_interval():
    words = (0, 255, 256, 2**31 - 1, 2**31, 2**32 - 1)
    values = [float(variates.unit_interval32(np.uint32(word))) for word in words]
    assert values[:2] == [2.0**-25 - 2.0**-49] * 2
    assert values[2:] == pytest.approx([1.5 * 2.0**-24, 0.5, 0.5, 1 - 2.0**-24], rel=1e-7)
    assert values[-1] == 1 - 2.0**-24


def test_float32_variates_tell_all_24_bits_apart():
    k = np.r_[0:2000, 2**22 - 500 : 2**22 + 500, 2**23 - 500 : 2**23 + 500, 2**24 - 2000 : 2**24]
    values = [float(variates.unit_interval32(np.uint32(256 * bits))) for bits in k]
    assert np.all(np.diff(values) > 0)


@settings(max_examples=200, deadline=None)
@given(st.floats(-0.99, 30.0).filter(lambda y: abs(y) > 1e-9))
def test_log_remainder_does_not_cancel(y):
    with decimal.localcontext(prec=60):
        x = decimal.Decimal(y)
        exact = float((1 + x).ln() - x + x**2 / 2 - x**3 / 3)
    # from 1/32 on the rounding of the terms counts, 2e-16 of the largest
    rounding = 4e-16 * max(1.0, abs(y) ** 3) if abs(y) >= variates.SERIES_END else 0.0
    assert abs(variates.log_remainder64(y) - exact) <= 1e-13 * abs(exact) + rounding


BINOMIALS = [(10, 0.3), (1000, 0.5), (150, 0.7), (10**9, 0.3), (2**31 - 1, 1e-8), (2**31 - 1, 0.5)]


@needs_speed
@pytest.mark.parametrize(("trials", "p"), BINOMIALS)
def test_binomial_variates_follow_their_law(trials, p):
    counts = KEY.binomial(np.arange(100_000), trials, p)
    assert fit_of_counts(counts, stats.binom(trials, p)) > FALSE_ALARM


@needs_speed
def test_float32_variates_follow_the_uniform_law_to_their_last_bits():
    values = KEY.uniform32(400_000)
    assert fit_of_values(values.astype(float), stats.uniform) > FALSE_ALARM
    last_bits = np.floor(values.astype(float) * 2.0**24).astype(np.int64) % 256
    assert stats.chisquare(np.bincount(last_bits, minlength=256)).pvalue > FALSE_ALARM


MILLIONS = 10
LAWS = {
    "uniform": ((), stats.uniform()),
    "normal": ((), stats.norm()),
    "exponential": ((), stats.expon()),
    **{f"gamma {shape:g}": ((shape,), stats.gamma(shape)) for shape in (0.3, 1.0, 5.0, 1e4)},
    **{f"binomial {n} {p:g}": ((n, p), stats.binom(n, p)) for n, p in BINOMIALS},
}
SLOW_FALSE_ALARM = 1e-6 / (3 * (len(LAWS) + 1))


@pytest.mark.slow
@needs_speed
@pytest.mark.parametrize("name", [*LAWS, "uniform32"])
def test_ten_million_variates_follow_their_law_to_its_tails(name):
    """Kolmogorov-Smirnov or chi-square, and how many lie beyond the quantiles at 1e-5.

    Three p values a law, 42 in all: had the keys been picked at random, any of them would fail
    with probability 1e-6.
    """
    parameters, law = LAWS.get(name, ((), stats.uniform()))
    method = getattr(KEY.child(f"goodness/{name}"), name.split()[0])
    elements = 1_000_000 if name == "uniform32" else np.arange(1_000_000)
    values = np.concatenate([method(elements, *parameters, sample=s) for s in range(MILLIONS)])
    fit = fit_of_counts if values.dtype == np.int64 else fit_of_values
    p_values = [fit(values.astype(float), law), *fit_of_tails(values, law)]
    print("p values", name, *(f"{p:.3g}" for p in p_values))
    assert min(p_values) > SLOW_FALSE_ALARM


def test_streams_of_other_counters_are_uncorrelated():
    # Correlation of n pairs has standard deviation 1/sqrt(n); 5 sigma.
    base = drawn(variates.fill_normal)
    for position in range(5):
        stream = list(STREAM)
        stream[position] = np.uint32(stream[position] + 1)
        other = np.empty(DRAWS)
        variates.fill_normal(other, *stream)
        assert abs(np.corrcoef(base, other)[0, 1]) < 5 / math.sqrt(DRAWS)


# ---- elementary functions ----


def ulps(value, exact, dtype):
    return abs(float(value) - exact) / float(np.spacing(dtype(abs(exact))))


@settings(max_examples=200, deadline=None)
@given(st.floats(1e-300, 1e300))
def test_log64_errs_by_at_most_one_ulp(x):
    assert ulps(numeric.log64(x), math.log(x), np.float64) <= 1


@settings(max_examples=200, deadline=None)
@given(st.floats(-700, 700))
def test_exp64_errs_by_at_most_two_ulps(x):
    assert ulps(numeric.exp64(x), math.exp(x), np.float64) <= 2


def test_exp64_vanishes_far_below_zero_and_is_one_at_zero():
    assert numeric.exp64(0.0) == 1.0
    assert numeric.exp64(-1e4) == 0.0


@settings(max_examples=200, deadline=None)
@given(st.floats(2.0**-100, 2.0**100, width=32).filter(lambda x: x != 1))
def test_log32_errs_by_at_most_one_ulp(x):
    assert ulps(numeric.log32(np.float32(x)), math.log(x), np.float32) <= 1
    assert numeric.log32(np.float32(1)) == 0


@settings(max_examples=200, deadline=None)
@given(st.floats(-80, 80, width=32))
def test_exp32_errs_by_at_most_two_ulps(x):
    assert ulps(numeric.exp32(np.float32(x)), math.exp(x), np.float32) <= 2


@settings(max_examples=200, deadline=None)
@given(st.floats(2.0**-53, 0.5, exclude_max=True), st.booleans())
def test_normal_quantile_inverts_the_normal_distribution(tail, upper):
    # q = tail - 1/2 is exact or rounds by 2^-54, which moves the quantile far out in the tail:
    # so compare at the tail the rounded q really has.
    q = (0.5 - tail) if upper else (tail - 0.5)
    expected = special.ndtri(0.5 - abs(q)) * (-1 if upper else 1)
    assert numeric.normal_quantile64(q) == pytest.approx(expected, rel=2e-15, abs=1e-300)


@settings(max_examples=200, deadline=None)
@given(*[st.floats(-1e6, 1e6, width=32)] * 3)
def test_fma_rounds_once(a, b, c):
    # The product of two float32 is exact in float64; its sum with c is rounded there first.
    exact = np.float64(a) * np.float64(b) + np.float64(c)
    fused = float(_fused(np.float32(a), np.float32(b), np.float32(c)))
    assert abs(fused - exact) <= 0.5001 * abs(float(np.spacing(np.float32(exact)))) + 1e-300


@numba.njit
def _fused(a, b, c):
    return numeric.fma(a, b, c)


def test_fma_keeps_what_a_product_would_round_away():
    x = np.float64(1 + 2.0**-30)
    for function in (numeric.fma, _fused):
        assert function(x, x, np.float64(-(1 + 2.0**-29))) == 2.0**-60
    assert math.isinf(numeric.fma(np.float64(np.inf), 1.0, 0.0))
