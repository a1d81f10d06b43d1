"""Maximum-likelihood fits of single emitters with the spline table their images are made from.

A pixel's count c, brought to Poisson-like units by the caller, expects ``mu = gain (N psf + b) +
rest``. The fit climbs ``sum c log mu - mu`` over (x, y, height, N, b) by Fisher scoring, the
steps damped as Levenberg and Marquardt do: with gradient g and Fisher information I,

    (I + damping diag I) step = g,  g_a = sum (c - mu) / mu dmu_a,  I_ab = sum dmu_a dmu_b / mu .

The expected information takes the place of the curvature (Smith et al. 2010, Nat. Methods 7:373,
and Laurence & Chromy 2010, Nat. Methods 7:338, leave out part of the curvature too): it is positive
definite wherever the image tells parameters apart, and counts below 0 do no harm. ``step . g`` is
the squared distance to the maximum in standard deviations of the estimate; the fit has converged
once it is below ``NEAR``, whatever the units.

Image and slopes are those of :mod:`simscope.kernels.splat`: the same sums with the slopes of the
splines in place of their weights, in single precision; everything summed over pixels is in double.
Places are in pixels, heights in steps of the table above its lowest.
"""

import math

import numpy as np
from numba import prange

from simscope.kernels.canvas import aligned, lanes_seen, padded
from simscope.kernels.compiled import compiled, inlined, threaded
from simscope.kernels.lanes import LANES
from simscope.kernels.numeric import floats32, floor, product
from simscope.kernels.splat import (
    STRIP,
    add_columns,
    blend_rows,
    lateral_node,
    mix,
    scratch_of,
    sum_images,
    times,
)
from simscope.kernels.tiles import first_pixel

f32 = np.float32
X, Y, HEIGHT, PHOTONS, BACKGROUND, PARAMETERS = 0, 1, 2, 3, 4, 5
COLUMNS = 13
NO_SLOPE = np.iinfo(np.int64).min
NEAR = 1e-4  # squared distance to the maximum, in variances of the estimate
FIRST_DAMPING, MOST_DAMPING = 1e-2, 1e9
HOPELESS, UNLIKELY = 3.0, 10.0
"""A start is left out that is this many times the first climb's rise, and so much, too low."""
LEAST_PHOTONS, LEAST_BACKGROUND, MOST_LIGHT = 1.0, 1e-3, 1e12
LEAST_MEAN = 1e-3  # a spline dips below 0 by its error, where it is dark
ONE, ZERO, HALF, THREE_HALVES, TWO = floats32(1.0, 0.0, 0.5, 1.5, 2.0)


# ---- image and slopes of a unit emitter ---------------------------------------------------------


@inlined
def spline_slopes(t):
    """Slopes [per step] of ``splat.spline_weights`` at fraction ``t`` in [0, 1] of a step."""
    s = ONE - t
    return -HALF * s * s, (THREE_HALVES * t - TWO) * t, (TWO - THREE_HALVES * s) * s, HALF * t * t


@inlined
def lateral_slopes(place, per_pixel):
    """Slopes [1/px] by ``place`` [px] of the four weights of ``splat.lateral_node``."""
    step = product(1.0 - (place - floor(place)), np.float64(per_pixel))
    return times(spline_slopes(f32(step - floor(step))), f32(-per_pixel))


@inlined
def height_slopes(height, planes):
    """Slopes [per step] of the four weights of ``splat.height_node``; 0 with one plane."""
    if planes == 1:
        return ZERO, ZERO, ZERO, ZERO
    lowest = min(max(np.int64(floor(height)), 0), planes - 4)
    return spline_slopes(f32(height - np.float64(lowest)))


