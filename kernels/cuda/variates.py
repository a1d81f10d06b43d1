"""Variates of consecutive elements, on a GPU."""

from numba import cuda

from simscope.kernels import variates
from simscope.kernels.cuda.launch import on_grid


@on_grid("(float32[::1], uint32, uint32, uint32, uint32, uint32)")
def fill_uniform32(out, step, sample, draw, k0, k1):
    """As ``variates.fill_uniform32``, one thread for the four variates of a block."""
    first = variates.WORDS * cuda.grid(1)
    if first < out.size:
        here = out[first : first + variates.WORDS]
        variates.uniform32_stripe(here, first, step, sample, draw, k0, k1)


@on_grid("(float64[::1], uint32, uint32, uint32, uint32, uint32)")
def fill_uniform(out, step, sample, draw, k0, k1):
    """As ``variates.fill_uniform``, one thread a variate."""
    i = cuda.grid(1)
    if i < out.size:
        out[i] = variates.uniform(i, step, sample, draw, k0, k1)


@on_grid("(float64[::1], uint32, uint32, uint32, uint32, uint32)")
def fill_normal(out, step, sample, draw, k0, k1):
    """As ``variates.fill_normal``, one thread a variate."""
    i = cuda.grid(1)
    if i < out.size:
        out[i] = variates.normal(i, step, sample, draw, k0, k1)


@on_grid("(float64[::1], uint32, uint32, uint32, uint32, uint32)")
def fill_exponential(out, step, sample, draw, k0, k1):
    """As ``variates.fill_exponential``, one thread a variate."""
    i = cuda.grid(1)
    if i < out.size:
        out[i] = variates.exponential(i, step, sample, draw, k0, k1)


@on_grid("(float64[::1], float64, uint32, uint32, uint32, uint32, uint32)")
def fill_gamma(out, shape, step, sample, draw, k0, k1):
    """As ``variates.fill_gamma``, one thread a variate."""
    i = cuda.grid(1)
    if i < out.size:
        out[i] = variates.gamma(shape, i, step, sample, draw, k0, k1)


@on_grid("(float64[::1], float64, uint32, uint32, uint32, uint32, uint32)")
def fill_lognormal(out, sigma_log, step, sample, draw, k0, k1):
    """As ``variates.fill_lognormal``, one thread a variate."""
    i = cuda.grid(1)
    if i < out.size:
        out[i] = variates.lognormal(sigma_log, i, step, sample, draw, k0, k1)
