"""Donuts: the focus of a depletion beam behind a vortex plate.

A vortex exp(i phi) with circular light of the same handedness: with the pupil's amplitudes (even,
split, axial) of ``interfaces.dipole_amplitudes`` the components are transforms of even e^(i phi),
split e^(3 i phi) and axial e^(2 i phi). None survives on the axis, so the centre is dark. (Opposite
handedness would leave the axial component bright there.) Without aberrations the donut is round,

    I(r) = |K_1|^2 + |K_2|^2 / 2 + |K_3|^2,
    K_m(r) = int kernel_m(q) exp(i k Psi(q)) J_m(k q r) q dq,

with kernels even, axial, split; otherwise it is summed over the pupil. The scalar model has K_1
alone, with kernel 1.

Source: Hao et al., J. Opt. 12, 115707 (2010), for the polarisation of donuts; Richards and Wolf,
Proc. R. Soc. A 253, 358 (1959).
"""

from __future__ import annotations

import math
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import jv

from simscope.errors import OpticsError
from simscope.optics import interfaces
from simscope.optics.field import quadrants, static_phasor
from simscope.optics.interfaces import objective_of
from simscope.optics.modalities.beams import without_aberrations
from simscope.optics.pixels import Window
from simscope.optics.quadrature import PupilNodes, pupil_nodes
from simscope.optics.radial import symmetry_breakers
from simscope.optics.radial_integrals import (
    RadialField,
    node_count,
    pieces,
    radial_field,
    steepest_phase,
)
from simscope.optics.reach import Reach

FloatArray = NDArray[np.float64]
ComplexArray = NDArray[np.complex128]

MOST_NODES = 320
PLANES_AT_ONCE = 8

SPLINE_DEGREE = 7
SPLINE_SHARE = 0.12
"""Distance of the radii in Nyquist distances: the spline then errs by some 1e-9."""

GUARD_RADII = 24
"""Radii beyond the window and, mirrored, below 0, over which a spline's ends die out."""

ORDERS, STRENGTHS = (1, 2, 3), (1.0, 0.5, 1.0)
"""Bessel order and weight of the kernels even, axial, split."""


def donut_profile(
    field: RadialField, radii_nm: FloatArray, z_nm: FloatArray, focus_nm: FloatArray, depth: int
) -> FloatArray:
    """Intensity of a round donut, and with ``depth`` 2 its slope by height, (depth, radii, n)."""
    turns = field.objective.wavenumber_per_nm * np.outer(radii_nm, field.q)
    waves = field.area * field.phasors(z_nm, focus_nm)
    rate = 1j * field.objective.wavenumber_per_nm * field.sample_root
    out = np.zeros((depth, radii_nm.size, z_nm.size))
    for kernel, order, strength in zip(field.kernels, ORDERS, STRENGTHS, strict=False):
        bessel = jv(order, turns)
        source = (kernel * waves).T
        amplitude = bessel @ source
        out[0] += strength * np.abs(amplitude) ** 2
        if depth > 1:
            slope = bessel @ (rate[:, None] * source)
            out[1] += 2.0 * strength * (amplitude.conj() * slope).real
    return out


def radial_donut(
    optics: Any, corners_nm: list[tuple[float, float]], reach_nm: float, accuracy: float
) -> RadialField:
    """Pupil nodes that resolve a round donut at the corners of the ranges, out to a radius."""
    objective = objective_of(optics)
    counts = tuple(
        node_count(steepest_phase(objective, piece, corners_nm, reach_nm), accuracy)
        for piece in pieces(objective)
    )
    return radial_field(objective, optics.model, counts)


def donut_peak(optics: Any) -> float:
    """Highest intensity of the donut in the focus of the optics without aberrations."""
    ideal = without_aberrations(optics)
    step_nm = 0.005 * optics.wavelength_nm / optics.na
    radii = step_nm * np.arange(1, 200)
    field = radial_donut(ideal, [(0.0, 0.0)], radii[-1], 1e-9)
    line = donut_profile(field, radii, np.zeros(1), np.zeros(1), 1)[0, :, 0]
    top = int(line.argmax())
    before, here, after = line[top - 1 : top + 2]
    return float(here - (after - before) ** 2 / (8.0 * (after - 2.0 * here + before)))


