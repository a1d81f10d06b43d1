"""Phase masks in the pupil: what each adds to the phase of the light, in radians.

Pupil coordinates (kx, ky) are in units of NA: the pupil is the disc of radius NA. A positive
phase that grows with kx moves the image towards +x. Masks are phase only; their phase is in radians
at the design wavelength, and falls as 1/wavelength elsewhere, as a plate's does whose index hardly
changes. ``modulator.py`` shows them on a pixelated modulator.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from simscope.errors import OpticsError, did_you_mean
from simscope.optics import interfaces
from simscope.optics.interfaces import Objective
from simscope.optics.legendre import legendre_between
from simscope.optics.maps import array_phasor, at_points, check_cover, load_array, source_values
from simscope.optics.zernike import zernike
from simscope.recipe import ArrayMask

FloatArray = NDArray[np.float64]
ComplexArray = NDArray[np.complex128]
Modes = tuple[tuple[int, int], ...]
Designs = dict[float, tuple[float, ...]]

TETRAPOD_MODES: Modes = ((2, 2), (4, 2), (6, 2), (8, 2), (6, 6), (8, 6))
"""Zernike modes (n, m) of the Tetrapod: they change sign under a quarter turn of the pupil."""

TETRAPOD_DESIGNS: Designs = {
    3.97: (0.801, 1.332, -0.410, -0.225, -0.449, -0.082),
    7.94: (2.244, 2.384, -0.785, -0.247, -0.803, -0.040),
}
"""Waves of defocus in the axial range -> RMS coefficient of each mode [rad], as found by
``benchmarks/design_tetrapod.py`` for 2 and 4 um at NA 1.45 in water and 670 nm."""

SADDLE_POINT_MODES: Modes = ((2, 2), (4, 2))
"""First and second astigmatism, which make up most of the saddle-point mask."""

SADDLE_POINT_DESIGNS: Designs = {3.97: (0.484, 1.881), 5.955: (0.864, 2.685)}
"""As ``TETRAPOD_DESIGNS``, with the two modes alone, for 2 and 3 um."""


def mask_phasor(mask: Any, kx: FloatArray, ky: FloatArray, *, objective: Objective) -> ComplexArray:
    """Complex transmission of ``mask`` at pupil points [1], shape of ``kx`` and ``ky`` (NA).

    Modulus 1, except between pixels of an array whose phases differ much. ``mask`` is one of the
    recipe's mask models or None. Raises OpticsError if the mask cannot be read, is not a finite
    square, or does not cover the pupil.
    """
    if mask is None:
        return np.ones(np.broadcast_shapes(kx.shape, ky.shape), dtype=np.complex128)
    scale = dispersion(mask, objective)
    if mask.kind in ARRAYS:
        values = scale * source_values(mask, "mask")
        return array_phasor(values, mask.na_per_pixel, kx, ky, na=objective.na)
    return np.exp(1j * scale * design_phase(mask, kx, ky, objective=objective))


def mask_phase(mask: Any, kx: FloatArray, ky: FloatArray, *, objective: Objective) -> FloatArray:
    """Phase of ``mask`` at pupil points [rad], in (-pi, pi]; see ``mask_phasor``."""
    return np.angle(mask_phasor(mask, kx, ky, objective=objective))


def dispersion(mask: Any, objective: Objective) -> float:
    """Phase of a mask at the optics' wavelength over that at its design wavelength [1]."""
    return float((mask.design_wavelength_nm or objective.wavelength_nm) / objective.wavelength_nm)


def design_phase(mask: Any, kx: FloatArray, ky: FloatArray, *, objective: Objective) -> FloatArray:
    """Phase of a mask at its design wavelength [rad], not wrapped, at pupil points in NA.

    For arrays the value of the nearest pixel.
    """
    if mask.kind in ARRAYS:
        values = source_values(mask, "mask")
        check_cover(values, mask.na_per_pixel, objective.na, "mask")
        return at_points(values, mask.na_per_pixel, kx, ky, order=0)
    if mask.kind not in PHASES:
        hint = did_you_mean(mask.kind, PHASES)
        raise OpticsError(f"mask kind {mask.kind!r} is unknown: {hint} kinds are {sorted(PHASES)}")
    x, y = np.broadcast_arrays(kx / objective.na, ky / objective.na)
    return PHASES[mask.kind](mask, at_design(mask, objective), x, y)


def at_design(mask: Any, objective: Objective) -> Objective:
    """The objective at the wavelength that ``mask`` is made for, which fixes the mask's shape."""
    wavelength = mask.design_wavelength_nm or objective.wavelength_nm
    return dataclasses.replace(objective, wavelength_nm=float(wavelength))