@inlined
def add_strips(deep, source, start, w, along_y, along_x, slope_x, seen, rows, canvas, at, at_slope):
    """Add to the canvas an image summed from ``source``, and its slope by x at ``at_slope``, if
    that is not ``NO_SLOPE``.

    ``along_y``, ``along_x``: node and weights of its splines; ``seen``: window rows and columns.
    """
    first, last, low, high = seen
    planes, step = source.shape[3], source.shape[4] * LANES
    from_lane, to_lane = low // LANES, min(high // LANES + 1, source.shape[2])
    for begin in range(first, last, STRIP):
        count = min(STRIP, last - begin)
        node = rows.shape[0] * begin + along_y[0]
        blend_rows(
            deep, source, planes, step, start, w, node, along_y[1], count, from_lane, to_lane, rows
        )
        below = begin * canvas.shape[1]
        add_columns(rows, along_x[0], along_x[1], count, low, high, canvas, at + below)
        if at_slope != NO_SLOPE:
            add_columns(rows, along_x[0], slope_x, count, low, high, canvas, at_slope + below)


@compiled
def add_image(source, start, w, along_y, along_x, slope_x, seen, rows, canvas, at, at_slope):
    """:func:`add_strips` from four planes of a table, or from its only one."""
    if source.shape[3] > 1:
        add_strips(
            True, source, start, w, along_y, along_x, slope_x, seen, rows, canvas, at, at_slope
        )
    else:
        add_strips(
            False, source, start, w, along_y, along_x, slope_x, seen, rows, canvas, at, at_slope
        )


@compiled
def draw(model, row, place, box, slopes, room):
    """Write a unit emitter's image and slopes by x, y [1/px] and height [1/step] to the canvas.

    Without ``slopes`` the image alone.

    ``model``: table (:func:`splat.in_lanes`), nodes per pixel, window, images and weights (as of
    :func:`splat.splat`), of which this emitter sums row ``row``. ``place``: x, y, height. ``box``:
    first row, row after the last, first column, column after the last, on the frame. The canvas
    holds the four one below another; column c of the box is its column ``LANES + c``.
    """
    table, per_pixel, window, images, weights = model
    canvas, rows, plane, factors, starts = room[:5]
    canvas[:] = ZERO
    x, y, height = place[X], place[Y], place[HEIGHT]
    planes = table.shape[3]
    left, top = first_pixel(x, window) - box[2], first_pixel(y, window) - box[0]
    first, last = max(0, -top), min(window, box[1] - box[0] - top)
    low, high = lanes_seen(left, window, box[3] - box[2])
    seen = (first, last, low, high)
    along_y, along_x = lateral_node(y, per_pixel), lateral_node(x, per_pixel)
    slope_y = (along_y[0], lateral_slopes(y, per_pixel))
    slope_x = lateral_slopes(x, per_pixel)
    size = canvas.size // 4
    at = top * canvas.shape[1] + left + LANES
    at_slope = at + size if slopes else NO_SLOPE
    by_height = height_slopes(height, planes)
    used = mix(table, images, weights, row, height, factors, starts)
    w = (factors[0, 0], factors[0, 1], factors[0, 2], factors[0, 3])
    if used == 1 and (planes > 1 or w[0] == ONE):
        view = (along_x, slope_x, seen, rows, canvas)
        add_image(table, starts[0], w, along_y, *view, at, at_slope)
        if slopes:
            add_image(table, starts[0], w, slope_y, *view, at + 2 * size, NO_SLOPE)
        if slopes and planes > 1:
            w = times(by_height, weights[row, 0])
            add_image(table, starts[0], w, along_y, *view, at + 3 * size, NO_SLOPE)
        return
    end = per_pixel * (last - 1) + along_y[0] + 4
    nodes = (per_pixel * first + along_y[0], end)
    flat = plane.reshape(1, table.shape[1], table.shape[2], 1, table.shape[4], LANES)
    view = (along_x, slope_x, seen, rows, canvas)
    sum_images(table, starts, factors, used, nodes[0], nodes[1], plane)
    add_image(flat, 0, w, along_y, *view, at, at_slope)
    if slopes:
        add_image(flat, 0, w, slope_y, *view, at + 2 * size, NO_SLOPE)
    if slopes and planes > 1:
        slope_factors(images, weights, row, by_height, factors)
        sum_images(table, starts, factors, used, nodes[0], nodes[1], plane)
        add_image(flat, 0, w, along_y, *view, at + 3 * size, NO_SLOPE)


