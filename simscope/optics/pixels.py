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

import numpy as np
from numpy.typing import NDArray

from simscope.errors import OpticsError

FloatArray = NDArray[np.float64]

HIGHEST_BAND_SHARE = 0.6
"""Samples are taken so densely that the band fills at most this share of the Nyquist band."""

LONGEST_FILTER = 40
"""Filter taps on each side at which a design counts as failed."""


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
            positions_nm = (np.arange(count) - 0.5 * (count - 1)) * self.pixel_nm
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


def pixel_filter(
    pixel_nm: float,
    spacing_nm: float,
    band_limit_per_nm: float,
    accuracy: float,
    blur_nm: float = 0.0,
) -> FloatArray:
    """Weights [nm] that integrate a band-limited function over one pixel, shape (2k+1,).

    The shortest symmetric filter on samples ``spacing_nm`` apart whose response differs from the
    pixel's, pixel_nm sinc(pixel_nm f), times a Gaussian blur's, by less than ``accuracy`` of its value at f = 0 anywhere
    in the band. Raises OpticsError if none is short enough.
    """
    frequency = band_limit_per_nm * np.sin(np.linspace(0.0, 0.5 * np.pi, 200))
    wanted = np.sinc(pixel_nm * frequency)
    wanted *= np.exp(-2.0 * (np.pi * blur_nm * frequency) ** 2)
    for half in range(1, LONGEST_FILTER + 1):
        turns = 2.0 * np.pi * spacing_nm * np.outer(frequency, np.arange(half + 1))
        basis = np.cos(turns) * np.where(np.arange(half + 1) == 0, 1.0, 2.0)
        taps = np.linalg.lstsq(basis, wanted, rcond=1e-14)[0]
        if np.abs(basis @ taps - wanted).max() < accuracy:
            return pixel_nm * np.concatenate((taps[:0:-1], taps))
    raise OpticsError(
        f"no filter of {2 * LONGEST_FILTER + 1} taps integrates pixels of {pixel_nm:g} nm to "
        f"accuracy={accuracy:g}: ask for a lower accuracy (a larger number)"
    )


def pixel_grid(
    count: int,
    pixel_nm: float,
    band_limit_per_nm: float,
    accuracy: float,
    blur_nm: float = 0.0,
) -> SampleGrid:
    """Sample grid for ``count`` pixels side by side, centred on 0."""
    return _grid(
        count,
        samples_per_pixel(pixel_nm, band_limit_per_nm),
        pixel_nm,
        band_limit_per_nm,
        accuracy,
        blur_nm,
        every_sample=False,
    )


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
    return _grid(
        count, per_pixel, pixel_nm, band_limit_per_nm, accuracy, blur_nm, every_sample=True
    )


def _grid(
    count: int,
    per_pixel: int,
    pixel_nm: float,
    band_limit_per_nm: float,
    accuracy: float,
    blur_nm: float,
    *,
    every_sample: bool,
) -> SampleGrid:
    spacing_nm = pixel_nm / per_pixel
    taps = pixel_filter(pixel_nm, spacing_nm, band_limit_per_nm, accuracy, blur_nm)
    stride = 1 if every_sample else per_pixel
    samples = (count - 1) * stride + taps.size
    weights: FloatArray = np.zeros((count, samples))
    for target in range(count):
        weights[target, target * stride : target * stride + taps.size] = taps
    positions_nm = np.linspace(-0.5, 0.5, samples) * ((samples - 1) * spacing_nm)
    return SampleGrid(spacing_nm, positions_nm, weights)
