"""Emitters counted on a grid: each a small Gaussian of weight one, or one cell.

Frames are filled one after another on the calling thread, emitters in the order of their rows, so
a frame's values depend on its own rows alone.
"""

import numpy as np

from simscope.kernels.compiled import compiled, inlined
from simscope.kernels.elementary import exponential_of
from simscope.kernels.numeric import floor


@inlined
def home_cell(position, size):
    """Cell that holds a position, the first or last one beyond the ends."""
    return int(min(max(floor(position), 0.0), size - 1.0))


@compiled
def spread_along(position, size, reach, blur, weights):
    """First cell and number of cells an emitter spreads over; ``weights`` take its shares.

    Shares are those of a Gaussian at the middles of the cells, and sum to 1 over the cells that
    lie on the grid. They are relative to the home cell's, so that none is lost to underflow.
    """
    home = home_cell(position, size)
    first, last = max(home - reach, 0), min(home + reach, size - 1)
    if first == last:
        weights[0] = 1.0
        return first, 1
    nearest = home + 0.5 - position
    total = 0.0
    for cell in range(first, last + 1):
        off = cell + 0.5 - position
        share = exponential_of(0.5 * (nearest * nearest - off * off) / (blur * blur))
        weights[cell - first] = share
        total += share
    for k in range(last + 1 - first):
        weights[k] /= total
    return first, last + 1 - first


@compiled
def count_emitters(z, y, x, keep, offsets, reach, blur, out):
    """Add the emitters marked in ``keep`` to ``out``, float32 (frames, planes, rows, columns).

    Positions count cells from the outer corner of the grid; frame ``k`` has the rows from
    ``offsets[k]`` to ``offsets[k + 1]``, counted from ``offsets[0]``. ``reach``: cells on either
    side that a Gaussian of standard deviation ``blur`` [cells] spreads to.
    """
    weights = np.empty((3, 2 * reach + 1))
    for frame in range(len(offsets) - 1):
        for i in range(offsets[frame] - offsets[0], offsets[frame + 1] - offsets[0]):
            if not keep[i]:
                continue
            plane, planes = spread_along(z[i], out.shape[1], reach, blur, weights[0])
            row, rows = spread_along(y[i], out.shape[2], reach, blur, weights[1])
            column, columns = spread_along(x[i], out.shape[3], reach, blur, weights[2])
            for k in range(planes):
                for j in range(rows):
                    share = weights[0, k] * weights[1, j]
                    for n in range(columns):
                        out[frame, plane + k, row + j, column + n] += np.float32(
                            share * weights[2, n]
                        )
