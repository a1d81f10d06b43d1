"""Random variates addressed by counter: no state, so any one can be had without the others.

Every function takes the Philox counter ``(element, step, sample, draw)`` and key ``(k0, k1)``;
array fillers put element *i* of the stream into ``out[i]``. Uniform variates carry 52 random
bits; normal and exponential ones are their quantiles (one block each), so they are monotone in
the uniform of the same counter. Gamma variates need rejection: Marsaglia and Tsang, "A simple
method for generating gamma variables", ACM TOMS 26, 363 (2000); their rounds count in bits 16 to
30 of the word ``draw``, which callers leave empty. Uniform variates in float32 carry 24 bits, and
one block serves four of them.
"""

import math

import numpy as np
from numba import get_num_threads, prange

from simscope.kernels.compiled import compiled, inlined, threaded
from simscope.kernels.numeric import (
    exp64,
    f32,
    floats32,
    fma,
    log64,
    normal_quantile64,
    polynomial,
    select,
)
from simscope.kernels.philox import philox4x32

UNIT_52, HALF_UNIT_52 = 2.0**-52, 2.0**-53
SHIFT_8 = np.uint32(8)
UNIT_24, UNDER_HALF_UNIT_24 = floats32(2.0**-24, 2.0**-25 - 2.0**-49)
WORDS = 4  # in a block
STRIPE = 16384  # variates one thread takes at a time, whole blocks
DRAWS = 2**16  # words ``draw`` below it are the callers'
ROUND = np.uint32(DRAWS)


@inlined
def unit_interval(high, low):
    """Uniform float64 strictly inside (0, 1): the top 52 of 64 random bits, plus a half."""
    bits = (np.uint64(high) << np.uint64(20)) | (np.uint64(low) >> np.uint64(12))
    return fma(np.float64(np.int64(bits)), UNIT_52, HALF_UNIT_52)


@inlined
def unit_interval32(word):
    """Uniform float32 strictly inside (0, 1): (k + 1/2) / 2^24 of the top 24 bits k, rounded.

    The half is a shade less than that: above 1/2, where float32 has no room for it, it must be
    rounded away every time, or the largest k would give 1.
    """
    return fma(f32(np.int32(word >> SHIFT_8)), UNIT_24, UNDER_HALF_UNIT_24)


@inlined
def uniform(element, step, sample, draw, k0, k1):
    """Uniform float64 in (0, 1), 52 random bits."""
    a, b, _, _ = philox4x32(element, step, sample, draw, k0, k1)
    return unit_interval(a, b)


