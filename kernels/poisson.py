"""Poisson variates for any mean from 0 to 1e7, exact in distribution, by inversion.

A variate is the quantile ``N = min{n : F(n) >= u}`` of one uniform ``u`` of 52 bits. Its first 32
bits almost always settle N, and float32 arithmetic that vectorises finds it:

* mean below 4: the terms of F(n) are added up and ``u`` is compared with each sum;
* from 4 on: ``N = floor(Q(u))`` with the Cornish-Fisher expansion of the inverse of the
  continuous ``Gamma(x, mean) / Gamma(x)`` (Giles, ACM TOMS 42, 10 (2016), Algorithm 955),
  ``Q = mean + sqrt(mean) w + a1(w) + a2(w) / sqrt(mean) + a3(w) / mean + ...``,
  w the standard normal quantile of u.

Whenever the nearest integer edge is closer than a guard (more than the rounding errors, the
expansion's remainder and the 20 bits not yet seen could bridge), or u lies in the last 1e-5 of
either tail, N is found again in float64 from all 52 bits. Where even the float64 expansion is not
certain, the probabilities themselves are summed (``inversion.py``). So the result is that of
float64 inversion of 52 random bits for every mean; the vector path only gets there faster.
"""

import math

import numpy as np

from simscope.kernels.compiled import compiled, inlined
from simscope.kernels.inversion import (
    deviance,
    quantile_from_guess,
    quantile_from_zero,
    stirling_error,
)
from simscope.kernels.numeric import (
    HALF_32,
    ONE_32,
    ZERO_32,
    centred_uniform32,
    exp32,
    exp64,
    exponent_and_rest32,
    f32,
    floats32,
    floor,
    fma,
    normal_quantile64,
    polynomial,
    select,
    tail_uniform32,
)
from simscope.kernels.packing import merge, places_below, split
from simscope.kernels.philox import philox4x32
from simscope.kernels.variates import unit_interval
from simscope.kernels.wide import wide_vectors

LARGEST_MEAN = 1e7  # counts stay below 2^24, whole numbers in float32
LOW_MEAN = f32(4.0)
SUMMED_MEAN = 100.0
TILE = 1024
ROW = TILE + 48  # tiles in turn must not lie in the same places of the cache
GROUP = 32  # TILE is a multiple of it, and it of any processor's vectors
LOWER_BITS_DRAW = np.uint32(0x80000000)  # draws from here on supply the 20 lower bits

EXPANSION_64 = (  # polynomials in w^2; the second, fourth and sixth are multiplied by w
    (1 / 6, 1 / 3),
    (-1 / 72, -2 / 72),
    (3 / 810, 7 / 810, -16 / 810),
    (-207 / 155520, -548 / 155520, 2684 / 155520),
    (228 / 408240, 675 / 408240, -5189 / 408240, -256 / 408240),
    (-303399 / 1175731200, -994674 / 1175731200, 10591636 / 1175731200, 2198936 / 1175731200),
)
EXPANSION_32 = tuple(floats32(*term) for term in EXPANSION_64[:5])


@inlined
def expansion(w, inverse_root, terms):
    """Correction ``Q - mean - sqrt(mean) w`` of the normal approximation, five or six terms."""
    w2 = w * w
    value = polynomial(w2, terms[4])
    if len(terms) > 5:
        value = fma(w * polynomial(w2, terms[5]), inverse_root, value)
    value = fma(value, inverse_root, w * polynomial(w2, terms[3]))
    value = fma(value, inverse_root, polynomial(w2, terms[2]))
    value = fma(value, inverse_root, w * polynomial(w2, terms[1]))
    return fma(value, inverse_root, polynomial(w2, terms[0]))


# ---- float32, vectorised ------------------------------------------------------------------------

UNCERTAIN = f32(-1.0)  # instead of a count
REMAINDER_W6, REMAINDER_1 = floats32(6e-3, 3e-2)
ROUNDING_ROOT, ROUNDING_W, ROUNDING_1 = floats32(2e-6, 6e-7, 2e-6)
LAST_TAIL, LN2_32 = floats32(1e-5, math.log(2.0))
SHIFTED_LOG = floats32(
    1.186141573e-01,
    -1.896798329e-01,
    2.061691759e-01,
    -2.487045223e-01,
    3.330125048e-01,
    -5.000254177e-01,
    1.000003881e00,
    9.175736165e-08 + 6.5,
)
QUANTILE = floats32(
    2.839313321e-10,
    -2.552377414e-09,
    -5.308130932e-08,
    -2.668187304e-08,
    3.107305267e-06,
    2.860079711e-05,
    1.301578244e-04,
    -4.373464835e-04,
    -2.040308252e-02,
    -5.997799561e-01,
    5.951058836e00,
)


