"""Add emitters to frames from a table of cubic B-spline coefficients.

The table holds images of a unit emitter, integrated over pixels, as separable cubic B-splines
over height, row and column. Their lateral nodes lie ``per_pixel`` to a pixel. Columns are stored
phase by phase, ``table[image, plane, node row, column phase, column]``, so that the values of
neighbouring pixels are neighbours in memory and every loop below is a plain sum of four rows.

An emitter's image is a weighted sum of a few images of the table: its own where there is but one,
six for a dipole's orientation, sixteen around its place in the field of view. They are summed
together with the planes around its height, before anything else, so that rows and columns cost the
same for any number of images.

Layout: lateral node ``i`` (in columns phase ``i % per_pixel``, place ``i // per_pixel``) lies
``(i - 1) / per_pixel - window / 2`` pixels from the emitter; height node ``i`` lies ``i - 1`` steps
above the lowest height. A table with one plane holds an image that does not depend on height.
Rows of columns are as wide as the window, rounded up to whole lanes. Nodes 0 to 2 and those from
``per_pixel * window`` on are 0, for their splines would reach past the window.

Every pixel adds its emitters in the order of the table; sums run over heights first, then rows,
then columns, each a chain of fused multiply-adds. Neither the tiles a frame is worked on in, nor
threads, nor the device change a bit: on the CPU (:func:`splat`) an emitter's pixels are made
together, from the table in an order of its own (:func:`in_lanes`), so that heights and rows are
summed once for many pixels; on a GPU every pixel sums its own nodes (:func:`pixel_of_emitter`).
"""

import numpy as np
from numba import prange

from simscope.kernels.canvas import aligned, canvas_of, lanes_seen, lay_down, padded, take_up
from simscope.kernels.compiled import compiled, inlined, threaded
from simscope.kernels.lanes import LANES, fill, load, store
from simscope.kernels.numeric import floats32, floor, fma, product
from simscope.kernels.tiles import emitters_of_tiles, first_pixel, share_out

f32 = np.float32
STRIP = 32  # pixel rows of an emitter worked on at a time
ZERO, HALF, ONE, TWO_THIRDS, SIXTH = floats32(0.0, 0.5, 1.0, 2.0 / 3.0, 1.0 / 6.0)


@inlined
def spline_weights(t):
    """Weights of the four nearest cubic B-splines at fraction ``t`` in [0, 1] of a step."""
    s = ONE - t
    t2, s2 = t * t, s * s
    w1 = fma(t2, fma(HALF, t, -ONE), TWO_THIRDS)
    w2 = fma(s2, fma(HALF, s, -ONE), TWO_THIRDS)
    return s2 * s * SIXTH, w1, w2, t2 * t * SIXTH


@inlined
def times(w, factor):
    """The four weights times a factor."""
    return w[0] * factor, w[1] * factor, w[2] * factor, w[3] * factor


@inlined
def four(w, c):
    """Sum of four coefficients times their weights."""
    return fma(w[3], c[3], fma(w[2], c[2], fma(w[1], c[1], w[0] * c[0])))


@inlined
def four_more(value, w, c):
    """``value`` plus the sum of four coefficients times their weights."""
    return fma(w[3], c[3], fma(w[2], c[2], fma(w[1], c[1], fma(w[0], c[0], value))))


@inlined
def height_node(height, planes):
    """Lowest of the four planes around a height, and the weights of the four; one plane is all."""
    if planes == 1:
        return 0, (ONE, ZERO, ZERO, ZERO)
    lowest = min(max(np.int64(floor(height)), 0), planes - 4)
    return lowest, spline_weights(f32(height - np.float64(lowest)))


@inlined
def lateral_node(place, per_pixel):
    """First node that the window's first pixel sums along an axis, and the weights of its four.

    ``place``: of the emitter [px]. The node is one of 0 to ``per_pixel``.
    """
    step = product(1.0 - (place - floor(place)), np.float64(per_pixel))
    node = floor(step)
    return np.int64(node), spline_weights(f32(step - node))


