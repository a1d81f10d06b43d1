"""Averages over small areas of a band-limited image, as short weighted sums of its samples.

Averaging an image over a disc or a square multiplies its spectrum by the area's transform. Within
the image's band that transform is a sum of a few products of a function of fx and one of fy, and
each factor is the response of a short filter on the samples: exact up to a chosen error, with no
finer sampling and no transform of the whole image.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import j1

from simscope.errors import OpticsError
from simscope.optics.pixels import HIGHEST_BAND_SHARE

FloatArray = NDArray[np.float64]
Taps = dict[int, float]

DAMPING = 0.3
"""Weight of the filter's own size in its design, over the accuracy asked for."""

LONGEST_REACH = 60
"""Samples beyond the averaged area at which a filter's design counts as failed."""


def disc_transform(radius_nm: float, frequency: NDArray[np.generic]) -> FloatArray:
    """Transform of the mean over a disc at radial frequencies [cycles/nm], 2 J1(u)/u [1]."""
    u = 2.0 * math.pi * radius_nm * np.asarray(frequency, dtype=np.float64)
    small = u < 1e-4
    return np.where(small, 1.0 - u**2 / 8.0, 2.0 * j1(u) / np.where(small, 1.0, u))


def separable_terms(
    transform: Callable[[FloatArray], FloatArray], frequency: FloatArray, accuracy: float
) -> list[tuple[float, FloatArray]]:
    """Radial transform as sum of sign * factor(fy) * factor(fx), [(sign, (frequencies,))].

    The fewest terms whose sum differs from ``transform(hypot(fy, fx))`` by less than ``accuracy``
    anywhere on the frequencies.
    """
    wanted = transform(np.hypot(frequency[:, None], frequency))
    values, vectors = np.linalg.eigh(wanted)
    order = np.argsort(-np.abs(values))
    rest, terms = wanted.copy(), []
    for i in order:
        if np.abs(rest).max() < accuracy:
            break
        factor = math.sqrt(abs(values[i])) * vectors[:, i]
        rest -= math.copysign(1.0, values[i]) * np.outer(factor, factor)
        terms.append((math.copysign(1.0, values[i]), factor))
    return terms


def band_frequencies(band_limit_per_nm: float, reach_nm: float) -> FloatArray:
    """Frequencies from 0 to the band limit [cycles/nm], dense where filters ring: at the limit."""
    count = 60 + math.ceil(12.0 * band_limit_per_nm * reach_nm)
    return band_limit_per_nm * np.sin(np.linspace(0.0, 0.5 * np.pi, count))


def line_filter(
    frequency: FloatArray,
    response: FloatArray,
    spacing_nm: float,
    reach_nm: float,
    accuracy: float,
    shift_nm: float = 0.0,
) -> Taps:
    """Sample offset -> weight of the filter with an even ``response``, moved by ``shift_nm``.

    The filtered value at a sample is that of the averaged image ``shift_nm`` further along the
    axis, its response met to ``accuracy`` in the band. ``reach_nm``: half width of the averaged
    area. Raises OpticsError if ``LONGEST_REACH`` samples beyond it do not suffice.
    """
    centre = round(shift_nm / spacing_nm)
    left = shift_nm - centre * spacing_nm
    wanted = response * np.exp(2j * np.pi * frequency * left)
    least = math.ceil(reach_nm / spacing_nm)
    for beyond in range(1, LONGEST_REACH + 1):
        offsets = np.arange(-least - beyond, least + beyond + 1)
        waves = np.exp(2j * np.pi * spacing_nm * np.outer(frequency, offsets))
        # the last rows keep weights small, lest errors outside the band be magnified
        small = DAMPING * accuracy * np.eye(offsets.size)
        both = np.concatenate((waves.real, waves.imag, small))
        target = np.concatenate((wanted.real, wanted.imag, np.zeros(offsets.size)))
        weights = np.linalg.lstsq(both, target, rcond=None)[0]
        if np.abs(waves @ weights - wanted).max() < accuracy:
            return {int(o) + centre: float(w) for o, w in zip(offsets, weights, strict=True)}
    raise OpticsError(
        f"no filter of {LONGEST_REACH} samples averages over {reach_nm:g} nm to the accuracy "
        "asked for: use a smaller bead or pinhole, or a larger accuracy"
    )


