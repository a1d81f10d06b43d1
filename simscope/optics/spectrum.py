"""Emission spectra: the mean image over the wavelengths that pass the filter, photon by photon.

The image of polychromatic light is the photon-weighted mean of monochromatic ones, I(x) = sum of
w(l) I(x; l) over wavelengths. I is smooth in l, so a few nodes suffice: Gauss's rule for the weight
w (emission times filter), whose nodes and weights follow from the recurrence of the polynomials
orthogonal under w. Nodes are added until the image stands still.

Every wavelength is imaged by the same glass: indices are those of the recipe at all wavelengths
(no dispersion of the media), the objective is corrected for colour (all share one focus), and every
wavelength is collected in its own normalisation. ``wavelength_nm`` of the optics is the centre of
a Gaussian spectrum and the design wavelength of masks.

Source: Golub and Welsch, Math. Comp. 23, 221 (1969); Gautschi, Orthogonal Polynomials (2004),
sec. 2.2 (discretised Stieltjes procedure).
"""

from __future__ import annotations

import csv
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from simscope.errors import OpticsError
from simscope.optics.legendre import legendre_rule
from simscope.optics.pixels import Window
from simscope.optics.reach import Reach
from simscope.recipe.spectrum import impossible_table

FloatArray = NDArray[np.float64]
Build = Callable[..., Any]
"""A model from (optics, window, reach, accuracy=...)."""

GAUSSIAN_REACH = 2.6
"""Half width of a Gaussian spectrum in FWHM: 1e-9 of the photons lie beyond."""

SHORTEST_NM, LONGEST_NM = 100.0, 3000.0
POINTS_PER_PANEL = 16
NODE_COUNTS = (1, 2, 3, 4, 5, 6, 8, 10, 12, 15, 18, 22, 27, 33, 40, 48)


class SpectrumModel:
    """Images of molecules whose photons spread over a spectrum, as a mean of monochromatic ones.

    ``build`` gives the model of monochromatic optics. Nodes are added until the images at the
    corners of the ranges change by less than a quarter of ``accuracy`` of their peak. Raises
    OpticsError if no light passes the filter or 48 wavelengths do not suffice.
    """

    def __init__(
        self, optics: Any, window: Window, reach: Reach, accuracy: float, build: Build
    ) -> None:
        self.wavelengths_nm, self.weights = _resolved_nodes(optics, window, reach, accuracy, build)
        self._models = [
            build(at_wavelength(optics, float(w)), window, reach, accuracy=0.5 * accuracy)
            for w in self.wavelengths_nm
        ]

    def images(
        self,
        z_nm: ArrayLike = 0.0,
        focus_nm: ArrayLike = 0.0,
        x_nm: ArrayLike = 0.0,
        y_nm: ArrayLike = 0.0,
    ) -> FloatArray:
        """Probability per pixel of emitters, float64 (n, y, x); arguments broadcast to n images."""
        return self._mean("images", z_nm, focus_nm, x_nm, y_nm)

    def slopes(
        self,
        z_nm: ArrayLike = 0.0,
        focus_nm: ArrayLike = 0.0,
        x_nm: ArrayLike = 0.0,
        y_nm: ArrayLike = 0.0,
    ) -> FloatArray:
        """Images and their derivatives by x, y, z [1/nm], float64 (n, 4, y, x)."""
        return self._mean("slopes", z_nm, focus_nm, x_nm, y_nm)

    def basis_images(
        self,
        z_nm: ArrayLike = 0.0,
        focus_nm: ArrayLike = 0.0,
        x_nm: ArrayLike = 0.0,
        y_nm: ArrayLike = 0.0,
        **options: Any,
    ) -> FloatArray:
        """Six images of oriented dipoles in the order xx, yy, zz, xy, xz, yz, (n, 6, y, x)."""
        return self._mean("basis_images", z_nm, focus_nm, x_nm, y_nm, **options)

    def basis_energies(self, z_nm: ArrayLike, **options: Any) -> FloatArray:
        """Sums of the six images over an infinite camera, (n, 6)."""
        return self._mean("basis_energies", z_nm, **options)

    def _mean(self, name: str, *arguments: Any, **options: Any) -> FloatArray:
        total = self.weights[0] * getattr(self._models[0], name)(*arguments, **options)
        for weight, model in zip(self.weights[1:], self._models[1:], strict=True):
            total += weight * getattr(model, name)(*arguments, **options)
        return total


