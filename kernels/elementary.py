"""Elementary functions of whole arrays, with the same bits on every machine and device.

Library functions differ in the last bit between processors, and so would what is drawn by them.
"""

import math

from simscope.kernels.compiled import compiled, inlined
from simscope.kernels.numeric import (
    exp64,
    floor,
    fma,
    log64,
    normal_quantile_tail64,
    polynomial,
    select,
)

LARGEST_EXPONENT = 709.0  # beyond it the result would leave the normal numbers
SMALLEST_NORMAL = 2.0**-1022


@inlined
def exponential_of(x):
    """Exponential of any float64: infinite above 709, 0 below -708."""
    return select(x > LARGEST_EXPONENT, math.inf, exp64(min(x, LARGEST_EXPONENT)))


@inlined
def normal_quantile_of(p):
    """Standard normal quantile at a probability in [0, 1]; 0 and 1 give its farthest values."""
    return normal_quantile_tail64(p - 0.5, max(min(p, 1.0 - p), SMALLEST_NORMAL))


@inlined
def spline_piece(x, start, step, count):
    """Number of the spline's piece that holds ``x``, the first or last beyond the ends."""
    return int(min(max(floor((x - start) / step), 0.0), count - 1.0))


@inlined
def spline_value(x, piece, start, step, coefficients):
    """Value at ``x`` of a piece: a polynomial of ``x - (start + piece * step)``."""
    return polynomial(x - fma(float(piece), step, start), coefficients)


@compiled
def exponential(x, out):
    """Fill ``out`` with the exponentials of ``x``, both float64 (n,)."""
    for i in range(out.size):
        out[i] = exponential_of(x[i])


@compiled
def logarithm(x, out):
    """Fill ``out`` with the natural logarithms of positive normal ``x``, both float64 (n,)."""
    for i in range(out.size):
        out[i] = log64(x[i])


@compiled
def normal_quantile(p, out):
    """Fill ``out`` with the standard normal quantiles at probabilities, both float64 (n,)."""
    for i in range(out.size):
        out[i] = normal_quantile_of(p[i])


@compiled
def spline(x, start, step, pieces, out):
    """Fill ``out`` with a cubic spline's values at ``x``, both float64 (n,).

    ``pieces`` float64 (4, count): coefficients of equal pieces, highest power first.
    """
    for i in range(out.size):
        k = spline_piece(x[i], start, step, pieces.shape[1])
        coefficients = (pieces[0, k], pieces[1, k], pieces[2, k], pieces[3, k])
        out[i] = spline_value(x[i], k, start, step, coefficients)
