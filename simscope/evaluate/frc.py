"""Resolution of a picture by Fourier ring correlation.

Two pictures of one scene with noise of their own agree at low spatial frequencies and not at high
ones. Their correlation over rings of constant frequency in Fourier space,

    FRC(q) = sum F1 F2* / sqrt(sum |F1|^2 sum |F2|^2) ,

falls below 1/7 at the resolution 1/q (Nieuwenhuizen et al. 2013, *Nat. Methods* 10:557; Banterle et
al. 2013, *J. Struct. Biol.* 183:363). A table of localisations is split in two and each half drawn
as a histogram. Molecules that appear in many frames stand in both halves if rows or alternate
frames are split, which the curve takes for resolution; halves of consecutive frames
(``split="halves"``) share few of them.

The correlation says how well a picture repeats, not whether it is true: errors that both halves
share, as hallucinated structure is, do not lower it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy.fft
from scipy import ndimage

from simscope.errors import EvaluationError, did_you_mean
from simscope.evaluate.tables import Floats, read_columns
from simscope.keys import Key

THRESHOLD = 1 / 7
TAPER = 0.25
"""Share of each side over which a picture fades out, half at either end; edges would correlate."""
SMOOTHING_RINGS = 2.0
"""Standard deviation of the smoothing of the curve before its crossing is sought, in rings."""
SPLITS = ("random", "alternate", "halves")
SPLIT = Key(0).child("frc")
MOST_PIXELS = 1 << 25
USUAL_SIDE, FINEST_NM = 4096, 5.0
"""Pixels along a picture of localisations, and the pixel below which finer ones tell no more."""


@dataclass(frozen=True)
class RingCorrelation:
    """``correlation`` ``(rings,)`` at ``frequency_per_nm`` ``(rings,)``, and where it is lost.

    ``resolution_nm`` is NaN if the curve never falls below the threshold: the pixels are too
    coarse, or the pictures share their noise.
    """

    frequency_per_nm: Floats = field(repr=False)
    correlation: Floats = field(repr=False)
    resolution_nm: float

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers for JSON, None where there is no number."""
        known = not np.isnan(self.resolution_nm)
        return {
            "resolution_nm": self.resolution_nm if known else None,
            "frequency_per_nm": self.frequency_per_nm.tolist(),
            "correlation": [None if np.isnan(v) else float(v) for v in self.correlation],
        }


def ring_correlation(
    first: npt.ArrayLike, second: npt.ArrayLike, pixel_nm: float, threshold: float = THRESHOLD
) -> RingCorrelation:
    """Fourier ring correlation of two pictures ``(y, x)`` of one scene.

    Means are taken off and edges faded out. The resolution is where the curve, smoothed over a few
    rings, first falls below ``threshold``.

    Raises
    ------
    EvaluationError
        If the pictures differ in shape, are smaller than 16 pixels, too large, flat or not finite,
        or a number is out of its range.
    """
    pictures = _pictures(first, second)
    if not (np.isfinite(pixel_nm) and pixel_nm > 0 and 0 < threshold < 1):
        raise EvaluationError(
            f"pixel_nm={pixel_nm} is not above 0 or threshold={threshold} not in (0, 1)"
        )
    shape = pictures[0].shape
    left, right = (scipy.fft.rfft2(_tapered(picture)) for picture in pictures)
    cross, power_left, power_right = _ring_sums(left, right, shape)
    power = np.sqrt(power_left * power_right)
    correlation = np.divide(cross, power, out=np.full_like(cross, np.nan), where=power > 0)
    frequency = np.arange(len(cross)) / (min(shape) * pixel_nm)
    return RingCorrelation(
        frequency[1:], correlation[1:], _resolution(frequency[1:], correlation[1:], threshold)
    )


def localization_resolution(
    table: Any,
    *,
    pixel_nm: float | None = None,
    split: str = "random",
    key: Key = SPLIT,
    threshold: float = THRESHOLD,
) -> RingCorrelation:
    """Fourier ring correlation of a table of localisations, split in two and drawn as histograms.

    ``table`` has ``x_nm, y_nm``, and ``frame`` for the splits by frame: ``random`` sends each row
    by a coin, ``alternate`` even and odd frames, ``halves`` the first and second half of the rows
    in order of frames. ``pixel_nm`` should be a quarter of the resolution or less; if None, 4096
    pixels hold the table, or more of 5 nm.

    Raises
    ------
    EvaluationError
        As :func:`ring_correlation`, or if the split is not known or leaves a half empty.
    """
    if split not in SPLITS:
        hint = did_you_mean(split, SPLITS) or f"known are {', '.join(SPLITS)}"
        raise EvaluationError(f"split={split!r} is not known; {hint}")
    names = ("x_nm", "y_nm") if split == "random" else ("x_nm", "y_nm", "frame")
    columns = read_columns(table, names, "table")
    second = _in_second_half(columns, split, key)
    if not (second.any() and not second.all()):
        raise EvaluationError(
            f"{len(second)} rows split by {split!r} leave an empty half: give more rows or frames"
        )
    place = [columns[axis] - columns[axis].min() for axis in ("y_nm", "x_nm")]
    width_nm = max(float(axis.max()) for axis in place)
    if pixel_nm is None:
        pixel_nm = max(width_nm / USUAL_SIDE, FINEST_NM)
    _require_picture(width_nm, pixel_nm)
    left, right = (
        _histogram([axis[half] for axis in place], width_nm, pixel_nm) for half in (~second, second)
    )
    return ring_correlation(left, right, pixel_nm, threshold)


