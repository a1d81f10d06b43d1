"""How many quadrature nodes a pupil needs: guessed from its phase, checked on the image.

Gauss nodes resolve a phase once there are about half as many on a half line as it turns radians
there; every further one brings more digits. The steepest phase along a pupil radius comes from
height, focus, the window's corner, masks and wavefronts, all known beforehand. The guess is checked
honestly: intensities at points all over the window, in the corners of the ranges, against those of
a fifth more nodes.

Smooth pupils reach any accuracy; pupils with phase jumps that lie on no known line converge slowly
and may be refused.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from simscope.errors import OpticsError, WorkWarning
from simscope.optics import interfaces
from simscope.optics.field import (
    PupilField,
    passed,
    plane_energy,
    plane_phasor,
    pupil_field,
    quadrants,
    static_phasor,
    wavefront_phase_rad,
)
from simscope.optics.interfaces import Objective
from simscope.optics.modulator import Roughness
from simscope.optics.phasors import unit_phasor
from simscope.optics.pixels import SampleGrid
from simscope.optics.transform import Transform, parity_parts

FloatArray = NDArray[np.float64]
ComplexArray = NDArray[np.complex128]

MOST_NODES = 1000
"""Nodes across a half pupil at which a mask, a wavefront or a window counts as unresolvable."""

MANY_NODES = 250_000
"""Nodes of a quadrant from which a warning tells of the work, seconds and more."""

CHECKED_SHARE = 0.25
"""Share of the accuracy that the change from more nodes must stay below."""

LEAST_STEP = 3
"""Nodes to add at least: a third of them go beyond the critical circle, and the error waits there.
"""

CHECK_POINTS = 11
"""Check points along each half axis, denser towards the middle."""

GRADIENT_POINTS = 33

WHOLE, SPLIT = (0.45, 1.1, 2.0), (0.7, 1.3, 1.0)
"""Nodes per radian of phase, per digit of accuracy, and at least, for chords that are whole or
split at the critical circle. Measured over media, windows and depths; the check has the last word.
"""

STATIC_SHARE = 0.5
"""Share of the steepest slope of masks and wavefronts that counts: it fills little of the pupil."""


@dataclass(frozen=True)
class Demand:
    """What a pupil field must serve: corners of the ranges, window, wavefronts and accuracy.

    ``half_nm``: distance (y, x) from the emitter to the farthest point of the window.
    ``wavefronts_nm``: each a dict of OSA index -> RMS nm on top of the optics' own.
    """

    optics: Any
    objective: Objective
    roughness: Roughness
    z_nm: tuple[float, float]
    focus_nm: tuple[float, float]
    half_nm: tuple[float, float]
    wavefronts_nm: tuple[Mapping[int, float], ...]
    accuracy: float

    @property
    def corners_nm(self) -> tuple[FloatArray, FloatArray]:
        """Heights and foci in the corners of the ranges, (corners,) each."""
        corners = np.array(sorted({*product(self.z_nm, self.focus_nm)}))
        return corners[:, 0], corners[:, 1]


@dataclass(frozen=True)
class Sampled:
    """A pupil field with enough nodes, and the error [share of the peak] found for it.

    ``static``: phasor of masks, maps and constant wavefront in the quadrants, (2, 2, rows,
    columns).
    """

    field: PupilField
    static: ComplexArray
    error: float


def sampled_field(demand: Demand) -> Sampled:
    """Pupil field on the fewest nodes that meet the accuracy.

    Raises OpticsError if more than ``MOST_NODES`` would be needed.
    """
    known: dict[tuple[int, Roughness], tuple[FloatArray, ComplexArray]] = {}
    # more nodes in every piece of a cut pupil, however small, lest equal rules seem exact
    cut = demand.roughness
    more = cut if cut.smooth else replace(cut, nodes_a_piece=cut.nodes_a_piece + 1)

    def tried(count: int, roughness: Roughness) -> tuple[FloatArray, ComplexArray]:
        if (count, roughness) not in known:
            field = _field(replace(demand, roughness=roughness), count)
            static = static_phasor(demand.optics, demand.objective, *quadrants(field.nodes))
            known[count, roughness] = _check_values(demand, field, static), static
        return known[count, roughness]

    count, step, error = _possible_guess(demand), 0, math.inf
    per_digit, warned = _rule(demand)[1], False
    while count <= MOST_NODES:
        finer_count = math.ceil(1.2 * count) + 2
        (finer, _), (values, static) = tried(finer_count, more), tried(count, cut)
        if not warned and static[0, 0].size > MANY_NODES:
            warned = True
            _warn_of_work(static[0, 0].size)
        differences = np.abs(finer - values).max(axis=1) / finer.max(axis=1)
        before, error = error, float(differences.max())
        if error < CHECKED_SHARE * demand.accuracy:
            return Sampled(_field(demand, count), static, error)
        if step and error < before:
            per_digit = max(per_digit, step / math.log10(before / error))
        previous, step = step, finer_count - count
        missing = max(per_digit * math.log10(error / (CHECKED_SHARE * demand.accuracy)), 0.0)
        if cut.smooth and error < 1.0:
            step = min(step, max(LEAST_STEP, math.ceil(missing)))
        elif previous:
            # rough pupils converge slowly and cost much: no use in small steps
            step = max(step, min(math.ceil(missing), count // 2))
        count += step
    raise OpticsError(
        f"{2 * (count - step)} nodes across the pupil leave {error:.1e} of the image's peak to "
        f"doubt, {CHECKED_SHARE * demand.accuracy:.1e} is asked, and no more than "
        f"{2 * MOST_NODES} are tried: use a smoother mask, a smaller window or range, or a larger "
        "optics.accuracy"
    )


def _possible_guess(demand: Demand) -> int:
    """The first guess; OpticsError where it lies beyond ``MOST_NODES``."""
    count = first_guess(demand)
    if count > MOST_NODES:
        raise OpticsError(
            f"the light turns by {steepest_phase_rad(demand):.3g} rad along a pupil radius (mask, "
            f"wavefront, height, focus and the window's corner at {max(demand.half_nm):.4g} nm "
            f"together), which asks for about {2 * count} nodes across the pupil, more than the "
            f"{2 * MOST_NODES} possible: use a smoother mask or wavefront, or a smaller window or "
            "range"
        )
    return count


def _warn_of_work(nodes: int) -> None:
    warnings.warn(
        f"the pupil takes {4e-6 * nodes:.2g} million nodes or more, so seconds to minutes: if that "
        "is too long, bin the mask or map, raise optics.accuracy, or narrow window and range",
        WorkWarning,
        stacklevel=2,
    )


def _field(demand: Demand, count: int) -> PupilField:
    scalar = demand.optics.model == "gibson_lanni"
    return _cached_field(demand.objective, count, demand.roughness, scalar)


@lru_cache(maxsize=8)
def _cached_field(
    objective: Objective, count: int, roughness: Roughness, scalar: bool
) -> PupilField:
    return pupil_field(objective, count, roughness=roughness, scalar=scalar)


def first_guess(demand: Demand) -> int:
    """Nodes per half chord that the steepest phase along a pupil radius asks for."""
    per_rad, per_digit, least = _rule(demand)
    digits = -math.log10(demand.accuracy)
    return math.ceil(per_rad * steepest_phase_rad(demand) + per_digit * digits + least)


def _rule(demand: Demand) -> tuple[float, float, float]:
    return SPLIT if demand.objective.supercritical else WHOLE


def steepest_phase_rad(demand: Demand) -> float:
    """Phase that the steepest slope along a pupil radius adds up to from middle to edge [rad].

    The slope is taken against the angle t of q = NA sin(t), in which the nodes lie evenly.
    """
    objective = demand.objective
    angle = np.linspace(0.0, 0.5 * np.pi, 200)
    q = min(objective.na, objective.n_sample) * np.sin(angle)
    sample = interfaces.root(objective.n_sample, q).real
    immersion = interfaces.root(objective.n_immersion, q).real
    design = interfaces.design_path_nm(objective, q)
    static = steepest_static_rad_per_na(demand) / objective.wavenumber_per_nm
    lateral_nm = max(demand.half_nm) + STATIC_SHARE * static
    paths = [
        design + z * sample - focus * immersion + side * lateral_nm * q
        for z, focus in zip(*demand.corners_nm, strict=True)
        for side in (-1.0, 1.0)
    ]
    steepest = max(np.abs(np.diff(path)).max() for path in paths) / (angle[1] - angle[0])
    return float(objective.wavenumber_per_nm * steepest)


def steepest_static_rad_per_na(demand: Demand) -> float:
    """Steepest slope of mask and wavefronts in the pupil [rad per NA].

    0 where they jump or turn around the axis. Between the lines of an array the slope of the
    phasor itself, which stays bounded where splines of it pass through 0.
    """
    roughness = demand.roughness
    if roughness.jumps or roughness.singular_centre:
        return 0.0
    objective = demand.objective
    line = objective.na * np.linspace(-0.999, 0.999, GRADIENT_POINTS)
    kx, ky = np.meshgrid(line, line)
    inside = np.hypot(kx, ky) < 0.999 * objective.na
    kx, ky = kx[inside], ky[inside]
    step = 1e-4 * objective.na
    places = ((kx, ky), (kx + step, ky), (kx, ky + step))
    here, right, up = (static_phasor(demand.optics, objective, x, y) for x, y in places)
    if roughness.lines_na:
        slope_x, slope_y = (np.abs(moved - here) / step for moved in (right, up))
    else:
        slope_x, slope_y = (np.angle(moved * here.conj()) / step for moved in (right, up))
    steepest = 0.0
    for wavefront_nm in demand.wavefronts_nm:
        phase, right_phase, up_phase = (
            wavefront_phase_rad(wavefront_nm, objective, *p) for p in places
        )
        along, across = slope_x + (right_phase - phase) / step, slope_y + (up_phase - phase) / step
        steepest = max(steepest, float(np.hypot(along, across).max()))
    return steepest


def _check_values(demand: Demand, field: PupilField, static: ComplexArray) -> FloatArray:
    """Intensities at the check points [1/nm^2], (wavefronts * corners, points)."""
    objective, nodes = demand.objective, field.nodes
    z_nm, focus_nm = demand.corners_nm
    grid_y, grid_x = (_check_grid(half_nm) for half_nm in demand.half_nm)
    transform = Transform(nodes, objective.wavenumber_per_nm, grid_y, grid_x)
    kx, ky = quadrants(nodes)
    energy, _ = plane_energy(field, z_nm, passed(static))
    scale = 1.0 / np.sqrt(energy)[:, None, None]
    real, imaginary = plane_phasor(field, z_nm, focus_nm)
    weighted = (scale * real, scale * imaginary)
    values = []
    for wavefront_nm in demand.wavefronts_nm:
        aberrated = static
        if wavefront_nm:
            aberrated = static * unit_phasor(wavefront_phase_rad(wavefront_nm, objective, kx, ky))
        parts = parity_parts(aberrated)
        with transform.scratch() as scratch:
            (total,) = transform.light(field, field.free_form, parts, weighted, scratch)
            values.append(transform.pixels(total, scratch).reshape(z_nm.size, -1))
    return np.concatenate(values)


def _check_grid(half_nm: float) -> SampleGrid:
    """Mirror pairs of points out to ``half_nm``, denser towards 0, with no pixel filter."""
    positive = half_nm * (np.arange(1, CHECK_POINTS + 1) / CHECK_POINTS) ** 2
    positions_nm = np.concatenate((-positive[::-1], positive))
    return SampleGrid(math.nan, positions_nm, np.eye(positions_nm.size))
