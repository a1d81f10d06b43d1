"""Values together with their derivatives, so that products and exponentials carry slopes along.

A jet is an array (n, k, ...): the value first, then its k - 1 derivatives (by x, y and z, or none).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

FloatArray = NDArray[np.float64]


def jet_of(model: Any, slopes: bool, *where: ArrayLike) -> FloatArray:
    """Images of a model (n, 1, y, x), or with their slopes by x, y, z (n, 4, y, x)."""
    return np.asarray(model.slopes(*where) if slopes else model.images(*where)[:, None])


def times(first: FloatArray, second: FloatArray) -> FloatArray:
    """Jet of the product (product rule)."""
    out = first[:, :1] * second
    out[:, 1:] += first[:, 1:] * second[:, :1]
    return out


def exponential(exponent: FloatArray) -> FloatArray:
    """Jet of the exponential (chain rule)."""
    out = np.exp(exponent[:, :1]) * exponent
    out[:, :1] = np.exp(exponent[:, :1])
    return out


def along_z(value: FloatArray, slope: FloatArray, like: FloatArray) -> FloatArray:
    """Jet (n, k, 1, 1) of a function of height alone, (n,) each, fit to multiply ``like``."""
    out = np.zeros((*like.shape[:2], 1, 1))
    out[:, 0, 0, 0] = value
    if like.shape[1] == 4:
        out[:, 3, 0, 0] = slope
    return out
