"""Quantiles of counts by adding up probabilities: the walk shared by Poisson and binomial laws.

Both laws belong to Panjer's class: ``P(n) / P(n - 1) = a + b / n`` (ASTIN Bulletin 12, 22 (1981)),
``a = 0, b = mean`` for Poisson, ``a = -p / (1 - p), b = -(most + 1) a`` for ``most`` trials of
probability p. The first probability, far from 0, is written by its deviance from the mean (Loader,
"Fast and accurate computation of binomial probabilities", 2000). Sums are right to 1e-14 of 1, so
a variate with less than that above it may come out another number as rare.
"""

from simscope.kernels.compiled import compiled, inlined
from simscope.kernels.numeric import fma, log64, polynomial, product

STIRLING = (1 / 1188, -1 / 1680, 1 / 1260, -1 / 360, 1 / 12)
NEGLIGIBLE = 1e-20


@inlined
def stirling_error(n):
    """``log(n!) - log(sqrt(2 pi n) (n / e)^n)`` of ``n >= 16``, absolute error 1e-16."""
    return polynomial(1.0 / (n * n), STIRLING) / n


@compiled
def deviance(n, mean, difference):
    """``n log(n / mean) + mean - n`` without cancellation near ``n = mean`` (Loader 2000).

    ``difference = n - mean`` is handed in by those who know more digits of it.
    """
    v = difference / (n + mean)
    if abs(v) > 0.1:
        return fma(n, log64(n / mean), -difference)
    total = product(difference, v)
    term = 2.0 * n * v
    for j in range(3, 1000, 2):
        term *= v * v
        longer = total + term / j
        if longer == total:
            return total
        total = longer
    return total


@inlined
def growth(n, a, b):
    """``P(n) / P(n - 1)``."""
    return fma(a, n, b) / n


@compiled
def quantile_from_zero(u, probability, a, b, mean, most):
    """Smallest n with F(n) >= u, at most ``most``, adding up from ``probability`` = P(0)."""
    return _upwards(0.0, u, probability, probability, a, b, mean, most)


@compiled
def quantile_from_guess(u, guess, probability, a, b, mean, most):
    """Smallest n with F(n) >= u, from ``probability`` = P(guess) summed downwards, then walked."""
    cumulative, term, k = 0.0, probability, guess
    while term > cumulative * NEGLIGIBLE and k >= 0.0:
        cumulative += term
        term /= growth(k, a, b)
        k -= 1.0
    if cumulative < u:
        return _upwards(guess, u, cumulative, probability, a, b, mean, most)
    n = guess
    while n > 0.0 and cumulative - probability >= u:
        cumulative -= probability
        probability /= growth(n, a, b)
        n -= 1.0
    return n


@compiled
def _upwards(n, u, cumulative, probability, a, b, mean, most):
    """Smallest count from n on with F >= u, given ``cumulative`` = F(n), ``probability`` = P(n)."""
    while cumulative < u and n < most and (n < mean or probability > NEGLIGIBLE):
        n += 1.0
        probability = product(probability, growth(n, a, b))
        cumulative += probability
    return n
