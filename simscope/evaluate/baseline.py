"""What needs no training: local maxima and centroids, and predictors that never look.

A network is worth its training by how far it is above these. The spot finder is the usual first
step of localisation software: smooth, take maxima well above the noise, and the centroid around
each. It needs the images in photons, and it fails where spots overlap.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from simscope.errors import EvaluationError
from simscope.evaluate.tables import Floats

SPOT_DTYPE = np.dtype(
    [("frame", np.int64)] + [(n, np.float64) for n in ("x_nm", "y_nm", "photons", "contrast")]
)
"""What :func:`local_maxima` finds; ``contrast`` is the height of the maximum in noise sigmas."""
LARGEST_SMOOTHING_PX = 20.0
PIXELS_AT_ONCE = 1 << 22


def local_maxima(
    photons: npt.ArrayLike,
    pixel_nm: float,
    *,
    threshold: float = 5.0,
    smoothing_px: float = 1.0,
    window_px: int = 5,
    background_photons: float | None = None,
    noise_photons: float | None = None,
) -> npt.NDArray[Any]:
    """Spots (``SPOT_DTYPE``, sorted by frame) in images [photons/px] ``(frames, y, x)``.

    Each frame is smoothed by a Gaussian of standard deviation ``smoothing_px`` (0 for none, better
    where spots are dense); maxima of 3 x 3 pixels more than
    ``threshold`` standard deviations of the smoothed noise above the background are spots. Their
    place is the centroid, their light the sum, of ``window_px`` x ``window_px`` pixels of what is
    above the background.

    ``background_photons`` [photons/px] and ``noise_photons``, the standard deviation of an empty
    pixel, are estimated in each frame unless given: by the median, and by the spread of the pixels
    below it, which spots do not reach unless they cover half the frame. Raising the threshold later
    is the same as keeping rows of ``contrast`` above it.

    Raises
    ------
    EvaluationError
        If images are not ``(frames, y, x)`` and finite, or a number is out of its range.
    """
    images = np.asarray(photons)
    if images.ndim != 3 or not np.all(np.isfinite(images)):
        raise EvaluationError(
            f"images of shape {images.shape} are not finite (frames, y, x): give photons a pixel"
        )
    _require_above_zero(pixel_nm=pixel_nm, threshold=threshold)
    if noise_photons is not None:
        _require_above_zero(noise_photons=noise_photons)
    if window_px < 1 or window_px % 2 == 0:
        raise EvaluationError(f"window_px={window_px} is not odd and above 0: use 3, 5 or 7")
    noise_left = _noise_left(smoothing_px)
    tables = [np.zeros(0, SPOT_DTYPE)]
    for first, block in _blocks(images):
        dark, noise = _levels(block, background_photons, noise_photons)
        lifted = block - dark
        contrast = ndimage.gaussian_filter(lifted, (0, smoothing_px, smoothing_px))
        contrast /= noise * noise_left
        highest = ndimage.maximum_filter(contrast, (1, 3, 3), mode="nearest")
        frame, row, column = np.nonzero((contrast == highest) & (contrast > threshold))
        table = _centroids(lifted, frame, row, column, window_px, pixel_nm)
        table["contrast"] = contrast[frame, row, column]
        table["frame"] = frame + first
        tables.append(table)
    return np.concatenate(tables)


def found_nothing() -> npt.NDArray[Any]:
    """The table of the localiser that never finds anything: no rows of ``SPOT_DTYPE``."""
    return np.zeros(0, SPOT_DTYPE)


def mean_prediction(training: npt.ArrayLike, samples: int) -> Floats:
    """What the predictor says that never looks: the mean of the training values, every time.

    ``training`` is ``(n, parameters)``, the result ``(samples, parameters)``.

    Raises
    ------
    EvaluationError
        If there are no training values.
    """
    values = np.asarray(training, np.float64)
    if values.ndim != 2 or not len(values):
        raise EvaluationError(
            f"training values of shape {values.shape} have no mean: give (samples, parameters)"
        )
    return np.tile(values.mean(axis=0), (samples, 1))


def _blocks(images: npt.NDArray[Any]) -> Iterator[tuple[int, Floats]]:
    """Whole frames at a time, in float64, with the number of the first."""
    pixels = max(int(np.prod(images.shape[1:])), 1)
    step = max(PIXELS_AT_ONCE // pixels, 1)
    for first in range(0, len(images), step):
        yield first, images[first : first + step].astype(np.float64)


def _levels(block: Floats, background: float | None, noise: float | None) -> tuple[Floats, Floats]:
    """Background and noise [photons/px] of each frame, ``(frames, 1, 1)``."""
    level = np.median(block, axis=(1, 2), keepdims=True)
    dark = level if background is None else np.full_like(level, background)
    if noise is not None:
        return dark, np.full_like(level, noise)
    below = np.where(block <= level, level - block, np.nan)
    spread = np.sqrt(np.nanmean(below**2, axis=(1, 2), keepdims=True))
    return dark, np.maximum(spread, np.finfo(np.float32).tiny)


def _noise_left(smoothing_px: float) -> float:
    """Share of the standard deviation of white noise that the Gaussian filter leaves."""
    if not (np.isfinite(smoothing_px) and 0 <= smoothing_px <= LARGEST_SMOOTHING_PX):
        raise EvaluationError(
            f"smoothing_px={smoothing_px} is not in [0, {LARGEST_SMOOTHING_PX:g}]: use about 1"
        )
    point = np.zeros(2 * int(4 * smoothing_px + 0.5) + 3)
    point[len(point) // 2] = 1.0
    return float(np.sum(ndimage.gaussian_filter(point, smoothing_px) ** 2))


def _centroids(
    lifted: Floats,
    frame: npt.NDArray[np.intp],
    row: npt.NDArray[np.intp],
    column: npt.NDArray[np.intp],
    window_px: int,
    pixel_nm: float,
) -> npt.NDArray[Any]:
    """Spots with place and light from the windows around their pixels, cut at the border."""
    reach = window_px // 2
    step = np.arange(-reach, reach + 1)
    padded = np.pad(np.maximum(lifted, 0), ((0, 0), (reach, reach), (reach, reach)))
    rows, columns = (place[:, None] + reach + step for place in (row, column))
    windows = padded[frame[:, None, None], rows[:, :, None], columns[:, None, :]]
    light = windows.sum(axis=(1, 2))
    table = np.zeros(len(frame), SPOT_DTYPE)
    for name, place, axis in (("x_nm", column, 1), ("y_nm", row, 2)):
        moment = windows.sum(axis=axis) @ step
        shift = np.divide(moment, light, out=np.zeros_like(light), where=light > 0)
        table[name] = (place + 0.5 + shift) * pixel_nm
    table["photons"] = light
    return table


def _require_above_zero(**numbers: float) -> None:
    for name, value in numbers.items():
        if not (np.isfinite(value) and value > 0):
            raise EvaluationError(f"{name}={value} is not above 0: raise it")
