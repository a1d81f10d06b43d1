"""The light in the pupil: a dipole's field at the quadrature nodes, and all that changes its phase.

A dipole (px, py, pz) sends the transverse field

    Ex = a px + b py + d pz        a, c = even +- split cos(2 phi),  b = split sin(2 phi),
    Ey = b px + c py + e pz        d, e = axial (cos(phi), sin(phi)),

into the pupil: six entries, five distinct. What the camera detects is quadratic in them, so every
image of a molecule with second moments M = <p p^T> is a quadratic form in the transforms of
a, b, c, d, e: the freely rotating dipole, each of the six basis images, with or without analyser.
The scalar model of Gibson and Lanni (1991) has one component, 1 all over the pupil.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from simscope.errors import OpticsError
from simscope.optics import interfaces
from simscope.optics.interfaces import Objective
from simscope.optics.modulator import SMOOTH, Roughness, pupil_transmission
from simscope.optics.panels import panel_nodes
from simscope.optics.phasors import cosine_sine, unit_phasor
from simscope.optics.quadrature import PupilNodes, pupil_nodes
from simscope.optics.zernike import osa_to_nm, zernike
from simscope.recipe import ZernikeWavefront

FloatArray = NDArray[np.float64]
ComplexArray = NDArray[np.complex128]


Parity = tuple[int, int]


@dataclass(frozen=True)
class PupilField:
    """Pupil field of a dipole at the nodes, before height, focus, wavefront and mask.

    ``amplitude``: (components, rows, columns) in the quadrant kx, ky > 0; ``parity`` says of each
    whether it is odd in (ky, kx); ``free``: its weight in the light of a freely rotating dipole.
    ``sample_root``, ``immersion_root``: axial indices less their value on axis; ``path_nm``: design
    path.
    """

    objective: Objective
    nodes: PupilNodes
    amplitude: ComplexArray
    parity: tuple[Parity, ...]
    free: tuple[float, ...]
    sample_root: ComplexArray
    immersion_root: FloatArray
    path_nm: FloatArray

    @property
    def free_form(self) -> FloatArray:
        """Quadratic form of a freely rotating dipole's light, (1, components, components)."""
        return np.diag(self.free)[None]

    @cached_property
    def free_density(self) -> FloatArray:
        """Energy of a freely rotating dipole's light in the four mirrored nodes, (rows, columns).

        With the quadrature's weights, in the coverslip's plane.
        """
        return 4.0 * self.nodes.weight * np.tensordot(self.free, np.abs(self.amplitude) ** 2, 1)


DIPOLE_PARITY: tuple[Parity, ...] = ((0, 0), (1, 1), (0, 0), (0, 1), (1, 0))
"""Per component a, b, c, d, e, whether it is odd in (ky, kx)."""

DIPOLE_FREE = (1.0, 2.0, 1.0, 1.0, 1.0)
"""Squares of a, b, c, d, e in the light of a freely rotating dipole: b is in Ex and in Ey."""

_EX, _EY = np.zeros((2, 3, 5))
_EX[(0, 1, 2), (0, 1, 3)] = 1.0
_EY[(0, 1, 2), (1, 2, 4)] = 1.0

MOMENTS = ((0, 0), (1, 1), (2, 2), (0, 1), (0, 2), (1, 2))
"""Order of second moments and basis images: xx, yy, zz, xy, xz, yz."""

QUADRANTS = tuple(product((0, 1), (0, 1)))


def basis_forms(analyser_deg: float | None = None) -> FloatArray:
    """Quadratic forms of the six basis images in a, b, c, d, e, (6, 5, 5), symmetric.

    Order ``MOMENTS``; off-diagonal ones hold M_ij and M_ji. An analyser at an angle from x towards
    y passes Ex cos + Ey sin. The factor 3 makes a freely rotating dipole, M = 1/3, shine 1.
    """
    if analyser_deg is None:
        passed = [_EX, _EY]
    else:
        angle = math.radians(analyser_deg)
        passed = [math.cos(angle) * _EX + math.sin(angle) * _EY]
    forms = []
    for i, j in MOMENTS:
        one_way = 3.0 * np.sum([np.outer(field[i], field[j]) for field in passed], axis=0)
        forms.append(one_way if i == j else one_way + one_way.T)
    return np.array(forms)