class Donut:
    """Intensity of the depletion beam at molecules, over its peak in perfect focus [1].

    ``optics`` as ``beam_optics`` gives them, ``window`` of points. Set up for ranges of height,
    focus and shift; error at most ``accuracy`` of the peak. Heights and foci as in every model; the
    images are against the beam's position.
    """

    def __init__(self, optics: Any, window: Window, reach: Reach, accuracy: float) -> None:
        self.optics, self.objective = optics, objective_of(optics)
        self._reach, self._accuracy = reach, accuracy
        grid_y, grid_x = window.grids(self.objective.band_limit_per_nm, accuracy)
        self._y, self._x = grid_y.positions_nm, grid_x.positions_nm
        self._peak = donut_peak(optics)
        self._round = not symmetry_breakers(optics)

    def images(
        self,
        z_nm: ArrayLike = 0.0,
        focus_nm: ArrayLike = 0.0,
        x_nm: ArrayLike = 0.0,
        y_nm: ArrayLike = 0.0,
    ) -> FloatArray:
        """Relative intensity [1], (n, y, x)."""
        return self._jets(1, z_nm, focus_nm, x_nm, y_nm)[:, 0]

    def slopes(
        self,
        z_nm: ArrayLike = 0.0,
        focus_nm: ArrayLike = 0.0,
        x_nm: ArrayLike = 0.0,
        y_nm: ArrayLike = 0.0,
    ) -> FloatArray:
        """Relative intensity and its derivatives by x, y, z [1/nm], (n, 4, y, x)."""
        return self._jets(4, z_nm, focus_nm, x_nm, y_nm)

    def _jets(self, depth: int, *where: ArrayLike) -> FloatArray:
        z, focus, x, y = np.broadcast_arrays(
            *(np.atleast_1d(np.asarray(a, dtype=np.float64)) for a in where)
        )
        pieces = []
        for start in range(0, z.size, PLANES_AT_ONCE):
            some = slice(start, start + PLANES_AT_ONCE)
            place = np.stack((z[some], focus[some], x[some], y[some]))
            if self._round:
                pieces.append(self._spread(place, depth))
            else:
                whole = _intensity(self._pupil, place, self._y, self._x, depth)
                pieces.append(whole / (2.0 * math.pi) ** 2)  # K_m holds no 2 pi of the azimuth
        return np.concatenate(pieces) / self._peak

    def _spread(self, place: FloatArray, depth: int) -> FloatArray:
        """A round donut's profile spread over the points, (n, depth, y, x)."""
        from scipy.interpolate import BSpline, make_interp_spline  # slow to import

        z, focus = place[0], place[1]
        profile = donut_profile(self._field, self._radii, z, focus, min(depth, 2))
        even = np.concatenate((profile[:, GUARD_RADII:0:-1], profile), axis=1)
        radii = np.concatenate((-self._radii[GUARD_RADII:0:-1], self._radii))
        spline = make_interp_spline(radii, even, k=SPLINE_DEGREE, axis=1)
        out = np.empty((z.size, depth, self._y.size, self._x.size))
        for i, (x0, y0) in enumerate(place[2:].T):
            along, across = np.meshgrid(self._x - x0, self._y - y0)
            radius = np.hypot(along, across)
            one = BSpline(spline.t, spline.c[..., i], SPLINE_DEGREE)
            values = one(radius)
            out[i, 0] = values[..., 0]
            if depth == 4:
                outwards = one(radius, 1)[..., 0] / np.where(radius > 0.0, radius, 1.0)
                out[i, 1], out[i, 2] = -outwards * along, -outwards * across
                out[i, 3] = values[..., 1]
        return out

    @cached_property
    def _radii(self) -> FloatArray:
        spacing_nm = SPLINE_SHARE * 0.5 / self.objective.band_limit_per_nm
        half = [0.5 * float(np.ptp(side)) + self._reach.lateral_nm for side in (self._y, self._x)]
        count = math.ceil(math.hypot(*half) / spacing_nm) + GUARD_RADII + 1
        return spacing_nm * np.arange(count, dtype=np.float64)

    @cached_property
    def _field(self) -> RadialField:
        corners = [(z, focus) for z in self._reach.z_nm for focus in self._reach.focus_nm]
        return radial_donut(self.optics, corners, float(self._radii[-1]), 0.1 * self._accuracy)

    @cached_property
    def _pupil(self) -> _VortexPupil:
        return _VortexPupil(self.optics, self._resolve())

    def _resolve(self) -> PupilNodes:
        """The fewest quadrature nodes that hold the intensity still at points far out."""
        z, focus = (v.ravel() for v in np.meshgrid(self._reach.z_nm, self._reach.focus_nm))
        shift = np.full(z.size, float(self._reach.lateral_nm))
        place = np.stack((z, focus, shift, shift))
        y, x = (v[np.unique(np.linspace(0, v.size - 1, 9).astype(int))] for v in (self._y, self._x))
        near = np.linspace(0.0, 1.0, 5) * self.objective.wavelength_nm / self.objective.na
        y, x = (np.concatenate((v - shift[0], near)) for v in (y, x))
        count, before = 12, None
        while count <= MOST_NODES:
            nodes = pupil_nodes(self.objective, count, singular_centre=True)
            values = _intensity(_VortexPupil(self.optics, nodes), place, y, x, 1)[:, 0]
            if before is not None:
                change = np.abs(values - before).max(axis=(1, 2)) / values.max(axis=(1, 2))
                if change.max() < 0.25 * self._accuracy:
                    return nodes
            before = values
            count = math.ceil(1.25 * count)
        raise OpticsError(
            f"{2 * MOST_NODES} nodes across the pupil do not resolve the depletion beam to "
            f"accuracy={self._accuracy:.1g}: use a smaller window or range, or a larger accuracy"
        )


