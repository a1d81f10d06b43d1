"""Movies of switching molecules by the kernel alone, for tests of their bits and of their laws."""

import itertools

import numba
import numpy as np
import pytest

from simscope.kernels import blink

WORDS = (5, 6)
KEY = tuple(np.uint32(word) for word in WORDS)
needs_speed = pytest.mark.skipif(
    numba.config.DISABLE_JIT, reason="statistics of many molecules need compiled kernels"
)


def started(molecules, initial, rates, brightness, sample=0):
    """Molecules at time 0, and the tables of their one chain."""
    rates, brightness = np.asarray(rates, float)[None], np.asarray(brightness, float)[None]
    tables = blink.chain_tables([sample], rates, brightness)
    begun = blink.asleep(np.arange(molecules), np.zeros(molecules))
    weights = blink.weight_tables(np.asarray(initial, float)[None])
    blink.start_molecules(begun, tables, weights, *KEY)
    return begun, tables


def movie(molecules, rates, frames, *, interval_s=0.01, exposure_s=None, windows=None, **options):
    """Rows (molecule, frame, light_s) of a whole movie, and (state, next, made) at its end.

    Molecules begin in the first state and shine in it alone, unless ``initial`` or ``brightness``
    say otherwise.
    """
    first_state = np.eye(len(rates))[0]
    initial, brightness = (options.get(name, first_state) for name in ("initial", "brightness"))
    carried, tables = started(molecules, initial, rates, brightness, options.get("sample", 0))
    exposure_s = interval_s if exposure_s is None else exposure_s
    edges = [0, frames] if windows is None else windows
    parts = []
    for first, last in itertools.pairwise(edges):
        window = (first, last - first, interval_s, exposure_s)
        molecule, light_s, offsets = blink.bright_frames(carried, tables, window, *KEY)
        frame = np.repeat(np.arange(first, last), np.diff(offsets))
        parts.append((molecule, frame, light_s))
    state, next_s, _, made = carried[2:]
    rows = [np.concatenate(part) for part in zip(*parts, strict=True)]
    return rows, (state, next_s, made)


def light_of(rows, molecules, frames):
    """Light [s] of every molecule in every frame, (molecule, frame)."""
    molecule, frame, light_s = rows
    light = np.zeros((molecules, frames))
    light[molecule, frame] = light_s
    return light
