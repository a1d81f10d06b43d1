"""One pixel of a camera at a time, in double precision, written from the papers."""

import math

from reference import philox4x32_10, poisson_quantile, unit_interval


def box_muller(distance_word, direction_word):
    """Two normals of Box & Muller 1958 from the 31 upper bits of one word, 32 of the other.

    The direction's bits: 31 turns it half around, 30 reflects it on the diagonal, the others are
    its place from -1/8 to 1/8 of a turn.
    """
    distance = math.sqrt(-2.0 * math.log((distance_word // 2 + 0.5) / 2**31))
    place = direction_word % 2**30
    place -= 2**30 if place >= 2**29 else 0
    angle = 2.0 * math.pi * (4 * place + 0.5) / 2**34
    x, y = math.cos(angle), math.sin(angle)
    if direction_word & 2**30:
        x, y = y, x
    if direction_word & 2**31:
        x, y = -x, -y
    return distance * x, distance * y


def marsaglia_tsang(shape, x, u):
    """Proposal and verdict of Marsaglia & Tsang 2000, figure 1, for one normal and one uniform."""
    d = shape - 1 / 3
    v = (1 + x / math.sqrt(9 * d)) ** 3
    stands = v > 0 and math.log(u) < 0.5 * x * x + d - d * v + d * math.log(v)
    return d * v, stands


def detect_pixel(photons, pixel, frame, sample, key, camera):
    """Exact count of one pixel before rounding [ADU], by the formula in camera/detector.py.

    ``camera`` holds kind, qe, dark_e, em_gain, read_noise_e, e_per_adu, baseline_adu, full_well_e,
    gain, offset_adu, read_noise.
    """
    multiplies = camera["kind"] == "emccd"
    words = philox4x32_10((pixel if multiplies else pixel // 2, frame, sample, 0), key)
    if multiplies:
        shot, (normal, register) = words[0], box_muller(words[1], words[2])
    else:
        shot, normal = words[2 * (pixel % 2)], box_muller(words[1], words[3])[pixel % 2]
    lower = philox4x32_10((pixel, frame, sample, 2**31), key)[0]
    mean = camera["qe"] * photons + camera["dark_e"]
    electrons = poisson_quantile(unit_interval(shot, lower), mean)
    if multiplies and electrons > 0:
        first = (register, words[3])
        electrons = amplified(electrons, first, pixel, frame, sample, key) * camera["em_gain"]
    held = min(electrons, camera["full_well_e"])
    value = held + camera["read_noise_e"] * camera["read_noise"] * normal
    level = camera["baseline_adu"] + camera["offset_adu"] + 0.5
    return camera["gain"] * value / camera["e_per_adu"] + level


def amplified(electrons, first, pixel, frame, sample, key):
    """Gamma variate of some electrons: the first that stands of ``first`` (x, word) and more."""
    proposals, draw = [first], 0
    while True:
        x, word = proposals.pop(0)
        value, stands = marsaglia_tsang(electrons, x, (word // 2**8 + 0.5) / 2**24)
        if stands:
            return value
        if not proposals:
            draw += 1
            words = philox4x32_10((pixel, frame, sample, draw), key)
            proposals += zip(box_muller(words[0], words[1]), words[2:], strict=True)
