"""Where molecules are: even spread, filaments, a user's table, a single bead."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from simscope.device import CPU, Device
from simscope.elementary import normal_quantile
from simscope.errors import SampleError
from simscope.keys import Key
from simscope.recipe import (
    VOLUMES,
    BeadStructure,
    Distribution,
    FilamentStructure,
    Recipe,
    TableStructure,
    UniformStructure,
)
from simscope.recipe.draws import counter_words, draw_emitters, per_sample
from simscope.sample.volumes import plane_count, voxel_nm
from simscope.tables import read_positions

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

PATH_STEP_NM = 50.0
MOST_MOLECULES = 1e7


@dataclass(frozen=True)
class Molecules:
    """Molecules of a run of samples, sample by sample, in arrays on one device.

    ``sample`` counts from 0 within the run, ``id`` from 0 within the sample; positions [nm] are
    float32, exactly as they are rendered and written. Orientations [deg] (axis from z, axis from x
    towards y, half angle of the cone) are None where dipoles rotate freely.
    """

    sample: Any
    id: Any
    x_nm: Any
    y_nm: Any
    z_nm: Any
    polar_deg: Any = None
    azimuth_deg: Any = None
    half_angle_deg: Any = None

    @property
    def size(self) -> int:
        """Number of molecules."""
        return len(self.id)


def place(
    recipe: Recipe, key: Key, samples: Ints, drawn: dict[str, Floats], device: Device = CPU
) -> Molecules:
    """Molecules of the given samples, on the device; ``samples`` and ``drawn`` lie on the host.

    Even spreads are worked out on the device; the fewer numbers of filaments, tables and beads on
    the host.

    Raises
    ------
    SampleError
        If a table cannot be read or holds no molecule in view.
    """
    structure = recipe.structure
    if isinstance(structure, UniformStructure):
        return _place_uniform(structure, recipe, key, samples, drawn, device)
    if isinstance(structure, FilamentStructure):
        return device.put_all(_place_filaments(structure, recipe, key, samples, drawn))
    if isinstance(structure, TableStructure):
        return device.put_all(_place_table(structure, recipe, len(samples)))
    if isinstance(structure, BeadStructure):
        return device.put_all(_place_bead(structure, recipe, samples, drawn))
    nothing = np.zeros(0, np.int64)
    return device.put_all(_molecules(nothing, nothing, *np.zeros((3, 0))))


def expected_molecules(recipe: Recipe) -> float:
    """Most molecules a sample is likely to hold, before any is placed.

    Raises
    ------
    SampleError
        If that is more than can be handled.
    """
    structure = recipe.structure
    height, width = _frame_nm(recipe)
    if isinstance(structure, UniformStructure):
        margin = structure.margin_nm
        if structure.count is not None:
            most = _likely_most(structure.count)
        else:
            area_um2 = (height + 2 * margin) * (width + 2 * margin) * 1e-6
            mean = _likely_most(structure.density_per_um2 or 0.0) * area_um2
            most = mean + 6 * math.sqrt(mean)
    elif isinstance(structure, FilamentStructure):
        length_um = 2 * (math.hypot(height, width) + structure.margin_nm) * 1e-3
        most = _likely_most(structure.count) * _likely_most(structure.labels_per_um) * length_um
    else:
        most = len(_table_positions(structure)) if isinstance(structure, TableStructure) else 1.0
        most = 0.0 if isinstance(structure, VOLUMES) else most
    if most > MOST_MOLECULES:
        raise SampleError(
            f"structure may hold {most:.3g} molecules in a sample, the limit is "
            f"{MOST_MOLECULES:g}: lower density, count or margin_nm, or image a smaller frame"
        )
    return most


def _likely_most(value: float | Distribution) -> float:
    return value.likely_range()[1] if isinstance(value, Distribution) else float(value)


def height_range_nm(recipe: Recipe) -> tuple[float, float]:
    """Lowest and highest emitter height that can occur [nm].

    Raises
    ------
    SampleError
        If a distribution of heights has no bounds.
    """
    structure = recipe.structure
    if isinstance(structure, TableStructure):
        z = _table_positions(structure)[:, 2]
        low, high = float(z.min()), float(z.max())
    else:
        low, high = _range(structure.z_nm, "structure.z_nm")
    if isinstance(structure, FilamentStructure):
        reach = structure.radius_nm + _range(structure.linker_nm, "structure.linker_nm")[1]
        low, high = low - reach, high + reach
    if isinstance(structure, VOLUMES):
        high += (plane_count(structure) - 1) * voxel_nm(structure)[0]
    return float(np.float32(low)), float(np.float32(high))


def _range(value: float | Distribution, path: str) -> tuple[float, float]:
    if not isinstance(value, Distribution):
        return float(value), float(value)
    low, high = value.support()
    if not (math.isfinite(low) and math.isfinite(high)):
        raise SampleError(
            f"{path}={value.label()} has no bounds: give min and max so that the PSF can be tabled"
        )
    return low, high


def _frame_nm(recipe: Recipe) -> tuple[float, float]:
    height, width = recipe.acquisition.shape
    return height * recipe.pixel_nm, width * recipe.pixel_nm


def _ragged(counts: Ints, device: Device = CPU) -> tuple[Any, Any]:
    """Row of the run and index within the row, on the device, for rows of the given lengths."""
    row = device.repeat(np.arange(len(counts)), counts)
    first = device.repeat(np.cumsum(counts) - counts, counts)
    return row, device.xp.arange(len(row)) - first


def _place_uniform(
    structure: UniformStructure,
    recipe: Recipe,
    key: Key,
    samples: Ints,
    drawn: dict[str, Floats],
    device: Device,
) -> Molecules:
    height, width = _frame_nm(recipe)
    margin = structure.margin_nm
    if structure.count is not None:
        counts = np.rint(per_sample(recipe, drawn, "structure.count", len(samples)))
    else:
        density = per_sample(recipe, drawn, "structure.density_per_um2", len(samples))
        area_um2 = (height + 2 * margin) * (width + 2 * margin) * 1e-6
        counts = key.child("structure/count").poisson(0, density * area_um2, sample=samples)
    row, element = _ragged(counts.astype(np.int64), device)
    words = counter_words(device, element=element, sample=device.put(samples)[row])
    x, y = (key.child(f"structure/{axis}").uniform(**words) for axis in "xy")
    z = draw_emitters(structure.z_nm, key, "structure.z_nm", **words)
    return _molecules(
        row, element, x * (width + 2 * margin) - margin, y * (height + 2 * margin) - margin, z
    )


def _place_bead(
    structure: BeadStructure, recipe: Recipe, samples: Ints, drawn: dict[str, Floats]
) -> Molecules:
    height, width = _frame_nm(recipe)
    count = len(samples)
    x, y, z = (per_sample(recipe, drawn, f"structure.{axis}_nm", count) for axis in "xyz")
    return _molecules(np.arange(count), np.zeros(count, np.int64), width / 2 + x, height / 2 + y, z)


def _place_table(structure: TableStructure, recipe: Recipe, samples: int) -> Molecules:
    positions = _table_positions(structure)
    keep = _in_view(positions[:, 0], positions[:, 1], recipe, structure.margin_nm)
    if not keep.any():
        low, high = positions.min(axis=0), positions.max(axis=0)
        height, width = _frame_nm(recipe)
        raise SampleError(
            f"{structure.path}: none of {len(positions)} molecules lies in the frame of "
            f"{width:g} x {height:g} nm (x {low[0]:g} to {high[0]:g}, y {low[1]:g} to "
            f"{high[1]:g}): use shift_x_nm, shift_y_nm or a larger shape"
        )
    ids = np.flatnonzero(keep)
    row = np.repeat(np.arange(samples), len(ids))
    x, y, z = (np.tile(positions[ids, axis], samples) for axis in range(3))
    return _molecules(row, np.tile(ids, samples), x, y, z)


@lru_cache(maxsize=4)
def _read_once(path: str, options: tuple[tuple[str, Any], ...], _state: tuple[int, int]) -> Floats:
    """The table of a file in one state; files beside it, which no recipe names, have no say."""
    return read_positions(path, sidecar=False, **dict(options))


def _table_positions(structure: TableStructure) -> Floats:
    shift = np.array([structure.shift_x_nm, structure.shift_y_nm, structure.shift_z_nm])
    names = ("format", "dataset", "pixel_nm", "axes")
    options = tuple((name, getattr(structure, name)) for name in names)
    return _read_once(structure.path, options, _state(structure.path)) + shift


def _state(path: str) -> tuple[int, int]:
    """Time of the last change [ns] and size of a file; zeros where there is none."""
    file = Path(path)
    if not file.is_file():
        return 0, 0
    state = file.stat()
    return state.st_mtime_ns, state.st_size


def _in_view(x: Floats, y: Floats, recipe: Recipe, margin: float) -> npt.NDArray[np.bool_]:
    height, width = _frame_nm(recipe)
    inside_x = (x >= -margin) & (x < width + margin)
    return inside_x & (y >= -margin) & (y < height + margin)


def _place_filaments(
    structure: FilamentStructure,
    recipe: Recipe,
    key: Key,
    samples: Ints,
    drawn: dict[str, Floats],
) -> Molecules:
    counts = np.rint(per_sample(recipe, drawn, "structure.count", len(samples))).astype(np.int64)
    rates = per_sample(recipe, drawn, "structure.labels_per_um", len(samples))
    row, element = _ragged(counts)
    parts = [
        _filament_labels(structure, recipe, key, int(samples[r]), int(e), float(rates[r]))
        for r, e in zip(row, element, strict=True)
    ]
    lengths = np.array([len(part) for part in parts], np.int64)
    positions = np.concatenate([np.empty((0, 3)), *parts])
    sample_row = np.repeat(row, lengths)
    _, ids = _ragged(np.bincount(sample_row, minlength=len(samples)).astype(np.int64))
    keep = _in_view(positions[:, 0], positions[:, 1], recipe, structure.margin_nm)
    return _molecules(sample_row[keep], ids[keep], *positions[keep].T)


def _filament_labels(
    structure: FilamentStructure,
    recipe: Recipe,
    key: Key,
    sample: int,
    filament: int,
    labels_per_um: float,
) -> Floats:
    """Labels of one filament, shape ``(labels, 3)`` [nm], on a tube around a worm-like path."""
    path = _worm_path(structure, recipe, key, sample, filament)
    here = key.child("structure/labels")
    length_um = (len(path) - 1) * PATH_STEP_NM * 1e-3
    count = int(here.poisson(filament, labels_per_um * length_um, sample=sample))
    along, around = (
        here.child(name).uniform(filament, sample=sample, step=np.arange(count))
        for name in ("along", "around")
    )
    axis_z = draw_emitters(structure.z_nm, key, "structure.z_nm", element=filament, sample=sample)
    linker = draw_emitters(
        structure.linker_nm,
        key,
        "structure.linker_nm",
        element=filament,
        sample=sample,
        step=np.arange(count),
    )
    place_on_path = along * (len(path) - 1)
    segment = np.minimum(place_on_path.astype(np.int64), len(path) - 2)
    step = path[segment + 1] - path[segment]
    centre = path[segment] + (place_on_path - segment)[:, None] * step
    normal = np.stack([-step[:, 1], step[:, 0]], axis=1) / PATH_STEP_NM
    radius = structure.radius_nm + linker
    sideways = (radius * np.cos(2 * np.pi * around))[:, None] * normal
    upward = radius * np.sin(2 * np.pi * around)
    return np.column_stack([centre + sideways, axis_z + upward])


def _worm_path(
    structure: FilamentStructure, recipe: Recipe, key: Key, sample: int, filament: int
) -> Floats:
    """Projected worm-like chain through a random point of the frame, shape ``(points, 2)`` [nm].

    Kratky-Porod in two dimensions: the tangent angle performs a random walk of variance
    ``step / persistence`` a step.
    """
    height, width = _frame_nm(recipe)
    reach = math.hypot(height, width) + structure.margin_nm
    steps = max(2, math.ceil(reach / PATH_STEP_NM))
    here = key.child("structure/path")
    start_x, start_y, heading = here.child("start").uniform(
        filament, sample=sample, step=np.arange(3)
    )
    uniform = here.uniform(filament, sample=sample, step=np.arange(2 * steps))
    bends = normal_quantile(uniform)
    bends *= math.sqrt(PATH_STEP_NM / (structure.persistence_um * 1e3))
    halves = []
    for side in (0, 1):
        angle = 2 * np.pi * heading + side * np.pi + np.cumsum(bends[side * steps :][:steps])
        moves = PATH_STEP_NM * np.stack([np.cos(angle), np.sin(angle)], axis=1)
        halves.append(np.cumsum(moves, axis=0))
    middle = np.zeros((1, 2))
    path = np.concatenate([halves[1][::-1], middle, halves[0]])
    return path + np.array([start_x * width, start_y * height])


def _molecules(row: Any, element: Any, x: Any, y: Any, z: Any) -> Molecules:
    return Molecules(
        sample=row.astype(np.int64, copy=False),
        id=element.astype(np.int64, copy=False),
        x_nm=x.astype(np.float32),
        y_nm=y.astype(np.float32),
        z_nm=z.astype(np.float32),
    )
