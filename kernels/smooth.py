"""Light that varies smoothly over a frame: log-normal, between the nodes of a coarse random grid.

The logarithm is a Gaussian field, normal variates at nodes spread by cubic B-splines, of which four
along either axis reach a pixel. Weights are such that its variance is 1 everywhere; taking off
``contrast^2 / 2`` keeps the mean light at ``level``.
"""

import numpy as np
from numba import get_num_threads, prange

from simscope.kernels.compiled import compiled, inlined, threaded
from simscope.kernels.elementary import exponential_of
from simscope.kernels.numeric import fma

REACH = 4  # nodes along an axis


@inlined
def field_at(nodes, weights_y, weights_x, top, left):
    """Gaussian field [1] at a pixel, from the nodes (4, 4) beginning at (top, left)."""
    value = 0.0
    for j in range(REACH):
        along = 0.0
        for i in range(REACH):
            along = fma(weights_y[i], nodes[top + i, left + j], along)
        value = fma(weights_x[j], along, value)
    return value


@inlined
def light_at(level, contrast, field):
    """Light [units of ``level``] where the Gaussian field has this value."""
    return np.float32(level * exponential_of(fma(contrast, field, -0.5 * contrast * contrast)))


@compiled
def rows_of_light(begin, end, level, contrast, nodes, weights_y, first_y, weights_x, first_x, out):
    """Fill rows begin to end - 1, counted over the samples; see :func:`smooth_light`."""
    _, height, width = out.shape
    for unit in range(begin, end):
        sample = unit // height
        y = unit - sample * height
        for x in range(width):
            field = field_at(nodes[sample], weights_y[y], weights_x[x], first_y[y], first_x[x])
            out[sample, y, x] = light_at(level[sample], contrast[sample], field)


@threaded
def each_row_of_light(level, contrast, nodes, weights_y, first_y, weights_x, first_x, out):
    """Fill all rows side by side; see :func:`smooth_light`."""
    for unit in prange(out.shape[0] * out.shape[1]):
        begin = np.int64(unit)
        rows_of_light(
            begin, begin + 1, level, contrast, nodes, weights_y, first_y, weights_x, first_x, out
        )


def smooth_light(level, contrast, nodes, weights_y, first_y, weights_x, first_x, out):
    """Fill ``out`` float32 (sample, y, x) with the light of every pixel.

    ``level`` and ``contrast`` float64 (sample,); ``nodes`` float64 (sample, rows, columns);
    ``weights`` float64 (pixel, 4) and ``first`` int64 (pixel,): the nodes that reach a pixel. One
    thread is the calling one: no other needs to be free.
    """
    work = (level, contrast, nodes, weights_y, first_y, weights_x, first_x, out)
    if get_num_threads() == 1:
        rows_of_light(0, out.shape[0] * out.shape[1], *work)
    else:
        each_row_of_light(*work)