def defocus_waves(objective: Objective, z_range_nm: float) -> float:
    """Waves of defocus phase between pupil centre and edge over an axial range in the sample [1].

    Only propagating light counts: the edge is at the sample's index where NA exceeds it.
    """
    return float(z_range_nm * defocus_depth(objective) / objective.wavelength_nm)


def defocus_depth(objective: Objective) -> float:
    """Optical path that the pupil edge loses against the centre per height in the sample [1]."""
    index = objective.n_sample
    return float(index - np.sqrt(max(index**2 - objective.na**2, 0.0)))


def _tetrapod(mask: Any, objective: Objective, x: FloatArray, y: FloatArray) -> FloatArray:
    return tetrapod_phase(defocus_waves(objective, mask.z_range_nm), x, y)


def tetrapod_phase(waves: float, x: FloatArray, y: FloatArray) -> FloatArray:
    """Phase of the Tetrapod [rad] at pupil points in units of the pupil radius.

    ``waves``: defocus in the axial range, see ``defocus_waves``. Our own design with our own model;
    the idea and the cost function are those of Shechtman et al., Phys. Rev. Lett. 113, 133902
    (2014), and Nano Lett. 15, 4194 (2015).
    """
    return modes_phase(TETRAPOD_MODES, designed_rad(TETRAPOD_DESIGNS, waves), x, y)


def _saddle_point(mask: Any, objective: Objective, x: FloatArray, y: FloatArray) -> FloatArray:
    """Saddle-point phase [rad]: as ``tetrapod_phase`` with first and second astigmatism alone.

    Shechtman et al., Phys. Rev. Lett. 113, 133902 (2014); our own design with our own model.
    """
    waves = defocus_waves(objective, mask.z_range_nm)
    return modes_phase(SADDLE_POINT_MODES, designed_rad(SADDLE_POINT_DESIGNS, waves), x, y)


def designed_rad(designs: Designs, waves: float) -> FloatArray:
    """RMS coefficients [rad] for a range of ``waves`` of defocus.

    Each coefficient is interpolated between the designs and grows in proportion beyond them, as
    the defocus to be told apart does.
    """
    known = np.array(sorted(designs))
    per_wave = np.array([np.array(designs[w]) / w for w in known])
    return waves * np.array([np.interp(waves, known, column) for column in per_wave.T])


def modes_phase(modes: Modes, coefficients: FloatArray, x: FloatArray, y: FloatArray) -> FloatArray:
    """Sum of orthonormal Zernike modes at pupil points in units of the pupil radius [rad]."""
    rho, theta = np.hypot(x, y), np.arctan2(y, x)
    phase = np.zeros(rho.shape)
    for (n, m), coefficient in zip(modes, coefficients, strict=True):
        phase += coefficient * zernike(n, m, rho, theta)
    return phase


def _double_helix(mask: Any, objective: Objective, x: FloatArray, y: FloatArray) -> FloatArray:
    """Phase of the double helix [rad]: rings that turn 1, 3, 5, ... times, from inside out.

    Ring l has charge 2l - 1 and its defocus per height lies l - 1/2 steps from that of the centre,
    so height turns every ring's image by the same angle: ``helix_turn_per_nm``.
    Source: Prasad 2013 for one lobe; Berlich and Stallinga 2018 for more. Rings of
    equal steps in sqrt(n^2 - q^2) instead of q^2 keep the rate constant at high NA.
    """
    inner = np.array(helix_radii_na(mask, objective))
    ring = np.searchsorted(inner, objective.na * np.hypot(x, y), side="right")
    return (2.0 * ring.astype(np.float64) + 1.0) * np.arctan2(y, x)


def helix_rings(mask: Any, objective: Objective) -> int:
    """Rings of the double helix: the waves of defocus in its range, so it turns by half at most.

    Etched once, at the design wavelength: other wavelengths see the same rings.
    """
    waves = defocus_waves(at_design(mask, objective), mask.z_range_nm)
    return max(2, math.ceil(waves - 1e-9))


def helix_radii_na(mask: Any, objective: Objective) -> tuple[float, ...]:
    """Radii between the rings of the double helix [NA], rising."""
    rings, index = helix_rings(mask, objective), objective.n_sample
    roots = index - np.arange(1, rings) / rings * defocus_depth(objective)
    return tuple(float(q) for q in np.sqrt(index**2 - roots**2))


