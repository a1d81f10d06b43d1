"""How few images serve the planes of a volume: the PSFs of all heights as sums of shared modes.

The PSF of height z, h(z), is sum_k u_k(z) m_k. A volume v then has the image
sum_z v(z) * h(z) = sum_k (sum_z u_k(z) v(z)) * m_k: planes are weighed and added before anything is
convolved. The axial band of an objective is narrow, so stacks sampled more finely than it needs
few modes; those of coarse steps need as many modes as planes, and are then left as they are.

The modes are the left singular vectors of the stack, every plane first divided by its peak. What
dropping the smallest ones leaves is known exactly, per plane: the root of the sum of squares bounds
the error of any pixel, and the sums of the modes tell what becomes of the light.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from simscope.blas import single_blas_thread

FloatArray = NDArray[np.float64]

WORTHWHILE = 0.8
"""Share of the planes above which fewer modes save nothing."""

FINEST = 1e-7
"""Accuracy beyond which singular values from products of images are no longer known."""


@dataclass(frozen=True)
class SharedModes:
    """Images (modes, foci, y, x) and how much of each is in every plane, (modes, planes).

    ``mix`` is None where every plane has its own image. ``error``: worst error of a PSF over its
    plane's peak, or of its light, whichever is larger [1].
    """

    images: FloatArray
    mix: FloatArray | None
    error: float


def shared_modes(psfs: FloatArray, accuracy: float) -> SharedModes:
    """The fewest modes that serve PSFs (planes, foci, y, x) to ``accuracy``.

    Counted as a share of each plane's peak over all foci for any pixel, and of one photon for the
    light of every plane and focus.
    """
    planes, foci = psfs.shape[:2]
    peaks = psfs.reshape(planes, -1).max(axis=1)
    if accuracy < FINEST or planes == 1 or not (peaks > 0.0).all():
        return SharedModes(psfs, None, 0.0)
    scaled = (psfs / peaks[:, None, None, None]).reshape(planes, -1)
    with single_blas_thread():
        squares, vectors = np.linalg.eigh(scaled @ scaled.T)
        squares, vectors = np.maximum(squares[::-1], 0.0), vectors[:, ::-1]
        sums = scaled.reshape(planes, foci, -1).sum(axis=2)
        errors = _errors_by_rank(squares, vectors, sums, peaks)
        rank = int(np.argmax(errors <= accuracy)) if (errors <= accuracy).any() else planes
        if rank > WORTHWHILE * planes:
            return SharedModes(psfs, None, 0.0)
        kept = vectors[:, :rank]
        images = (kept.T @ scaled).reshape(rank, *psfs.shape[1:])
    return SharedModes(images, (kept * peaks[:, None]).T, float(errors[rank]))


def _errors_by_rank(
    squares: FloatArray, vectors: FloatArray, sums: FloatArray, peaks: FloatArray
) -> FloatArray:
    """Worst error left by the first k modes, for k from 0 to all planes, (planes + 1,).

    ``squares``: of the singular values; ``sums``: of the scaled PSFs over pixels, (planes, foci).
    """
    dropped = _tails(vectors**2 * squares)
    pixels = np.sqrt(dropped).max(axis=0)
    light = _tails(vectors[:, None, :] * (vectors.T @ sums).T[None])
    return np.maximum(pixels, (np.abs(light) * peaks[:, None, None]).max(axis=(0, 1)))


def _tails(terms: FloatArray) -> FloatArray:
    """Sums of terms from k on along the last axis, for k from 0 to their number."""
    sums = np.zeros((*terms.shape[:-1], terms.shape[-1] + 1))
    sums[..., :-1] = np.cumsum(terms[..., ::-1], axis=-1)[..., ::-1]
    return sums
