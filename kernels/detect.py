"""Photons to counts, fused: shot noise, electron multiplication, read noise, conversion.

The order of operations and its formula stand in ``simscope/camera/detector.py``; this file is how
they are computed fast. A frame is cut into tiles of 512 pixels that stay in the first-level cache
while each step runs over them; every step is a plain loop that vectorises. Pixel values depend on
the pixel's own input and counter only, so neither tiles nor threads nor batches show.

Random words, by counter ``(element, frame in sample, sample, draw)``:

* CCD and sCMOS: one Philox block, element = pixel // 2, draw 0, serves two pixels (shot, read);
* EMCCD: one block a pixel, element = pixel, draw 0 (shot, read, register normal and uniform),
  and draws 1, 2, ... of that pixel when the register's gamma proposal is rejected;
* draw 2^31: the lower bits of an uncertain Poisson variate, element = pixel.

The register is Gamma(n, gain) by Marsaglia and Tsang, ACM TOMS 26, 363 (2000).
"""

import math

import numpy as np
from numba import prange

from simscope.kernels.compiled import compiled, inlined, threaded
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
    normal32,
    polynomial,
    select,
)
from simscope.kernels.philox import philox4x32
from simscope.kernels.poisson import TILE, poisson_tile

STRIPE = 16384  # pixels one thread takes at a time
SHOT_DRAW = np.uint32(0)
RETRY_DRAW = np.uint32(1)

# ---- electron-multiplying register --------------------------------------------------------------

THIRD = f32(1.0 / 3.0)
THREE = f32(3.0)
SERIES_FROM, SERIES_TO = floats32(-0.25, 0.4)
SERIES = LOG_32[:-1]
TINY = f32(1e-6)
UNIT_24, HALF_UNIT_24 = floats32(2.0**-24, 2.0**-25)
SHIFT_8 = np.uint32(8)
ONE_WORD = np.uint32(1)


@inlined
def log_remainder(y):
    """``log(1 + y) - y + y^2/2 - y^3/3`` of a float32 above -1, without cancellation near 0."""
    y2 = y * y
    series = polynomial(y, SERIES) * y2 * y2
    direct = log32(ONE_32 + y) + fma(y2, fma(-THIRD, y, HALF_32), -y)
    return select((y > SERIES_FROM) & (y < SERIES_TO), series, direct)


@inlined
def gamma_proposal(shape, normal_word, uniform_word):
    """Proposed Gamma(shape >= 1) variate and whether it must be drawn again (1) or stands (0).

    With d = shape - 1/3 and y = x / sqrt(9 d), x normal, the proposal is d (1 + y)^3; it stands
    if log(u) < x^2/2 + d - d (1 + y)^3 + 3 d log(1 + y) = 3 d (log(1 + y) - y + y^2/2 - y^3/3).
    """
    d = shape - THIRD
    y = THIRD * normal32(normal_word) / f32(math.sqrt(d))
    root = ONE_32 + y
    positive = root > TINY
    u = fma(f32(np.int32(uniform_word >> SHIFT_8)), UNIT_24, HALF_UNIT_24)
    stands = positive & (log32(u) < THREE * d * log_remainder(select(positive, y, ZERO_32)))
    return d * root * root * root, np.int32(not stands)


@compiled
def gamma_again(shape, element, step, sample, k0, k1):
    """First Gamma(shape) variate that stands among the retry draws of one pixel."""
    draw = RETRY_DRAW
    while True:
        a, b, c, d = philox4x32(element, step, sample, draw, k0, k1)
        value, rejected = gamma_proposal(shape, a, b)
        if rejected:
            value, rejected = gamma_proposal(shape, c, d)
        if not rejected:
            return value
        draw = np.uint32(draw + ONE_WORD)


@compiled
def multiply_tile(electrons, normal_words, uniform_words, rejected, first, step, sample, k0, k1):
    """Replace each electron number n by a Gamma(n, 1) variate, 0 staying 0."""
    rejections = np.int32(0)
    for i in range(electrons.size):
        shape = max(electrons[i], ONE_32)
        value, again = gamma_proposal(shape, normal_words[i], uniform_words[i])
        lit = electrons[i] > ZERO_32
        rejected[i] = select(lit, again, np.int32(0))
        # a rejected pixel keeps its electron number, the shape of the next proposal
        electrons[i] = select(lit & (rejected[i] == 0), value, electrons[i])
        rejections += rejected[i]
    if rejections > 0:
        for i in range(electrons.size):
            if rejected[i] != 0:
                element = np.uint32(first + i)
                electrons[i] = gamma_again(electrons[i], element, step, sample, k0, k1)


# ---- steps over a tile --------------------------------------------------------------------------


