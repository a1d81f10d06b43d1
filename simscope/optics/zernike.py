"""Orthonormal Zernike polynomials.

A coefficient is the RMS wavefront error its mode alone would give over the pupil, because every
mode has unit variance there: ``mean(Z_i Z_j) = delta_ij``. Modes are named by radial order ``n``
and azimuthal frequency ``m`` (negative ``m``: sine). The integer form in recipes is the OSA/ANSI
index; ``simscope/recipe/zernike_names.py`` converts to Noll and Fringe.

Source: Thibos et al., J. Refract. Surg. 18, S652 (2002).
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

from simscope.optics.phasors import cosine_sine
from simscope.recipe.zernike_names import (
    check_mode,
    fringe_to_nm,
    fringe_to_osa,
    nm_to_fringe,
    nm_to_noll,
    nm_to_osa,
    noll_to_nm,
    noll_to_osa,
    osa_to_fringe,
    osa_to_nm,
    osa_to_noll,
)

__all__ = [
    "check_mode",
    "fringe_to_nm",
    "fringe_to_osa",
    "nm_to_fringe",
    "nm_to_noll",
    "nm_to_osa",
    "noll_to_nm",
    "noll_to_osa",
    "osa_to_fringe",
    "osa_to_nm",
    "osa_to_noll",
    "radial_polynomial",
    "zernike",
]


def zernike(n: int, m: int, rho: ArrayLike, theta: ArrayLike) -> NDArray[np.float64]:
    """Zernike polynomial ``Z_n^m`` of unit RMS over the disc [1], shape of ``rho`` and ``theta``.

    ``rho`` is the pupil radius over its edge, ``theta`` the angle from the kx axis towards ky
    [rad]. Raises OpticsError when no such mode exists.
    Source: Thibos 2002, eqs. 1 to 3; with factor sqrt(n+1), or sqrt(2(n+1)) for m != 0.
    """
    check_mode(n, m)
    radial = radial_polynomial(n, abs(m), np.asarray(rho, dtype=np.float64))
    angle = np.asarray(theta, dtype=np.float64)
    if m == 0:
        return math.sqrt(n + 1.0) * radial * np.ones_like(angle)
    cosine, sine = cosine_sine(abs(m) * angle)
    wave = cosine if m > 0 else sine
    return math.sqrt(2.0 * (n + 1.0)) * radial * wave


def radial_polynomial(n: int, m: int, rho: NDArray[np.float64]) -> NDArray[np.float64]:
    """Radial polynomial ``R_n^m`` [1], 1 at the pupil edge.

    Summed from the explicit factorial form by Horner's rule in rho^2; exact to rounding up to
    order 20 or so (alternating integer terms grow like 4^n).
    """
    powers = (n - m) // 2
    squared = rho * rho
    value = np.zeros_like(rho)
    for k in range(powers + 1):
        value = value * squared + _radial_term(n, m, k)
    return value * rho**m


def _radial_term(n: int, m: int, k: int) -> float:
    """Coefficient of ``rho**(n - 2k)`` in ``R_n^m``."""
    numerator = (-1) ** k * math.factorial(n - k)
    below = math.factorial(k) * math.factorial((n + m) // 2 - k) * math.factorial((n - m) // 2 - k)
    return float(numerator // below)
