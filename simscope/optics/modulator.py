"""All that stands in the pupil: mask, modulator, wavefront map and amplitude map, in their order.

A spatial light modulator shows the mask in square pixels: the phase at each pixel's middle, wrapped
to one turn and rounded to its grey levels, both at the design wavelength. At other wavelengths the
phase shown scales as 1/wavelength, so wraps stop being whole turns. A share of the light keeps its
phase (front reflection, gaps between pixels) and adds coherently. The gaps' own diffraction orders
and cross-talk between pixels are left out.

The quadrature has to know where all this is not smooth: ``pupil_roughness`` says it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from simscope.errors import OpticsError
from simscope.optics.interfaces import Objective
from simscope.optics.maps import amplitude_map, source_values, wavefront_map_nm
from simscope.optics.masks import ARRAYS, design_phase, dispersion, helix_radii_na, mask_phasor
from simscope.recipe import AmplitudeMap, WavefrontMap

FloatArray = NDArray[np.float64]
ComplexArray = NDArray[np.complex128]

JUMP_ACCURACY = 1e-4
"""Best accuracy aimed at for pupils that jump between pixels, as a share of the peak."""

MOST_PIXELS_ACROSS = 320
"""Pixels across the pupil beyond which a mask or map counts as unresolvable."""


@dataclass(frozen=True)
class Roughness:
    """Where the pupil function is not smooth, for the quadrature: all empty if it is everywhere.

    ``singular_centre``: the phase turns around the axis. ``radii_na``: circles where it jumps.
    ``lines_na``: positive coordinates of the lines in kx and ky (both, mirrored) between which it
    is a polynomial. ``jumps``: whether it jumps across those lines instead of having a kink, which
    limits the accuracy to ``JUMP_ACCURACY``. ``nodes_a_piece``: quadrature nodes that every piece
    between them gets at least.
    """

    singular_centre: bool = False
    radii_na: tuple[float, ...] = ()
    lines_na: tuple[float, ...] = ()
    jumps: bool = False
    nodes_a_piece: int = 2

    @property
    def smooth(self) -> bool:
        """Whether the pupil function is smooth everywhere."""
        return self == SMOOTH


SMOOTH = Roughness()


def pupil_transmission(
    optics: Any, objective: Objective, kx: FloatArray, ky: FloatArray
) -> ComplexArray:
    """Transmission of mask, modulator and both maps at pupil points in NA [1], complex.

    Raises OpticsError for arrays that cannot be read or do not cover the pupil.
    """
    path_nm = wavefront_map_nm(optics.wavefront_map, objective, kx, ky)
    amplitude = amplitude_map(optics.amplitude_map, objective, kx, ky)
    shown = shown_phasor(optics, objective, kx, ky)
    return shown * amplitude * np.exp(1j * objective.wavenumber_per_nm * path_nm)


def shown_phasor(optics: Any, objective: Objective, kx: FloatArray, ky: FloatArray) -> ComplexArray:
    """Transmission of the mask, on its modulator if there is one, at pupil points in NA [1]."""
    slm = optics.slm
    if slm is None or optics.mask is None:
        return mask_phasor(optics.mask, kx, ky, objective=objective)
    pitch, offset = slm_grid(optics, objective)
    x, y = (_pixel_middle(k, pitch, offset) for k in (kx, ky))
    phase = shown_phase(design_phase(optics.mask, x, y, objective=objective), slm)
    modulated = np.exp(1j * dispersion(optics.mask, objective) * phase)
    return math.sqrt(1.0 - slm.unmodulated) * modulated + math.sqrt(slm.unmodulated)


def shown_phase(phase: FloatArray, slm: Any) -> FloatArray:
    """Phase a modulator shows at the design wavelength [rad]: rounded to its levels, wrapped."""
    if slm.levels is not None:
        step = 2.0 * np.pi / slm.levels
        phase = step * np.round(phase / step)
    return np.mod(phase, 2.0 * np.pi) if slm.wrapped else phase


def slm_grid(optics: Any, objective: Objective) -> tuple[float, float]:
    """Pitch of the modulator's pixels [NA] and the place of one pixel edge [pitch].

    An odd number of pixels, or an odd array shown pixel by pixel, has a pixel on the axis; else an
    edge lies there. Raises OpticsError for pixels too fine to be resolved.
    """
    slm = optics.slm
    if slm.pixels_across is not None:
        return 2.0 * objective.na / slm.pixels_across, 0.5 * (slm.pixels_across % 2)
    odd = optics.mask.kind in ARRAYS and source_values(optics.mask, "mask").shape[0] % 2
    return float(slm.na_per_pixel), 0.5 * odd


def _pixel_middle(k: FloatArray, pitch: float, offset: float) -> FloatArray:
    return pitch * (np.floor(k / pitch - offset) + 0.5 + offset)


def pupil_roughness(optics: Any, objective: Objective) -> Roughness:
    """Where mask, modulator and maps are not smooth.

    Raises OpticsError if their pixels are too fine to be resolved, with their number.
    """
    lines: set[float] = set()
    for source in (optics.wavefront_map, optics.amplitude_map):
        lines |= _array_lines(source, objective)
    mask = optics.mask
    if mask is None:
        return Roughness(lines_na=tuple(sorted(lines)))
    if optics.slm is not None:
        lines |= _lines(*slm_grid(optics, objective), objective, "slm")
        return Roughness(lines_na=tuple(sorted(lines)), jumps=True)
    if mask.kind in ARRAYS:
        lines |= _array_lines(mask, objective)
    helix = mask.kind == "double_helix"
    turns = helix or (mask.kind == "vortex" and mask.charge != 0)
    return Roughness(
        singular_centre=turns,
        radii_na=helix_radii_na(mask, objective) if helix else (),
        lines_na=tuple(sorted(lines)),
    )


def _array_lines(source: Any, objective: Objective) -> set[float]:
    """Lines through the pixel middles, where the splines between them meet."""
    if source is None:
        return set()
    size = source_values(source, source_name(source)).shape[0]
    return _lines(source.na_per_pixel, 0.5 * (1 - size % 2), objective, source_name(source))


def source_name(source: Any) -> str:
    """Name of the recipe's group that a map or array mask stands in."""
    if isinstance(source, WavefrontMap):
        return "wavefront_map"
    return "amplitude_map" if isinstance(source, AmplitudeMap) else "mask"


