"""Images of many emitters, each with a wavefront of its own, from the pupil in single precision.

``LANES`` emitters lie side by side in the processor's vectors and go through all steps together:
phases and phasors at the nodes, even and odd parts, standing waves along the chords and across
them, light, pixels (``optics/transform.py`` says why, in array code; ``optics/pupil_batch.py``
sets the arrays up). The matrices of standing waves are real and the same for all emitters; real
and imaginary parts of the emitters make up the columns they multiply.

Every lane computes by itself, in an order that nothing around it can change: the image of an
emitter has the same bits alone, in any batch and on any number of threads. Phases are summed in
double precision and counted in turns, so that whole turns fall off before they are rounded.
"""

import numpy as np
from numba import get_num_threads, prange

from simscope.kernels.compiled import compiled, inlined, threaded
from simscope.kernels.lanes import LANES, fill, fill_pair, load, load_pair, single, store
from simscope.kernels.numeric import exp32, floor, fma
from simscope.kernels.trig import cosine_sine_of_turns

f32 = np.float32
PAIR = 2 * LANES
ZERO = f32(0.0)
FAINTEST = f32(-80.0)  # logarithm of the amplitude at which evanescent light counts as gone


@inlined
def _eight_rows(a, m, b, out, at, step):
    """Eight rows of ``multiply``, their sums kept in registers."""
    c0 = c1 = c2 = c3 = c4 = c5 = c6 = c7 = fill_pair(ZERO)
    for k in range(a.shape[0]):
        row, column = a[k], load_pair(b, PAIR * k)
        c0 = fma(column, row[m], c0)
        c1 = fma(column, row[m + 1], c1)
        c2 = fma(column, row[m + 2], c2)
        c3 = fma(column, row[m + 3], c3)
        c4 = fma(column, row[m + 4], c4)
        c5 = fma(column, row[m + 5], c5)
        c6 = fma(column, row[m + 6], c6)
        c7 = fma(column, row[m + 7], c7)
    store(out, at, c0)
    store(out, at + step, c1)
    store(out, at + 2 * step, c2)
    store(out, at + 3 * step, c3)
    store(out, at + 4 * step, c4)
    store(out, at + 5 * step, c5)
    store(out, at + 6 * step, c6)
    store(out, at + 7 * step, c7)


@inlined
def _four_rows(a, m, b, out, at, step):
    """Four rows of ``multiply``, for what is left of eights."""
    c0 = c1 = c2 = c3 = fill_pair(ZERO)
    for k in range(a.shape[0]):
        row, column = a[k], load_pair(b, PAIR * k)
        c0 = fma(column, row[m], c0)
        c1 = fma(column, row[m + 1], c1)
        c2 = fma(column, row[m + 2], c2)
        c3 = fma(column, row[m + 3], c3)
    store(out, at, c0)
    store(out, at + step, c1)
    store(out, at + 2 * step, c2)
    store(out, at + 3 * step, c3)


