"""Photons to counts, fused: shot noise, electron multiplication, read noise, conversion.

The order of operations and its formula stand in ``simscope/camera/detector.py``; this file is how
they are computed fast. A frame is cut into tiles of 1024 pixels that stay in the first-level cache
while each step runs over them; every step is a plain loop that vectorises. Pixel values depend on
the pixel's own input and counter only, so neither tiles nor threads nor batches show. The scalar
bodies are those of the GPU's threads too (``cuda/detect.py``).

Random words, by counter ``(element, frame in sample, sample, draw)``:

* CCD and sCMOS: one Philox block, element = pixel // 2, draw 0, serves two pixels: words 0 and 2
  are their shot noise, words 1 and 3 the pair of normals that is their read noise;
* EMCCD: one block a pixel, element = pixel, draw 0: shot noise, the pair of normals for read noise
  and register, the register's uniform; draws 1, 2, ... of that pixel hold two more proposals each
  (a pair of normals, two uniforms) for when the register's gamma proposal is rejected;
* draw 2^31: the lower bits of an uncertain Poisson variate, element = pixel.

The register is Gamma(n, gain) by Marsaglia and Tsang, ACM TOMS 26, 363 (2000).
"""

import math

import numpy as np
from numba import get_num_threads, prange

from simscope.kernels.compiled import compiled, inlined, pasted, threaded
from simscope.kernels.normal_pair import normal_pair32
from simscope.kernels.numeric import (
    HALF_32,
    LOG_32,
    ONE_32,
    ZERO_32,
    f32,
    floats32,
    floor,
    fma,
    log32,
    polynomial,
    select,
)
from simscope.kernels.packing import places_below
from simscope.kernels.philox import philox4x32
from simscope.kernels.poisson import (
    LARGEST_MEAN,
    ROW,
    TILE,
    filled_up,
    poisson_count,
    poisson_tile,
    repeat_last,
)
from simscope.kernels.wide import wide_vectors

STRIPE = 16384  # pixels one thread takes at a time
SHOT_DRAW = np.uint32(0)
RETRY_DRAW = np.uint32(1)
SATURATED, CUT, IMPOSSIBLE = 0, 1, 2  # columns of the pixels counted
COUNTED = 3
LARGEST_MEAN_32 = f32(LARGEST_MEAN)

# ---- one pixel ----------------------------------------------------------------------------------


@inlined
def mean_electrons(photons, qe, dark_e):
    """Mean electrons ``qe * photons + dark_e`` and whether they are possible (else 0, False)."""
    mean = fma(qe, photons, dark_e)
    possible = (photons >= ZERO_32) & (mean <= LARGEST_MEAN_32)  # both false for NaN
    return select(possible, mean, ZERO_32), possible


@inlined
def digital_value(
    charge, normal, gain, offset_adu, read_noise, read_e, e_per_adu, baseline_adu, well_e, top
):
    """Count of a pixel, uint16, and whether it was cut at the top (or the well), and at zero."""
    read = fma(read_noise * read_e, normal, min(charge, well_e))
    level = (baseline_adu + HALF_32) + offset_adu
    value = floor(fma(gain * (ONE_32 / e_per_adu), read, level))
    code = np.uint16(np.int32(min(max(value, ZERO_32), top)))
    return code, (value > top) | (charge > well_e), value < ZERO_32


# ---- electron-multiplying register --------------------------------------------------------------

THIRD = f32(1.0 / 3.0)
THREE = f32(3.0)
SERIES_FROM, SERIES_TO = floats32(-0.25, 0.4)
SERIES = LOG_32[:-1]
TINY = f32(1e-6)
UNIT_24, HALF_UNIT_24 = floats32(2.0**-24, 2.0**-25)
SHIFT_8 = np.uint32(8)
ONE_WORD = np.uint32(1)
UNSURE = f32(-1.0)  # instead of a variate
BOUND = f32(0.751)  # 3/4 and room for rounding


