"""Gauss-Legendre quadrature: the one place its nodes come from.

``numpy.polynomial.legendre.leggauss`` finds eigenvalues, slow above some hundred nodes; the kernel
takes Newton's steps from asymptotic zeros.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from simscope.kernels.radial import gauss_legendre

FloatArray = NDArray[np.float64]


@lru_cache(maxsize=256)
def legendre_rule(count: int) -> tuple[FloatArray, FloatArray]:
    """Gauss-Legendre nodes and weights on [-1, 1], each (count,), not to be written to."""
    node, weight = np.empty(count), np.empty(count)
    gauss_legendre(node, weight)
    node.setflags(write=False)
    weight.setflags(write=False)
    return node, weight


def legendre_between(low: float, high: float, count: int) -> tuple[FloatArray, FloatArray]:
    """Gauss-Legendre nodes and weights on [low, high], each (count,)."""
    node, weight = legendre_rule(count)
    half = 0.5 * (high - low)
    return low + half * (node + 1.0), half * weight