def _lines(pitch: float, offset: float, objective: Objective, what: str) -> set[float]:
    """Positive places of a grid's lines within the pupil [NA]; one lies at ``offset`` pitches."""
    across = 2.0 * objective.na / pitch
    if across > MOST_PIXELS_ACROSS:
        raise OpticsError(
            f"{what} has {across:.0f} pixels across the pupil, more than the {MOST_PIXELS_ACROSS} "
            "that can be resolved: bin it, or leave the pixels out, as such fine ones do not show"
        )
    places = pitch * (np.arange(math.ceil(0.5 * across) + 1) + offset)
    return {float(place) for place in places if 0.0 < place < objective.na}


def make_wavefront_map(
    values: ArrayLike,
    na_per_pixel: float,
    *,
    unit: Any = "nm",
    design_wavelength_nm: float | None = None,
) -> WavefrontMap:
    """Wavefront map for a recipe from an unwrapped array in nm, rad or waves, lossless in YAML.

    ``[row = ky, col = kx]``, one pixel spans ``na_per_pixel``. Raises RecipeError unless it is
    a finite real square of at most 256 pixels across.
    """
    return WavefrontMap(
        values=values,
        na_per_pixel=na_per_pixel,
        unit=unit,
        design_wavelength_nm=design_wavelength_nm,
    )


def make_amplitude_map(values: ArrayLike, na_per_pixel: float) -> AmplitudeMap:
    """Amplitude map for a recipe from an array, 0 or more, lossless in YAML.

    ``[row = ky, col = kx]``, one pixel spans ``na_per_pixel``. Raises RecipeError unless it is
    a finite real square of at most 256 pixels across.
    """
    return AmplitudeMap(
        values=values,
        na_per_pixel=na_per_pixel,
    )
