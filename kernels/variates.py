"""Random variates addressed by counter: no state, so any one can be had without the others.

Every function takes the Philox counter ``(element, step, sample, draw)`` and key ``(k0, k1)``;
array fillers put element *i* of the stream into ``out[i]``.
"""

import numpy as np
from numba import njit

from simscope.kernels.philox import philox4x32

UNIT_52 = 2.0**-52


@njit(cache=True, nogil=True, error_model="numpy", forceinline=True)
def unit_interval(high, low):
    """Uniform float64 strictly inside (0, 1): the top 52 of 64 random bits, plus a half."""
    bits = (np.uint64(high) << np.uint64(20)) | (np.uint64(low) >> np.uint64(12))
    return (np.float64(np.int64(bits)) + 0.5) * UNIT_52


@njit(cache=True, nogil=True, error_model="numpy", forceinline=True)
def uniform(element, step, sample, draw, k0, k1):
    """Uniform float64 in (0, 1), 52 random bits."""
    a, b, _, _ = philox4x32(element, step, sample, draw, k0, k1)
    return unit_interval(a, b)


@njit(cache=True, nogil=True, error_model="numpy")
def fill_uniform(out, step, sample, draw, k0, k1):
    """Fill float64 ``out`` with uniform variates in (0, 1), one per element."""
    for i in range(out.size):
        out[i] = uniform(np.uint32(i), step, sample, draw, k0, k1)