@compiled
def multiply(a, b, out, at, step):
    """Write ``sum_k a[k, m] b[k]`` to ``out[at + step * m]`` for every m; all float32.

    ``a``: (inner, rows), rows a multiple of 4; ``b`` flat, a pair of lanes for every inner index;
    ``out`` flat.
    """
    rows = a.shape[1]
    for m in range(0, rows - 7, 8):
        _eight_rows(a, m, b, out, at + step * m, step)
    for m in range(rows // 8 * 8, rows, 4):
        _four_rows(a, m, b, out, at + step * m, step)


@inlined
def _turns(values, coefficients, first, last, row, column):
    """Phase of terms ``first`` to ``last`` at a node [turns], lanes within half a turn of 0."""
    phase = fill(0.0)
    for term in range(first, last):
        phase = fma(load(coefficients, LANES * term), values[term, row, column], phase)
    return single(phase - floor(phase + 0.5))


@inlined
def _times(real, imaginary, factor):
    """Real and imaginary lanes times a complex number (2,)."""
    return (
        fma(imaginary, -factor[1], real * factor[0]),
        fma(imaginary, factor[0], real * factor[1]),
    )


@inlined
def _store_parts(pp, pm, mp, mm, out, at, step):
    """Write parts (ee, eo, oe, oo) of values in the quadrants (y, x), ``step`` apart."""
    even_above, odd_above = pp + pm, pp - pm
    even_below, odd_below = mp + mm, mp - mm
    store(out, at, even_above + even_below)
    store(out, at + step, odd_above + odd_below)
    store(out, at + 2 * step, even_above - even_below)
    store(out, at + 3 * step, odd_above - odd_below)


@inlined
def _dimmed(rate, z_nm, scratch):
    """Amplitude left of evanescent light at heights ``z_nm``, lanes."""
    for i in range(LANES):
        scratch[i] = exp32(max(-rate * z_nm[i], FAINTEST))
    return load(scratch, 0)


@compiled
def fill_phasors(values, first, coefficients, static, rates, z_nm, out):
    """Write parity parts of a block's phasors to ``out`` (rows, 4, columns, 2 (re, im), LANES).

    ``values``: (terms, rows, columns) [turns a nm], sorted by parity, those of parity p from
    ``first[p]`` to ``first[p + 1]``; ``coefficients`` flat, (terms, LANES) [nm]; ``static``:
    (rows, columns, 4 (quadrants), 2); ``rates``: (rows, columns) [1/nm]; ``z_nm``: (LANES,).
    """
    _, rows, columns = values.shape
    dim = np.empty(LANES, np.float32)
    flat = out.reshape(-1)
    for row in range(rows):
        for c in range(columns):
            ee = _turns(values, coefficients, first[0], first[1], row, c)
            eo = _turns(values, coefficients, first[1], first[2], row, c)
            oe = _turns(values, coefficients, first[2], first[3], row, c)
            oo = _turns(values, coefficients, first[3], first[4], row, c)
            here = static[row, c]
            same, other = ee + oo, ee - oo
            both, gap = eo + oe, eo - oe
            pp_re, pp_im = _times(*cosine_sine_of_turns(same + both), here[0])
            pm_re, pm_im = _times(*cosine_sine_of_turns(other - gap), here[1])
            mp_re, mp_im = _times(*cosine_sine_of_turns(other + gap), here[2])
            mm_re, mm_im = _times(*cosine_sine_of_turns(same - both), here[3])
            if rates[row, c] > ZERO:
                left = _dimmed(rates[row, c], z_nm, dim)
                pp_re, pp_im, pm_re, pm_im = pp_re * left, pp_im * left, pm_re * left, pm_im * left
                mp_re, mp_im, mm_re, mm_im = mp_re * left, mp_im * left, mm_re * left, mm_im * left
            at, step = PAIR * (4 * row * columns + c), PAIR * columns
            _store_parts(pp_re, pm_re, mp_re, mm_re, flat, at, step)
            _store_parts(pp_im, pm_im, mp_im, mm_im, flat, at + LANES, step)


@compiled
def _weigh(phasors, amplitude, out):
    """Write one part's phasors of a chord times amplitudes (columns, 2) to ``out``, both flat."""
    for c in range(amplitude.shape[0]):
        at = PAIR * c
        real, imaginary = _times(load(phasors, at), load(phasors, at + LANES), amplitude[c])
        store(out, at, real)
        store(out, at + LANES, imaginary)


@compiled
def _transform(phasors, amplitude, parity, waves_x, waves_y, scratch, out):
    """Write one component's standing waves to ``out`` (4, half x, half y * PAIR).

    ``phasors``: (rows, 4, columns * PAIR); ``amplitude``: (rows, columns, 2); ``parity``: (2,);
    ``waves_x``: (2, rows, columns, half x by fours); ``waves_y``: (2, rows, half y by fours);
    ``scratch``: a chord (columns * PAIR,) and waves along chords (4, half x by fours, at least
    rows * PAIR).
    """
    chord, along = scratch
    rows = amplitude.shape[0]
    flat = along.reshape(-1)
    for row in range(rows):
        for part in range(4):
            _weigh(phasors[row, part], amplitude[row], chord)
            at = part * along.shape[1] * along.shape[2] + PAIR * row
            multiply(waves_x[part % 2 ^ parity[1], row], chord, flat, at, along.shape[2])
    for part in range(4):
        odd_y, odd_x = part // 2 ^ parity[0], part % 2 ^ parity[1]
        for x in range(out.shape[1]):
            across = out[2 * odd_y + odd_x, x]
            multiply(waves_y[odd_y], along[part, x], across, 0, PAIR)


@inlined
def _with_real(f_re, f_im, g_re, g_im, total):
    """``total`` plus Re(f conj(g)), lanes."""
    return fma(f_re, g_re, fma(f_im, g_im, total))


@inlined
def _with_imaginary(f_re, f_im, g_re, g_im, total):
    """``total`` plus Im(conj(f) g), lanes."""
    return fma(f_re, g_im, total) - f_im * g_re


@compiled
def _add_light(waves, light):
    """Add the light of a component to ``light`` (2 (odd y), points, 2 (odd x), LANES), flat.

    ``waves``: (4 (ee, eo, oe, oo), points * PAIR). At (sy y, sx x) the field is ee - i sx eo -
    i sy oe - sx sy oo, and its square holds every product of two of them twice.
    """
    points = waves.shape[1] // PAIR
    ee, eo, oe, oo = waves[0], waves[1], waves[2], waves[3]
    for point in range(points):
        re, im = PAIR * point, PAIR * point + LANES
        below = PAIR * (points + point)
        a, b = load(ee, re), load(ee, im)
        c, d = load(eo, re), load(eo, im)
        e, f = load(oe, re), load(oe, im)
        g, h = load(oo, re), load(oo, im)
        even = _with_real(a, b, a, b, _with_real(c, d, c, d, load(light, re)))
        store(light, re, _with_real(e, f, e, f, _with_real(g, h, g, h, even)))
        a2, b2, c2, d2 = a + a, b + b, c + c, d + d
        odd_x = _with_imaginary(e + e, f + f, g, h, load(light, im))
        store(light, im, _with_imaginary(a2, b2, c, d, odd_x))
        odd_y = _with_imaginary(c2, d2, g, h, load(light, below))
        store(light, below, _with_imaginary(a2, b2, e, f, odd_y))
        odd_both = _with_real(c2, d2, e, f, load(light, below + LANES))
        store(light, below + LANES, odd_both - fma(a2, g, b2 * h))


@compiled
def _mix(waves, weights, out):
    """Write the weighted sum of the components' waves to ``out``, flat.

    ``waves``: (components or more, waves of a component); ``weights``: (components * PAIR,).
    """
    for at in range(0, out.size, PAIR):
        total = fill_pair(ZERO)
        for component in range(weights.size // PAIR):
            weight = load_pair(weights, PAIR * component)
            total = fma(load_pair(waves[component], at), weight, total)
        store(out, at, total)


@compiled
def _add_all_light(pupil, phasors, mixing, scratch, waves, light):
    """Add the light of all components, or of each emitter's own sums of them, to ``light``.

    ``mixing``: (sums, components * PAIR); ``waves``: scratch for the waves of one component, or of
    all of them and a sum, (1 or components + 1, 4, half x, half y * PAIR).
    """
    components, sums = pupil.amplitude.shape[0], mixing.shape[0]
    for component in range(components):
        own = waves[min(component, waves.shape[0] - 1)]
        _transform(
            phasors, pupil.amplitude[component], pupil.parity[component],
            pupil.waves_x, pupil.waves_y, scratch, own,
        )  # fmt: skip
        if sums == 0:
            _add_light(own.reshape(4, -1), light)
    for row in range(sums):
        _mix(waves.reshape(waves.shape[0], -1), mixing[row], waves[components].reshape(-1))
        _add_light(waves[components].reshape(4, -1), light)


@compiled
def _unfold_rows(filtered, out):
    """Write what lies above and below the middle to ``out`` (2 (odd x), pixels, half x, PAIR).

    ``filtered``: (2 (odd y), half x, pixels, 2 (odd x) * LANES); pairs of ``out`` hold y > 0 and
    y < 0.
    """
    _, pixels, half_x, _ = out.shape
    even, odd, flat = filtered[0].reshape(-1), filtered[1].reshape(-1), out.reshape(-1)
    for x in range(half_x):
        for y in range(pixels):
            for odd_x in range(2):
                here = PAIR * (x * filtered.shape[2] + y) + LANES * odd_x
                there = PAIR * ((odd_x * pixels + y) * half_x + x)
                a, b = load(even, here), load(odd, here)
                store(flat, there, a + b)
                store(flat, there + LANES, a - b)


@compiled
def _unfold_pixels(filtered, out):
    """Write whole images to ``out`` (y, x, LANES).

    ``filtered``: (2 (odd x), half y, half x by fours, 2 (y > 0, y < 0) * LANES).
    """
    height, width, _ = out.shape
    half_y, half_x = filtered.shape[1], (width + 1) // 2
    even, odd, flat = filtered[0].reshape(-1), filtered[1].reshape(-1), out.reshape(-1)
    for y in range(half_y):
        for side, row in ((0, height - half_y + y), (1, half_y - 1 - y)):
            for x in range(half_x):
                at = PAIR * (y * filtered.shape[2] + x) + LANES * side
                a, b = load(even, at), load(odd, at)
                store(flat, LANES * (row * width + width - half_x + x), a + b)
                store(flat, LANES * (row * width + half_x - 1 - x), a - b)


@compiled
def _pixels(light, folds_y, folds_x, scratch, image):
    """Write pixel integrals to ``image`` (y, x, LANES).

    ``light``: (2 (odd y), half x, half y by fours, PAIR); ``folds_y``: (2, half y, pixels by
    fours), ``folds_x`` alike; ``scratch``: three arrays, shapes see ``_images``.
    """
    along_y, sides, along_x = scratch
    for odd_y in range(2):
        for x in range(light.shape[1]):
            lines = along_y[odd_y, x].reshape(-1)
            multiply(folds_y[odd_y], light[odd_y, x].reshape(-1), lines, 0, PAIR)
    _unfold_rows(along_y, sides)
    for odd_x in range(2):
        for y in range(sides.shape[1]):
            lines = along_x[odd_x, y].reshape(-1)
            multiply(folds_x[odd_x], sides[odd_x, y].reshape(-1), lines, 0, PAIR)
    _unfold_pixels(along_x, image)


@compiled
def _unmix(image, scale, least, out):
    """Write the images of a block's emitters, scaled and not below ``least``, to ``out``."""
    _, height, width = out.shape
    for y in range(height):
        for emitter in range(out.shape[0]):
            line, factor = out[emitter, y], scale[emitter]
            for x in range(width):
                line[x] = max(image[y, x, emitter] * factor, least)


@compiled
def _images(pupil, coefficients, z_nm, mixing, scale, least, first, last, out):
    """Write images of the blocks from ``first`` to before ``last``, see ``images``."""
    components, rows, columns, _ = pupil.amplitude.shape
    half_x, half_y = pupil.folds_x.shape[1], pupil.waves_y.shape[2]
    _, height, width = out.shape
    phasors = np.empty((rows, 4, columns * PAIR), np.float32)
    chord = np.empty(columns * PAIR, np.float32)
    # chords a power of two apart would fall on the same few lines of the first cache
    along = np.empty((4, pupil.waves_x.shape[3], (rows + 1) * PAIR), np.float32)
    kept = components + 1 if mixing.shape[1] else 1
    waves = np.empty((kept, 4, half_x, half_y * PAIR), np.float32)
    light = np.empty((2, half_x, half_y, PAIR), np.float32)
    along_y = np.empty((2, half_x, pupil.folds_y.shape[2], PAIR), np.float32)
    sides = np.empty((2, (height + 1) // 2, half_x, PAIR), np.float32)
    along_x = np.empty((2, (height + 1) // 2, pupil.folds_x.shape[2], PAIR), np.float32)
    image = np.empty((height, width, LANES), np.float32)
    for block in range(first, last):
        fill_phasors(
            pupil.values, pupil.first, coefficients[block], pupil.static, pupil.rates,
            z_nm[block], phasors,
        )  # fmt: skip
        light[:] = ZERO
        _add_all_light(pupil, phasors, mixing[block], (chord, along), waves, light.reshape(-1))
        _pixels(light, pupil.folds_y, pupil.folds_x, (along_y, sides, along_x), image)
        _unmix(image, scale[block], least, out[LANES * block : LANES * (block + 1)])


@threaded
def image_chunks(pupil, coefficients, z_nm, mixing, scale, least, chunks, out):
    """Write images in chunks of blocks side by side, see :func:`images`."""
    blocks = coefficients.shape[0]
    for chunk in prange(chunks):
        first, last = blocks * chunk // chunks, blocks * (chunk + 1) // chunks
        _images(pupil, coefficients, z_nm, mixing, scale, least, first, last, out)


def images(pupil, coefficients, z_nm, mixing, scale, least, chunks, out):
    """Write images to ``out`` (emitters, y, x), float32, in ``chunks`` of blocks side by side.

    ``pupil``: a ``SharedPupil``; ``coefficients``: (blocks, terms * LANES) float64 [nm];
    ``z_nm``, ``scale``: (blocks, LANES) float32, heights and what turns sums into probability;
    ``mixing``: (blocks, sums, components * PAIR) float32, weights of the components in sums whose
    light adds up, each twice, for real and imaginary parts; no sums where every component shines by
    itself. ``least``: smallest value of a pixel. One thread is the calling one: no other needs to
    be free.
    """
    work = (pupil, coefficients, z_nm, mixing, scale, least)
    if get_num_threads() == 1:
        _images(*work, 0, coefficients.shape[0], out)
    else:
        image_chunks(*work, chunks, out)