def _in_second_half(columns: dict[str, Floats], split: str, key: Key) -> npt.NDArray[np.bool_]:
    rows = len(columns["x_nm"])
    if split == "random":
        coin: npt.NDArray[np.bool_] = key.uniform(np.arange(rows)) < 0.5
        return coin
    if split == "alternate":
        odd: npt.NDArray[np.bool_] = columns["frame"] % 2 == 1
        return odd
    late = np.zeros(rows, np.bool_)
    late[np.argsort(columns["frame"], kind="stable")[rows // 2 :]] = True
    return late


def _require_picture(width_nm: float, pixel_nm: float) -> None:
    if not (np.isfinite(pixel_nm) and pixel_nm > 0):
        raise EvaluationError(f"pixel_nm={pixel_nm} is not above 0: give the pixel of the picture")
    if (width_nm / pixel_nm + 1) ** 2 > MOST_PIXELS:
        raise EvaluationError(
            f"the table is {width_nm / pixel_nm:.0f} pixels of {pixel_nm:g} nm wide, above "
            f"{int(MOST_PIXELS**0.5)}: raise pixel_nm or cut the table"
        )


def _histogram(place_nm: list[Floats], width_nm: float, pixel_nm: float) -> Floats:
    """Counts of places (y, x) from 0 to the width in a square picture."""
    side = int(width_nm / pixel_nm) + 1
    y, x = ((axis / pixel_nm).astype(np.int64) for axis in place_nm)
    return np.bincount(y * side + x, minlength=side * side).reshape(side, side).astype(np.float64)


def _pictures(first: npt.ArrayLike, second: npt.ArrayLike) -> tuple[Floats, Floats]:
    """Both as squares of their shorter side (the middle), float64, once they can be compared."""
    left, right = np.asarray(first, np.float64), np.asarray(second, np.float64)
    if left.ndim != 2 or left.shape != right.shape or min(left.shape) < 16:
        raise EvaluationError(
            f"pictures of {left.shape} and {right.shape} have no rings to compare: give two of the "
            "same shape (y, x), 16 pixels wide or more"
        )
    if left.size > MOST_PIXELS:
        raise EvaluationError(f"{left.size} pixels exceed {MOST_PIXELS}: bin or cut the pictures")
    for picture in (left, right):
        if not np.all(np.isfinite(picture)) or np.ptp(picture) == 0:
            raise EvaluationError("a picture is flat or not finite: it has no structure to compare")
    side = min(left.shape)
    top, beside = ((length - side) // 2 for length in left.shape)
    middle = np.s_[top : top + side, beside : beside + side]
    return left[middle], right[middle]


def _tapered(picture: Floats) -> Floats:
    """The picture without its mean, faded out at the edges."""
    fade = _fade(len(picture))
    tapered: Floats = (picture - picture.mean()) * fade[:, None] * fade
    return tapered


def _fade(side: int) -> Floats:
    """Weights ``(side,)`` of 1 that fall to 0 like a cosine at either end (Tukey's window)."""
    from_edge = np.minimum(np.arange(side), np.arange(side)[::-1]) / (side - 1)
    fade: Floats = 0.5 - 0.5 * np.cos(np.pi * np.minimum(2 * from_edge / TAPER, 1.0))
    return fade


def _ring_sums(
    left: npt.NDArray[np.complex128], right: npt.NDArray[np.complex128], shape: tuple[int, ...]
) -> tuple[Floats, Floats, Floats]:
    """Cross and both powers summed over rings one frequency step wide, up to half the sampling."""
    side, rings = shape[0], shape[0] // 2 + 1
    row = np.minimum(np.arange(side), side - np.arange(side))
    column = np.arange(left.shape[1])
    twice = np.where((column == 0) | (2 * column == side), 1.0, 2.0)  # half the plane is not stored
    sums = np.zeros((3, rings))
    for y in range(side):
        ring = np.rint(np.hypot(row[y], column)).astype(np.int64)
        inside = ring < rings
        one, two, weight = left[y, inside], right[y, inside], twice[inside]
        for total, value in zip(
            sums, ((one * two.conj()).real, np.abs(one) ** 2, np.abs(two) ** 2), strict=True
        ):
            total += np.bincount(ring[inside], weight * value, minlength=rings)
    return sums[0], sums[1], sums[2]


def _resolution(frequency: Floats, correlation: Floats, threshold: float) -> float:
    """Period [nm] at which the smoothed curve first falls below the threshold."""
    smooth = ndimage.gaussian_filter1d(np.nan_to_num(correlation), SMOOTHING_RINGS, mode="nearest")
    below = np.flatnonzero(smooth < threshold)
    if not len(below):
        return float("nan")
    at = int(below[0])
    if at == 0:
        return float(1 / frequency[0])
    high, low = smooth[at - 1], smooth[at]
    share = (high - threshold) / (high - low)
    return float(1 / (frequency[at - 1] + share * (frequency[at] - frequency[at - 1])))
