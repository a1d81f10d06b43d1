"""Cosines and sines of whole arrays in one sweep, in double precision; of turns in single.

The phase less the nearest multiple of pi/2 lies within pi/4 of 0, where a few terms of Taylor's
series are exact to rounding; which quarter turn it was says which series is which, and its sign.
Nothing branches, so that a processor's vector units work on several phases at a time: ten times
faster than a library function called for each.

The multiple is taken off in three parts, of which all but the last have spare trailing zeros, so
that their products are exact up to 2^22 quarter turns (W. J. Cody and W. Waite, Software Manual for
the Elementary Functions, 1980). Errors below 2e-16 up to there; beyond, as large as the rounding of
the phase itself.
"""

import math

import numpy as np

from simscope.kernels.compiled import compiled, inlined
from simscope.kernels.numeric import floats32, floor, fma, select

f64 = np.float64

# pi/2 in three parts
_FIRST = 1686629713 / 2**30
_SECOND = 70064198 / 2**60
_THIRD = 5.170182981794105e-19

_ROUNDER = 1.5 * 2.0**52
"""Adding and subtracting it rounds to the nearest whole number."""

S3, S5, S7, S9, S11, S13, S15, S17 = (
    -1.0 / 6.0,
    1.0 / 120.0,
    -1.0 / 5040.0,
    1.0 / 362880.0,
    -1.0 / 39916800.0,
    1.0 / 6227020800.0,
    -1.0 / 1307674368000.0,
    1.0 / 355687428096000.0,
)
C4, C6, C8, C10, C12, C14, C16 = (
    1.0 / 24.0,
    -1.0 / 720.0,
    1.0 / 40320.0,
    -1.0 / 3628800.0,
    1.0 / 479001600.0,
    -1.0 / 87178291200.0,
    1.0 / 20922789888000.0,
)


@compiled
def cosines_sines(phase, cosine, sine):
    """Write cosine and sine of phases [rad] to ``cosine`` and ``sine``, all float64 (n,)."""
    for i in range(phase.size):
        x = phase[i]
        turns = (x * (2.0 / np.pi) + _ROUNDER) - _ROUNDER
        r = ((x - turns * _FIRST) - turns * _SECOND) - turns * _THIRD
        r2 = r * r
        odd = S9 + r2 * (S11 + r2 * (S13 + r2 * (S15 + r2 * S17)))
        s = r + r * r2 * (S3 + r2 * (S5 + r2 * (S7 + r2 * odd)))
        even = C8 + r2 * (C10 + r2 * (C12 + r2 * (C14 + r2 * C16)))
        c = 1.0 - (0.5 * r2 - r2 * r2 * (C4 + r2 * (C6 + r2 * even)))
        quarter = turns - 4.0 * floor(0.25 * turns)
        swapped = (quarter == 1.0) | (quarter == 3.0)
        s_sign = select(quarter > 1.5, f64(-1.0), f64(1.0))
        c_sign = select((quarter > 0.5) & (quarter < 2.5), f64(-1.0), f64(1.0))
        sine[i] = s_sign * select(swapped, c, s)
        cosine[i] = c_sign * select(swapped, s, c)


# cos and sin of 2 pi t about t = 0, in powers of t^2, highest first; the last 1 and 2 pi
COSINE_OF_TURNS = floats32(*(
    (-1.0) ** n * (2.0 * math.pi) ** (2 * n) / math.factorial(2 * n) for n in range(6, -1, -1)
))  # fmt: skip
SINE_OF_TURNS = floats32(*(
    (-1.0) ** n * (2.0 * math.pi) ** (2 * n + 1) / math.factorial(2 * n + 1)
    for n in range(6, -1, -1)
))  # fmt: skip
HALF, ONE, TWO, MINUS_TWO = floats32(0.5, 1.0, 2.0, -2.0)


@inlined
def _seven_terms(x, c):
    """Polynomial with seven coefficients, highest power first, at a number or lanes (Horner)."""
    high = fma(fma(fma(x, c[0], c[1]), x, c[2]), x, c[3])
    return fma(fma(fma(high, x, c[4]), x, c[5]), x, c[6])


@inlined
def cosine_sine_of_turns(t):
    """Cosine and sine of ``t`` whole turns, float32 (or lanes of it), errors below 3e-7.

    Half turns are taken off, which flip both signs; within a quarter turn of 0 Taylor's series to
    the 13th power is good to single precision. Beyond some turns ``t`` itself is too coarse.
    """
    halves = floor(fma(t, TWO, HALF))
    r = fma(halves, -HALF, t)
    r2 = r * r
    sign = fma(fma(floor(halves * HALF), MINUS_TWO, halves), MINUS_TWO, ONE)
    return sign * _seven_terms(r2, COSINE_OF_TURNS), (sign * r) * _seven_terms(r2, SINE_OF_TURNS)
