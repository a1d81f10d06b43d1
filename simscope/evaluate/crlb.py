"""The Cramér-Rao lower bound: the smallest standard deviation any unbiased estimator can have.

Each emitter is taken alone on a uniform background. Its expected image is
``mu = N * psf(x, y, z) + b`` per pixel [photons], turned to photo-electrons by the camera. With a
variance ``v`` per pixel the Fisher information is

    I_ab = sum over pixels of (d mu / d a) (d mu / d b) / v ,

exact for Poisson counts (``v = mu``). Read noise is treated as an extra Poisson-like variance,
``v = mu + read^2`` (Huang et al. 2013, *Nat. Methods* 10:653), good while
``mu`` or ``read`` is above about one electron; an electron-multiplying register doubles the shot
noise, ``v = 2 mu + (read / gain)^2`` (Mortensen et al. 2010, *Nat. Methods* 7:377). The camera
floor owns the formula of ``v``.
"""

from __future__ import annotations

import numpy as np

from simscope.errors import EvaluationError
from simscope.evaluate.tables import Floats

CRLB_DTYPE = np.dtype(
    [(name, np.float64) for name in ("x_nm", "y_nm", "z_nm", "photons", "background")]
)


def fisher_information(mean_derivatives: Floats, variance: Floats) -> Floats:
    """Fisher information ``(..., parameters, parameters)``, in inverse units of the parameters.

    ``mean_derivatives`` is ``(..., parameters, pixels)``, the derivatives of every pixel's mean;
    ``variance`` is ``(..., pixels)``, both in the same counts. The dependence of the variance on
    the parameters is left out, exact for Poisson counts.

    Raises
    ------
    EvaluationError
        If a variance is not positive.
    """
    if not np.all(variance > 0):
        raise EvaluationError(
            f"smallest variance {np.min(variance):g} is not above 0: a pixel without light or "
            "noise would know its mean exactly; give background_photons or read noise"
        )
    weighted = mean_derivatives / variance[..., np.newaxis, :]
    return weighted @ np.swapaxes(mean_derivatives, -1, -2)


def bound_from_information(information: Floats) -> Floats:
    """Smallest standard deviations, ``(..., parameters)``: root of the inverse's diagonal.

    Raises
    ------
    EvaluationError
        If the information has no inverse: two parameters act alike, or one has no effect.
    """
    scale = np.sqrt(np.diagonal(information, axis1=-2, axis2=-1))
    if not np.all(scale > 0):
        raise EvaluationError(
            "a parameter leaves the image unchanged, so it has no bound: move the emitter into "
            "the range of the PSF, or give it photons"
        )
    correlation = information / (scale[..., :, np.newaxis] * scale[..., np.newaxis, :])
    if np.any(np.linalg.cond(correlation) > 1e12):
        raise EvaluationError(
            "two parameters change the image alike, so neither has a bound: fix one of them"
        )
    variances = np.diagonal(np.linalg.inv(correlation), axis1=-2, axis2=-1)
    return np.sqrt(variances) / scale
