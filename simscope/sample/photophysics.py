"""When molecules shine: independent snapshots, or a continuous-time Markov chain of states.

Blinking follows the usual four-state picture of single-molecule localisation microscopy (e.g.
Dempsey et al. 2011, Nat. Methods 8:1027): *on*, *dark* (short-lived, returns by itself), *off*
(long-lived) and *bleached*. The photons of a frame are the flux times the exact time spent *on*
within the exposure.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from simscope.errors import SampleError
from simscope.kernels import blink
from simscope.keys import Key
from simscope.recipe import Blinking, Recipe, Snapshot
from simscope.recipe.draws import draw_emitters, per_sample
from simscope.sample.structures import Molecules

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

ON, DARK, OFF, BLEACHED = range(4)
MOST_TRANSITIONS = 1e7
RATES = (
    "on_to_dark_per_s",
    "dark_to_on_per_s",
    "on_to_off_per_s",
    "off_to_on_per_s",
    "on_to_bleached_per_s",
)


@dataclass(frozen=True)
class Shining:
    """Light of molecules per frame, sorted by frame, then by molecule.

    ``frame`` counts from 0 over the samples of a run (``sample * frames + t``), ``molecule`` is the
    row in :class:`Molecules`, ``photons`` the expected photons (float32) in that frame, and
    ``offsets`` (int64, frames + 1) says where each frame begins.
    """

    frame: Ints
    molecule: Ints
    photons: npt.NDArray[np.float32]
    offsets: Ints


def shine_snapshot(
    recipe: Recipe,
    key: Key,
    indices: Ints,
    drawn: dict[str, Floats],
    molecules: Molecules,
    first: int,
    last: int,
    *,
    carried: dict[str, Any] | None = None,
) -> Shining:
    """Independent frames: every molecule shines with fresh photons (or not, by its share)."""
    photophysics = recipe.photophysics
    assert isinstance(photophysics, Snapshot)
    frames = last - first
    frame, molecule = _every_frame(molecules, len(indices), frames)
    sample = indices[molecules.sample[molecule]]
    step = first + frame % frames
    share = per_sample(recipe, drawn, "photophysics.active_fraction", len(indices))
    if np.any(share < 1.0):
        uniform = key.child("photophysics/active").uniform(
            molecules.id[molecule], sample=sample, step=step
        )
        shines = uniform < share[molecules.sample[molecule]]
        frame, molecule, sample, step = (part[shines] for part in (frame, molecule, sample, step))
    photons = draw_emitters(
        photophysics.photons,
        key,
        "photophysics.photons",
        element=molecules.id[molecule],
        sample=sample,
        step=step,
    )
    return _shining(frame, molecule, photons, len(indices) * frames)


def _every_frame(molecules: Molecules, samples: int, frames: int) -> tuple[Ints, Ints]:
    """Frame and molecule of every pair, frame by frame."""
    counts = np.bincount(molecules.sample, minlength=samples)
    first_molecule = np.cumsum(counts) - counts
    per_frame = np.repeat(counts, frames)
    frame = np.repeat(np.arange(samples * frames), per_frame)
    within = np.arange(len(frame)) - np.repeat(np.cumsum(per_frame) - per_frame, per_frame)
    return frame, first_molecule[frame // frames] + within


def _shining(frame: Ints, molecule: Ints, photons: Floats, frames: int) -> Shining:
    offsets = np.zeros(frames + 1, np.int64)
    np.cumsum(np.bincount(frame, minlength=frames), out=offsets[1:])
    return Shining(frame, molecule, photons.astype(np.float32), offsets)


def shine_blinking(
    recipe: Recipe,
    key: Key,
    indices: Ints,
    drawn: dict[str, Floats],
    molecules: Molecules,
    first: int,
    last: int,
    *,
    carried: dict[str, Any] | None = None,
) -> Shining:
    """Blinking movie: photons of a frame are the flux times the exact on-time in its exposure.

    ``carried`` keeps the state of every molecule between windows, which must follow each other.
    """
    photophysics = recipe.photophysics
    assert isinstance(photophysics, Blinking)
    carried = {} if carried is None else carried
    if "molecules" not in carried:
        carried["molecules"] = _start_blinking(recipe, key, indices, drawn, molecules)
    interval_ms = recipe.acquisition.interval_ms or recipe.acquisition.exposure_ms
    times = (interval_ms * 1e-3, recipe.acquisition.exposure_ms * 1e-3)
    stream = key.child("photophysics/blink").words
    parts = []
    for row, (begin, rates, state) in enumerate(carried["molecules"]):
        who, frame, on_s, _ = blink.bright_frames(
            *state, rates, ON, first, last - first, *times, indices[row], *stream
        )
        parts.append((frame - first + row * (last - first), begin + who.astype(np.int64), on_s))
    frame, molecule, on_s = (np.concatenate(part) for part in zip(*parts, strict=True))
    flux = draw_emitters(
        photophysics.photons_per_s,
        key,
        "photophysics.photons_per_s",
        element=molecules.id[molecule],
        sample=indices[molecules.sample[molecule]],
    )
    return _shining(frame, molecule, flux * on_s, len(indices) * (last - first))


def _start_blinking(
    recipe: Recipe, key: Key, indices: Ints, drawn: dict[str, Floats], molecules: Molecules
) -> list[tuple[int, Floats, tuple[npt.NDArray[Any], ...]]]:
    """First molecule, rates and (state, next time, transitions) of every sample at time 0."""
    photophysics = recipe.photophysics
    assert isinstance(photophysics, Blinking)
    values = {
        name: per_sample(recipe, drawn, f"photophysics.{name}", len(indices)) for name in RATES
    }
    _refuse_too_fast(values, recipe)
    counts = np.bincount(molecules.sample, minlength=len(indices))
    begins = np.cumsum(counts) - counts
    stream = key.child("photophysics/blink").words
    started: list[tuple[int, Floats, tuple[npt.NDArray[Any], ...]]] = []
    for row, count in enumerate(counts):
        rates = {name: float(value[row]) for name, value in values.items()}
        matrix = rate_matrix(rates)
        state: tuple[npt.NDArray[Any], ...] = (
            np.empty(count, np.int8),
            np.empty(count, np.float64),
            np.empty(count, np.uint32),
        )
        chance = start_probabilities(photophysics.start, rates)
        blink.start_molecules(*state, chance, matrix, np.uint32(indices[row]), *stream)
        started.append((int(begins[row]), matrix, state))
    return started


def _refuse_too_fast(values: dict[str, Floats], recipe: Recipe) -> None:
    """Raise SampleError where a molecule would switch more often than can be followed."""
    acquisition = recipe.acquisition
    duration_s = acquisition.frames * (acquisition.interval_ms or acquisition.exposure_ms) * 1e-3
    leaving_on = sum(values[name] for name in RATES if name.startswith("on_to"))
    fastest_per_s = float(max(np.max(leaving_on), *(np.max(values[name]) for name in RATES)))
    switches = fastest_per_s * duration_s
    if switches > MOST_TRANSITIONS:
        raise SampleError(
            f"at {fastest_per_s:g} transitions per second a molecule could switch {switches:.3g} "
            f"times in {duration_s:g} s, the limit is {MOST_TRANSITIONS:g}: lower the rates, or "
            "take fewer or shorter frames (faster switching is a lower photons_per_s)"
        )


def rate_matrix(rates: dict[str, float]) -> Floats:
    """Transition rates [1/s], shape ``(4, 4)``: row = from, column = to; zero diagonal."""
    matrix = np.zeros((4, 4))
    matrix[ON, DARK] = rates["on_to_dark_per_s"]
    matrix[DARK, ON] = rates["dark_to_on_per_s"]
    matrix[ON, OFF] = rates["on_to_off_per_s"]
    matrix[OFF, ON] = rates["off_to_on_per_s"]
    matrix[ON, BLEACHED] = rates["on_to_bleached_per_s"]
    return matrix


def start_probabilities(start: str, rates: dict[str, float]) -> Floats:
    """Probability of each state at time 0; ``equilibrium`` is that of on, dark and off alone.

    Detailed balance of a star-shaped scheme: every dark state has ``k_in / k_out`` of the time in
    *on*; a state without exit takes all.
    """
    weights = np.zeros(4)
    if start != "equilibrium":
        weights[ON if start == "on" else OFF] = 1.0
        return weights
    weights[ON] = 1.0
    for state, name in ((DARK, "dark"), (OFF, "off")):
        enter, leave = rates[f"on_to_{name}_per_s"], rates[f"{name}_to_on_per_s"]
        if enter > 0:
            weights[state] = enter / leave if leave > 0 else np.inf
    if np.isinf(weights).any():
        weights = np.isinf(weights).astype(float)
    return weights / weights.sum()