def at_wavelength(optics: Any, wavelength_nm: float) -> Any:
    """The optics at one wavelength; masks and maps keep the phase they have by design.

    What names no design wavelength is made for ``optics.wavelength_nm``.
    """
    update: dict[str, Any] = {"wavelength_nm": wavelength_nm, "spectrum": None}
    for name in ("mask", "wavefront_map"):
        part = getattr(optics, name)
        if part is not None and part.design_wavelength_nm is None:
            design = {"design_wavelength_nm": float(optics.wavelength_nm)}
            update[name] = part.model_copy(update=design)
    return optics.model_copy(update=update)


def shortest_wavelength_nm(optics: Any) -> float:
    """Shortest wavelength the camera sees [nm]: it carries the finest detail."""
    if optics.spectrum is None:
        return float(optics.wavelength_nm)
    return float(detected_photons(optics)[0].min())


def detected_photons(optics: Any) -> tuple[FloatArray, FloatArray]:
    """Wavelengths [nm] and shares of the photons that pass the filter, each (n,), summing to 1.

    A fine composite rule with edges at every kink of spectrum and filter. Raises OpticsError if
    nothing passes, or wavelengths outside [100, 3000] nm would.
    """
    spectrum, filter_ = optics.spectrum, optics.spectrum.filter
    edges, photons_per_nm = _emission(spectrum, float(optics.wavelength_nm))
    low, high = edges[0], edges[-1]
    if filter_ is not None:
        half = 0.5 * filter_.edge_nm
        low, high = max(low, filter_.low_nm - half), min(high, filter_.high_nm + half)
        corners = [e + s for e in (filter_.low_nm, filter_.high_nm) for s in (-half, half)]
        edges = np.array([*edges, *corners])
    if low >= high:
        raise OpticsError(
            f"the emission filter ({filter_.low_nm:g} to {filter_.high_nm:g} nm) passes nothing of "
            f"the spectrum ({edges.min():g} to {edges.max():g} nm): move one of them"
        )
    if low < SHORTEST_NM or high > LONGEST_NM:
        raise OpticsError(
            f"the spectrum reaches from {low:g} to {high:g} nm, beyond [{SHORTEST_NM:g}, "
            f"{LONGEST_NM:g}] nm: add a filter or lower fwhm_nm"
        )
    inside = np.unique(np.clip(edges, low, high))
    node, weight = legendre_rule(POINTS_PER_PANEL)
    half_widths = 0.5 * np.diff(inside)[:, None]
    wavelengths = (inside[:-1, None] + half_widths * (1.0 + node)).ravel()
    share = (half_widths * weight).ravel() * photons_per_nm(wavelengths)
    share *= transmission(filter_, wavelengths)
    if not share.sum() > 0:
        raise OpticsError("no photon of the spectrum passes the emission filter: move one of them")
    return wavelengths[share > 0], share[share > 0] / share.sum()


def transmission(bandpass: Any, wavelengths_nm: FloatArray) -> FloatArray:
    """Share of the light that the filter passes at each wavelength [1]; 1 without a filter."""
    if bandpass is None:
        return np.ones_like(wavelengths_nm)
    half = 0.5 * bandpass.edge_nm
    if half == 0.0:
        passes = (wavelengths_nm >= bandpass.low_nm) & (wavelengths_nm <= bandpass.high_nm)
        return passes.astype(np.float64)
    corners = [e + s for e in (bandpass.low_nm, bandpass.high_nm) for s in (-half, half)]
    return np.interp(wavelengths_nm, corners, (0.0, 1.0, 1.0, 0.0))


def _emission(spectrum: Any, centre_nm: float) -> tuple[FloatArray, Callable[..., FloatArray]]:
    """Edges of panels on which the emission is smooth [nm], and its photons per nm."""
    if spectrum.kind == "gaussian":
        reach = GAUSSIAN_REACH * spectrum.fwhm_nm
        rate = 4.0 * math.log(2.0) / spectrum.fwhm_nm**2
        edges = np.linspace(centre_nm - reach, centre_nm + reach, 13)

        def bell(w: FloatArray) -> FloatArray:
            return np.asarray(np.exp(-rate * (w - centre_nm) ** 2))

        return edges, bell
    wavelengths, values = _table(spectrum)
    lit = np.flatnonzero(values > 0)
    first, last = max(int(lit[0]) - 1, 0), min(int(lit[-1]) + 2, values.size)

    def photons_per_nm(w: FloatArray) -> FloatArray:
        return np.asarray(np.interp(w, wavelengths, values), dtype=np.float64)

    return wavelengths[first:last], photons_per_nm