@inlined
def log_remainder(y):
    """``log(1 + y) - y + y^2/2 - y^3/3`` of a float32 above -1, without cancellation near 0."""
    y2 = y * y
    series = polynomial(y, SERIES) * y2 * y2
    direct = log32(ONE_32 + y) + fma(y2, fma(-THIRD, y, HALF_32), -y)
    return select((y > SERIES_FROM) & (y < SERIES_TO), series, direct)


@inlined
def gamma_proposal(shape, normal):
    """Proposed Gamma(shape >= 1) variate, with d and y, by which it stands or not.

    With d = shape - 1/3 and y = x / sqrt(9 d), x normal, the proposal is d (1 + y)^3.
    """
    d = shape - THIRD
    y = THIRD * normal / f32(math.sqrt(d))
    root = ONE_32 + y
    return d * root * root * root, d, y


@inlined
def unit_uniform(word):
    """Uniform float32 in (0, 1) from the upper 24 bits."""
    return fma(f32(np.int32(word >> SHIFT_8)), UNIT_24, HALF_UNIT_24)


@inlined
def surely_stands(d, y, u):
    """Whether a bound shows that the proposal stands, without a logarithm.

    ``log(1 + y) - y + y^2/2 - y^3/3 = -y^4/4 + y^5/5 - ...`` is at least ``-y^4/4`` for y > 0 and
    ``-y^4/4 / (1 - |y|)`` for -1 < y < 0, and ``log(u) < -(1 - u)``.
    """
    y2 = y * y
    return (ONE_32 - u) * (ONE_32 + min(y, ZERO_32)) > BOUND * d * (y2 * y2)


@inlined
def stands(d, y, u):
    """Whether the proposal stands: ``log(u) < x^2/2 + d - d (1 + y)^3 + 3 d log(1 + y)``.

    The right-hand side is ``3 d (log(1 + y) - y + y^2/2 - y^3/3)``.
    """
    positive = ONE_32 + y > TINY
    return positive & (log32(u) < THREE * d * log_remainder(select(positive, y, ZERO_32)))


@inlined
def gamma_retry(shape, element, step, sample, draw, k0, k1):
    """The first that stands of the two proposals of a retry draw, and whether one does."""
    a, b, c, e = philox4x32(element, step, sample, draw, k0, k1)
    x0, x1 = normal_pair32(a, b)
    value0, d, y = gamma_proposal(shape, x0)
    stands0 = stands(d, y, unit_uniform(c))
    value1, d, y = gamma_proposal(shape, x1)
    stands1 = stands(d, y, unit_uniform(e))
    return select(stands0, value0, value1), stands0 | stands1


@compiled
def multiplied(electrons, normal, uniform_word, element, step, sample, k0, k1):
    """Gamma(electrons, 1) variate of one pixel, 0 for none: that of :func:`multiply_tile`."""
    if electrons == ZERO_32:
        return ZERO_32
    value, d, y = gamma_proposal(electrons, normal)
    u = unit_uniform(uniform_word)
    done = surely_stands(d, y, u) or stands(d, y, u)
    draw = RETRY_DRAW
    while not done:
        value, done = gamma_retry(electrons, element, step, sample, draw, k0, k1)
        draw = np.uint32(draw + ONE_WORD)
    return value


@compiled
def propose_tile(electrons, normals, uniform_words, values):
    """Proposals of a tile, 0 for dark pixels; negative where not yet sure to stand."""
    wide_vectors()
    for i in range(electrons.size):
        value, d, y = gamma_proposal(max(electrons[i], ONE_32), normals[i])
        sure = surely_stands(d, y, unit_uniform(uniform_words[i]))
        value = select(sure, value, UNSURE)
        values[i] = select(electrons[i] > ZERO_32, value, ZERO_32)


