"""Random variates addressed by counter: no state, so any one can be had without the others.

Every function takes the Philox counter ``(element, step, sample, draw)`` and key ``(k0, k1)``;
array fillers put element *i* of the stream into ``out[i]``. Uniform variates carry 52 random
bits; normal and exponential ones are their quantiles (one block each), so they are monotone in
the uniform of the same counter. Gamma variates need rejection: Marsaglia and Tsang, "A simple
method for generating gamma variables", ACM TOMS 26, 363 (2000).
"""

import math

import numpy as np

from simscope.kernels.compiled import compiled, inlined
from simscope.kernels.numeric import exp64, fma, log64, normal_quantile64
from simscope.kernels.philox import philox4x32

UNIT_52 = 2.0**-52
ONE_DRAW = np.uint32(1)


@inlined
def unit_interval(high, low):
    """Uniform float64 strictly inside (0, 1): the top 52 of 64 random bits, plus a half."""
    bits = (np.uint64(high) << np.uint64(20)) | (np.uint64(low) >> np.uint64(12))
    return (np.float64(np.int64(bits)) + 0.5) * UNIT_52


@inlined
def uniform(element, step, sample, draw, k0, k1):
    """Uniform float64 in (0, 1), 52 random bits."""
    a, b, _, _ = philox4x32(element, step, sample, draw, k0, k1)
    return unit_interval(a, b)


@inlined
def normal(element, step, sample, draw, k0, k1):
    """Standard normal float64, the normal quantile of :func:`uniform`."""
    return normal_quantile64(uniform(element, step, sample, draw, k0, k1) - 0.5)


@inlined
def exponential(element, step, sample, draw, k0, k1):
    """Exponential float64 of mean 1: ``-log`` of :func:`uniform`."""
    return -log64(uniform(element, step, sample, draw, k0, k1))


@compiled
def gamma_above_one(shape, element, step, sample, draw, k0, k1):
    """Gamma float64 of shape at least 1 and scale 1, by rejection over draws ``draw, draw+1 ...``.

    d (1 + c x)^3 with x normal, d = shape - 1/3, c = 1 / sqrt(9 d) stands if
    log(u) < x^2/2 + d - d v + d log(v), v = (1 + c x)^3; at least 95 % of proposals do.
    """
    d = shape - 1.0 / 3.0
    c = 1.0 / math.sqrt(9.0 * d)
    while True:
        words = philox4x32(element, step, sample, draw, k0, k1)
        x = normal_quantile64(unit_interval(words[0], words[1]) - 0.5)
        u = unit_interval(words[2], words[3])
        root = fma(c, x, 1.0)
        if root > 0.0:
            balance = fma(3.0, log64(root), fma(-root * root, root, 1.0))  # 1 - v + log(v)
            if log64(u) < fma(0.5 * x, x, d * balance):
                return d * root * root * root
        draw = np.uint32(draw + ONE_DRAW)


@compiled
def gamma(shape, element, step, sample, draw, k0, k1):
    """Gamma float64 of any positive shape and scale 1; uses draws ``draw, draw+1, ...``.

    Below shape 1: Gamma(shape) = Gamma(shape + 1) * U^(1/shape) (Marsaglia and Tsang, section 6).
    """
    if shape >= 1.0:
        return gamma_above_one(shape, element, step, sample, draw, k0, k1)
    after = np.uint32(draw + ONE_DRAW)
    larger = gamma_above_one(shape + 1.0, element, step, sample, after, k0, k1)
    return larger * exp64(log64(uniform(element, step, sample, draw, k0, k1)) / shape)


@compiled
def fill_uniform(out, step, sample, draw, k0, k1):
    """Fill float64 ``out`` with uniform variates in (0, 1), one per element."""
    for i in range(out.size):
        out[i] = uniform(np.uint32(i), step, sample, draw, k0, k1)


@compiled
def fill_normal(out, step, sample, draw, k0, k1):
    """Fill ``out`` with standard normal variates, one per element."""
    for i in range(out.size):
        out[i] = normal(np.uint32(i), step, sample, draw, k0, k1)


@compiled
def fill_exponential(out, step, sample, draw, k0, k1):
    """Fill ``out`` with exponential variates of mean 1, one per element."""
    for i in range(out.size):
        out[i] = exponential(np.uint32(i), step, sample, draw, k0, k1)


@compiled
def fill_gamma(out, shape, step, sample, draw, k0, k1):
    """Fill ``out`` with gamma variates of this positive shape and scale 1, one per element."""
    for i in range(out.size):
        out[i] = gamma(shape, np.uint32(i), step, sample, draw, k0, k1)


@compiled
def fill_lognormal(out, sigma_log, step, sample, draw, k0, k1):
    """Fill ``out`` with ``exp(sigma_log * normal)``, median 1, one per element."""
    for i in range(out.size):
        out[i] = exp64(sigma_log * normal(np.uint32(i), step, sample, draw, k0, k1))
