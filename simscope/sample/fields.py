"""Gaussian random fields: normal variates on a grid, spread by cubic B-splines."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from simscope.blas import single_blas_thread
from simscope.keys import Key
from simscope.sample.background import spline_weights

Singles = npt.NDArray[np.float32]

MEAN_STEEPNESS = 1.9
"""Mean length of the gradient of a field of unit variance, per spacing of its grid."""


def random_field(
    key: Key, sample: int, shape: tuple[int, ...], steps: tuple[float, ...]
) -> Singles:
    """Gaussian random field of zero mean and unit variance everywhere, float32 of ``shape``.

    ``steps``: distances of the samples along each axis, in units of the grid's spacing.
    """
    weights = [_spline_matrix(count, step) for count, step in zip(shape, steps, strict=True)]
    nodes = tuple(matrix.shape[1] for matrix in weights)
    normal = key.normal(np.arange(math.prod(nodes)).reshape(nodes), sample=sample)
    field = np.asarray(normal, np.float32)
    with single_blas_thread():
        for axis in (2, 1, 0):
            field = np.moveaxis(np.tensordot(weights[axis], field, (1, axis)), 0, axis)
    return np.ascontiguousarray(field)


def _spline_matrix(count: int, step: float) -> Singles:
    """Weights of all nodes at each sample of an axis, (samples, nodes)."""
    weights, first, nodes = spline_weights(count, step)
    matrix = np.zeros((count, nodes), np.float32)
    for k in range(weights.shape[1]):
        matrix[np.arange(count), first + k] = weights[:, k]
    return matrix