def pupil_field(
    objective: Objective, count: int, *, roughness: Roughness = SMOOTH, scalar: bool = False
) -> PupilField:
    """Pupil field on about ``count`` by ``count`` nodes a quadrant, for unit dipoles on all axes.

    ``roughness``: where masks and maps need the quadrature cut. ``scalar``: the field 1 of a
    scalar point source instead, no apodisation, no Fresnel losses.
    """
    nodes = (
        pupil_nodes(objective, count)
        if roughness.smooth
        else panel_nodes(
            objective,
            count,
            radii_na=roughness.radii_na,
            lines_na=roughness.lines_na,
            singular_centre=roughness.singular_centre,
            nodes_a_piece=roughness.nodes_a_piece,
        )
    )
    return field_at(objective, nodes, scalar=scalar)


def field_at(objective: Objective, nodes: PupilNodes, *, scalar: bool = False) -> PupilField:
    """Pupil field of unit dipoles on all axes, or of a scalar source, at given nodes."""
    q = nodes.radius
    point = np.ones((1, *q.shape), dtype=np.complex128)
    return PupilField(
        objective,
        nodes,
        point if scalar else _dipole_components(objective, nodes),
        ((0, 0),) if scalar else DIPOLE_PARITY,
        (1.0,) if scalar else DIPOLE_FREE,
        interfaces.root(objective.n_sample, q) - objective.n_sample,
        interfaces.root(objective.n_immersion, q).real - objective.n_immersion,
        interfaces.design_path_nm(objective, q),
    )


def _dipole_components(objective: Objective, nodes: PupilNodes) -> ComplexArray:
    """a, b, c, d, e at the nodes, (5, rows, columns)."""
    q = nodes.radius
    cosine, sine = nodes.kx / q, nodes.ky / q
    even, split, axial = interfaces.dipole_amplitudes(objective, q)
    along = split * (cosine**2 - sine**2)
    across = split * 2.0 * cosine * sine
    return np.array([even + along, across, even - along, axial * cosine, axial * sine])


def plane_phasor(
    field: PupilField, z_nm: FloatArray, focus_nm: FloatArray, xp: Any = np
) -> tuple[Any, Any]:
    """Phasors exp(i k Psi) of heights and foci times the quadrature's weights [NA^2].

    Real and imaginary part, (planes, rows, columns) each. ``z_nm``, ``focus_nm``: (planes,). The
    evanescent part of the pupil dims with height. ``xp``: array module of the result. Source:
    Gibson and Lanni 1991 for Psi.
    """
    k = field.objective.wavenumber_per_nm
    z, focus = (xp.asarray(k * value)[:, None, None] for value in (z_nm, focus_nm))
    phase = z * xp.asarray(field.sample_root.real) - focus * xp.asarray(field.immersion_root)
    phase += xp.asarray(k * field.path_nm)
    size = xp.asarray(field.nodes.weight)
    if field.sample_root.imag.any():
        size = size * xp.exp(-z * xp.asarray(field.sample_root.imag))
    cosine, sine = cosine_sine(phase, xp)
    return size * cosine, size * sine


def dimmed_sums(field: PupilField, density: FloatArray, z_nm: FloatArray) -> FloatArray:
    """Sums of energies at the nodes (n, rows, columns) at heights, (planes, n).

    Evanescent light fades with height, the rest does not.
    """
    rate = decay_rate(field)
    evanescent = rate < 0.0
    left = np.exp(z_nm[:, None] * rate[evanescent])
    fading = np.einsum("zn,kn->zk", left, density[:, evanescent])
    return density[:, ~evanescent].sum(axis=1) + fading


def decay_rate(field: PupilField) -> FloatArray:
    """Slope of the logarithm of the energy at the nodes by height [1/nm], below 0 if evanescent."""
    return -2.0 * field.objective.wavenumber_per_nm * field.sample_root.imag


def plane_energy(
    field: PupilField, z_nm: FloatArray, passed: FloatArray | float = 1.0
) -> tuple[FloatArray, FloatArray]:
    """Energy of a free dipole's light through the pupil [1], and its slope by z [1/nm], (planes,).

    ``passed``: share of the energy that a mask passes at each node, mean of the quadrants. By
    Parseval's theorem an image divided by wavelength^2 times this sums to 1 over the plane.
    """
    density = passed * field.free_density
    both = dimmed_sums(field, np.array((density, density * decay_rate(field))), z_nm)
    return both[:, 0], both[:, 1]


def passed(static: ComplexArray) -> FloatArray:
    """Share of the energy that mask and wavefront pass at each node, mean of the quadrants."""
    share: FloatArray = (np.abs(static) ** 2).mean(axis=(0, 1))
    return share


