"""Uniform variates at arbitrary counters, on a GPU."""

import numpy as np
from numba import cuda

from simscope.kernels.cuda.launch import on_grid
from simscope.kernels.variates import uniform


@on_grid("(float64[::1], int64[::1], int64[::1], int64[::1], uint32, uint32, uint32)")
def uniform_at(out, element, step, sample, draw, k0, k1):
    """As ``addressed.uniform_at``, one thread a variate."""
    i = cuda.grid(1)
    if i < out.size:
        out[i] = uniform(
            np.uint32(element[i]), np.uint32(step[i]), np.uint32(sample[i]), draw, k0, k1
        )