# ---- one pixel, for a GPU -----------------------------------------------------------------------


@inlined
def node_of_emitter(table, images, weights, height, node):
    """Lateral coefficient ``node`` (flat index) of an emitter's weighted images at its height.

    ``table``: (images, planes, nodes).
    """
    planes = table.shape[1]
    value = ZERO
    if planes == 1:
        for k in range(images.size):
            value = fma(weights[k], table[images[k], 0, node], value)
        return value
    low, w = height_node(height, planes)
    for k in range(images.size):
        if weights[k] != ZERO:
            c = table[images[k], low : low + 4, node]
            value = four_more(value, times(w, weights[k]), c)
    return value


@inlined
def pixel_of_emitter(table, per_pixel, window, x, y, height, photons, images, weights, row, column):
    """Light [photons] an emitter at (x, y) pixels sends to pixel (row, column) of its window."""
    width = padded(window)
    first_y, over_y = lateral_node(y, per_pixel)
    first_x, over_x = lateral_node(x, per_pixel)
    over_x = times(over_x, photons)
    value = ZERO
    for j in range(4):
        node_x = first_x + j
        at_x = node_x // per_pixel + column
        if at_x < width:
            along = ZERO
            for i in range(4):
                line = (per_pixel * row + first_y + i) * per_pixel + node_x % per_pixel
                node = node_of_emitter(table, images, weights, height, line * width + at_x)
                along = fma(over_y[i], node, along)
            value = fma(over_x[j], along, value)
    return value


# ---- an emitter's pixels together, for the CPU --------------------------------------------------