@inlined
def settling_quantile32(q, tail):
    """Standard normal quantile at probability ``q + 1/2``, for tails of at least 1e-5.

    Quantile over q as a polynomial in ``log(tail (1 - tail)) + 6.5``, fitted with least largest
    relative error, 6.5e-7, to the inverse of the error function; with the logarithm's, 2e-7, and
    rounding 1.2e-6. What lies further out is not settled here, so neither a root nor a second
    polynomial is needed.
    """
    k, f = exponent_and_rest32(fma(-tail, tail, tail))
    return q * polynomial(fma(k, LN2_32, polynomial(f, SHIFTED_LOG)), QUANTILE)


@inlined
def high_mean_count(word, mean):
    """Count for a mean of at least 4, UNCERTAIN where it is not proven.

    The guard is the remainder ``(6e-3 w^6 + 3e-2) / mean^(5/2)`` of the expansion plus the float32
    rounding ``sqrt(mean) (6e-7 + 2e-6 |w|) + 2e-6``; both bounds hold with a factor to spare
    against the exact quantile (``tests/test_poisson.py`` probes the words beside every edge).
    """
    tail = tail_uniform32(word)
    w = settling_quantile32(centred_uniform32(word), tail)
    root = f32(math.sqrt(mean))
    inverse_root = ONE_32 / root
    whole_mean = floor(mean)
    shift = (mean - whole_mean) + expansion(w, inverse_root, EXPANSION_32)
    above = fma(root, w, shift)
    whole = floor(above)
    fraction = above - whole
    w2 = w * w
    inverse_mean = inverse_root * inverse_root
    rounding = fma(root, fma(ROUNDING_ROOT, abs(w), ROUNDING_W), ROUNDING_1)
    remainder = fma(REMAINDER_W6 * w2, w2 * w2, REMAINDER_1)
    guard = fma(remainder * inverse_root, inverse_mean * inverse_mean, rounding)
    uncertain = (min(fraction, ONE_32 - fraction) < guard) | (tail < LAST_TAIL)
    return select(uncertain, UNCERTAIN, whole_mean + whole)


LOW_COUNTS = 13
INVERSE_FACTORIALS = floats32(*(1.0 / math.factorial(k) for k in range(1, LOW_COUNTS)))
LOW_GUARD = f32(4e-6)


@inlined
def low_mean_count(word, mean):
    """Count for a mean below 4, UNCERTAIN where it is not proven.

    ``u exp(mean)`` is compared with the sums of ``mean^k / k!``. The guard, 4e-6 on the
    probability, is several times the float32 rounding of the sums.
    """
    scale = exp32(mean)
    rest = fma(HALF_32 + centred_uniform32(word), scale, -ONE_32)
    count = select(rest > ZERO_32, ONE_32, ZERO_32)
    distance = abs(rest)
    power = ONE_32
    for k in range(len(INVERSE_FACTORIALS)):
        power = power * mean
        rest = fma(-power, INVERSE_FACTORIALS[k], rest)
        count = count + select(rest > ZERO_32, ONE_32, ZERO_32)
        distance = min(distance, abs(rest))
    uncertain = (rest > ZERO_32) | (distance < LOW_GUARD * scale)
    return select(uncertain, UNCERTAIN, count)


# ---- float64, one at a time ---------------------------------------------------------------------

CERTAIN_W = 5.0
ROUNDING_64 = 1e-14


@compiled
def probability_of(n, mean):
    """Poisson probability of ``n >= 16`` by the saddle-point form, relative error 1e-14."""
    exponent = -stirling_error(n) - deviance(n, mean, n - mean)
    return exp64(exponent) / math.sqrt(2.0 * math.pi * n)


@compiled
def poisson_quantile(u, mean):
    """Smallest n with F(n) >= u, for u in (0, 1) and a mean from 0 to 1e7, float64.

    The expansion decides where it can, with the same form of guard as in float32.
    """
    if mean < SUMMED_MEAN:
        return quantile_from_zero(u, exp64(-mean), 0.0, mean, mean, math.inf)
    w = normal_quantile64(u - 0.5)
    root = math.sqrt(mean)
    quantile = fma(root, w, mean + expansion(w, 1.0 / root, EXPANSION_64))
    n = floor(quantile)
    edge = min(quantile - n, 1.0 - (quantile - n))
    w4 = (w * w) * (w * w)
    remainder = fma(2.4e-3 * w4, w4, 1.2e-2) / (mean * mean * mean)
    guard = fma(ROUNDING_64, mean, remainder)
    if edge > guard and abs(w) < CERTAIN_W:
        return n
    guess = max(n, 16.0)
    probability = probability_of(guess, mean)
    return quantile_from_guess(u, guess, probability, 0.0, mean, mean, math.inf)


@compiled
def repaired_count(word, mean, element, step, sample, draw, k0, k1):
    """Count from all 52 bits: ``word`` gives the upper 32, the element's own block the rest."""
    lower, _, _, _ = philox4x32(element, step, sample, draw | LOWER_BITS_DRAW, k0, k1)
    return f32(poisson_quantile(unit_interval(word, lower), np.float64(mean)))


