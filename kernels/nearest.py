"""The two scattered points nearest to each voxel: one point at a random place of every cubic cell.

Lengths are in units of the cells' side. Points are looked for in the 27 cells around a voxel, which
now and then misses the nearest, never one nearer than half a side.
"""

import numpy as np

from simscope.kernels.compiled import compiled


@compiled
def nearest_in_cells(z, y, x, lots, out):
    """The best two points of the 27 cells around a place into ``out``: two distances, two lots."""
    nearest, second = np.float32(np.inf), np.float32(np.inf)
    lot, other = np.float32(0), np.float32(0)
    first_z, first_y, first_x = int(z), int(y), int(x)
    for k in range(first_z, first_z + 3):
        for j in range(first_y, first_y + 3):
            for i in range(first_x, first_x + 3):
                off_z = np.float32(k - 1) + lots[0, k, j, i] - z
                off_y = np.float32(j - 1) + lots[1, k, j, i] - y
                off_x = np.float32(i - 1) + lots[2, k, j, i] - x
                squared = off_z * off_z + off_y * off_y + off_x * off_x
                if squared < nearest:
                    nearest, second = squared, nearest
                    lot, other = lots[3, k, j, i], lot
                elif squared < second:
                    second, other = squared, lots[3, k, j, i]
    out[0], out[1], out[2], out[3] = np.sqrt(nearest), np.sqrt(second), lot, other


@compiled
def two_nearest(z, y, x, lots, out):
    """Fill ``out`` (z, y, x, 4) for places ``z``, ``y``, ``x`` from 0 up along the axes.

    ``lots``: (4, cells), float32 in (0, 1): places of the points in their cells along z, y, x, and
    one more number of each. Cell 0 along an axis lies below place 0.
    """
    for k in range(z.size):
        for j in range(y.size):
            for i in range(x.size):
                nearest_in_cells(z[k], y[j], x[i], lots, out[k, j, i])
