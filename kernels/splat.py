"""Add emitters to frames from a table of cubic B-spline coefficients.

The table holds images of a unit emitter, integrated over pixels, as separable cubic B-splines
over height, row and column. Their lateral nodes lie ``per_pixel`` to a pixel and are stored phase
by phase, ``table[image, plane, row phase, column phase, row, column]``, so that the values of
neighbouring pixels are neighbours in memory and every loop below is a plain sum of four rows.

An emitter's image is a weighted sum of a few images of the table: its own where there is but one,
six for a dipole's orientation, sixteen around its place in the field of view. They are summed
together with the planes around its height, before anything else, so that rows and columns cost the
same for any number of images.

Layout: lateral node ``i`` (phase ``i % per_pixel``, place ``i // per_pixel``) lies
``(i - 1) / per_pixel - window / 2`` pixels from the emitter; height node ``i`` lies ``i - 1`` steps
above the lowest height. A table with one plane holds an image that does not depend on height.

Every pixel adds its emitters in the order of the table, one rounding per operation, so the result
does not depend on the number of threads.
"""

import math

import numpy as np
from numba import prange

from simscope.kernels.compiled import compiled, inlined, threaded

f32 = np.float32


@inlined
def spline_weights(t):
    """Weights of the four nearest cubic B-splines at fraction ``t`` in [0, 1] of a step."""
    s = f32(1.0) - t
    sixth = f32(1.0 / 6.0)
    w0 = s * s * s * sixth
    w1 = ((f32(3.0) * t - f32(6.0)) * t * t + f32(4.0)) * sixth
    w2 = ((f32(3.0) * s - f32(6.0)) * s * s + f32(4.0)) * sixth
    return w0, w1, w2, t * t * t * sixth


@compiled
def blend_images(table, images, weights, height, plane):
    """Write to ``plane`` the lateral coefficients of weighted images at a height.

    ``table``: (images, planes, nodes); ``images``: numbers of those to sum, with ``weights``;
    ``height`` counts steps above the lowest. An image of weight 1 alone is blended as it is.
    """
    for k in range(images.size):
        if k == 0 or weights[k] != f32(0.0):
            blend_planes(table[images[k]], weights[k], height, k > 0, plane)


@compiled
def blend_planes(planes, weight, height, adds, plane):
    """Write or add to ``plane`` one image at ``height``, times ``weight``."""
    if planes.shape[0] == 1:
        c0 = planes[0]
        for i in range(plane.size):
            plane[i] = (plane[i] if adds else f32(0.0)) + weight * c0[i]
        return
    lowest = min(max(math.floor(height), 0), planes.shape[0] - 4)
    w0, w1, w2, w3 = spline_weights(f32(height - lowest))
    w0 *= weight
    w1 *= weight
    w2 *= weight
    w3 *= weight
    c0 = planes[lowest]
    c1 = planes[lowest + 1]
    c2 = planes[lowest + 2]
    c3 = planes[lowest + 3]
    if adds:
        for i in range(plane.size):
            plane[i] += (w0 * c0[i] + w1 * c1[i]) + (w2 * c2[i] + w3 * c3[i])
    else:
        for i in range(plane.size):
            plane[i] = (w0 * c0[i] + w1 * c1[i]) + (w2 * c2[i] + w3 * c3[i])


@compiled
def blend_rows(plane, per_pixel, places, width, step, first, last, rows):
    """Write to ``rows[column phase]`` the coefficients along x of pixel rows first to last - 1.

    ``step`` is the emitter's distance in nodes from the lower edge of its pixel's far neighbour,
    in [0, per_pixel].
    """
    node = math.floor(step)
    w0, w1, w2, w3 = spline_weights(f32(step - node))
    size = (last - first) * width
    for phase in range(per_pixel):
        a0 = row_start(node, phase, per_pixel, places, width, first)
        a1 = row_start(node + 1, phase, per_pixel, places, width, first)
        a2 = row_start(node + 2, phase, per_pixel, places, width, first)
        a3 = row_start(node + 3, phase, per_pixel, places, width, first)
        p0 = plane[a0 : a0 + size]
        p1 = plane[a1 : a1 + size]
        p2 = plane[a2 : a2 + size]
        p3 = plane[a3 : a3 + size]
        out = rows[phase]
        for i in range(size):
            out[i] = (w0 * p0[i] + w1 * p1[i]) + (w2 * p2[i] + w3 * p3[i])


