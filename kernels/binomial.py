"""Binomial variates for any number of trials and any probability, exact by inversion.

A variate is the quantile ``N = min{n : F(n) >= u}`` of one uniform ``u`` of 52 bits, found in
float64; ``p > 1/2`` counts the failures instead. Below a mean of 100 the probabilities are added
up from 0. Above, ``N = floor(Q(u))`` with a Cornish-Fisher expansion of the quantile,

    Q = n p + sigma w + 1/2 + a1(w) + a2(w) / sigma + ... + a6(w) / sigma^5,

w the standard normal quantile of u, sigma^2 = n p (1 - p). The a's follow from the cumulants of
the binomial law less those of a uniform spread over one count, because F(n) is the distribution
of the spread count at n + 1/2 (Kolassa and McCullagh, Annals of Statistics 18, 981 (1990); the
scheme: Cornish and Fisher, Rev. Inst. Int. Stat. 5, 307 (1938)). For p -> 0 they are the
coefficients of the Poisson law (``poisson.py``). Where Q comes closer to a whole number than the
expansion is sure of, the probabilities themselves are summed: as in Loader 2000 they are written
by deviances, relative error 1e-11 at 2^31 trials. So the cost does not grow with n p but for one
draw in 1e4 or fewer, where it grows as sigma.
"""

import math

from simscope.kernels.compiled import compiled, inlined
from simscope.kernels.inversion import (
    deviance,
    quantile_from_guess,
    quantile_from_zero,
    stirling_error,
)
from simscope.kernels.numeric import exp64, f64, floor, fma, log64, normal_quantile64, polynomial
from simscope.kernels.variates import uniform

MOST_TRIALS = 2**31 - 1
SUMMED_MEAN = 100.0
CERTAIN_W = 5.0
REMAINDER_W8, REMAINDER_1 = 2.4e-3, 1.2e-2
ROUNDING = 4e-15
FEWEST = 16.0  # successes and failures of a guess, for Stirling's series


def _over(divisor, *rows):
    return tuple(tuple(value / divisor for value in row) for row in rows)


# One table for every a: rows by falling powers of w^2, each by falling powers of v = p (1 - p).
# The odd ones are multiplied by 1 - 2 p, the even ones by w.
EXPANSION = (
    _over(6, (1,), (-1,)),
    _over(72, (-2, -1), (14, -2)),
    _over(1620, (3, 6), (7, 14), (-16, -32)),
    _over(155520, (36, 468, -207), (1024, 1612, -548), (-1732, -5416, 2684)),
    _over(408240, (12, -240, 228), (-243, -1188, 675), (-923, 4348, -5189), (1472, 2816, -256)),
    _over(
        1175731200,
        (30024, -507060, 1161702, -303399),
        (34824, -3173400, 4510062, -994674),
        (-2316136, 12694980, -38345088, 10591636),
        (-2317736, 21680520, -16811448, 2198936),
    ),
)


@inlined
def surface(x, y, rows):
    """Polynomial in ``x`` whose coefficients are polynomials in ``y``, highest powers first."""
    value = polynomial(y, rows[0])
    for i in range(1, len(rows)):
        value = fma(value, x, polynomial(y, rows[i]))
    return value


@inlined
def expansion(w, sigma, v, skew):
    """Correction ``Q - n p - sigma w`` of the normal approximation, ``skew = 1 - 2 p``."""
    w2 = w * w
    inverse = 1.0 / sigma
    value = w * surface(w2, v, EXPANSION[5])
    value = fma(value, inverse, skew * surface(w2, v, EXPANSION[4]))
    value = fma(value, inverse, w * surface(w2, v, EXPANSION[3]))
    value = fma(value, inverse, skew * surface(w2, v, EXPANSION[2]))
    value = fma(value, inverse, w * surface(w2, v, EXPANSION[1]))
    return fma(value, inverse, fma(skew, surface(w2, v, EXPANSION[0]), 0.5))


@inlined
def log_of_failure(p):
    """``log(1 - p)`` for p in [0, 1/2], to the last digits of a small p."""
    rest = 1.0 - p
    return log64(rest) - (p - (1.0 - rest)) / rest


@compiled
def probability_of(k, trials, p):
    """Probability of ``k`` successes, at least 16 and at most ``trials - 16`` (Loader 2000)."""
    failures = trials - k
    more = fma(-trials, p, k)
    exponent = (
        stirling_error(trials)
        - stirling_error(k)
        - stirling_error(failures)
        - deviance(k, trials * p, more)
        - deviance(failures, trials * (1.0 - p), -more)
    )
    return exp64(exponent) * math.sqrt(trials / (2.0 * math.pi * k * failures))


@compiled
def quantile_by_sums(u, trials, p, guess):
    """Smallest n with F(n) >= u from sums of probabilities, beginning at 0 or near ``guess``."""
    mean = trials * p
    a = -p / (1.0 - p)
    b = -(trials + 1.0) * a
    if mean < SUMMED_MEAN:
        probability = exp64(trials * log_of_failure(p))
        return quantile_from_zero(u, probability, a, b, mean, trials)
    start = min(max(guess, FEWEST), trials - FEWEST)
    return quantile_from_guess(u, start, probability_of(start, trials, p), a, b, mean, trials)


@compiled
def quantile_to_half(u, trials, p):
    """Smallest n with F(n) >= u for a probability p of at most 1/2."""
    mean = trials * p
    if mean < SUMMED_MEAN:
        return quantile_by_sums(u, trials, p, 0.0)
    v = p * (1.0 - p)
    variance = trials * v
    w = normal_quantile64(u - 0.5)
    sigma = math.sqrt(variance)
    quantile = fma(sigma, w, fma(trials, p, expansion(w, sigma, v, fma(-2.0, p, 1.0))))
    n = floor(quantile)
    edge = min(quantile - n, 1.0 - (quantile - n))
    w4 = (w * w) * (w * w)
    remainder = fma(REMAINDER_W8 * w4, w4, REMAINDER_1) / (variance * variance * variance)
    if edge > fma(ROUNDING, mean, remainder) and abs(w) < CERTAIN_W:
        return n
    return quantile_by_sums(u, trials, p, n)


@compiled
def binomial_quantile(u, trials, p):
    """Smallest n with F(n) >= u, for u in (0, 1), whole ``trials`` up to 2^31 - 1, p in [0, 1]."""
    if p > 0.5:
        return trials - quantile_to_half(1.0 - u, trials, 1.0 - p)
    return quantile_to_half(u, trials, p)


@compiled
def binomial(trials, p, element, step, sample, draw, k0, k1):
    """Binomial variate (float64 whole number), the quantile at ``variates.uniform``'s value."""
    u = uniform(element, step, sample, draw, k0, k1)
    return binomial_quantile(u, f64(trials), p)
