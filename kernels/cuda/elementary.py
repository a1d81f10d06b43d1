"""Elementary functions of whole arrays, on a GPU."""

from numba import cuda

from simscope.kernels.cuda.launch import on_grid
from simscope.kernels.elementary import (
    exponential_of,
    normal_quantile_of,
    spline_piece,
    spline_value,
)
from simscope.kernels.numeric import log64


@on_grid("(float64[::1], float64[::1])")
def exponential(x, out):
    """As ``elementary.exponential``, one thread a number."""
    i = cuda.grid(1)
    if i < out.size:
        out[i] = exponential_of(x[i])


@on_grid("(float64[::1], float64[::1])")
def logarithm(x, out):
    """As ``elementary.logarithm``, one thread a number."""
    i = cuda.grid(1)
    if i < out.size:
        out[i] = log64(x[i])


@on_grid("(float64[::1], float64[::1])")
def normal_quantile(p, out):
    """As ``elementary.normal_quantile``, one thread a number."""
    i = cuda.grid(1)
    if i < out.size:
        out[i] = normal_quantile_of(p[i])


@on_grid("(float64[::1], float64, float64, float64[:, ::1], float64[::1])")
def spline(x, start, step, pieces, out):
    """As ``elementary.spline``, one thread a number."""
    i = cuda.grid(1)
    if i < out.size:
        k = spline_piece(x[i], start, step, pieces.shape[1])
        coefficients = (pieces[0, k], pieces[1, k], pieces[2, k], pieces[3, k])
        out[i] = spline_value(x[i], k, start, step, coefficients)
