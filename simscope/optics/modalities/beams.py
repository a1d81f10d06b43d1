"""Focused beams: the light at a molecule against the beam's position.

**Excitation.** By reciprocity, the intensity a beam focused to s has at a molecule equals the image
a freely rotating dipole there sends to s: each term of the sum over two polarisations in the pupil
and three field components in the sample is the same number read in either direction. So the focus
of an evenly filled pupil, mean of the two circular polarisations, is the detection PSF at the
excitation wavelength, |I0|^2 + 2|I1|^2 + |I2|^2; without aberrations each circular polarisation
alone gives the same, round spot (linear light would give an elongated one). Wavefronts in the
recipe belong to the common path and aberrate the beams too, as path in nm; masks, modulators and
amplitude maps stand in the detection path alone.

**Depletion.** A vortex exp(i phi) with circular light of the same handedness: with the pupil's
amplitudes (even, split, axial) of ``interfaces.dipole_amplitudes`` the components are transforms of
even e^(i phi), split e^(3 i phi) and axial e^(2 i phi); none survives on the axis, so the centre is
dark. (Opposite handedness would leave the axial component bright there.)

Sources: Richards and Wolf, Proc. R. Soc. A 253, 358 (1959); Hao et al., J. Opt. 12, 115707 (2010)
for the polarisation of donuts.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from simscope.errors import OpticsError
from simscope.optics import interfaces
from simscope.optics.collection import collected_power
from simscope.optics.dipoles import FREE_MOMENTS
from simscope.optics.field import quadrants, static_phasor
from simscope.optics.interfaces import Objective, objective_of
from simscope.optics.pixels import Window
from simscope.optics.quadrature import PupilNodes, pupil_nodes
from simscope.optics.reach import Reach
from simscope.optics.spectrum import at_wavelength
from simscope.recipe.modality import Widefield

FloatArray = NDArray[np.float64]
ComplexArray = NDArray[np.complex128]

MOST_NODES = 320
PLANES_AT_ONCE = 8
HEIGHT_STEP_NM = 0.5

DETECTION_ONLY: dict[str, Any] = {"mask": None, "slm": None, "amplitude_map": None}
"""What stands in the detection path and does not act on the beams."""


def beam_optics(optics: Any, wavelength_nm: float, na: float | None = None) -> Any:
    """The optics as a beam of one wavelength sees them, widefield and without masks."""
    beam = at_wavelength(optics, wavelength_nm)
    update: dict[str, Any] = {
        **DETECTION_ONLY,
        "modality": Widefield(),
        "bead_diameter_nm": 0.0,
        "blur_nm": 0.0,
    }
    update["analyser"] = None
    if na is not None and na != optics.na:
        if optics.wavefront is not None or optics.wavefront_map is not None:
            raise OpticsError(
                f"excitation_na={na:g} below na={optics.na:g} together with a wavefront is not "
                "modelled: leave out excitation_na or the wavefront"
            )
        update["na"] = na
    return beam.model_copy(update=update)


def focus_energy(objective: Objective, z_nm: FloatArray, *, scalar: bool) -> FloatArray:
    """Light of a beam that reaches the plane at a height, over that at the coverslip [1], (n,).

    1 but for supercritical beams, whose rays beyond n_sample fade with height.
    """
    if not objective.supercritical:
        return np.ones(z_nm.size)
    heights, place = np.unique(np.maximum(z_nm, 0.0), return_inverse=True)
    if scalar:
        return _scalar_energy(objective, heights)[place]
    power = collected_power(objective, np.array([0.0, *heights])) @ FREE_MOMENTS
    return np.asarray(power[1:] / power[0])[place]


def _scalar_energy(objective: Objective, z_nm: FloatArray) -> FloatArray:
    """The same for an evenly filled scalar pupil: int |exp(ikz sqrt(n^2 - q^2))|^2 q dq.

    Beyond q = n with t = sqrt(q^2 - n^2): int_0^T t exp(-2kzt) dt = T^2 (1 - (1 + u) e^-u)/u^2,
    u = 2kzT.
    """
    beyond = objective.na**2 - objective.n_sample**2
    u = 2.0 * objective.wavenumber_per_nm * z_nm * math.sqrt(beyond)
    near = u < 1e-3
    safe = np.where(near, 1.0, u)
    fading = np.where(near, 0.5 - u / 3.0, (1.0 - (1.0 + safe) * np.exp(-safe)) / safe**2)
    return np.asarray((0.5 * objective.n_sample**2 + beyond * fading) / (0.5 * objective.na**2))


def focus_energy_slope(objective: Objective, z_nm: FloatArray, *, scalar: bool) -> FloatArray:
    """Derivative of ``focus_energy`` by height [1/nm], central difference of 1 nm, (n,)."""
    above, below = (
        focus_energy(objective, z_nm + side * HEIGHT_STEP_NM, scalar=scalar) for side in (1.0, -1.0)
    )
    return np.asarray((above - below) / (2.0 * HEIGHT_STEP_NM))


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
        self._nodes = self._resolve()

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
            pieces.append(_intensity(self._pupil, place, self._y, self._x, depth))
        return np.concatenate(pieces) / self._peak

    @cached_property
    def _pupil(self) -> _VortexPupil:
        return _VortexPupil(self.optics, self._nodes)

    @cached_property
    def _peak(self) -> float:
        """Highest intensity in perfect focus, between points by a parabola."""
        perfect = _VortexPupil(without_aberrations(self.optics), self._nodes)
        x = np.linspace(0.0, self.objective.wavelength_nm / self.objective.na, 601)
        line = _intensity(perfect, np.zeros((4, 1)), np.zeros(1), x, 1)[0, 0, 0]
        top = int(line.argmax())
        before, here, after = line[top - 1 : top + 2]
        return float(here - (after - before) ** 2 / (8.0 * (after - 2.0 * here + before)))

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


def without_aberrations(optics: Any) -> Any:
    """The same optics used as designed: no wavefront, no mask, no mismatch of coverslip or oil."""
    absent = ("wavefront", "wavefront_map", "field_dependence", *DETECTION_ONLY)
    update: dict[str, Any] = {name: None for name in absent if hasattr(optics, name)}
    for name in ("n_coverslip_design", "n_immersion_design", "coverslip_design_um"):
        update[name] = None
    return optics.model_copy(update=update)


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


def detector_elements(modality: Any, airy_nm: float) -> Iterator[tuple[float, float]]:
    """Offsets (y, x) of an array detector's elements from its centre, in the sample [nm]."""
    half, pitch = modality.across // 2, modality.pitch_airy_units * airy_nm
    for row in range(-half, half + 1):
        for column in range(-half, half + 1):
            if modality.array == "square":
                yield row * pitch, column * pitch
            elif abs(row + column) <= half:  # axial coordinates of a hexagon of hexagons
                yield row * pitch * math.sqrt(0.75), (column + 0.5 * row) * pitch
