"""Variates at arbitrary counters, on a GPU: one thread a variate."""

from numba import cuda

from simscope.kernels import binomial, poisson, variates
from simscope.kernels.cuda.launch import on_grid


@on_grid("(float64[::1], int64[::1], int64[::1], int64[::1], uint32, uint32, uint32)")
def uniform_at(out, element, step, sample, draw, k0, k1):
    """As ``addressed.uniform_at``."""
    i = cuda.grid(1)
    if i < out.size:
        out[i] = variates.uniform(element[i], step[i], sample[i], draw, k0, k1)


@on_grid("(float64[::1], int64[::1], int64[::1], int64[::1], uint32, uint32, uint32)")
def normal_at(out, element, step, sample, draw, k0, k1):
    """As ``addressed.normal_at``."""
    i = cuda.grid(1)
    if i < out.size:
        out[i] = variates.normal(element[i], step[i], sample[i], draw, k0, k1)


@on_grid("(float64[::1], int64[::1], int64[::1], int64[::1], uint32, uint32, uint32)")
def exponential_at(out, element, step, sample, draw, k0, k1):
    """As ``addressed.exponential_at``."""
    i = cuda.grid(1)
    if i < out.size:
        out[i] = variates.exponential(element[i], step[i], sample[i], draw, k0, k1)


@on_grid("(float64[::1], float64[::1], int64[::1], int64[::1], int64[::1], uint32, uint32, uint32)")
def gamma_at(out, shape, element, step, sample, draw, k0, k1):
    """As ``addressed.gamma_at``."""
    i = cuda.grid(1)
    if i < out.size:
        out[i] = variates.gamma(shape[i], element[i], step[i], sample[i], draw, k0, k1)


@on_grid(
    "(int64[::1], int64[::1], float64[::1], int64[::1], int64[::1], int64[::1], uint32, uint32, "
    "uint32)"
)
def binomial_at(out, trials, p, element, step, sample, draw, k0, k1):
    """As ``addressed.binomial_at``."""
    i = cuda.grid(1)
    if i < out.size:
        out[i] = binomial.binomial(trials[i], p[i], element[i], step[i], sample[i], draw, k0, k1)


@on_grid("(int64[::1], float64[::1], int64[::1], int64[::1], int64[::1], uint32, uint32, uint32)")
def poisson_at(out, mean, element, step, sample, draw, k0, k1):
    """As ``addressed.poisson_at``."""
    i = cuda.grid(1)
    if i < out.size:
        u = variates.uniform(element[i], step[i], sample[i], draw, k0, k1)
        out[i] = poisson.poisson_quantile(u, mean[i])