class _VortexPupil:
    """Field of the depletion beam on all four quadrants of the pupil, by chords.

    ``kx``: (chords, 2 columns), ``ky``: (chords,), ``amplitude``: (3, chords, 2 columns) holding
    quadrature weights, ``sample_root`` and ``immersion_root`` as in ``field.py``.
    """

    def __init__(self, optics: Any, nodes: PupilNodes) -> None:
        objective = objective_of(optics)
        self.wavenumber = objective.wavenumber_per_nm
        kx, ky = quadrants(nodes)
        self.kx = _chords(kx)
        self.ky = _chords(ky)[:, 0]
        q = np.hypot(self.kx, self.ky[:, None])
        turn = (self.kx + 1j * self.ky[:, None]) / q
        if optics.model == "gibson_lanni":
            even, split, axial = np.ones_like(q), np.zeros_like(q), np.zeros_like(q)
        else:
            even, split, axial = interfaces.dipole_amplitudes(objective, q)
        weight = _chords(np.broadcast_to(nodes.weight, kx.shape))
        static = _chords(static_phasor(optics, objective, kx, ky))
        path = interfaces.design_path_nm(objective, q)
        common = weight * static * np.exp(1j * self.wavenumber * path)
        components = np.array((even * turn, split * turn**3, axial * turn**2 / math.sqrt(2.0)))
        self.amplitude = components * common
        self.sample_root = interfaces.root(objective.n_sample, q) - objective.n_sample
        self.immersion_root = interfaces.root(objective.n_immersion, q).real - objective.n_immersion


def _chords(values: NDArray[Any]) -> NDArray[Any]:
    """Quadrants (2, 2, rows, columns) as whole chords (2 rows, 2 columns)."""
    _, _, rows, columns = values.shape
    return values.transpose(0, 2, 1, 3).reshape(2 * rows, 2 * columns)


def _intensity(
    pupil: _VortexPupil, place: FloatArray, y_nm: FloatArray, x_nm: FloatArray, depth: int
) -> FloatArray:
    """Intensity at (y, x), and with ``depth`` 4 its derivatives, (n, depth, y, x).

    ``place``: rows z, focus, x, y of the molecules [nm], (4, n).
    """
    k = pupil.wavenumber
    z, focus, shift_x, shift_y = (row[:, None, None] for row in place)
    path = z * pupil.sample_root - focus * pupil.immersion_root
    path = path + shift_x * pupil.kx + shift_y * pupil.ky[:, None]
    phasor = np.exp(1j * k * path)
    by = (1.0, 1j * k * pupil.kx, 1j * k * pupil.ky[:, None], 1j * k * pupil.sample_root)
    along = np.exp(-1j * k * pupil.kx[..., None] * x_nm)
    across = np.exp(-1j * k * np.outer(y_nm, pupil.ky))
    out = np.zeros((place.shape[1], depth, y_nm.size, x_nm.size))
    for component in pupil.amplitude:
        fields = [_transform(component * phasor * factor, along, across) for factor in by[:depth]]
        out[:, 0] += np.abs(fields[0]) ** 2
        for which, slope in enumerate(fields[1:], start=1):
            out[:, which] += 2.0 * (fields[0].conj() * slope).real
    return out


def _transform(source: ComplexArray, along: ComplexArray, across: ComplexArray) -> ComplexArray:
    """Field (n, y, x) from the pupil (n, chords, columns): along each chord, then across."""
    lines = np.matmul(source.transpose(1, 0, 2), along)
    chords, planes, points = lines.shape
    field = across @ lines.reshape(chords, planes * points)
    return field.reshape(-1, planes, points).transpose(1, 0, 2)
