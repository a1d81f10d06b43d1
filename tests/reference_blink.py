"""Slow, obvious twins of the switching molecules: one jump after the other, one frame at a time."""

import math

import numpy as np
from reference import philox4x32_10, unit_interval
from scipy import linalg


def jump_chain(rates, initial, end_s, sample, molecule, key, *, until_s=None, log=math.log):
    """States of one molecule up to ``end_s``: list of (state, from, to) [s] (Gillespie 1977).

    Jump number m takes the four words of counter (molecule, m, sample, 0). With ``until_s`` the
    last state is that at this time, with the time of its own end.
    """
    path, now, state = [], 0.0, None
    until_s = end_s if until_s is None else until_s
    for transition in range(100_000):
        words = philox4x32_10((molecule, transition, sample, 0), key)
        weights = np.asarray(initial if state is None else rates[state], float)
        target = unit_interval(*words[2:]) * weights.sum()
        state = int(np.searchsorted(np.cumsum(weights), target, side="right"))
        leaving = float(sum(rates[state]))
        wait = -log(unit_interval(*words[:2])) / leaving if leaving > 0 else math.inf
        path.append((state, now, min(now + wait, end_s)))
        now += wait
        if now >= until_s:
            return path
    raise AssertionError("too many transitions")


def light_per_frame(path, brightness, frames, interval_s, exposure_s):
    """Brightness times seconds within each frame's exposure, summed over the visits to states."""
    light_s = np.zeros(frames)
    for state, start, stop in path:
        for k in range(frames):
            opens = k * interval_s
            overlap = min(stop, opens + exposure_s) - max(start, opens)
            light_s[k] += brightness[state] * max(0.0, overlap)
    return light_s


def generator(rates):
    """Matrix Q of the master equation dp/dt = p Q: rates, and what leaves on the diagonal."""
    rates = np.asarray(rates, float)
    return rates - np.diag(rates.sum(axis=1))


def occupancy(rates, initial, time_s):
    """Probability of every state at a time: initial exp(Q t)."""
    return np.asarray(initial, float) @ linalg.expm(generator(rates) * time_s)
