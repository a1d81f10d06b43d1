"""Add ready-made images of single emitters to frames, every frame's in the order of the table.

For emitters whose images no table holds. Frames share out the threads, and a frame adds its
emitters one after another, so no bit depends on the number of threads.
"""

import numpy as np
from numba import get_num_threads, prange

from simscope.kernels.compiled import compiled, inlined, threaded
from simscope.kernels.numeric import product
from simscope.kernels.tiles import first_pixel


@inlined
def seen(first, window, pixels):
    """Pixels of a window along an axis that lie on a frame: the first, and one after the last."""
    return max(0, -first), min(window, pixels - first)


@compiled
def add_patch(frame, patch, photons, x, y):
    """Add ``photons`` times a patch centred on the pixel that holds (x, y) [px], where on frame."""
    side = patch.shape[0]
    top, left = first_pixel(y, side), first_pixel(x, side)
    low, high = seen(top, side, frame.shape[0])
    begin, end = seen(left, side, frame.shape[1])
    for r in range(low, high):
        line, light = frame[top + r], patch[r]
        for c in range(begin, end):
            line[left + c] = product(photons, light[c]) + line[left + c]


@compiled
def add_to_frames(patches, which, photons, x, y, offsets, out, first, last):
    """Add to frames first to last - 1 of ``out``; arguments as in :func:`add_patches`."""
    for frame in range(first, last):
        for k in range(offsets[frame], offsets[frame + 1]):
            add_patch(out[frame], patches[which[k]], photons[k], x[k], y[k])


@threaded
def add_patches(patches, which, photons, x, y, offsets, out):
    """Add emitters to frames ``out`` (frames, y, x), float32 [photons].

    Emitters of frame f are those from ``offsets[f]`` to ``offsets[f + 1] - 1``: image
    ``which[k]`` of ``patches``, float32 (images, side, side), side odd, times ``photons[k]``,
    float32, centred on the pixel that holds ``x[k]``, ``y[k]`` [px].
    """
    for frame in prange(out.shape[0]):
        add_to_frames(patches, which, photons, x, y, offsets, out, frame, frame + 1)


@compiled
def fade_patch(patch, weight_y, weight_x):
    """Multiply a patch (side, side) by float64 weights of its rows and columns, in place."""
    for r in range(patch.shape[0]):
        line = patch[r]
        for c in range(line.size):
            line[c] *= np.float32(weight_y[r] * weight_x[c])


@compiled
def fade_some(patches, weights_y, weights_x, first, last):
    """Fade the images of emitters first to last - 1, see :func:`fade_patches`."""
    for e in range(first, last):
        for plane in range(patches.shape[1]):
            fade_patch(patches[e, plane], weights_y[e], weights_x[e])


@threaded
def fade_each(patches, weights_y, weights_x):
    """Fade the images of all emitters side by side, see :func:`fade_patches`."""
    for e in prange(patches.shape[0]):
        fade_some(patches, weights_y, weights_x, e, e + 1)


def fade_patches(patches, weights_y, weights_x):
    """Multiply images (emitters, planes, side, side) by weights (emitters, side), in place.

    One thread is the calling one: no other needs to be free.
    """
    if get_num_threads() == 1:
        fade_some(patches, weights_y, weights_x, 0, len(patches))
    else:
        fade_each(patches, weights_y, weights_x)
