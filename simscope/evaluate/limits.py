"""Limits of localisation in closed form, and the limit that no microscope can beat.

Formulas for an Airy pattern and for a Gaussian spot, as published, to compare with
:func:`simscope.evaluate.psf_crlb` or to plan an experiment on the back of an envelope; and the
quantum limit of the light itself.

The quantum limit
-----------------
Whatever is done to the light behind the objective (any phase mask, any camera), no unbiased
estimator beats the quantum Cramér-Rao bound (Backlund, Shechtman and Walsworth 2018, Phys. Rev.
Lett. 121, 023904). A photon of a fixed dipole has the pupil field psi; moving the dipole multiplies
it by exp(i(kx x + ky y + kz z)), so with averages over ``|psi|^2``

    1 / sigma_z^2 = 4 N ( <|kz|^2> - |<kz>|^2 ) ,     1 / sigma_x^2 = 4 N <kx^2> .

For a uniform scalar pupil the second is Ober's lambda / (2 pi NA sqrt(N)), and the first is

    <kz^2> = k^2 (n^2 - NA^2/2) ,   <kz> = k (2/3) (n^3 - (n^2 - NA^2)^(3/2)) / NA^2 .

A freely rotating dipole is a mixture of three dipoles with energies p_i; quantum information is
convex, so at most ``sum p_i I_i`` plus what the energies themselves tell, ``N sum p_i'^2 / p_i``.
Beyond the critical angle kz is imaginary: evanescent light tells the height by its decay, and the
same formulas hold. The number of photons detected is taken as given at every height.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.special import spence

from simscope.errors import EvaluationError
from simscope.evaluate.tables import Floats
from simscope.optics import interfaces, objective_of
from simscope.optics.interfaces import Objective
from simscope.optics.legendre import legendre_between

POSITION_DTYPE = np.dtype([(name, np.float64) for name in ("x_nm", "y_nm", "z_nm")])
NODES = 200
"""Gauss nodes on each smooth piece of the pupil radius; 40 reach rounding for NA 1.49."""


def airy_limit_nm(na: float, wavelength_nm: float, photons: npt.ArrayLike) -> Floats:
    """Smallest standard deviation of x [nm] for an Airy pattern without pixels or background.

    ``lambda / (2 pi NA sqrt(N))``. Source: Ober, Ram and Ward 2004, Biophys. J. 86, 1185.
    """
    _require_positive(na=na, wavelength_nm=wavelength_nm, photons=photons)
    return np.asarray(wavelength_nm / (2.0 * np.pi * na * np.sqrt(_floats(photons))))


def gaussian_limit_nm(
    sigma_nm: npt.ArrayLike,
    photons: npt.ArrayLike,
    background_photons: npt.ArrayLike = 0.0,
    pixel_nm: npt.ArrayLike = 0.0,
) -> Floats:
    """Smallest standard deviation of x [nm] for a Gaussian spot on a uniform background.

    ``sigma_a^2/N / (1 + integral_0^1 ln(t) / (1 + t/tau) dt)`` under the root, with
    ``sigma_a^2 = sigma^2 + a^2/12`` and ``tau = 2 pi sigma_a^2 b / (N a^2)``, b in photons per
    pixel; the integral is the dilogarithm ``tau Li2(-1/tau)``. Pixels enter to second order: good
    to 1 % up to pixels of sigma. Source: Mortensen et al. 2010, Nat. Methods 7, 377, eq. 5. Raises
    EvaluationError if a number is impossible.
    """
    variance, tau = _spot(sigma_nm, photons, background_photons, pixel_nm)
    # scipy's spence(1 - x) is Li2(x)
    dilogarithm = spence(1.0 + np.divide(1.0, tau, out=np.ones_like(tau), where=tau > 0))
    integral = np.where(tau > 0, tau * dilogarithm, 0.0)
    return np.sqrt(variance / _floats(photons) / (1.0 + integral))


def rieger_stallinga_limit_nm(
    sigma_nm: npt.ArrayLike,
    photons: npt.ArrayLike,
    background_photons: npt.ArrayLike = 0.0,
    pixel_nm: npt.ArrayLike = 0.0,
) -> Floats:
    """Smallest standard deviation of x [nm] for a Gaussian spot, closed form without integral.

    ``sigma_a^2/N (1 + 4 tau + sqrt(2 tau / (1 + 4 tau)))`` under the root, symbols as in
    :func:`gaussian_limit_nm`, which it approximates to 2 %. Source: Rieger and Stallinga 2014,
    ChemPhysChem 15, 664. Raises EvaluationError if a number is impossible.
    """
    variance, tau = _spot(sigma_nm, photons, background_photons, pixel_nm)
    excess = 1.0 + 4.0 * tau + np.sqrt(2.0 * tau / (1.0 + 4.0 * tau))
    return np.sqrt(variance / _floats(photons) * excess)


def quantum_limit(
    optics: Any, photons: npt.ArrayLike, z_nm: npt.ArrayLike = 0.0
) -> npt.NDArray[Any]:
    """Smallest standard deviations ``x_nm, y_nm, z_nm`` [nm] that any detection could reach.

    Structured ``(n,)`` for ``photons`` and heights ``z_nm`` (they matter with evanescent light
    only) that broadcast to n. For a freely rotating dipole (``optics.model`` vectorial) an upper
    limit of the information, for the scalar model the limit itself; masks and aberrations that
    only shift phases change nothing. Source: Backlund et al. 2018; see the module. Raises
    EvaluationError or OpticsError for impossible numbers, and for light that the formula does not
    describe (see :func:`beyond_quantum_limit`).
    """
    _require_positive(photons=photons)
    reason = beyond_quantum_limit(optics)
    if reason:
        raise EvaluationError(f"{reason}: no quantum limit is known here; take that out")
    count, heights = np.broadcast_arrays(np.atleast_1d(_floats(photons)), _floats(z_nm))
    objective = objective_of(optics)
    q, weight = _radial_nodes(objective)
    densities = _densities(optics, objective, q) * weight
    bounds = np.zeros(count.size, POSITION_DTYPE)
    for row, (light, height) in enumerate(zip(count.flat, heights.flat, strict=True)):
        lateral, axial = _quantum_information(objective, q, densities, float(height))
        bounds["x_nm"][row] = bounds["y_nm"][row] = 1.0 / np.sqrt(light * lateral)
        bounds["z_nm"][row] = 1.0 / np.sqrt(light * axial)
    return bounds


def beyond_quantum_limit(optics: Any) -> str:
    """Why the quantum limit does not describe these optics, or nothing where it does.

    It holds for light of one wavelength that leaves the whole pupil, whatever shifts its phase.
    """
    for name in ("measured", "amplitude_map", "slm"):
        if getattr(optics, name) is not None:
            return f"optics.{name} may take light out of the pupil in ways of its own"
    if optics.modality.kind != "widefield":
        return f"modality {optics.modality.kind!r} also shapes the excitation"
    if optics.spectrum is not None:
        return "optics.spectrum mixes wavelengths"
    if optics.analyser is not None:
        return "optics.analyser takes light out"
    return ""


def _quantum_information(
    objective: Objective, q: Floats, densities: Floats, z_nm: float
) -> tuple[float, float]:
    """Information per photon about x and about z [1/nm^2], from energy densities (dipoles, q)."""
    k = objective.wavenumber_per_nm
    kz = k * interfaces.root(objective.n_sample, q)
    decayed = densities * np.exp(-2.0 * kz.imag * z_nm)
    energy = decayed.sum(axis=1)
    share = energy / energy.sum()
    mean_kz = (decayed @ kz) / energy
    spread = (decayed @ np.abs(kz) ** 2) / energy - np.abs(mean_kz) ** 2
    # p' = p (E_i'/E_i - E'/E), and E_i'/E_i = -2 <Im kz>
    decay = -2.0 * (mean_kz.imag - share @ mean_kz.imag)
    lateral = 4.0 * (share @ ((decayed @ (0.5 * (k * q) ** 2)) / energy))
    return float(lateral), float(4.0 * share @ spread + share @ decay**2)


def _densities(optics: Any, objective: Objective, q: Floats) -> Floats:
    """Energy per pupil area of two transverse dipoles and an axial one, (3, nodes); scalar (1,)."""
    if optics.model == "gibson_lanni":
        return np.ones((1, q.size))
    even, split, axial = (np.abs(part) ** 2 for part in interfaces.dipole_amplitudes(objective, q))
    return np.array((even + split, even + split, axial))


def _radial_nodes(objective: Objective) -> tuple[Floats, Floats]:
    """Pupil radii [NA] and weights of area up to a constant, split at the critical circle.

    ``q = edge sin(t)`` takes the square root off the end of each piece.
    """
    angle, step = legendre_between(0.0, 0.5 * math.pi, NODES)
    inner = min(objective.na, objective.n_sample)
    q, dq = inner * np.sin(angle), inner * np.cos(angle) * step
    if objective.supercritical:
        gap = np.arccosh(objective.na / inner)
        rise, growth = legendre_between(0.0, gap, NODES)
        q = np.concatenate((q, inner * np.cosh(rise)))
        dq = np.concatenate((dq, inner * np.sinh(rise) * growth))
    return q, dq * q


def _spot(
    sigma_nm: npt.ArrayLike,
    photons: npt.ArrayLike,
    background_photons: npt.ArrayLike,
    pixel_nm: npt.ArrayLike,
) -> tuple[Floats, Floats]:
    """Variance sigma_a^2 [nm^2] of the pixelated spot and Mortensen's tau [1]."""
    _require_positive(sigma_nm=sigma_nm, photons=photons)
    _require_positive(allow_zero=True, background_photons=background_photons, pixel_nm=pixel_nm)
    sigma, light, level, pixel = np.broadcast_arrays(
        *(_floats(value) for value in (sigma_nm, photons, background_photons, pixel_nm))
    )
    if np.any((level > 0) & (pixel == 0)):
        raise EvaluationError("background_photons are per pixel: give pixel_nm above 0")
    variance = sigma**2 + pixel**2 / 12.0
    per_area = np.divide(level, pixel**2, out=np.zeros_like(variance), where=pixel > 0)
    return variance, 2.0 * np.pi * variance * per_area / light


def _floats(value: npt.ArrayLike) -> Floats:
    return np.asarray(value, dtype=np.float64)


def _require_positive(*, allow_zero: bool = False, **values: npt.ArrayLike) -> None:
    """Raise EvaluationError unless every number is finite and above 0 (or at least 0)."""
    for name, value in values.items():
        numbers = _floats(value)
        right = np.isfinite(numbers) & ((numbers >= 0) if allow_zero else (numbers > 0))
        if not np.all(right):
            least = "at least 0" if allow_zero else "above 0"
            raise EvaluationError(f"{name}={value!r} is not {least}: give a finite number")