@compiled
def settle(shapes, normals, uniform_words, values):
    """The proposals again, negative where they do not stand."""
    wide_vectors()
    for j in range(shapes.size):
        value, d, y = gamma_proposal(shapes[j], normals[j])
        values[j] = select(stands(d, y, unit_uniform(uniform_words[j])), value, UNSURE)


@compiled
def retry(shapes, elements, step, sample, draw, k0, k1, values):
    """Values of one retry draw, negative where none stands."""
    wide_vectors()
    for j in range(shapes.size):
        value, done = gamma_retry(shapes[j], elements[j], step, sample, draw, k0, k1)
        values[j] = select(done, value, UNSURE)


@compiled
def put_back(places, picked, values, size):
    """Write the first ``size`` picked values to their places; keep places of negative ones.

    Returns how many are kept.
    """
    kept = 0
    for j in range(size):
        values[places[j]] = picked[j]
        places[kept] = places[j]
        kept += np.int64(picked[j] < ZERO_32)
    return kept


@compiled
def multiply_tile(electrons, normals, uniform_words, values, scratch, first, step, sample, k0, k1):
    """Write a Gamma(n, 1) variate of each electron number n into ``values``, 0 staying 0.

    A multiple of GROUP pixels; ``scratch`` uint32 (5 or more, ROW). Pixels whose proposal is not
    sure to stand are picked out side by side and looked at again, fewer with every draw.
    """
    propose_tile(electrons, normals, uniform_words, values)
    places = scratch[0].view(np.int32)
    size = places_below(values[: electrons.size], ZERO_32, places)
    if size == 0:
        return
    shapes, numbers = scratch[1].view(np.float32), scratch[2].view(np.float32)
    picked, uniforms = scratch[3].view(np.float32), scratch[4]
    elements = uniforms
    repeat_last(places, size)
    whole = filled_up(size)
    for j in range(whole):
        shapes[j] = electrons[places[j]]
        numbers[j] = normals[places[j]]
        uniforms[j] = uniform_words[places[j]]
    settle(shapes[:whole], numbers[:whole], uniforms[:whole], picked)
    size = put_back(places, picked, values, size)
    draw = RETRY_DRAW
    while size > 0:
        repeat_last(places, size)
        whole = filled_up(size)
        for j in range(whole):
            shapes[j] = electrons[places[j]]
            elements[j] = np.uint32(first + places[j])
        retry(shapes[:whole], elements, step, sample, draw, k0, k1, picked)
        size = put_back(places, picked, values, size)
        draw = np.uint32(draw + ONE_WORD)


@compiled
def count_pixel(photons, words, normals, multiplies, counter, chip, parameters, top):
    """Count of one pixel by itself, uint16, that of :func:`detect_parallel`, and its three flags.

    ``words``: for shot noise and register; ``normals``: for read noise and register; ``counter``:
    (element, step, sample, k0, k1); ``chip``: the pixel's gain, offset and read noise;
    ``parameters``: the frame's. Flags: saturated, cut at zero, impossible.
    """
    qe, dark_e, em_gain, read_e, e_per_adu, baseline_adu, well_e = parameters
    element, step, sample, k0, k1 = counter
    mean, possible = mean_electrons(photons, qe, dark_e)
    charge = poisson_count(words[0], mean, element, step, sample, SHOT_DRAW, k0, k1)
    if multiplies:
        charge = multiplied(charge, normals[1], words[1], element, step, sample, k0, k1)
    code, above, below = digital_value(
        charge * em_gain, normals[0], chip[0], chip[1], chip[2],
        read_e, e_per_adu, baseline_adu, well_e, top,
    )  # fmt: skip
    return code, above, below, not possible


# ---- steps over a tile --------------------------------------------------------------------------


