"""From intensity samples to photons per pixel, exactly, for a band-limited image.

The intensity behind an aperture NA holds no spatial frequency above 2 NA / wavelength. Samples
closer than the Nyquist distance therefore determine it everywhere, and its integral over a camera
pixel is a short weighted sum of them: the weights are a discrete filter whose response equals
that of a pixel, ``pixel_nm**2 sinc``, throughout the band. No oversampling to a limit, no point
sampling.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

from simscope.errors import OpticsError

FloatArray = NDArray[np.float64]

HIGHEST_BAND_SHARE = 0.6
"""Whole numbers of samples per pixel: the band fills at most this share of the Nyquist band."""

HIGHEST_FILTERED_SHARE = 0.7
"""The same where samples only feed the pixel filter, which grows as the band nears Nyquist's."""

LONGEST_FILTER = 40
"""Filter taps on each side at which a design counts as failed."""

WIDTHS_OF_BLUR = 7.0
"""Standard deviations of a blur to each side that its filter spans, where it may be sampled."""

LARGEST_GAIN = 2.0
"""Sum of a filter's taps without their signs, per pixel, beyond which it is not used.

Short filters on fine samples can meet the response within the band by huge taps of either sign,
which blow up what errors of the samples lie beyond the band.
"""


@dataclass(frozen=True)
class SampleGrid:
    """Where one image axis is sampled, and what turns the samples into pixel integrals.

    ``positions_nm``: (samples,) symmetric about 0, ``spacing_nm`` apart. ``weights``: (targets,
    samples) [nm], so that ``weights @ intensity`` integrates over each target pixel.
    """

    spacing_nm: float
    positions_nm: FloatArray
    weights: FloatArray


@dataclass(frozen=True)
class Window:
    """What of an image is wanted: pixels, their size, and what is folded into them.

    ``shape``: (y, x) counted in pixels of ``pixel_nm``, centred on the emitter's resting place.
    ``per_pixel``: pixel integrals at sub-pixel shifts, ``shape`` then counts those.
    ``points``: intensities [1/nm^2] at points ``pixel_nm`` apart instead of integrals.
    ``blur_nm``: standard deviation of a Gaussian blur on top.
    """

    shape: tuple[int, int]
    pixel_nm: float
    per_pixel: int | None = None
    points: bool = False
    blur_nm: float = 0.0

    def grids(self, band_limit_per_nm: float, accuracy: float) -> tuple[SampleGrid, SampleGrid]:
        """Sample grids along y and x for an intensity without frequencies beyond the band limit."""
        y, x = (self._grid(count, band_limit_per_nm, accuracy) for count in self.shape)
        return y, x

    def _grid(self, count: int, band_limit_per_nm: float, accuracy: float) -> SampleGrid:
        if self.points:
            places = np.arange(count, dtype=np.float64) - 0.5 * (count - 1)
            positions_nm: FloatArray = places * self.pixel_nm
            weights: FloatArray = np.eye(count)
            return SampleGrid(self.pixel_nm, positions_nm, weights)
        if self.per_pixel is None:
            return pixel_grid(count, self.pixel_nm, band_limit_per_nm, accuracy, self.blur_nm)
        return fine_grid(
            count, self.per_pixel, self.pixel_nm, band_limit_per_nm, accuracy, self.blur_nm
        )


def samples_per_pixel(pixel_nm: float, band_limit_per_nm: float) -> int:
    """Samples along one pixel that keep the band below its share of the Nyquist band."""
    return max(1, math.ceil(2.0 * band_limit_per_nm * pixel_nm / HIGHEST_BAND_SHARE))


@lru_cache(maxsize=256)
def pixel_filter(
    pixel_nm: float,
    spacing_nm: float,
    band_limit_per_nm: float,
    accuracy: float,
    blur_nm: float = 0.0,
    offset: float = 0.0,
) -> FloatArray:
    """Weights [nm] that integrate a band-limited function over one pixel, shape (taps,).

    They belong to samples ``spacing_nm`` apart, as many on each side of the pixel's middle, which
    lies ``offset`` (0 on a sample, or less than 1) beyond the last one before it. It is the
    shortest such filter whose response differs from the pixel's, pixel_nm sinc(pixel_nm f), times a
    Gaussian blur's, by less than ``accuracy`` of its value at f = 0 anywhere in the band. Raises
    OpticsError if none is short enough.
    """
    frequency = band_limit_per_nm * np.sin(np.linspace(0.0, 0.5 * np.pi, 200))
    wanted = np.sinc(pixel_nm * frequency)
    wanted *= np.exp(-2.0 * (np.pi * blur_nm * frequency) ** 2)
    wanted = np.concatenate((wanted, np.zeros_like(wanted)))
    blurred = math.ceil((0.5 * pixel_nm + WIDTHS_OF_BLUR * blur_nm) / spacing_nm)
    sampled = [(blurred, True)] if blur_nm > 0.0 else []
    for half, is_sampled in (*sampled, *((n, False) for n in range(1, LONGEST_FILTER + 1))):
        first = -half if offset == 0.0 else 1 - half
        places: FloatArray = np.arange(first, half + 1).astype(np.float64) - offset
        turns = 2.0 * np.pi * spacing_nm * np.outer(frequency, places)
        response = np.concatenate((np.cos(turns), np.sin(turns)))
        if is_sampled:
            taps = spacing_nm * _blurred_pixel(spacing_nm * places, pixel_nm, blur_nm)
        else:
            taps = np.linalg.lstsq(response, wanted, rcond=0.01 * accuracy)[0]
        missed = np.abs(response @ taps - wanted).max()
        if missed < accuracy and np.abs(taps).sum() < LARGEST_GAIN:
            weights = pixel_nm * taps
            weights.flags.writeable = False
            return weights
    raise OpticsError(
        f"pixel_nm={pixel_nm:g} is too wide to integrate over to the accuracy asked for, with "
        f"filters of up to {2 * LONGEST_FILTER + 1} samples: give smaller pixels and add them up"
    )