@compiled
def poisson_count(word, mean, element, step, sample, draw, k0, k1):
    """Poisson variate (float32) of any mean in [0, 1e7], that of :func:`poisson_tile`.

    ``word`` is the variate's random word; the counter's own block at ``draw + 2^31`` gives the
    lower bits where they are needed.
    """
    count = low_mean_count(word, mean) if mean < LOW_MEAN else high_mean_count(word, mean)
    if count < ZERO_32:
        return repaired_count(word, mean, element, step, sample, draw, k0, k1)
    return count


# ---- arrays -------------------------------------------------------------------------------------


@compiled
def high_mean_tile(means, words, counts):
    """Counts of a tile whose means are at least 4, negative where uncertain."""
    wide_vectors()
    for i in range(means.size):
        counts[i] = high_mean_count(words[i], means[i])


@compiled
def low_mean_tile(means, words, counts):
    """Counts of a tile whose means are below 4, negative where uncertain."""
    wide_vectors()
    for i in range(means.size):
        counts[i] = low_mean_count(words[i], means[i])


@compiled
def filled_up(size):
    """The next size that fills whole vector registers.

    What is left over would be computed one at a time, a dozen times slower each.
    """
    return (size + GROUP - 1) // GROUP * GROUP


@compiled
def repeat_last(values, size):
    """Repeat the last of ``size`` values until they fill whole vector registers."""
    for j in range(size, filled_up(size)):
        values[j] = values[size - 1]


@compiled
def low_means(means):
    """How many means are below 4."""
    wide_vectors()
    low = np.int32(0)
    for i in range(means.size):
        low = np.int32(low + np.int32(means[i] < LOW_MEAN))
    return low


@compiled
def counts_of_mixed(means, words, counts, scratch):
    """Counts of a tile with low and high means, which are set apart and put back."""
    size = means.size
    floats = scratch.view(np.float32)
    low = split(means, words, LOW_MEAN, floats[0], scratch[1], floats[2], scratch[3])
    repeat_last(floats[0], low)
    repeat_last(floats[2], size - low)
    lows, highs = filled_up(low), filled_up(size - low)
    low_mean_tile(floats[0, :lows], scratch[1, :lows], floats[4, :lows])
    high_mean_tile(floats[2, :highs], scratch[3, :highs], floats[5, :highs])
    merge(means, LOW_MEAN, floats[4], floats[5], counts)


@compiled
def poisson_tile(means, words, counts, scratch, first, step, sample, draw, k0, k1):
    """Write Poisson counts (float32 whole numbers) of one tile; element = ``first + i``.

    ``means`` float32 in [0, 1e7], ``words`` one random word each, a multiple of GROUP;
    ``scratch`` uint32 (6, ROW). Which path computes a count depends on its own mean only, so
    tiles may be cut anywhere.
    """
    low = low_means(means)
    if low == 0:
        high_mean_tile(means, words, counts)
    elif low == means.size:
        low_mean_tile(means, words, counts)
    else:
        counts_of_mixed(means, words, counts, scratch)
    places = scratch[0].view(np.int32)
    for j in range(places_below(counts[: means.size], ZERO_32, places)):
        i = places[j]
        element = np.uint32(first + i)
        counts[i] = repaired_count(words[i], means[i], element, step, sample, draw, k0, k1)


@compiled
def fill_words(words, first, step, sample, draw, k0, k1):
    """Fill ``words``; word ``i % 4`` of the block at element ``i // 4`` goes to element i."""
    for j in range((words.size + 3) // 4):
        block = philox4x32(np.uint32(first // 4 + j), step, sample, draw, k0, k1)
        for lane in range(min(4, words.size - 4 * j)):
            words[4 * j + lane] = block[lane]


@compiled
def fill_poisson(out, means, step, sample, draw, k0, k1):
    """Fill ``out`` with Poisson variates, one per element; ``means`` in [0, 1e7].

    ``out`` may be any real dtype that holds the counts; ``means`` are rounded to float32. Element
    i takes word ``i % 4`` of the block at counter ``(i // 4, step, sample, draw)``; draws from
    2^31 on are reserved.
    """
    words = np.zeros(TILE, np.uint32)
    counts = np.empty(TILE, np.float32)
    scratch = np.empty((6, ROW), np.uint32)
    means_of_tile = np.zeros(TILE, np.float32)
    for first in range(0, out.size, TILE):
        size = min(TILE, out.size - first)
        for i in range(size):
            means_of_tile[i] = f32(means[first + i])
        fill_words(words[:size], first, step, sample, draw, k0, k1)
        whole = filled_up(size)
        poisson_tile(
            means_of_tile[:whole], words[:whole], counts, scratch,
            first, step, sample, draw, k0, k1,
        )  # fmt: skip
        for i in range(size):
            out[first + i] = counts[i]
