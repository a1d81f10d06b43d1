"""When molecules shine: independent snapshots, or a continuous-time Markov chain of states.

Blinking follows the usual four-state picture of single-molecule localisation microscopy (e.g.
Dempsey et al. 2011, Nat. Methods 8:1027): *on*, *dark* (short-lived, returns by itself), *off*
(long-lived) and *bleached*; a ``markov`` recipe names states, rates and brightness of its own. The
photons of a frame are the flux times the exact time spent in each bright state within the exposure,
times that state's brightness.

Arrays of molecules and of light lie on the device asked for; the numbers of samples (``indices``,
``drawn``) are few and lie on the host.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from simscope.device import CPU, Device
from simscope.kernels.blink import asleep, chain_tables, weight_tables
from simscope.keys import Key
from simscope.recipe import Recipe, Snapshot, Steady
from simscope.recipe.draws import counter_words, draw_emitters, per_sample
from simscope.sample.chains import bright_share, chains_of, timing_s
from simscope.sample.structures import Molecules, expected_molecules

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Shining:
    """Light of molecules per frame, sorted by frame, then by molecule.

    Arrays lie on one device. ``frame`` counts from 0 over the samples of a run (``sample * frames +
    t``), ``molecule`` is the row in :class:`Molecules`, ``photons`` the expected photons (float32)
    in that frame, and ``offsets`` (int64, frames + 1) says where each frame begins.
    """

    frame: Any
    molecule: Any
    photons: Any
    offsets: Any


def shine(
    recipe: Recipe,
    key: Key,
    indices: Ints,
    drawn: dict[str, Floats],
    molecules: Molecules,
    first: int,
    last: int,
    *,
    carried: dict[str, Any] | None = None,
    device: Device = CPU,
) -> Shining:
    """Light of the molecules in frames ``first`` to ``last`` of every sample.

    ``carried`` keeps what switching molecules need between windows, which must follow each other.

    Raises
    ------
    SampleError
        If molecules would switch too often, or have no equilibrium to start from.
    """
    if isinstance(recipe.photophysics, Steady):
        return _nothing(len(indices) * (last - first), device)
    light = shine_snapshot if isinstance(recipe.photophysics, Snapshot) else shine_blinking
    return light(
        recipe, key, indices, drawn, molecules, first, last, carried=carried, device=device
    )


def skip(
    recipe: Recipe,
    key: Key,
    indices: Ints,
    drawn: dict[str, Floats],
    molecules: Molecules,
    frame: int,
    *,
    carried: dict[str, Any],
    device: Device = CPU,
) -> None:
    """Carry switching molecules on to where ``frame`` begins, beyond the window before.

    The next window of :func:`shine` begins there. The cost is that of the transitions in between,
    whatever the number of frames.

    Raises
    ------
    SampleError
        As of :func:`shine`.
    """
    if isinstance(recipe.photophysics, Steady | Snapshot):
        return
    switching = _switching(recipe, key, indices, drawn, molecules, carried, device)
    interval_s, _ = timing_s(recipe)
    # one frame as long as all of them, ending on the same instant; nobody looks at its light
    _followed(switching, (0, 1, frame * interval_s, frame * interval_s), device)


def _nothing(frames: int, device: Device) -> Shining:
    """No molecule in any frame: volumes have none."""
    rows = device.xp.zeros(0, np.int64)
    offsets = device.xp.zeros(frames + 1, np.int64)
    return Shining(rows, rows, rows.astype(np.float32), offsets)


def expected_bright(recipe: Recipe) -> float:
    """Most molecules that are likely to shine in one frame of a sample."""
    molecules = expected_molecules(recipe)
    if isinstance(recipe.photophysics, Snapshot | Steady):
        return molecules
    return molecules * bright_share(recipe)


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
    device: Device = CPU,
) -> Shining:
    """Independent frames: every molecule shines with fresh photons (or not, by its share)."""
    photophysics = recipe.photophysics
    assert isinstance(photophysics, Snapshot)
    frames = last - first
    frame, molecule = _every_frame(molecules, len(indices), frames, device)
    row = molecules.sample[molecule]
    words = counter_words(
        device,
        element=molecules.id[molecule],
        sample=device.put(indices)[row],
        step=first + frame % frames,
    )
    share = per_sample(recipe, drawn, "photophysics.active_fraction", len(indices))
    if np.any(share < 1.0):
        shines = key.child("photophysics/active").uniform(**words) < device.put(share)[row]
        frame, molecule = frame[shines], molecule[shines]
        words |= {name: words[name][shines] for name in ("element", "sample", "step")}
    photons = draw_emitters(photophysics.photons, key, "photophysics.photons", **words)
    offsets = device.xp.searchsorted(frame, device.xp.arange(len(indices) * frames + 1))
    return Shining(frame, molecule, photons.astype(np.float32), offsets)


def _every_frame(
    molecules: Molecules, samples: int, frames: int, device: Device
) -> tuple[Any, Any]:
    """Frame and molecule of every pair, frame by frame."""
    begins = device.xp.searchsorted(molecules.sample, device.xp.arange(samples + 1))
    counts = np.diff(device.get(begins))
    first_molecule = np.repeat(np.cumsum(counts) - counts, frames)
    per_frame = np.repeat(counts, frames)
    frame = device.repeat(np.arange(samples * frames), per_frame)
    shift = device.put(first_molecule - np.cumsum(per_frame) + per_frame)
    return frame, device.xp.arange(len(frame)) + shift[frame]


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
    device: Device = CPU,
) -> Shining:
    """Movie of switching molecules: photons are the flux times the exact light in the exposure.

    ``carried`` keeps the state of every molecule between windows, which must follow each other.
    """
    carried = {} if carried is None else carried
    switching = _switching(recipe, key, indices, drawn, molecules, carried, device)
    window = (int(first), int(last - first), *timing_s(recipe))
    who, light_s, offsets = _followed(switching, window, device)
    frame = device.repeat(np.arange(len(offsets) - 1), np.diff(device.get(offsets)))
    return Shining(frame, who, (switching.flux[who] * light_s).astype(np.float32), offsets)


@dataclass(frozen=True)
class _Switching:
    """Switching molecules of a run of samples, as ``kernels.blink`` keeps them, and their flux."""

    molecules: tuple[Any, ...]
    tables: tuple[Any, ...]
    flux: Any
    stream: tuple[np.uint32, np.uint32]


def _switching(
    recipe: Recipe,
    key: Key,
    indices: Ints,
    drawn: dict[str, Floats],
    molecules: Molecules,
    carried: dict[str, Any],
    device: Device,
) -> _Switching:
    """What ``carried`` keeps between windows, begun at time 0 if there is nothing yet."""
    if "switching" not in carried:
        carried["switching"] = _start_switching(recipe, key, indices, drawn, molecules, device)
    kept: _Switching = carried["switching"]
    return kept


def _followed(
    switching: _Switching, window: tuple[int, int, float, float], device: Device
) -> tuple[Any, Any, Any]:
    """Rows (molecule, light [s]) of a window and offsets; the molecules are carried on."""
    arguments = (switching.molecules, switching.tables, window, *switching.stream)
    arrays = (device.xp,) if device.is_gpu else ()
    who, light_s, offsets = device.kernels("blink").bright_frames(*arrays, *arguments)
    return who, light_s, offsets


def _start_switching(
    recipe: Recipe,
    key: Key,
    indices: Ints,
    drawn: dict[str, Floats],
    molecules: Molecules,
    device: Device,
) -> _Switching:
    """Every molecule in its state at time 0."""
    chains = chains_of(recipe, drawn, len(indices))
    tables = _on(device, chain_tables(indices, chains.rates, chains.brightness))
    sample, ids = device.get(molecules.sample), device.get(molecules.id)
    photophysics = recipe.photophysics
    assert not isinstance(photophysics, Snapshot | Steady)
    flux = draw_emitters(
        photophysics.photons_per_s,
        key,
        "photophysics.photons_per_s",
        **counter_words(device, element=molecules.id, sample=device.put(indices)[molecules.sample]),
    )
    stream = key.child("photophysics/blink").words
    started = _on(device, asleep(ids, sample))
    initial = _on(device, weight_tables(chains.start))
    device.kernels("blink").start_molecules(started, tables, initial, *stream)
    return _Switching(started, tables, flux, stream)


def _on(device: Device, arrays: tuple[npt.NDArray[Any], ...]) -> tuple[Any, ...]:
    """The arrays on a device."""
    return tuple(device.put(array) for array in arrays)
