"""Uniform variates at arbitrary counters: one call for the emitters of many samples."""

import numpy as np

from simscope.kernels.compiled import compiled
from simscope.kernels.variates import uniform


@compiled
def uniform_at(out, element, step, sample, draw, k0, k1):
    """Fill float64 ``out`` with variates at counters ``(element[i], step[i], sample[i], draw)``."""
    for i in range(out.size):
        out[i] = uniform(
            np.uint32(element[i]), np.uint32(step[i]), np.uint32(sample[i]), draw, k0, k1
        )