@inlined
def own_word(element, step, sample, draw, k0, k1):
    """Random word of an element where four share a block: ``element % 4`` of ``element // 4``."""
    element = np.uint32(element)
    block = np.uint32(element // np.uint32(WORDS))
    a, b, c, d = philox4x32(block, step, sample, draw, k0, k1)
    lane = np.int32(element % np.uint32(WORDS))
    return select(lane < 2, select(lane == 0, a, b), select(lane == 2, c, d))


@inlined
def uniform32(element, step, sample, draw, k0, k1):
    """Uniform float32 in (0, 1), 24 random bits."""
    return unit_interval32(own_word(element, step, sample, draw, k0, k1))


@inlined
def normal(element, step, sample, draw, k0, k1):
    """Standard normal float64, the normal quantile of :func:`uniform`."""
    return normal_quantile64(uniform(element, step, sample, draw, k0, k1) - 0.5)


@inlined
def exponential(element, step, sample, draw, k0, k1):
    """Exponential float64 of mean 1: ``-log`` of :func:`uniform`."""
    return -log64(uniform(element, step, sample, draw, k0, k1))


@inlined
def lognormal(sigma_log, element, step, sample, draw, k0, k1):
    """Log-normal float64 of median 1: ``exp(sigma_log * normal)``."""
    return exp64(sigma_log * normal(element, step, sample, draw, k0, k1))


REMAINDER_SERIES = (-1 / 12, 1 / 11, -1 / 10, 1 / 9, -1 / 8, 1 / 7, -1 / 6, 1 / 5, -1 / 4)
SERIES_END = 1 / 32
THIRD = 1 / 3


@inlined
def log_remainder64(y):
    """``log(1 + y) - y + y^2/2 - y^3/3`` of y above -1, without cancellation near 0."""
    y2 = y * y
    series = polynomial(y, REMAINDER_SERIES) * y2 * y2
    direct = log64(1.0 + y) + fma(y2, fma(-THIRD, y, 0.5), -y)
    return select(abs(y) < SERIES_END, series, direct)


@compiled
def gamma_above_one(shape, element, step, sample, draw, k0, k1):
    """Gamma float64 of shape at least 1 and scale 1, by rejection in rounds that begin at ``draw``.

    With d = shape - 1/3 and y = x / sqrt(9 d), x normal, the proposal d (1 + y)^3 stands if
    log(u) < x^2/2 + d - d (1 + y)^3 + 3 d log(1 + y) = 3 d (log(1 + y) - y + y^2/2 - y^3/3);
    at least 95 % of proposals do.
    """
    d = shape - THIRD
    c = 1.0 / math.sqrt(9.0 * d)
    while True:
        words = philox4x32(element, step, sample, draw, k0, k1)
        y = c * normal_quantile64(unit_interval(words[0], words[1]) - 0.5)
        u = unit_interval(words[2], words[3])
        root = 1.0 + y
        if root > 0.0 and log64(u) < 3.0 * d * log_remainder64(y):
            return d * root * root * root
        draw = np.uint32(draw + ROUND)


@compiled
def gamma(shape, element, step, sample, draw, k0, k1):
    """Gamma float64 of any positive shape and scale 1; ``draw`` below 2^16.

    Below shape 1: Gamma(shape) = Gamma(shape + 1) * U^(1/shape) (Marsaglia and Tsang, section 6);
    what falls below 1e-307 is 0.
    """
    if shape >= 1.0:
        return gamma_above_one(shape, element, step, sample, draw, k0, k1)
    after = np.uint32(draw + ROUND)
    larger = gamma_above_one(shape + 1.0, element, step, sample, after, k0, k1)
    return larger * exp64(log64(uniform(element, step, sample, draw, k0, k1)) / shape)


@compiled
def uniform32_stripe(out, first, step, sample, draw, k0, k1):
    """Fill float32 ``out`` with the variates of elements ``first, ...``, a multiple of four."""
    blocks = out.size // WORDS
    for j in range(blocks):
        block = np.uint32(first // WORDS + j)
        a, b, c, d = philox4x32(block, step, sample, draw, k0, k1)
        out[WORDS * j] = unit_interval32(a)
        out[WORDS * j + 1] = unit_interval32(b)
        out[WORDS * j + 2] = unit_interval32(c)
        out[WORDS * j + 3] = unit_interval32(d)
    for i in range(WORDS * blocks, out.size):
        out[i] = uniform32(first + i, step, sample, draw, k0, k1)


@threaded
def uniform32_stripes(out, step, sample, draw, k0, k1):
    """As :func:`fill_uniform32`, stripe by stripe, side by side."""
    for stripe in prange((out.size + STRIPE - 1) // STRIPE):
        first = stripe * STRIPE
        uniform32_stripe(out[first : first + STRIPE], first, step, sample, draw, k0, k1)


def fill_uniform32(out, step, sample, draw, k0, k1):
    """Fill float32 ``out`` with uniform variates in (0, 1) of 24 bits, one per element.

    One thread is the calling one: no other needs to be free.
    """
    if get_num_threads() == 1:
        uniform32_stripe(out, 0, step, sample, draw, k0, k1)
    else:
        uniform32_stripes(out, step, sample, draw, k0, k1)


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
    """Fill ``out`` with log-normal variates of median 1, one per element."""
    for i in range(out.size):
        out[i] = lognormal(sigma_log, np.uint32(i), step, sample, draw, k0, k1)
