"""Radial profiles of symmetric PSFs: integrals at equidistant radii, splines between them.

Intensities hold no frequency beyond 2 NA / wavelength, so a B-spline of degree seven through
samples at a fraction of the Nyquist distance gives the profile at any radius. All planes of a stack
share the Bessel functions: a stack of profiles is three real matrix products. Quadrature, spacing
and edges are chosen for an accuracy and checked against finer quadrature between the samples.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

from simscope.errors import OpticsError
from simscope.kernels.radial import DEGREE, PLANES, profiles_at, spline_coefficients
from simscope.optics.interfaces import Objective
from simscope.optics.radial_integrals import (
    RadialField,
    bessel_tables,
    bessel_taylor,
    integrals,
    node_count,
    pieces,
    radial_field,
    steepest_phase,
)

FloatArray = NDArray[np.float64]
ComplexArray = NDArray[np.complex128]

SPLINE_ERROR = 3e-4
"""Spline error at samples one Nyquist distance apart, extrapolated: measured times share^-8."""

RADII_AT_ONCE = 128


class RadialProfiles:
    """Radial profiles of one set of optics out to a radius, over ranges of height and focus.

    ``corners_nm``: the (z, focus) at the ends of the ranges, for which quadrature and spacing of
    the radii are chosen and checked; ``error_estimate`` is the worst error found there, as a share
    of the image's peak. Raises OpticsError if ``accuracy`` is out of reach.
    """

    MOST_ROUNDS = 12

    def __init__(
        self, objective: Objective, model: str, corners_nm: list[tuple[float, float]],
        reach_nm: float, accuracy: float,
    ) -> None:  # fmt: skip
        self.objective, self.model, self.reach_nm = objective, model, reach_nm
        # samples before and beyond a profile, over which the edge's influence dies out
        slowest = np.abs(spline_poles()).max()
        self.pad = math.ceil(math.log(0.1 * accuracy) / math.log(slowest)) + 2
        # the error of a spline of degree 7 falls with the 8th power of its spacing
        share = min(0.6, (0.2 * accuracy / SPLINE_ERROR) ** (1.0 / (DEGREE + 1)))
        finer = 1.0
        for _ in range(self.MOST_ROUNDS):
            self._set_up(corners_nm, share / finer, accuracy, finer)
            self.error_estimate = self._error(corners_nm)
            if self.error_estimate <= 0.5 * accuracy:
                return
            finer *= 1.15
        raise OpticsError(
            f"radial integrals reach {self.error_estimate:.1e} of the peak, half of "
            f"accuracy={accuracy:g} is asked: ask for a lower accuracy (a larger number)"
        )

    def _set_up(
        self, corners_nm: list[tuple[float, float]], share: float, accuracy: float, finer: float
    ) -> None:
        self.spacing_nm = share * 0.5 / self.objective.band_limit_per_nm
        inside = math.ceil(self.reach_nm / self.spacing_nm) + DEGREE // 2 + 2
        self.radii_nm = self.spacing_nm * np.arange(inside + self.pad)
        self._inside = inside
        outermost_nm = float(self.radii_nm[-1])
        self.counts = tuple(
            math.ceil(
                finer
                * node_count(
                    steepest_phase(self.objective, piece, corners_nm, outermost_nm), accuracy
                )
            )
            for piece in pieces(self.objective)
        )
        self.field = radial_field(self.objective, self.model, self.counts)
        wavenumber = self.objective.wavenumber_per_nm
        self._taylor = bessel_taylor(wavenumber * self.objective.na * outermost_nm)

    def _error(self, corners_nm: list[tuple[float, float]]) -> float:
        """Worst difference from finer quadrature at probe radii, as a share of the peak."""
        z, focus = (np.array(column) for column in zip(*corners_nm, strict=True))
        profile = self.free(z, focus)
        # between the samples, where splines err most, near the axis and all over the window
        between = np.unique(np.geomspace(1.0, self._inside, 40).astype(int)) - 0.5
        radii = np.minimum(self.spacing_nm * np.append(0.0, between), self.reach_nm)
        finer = radial_field(
            self.objective, self.model, tuple(math.ceil(1.25 * n) + 6 for n in self.counts)
        )
        exact = free_profile(
            finer, integrals(finer.sources(z, focus), bessel_tables(finer, radii, self._taylor))
        )
        splined = self.at(profile, radii, np.zeros(1))[:, 0].T
        # peaks beyond the window do not count
        peak = np.maximum(exact.max(axis=0), profile[self.radii_nm <= self.reach_nm].max(axis=0))
        return float((np.abs(splined - exact) / peak).max())

    def free(self, z_nm: FloatArray, focus_nm: FloatArray) -> FloatArray:
        """Intensity of a freely rotating dipole at the radii [1/nm^2], (radii, planes)."""
        return self.of_integrals(self.field.sources(z_nm, focus_nm), self._free)

    def _free(self, waves: list[ComplexArray]) -> FloatArray:
        return free_profile(self.field, waves)

    def of_integrals(
        self, sources: ComplexArray, combine: Callable[[list[ComplexArray]], FloatArray]
    ) -> FloatArray:
        """What ``combine`` makes of the integrals I_m at all radii, (radii, columns)."""

        def rows(start: int) -> FloatArray:
            radii = self.radii_nm[start : start + RADII_AT_ONCE]
            return combine(integrals(sources, bessel_tables(self.field, radii, self._taylor)))

        return np.concatenate(in_parallel(rows, range(0, self.radii_nm.size, RADII_AT_ONCE)))

    def coefficients(self, profiles: FloatArray, parity: float = 1.0) -> FloatArray:
        """B-spline coefficients of profiles (radii, planes), (blocks, pad + radii, PLANES).

        ``parity``: 1 for profiles even in r, -1 for odd ones.
        """
        radii, planes = profiles.shape
        out = np.empty((-(-planes // PLANES), self.pad + radii, PLANES))
        spline_coefficients(profiles, parity, self.pad, spline_poles(), out)
        return out

    def at(
        self, profiles: FloatArray, x_nm: FloatArray, y_nm: FloatArray, *,
        parity: float = 1.0, slope: bool = False,
    ) -> FloatArray:  # fmt: skip
        """Profiles (radii, planes), or their slopes [per nm], on the grid, (planes, y, x)."""
        out = np.empty((profiles.shape[1], y_nm.size, x_nm.size))
        per_radius = 1.0 / self.spacing_nm
        pieces = slope_pieces() * per_radius if slope else spline_pieces()
        coefficients = self.coefficients(profiles, parity)
        profiles_at(coefficients, x_nm, y_nm, per_radius, self.pad, pieces, out)
        return out


def free_profile(field: RadialField, waves: list[ComplexArray]) -> FloatArray:
    """Intensity of a freely rotating dipole from the integrals I_m, (radii, planes)."""
    profile = np.zeros(waves[0].shape)
    for strength, wave in zip(field.strength, waves, strict=True):
        profile += strength * (wave.real**2 + wave.imag**2)
    return profile


@lru_cache(maxsize=1)
def spline_pieces() -> FloatArray:
    """Polynomials of the B-splines over one knot interval, (powers, splines), lowest power first.

    By the recursion of Cox and de Boor on uniform knots (de Boor, A Practical Guide to Splines,
    ch. IX, eq. 15): B_r <- ((r + 1 - u) B_r + (u + j - r) B_(r-1)) / j for degree j = 1, 2, ...
    """
    pieces = np.zeros((DEGREE + 1, DEGREE + 1))
    pieces[0, 0] = 1.0
    for degree in range(1, DEGREE + 1):
        number = np.arange(DEGREE + 1)
        left = np.roll(pieces, 1, axis=1)
        raised = np.roll(left - pieces, 1, axis=0)
        pieces = ((number + 1) * pieces + (degree - number) * left + raised) / degree
    return pieces


@lru_cache(maxsize=1)
def slope_pieces() -> FloatArray:
    """Derivatives of the B-splines over one knot interval, as in ``spline_pieces``."""
    slopes = np.zeros_like(spline_pieces())
    slopes[:-1] = np.arange(1, DEGREE + 1)[:, None] * spline_pieces()[1:]
    return slopes


@lru_cache(maxsize=1)
def spline_poles() -> FloatArray:
    """Poles inside the unit circle of the filter that turns samples into B-spline coefficients.

    Roots of the polynomial whose coefficients are the B-spline at the integers (Unser et al. 1993).
    """
    roots = np.roots(spline_pieces()[0, :DEGREE])
    return np.sort(roots[np.abs(roots) < 1.0].real)


def in_parallel(task: Callable[[Any], Any], items: Iterable[Any]) -> list[Any]:
    """Results of a task that leaves the interpreter's lock, on as many threads as Numba uses.

    Every item is done by itself, so that its result does not depend on the threads.
    """
    work = list(items)
    threads = min(numba.get_num_threads(), len(work))
    if threads <= 1:
        return [task(item) for item in work]
    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(task, work))