def _table(spectrum: Any) -> tuple[FloatArray, FloatArray]:
    """Wavelengths [nm] and photons per nm of a tabulated spectrum, from the recipe or its file."""
    if spectrum.path is None:
        return np.array(spectrum.wavelengths_nm), np.array(spectrum.values)
    path = Path(spectrum.path)
    try:
        with path.open(newline="", encoding="utf8") as file:
            rows = [row for row in csv.reader(file) if row and not row[0].startswith("#")]
    except (OSError, UnicodeDecodeError) as error:
        raise OpticsError(f"cannot read the spectrum {path}: {error}") from None
    numbers = [_numbers(row) for row in rows]
    if numbers and numbers[0] is None:
        numbers = numbers[1:]  # a line of headings
    pairs = [pair for pair in numbers if pair is not None]
    if len(pairs) != len(numbers):
        line = rows[len(rows) - len(numbers) + numbers.index(None)]
        raise OpticsError(
            f"{path}: the line {','.join(line)!r} is no wavelength [nm] and photons per nm, "
            "separated by a comma"
        )
    wavelengths, values = (
        (tuple(column) for column in zip(*pairs, strict=True)) if pairs else ((), ())
    )
    problem = impossible_table(wavelengths, values)
    if problem:
        raise OpticsError(f"{path}: {problem}")
    return np.array(wavelengths), np.array(values)


def _numbers(row: list[str]) -> tuple[float, float] | None:
    """The first two columns as numbers, or None if they are none."""
    try:
        return float(row[0]), float(row[1])
    except (ValueError, IndexError):
        return None


def gauss_rule(points: FloatArray, masses: FloatArray, count: int) -> tuple[FloatArray, FloatArray]:
    """Nodes and weights of Gauss's rule for a discrete measure, each (count,).

    Exact for polynomials up to degree 2 count - 1 under the measure of ``masses`` (summing to 1) at
    ``points``. Source: Gautschi 2004, eq. 2.2.5 (Stieltjes), Golub and Welsch 1969 (nodes as
    eigenvalues of the recurrence matrix).
    """
    middle, half = 0.5 * (points.max() + points.min()), 0.5 * np.ptp(points)
    x = (points - middle) / (half or 1.0)
    diagonal, beside = np.zeros(count), np.zeros(count)
    before, now = np.zeros_like(x), np.ones_like(x) / math.sqrt(masses.sum())
    for degree in range(count):
        diagonal[degree] = (masses * x * now**2).sum()
        then = (x - diagonal[degree]) * now - (beside[degree - 1] if degree else 0.0) * before
        beside[degree] = math.sqrt((masses * then**2).sum())
        before, now = now, then / (beside[degree] or 1.0)
    matrix = np.diag(diagonal) + np.diag(beside[:-1], 1) + np.diag(beside[:-1], -1)
    values, vectors = np.linalg.eigh(matrix)
    return middle + half * values, vectors[0] ** 2 * masses.sum()


def _resolved_nodes(
    optics: Any, window: Window, reach: Reach, accuracy: float, build: Build
) -> tuple[FloatArray, FloatArray]:
    """Fewest wavelengths [nm] and their shares that meet the accuracy, by trial."""
    points, masses = detected_photons(optics)
    before: FloatArray | None = None
    rule = gauss_rule(points, masses, 1)
    change = math.inf
    for count in NODE_COUNTS:
        finer = gauss_rule(points, masses, min(count, points.size))
        values = _probe(optics, window, reach, accuracy, build, finer)
        if before is not None:
            difference = np.abs(values - before).max(axis=1) / values.max(axis=1)
            change = float(difference.max())
            if change < 0.25 * accuracy:
                return rule
        rule, before = finer, values
    raise OpticsError(
        f"{NODE_COUNTS[-1]} wavelengths change the image by {change:.1e} of its peak, more "
        f"than the {0.25 * accuracy:.1e} that keep to the accuracy asked for: use a narrower "
        "filter, a smaller window or range, or a larger accuracy"
    )


def _probe(
    optics: Any,
    window: Window,
    reach: Reach,
    accuracy: float,
    build: Build,
    rule: tuple[FloatArray, FloatArray],
) -> FloatArray:
    """Intensity at a few points, close by and far out, at the corners of the ranges, (n, points).

    Uses light of the rule's wavelengths and shares.
    """
    z, focus = (v.ravel() for v in np.meshgrid(reach.z_nm, reach.focus_nm))
    far_nm = 0.5 * max(window.shape) * window.pixel_nm / (window.per_pixel or 1) + reach.lateral_nm
    centred = replace(reach, lateral_nm=0.0)
    total: FloatArray = np.zeros((z.size, 0))
    for step_nm in (0.125 * optics.wavelength_nm / optics.na, far_nm / 6.0):
        points = Window((9, 13), step_nm, points=True)
        part = sum(
            share
            * build(at_wavelength(optics, float(w)), points, centred, accuracy=0.1 * accuracy)
            .images(z, focus)
            .reshape(z.size, -1)
            for w, share in zip(*rule, strict=True)
        )
        total = np.concatenate((total, part), axis=1)
    return total