@compiled
def words_for_two(shot, read, first, step, sample, k0, k1):
    """Random words of a tile that starts at an even pixel, two pixels a block."""
    block = first // 2
    for j in range(shot.size // 2):
        a, b, c, d = philox4x32(np.uint32(block + j), step, sample, SHOT_DRAW, k0, k1)
        shot[2 * j] = a
        read[2 * j] = b
        shot[2 * j + 1] = c
        read[2 * j + 1] = d


@compiled
def words_for_one(shot, read, normal, uniform, first, step, sample, k0, k1):
    """Random words of a tile, one block a pixel."""
    for i in range(shot.size):
        a, b, c, d = philox4x32(np.uint32(first + i), step, sample, SHOT_DRAW, k0, k1)
        shot[i] = a
        read[i] = b
        normal[i] = c
        uniform[i] = d


@compiled
def expected_electrons(photons, qe, dark_e, means):
    """Mean electrons of a tile: ``qe * photons + dark_e``."""
    for i in range(photons.size):
        means[i] = fma(qe, photons[i], dark_e)


@compiled
def digitise(
    electrons,
    em_gain,
    words,
    gain,
    offset_adu,
    read_noise,
    read_e,
    well_e,
    adu_per_e,
    base,
    top,
    adu,
):
    """Write the counts of a tile; how many pixels were cut at the top, and at zero."""
    saturated = np.int32(0)
    cut = np.int32(0)
    level = base + HALF_32
    for i in range(adu.size):
        charge = electrons[i] * em_gain
        held = min(charge, well_e)
        read = fma(read_noise[i] * read_e, normal32(words[i]), held)
        value = floor(fma(gain[i] * adu_per_e, read, level + offset_adu[i]))
        saturated += np.int32((value > top) | (charge > well_e))
        cut += np.int32(value < ZERO_32)
        adu[i] = np.uint16(np.int32(min(max(value, ZERO_32), top)))
    return saturated, cut


# ---- a stripe of a frame ------------------------------------------------------------------------


@compiled
def detect_stripe(
    photons,
    gain,
    offset_adu,
    read_noise,
    multiplies,
    parameters,
    top,
    start,
    step,
    sample,
    k0,
    k1,
    adu,
):
    """Counts of pixels ``start ...`` of one frame; numbers saturated and cut at zero.

    ``parameters`` are one frame's (qe, dark_e, em_gain, read_noise_e, e_per_adu, baseline_adu,
    full_well_e), float32.
    """
    qe, dark_e, em_gain, read_e, e_per_adu, base, well_e = parameters
    adu_per_e = ONE_32 / e_per_adu
    shot = np.empty(TILE, np.uint32)
    read = np.empty(TILE, np.uint32)
    normal = np.empty(TILE, np.uint32)
    uniform = np.empty(TILE, np.uint32)
    means = np.empty(TILE, np.float32)
    electrons = np.empty(TILE, np.float32)
    flags = np.empty(TILE, np.int32)
    saturated, cut = 0, 0
    for begin in range(0, photons.size, TILE):
        end = min(begin + TILE, photons.size)
        n = end - begin
        first = start + begin
        if multiplies:
            words_for_one(shot, read, normal, uniform, first, step, sample, k0, k1)
        else:
            words_for_two(shot, read, first, step, sample, k0, k1)
        expected_electrons(photons[begin:end], qe, dark_e, means[:n])
        poisson_tile(
            means[:n], shot[:n], electrons[:n], flags[:n], first, step, sample, SHOT_DRAW, k0, k1
        )
        if multiplies:
            multiply_tile(
                electrons[:n], normal[:n], uniform[:n], flags[:n], first, step, sample, k0, k1
            )
        above, below = digitise(
            electrons[:n],
            em_gain,
            read[:n],
            gain[begin:end],
            offset_adu[begin:end],
            read_noise[begin:end],
            read_e,
            well_e,
            adu_per_e,
            base,
            top,
            adu[begin:end],
        )
        saturated += above
        cut += below
    return saturated, cut


@compiled
def detect_unit(
    unit, stripes, photons, maps, multiplies, parameters, top, step, sample, k0, k1, adu, clipped
):
    """One stripe of one frame: unit = frame * stripes + stripe."""
    frame, stripe = unit // stripes, unit % stripes
    start = stripe * STRIPE
    end = min(start + STRIPE, photons.shape[1])
    row = parameters[frame]
    values = (row[0], row[1], row[2], row[3], row[4], row[5], row[6])
    saturated, cut = detect_stripe(
        photons[frame, start:end],
        maps[0, start:end],
        maps[1, start:end],
        maps[2, start:end],
        multiplies,
        values,
        top,
        start,
        step[frame],
        sample[frame],
        k0,
        k1,
        adu[frame, start:end],
    )
    clipped[frame, stripe, 0] = saturated
    clipped[frame, stripe, 1] = cut


@compiled
def detect_serial(photons, maps, multiplies, parameters, top, step, sample, k0, k1, adu, clipped):
    """Counts of all frames on the calling thread; see :func:`detect_parallel`."""
    stripes = clipped.shape[1]
    for unit in range(clipped.shape[0] * stripes):
        detect_unit(
            unit,
            stripes,
            photons,
            maps,
            multiplies,
            parameters,
            top,
            step,
            sample,
            k0,
            k1,
            adu,
            clipped,
        )


@threaded
def detect_parallel(photons, maps, multiplies, parameters, top, step, sample, k0, k1, adu, clipped):
    """Write the counts of all frames into ``adu``, on Numba's threads.

    ``photons`` float32 (frame, pixel); ``maps`` float32 (3, pixel): relative gain, offset [ADU],
    relative read noise; ``multiplies``: whether an EM register follows; ``parameters`` float32
    (frame, 7): qe, dark_e (dark current and clock-induced charge), em_gain, read_noise_e,
    e_per_adu, baseline_adu, full_well_e; ``top`` highest code; ``step`` frame in the sample and
    ``sample``, uint32 (frame,); ``adu`` uint16 (frame, pixel); ``clipped`` int64
    (frame, stripe, 2): pixels cut at the top (well or converter) and at zero.
    """
    stripes = clipped.shape[1]
    for unit in prange(clipped.shape[0] * stripes):
        detect_unit(
            unit,
            stripes,
            photons,
            maps,
            multiplies,
            parameters,
            top,
            step,
            sample,
            k0,
            k1,
            adu,
            clipped,
        )
