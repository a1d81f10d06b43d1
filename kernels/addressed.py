"""Variates at arbitrary counters: one call for the emitters of many samples.

Every driver fills ``out`` with variates at counters ``(element[i], step[i], sample[i], draw)``,
whole numbers in [0, 2^32); parameters of a law are arrays like ``out``.
"""

from simscope.kernels import binomial, poisson, variates
from simscope.kernels.compiled import compiled


@compiled
def uniform_at(out, element, step, sample, draw, k0, k1):
    """Fill float64 ``out`` with uniform variates in (0, 1)."""
    for i in range(out.size):
        out[i] = variates.uniform(element[i], step[i], sample[i], draw, k0, k1)


@compiled
def normal_at(out, element, step, sample, draw, k0, k1):
    """Fill float64 ``out`` with standard normal variates."""
    for i in range(out.size):
        out[i] = variates.normal(element[i], step[i], sample[i], draw, k0, k1)


@compiled
def exponential_at(out, element, step, sample, draw, k0, k1):
    """Fill float64 ``out`` with exponential variates of mean 1."""
    for i in range(out.size):
        out[i] = variates.exponential(element[i], step[i], sample[i], draw, k0, k1)


@compiled
def gamma_at(out, shape, element, step, sample, draw, k0, k1):
    """Fill float64 ``out`` with gamma variates of these shapes and scale 1."""
    for i in range(out.size):
        out[i] = variates.gamma(shape[i], element[i], step[i], sample[i], draw, k0, k1)


@compiled
def binomial_at(out, trials, p, element, step, sample, draw, k0, k1):
    """Fill int64 ``out`` with how many of ``trials`` succeed, each with probability ``p``."""
    for i in range(out.size):
        out[i] = binomial.binomial(trials[i], p[i], element[i], step[i], sample[i], draw, k0, k1)


@compiled
def poisson_at(out, mean, element, step, sample, draw, k0, k1):
    """Fill int64 ``out`` with Poisson variates of these means in [0, 1e7]."""
    for i in range(out.size):
        u = variates.uniform(element[i], step[i], sample[i], draw, k0, k1)
        out[i] = poisson.poisson_quantile(u, mean[i])
