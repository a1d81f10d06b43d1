"""How many planes of a stack must be computed, and how the others follow from them.

Along a line of heights and foci the field of every pupil point turns (and, beyond the critical
angle, decays) at its own rate, so the intensity is a sum of exp(-kappa t) exp(i omega t) whose
frequencies are differences of those rates: band-limited, with a band known from the pupil. As with
the samples of a pixel, a few planes determine it everywhere in between. They are placed like the
roots of Chebyshev polynomials; the weights reproduce every function of the band by least squares,
and what is left of the worst of them is the error.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
ComplexArray = NDArray[np.complex128]

WORTHWHILE = 0.8
"""Share of the planes above which interpolating between fewer saves nothing."""

FREQUENCIES = 32

DECAYS = 4


@dataclass(frozen=True)
class AxialNodes:
    """Heights and foci (nodes,) [nm] to compute, and ``weights`` (planes, nodes) to the planes."""

    z_nm: FloatArray
    focus_nm: FloatArray
    weights: FloatArray | None


def axial_nodes(
    z_nm: FloatArray,
    focus_nm: FloatArray,
    sample_root: ComplexArray,
    immersion_root: FloatArray,
    wavenumber_per_nm: float,
    accuracy: float,
) -> AxialNodes:
    """Planes to compute for images at ``z_nm``, ``focus_nm`` (planes,), error ``accuracy``.

    The planes themselves, with no weights, unless they lie on a line and fewer will do.
    ``sample_root``, ``immersion_root``: axial indices of pupil points [1].
    """
    as_they_are = AxialNodes(z_nm, focus_nm, None)
    line = _line(z_nm, focus_nm)
    if line is None:
        return as_they_are
    place, (dz_nm, dfocus_nm) = line
    rate = wavenumber_per_nm * (dz_nm * sample_root - dfocus_nm * immersion_root)
    band = float(np.ptp(rate.real))
    found = _interpolation(tuple(place), band, 2.0 * float(rate.imag.max()), accuracy)
    if found is None:
        return as_they_are
    nodes, weights = found
    middle = 0.5 * (z_nm.max() + z_nm.min()), _middle_focus(z_nm, focus_nm)
    return AxialNodes(middle[0] + nodes * dz_nm, middle[1] + nodes * dfocus_nm, weights)


def _line(z_nm: FloatArray, focus_nm: FloatArray) -> tuple[FloatArray, tuple[float, float]] | None:
    """Places on [-1, 1] of planes along a line, rising in z, and half the line's (z, focus) span.

    None if there are hardly any planes or they lie on no line.
    """
    if z_nm.size < 4:
        return None
    first, last = np.lexsort((focus_nm, z_nm))[[0, -1]]
    dz_nm, dfocus_nm = (0.5 * (a[last] - a[first]) for a in (z_nm, focus_nm))
    length_nm = math.hypot(dz_nm, dfocus_nm)
    if length_nm == 0.0:
        return None
    z, focus = z_nm - z_nm[first] - dz_nm, focus_nm - focus_nm[first] - dfocus_nm
    place = (z * dz_nm + focus * dfocus_nm) / length_nm**2
    off_nm = np.abs(z * dfocus_nm - focus * dz_nm).max() / length_nm
    if off_nm > 1e-9 * length_nm:
        return None
    return np.clip(place, -1.0, 1.0), (float(dz_nm), float(dfocus_nm))


def _middle_focus(z_nm: FloatArray, focus_nm: FloatArray) -> float:
    first, last = np.lexsort((focus_nm, z_nm))[[0, -1]]
    return float(0.5 * (focus_nm[first] + focus_nm[last]))


@lru_cache(maxsize=64)
def _interpolation(
    place: tuple[float, ...], band: float, decay: float, accuracy: float
) -> tuple[FloatArray, FloatArray] | None:
    """Nodes on [-1, 1] and weights (places, nodes) for functions of a band, None if not worthwhile.

    ``band``: highest frequency [rad per unit]; ``decay``: strongest decay.
    """
    places = np.array(place)
    wanted = _band_functions(places, band, decay)
    count = math.ceil(band - 0.8 * math.log10(accuracy)) + 3
    while count <= WORTHWHILE * places.size:
        nodes = -np.cos(np.pi * (np.arange(count) + 0.5) / count)
        nodes /= nodes[-1]
        given = _band_functions(nodes, band, decay)
        weights = np.linalg.lstsq(given, wanted, rcond=1e-13)[0]
        if np.abs(given @ weights - wanted).max() < accuracy:
            found = np.ascontiguousarray(weights.T)
            # kept for the next call of the same planes
            nodes.flags.writeable = found.flags.writeable = False
            return nodes, found
        count += 1
    return None


def _band_functions(place: FloatArray, band: float, decay: float) -> FloatArray:
    """Damped cosines and sines that stand for a band, (functions, places)."""
    turns = np.linspace(0.0, band, FREQUENCIES)[:, None] * place
    waves = np.concatenate((np.cos(turns), np.sin(turns)))
    decays = decay * np.linspace(0.0, 1.0, DECAYS if decay > 0.0 else 1)
    damping = np.exp(-decays[:, None] * (place + 1.0))
    return (damping[:, None, :] * waves).reshape(-1, place.size)
