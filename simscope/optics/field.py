"""The light in the pupil: a dipole's field at the quadrature nodes, and all that changes its phase.

A freely rotating dipole is the incoherent sum of three axes with two field components each; of the
six, five are distinct.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from simscope.errors import OpticsError
from simscope.optics import interfaces
from simscope.optics.interfaces import Objective
from simscope.optics.modulator import pupil_transmission
from simscope.optics.quadrature import PupilNodes, pupil_nodes
from simscope.optics.zernike import osa_to_nm, zernike

FloatArray = NDArray[np.float64]
ComplexArray = NDArray[np.complex128]


@dataclass(frozen=True)
class PupilField:
    """Pupil field of a dipole at the nodes, before height, focus, wavefront and mask.

    ``amplitude``: (5, rows, columns), the distinct components in the quadrant kx, ky > 0;
    ``PARITY`` says how each continues into the others. ``sample_root``, ``immersion_root``: axial
    indices less their value on axis; ``path_nm``: design path.
    """

    objective: Objective
    nodes: PupilNodes
    amplitude: ComplexArray
    sample_root: ComplexArray
    immersion_root: FloatArray
    path_nm: FloatArray


PARITY = ((0, 0), (0, 0), (1, 1), (0, 1), (1, 0))
"""Per component, whether it is odd in (ky, kx)."""

QUADRANTS = tuple(product((0, 1), (0, 1)))


def pupil_field(objective: Objective, count: int, *, singular_centre: bool = False) -> PupilField:
    """Pupil field on ``count`` by ``count`` nodes per quadrant, for unit dipoles on all axes."""
    nodes = pupil_nodes(objective, count, singular_centre=singular_centre)
    q = nodes.radius
    cosine, sine = nodes.kx / q, nodes.ky / q
    even, split, axial = interfaces.dipole_amplitudes(objective, q)
    # transverse dipoles x and y share their components, hence the weight 2 in intensity
    twice = math.sqrt(2.0)
    amplitude = np.array(
        [
            twice * even,
            twice * split * (cosine**2 - sine**2),
            twice * split * 2.0 * cosine * sine,
            axial * cosine,
            axial * sine,
        ]
    )
    return PupilField(
        objective,
        nodes,
        amplitude,
        interfaces.root(objective.n_sample, q) - objective.n_sample,
        interfaces.root(objective.n_immersion, q).real - objective.n_immersion,
        interfaces.design_path_nm(objective, q),
    )


def plane_phasor(
    field: PupilField, z_nm: FloatArray, focus_nm: FloatArray, passed: FloatArray | float = 1.0
) -> ComplexArray:
    """Phasors exp(i k Psi) of heights and foci, normalised to unit energy on the camera [1/nm].

    ``z_nm``, ``focus_nm``: (planes,); ``passed``: share of the energy that a mask passes at each
    node, mean of the quadrants. Returns (planes, rows, columns). The evanescent part of the
    pupil dims with height; the normalisation divides by the energy that passes at that height.
    Source: Gibson and Lanni 1991 for Psi; Parseval for the energy.
    """
    k = field.objective.wavenumber_per_nm
    path: ComplexArray = (
        field.path_nm
        + z_nm[:, None, None] * field.sample_root
        - focus_nm[:, None, None] * field.immersion_root
    )
    phasor: ComplexArray = np.exp(1j * k * path)
    density = 4.0 * field.nodes.weight * passed * (np.abs(field.amplitude) ** 2).sum(axis=0)
    energy = np.tensordot(np.abs(phasor) ** 2, density, axes=2)
    return phasor / (field.objective.wavelength_nm * np.sqrt(energy))[:, None, None]


def static_phasor(
    optics: Any, objective: Objective, kx: FloatArray, ky: FloatArray
) -> ComplexArray:
    """Phasor of masks, maps and constant wavefront at pupil points [1], of ``kx`` and ``ky``.

    Pupil points in units of NA. Raises OpticsError if a coefficient is still to be drawn.
    """
    phase = np.zeros(np.broadcast_shapes(kx.shape, ky.shape))
    for index, coefficient_nm in constant_wavefront_nm(optics).items():
        path_nm = coefficient_nm * mode_values(index, kx, ky, objective.na)
        phase += objective.wavenumber_per_nm * path_nm
    return pupil_transmission(optics, objective, kx, ky) * np.exp(1j * phase)


def quadrants(nodes: PupilNodes) -> tuple[FloatArray, FloatArray]:
    """Pupil points (kx, ky) [NA] in (y, x) quadrants, each (2, 2, rows, columns); 1: negative."""
    sign = np.array((1.0, -1.0))
    kx = sign[None, :, None, None] * nodes.kx * np.ones((2, 1, 1, 1))
    ky = sign[:, None, None, None] * nodes.ky * np.ones_like(kx)
    return kx, ky


def mode_values(index: int, kx: FloatArray, ky: FloatArray, na: float) -> FloatArray:
    """Orthonormal Zernike mode of OSA ``index`` at pupil points in units of NA [1]."""
    n, m = osa_to_nm(index)
    return zernike(n, m, np.hypot(kx, ky) / na, np.arctan2(ky, kx) * np.ones_like(kx))


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