@inlined
def row_start(node, phase, per_pixel, places, width, first):
    """Index into a flat plane of pixel row ``first`` seen from lateral node ``node``."""
    part = (node % per_pixel) * per_pixel + phase
    return (part * places + node // per_pixel + first) * width


@compiled
def blend_columns(rows, per_pixel, step, photons, size, values):
    """Write to ``values`` the pixel values of whole rows, times ``photons``.

    Neighbouring pixels are neighbouring columns, so a node further on is the same flat array
    read from ``node // per_pixel`` places further on. The last few columns of a row then hold a
    mixture of two rows; they lie beyond the padded window and are never used.
    """
    node = math.floor(step)
    w0, w1, w2, w3 = spline_weights(f32(step - node))
    w0 *= photons
    w1 *= photons
    w2 *= photons
    w3 *= photons
    o0 = node // per_pixel
    o1 = (node + 1) // per_pixel
    o2 = (node + 2) // per_pixel
    o3 = (node + 3) // per_pixel
    used = size - o3
    b0 = rows[node % per_pixel][o0 : o0 + used]
    b1 = rows[(node + 1) % per_pixel][o1 : o1 + used]
    b2 = rows[(node + 2) % per_pixel][o2 : o2 + used]
    b3 = rows[(node + 3) % per_pixel][o3 : o3 + used]
    for i in range(used):
        values[i] = (w0 * b0[i] + w1 * b1[i]) + (w2 * b2[i] + w3 * b3[i])


@compiled
def add_window(values, width, frame, top, left, count):
    """Add rows of ``values``, ``count`` columns each, to a frame from (``top``, ``left``) on."""
    for r in range((values.size + width - 1) // width):
        line = frame[top + r][left : left + count]
        source = values[r * width : r * width + count]
        for i in range(count):
            line[i] += source[i]


@compiled
def add_emitter(
    table, per_pixel, window, places, width,
    x, y, height, photons, images, weights, frame, scratch,
):  # fmt: skip
    """Add one emitter at (x, y) pixels to a frame; what lies outside the frame is clipped."""
    plane, rows, values = scratch
    left = math.floor(x) - window // 2
    top = math.floor(y) - window // 2
    first = max(0, -top)
    last = min(window, frame.shape[0] - top)
    low = max(0, -left)
    high = min(padded_window(window), frame.shape[1] - left)
    if first >= last or low >= min(high, window):
        return
    if table.shape[1] == 1 and images.size == 1 and weights[0] == f32(1.0):
        lateral = table[images[0], 0]
    else:
        blend_images(table, images, weights, height, plane)
        lateral = plane
    step_y = (1.0 - (y - math.floor(y))) * per_pixel
    step_x = (1.0 - (x - math.floor(x))) * per_pixel
    blend_rows(lateral, per_pixel, places, width, step_y, first, last, rows)
    size = (last - first) * width
    blend_columns(rows, per_pixel, step_x, photons, size, values)
    add_window(values[low:size], width, frame, top + first, left + low, high - low)


@inlined
def padded_window(window):
    """Window width rounded up to whole vectors of 8; the table is zero there."""
    return (window + 7) // 8 * 8


@compiled
def splat_frames(
    table, per_pixel, window, offsets, x, y, height, photons, images, weights, out, first, last
):
    """Add the emitters of frames first to last - 1 to ``out``, in the order given."""
    kinds, planes, _, _, places, width = table.shape
    flat = table.reshape(kinds, planes, per_pixel * per_pixel * places * width)
    plane = np.empty(flat.shape[2], np.float32)
    rows = np.empty((per_pixel, window * width), np.float32)
    scratch = (plane, rows, np.empty(window * width, np.float32))
    for frame in range(first, last):
        for e in range(offsets[frame], offsets[frame + 1]):
            row = min(e, images.shape[0] - 1)
            add_emitter(
                flat, per_pixel, window, places, width,
                x[e], y[e], height[e], photons[e], images[row], weights[row], out[frame], scratch,
            )  # fmt: skip
        clear_negative(out[frame])


@compiled
def clear_negative(frame):
    """Set negative pixels to 0: the spline dips below it, by its error, where the image is dark."""
    for row in range(frame.shape[0]):
        line = frame[row]
        for i in range(line.size):
            line[i] = max(line[i], f32(0.0))


@threaded
def splat(table, per_pixel, window, offsets, x, y, height, photons, images, weights, out, threads):
    """Add emitters to frames ``out`` (frames, y, x) [photons], ``threads`` blocks side by side.

    Emitters of frame f are those from ``offsets[f]`` to ``offsets[f + 1] - 1``. ``x``, ``y`` are
    float64 in pixels from the outer corner of the first; ``height`` float64 in steps above the
    lowest height of the table; ``photons`` float32. ``images`` int64 and ``weights`` float32,
    (emitters, k): the images each emitter sums and how much of each; one row stands for all
    emitters. ``table`` float32 as described above.
    """
    frames = out.shape[0]
    for block in prange(threads):
        first = block * frames // threads
        last = (block + 1) * frames // threads
        splat_frames(
            table, per_pixel, window, offsets, x, y, height, photons, images, weights, out,
            first, last,
        )  # fmt: skip