@inlined
def slope_factors(images, weights, row, by_height, factors):
    """Weights of planes by ``splat.mix``, replaced by their slopes by height."""
    used = 0
    for k in range(images.shape[1]):
        if k == 0 or weights[row, k] != ZERO:
            slopes = times(by_height, weights[row, k])
            factors[used, 0], factors[used, 1] = slopes[0], slopes[1]
            factors[used, 2], factors[used, 3] = slopes[2], slopes[3]
            used += 1


# ---- likelihood ---------------------------------------------------------------------------------


@compiled
def perfect(data, frame, box):
    """Log-likelihood of a model that meets every pixel's count."""
    counts = data[0]
    value = 0.0
    for r in range(box[0], box[1]):
        for c in range(box[2], box[3]):
            count = np.float64(counts[frame, r, c])
            value += (count * math.log(count) if count > 0.0 else 0.0) - count
    return value


@compiled
def likelihood(data, frame, box, parameters, canvas):
    """Log-likelihood of the drawn image, as :func:`weigh` has it."""
    counts, rest, gain = data
    photons, background = parameters[PHOTONS], parameters[BACKGROUND]
    value = 0.0
    for r in range(box[1] - box[0]):
        for c in range(box[3] - box[2]):
            light = photons * canvas[r, LANES + c] + background
            mean = max(gain * light + rest[box[0] + r, box[2] + c], LEAST_MEAN)
            value += counts[frame, box[0] + r, box[2] + c] * math.log(mean) - mean
    return value


@compiled
def weigh(data, frame, box, parameters, canvas, gradient, information):
    """Log-likelihood of the drawn image; its gradient and the Fisher information, written.

    ``data``: counts (frames, y, x), ``rest`` (y, x) and gain; all but the expected light.
    """
    counts, rest, gain = data
    side = canvas.shape[0] // 4
    photons, background = parameters[PHOTONS], parameters[BACKGROUND]
    value = g0 = g1 = g2 = g3 = g4 = 0.0
    i00 = i01 = i02 = i03 = i04 = i11 = i12 = i13 = i14 = 0.0
    i22 = i23 = i24 = i33 = i34 = i44 = 0.0
    for r in range(box[1] - box[0]):
        for c in range(box[3] - box[2]):
            psf = np.float64(canvas[r, LANES + c])
            d0 = photons * canvas[side + r, LANES + c]
            d1 = photons * canvas[2 * side + r, LANES + c]
            d2 = photons * canvas[3 * side + r, LANES + c]
            mean = gain * (photons * psf + background) + rest[box[0] + r, box[2] + c]
            mean = max(mean, LEAST_MEAN)
            count = np.float64(counts[frame, box[0] + r, box[2] + c])
            weight = 1.0 / mean
            value += count * math.log(mean) - mean
            off = (count - mean) * weight
            g0, g1, g2, g3, g4 = (
                g0 + off * d0, g1 + off * d1, g2 + off * d2, g3 + off * psf, g4 + off,
            )  # fmt: skip
            w0, w1, w2, w3 = weight * d0, weight * d1, weight * d2, weight * psf
            i00, i01, i02, i03, i04 = (
                i00 + w0 * d0, i01 + w0 * d1, i02 + w0 * d2, i03 + w0 * psf, i04 + w0,
            )  # fmt: skip
            i11, i12, i13, i14 = i11 + w1 * d1, i12 + w1 * d2, i13 + w1 * psf, i14 + w1
            i22, i23, i24 = i22 + w2 * d2, i23 + w2 * psf, i24 + w2
            i33, i34, i44 = i33 + w3 * psf, i34 + w3, i44 + weight
    gradient[:] = (gain * g0, gain * g1, gain * g2, gain * g3, gain * g4)
    upper = (i00, i01, i02, i03, i04, i11, i12, i13, i14, i22, i23, i24, i33, i34, i44)
    k = 0
    for a in range(PARAMETERS):
        for b in range(a, PARAMETERS):
            information[a, b] = information[b, a] = gain * gain * upper[k]
            k += 1
    return value


