"""Cosines and sines of whole arrays in one sweep, in double precision.

The phase less the nearest multiple of pi/2 lies within pi/4 of 0, where a few terms of Taylor's
series are exact to rounding; which quarter turn it was says which series is which, and its sign.
Nothing branches, so that a processor's vector units work on several phases at a time: ten times
faster than a library function called for each.

The multiple is taken off in three parts, of which all but the last have spare trailing zeros, so
that their products are exact up to 2^22 quarter turns (W. J. Cody and W. Waite, Software Manual for
the Elementary Functions, 1980). Errors below 2e-16 up to there; beyond, as large as the rounding of
the phase itself.
"""

import numpy as np

from simscope.kernels.compiled import compiled
from simscope.kernels.numeric import floor, select

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
