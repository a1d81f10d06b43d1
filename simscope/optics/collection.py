"""How much of a dipole's light the objective collects, near the coverslip and far from it.

A dipole at height z above the coverslip radiates more or less than in the bulk of the sample: its
own reflected field drives it or brakes it, and waves with transverse index q > n_sample, evanescent
in the sample, tunnel into the glass ("supercritical" light). The objective collects all of it with
q < NA. Powers are in units of what the same dipole radiates in unbounded sample medium.

Emitted: 1 + (3/2) Re int u^3/sqrt(1-u^2) r_p exp(2ikz S) du for an axial dipole,
1 + (3/4) Re int u/sqrt(1-u^2) [r_s - (1-u^2) r_p] exp(2ikz S) du for a transverse one, u = q/n_s,
S = sqrt(n_s^2 - q^2): Novotny and Hecht, Principles of Nano-Optics (2nd ed.), sec. 10.4; Lukosz and
Kunz, J. Opt. Soc. Am. 67, 1607 (1977). Collected: by reciprocity, the field that unit plane waves
from the immersion have at the dipole; Hellen and Axelrod, J. Opt. Soc. Am. B 4, 337 (1987).

Power becomes photons where the emission yields one photon an excitation (quantum yield 1): then the
collected fraction is collected over emitted power. At a low yield the number of photons follows the
emitted power too, which is left out. So are light reflected more than once inside the coverslip,
absorption, and what a mask in the pupil blocks. The emitted power sees the medium next to the
sample: the coverslip, or the immersion where coverslip_um is 0.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from simscope.errors import OpticsError
from simscope.optics import interfaces
from simscope.optics.checks import check_heights, check_numbers, check_supported
from simscope.optics.dipoles import FREE_MOMENTS, dipole_moments
from simscope.optics.interfaces import Objective, objective_of
from simscope.optics.legendre import legendre_between

FloatArray = NDArray[np.float64]

NODES = 64
"""Quadrature nodes on each side of the critical angle, before those that fast phases ask for."""

KNOTS_PER_FRINGE = 40
"""Knots of :class:`CollectedLight` in a period of the standing wave: 1e-6 by cubic splines."""

HEIGHTS_AT_ONCE = 256


def collected_fraction(optics: Any, z_nm: ArrayLike = 0.0, dipole: Any = None) -> FloatArray:
    """Share of a dipole's emitted power that the objective collects [1], float64 (n,).

    ``z_nm``: heights above the coverslip, n of them; ``dipole``: FreeDipole (None), FixedDipole or
    ConeDipole. Supercritical light is counted. Quadrature error below 1e-9. Raises OpticsError for
    impossible optics, heights below the coverslip, and orientations still to be drawn.
    """
    check_supported(optics)
    objective = objective_of(optics)
    (z,) = check_numbers(z_nm=z_nm)
    _check_outside(objective, z)
    moment = dipole_moments(dipole)
    return np.asarray(
        (collected_power(objective, z) @ moment) / (emitted_power(objective, z) @ moment)
    )


def collected_power(objective: Objective, z_nm: FloatArray) -> FloatArray:
    """Power collected from the six second moments, in units of the bulk emission, (n, 6).

    Order xx, yy, zz, xy, xz, yz; the mixed ones collect nothing on the whole. Power per solid angle
    in the immersion is (3 / 8 pi) (n_i / n_s) |mu E|^2, E the field of a unit plane wave at the
    dipole; ``dipole_amplitudes`` holds mu E with the 1/sqrt(cos) of the pupil's area.
    """
    q, weight = _collected_nodes(objective)
    even, split, axial = interfaces.dipole_amplitudes(objective, q)
    scale = 3.0 / (8.0 * math.pi * objective.n_immersion * objective.n_sample)
    rings = scale * 2.0 * math.pi * weight
    transverse = rings * (np.abs(even) ** 2 + np.abs(split) ** 2)
    along = rings * np.abs(axial) ** 2
    decay = 2.0 * objective.wavenumber_per_nm * interfaces.root(objective.n_sample, q).imag
    parts = [
        np.exp(-np.outer(z, decay)) @ np.stack((transverse, along), axis=1) for z in _pieces(z_nm)
    ]
    return _six(np.concatenate(parts))


def far_collected_power(objective: Objective) -> float:
    """Power collected from a freely rotating dipole far from the coverslip, bulk emission 1."""
    q, weight = _below_critical(objective.n_sample, min(objective.na, objective.n_sample), NODES)
    even, split, axial = interfaces.dipole_amplitudes(objective, q)
    density = 2.0 * (np.abs(even) ** 2 + np.abs(split) ** 2) + np.abs(axial) ** 2
    return float((weight * density).sum()) / (4.0 * objective.n_immersion * objective.n_sample)


def emitted_power(objective: Objective, z_nm: FloatArray) -> FloatArray:
    """Power emitted by the six second moments, in units of the bulk emission, (n, 6).

    Order xx, yy, zz, xy, xz, yz; the mixed ones emit nothing on the whole.
    """
    n_s, n_g = objective.n_sample, _neighbour(objective)
    phase = 2.0 * objective.wavenumber_per_nm * n_s * float(np.abs(z_nm).max(initial=0.0))
    if n_s == n_g:
        return _six(np.ones((z_nm.size, 2)))
    q, weight, axial_index = _emitted_nodes(n_s, n_g, NODES + math.ceil(0.5 * phase))
    reflected_s, reflected_p = _reflection(n_s, n_g, q)
    along = 1.5 * weight * q**2 / (n_s**3 * axial_index) * reflected_p
    tilted = reflected_s - (axial_index / n_s) ** 2 * reflected_p
    transverse = 0.75 * weight / (n_s * axial_index) * tilted
    turn = 2j * objective.wavenumber_per_nm * axial_index
    parts = [
        (np.exp(np.outer(z, turn)) @ np.stack((transverse, along), axis=1)).real
        for z in _pieces(z_nm)
    ]
    return _six(1.0 + np.concatenate(parts))


class CollectedLight:
    """Collected light of many emitters between two heights: splines through the exact powers.

    Relative error 1e-6. Values depend on each emitter alone.
    """

    def __init__(self, optics: Any, z_nm: tuple[float, float]) -> None:
        from scipy.interpolate import CubicSpline  # slow to import

        objective = objective_of(optics)
        low, high = float(z_nm[0]), float(z_nm[1])
        _check_outside(objective, np.array([low, high]))
        fringe_nm = 0.5 * objective.wavelength_nm / max(objective.n_sample, _neighbour(objective))
        knots = max(8, math.ceil(KNOTS_PER_FRINGE * (high - low) / fringe_nm) + 1)
        z = np.linspace(low, max(high, low + 1.0), knots)
        self._collected = CubicSpline(z, collected_power(objective, z)[:, :3])
        self._emitted = CubicSpline(z, emitted_power(objective, z)[:, :3])
        self._far = far_collected_power(objective)

    def relative(self, z_nm: ArrayLike, moment: ArrayLike = FREE_MOMENTS) -> FloatArray:
        """Collected fraction relative to a freely rotating dipole far from the coverslip, (n,).

        ``moment``: second moments (n, 6) or (6,).
        """
        z = np.asarray(z_nm, np.float64)
        diagonal = np.asarray(moment, np.float64)[..., :3]
        collected = (self._collected(z) * diagonal).sum(axis=-1)
        emitted = (self._emitted(z) * diagonal).sum(axis=-1)
        return np.asarray(collected / (emitted * self._far))


def relative_collection(
    optics: Any, z_nm: ArrayLike, moment: ArrayLike = FREE_MOMENTS
) -> FloatArray:
    """Collected fraction relative to a freely rotating dipole far from the coverslip [1], (n,)."""
    z = np.atleast_1d(np.asarray(z_nm, np.float64))
    objective = objective_of(optics)
    _check_outside(objective, z)
    diagonal = np.asarray(moment, np.float64)
    collected = (collected_power(objective, z) * diagonal).sum(axis=-1)
    emitted = (emitted_power(objective, z) * diagonal).sum(axis=-1)
    return np.asarray(collected / (emitted * far_collected_power(objective)))


def _six(pair: FloatArray) -> FloatArray:
    """Columns (transverse, axial) as the six second moments, (n, 6)."""
    out = np.zeros((pair.shape[0], 6))
    out[:, 0] = out[:, 1] = pair[:, 0]
    out[:, 2] = pair[:, 1]
    return out


def _pieces(z_nm: FloatArray) -> list[FloatArray]:
    """Heights in pieces that keep the exponentials small in memory."""
    return [z_nm[i : i + HEIGHTS_AT_ONCE] for i in range(0, z_nm.size, HEIGHTS_AT_ONCE)]


def _neighbour(objective: Objective) -> float:
    """Index of the medium that the sample touches."""
    return objective.n_coverslip if objective.coverslip_nm > 0.0 else objective.n_immersion


def _check_outside(objective: Objective, z_nm: FloatArray) -> None:
    check_heights(objective, z_nm)
    lowest = float(z_nm.min(initial=0.0))
    if lowest < 0.0 and _neighbour(objective) != objective.n_sample:
        raise OpticsError(
            f"z_nm={lowest:g} lies inside the coverslip (index {_neighbour(objective):g}, sample "
            f"{objective.n_sample:g}), where the emitted power is not defined: use z_nm >= 0, or "
            "n_coverslip equal to n_sample"
        )


def _reflection(n_from: float, n_into: float, q: FloatArray) -> tuple[Any, Any]:
    """Amplitude reflections (s, p) of one interface [1], from its transmissions.

    Continuity of the field: 1 + r_s = t_s, and 1 + r_p = (n_into / n_from) t_p.
    """
    s, p = interfaces.fresnel(n_from, n_into, q)
    return s - 1.0, p * (n_into / n_from) - 1.0


def _below_critical(index: float, end: float, count: int) -> tuple[FloatArray, FloatArray]:
    """Nodes in q on [0, end] and weights of q dq, by q = index sin(t)."""
    angle, weight = legendre_between(0.0, math.asin(min(1.0, end / index)), count)
    return index * np.sin(angle), weight * index**2 * np.sin(angle) * np.cos(angle)


def _collected_nodes(objective: Objective) -> tuple[FloatArray, FloatArray]:
    """Nodes in q on [0, NA] and weights of q dq, split at the critical angle."""
    n_s, na = objective.n_sample, objective.na
    q, weight = _below_critical(n_s, min(na, n_s), NODES)
    if na <= n_s:
        return q, weight
    # q = n_s cosh(v) makes the decay rate n_s sinh(v); v = span s^2 follows the decay at heights
    share, step = legendre_between(0.0, 1.0, 2 * NODES)
    span = math.acosh(na / n_s)
    v, dv = span * share**2, 2.0 * span * share * step
    beyond = n_s * np.cosh(v)
    return (
        np.concatenate((q, beyond)),
        np.concatenate((weight, beyond * n_s * np.sinh(v) * dv)),
    )


def _emitted_nodes(
    n_s: float, n_g: float, count: int
) -> tuple[FloatArray, FloatArray, NDArray[np.complex128]]:
    """Nodes in q on [0, larger index], weights of q dq, and axial index in the sample.

    Split at the smaller index. Both axial indices are polynomials of sines and cosines of the
    substituted angle, which gives that of the sample to all digits, next to 0 too.
    """
    low, high = min(n_s, n_g), max(n_s, n_g)
    angle, step = legendre_between(0.0, 0.5 * math.pi, count)
    sine, cosine = np.sin(angle), np.cos(angle)
    squared = (high - low) * (high + low)
    below = np.sqrt((n_s - low) * (n_s + low) + (low * cosine) ** 2)
    beyond = math.sqrt(squared) * (1j * sine if n_s == low else cosine)
    q = np.concatenate((low * sine, np.sqrt(low**2 + squared * sine**2)))
    weight = np.concatenate((low**2 * sine * cosine * step, squared * sine * cosine * step))
    return q, weight, np.concatenate((below, beyond))