@compiled
def solve(information, gradient, damping, held, matrix, step):
    """Write the damped step, 0 for held parameters; whether the information has an inverse.

    By Cholesky's factors of the information scaled to a diagonal of 1.
    """
    for a in range(PARAMETERS):
        if not held[a] and not information[a, a] > 0.0:
            return False
    for a in range(PARAMETERS):
        step[a] = 0.0 if held[a] else gradient[a] / math.sqrt(information[a, a])
        for b in range(a + 1):
            matrix[a, b] = 0.0
            if not (held[a] or held[b]):
                scale = math.sqrt(information[a, a]) * math.sqrt(information[b, b])
                matrix[a, b] = information[a, b] / scale
        matrix[a, a] = 1.0 + damping
    for a in range(PARAMETERS):
        for b in range(a + 1):
            value = matrix[a, b]
            for k in range(b):
                value -= matrix[a, k] * matrix[b, k]
            if a > b:
                matrix[a, b] = value / matrix[b, b]
            elif value > 1e-12:
                matrix[a, a] = math.sqrt(value)
            else:
                return False
    for a in range(PARAMETERS):
        for k in range(a):
            step[a] -= matrix[a, k] * step[k]
        step[a] /= matrix[a, a]
    for a in range(PARAMETERS - 1, -1, -1):
        for k in range(a + 1, PARAMETERS):
            step[a] -= matrix[k, a] * step[k]
        step[a] /= matrix[a, a]
    for a in range(PARAMETERS):
        if not held[a]:
            step[a] /= math.sqrt(information[a, a])
    return True


# ---- the climb ----------------------------------------------------------------------------------


@inlined
def hold(known_height, parameters, gradient, low, high, held):
    """Mark parameters that are known, or at a limit the likelihood rises beyond."""
    for a in range(PARAMETERS):
        held[a] = (parameters[a] <= low[a] and gradient[a] < 0.0) or (
            parameters[a] >= high[a] and gradient[a] > 0.0
        )
    if known_height:
        held[HEIGHT] = True


@compiled
def climb(model, data, row, frame, box, low, high, most, parameters, room):
    """Climb from ``parameters``, in place: log-likelihood, images drawn, whether it converged.

    The information of the end is left in the room. A climb that ends at a limit of place, height
    or photons has not converged.
    """
    canvas = room[0]
    gradient, information, trial, new_gradient, new_information, matrix, step, held = room[5:]
    known_height = model[0].shape[3] == 1
    draw(model, row, parameters, box, True, room)
    value = weigh(data, frame, box, parameters, canvas, gradient, information)
    damping, drawn = FIRST_DAMPING, 1
    while drawn < most and damping < MOST_DAMPING:
        hold(known_height, parameters, gradient, low, high, held)
        if not solve(information, gradient, damping, held, matrix, step):
            return value, drawn, False
        rise = 0.0
        for a in range(PARAMETERS):
            rise += step[a] * gradient[a]
            trial[a] = min(max(parameters[a] + step[a], low[a]), high[a])
        if rise < NEAR and damping <= FIRST_DAMPING:
            parameters[:] = trial
            limited = held[X] or held[Y] or held[PHOTONS] or (held[HEIGHT] and not known_height)
            return value, drawn, not limited
        draw(model, row, trial, box, True, room)
        drawn += 1
        new = weigh(data, frame, box, trial, canvas, new_gradient, new_information)
        if new >= value - 0.1 * NEAR:
            value, damping = new, 0.1 * damping
            parameters[:] = trial
            gradient[:] = new_gradient
            information[:] = new_information
        else:
            damping = max(10.0 * damping, FIRST_DAMPING)
    return value, drawn, False


