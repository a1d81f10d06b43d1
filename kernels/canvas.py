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
def take_up(frames, frame, low, high, canvas):
    """Copy rows low to high - 1 of a frame onto the canvas; slices take seconds to compile."""
    for row in range(high - low):
        for column in range(frames.shape[2]):
            canvas[row, LANES + column] = frames[frame, low + row, column]


@compiled
def lay_down(canvas, frames, frame, low, high):
    """Copy the canvas to rows low to high - 1 of a frame, no pixel below 0."""
    for row in range(high - low):
        for column in range(frames.shape[2]):
            frames[frame, low + row, column] = no_light_taken(canvas[row, LANES + column])
