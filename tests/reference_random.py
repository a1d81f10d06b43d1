"""Slow, obvious twins of the addressed laws, from the papers: in Python integers and scipy.

Every twin takes the counter ``(element, step, sample, draw)`` and the key's two words.
"""

import math

import numpy as np
from reference import philox4x32_10, unit_interval
from reference_camera import marsaglia_tsang
from scipy import special, stats


def uniform(counter, key):
    """52 bits of the first two words of the block."""
    a, b, _, _ = philox4x32_10(counter, key)
    return unit_interval(a, b)


def uniform32(counter, key):
    """Top 24 bits of one of four words plus 1/2, over 2^24; above 1/2 without the half."""
    element, *others = counter
    word = philox4x32_10((element // 4, *others), key)[element % 4]
    k = word // 2**8
    return np.float32((k + (0.5 - 2**-25 if k < 2**23 else 0)) / 2**24)


def normal(counter, key):
    """Quantile of the normal law, from the nearer tail."""
    u = uniform(counter, key)
    return special.ndtri(u) if u < 0.5 else -special.ndtri(1 - u)


def exponential(counter, key):
    """Inversion of the exponential law, from above."""
    return -math.log(uniform(counter, key))


def gamma(counter, key, shape):
    """Marsaglia and Tsang 2000 in rounds ``draw + 2^16 r``; below shape 1 round 0 is the boost."""
    element, step, sample, draw = counter
    rounds = 1 if shape < 1 else 0
    while True:
        a, b, c, d = philox4x32_10((element, step, sample, draw + 2**16 * rounds), key)
        x = special.ndtri(unit_interval(a, b))
        value, stands = marsaglia_tsang(shape + (shape < 1), x, unit_interval(c, d))
        if stands:
            return value * (uniform(counter, key) ** (1 / shape) if shape < 1 else 1)
        rounds += 1


def count(u, law):
    """Smallest and largest n whose cumulative probability reaches u, if F is known to 1e-10."""
    return law.ppf(max(u - 1e-10, 0.5 * u)), law.ppf(min(u + 1e-10, 0.5 * (1 + u)))


def binomial(counter, key, trials, p):
    """Quantile of the binomial law at the uniform variate, as :func:`count`."""
    return count(uniform(counter, key), stats.binom(trials, p))


def poisson(counter, key, mean):
    """Quantile of the Poisson law at the uniform variate, as :func:`count`."""
    return count(uniform(counter, key), stats.poisson(mean))