def in_lanes(table):
    """The table as :func:`splat` reads it: (images, column phase, lanes, planes, node rows, lane).

    The planes of some columns, row after row, are one piece of memory each, so that a pass over
    rows with its running sums in registers reads as fast as memory gives.
    """
    images, planes, rows, per_pixel, width = table.shape
    lanes = table.reshape(images, planes, rows, per_pixel, width // LANES, LANES)
    copy = aligned(table.size)
    copy.reshape(images, per_pixel, -1, planes, rows, LANES)[:] = lanes.transpose(0, 3, 4, 1, 2, 5)
    return copy.reshape(images, per_pixel, -1, planes, rows, LANES)


@compiled
def scratch_of(table, images):
    """Room for one emitter: node rows, pixel rows by phase, planes' weights and starts."""
    _, phases, groups, _, node_rows, _ = table.shape
    width = groups * LANES
    return (
        aligned(phases * node_rows * width),
        aligned(phases * (STRIP + 1) * width).reshape(phases, STRIP + 1, width),
        np.empty((images, 4), np.float32),
        np.empty(images, np.int64),
    )


@inlined
def mix(table, images, weights, row, height, factors, starts):
    """Weights of planes and where the lowest begin, written; the number of images used.

    ``images[row]``: numbers of those to sum, with ``weights[row]``; ``height`` counts steps above
    the lowest. An image of weight 0 is left out.
    """
    _, phases, groups, planes, node_rows, _ = table.shape
    low, w = height_node(height, planes)
    used = 0
    for k in range(images.shape[1]):
        if k == 0 or weights[row, k] != ZERO:
            starts[used] = (images[row, k] * phases * groups * planes + low) * node_rows * LANES
            w0, w1, w2, w3 = times(w, weights[row, k])
            factors[used, 0], factors[used, 1] = w0, w1
            factors[used, 2], factors[used, 3] = w2, w3
            used += 1
    return used


@inlined
def four_lanes(array, at, step):
    """Lanes of a flat array from ``at`` on and from one, two and three steps further on."""
    return (
        load(array, at), load(array, at + step), load(array, at + 2 * step),
        load(array, at + 3 * step),
    )  # fmt: skip


@inlined
def sum_images(table, starts, factors, used, first, last, plane):
    """Write to ``plane`` node rows first to last - 1 of ``used`` weighted images.

    Its layout is that of a table with one image of one plane.
    """
    _, phases, groups, planes, node_rows, _ = table.shape
    step = node_rows * LANES
    for column in range(phases * groups):
        at, out = column * planes * step, column * step
        for node in range(first * LANES, last * LANES, LANES):
            value = fill(ZERO)
            for k in range(used):
                w = (factors[k, 0], factors[k, 1], factors[k, 2], factors[k, 3])
                place = starts[k] + at + node
                if planes == 1:
                    value = fma(w[0], load(table, place), value)
                else:
                    value = four_more(value, w, four_lanes(table, place, step))
            store(plane, out + node, value)


@inlined
def node_lanes(deep, table, w, step, at):
    """Coefficients of a node row from ``at`` on, or the sum of four planes ``step`` apart."""
    return four(w, four_lanes(table, at, step)) if deep else load(table, at)


@inlined
def blend_rows(deep, table, planes, step, start, w, node, over_y, count, low, high, rows):
    """Write to ``rows`` the coefficients along x of ``count`` pixel rows, phase by phase.

    ``start``: of the image's lowest plane in ``table``; ``w``: weights of its four planes, if
    ``deep``; ``node``: first node row of the first; ``low``, ``high``: lanes of columns needed. The
    last four node rows stay in registers: each is summed over heights once.
    """
    per_pixel, room, width = rows.shape
    for phase in range(per_pixel):
        for group in range(low, high):
            column = phase * (width // LANES) + group
            at = start + column * planes * step + node * LANES
            out = phase * room * width + group * LANES
            n0 = node_lanes(deep, table, w, step, at)
            n1 = node_lanes(deep, table, w, step, at + LANES)
            n2 = node_lanes(deep, table, w, step, at + 2 * LANES)
            n3 = node_lanes(deep, table, w, step, at + 3 * LANES)
            at += 4 * LANES
            store(rows, out, four(over_y, (n0, n1, n2, n3)))
            for r in range(1, count):
                for _ in range(per_pixel):
                    n0, n1, n2 = n1, n2, n3
                    n3 = node_lanes(deep, table, w, step, at)
                    at += LANES
                store(rows, out + r * width, four(over_y, (n0, n1, n2, n3)))


@inlined
def column_start(node, per_pixel, width):
    """Flat index into the coefficients of a pixel row's first pixel seen from a lateral node."""
    return node % per_pixel * (STRIP + 1) * width + node // per_pixel


@inlined
def add_columns(rows, node, w, count, low, high, canvas, at):
    """Add pixels of ``count`` rows, lanes from column ``low`` to ``high``.

    Row r begins at the canvas's flat index ``at + r * canvas.shape[1]``. Neighbouring pixels are
    neighbouring columns, so a node further on is the same array read a place further on. Beyond
    the end of a row that is the beginning of the next, where all is 0.
    """
    per_pixel, _, width = rows.shape
    b0, b1 = column_start(node, per_pixel, width), column_start(node + 1, per_pixel, width)
    b2, b3 = column_start(node + 2, per_pixel, width), column_start(node + 3, per_pixel, width)
    for r in range(count):
        out = at + r * canvas.shape[1]
        for column in range(low, high, LANES):
            i = r * width + column
            c = load(rows, b0 + i), load(rows, b1 + i), load(rows, b2 + i), load(rows, b3 + i)
            store(canvas, out + column, load(canvas, out + column) + four(w, c))


@inlined
def add_emitter(
    table, per_pixel, window, x, y, height, photons, images, weights, row,
    canvas, low_row, high_row, columns, plane, rows, factors, starts,
):  # fmt: skip
    """Add one emitter at (x, y) pixels to rows low to high - 1 of a frame, seen on a canvas.

    It sums ``images[row]``. ``canvas`` begins ``LANES`` columns left of row ``low_row`` and ends as
    many right of it. A few rows at a time, so that what is worked on stays close to the processor.
    """
    left, top = first_pixel(x, window), first_pixel(y, window)
    first, last = max(0, low_row - top), min(window, high_row - top)
    low, high = lanes_seen(left, window, columns)
    from_lane, to_lane = low // LANES, min(high // LANES + 1, table.shape[2])
    node_y, over_y = lateral_node(y, per_pixel)
    node_x, over_x = lateral_node(x, per_pixel)
    over_x = times(over_x, photons)
    planes, step = table.shape[3], table.shape[4] * LANES
    used = mix(table, images, weights, row, height, factors, starts)
    w = (factors[0, 0], factors[0, 1], factors[0, 2], factors[0, 3])
    summed = used > 1 or (planes == 1 and w[0] != ONE)
    if summed:
        end = per_pixel * (last - 1) + node_y + 4
        sum_images(table, starts, factors, used, per_pixel * first + node_y, end, plane)
    for begin in range(first, last, STRIP):
        count = min(STRIP, last - begin)
        node = per_pixel * begin + node_y
        seen = (over_y, count, from_lane, to_lane, rows)
        if summed:
            blend_rows(False, plane, 1, step, 0, w, node, *seen)
        elif planes == 1:
            blend_rows(False, table, 1, step, starts[0], w, node, *seen)
        else:
            blend_rows(True, table, planes, step, starts[0], w, node, *seen)
        corner = (top + begin - low_row) * canvas.shape[1] + left + LANES
        add_columns(rows, node_x, over_x, count, low, high, canvas, corner)


@compiled
def splat_bands(
    table, per_pixel, window, found, x, y, height, photons, images, weights, out, band, first, last
):
    """Add to bands first to last - 1, of ``band`` rows each, the emitters found to touch them."""
    plane, lines, factors, places = scratch_of(table, images.shape[1])
    rows, columns = out.shape[1:]
    canvas = canvas_of(band, columns)
    starts, emitters = found
    bands = (rows + band - 1) // band
    for unit in range(first, last):
        frame, low = unit // bands, unit % bands * band
        high = min(low + band, rows)
        take_up(out, frame, low, high, canvas)
        for k in range(starts[unit], starts[unit + 1]):
            e = emitters[k]
            row = min(e, images.shape[0] - 1)
            add_emitter(
                table, per_pixel, window, x[e], y[e], height[e], photons[e], images, weights, row,
                canvas, low, high, columns, plane, lines, factors, places,
            )  # fmt: skip
        lay_down(canvas, out, frame, low, high)


@threaded
def splat_shares(
    table, per_pixel, window, found, x, y, height, photons, images, weights, out, band, edges
):
    """:func:`splat_bands` from each edge to the next, side by side."""
    for share in prange(edges.size - 1):
        splat_bands(
            table, per_pixel, window, found, x, y, height, photons, images, weights, out, band,
            edges[share], edges[share + 1],
        )  # fmt: skip


def splat(
    table, per_pixel, window, offsets, x, y, height, photons, images, weights, out, band, threads
):
    """Add emitters to frames ``out`` (frames, y, x) [photons], on ``threads`` threads.

    Emitters of frame f are those from ``offsets[f]`` to ``offsets[f + 1] - 1``. ``x``, ``y`` are
    float64 in pixels from the outer corner of the first; ``height`` float64 in steps above the
    lowest height of the table; ``photons`` float32. ``images`` int64 and ``weights`` float32,
    (emitters, k): the images each emitter sums and how much of each; one row stands for all
    emitters. ``table``: float32, as of :func:`in_lanes`. ``band``: rows worked on at a time.
    Pixels that end below 0 become 0: the spline dips below it, by its error, where it is dark.
    One thread is the calling one: no other needs to be free.
    """
    shape = (out.shape[1], out.shape[2])
    side = np.full(1, window, np.int64)
    found = emitters_of_tiles(offsets, x, y, side, shape, (band, shape[1]))
    work = (
        table, per_pixel, window, found, x, y, height, photons, images, weights, out, band,
    )  # fmt: skip
    if threads == 1:
        splat_bands(*work, 0, found[0].size - 1)
    else:
        splat_shares(*work, share_out(found[0], band * shape[1], window, threads))