def _blurred_pixel(x_nm: FloatArray, pixel_nm: float, blur_nm: float) -> FloatArray:
    """A pixel of unit area blurred by a Gaussian, at ``x_nm`` [1/nm], same shape."""
    right, left = (x_nm + 0.5 * pixel_nm) / blur_nm, (x_nm - 0.5 * pixel_nm) / blur_nm
    return np.asarray((ndtr(right) - ndtr(left)) / pixel_nm)


def pixel_spacing_nm(pixel_nm: float, band_limit_per_nm: float) -> float:
    """Distance of samples [nm], half a whole number of them to a pixel, that resolves the band."""
    halves = math.ceil(2.0 * 2.0 * band_limit_per_nm * pixel_nm / HIGHEST_FILTERED_SHARE)
    return 2.0 * pixel_nm / max(2, halves)


def pixel_grid(
    count: int,
    pixel_nm: float,
    band_limit_per_nm: float,
    accuracy: float,
    blur_nm: float = 0.0,
) -> SampleGrid:
    """Sample grid for ``count`` pixels side by side, centred on 0."""
    spacing_nm = pixel_spacing_nm(pixel_nm, band_limit_per_nm)
    return _grid(count, pixel_nm, spacing_nm, pixel_nm, band_limit_per_nm, accuracy, blur_nm)


def fine_grid(
    count: int,
    per_pixel: int,
    pixel_nm: float,
    band_limit_per_nm: float,
    accuracy: float,
    blur_nm: float = 0.0,
) -> SampleGrid:
    """Sample grid for ``count`` overlapping pixels ``pixel_nm / per_pixel`` apart, centred on 0.

    This is what a table of pixel-integrated values at sub-pixel shifts needs. Raises OpticsError
    if the shifts are too coarse for the band.
    """
    if per_pixel < samples_per_pixel(pixel_nm, band_limit_per_nm):
        raise OpticsError(
            f"{per_pixel} samples per pixel of {pixel_nm:g} nm undersample the image: use "
            f"{samples_per_pixel(pixel_nm, band_limit_per_nm)}"
        )
    pitch_nm = pixel_nm / per_pixel
    return _grid(count, pitch_nm, pitch_nm, pixel_nm, band_limit_per_nm, accuracy, blur_nm)


def _grid(
    count: int,
    pitch_nm: float,
    spacing_nm: float,
    pixel_nm: float,
    band_limit_per_nm: float,
    accuracy: float,
    blur_nm: float,
) -> SampleGrid:
    """Samples ``spacing_nm`` apart for ``count`` pixels whose middles are ``pitch_nm`` apart."""
    middles = (np.arange(count) - 0.5 * (count - 1)) * (pitch_nm / spacing_nm)
    # samples on whole multiples of the spacing, or halfway: the choice with pixels on samples
    shift = 0.5 * (round(2.0 * float(middles[0])) % 2)
    before = np.floor(middles - shift + 1e-6)
    offsets = np.round(middles - shift - before, 6)
    filters = {
        offset: pixel_filter(pixel_nm, spacing_nm, band_limit_per_nm, accuracy, blur_nm, offset)
        for offset in map(float, np.unique(offsets))
    }
    reach = max(taps.size // 2 for taps in filters.values())
    lowest = int(before[0]) - reach
    lowest = min(lowest, -int(before[-1] + reach + 1) - round(2 * shift))
    samples = -2 * lowest + 1 - round(2 * shift)
    weights: FloatArray = np.zeros((count, samples))
    for target, (place, offset) in enumerate(zip(before, offsets, strict=True)):
        taps = filters[float(offset)]
        first = int(place) - lowest - (taps.size - 1) // 2
        weights[target, first : first + taps.size] = taps
    used = np.flatnonzero(weights.any(axis=0))
    spare = min(used[0], samples - 1 - used[-1])
    weights = np.ascontiguousarray(weights[:, spare : samples - spare])
    places = np.arange(weights.shape[1], dtype=np.float64) - 0.5 * (weights.shape[1] - 1)
    positions_nm: FloatArray = places * spacing_nm
    return SampleGrid(spacing_nm, positions_nm, weights)
