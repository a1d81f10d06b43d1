"""Slow, obvious twins of the noise kernels, written from the papers and not from the kernels."""

import math

import numpy as np
from scipy import stats


def philox4x32_10(counter, key):
    """Random123's Philox4x32-10 in Python integers (Salmon et al. 2011, section 3.3)."""
    word = 2**32
    left0, right0, left1, right1 = counter
    key0, key1 = key
    for _ in range(10):
        product0, product1 = 0xD2511F53 * left0, 0xCD9E8D57 * left1
        left0, right0, left1, right1 = (
            (product1 // word) ^ right0 ^ key0,
            product1 % word,
            (product0 // word) ^ right1 ^ key1,
            product0 % word,
        )
        key0, key1 = (key0 + 0x9E3779B9) % word, (key1 + 0xBB67AE85) % word
    return left0, right0, left1, right1


def unit_interval(high, low):
    """52 bits and a half: (top 52 of the 64 bits + 1/2) / 2^52."""
    return ((high * 2**32 + low) // 2**12 + 0.5) / 2**52


def poisson_quantile(u, mean):
    """Smallest n whose cumulative Poisson probability reaches u, by scipy."""
    return stats.poisson.ppf(u, mean)


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
    if multiplies:
        words = philox4x32_10((pixel, frame, sample, 0), key)
        shot, read = words[:2]
    else:
        words = philox4x32_10((pixel // 2, frame, sample, 0), key)
        shot, read = words[2:] if pixel % 2 else words[:2]
    lower = philox4x32_10((pixel, frame, sample, 2**31), key)[0]
    mean = camera["qe"] * photons + camera["dark_e"]
    electrons = poisson_quantile(unit_interval(shot, lower), mean)
    if multiplies and electrons > 0:
        electrons = _register(electrons, words[2:], pixel, frame, sample, key) * camera["em_gain"]
    held = min(electrons, camera["full_well_e"])
    normal = stats.norm.ppf((read + 0.5) / 2**32)
    value = held + camera["read_noise_e"] * camera["read_noise"] * normal
    level = camera["baseline_adu"] + camera["offset_adu"] + 0.5
    return camera["gain"] * value / camera["e_per_adu"] + level


def _register(electrons, first_words, pixel, frame, sample, key):
    proposals = [first_words]
    for draw in range(1, 20):
        words = philox4x32_10((pixel, frame, sample, draw), key)
        proposals += [words[:2], words[2:]]
    for normal_word, uniform_word in proposals:
        x = stats.norm.ppf((normal_word + 0.5) / 2**32)
        u = (uniform_word // 2**8 + 0.5) / 2**24
        value, stands = marsaglia_tsang(electrons, x, u)
        if stands:
            return value
    raise AssertionError("19 rejections in a row")


def jump_chain(rates, initial, end_s, sample, molecule, key):
    """States of one molecule up to ``end_s``: list of (state, from, to) [s] (Gillespie 1977)."""
    path, now, state = [], 0.0, None
    for transition in range(100_000):
        words = philox4x32_10((molecule, transition, sample, 0), key)
        weights = np.asarray(initial if state is None else rates[state], float)
        target = unit_interval(*words[2:]) * weights.sum()
        state = int(np.searchsorted(np.cumsum(weights), target, side="right"))
        leaving = float(np.sum(rates[state]))
        wait = -math.log(unit_interval(*words[:2])) / leaving if leaving > 0 else math.inf
        path.append((state, now, min(now + wait, end_s)))
        now += wait
        if now >= end_s:
            return path
    raise AssertionError("too many transitions")


def on_time_per_frame(path, bright, frames, interval_s, exposure_s):
    """Seconds in the bright state within each frame's exposure."""
    on_s = np.zeros(frames)
    for state, start, stop in path:
        if state == bright:
            for k in range(frames):
                opens = k * interval_s
                on_s[k] += max(0.0, min(stop, opens + exposure_s) - max(start, opens))
    return on_s
