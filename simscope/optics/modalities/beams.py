"""Focused beams: the light at a molecule against the beam's position.

**Excitation.** By reciprocity, the intensity a beam focused to s has at a molecule equals the image
a freely rotating dipole there sends to s: each term of the sum over two polarisations in the pupil
and three field components in the sample is the same number read in either direction. So the focus
of an evenly filled pupil, mean of the two circular polarisations, is the detection PSF at the
excitation wavelength, |I0|^2 + 2|I1|^2 + |I2|^2; without aberrations each circular polarisation
alone gives the same, round spot (linear light would give an elongated one). Wavefronts in the
recipe belong to the common path and aberrate the beams too, as path in nm; masks, modulators and
amplitude maps stand in the detection path alone.

Source: Richards and Wolf, Proc. R. Soc. A 253, 358 (1959).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from simscope.errors import OpticsError
from simscope.optics.collection import collected_power
from simscope.optics.dipoles import FREE_MOMENTS
from simscope.optics.interfaces import Objective
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


def without_aberrations(optics: Any) -> Any:
    """The same optics used as designed: no wavefront, no mask, no mismatch of coverslip or oil."""
    absent = ("wavefront", "wavefront_map", "field_dependence", *DETECTION_ONLY)
    update: dict[str, Any] = {name: None for name in absent if hasattr(optics, name)}
    for name in ("n_coverslip_design", "n_immersion_design", "coverslip_design_um"):
        update[name] = None
    return optics.model_copy(update=update)


def detector_elements(modality: Any, airy_nm: float) -> Iterator[tuple[float, float]]:
    """Offsets (y, x) of an array detector's elements from its centre, in the sample [nm]."""
    half, pitch = modality.across // 2, modality.pitch_airy_units * airy_nm
    for row in range(-half, half + 1):
        for column in range(-half, half + 1):
            if modality.array == "square":
                yield row * pitch, column * pitch
            elif abs(row + column) <= half:  # axial coordinates of a hexagon of hexagons
                yield row * pitch * math.sqrt(0.75), (column + 0.5 * row) * pitch