def energy_density(field: PupilField, forms: FloatArray, static: ComplexArray) -> FloatArray:
    """Energy [1] of quadratic forms at each node of a quadrant, (forms, rows, columns).

    Its sum with |phasor|^2 is the energy through the whole pupil. ``static``: transmission of mask
    and wavefront in the quadrants (2, 2, rows, columns); products of components that are odd in kx
    or ky only survive where it differs between quadrants.
    """
    passed = np.abs(static) ** 2
    total = np.zeros((len(forms), *field.nodes.weight.shape))
    for i, j in product(range(len(field.parity)), repeat=2):
        odd_y, odd_x = (a ^ b for a, b in zip(field.parity[i], field.parity[j], strict=True))
        signed = sum((-1) ** (odd_y * y + odd_x * x) * passed[y, x] for y, x in QUADRANTS)
        together = signed * (field.amplitude[i] * field.amplitude[j].conj()).real
        total += forms[:, i, j, None, None] * together
    return field.nodes.weight * total


def static_phasor(
    optics: Any, objective: Objective, kx: FloatArray, ky: FloatArray
) -> ComplexArray:
    """Phasor of masks, maps and constant wavefront at pupil points [1], of ``kx`` and ``ky``.

    Pupil points in units of NA. Raises OpticsError if a coefficient is still to be drawn.
    """
    phase = wavefront_phase_rad(constant_wavefront_nm(optics), objective, kx, ky)
    return pupil_transmission(optics, objective, kx, ky) * unit_phasor(phase)


def wavefront_phase_rad(
    wavefront_nm: Mapping[int, float], objective: Objective, kx: FloatArray, ky: FloatArray
) -> FloatArray:
    """Phase of a wavefront (OSA index -> RMS nm) at pupil points [rad], of ``kx`` and ``ky``."""
    phase = np.zeros(np.broadcast_shapes(kx.shape, ky.shape))
    rho, theta = _polar(kx, ky, objective.na) if wavefront_nm else (phase, phase)
    for index, coefficient_nm in wavefront_nm.items():
        scale = objective.wavenumber_per_nm * coefficient_nm
        phase += scale * zernike(*osa_to_nm(index), rho, theta)
    return phase


def quadrants(nodes: PupilNodes) -> tuple[FloatArray, FloatArray]:
    """Pupil points (kx, ky) [NA] in (y, x) quadrants, each (2, 2, rows, columns); 1: negative."""
    sign = np.array((1.0, -1.0))
    kx = sign[None, :, None, None] * nodes.kx * np.ones((2, 1, 1, 1))
    ky = sign[:, None, None, None] * nodes.ky * np.ones_like(kx)
    return kx, ky


def mode_values(index: int, kx: FloatArray, ky: FloatArray, na: float) -> FloatArray:
    """Orthonormal Zernike mode of OSA ``index`` at pupil points in units of NA [1]."""
    return zernike(*osa_to_nm(index), *_polar(kx, ky, na))


def _polar(kx: FloatArray, ky: FloatArray, na: float) -> tuple[FloatArray, FloatArray]:
    """Pupil radius over its edge [1] and angle from kx towards ky [rad] of pupil points [NA]."""
    return np.hypot(kx, ky) / na, np.arctan2(ky, kx)


def constant_wavefront_nm(optics: Any) -> dict[int, float]:
    """OSA index -> RMS wavefront error [nm] of the optics; OpticsError if still to be drawn."""
    wavefront = optics.wavefront
    if wavefront is None:
        return {}
    if wavefront.random_modes:
        raise OpticsError(
            f"wavefront modes {list(wavefront.random_modes)} are still to be drawn: pass optics "
            "without random_modes and give the draw as wavefront_nm"
        )
    for index, value in wavefront.coefficients_nm.items():
        if not isinstance(value, (int, float)) or not math.isfinite(value):
            raise OpticsError(
                f"wavefront coefficient {index} is still to be drawn or not finite ({value}): "
                "pass optics with plain numbers"
            )
    return {index: float(value) for index, value in wavefront.coefficients_nm.items()}


def with_wavefront(optics: Any, added_nm: Mapping[int, float]) -> Any:
    """The optics with a wavefront (OSA index -> RMS nm) added to their constant one."""
    if not added_nm:
        return optics
    total = constant_wavefront_nm(optics)
    for index, value in added_nm.items():
        total[int(index)] = total.get(int(index), 0.0) + float(value)
    return optics.model_copy(update={"wavefront": ZernikeWavefront(coefficients_nm=total)})
