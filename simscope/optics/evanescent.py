"""Evanescent excitation: how deep light reaches that is totally reflected at the coverslip.

Beyond the critical angle the excitation falls as exp(-z / d) in the sample, with
d = lambda / (4 pi sqrt(n_i^2 sin^2(theta) - n_s^2)). The coverslip between immersion and sample
does not matter, n sin(theta) being the same in every layer. Left out: the propagating stray light
of real objectives, and the polarisation of the evanescent field, which excites some orientations
more than others.

Source: Axelrod, Traffic 2, 764 (2001), eq. 2; Axelrod, Burghardt and Thompson, Annu. Rev. Biophys.
Bioeng. 13, 247 (1984).
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

from simscope.errors import OpticsError

FloatArray = NDArray[np.float64]


def critical_angle_deg(n_immersion: float, n_sample: float) -> float:
    """Smallest angle of incidence in the immersion that is totally reflected [deg].

    Raises OpticsError if there is none.
    """
    if n_sample >= n_immersion:
        raise OpticsError(
            f"n_sample={n_sample:g} is not below n_immersion={n_immersion:g}: no light is totally "
            "reflected at any angle; use a denser immersion or uniform illumination"
        )
    return math.degrees(math.asin(n_sample / n_immersion))


def evanescent_depth_nm(
    angle_deg: ArrayLike, wavelength_nm: float, n_immersion: float, n_sample: float
) -> FloatArray:
    """Height at which the excitation is 1/e of that at the coverslip [nm], shape of ``angle_deg``.

    ``angle_deg`` in the immersion, ``wavelength_nm`` of the excitation in vacuum. Raises
    OpticsError unless every angle lies between the critical one and 90 degrees.
    """
    angle = np.asarray(angle_deg, np.float64)
    critical = critical_angle_deg(n_immersion, n_sample)
    if not ((angle > critical) & (angle < 90.0)).all():
        wrong = float(angle[~((angle > critical) & (angle < 90.0))].flat[0])
        raise OpticsError(
            f"illumination angle_deg={wrong:g} does not lie between the critical angle "
            f"{critical:.4g} and 90 degrees (n_immersion={n_immersion:g}, n_sample={n_sample:g}): "
            "the light is not totally reflected; change the angle"
        )
    decay = np.sqrt((n_immersion * np.sin(np.radians(angle))) ** 2 - n_sample**2)
    return np.asarray(wavelength_nm / (4.0 * math.pi * decay))
