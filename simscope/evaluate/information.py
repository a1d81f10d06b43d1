"""Fisher information of images, and the bounds that follow from it.

Pixels are independent and pixel k has the expected count mu_k, so the Fisher information of
parameters a and b is

    I_ab = sum over k of (d mu_k / d a) (d mu_k / d b) J(mu_k) ,

with J the information that one count carries about its own mean: 1/mu for Poisson counts (Ober et
al. 2004, Biophys. J. 86, 1185, eq. 5). For other cameras 1/J plays the part of a variance:
approximate ones are in :mod:`simscope.camera.inverse`, exact ones in
:mod:`simscope.evaluate.pixel_noise`.

The Cramér-Rao inequality holds for unbiased estimators: a prior, or a fit that is held inside the
range of the PSF, can come out below the bound.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from simscope.errors import EvaluationError
from simscope.evaluate.tables import Floats

WORST_CONDITION = 1e12  # beyond, double precision cannot tell two parameters apart
UNBOUNDED_SHARE = 1e-10  # squared share of a parameter in a direction without information


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
    scale, correlation = _scale_and_correlation(information)
    if not np.all(scale > 0):
        raise EvaluationError(
            "a parameter leaves the image unchanged, so it has no bound: move the emitter into "
            "the range of the PSF, or give it photons"
        )
    if not np.all(is_invertible(information)):
        raise EvaluationError(
            "two parameters change the image alike, so neither has a bound: fix one of them"
        )
    variances = np.diagonal(np.linalg.inv(correlation), axis1=-2, axis2=-1)
    return np.sqrt(variances) / scale


def bound_or_infinity(information: Floats) -> Floats:
    """Smallest standard deviations, ``(..., parameters)``; inf where the images say nothing.

    A parameter that leaves the image unchanged has no bound, nor have two that change it alike;
    those that the image does determine keep theirs. Along the eigenvectors v of the information
    with eigenvalue w, ``variance_i = sum v_i^2 / w``, and an eigenvalue of 0 leaves every
    parameter without bound that has a share in its vector.
    """
    scale, correlation = _scale_and_correlation(information)
    values, vectors = np.linalg.eigh(correlation)
    known = values > values[..., -1:] / WORST_CONDITION
    inverse = np.divide(1.0, values, out=np.zeros_like(values), where=known)
    squared = vectors**2
    variances = np.einsum("...pk,...k->...p", squared, inverse)
    lost = np.einsum("...pk,...k->...p", squared, ~known)
    bounded = (scale > 0) & (lost < UNBOUNDED_SHARE)
    bounds = np.full(scale.shape, np.inf)
    return np.divide(np.sqrt(variances), scale, out=bounds, where=bounded)


def is_invertible(information: Floats) -> npt.NDArray[np.bool_]:
    """Whether every parameter acts, and each in a way of its own, ``(...)``."""
    scale, correlation = _scale_and_correlation(information)
    apart: npt.NDArray[np.bool_] = np.linalg.cond(correlation) <= WORST_CONDITION
    return np.all(scale > 0, axis=-1) & apart


def _scale_and_correlation(information: Floats) -> tuple[Floats, Floats]:
    """Roots of the diagonal, and the information with them taken out (0 where a root is 0)."""
    scale = np.sqrt(np.diagonal(information, axis1=-2, axis2=-1))
    inverse = np.divide(1.0, scale, out=np.zeros_like(scale), where=scale > 0)
    return scale, information * inverse[..., :, np.newaxis] * inverse[..., np.newaxis, :]