@dataclass(frozen=True)
class AreaFilter:
    """A mean over a small area: a sum of products of a response along y and one along x.

    ``factors``: (y, x) responses at ``frequency``; ``reach_nm``: half width of the area, around the
    point ``shift_nm`` (y, x) away; ``accuracy``: of each product.
    """

    frequency: FloatArray
    factors: tuple[tuple[FloatArray, FloatArray], ...]
    reach_nm: float
    shift_nm: tuple[float, float]
    accuracy: float

    def rows(
        self, shape: tuple[int, int], target_nm: float, source_nm: float
    ) -> list[tuple[list[Taps], list[Taps]]]:
        """Weights of the samples at multiples of ``source_nm`` for every target row and column."""
        return [
            (self._line(y, 0, shape, target_nm, source_nm),
             self._line(x, 1, shape, target_nm, source_nm))
            for y, x in self.factors
        ]  # fmt: skip

    def _line(
        self, factor: FloatArray, axis: int, shape: tuple[int, int], target_nm: float,
        source_nm: float,
    ) -> list[Taps]:  # fmt: skip
        known: dict[float, Taps] = {}
        lines = []
        for target in range(shape[axis]):
            place_nm = (target - 0.5 * (shape[axis] - 1)) * target_nm
            nearest = round(place_nm / source_nm)
            left_nm = round(place_nm - nearest * source_nm, 6)
            if left_nm not in known:
                known[left_nm] = line_filter(
                    self.frequency, factor, source_nm, self.reach_nm,
                    self.accuracy / float(np.abs(factor).max()), left_nm + self.shift_nm[axis],
                )  # fmt: skip
            lines.append({offset + nearest: w for offset, w in known[left_nm].items()})
        return lines


Matrices = list[tuple[FloatArray, FloatArray]]


def source_spacing_nm(target_nm: float, band_limit_per_nm: float) -> float:
    """Distance of samples that hold the band, a multiple or a fraction of that of the targets."""
    finest = 0.5 * HIGHEST_BAND_SHARE / band_limit_per_nm
    if target_nm <= finest:
        return target_nm * math.floor(finest / target_nm)
    return target_nm / math.ceil(target_nm / finest)


def sampled(
    filters: list[AreaFilter], shape: tuple[int, int], target_nm: float, source_nm: float
) -> tuple[tuple[int, int], list[Matrices]]:
    """Shape of the samples around 0 that the filters need, and their matrices (targets, samples).

    ``shape`` targets lie ``target_nm`` apart, centred on 0.
    """
    rows = [area.rows(shape, target_nm, source_nm) for area in filters]
    half = [
        max(abs(o) for area in rows for pair in area for taps in pair[axis] for o in taps)
        for axis in (0, 1)
    ]
    matrices = [[(_matrix(y, half[0]), _matrix(x, half[1])) for y, x in area] for area in rows]
    return (2 * half[0] + 1, 2 * half[1] + 1), matrices


def _matrix(lines: list[Taps], half: int) -> FloatArray:
    matrix = np.zeros((len(lines), 2 * half + 1))
    for target, taps in enumerate(lines):
        for offset, weight in taps.items():
            matrix[target, half + offset] = weight
    return matrix


def apply(matrices: Matrices, samples: FloatArray) -> FloatArray:
    """Targets (..., y, x) from samples (..., y, x)."""
    out = matrices[0][0] @ (samples @ matrices[0][1].T)
    for along_y, along_x in matrices[1:]:
        out += along_y @ (samples @ along_x.T)
    return out


def disc_filter(
    radius_nm: float,
    band_limit_per_nm: float,
    accuracy: float,
    shift_nm: tuple[float, float] = (0.0, 0.0),
) -> AreaFilter:
    """Mean over a disc of ``radius_nm`` around the point ``shift_nm`` (y, x) away."""
    frequency = band_frequencies(band_limit_per_nm, radius_nm + 0.5 / band_limit_per_nm)
    terms = separable_terms(lambda rho: disc_transform(radius_nm, rho), frequency, 0.3 * accuracy)
    factors = tuple((sign * factor, factor) for sign, factor in terms)
    share = accuracy / (3.0 * len(terms))
    return AreaFilter(frequency, factors, radius_nm, shift_nm, share)


def square_filter(
    side_nm: float,
    band_limit_per_nm: float,
    accuracy: float,
    shift_nm: tuple[float, float] = (0.0, 0.0),
) -> AreaFilter:
    """Mean over a square of ``side_nm`` around the point ``shift_nm`` (y, x) away; 0: the point."""
    frequency = band_frequencies(band_limit_per_nm, 0.5 * side_nm + 0.5 / band_limit_per_nm)
    response = np.sinc(side_nm * frequency)
    return AreaFilter(frequency, ((response, response),), 0.5 * side_nm, shift_nm, 0.4 * accuracy)