@compiled
def words_for_two(shot, normals, first, step, sample, k0, k1):
    """Words for shot noise, normals for read noise; the tile starts at an even pixel."""
    wide_vectors()
    block = first // 2
    for j in range(shot.size // 2):
        a, b, c, d = philox4x32(np.uint32(block + j), step, sample, SHOT_DRAW, k0, k1)
        shot[2 * j] = a
        shot[2 * j + 1] = c
        normals[2 * j], normals[2 * j + 1] = normal_pair32(b, d)


@compiled
def words_for_one(shot, distance, direction, uniform, first, step, sample, k0, k1):
    """Words for shot noise, for the normals of read noise and register, for its uniform."""
    wide_vectors()
    for i in range(shot.size):
        a, b, c, d = philox4x32(np.uint32(first + i), step, sample, SHOT_DRAW, k0, k1)
        shot[i], distance[i], direction[i], uniform[i] = a, b, c, d


@compiled
def normals_for_one(distance, direction, normals, register):
    """Normals for read noise and register: apart from Philox, whose lanes are twice as wide."""
    wide_vectors()
    for i in range(distance.size):
        normals[i], register[i] = normal_pair32(distance[i], direction[i])


@compiled
def expected_electrons(photons, qe, dark_e, means):
    """Mean electrons of a tile; how many are impossible and were set to 0."""
    wide_vectors()
    impossible = np.int32(0)
    for i in range(photons.size):
        means[i], possible = mean_electrons(photons[i], qe, dark_e)
        impossible = np.int32(impossible + np.int32(not possible))
    return impossible


@compiled
def digitise(electrons, normals, gain, offset_adu, read_noise, em_gain, camera, top, adu):
    """Write the counts of a tile; how many pixels were cut at the top, and at zero.

    ``camera``: read_noise_e, e_per_adu, baseline_adu, full_well_e.
    """
    wide_vectors()
    read_e, e_per_adu, baseline_adu, well_e = camera
    saturated = np.int32(0)
    cut = np.int32(0)
    for i in range(adu.size):
        adu[i], above, below = digital_value(
            electrons[i] * em_gain, normals[i], gain[i], offset_adu[i], read_noise[i],
            read_e, e_per_adu, baseline_adu, well_e, top,
        )  # fmt: skip
        saturated = np.int32(saturated + np.int32(above))
        cut = np.int32(cut + np.int32(below))
    return saturated, cut


# ---- a stripe of a frame ------------------------------------------------------------------------


@pasted
def detect_stripe(photons, maps, multiplies, parameters, top, start, step, sample, k0, k1, adu):
    """Counts of pixels ``start ...`` of one frame; numbers saturated, cut at zero, impossible.

    ``parameters`` are one frame's (qe, dark_e, em_gain, read_noise_e, e_per_adu, baseline_adu,
    full_well_e), float32; ``maps`` (3, pixels of the frame).
    """
    qe, dark_e, em_gain = parameters[:3]
    floats = np.empty((5, ROW), np.float32)
    words = np.empty((8, ROW), np.uint32)
    means, counts, values, normals, register = floats[0], floats[1], floats[2], floats[3], floats[4]
    shot, uniform, scratch = words[0], words[1], words[2:]
    saturated, cut, impossible = 0, 0, 0
    for begin in range(0, photons.size, TILE):
        end = min(begin + TILE, photons.size)
        n = end - begin
        whole = filled_up(n)
        means[n:whole] = ZERO_32
        first, last = start + begin, start + end
        if multiplies:
            distance, direction = scratch[0, :whole], scratch[1, :whole]
            words_for_one(shot[:whole], distance, direction, uniform, first, step, sample, k0, k1)
            normals_for_one(distance, direction, normals, register)
        else:
            words_for_two(shot[:whole], normals, first, step, sample, k0, k1)
        impossible += expected_electrons(photons[begin:end], qe, dark_e, means)
        poisson_tile(means[:whole], shot, counts, scratch, first, step, sample, SHOT_DRAW, k0, k1)
        charges = counts
        if multiplies:
            multiply_tile(
                counts[:whole], register, uniform, values, scratch,
                first, step, sample, k0, k1,
            )  # fmt: skip
            charges = values
        above, below = digitise(
            charges, normals, maps[0, first:last], maps[1, first:last], maps[2, first:last],
            em_gain, parameters[3:], top, adu[begin:end],
        )  # fmt: skip
        saturated += above
        cut += below
    return saturated, cut, impossible


@pasted
def detect_unit(
    unit, stripes, photons, maps, multiplies, parameters, top, step, sample, k0, k1, adu, counted
):
    """One stripe of one frame: unit = frame * stripes + stripe."""
    frame, stripe = unit // stripes, unit % stripes
    start = stripe * STRIPE
    end = min(start + STRIPE, photons.shape[1])
    row = parameters[frame]
    values = (row[0], row[1], row[2], row[3], row[4], row[5], row[6])
    saturated, cut, impossible = detect_stripe(
        photons[frame, start:end], maps, multiplies, values, top, start,
        step[frame], sample[frame], k0, k1, adu[frame, start:end],
    )  # fmt: skip
    counted[frame, stripe, SATURATED] = saturated
    counted[frame, stripe, CUT] = cut
    counted[frame, stripe, IMPOSSIBLE] = impossible


@compiled
def detect_units(
    first, last, photons, maps, multiplies, parameters, top, step, sample, k0, k1, adu, counted
):
    """Counts of units first to last - 1; other arguments as of :func:`detect_parallel`."""
    stripes = counted.shape[1]
    for unit in range(first, last):
        detect_unit(
            unit, stripes, photons, maps, multiplies, parameters, top, step, sample, k0, k1,
            adu, counted,
        )  # fmt: skip


def detect_serial(photons, maps, multiplies, parameters, top, step, sample, k0, k1, adu, counted):
    """Counts of all frames on the calling thread; see :func:`detect_parallel`."""
    detect_units(
        0, counted.shape[0] * counted.shape[1], photons, maps, multiplies, parameters, top,
        step, sample, k0, k1, adu, counted,
    )  # fmt: skip


@threaded
def detect_parallel(photons, maps, multiplies, parameters, top, step, sample, k0, k1, adu, counted):
    """Write the counts of all frames into ``adu``, on Numba's threads.

    ``photons`` float32 (frame, pixel); ``maps`` float32 (3, pixel): relative gain, offset [ADU],
    relative read noise; ``multiplies``: whether an EM register follows; ``parameters`` float32
    (frame, 7): qe, dark_e (dark current and clock-induced charge), em_gain, read_noise_e,
    e_per_adu, baseline_adu, full_well_e; ``top`` highest code; ``step`` frame in the sample and
    ``sample``, uint32 (frame,); ``adu`` uint16 (frame, pixel); ``counted`` int64
    (frame, stripe, 3): pixels cut at the top (well or converter), at zero, and pixels of impossible
    light (negative, not a number, or more than 1e7 electrons), which were taken as dark.
    """
    for unit in prange(counted.shape[0] * counted.shape[1]):
        first = np.int64(unit)
        detect_units(
            first, first + 1, photons, maps, multiplies, parameters, top, step, sample, k0, k1,
            adu, counted,
        )  # fmt: skip


def detect(xp, photons, maps, multiplies, parameters, top, step, sample, k0, k1, adu):
    """Write the counts of all frames as :func:`detect_parallel`, on one thread if that is faster.

    Returns how many pixels of each frame were saturated, cut at zero, impossible: (frame, 3).
    """
    frames, pixels = photons.shape
    counted = xp.empty((frames, -(-pixels // STRIPE), COUNTED), xp.int64)
    threaded = counted.shape[0] * counted.shape[1] > 1 and get_num_threads() > 1
    run = detect_parallel if threaded else detect_serial
    run(photons, maps, multiplies, parameters, top, step, sample, k0, k1, adu, counted)
    return counted.sum(axis=1)