@compiled
def guess_light(data, frame, box, canvas, low, parameters):
    """Write photons and background of the drawn image by a straight line through the counts."""
    counts, rest, gain = data
    n = s = t = ss = st = 0.0
    for r in range(box[1] - box[0]):
        for c in range(box[3] - box[2]):
            psf = np.float64(canvas[r, LANES + c])
            count = np.float64(counts[frame, box[0] + r, box[2] + c])
            light = (count - rest[box[0] + r, box[2] + c]) / gain
            n, s, t, ss, st = n + 1.0, s + psf, t + light, ss + psf * psf, st + psf * light
    spread = ss - s * s / n
    photons = (st - s * t / n) / spread if spread > 0.0 else 0.0
    parameters[PHOTONS] = max(photons, low[PHOTONS])
    parameters[BACKGROUND] = max((t - parameters[PHOTONS] * s) / n, low[BACKGROUND])


@compiled
def merits_of(model, data, row, frame, box, low, heights, parameters, room, merits):
    """Write the log-likelihood at every height, with the light that suits it best."""
    for k in range(heights.size):
        parameters[HEIGHT] = heights[k]
        draw(model, row, parameters, box, False, room)
        guess_light(data, frame, box, room[0], low, parameters)
        merits[k] = likelihood(data, frame, box, parameters, room[0])


@inlined
def next_peak(merits, tried):
    """Number of the highest local maximum not yet tried, -1 if there is none."""
    best = -1
    for k in range(merits.size):
        rises = k == 0 or merits[k - 1] <= merits[k]
        falls = k == merits.size - 1 or merits[k + 1] < merits[k]
        if rises and falls and not tried[k] and (best < 0 or merits[k] > merits[best]):
            best = k
    return best


@compiled
def deviations(information, known_height, room, out):
    """Write the bounds of the parameters: roots of the diagonal of the inverse; NaN if none."""
    matrix, step, held = room[10:]
    unit = np.zeros(PARAMETERS)
    for a in range(PARAMETERS):
        held[a] = a == HEIGHT and known_height
    for a in range(PARAMETERS):
        unit[:] = 0.0
        unit[a] = 1.0
        known = not held[a] and solve(information, unit, 0.0, held, matrix, step)
        out[a] = math.sqrt(step[a]) if known and step[a] > 0.0 else np.nan


@compiled
def room_of(table, images, side):
    """Room for one fit: canvas, scratch of :func:`splat.scratch_of`, sums and steps."""
    plane, rows, factors, starts = scratch_of(table, images)
    vectors, squares = np.empty((4, PARAMETERS)), np.empty((3, PARAMETERS, PARAMETERS))
    canvas = aligned(4 * side * (padded(side) + 2 * LANES)).reshape(4 * side, -1)
    return (
        canvas, rows, plane, factors, starts, vectors[0], squares[0], vectors[1], vectors[2],
        squares[1], squares[2], vectors[3], np.empty(PARAMETERS, np.bool_),
    )  # fmt: skip


@compiled
def fit_emitter(model, data, row, frame, box, place, heights, limits, tries, most, room, out):
    """Fit one emitter from x, y ``place`` [px] and the likeliest ``heights``; see :func:`fit`."""
    low, high = limits
    merits, tried = np.empty(heights.size), np.zeros(heights.size, np.bool_)
    parameters = np.empty(PARAMETERS)
    parameters[X], parameters[Y] = place[0], place[1]
    merits_of(model, data, row, frame, box, low, heights, parameters, room, merits)
    whole, best, drawn, rise = perfect(data, frame, box), -np.inf, heights.size, np.inf
    out[:] = np.nan
    for _ in range(tries):
        k = next_peak(merits, tried)
        if k < 0 or best - merits[k] > HOPELESS * rise + UNLIKELY:
            break
        tried[k] = True
        parameters[X], parameters[Y], parameters[HEIGHT] = place[0], place[1], heights[k]
        draw(model, row, parameters, box, False, room)
        guess_light(data, frame, box, room[0], low, parameters)
        climbed = climb(model, data, row, frame, box, low, high, most, parameters, room)
        drawn += climbed[1] + 1
        rise = min(rise, climbed[0] - merits[k])
        if climbed[0] > best:
            best = climbed[0]
            out[:PARAMETERS] = parameters
            deviations(room[6], model[0].shape[3] == 1, room, out[PARAMETERS : 2 * PARAMETERS])
            out[2 * PARAMETERS] = best - whole
            out[2 * PARAMETERS + 2] = 1.0 if climbed[2] else 0.0
    out[2 * PARAMETERS + 1] = drawn


