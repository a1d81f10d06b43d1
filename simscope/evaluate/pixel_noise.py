"""What one pixel's reading tells about its own mean, exactly: read noise, electron multiplication.

A pixel expects m electrons; its reading y has the density p(y; m). The Fisher information about m
is ``J = integral (dp/dm)^2 / p dy``, and 1/J plays the part of a variance in the information of an
image. With Poisson weights P_k(m), and ``dP_k/dm = P_(k-1) - P_k``:

- CCD, sCMOS: ``p(y) = sum P_k g(y - k)``, g the Gaussian read noise (Ober et al. 2004, eq. 8);
- EMCCD: ``p = P_0 delta(u) + sum P_k u^(k-1) e^-u / (k-1)!`` convolved with read noise, u the
  output over the gain: an exponential variate per electron, the limit of a long register at high
  gain (Chao, Ward and Ober 2012, Multidimens. Syst. Signal Process. 23, 349; Hirsch et al. 2013,
  PLoS ONE 8, e53671). In Bessel functions ``sum_(k>=1) P_k u^(k-1) e^-u/(k-1)! = e^(-m-u) sqrt(m/u)
  I1(2 sqrt(m u))``, and its derivative is ``e^(-m-u) I0(2 sqrt(m u))`` less itself.

The usual approximations are ``1/J = m + read^2`` (Huang et al. 2013) and ``1/J = 2 m + read^2``.
The first overstates the variance, and so the bound, where few electrons meet a read noise below
one electron: J exceeds it by 72 % in a dark pixel at 1 e. The second does where less than about
one electron is expected: single electrons stand out of the read noise, and the factor 2 falls to 1.
Quantisation and saturation are left out.
"""

from __future__ import annotations

import math

import numpy as np
from scipy.special import i0e, i1e

from simscope.errors import EvaluationError
from simscope.evaluate.tables import Floats

HIGHEST_EXACT_E = 60.0
"""Beyond this mean the small relative excess of J is continued in proportion to 1/variance."""

LEAST_READ_E = 0.01
"""Read noise below this share of an electron's signal counts as this, 1 % off at most."""

NODES = 32
FAR = 8.5  # standard deviations of read noise held on either side


def exact_variance(mean_e: Floats, read_e: float, *, multiplied: bool = False) -> Floats:
    """The variance 1/J [e^2] that stands for a pixel's exact information, shape of ``mean_e``.

    ``mean_e``: expected electrons, above 0; ``read_e``: read noise [e], of an EMCCD
    (``multiplied``) over its gain. Interpolated between 32 exact values: good to 2e-5, and to 1e-4
    for an EMCCD. Raises EvaluationError for means of 0 or fewer without read noise.
    """
    from scipy.interpolate import CubicSpline  # slow to import, as are signal and stats below

    approximate = (2.0 if multiplied else 1.0) * mean_e + read_e**2
    if not np.all((approximate > 0) & np.isfinite(approximate) & (mean_e >= 0)):
        raise EvaluationError(
            f"pixels expect {np.min(mean_e):g} electrons with a read noise of {read_e:g} e: one "
            "without light or noise would know its mean exactly; give background_photons"
        )
    if not multiplied and read_e < LEAST_READ_E:
        return approximate  # every electron is told apart
    lowest = min(max(float(mean_e.min()), 1e-4), HIGHEST_EXACT_E / 10)
    highest = float(np.clip(mean_e.max(), 10.0 * lowest, HIGHEST_EXACT_E))
    nodes = np.geomspace(lowest, highest, NODES)
    information = _multiplied_information if multiplied else _readout_information
    exact = np.array([information(float(node), read_e) for node in nodes])
    approximate_nodes = (2.0 if multiplied else 1.0) * nodes + read_e**2
    ratio = CubicSpline(np.log(nodes), np.log(exact * approximate_nodes))
    held = np.clip(mean_e, lowest, highest)
    excess = np.expm1(ratio(np.log(held)))
    excess *= np.where(mean_e > highest, approximate_nodes[-1] / approximate, 1.0)
    return approximate / (1.0 + excess)


def _readout_information(mean_e: float, read_e: float) -> float:
    """J [1/e^2] of Poisson electrons read with Gaussian noise, by the trapezoid rule.

    The density is a row of Gaussians: steps of a quarter of their width integrate it to rounding.
    """
    from scipy.stats import poisson

    per_electron = max(1, math.ceil(4.0 / read_e))
    spread = FAR * math.sqrt(mean_e) + 12.0
    first, last = max(0, math.floor(mean_e - spread)), math.ceil(mean_e + spread)
    electrons = np.arange(first, last + 1)
    weight = poisson.pmf(electrons, mean_e)
    slope = poisson.pmf(electrons - 1, mean_e) - weight
    comb = np.zeros((2, (last - first) * per_electron + 1))
    comb[:, ::per_electron] = weight, slope
    density, change = (np.convolve(row, _gaussian(read_e, 1.0 / per_electron)) for row in comb)
    return _information(density, change, 1.0 / per_electron)


def _multiplied_information(mean_e: float, read_e: float) -> float:
    """J [1/e^2] behind an electron-multiplying register, output in units of the gain."""
    from scipy.signal import oaconvolve

    width = max(read_e, LEAST_READ_E)
    step = width / 8.0
    output = np.arange(0.0, mean_e + 12.0 * math.sqrt(2.0 * mean_e) + 35.0, step)
    twice_root = 2.0 * np.sqrt(mean_e * output)
    damping = np.exp(twice_root - mean_e - output)
    positive = np.maximum(output, 1e-300)
    lit = damping * np.sqrt(mean_e / positive) * i1e(2.0 * np.sqrt(mean_e * positive))
    change = damping * i0e(twice_root) - lit
    # Gregory's end corrections: the density starts with a step at u = 0
    start = np.array((3.0 / 8.0, 7.0 / 6.0, 23.0 / 24.0))
    dark = math.exp(-mean_e) / step
    rows = []
    for row, unlit in ((lit, dark), (change, -dark)):
        row[:3] *= start
        row[0] += unlit
        rows.append(oaconvolve(row, _gaussian(width, step)) * step)
    return _information(rows[0], rows[1], step)


def _gaussian(width: float, step: float) -> Floats:
    """Normal density on an odd grid of ``step`` out to ``FAR`` widths."""
    half = math.ceil(FAR * width / step)
    place = np.arange(-half, half + 1) * (step / width)
    return np.asarray(np.exp(-0.5 * place**2) / (math.sqrt(2.0 * math.pi) * width))


def _information(density: Floats, change: Floats, step: float) -> float:
    """``integral change^2 / density``, without the tails that are rounding only."""
    there = density > 1e-13 * density.max()
    return float((change[there] ** 2 / density[there]).sum() * step)
