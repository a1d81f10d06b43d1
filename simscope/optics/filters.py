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

FloatArray = NDArray[np.float64]
Taps = dict[int, float]

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
        both = np.concatenate((waves.real, waves.imag))
        target = np.concatenate((wanted.real, wanted.imag))
        weights = np.linalg.lstsq(both, target, rcond=1e-14)[0]
        if np.abs(waves @ weights - wanted).max() < accuracy:
            return {int(o) + centre: float(w) for o, w in zip(offsets, weights, strict=True)}
    raise OpticsError(
        f"no filter of {LONGEST_REACH} samples averages over {reach_nm:g} nm to "
        f"accuracy={accuracy:.1g}: ask for a lower accuracy (a larger number)"
    )


@dataclass(frozen=True)
class AreaFilter:
    """Weighted sums over neighbouring samples: sum of weight_y x weight_x products of taps."""

    terms: tuple[tuple[Taps, Taps], ...]

    @property
    def margin(self) -> int:
        """Samples needed beyond the targets on every side."""
        return max(abs(offset) for pair in self.terms for taps in pair for offset in taps)

    def matrices(
        self, shape: tuple[int, int], multiple: int, margin: int
    ) -> list[tuple[FloatArray, FloatArray]]:
        """Matrices (targets, samples) along y and x for each term.

        ``shape`` targets lie ``multiple`` samples apart; ``margin`` samples surround them.
        """
        return [
            (_matrix(y, shape[0], multiple, margin), _matrix(x, shape[1], multiple, margin))
            for y, x in self.terms
        ]


def _matrix(taps: Taps, targets: int, multiple: int, margin: int) -> FloatArray:
    matrix = np.zeros((targets, (targets - 1) * multiple + 2 * margin + 1))
    for target in range(targets):
        for offset, weight in taps.items():
            matrix[target, target * multiple + margin + offset] = weight
    return matrix


def apply(matrices: list[tuple[FloatArray, FloatArray]], samples: FloatArray) -> FloatArray:
    """Targets (..., y, x) from samples (..., y, x)."""
    out = matrices[0][0] @ samples @ matrices[0][1].T
    for along_y, along_x in matrices[1:]:
        out += along_y @ samples @ along_x.T
    return out


def disc_filter(
    radius_nm: float,
    band_limit_per_nm: float,
    spacing_nm: float,
    accuracy: float,
    shift_nm: tuple[float, float] = (0.0, 0.0),
) -> AreaFilter:
    """Mean over a disc of ``radius_nm`` around the point ``shift_nm`` (y, x) away."""
    frequency = band_frequencies(band_limit_per_nm, radius_nm + spacing_nm)
    terms = separable_terms(lambda rho: disc_transform(radius_nm, rho), frequency, 0.3 * accuracy)
    share = accuracy / (3.0 * len(terms))
    pairs = []
    for sign, factor in terms:
        scale = np.abs(factor).max()
        y, x = (
            line_filter(frequency, factor, spacing_nm, radius_nm, share / scale, shift)
            for shift in shift_nm
        )
        pairs.append(({o: sign * w for o, w in y.items()}, x))
    return AreaFilter(tuple(pairs))


def square_filter(
    side_nm: float,
    band_limit_per_nm: float,
    spacing_nm: float,
    accuracy: float,
    shift_nm: tuple[float, float] = (0.0, 0.0),
) -> AreaFilter:
    """Mean over a square of ``side_nm`` around the point ``shift_nm`` (y, x) away; 0: the point."""
    frequency = band_frequencies(band_limit_per_nm, 0.5 * side_nm + spacing_nm)
    response = np.sinc(side_nm * frequency)
    y, x = (
        line_filter(frequency, response, spacing_nm, 0.5 * side_nm, 0.4 * accuracy, shift)
        for shift in shift_nm
    )
    return AreaFilter(((y, x),))