def helix_turn_per_nm(mask: Any, objective: Objective) -> float:
    """Angle by which the double helix turns per height, from x towards y [rad/nm].

    The same at all wavelengths: the phases of charge and defocus both fall as 1/wavelength.
    """
    per_ring = defocus_depth(objective) / helix_rings(mask, objective)
    return 0.5 * at_design(mask, objective).wavenumber_per_nm * per_ring


def _vortex(mask: Any, objective: Objective, x: FloatArray, y: FloatArray) -> FloatArray:
    turned: FloatArray = mask.charge * np.arctan2(y, x)
    return turned


def _cubic(mask: Any, objective: Objective, x: FloatArray, y: FloatArray) -> FloatArray:
    return cubic_alpha_rad(mask, objective) * (x**3 + y**3)


def cubic_alpha_rad(mask: Any, objective: Objective) -> float:
    """Strength of the cubic mask [rad at the pupil edge].

    The transfer at frequency u (cutoff 2) keeps its contrast while the defocus at the edge stays
    below 3 alpha (1 - |u|/2): for u = 1 that is 1.5 alpha to each side.
    Source: Dowski and Cathey 1995, condition for the point of stationary phase.
    """
    if mask.alpha_rad is not None:
        return float(mask.alpha_rad)
    z_range_nm = 4000.0 if mask.z_range_nm is None else mask.z_range_nm
    return math.pi * defocus_waves(objective, z_range_nm) / 1.5


def _astigmatism(mask: Any, objective: Objective, x: FloatArray, y: FloatArray) -> FloatArray:
    """Phase of a cylindrical lens [rad]: what defocus by half the range gives, along one axis.

    Above focus defocus adds a phase falling as rho^2; the lens lets it stand along ``angle_deg``
    and cancels it across.
    """
    along = np.arctan2(y, x) - math.radians(mask.angle_deg)
    half = defocus_curvature(objective, 0.5 * mask.z_range_nm)
    return -half * (x**2 + y**2) * np.cos(2.0 * along)


def defocus_curvature(objective: Objective, z_nm: float) -> float:
    """Best-fitting c of ``c rho^2`` to the phase lost with height ``z_nm`` [rad at the edge].

    Least squares over the propagating part of the pupil: the (2, 0) Zernike part of
    k z (n - sqrt(n^2 - q^2)), so that high NA is no worse than it must be.
    """
    edge = min(objective.na, objective.n_sample)
    squared, weight = legendre_between(0.0, 1.0, 40)
    root = interfaces.root(objective.n_sample, edge * np.sqrt(squared)).real
    lost = objective.wavenumber_per_nm * z_nm * (objective.n_sample - root)
    # rho^2 = Z(2, 0) / (2 sqrt 3) + 1/2
    second = (weight * lost * zernike(2, 0, np.sqrt(squared), 0.0)).sum()
    return float(2.0 * math.sqrt(3.0) * second * (objective.na / edge) ** 2)


def _defocus(mask: Any, objective: Objective, x: FloatArray, y: FloatArray) -> FloatArray:
    """Phase of travel of the objective [rad], as ``focus_nm`` adds it in the immersion medium."""
    q = objective.na * np.hypot(x, y)
    root = interfaces.root(objective.n_immersion, q).real - objective.n_immersion
    return -objective.wavenumber_per_nm * mask.defocus_nm * root


Phase = Callable[[Any, Objective, FloatArray, FloatArray], FloatArray]

PHASES: dict[str, Phase] = {
    "tetrapod": _tetrapod,
    "saddle_point": _saddle_point,
    "double_helix": _double_helix,
    "vortex": _vortex,
    "cubic": _cubic,
    "astigmatism": _astigmatism,
    "defocus": _defocus,
}
"""Phase [rad] of each computed mask at pupil points in units of the pupil radius."""

ARRAYS = ("file", "array")


def load_mask(path: str | Path, variable: str | None = None) -> FloatArray:
    """Phase mask from a .npy, .mat or .tif file [rad], square float64 ``[row = ky, col = kx]``.

    ``variable`` names the array in a .mat file; it may be left out if there is only one.
    """
    return load_array(path, variable, what="mask")


def array_mask(
    values: ArrayLike, na_per_pixel: float, *, design_wavelength_nm: float | None = None
) -> ArrayMask:
    """Mask for a recipe from an array of phases [rad], ``[row = ky, col = kx]``, lossless in YAML.

    One pixel spans ``na_per_pixel``; the middle of the array lies on the optical axis. Raises
    RecipeError unless it is a finite real square of at most 256 pixels across.
    """
    return ArrayMask(
        values=values,
        na_per_pixel=na_per_pixel,
        design_wavelength_nm=design_wavelength_nm,
    )
