"""A band of a frame while emitters are added to it, with room for whole lanes on either side.

Writing beyond the frame's edge costs less than asking where it is; what lies there is forgotten.
"""

import numpy as np

from simscope.kernels.compiled import compiled, inlined
from simscope.kernels.lanes import LANES
from simscope.kernels.numeric import select

ZERO = np.float32(0.0)


@inlined
def padded(pixels):
    """Number of pixels rounded up to whole lanes."""
    return (pixels + LANES - 1) // LANES * LANES


@inlined
def no_light_taken(value):
    """The value, 0 if negative: a spline dips below it, by its error, where it is dark."""
    return select(value > ZERO, value, ZERO)


@compiled
def aligned(size):
    """Zeros, float32, that begin where a vector register may be loaded at once."""
    room = np.zeros(size + LANES, np.float32)
    skipped = -(room.ctypes.data // 4) % LANES
    return room[skipped : skipped + size]


@compiled
def canvas_of(rows, columns):
    """Room for a band of a frame: float32 (rows, columns and margins)."""
    return np.zeros((rows, padded(columns) + 2 * LANES), np.float32)


@inlined
def lanes_seen(left, window, columns):
    """First column of a window that lies on a frame, and the one after the last, by whole lanes."""
    return max(0, -left) // LANES * LANES, padded(min(window, columns - left))


@compiled
def take_up(light, canvas):
    """Copy a band of a frame onto the canvas; assigning slices would take seconds to compile."""
    for row in range(light.shape[0]):
        for column in range(light.shape[1]):
            canvas[row, LANES + column] = light[row, column]


@compiled
def lay_down(canvas, light):
    """Copy the canvas to the band of a frame, no pixel below 0."""
    for row in range(light.shape[0]):
        for column in range(light.shape[1]):
            light[row, column] = no_light_taken(canvas[row, LANES + column])