@compiled
def fit_some(
    table, per_pixel, window, images, weights, counts, rest, gain, frames, boxes, places, heights,
    highest, tries, most, out, first, last,
):  # fmt: skip
    """Fit emitters first to last - 1, see :func:`fit`."""
    side = 1
    for e in range(first, last):
        side = max(side, boxes[e, 1] - boxes[e, 0], boxes[e, 3] - boxes[e, 2])
    room = room_of(table, images.shape[1], side)
    model, data = (table, per_pixel, window, images, weights), (counts, rest, gain)
    low, high = np.empty(PARAMETERS), np.full(PARAMETERS, MOST_LIGHT)
    low[PHOTONS], low[BACKGROUND] = LEAST_PHOTONS, LEAST_BACKGROUND
    low[HEIGHT], high[HEIGHT] = 0.0, highest
    for e in range(first, last):
        low[X], high[X] = np.float64(boxes[e, 2]), np.float64(boxes[e, 3])
        low[Y], high[Y] = np.float64(boxes[e, 0]), np.float64(boxes[e, 1])
        fit_emitter(
            model, data, min(e, images.shape[0] - 1), frames[e], boxes[e], places[e], heights[e],
            (low, high), tries, most, room, out[e],
        )  # fmt: skip


@threaded
def fit_shares(
    table, per_pixel, window, images, weights, counts, rest, gain, frames, boxes, places, heights,
    highest, tries, most, out, edges,
):  # fmt: skip
    """:func:`fit_some` from each edge to the next, side by side."""
    for share in prange(edges.size - 1):
        fit_some(
            table, per_pixel, window, images, weights, counts, rest, gain, frames, boxes, places,
            heights, highest, tries, most, out, edges[share], edges[share + 1],
        )  # fmt: skip


def fit(
    table, per_pixel, window, images, weights, counts, rest, gain, frames, boxes, places, heights,
    highest, tries, most, out, threads,
):  # fmt: skip
    """Write to ``out`` (emitters, ``COLUMNS``) the likeliest emitters, on ``threads`` threads.

    ``table`` to ``weights`` as of :func:`splat.splat`. ``counts`` float32 (frames, y, x), ``rest``
    float32 (y, x) and ``gain``: a pixel expects ``gain (N psf + b) + rest``, and its variance in
    these units is its mean. ``frames`` int64 and ``boxes`` int64 (emitters, 4), first row, row
    after the last, first and after the last column: the pixels that are fitted. ``places``:
    float64 (emitters, 2), x and y [px] to start from; ``heights``: float64 (emitters, k), to start
    from, ascending, [steps]; the ``tries`` highest peaks among them are climbed from. ``highest``:
    limit of the height, as is 0; ``most``: images a climb may draw.

    Columns of ``out``: x, y [px], height [steps], photons, background [per px]; their bounds from
    the Fisher information in the same order; log-likelihood less that of a perfect model; images
    drawn; 1 if converged. No result depends on the threads.
    """
    work = (
        table, per_pixel, window, images, weights, counts, rest, gain, frames, boxes, places,
        heights, highest, tries, most, out,
    )  # fmt: skip
    if threads == 1:
        fit_some(*work, 0, len(out))
    else:
        shares = min(8 * threads, len(out))
        fit_shares(*work, np.linspace(0, len(out), shares + 1).astype(np.int64))
