"""Light behind a rotationally symmetric pupil: its integrals over the pupil radius.

A dipole's field in the image follows from three integrals over the radius q = n sin(theta),

    I_m(r) = integral of kernel_m(q) exp(i k Psi(q)) J_m(k q r) q dq,    m = 0, 1, 2,

with the kernels ``even``, ``axial`` and ``split`` of ``interfaces.dipole_amplitudes`` (Török and
Varga, Appl. Opt. 36, 2305 (1997); Aguet et al., Opt. Express 17, 6829 (2009), eq. 4). The scalar
model of Gibson and Lanni (J. Opt. Soc. Am. A 8, 1601 (1991), eq. 7) is the first of them with
kernel 1: no apodisation, no Fresnel losses. Psi is the optical path of ``interfaces``.

The quadrature splits at the critical circle q = n_sample and substitutes

    q^2 = a^2 + (b^2 - a^2) sin^2(v)

with branch points a and b at or beyond the ends of a piece: sqrt(q^2 - a^2) and sqrt(b^2 - q^2)
become sines and cosines, q dq becomes (b^2 - a^2) sin(v) cos(v) dv, and Gauss-Legendre nodes in v
converge exponentially, also where the NA comes close to an index.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import NDArray
from scipy.special import j0, j1

from simscope.kernels.radial import bessel_functions
from simscope.optics import interfaces
from simscope.optics.interfaces import Objective
from simscope.optics.legendre import legendre_rule

FloatArray = NDArray[np.float64]
ComplexArray = NDArray[np.complex128]

TAYLOR_STEP = 0.125
TAYLOR_TERMS = 9
"""Points and terms of the Bessel table: with these the first term left out is below 1e-14."""


@dataclass(frozen=True)
class Piece:
    """A stretch of the pupil radius from ``start`` to ``end``, with a branch point at ``beyond``.

    The integrand has square roots at ``start`` (unless 0) and at ``beyond >= end``; in units of NA.
    """

    start: float
    end: float
    beyond: float

    @property
    def length(self) -> float:
        """Largest value of the substituted variable v [rad]."""
        span_squared = (self.beyond - self.start) * (self.beyond + self.start)
        reached_squared = (self.end - self.start) * (self.end + self.start)
        return math.asin(min(1.0, math.sqrt(reached_squared / span_squared)))

    def radius(self, v: FloatArray) -> FloatArray:
        """Pupil radius q at ``v`` [NA], same shape."""
        span_squared = (self.beyond - self.start) * (self.beyond + self.start)
        return np.sqrt(self.start**2 + span_squared * np.sin(v) ** 2)

    def nodes(self, count: int) -> tuple[FloatArray, FloatArray]:
        """Quadrature nodes q and weights of q dq, each (count,)."""
        node, weight = legendre_rule(count)
        v = 0.5 * self.length * (node + 1.0)
        span_squared = (self.beyond - self.start) * (self.beyond + self.start)
        area = 0.5 * self.length * weight * span_squared * np.sin(v) * np.cos(v)
        return self.radius(v), area


def pieces(objective: Objective) -> tuple[Piece, ...]:
    """Stretches of the pupil radius between the points where the integrand is not smooth."""
    na, critical = objective.na, objective.n_sample
    glass = min(
        objective.n_immersion, objective.n_immersion_design,
        objective.n_coverslip, objective.n_coverslip_design,
    )  # fmt: skip
    if critical >= na:
        return (Piece(0.0, na, min(critical, glass)),)
    return Piece(0.0, critical, critical), Piece(critical, na, glass)


def steepest_phase(
    objective: Objective,
    piece: Piece,
    corners_nm: list[tuple[float, float]],
    radius_nm: float,
) -> float:
    """Largest phase [rad] that half a piece would gather at the steepest rate within it.

    Over the (z, focus) corners and radii up to ``radius_nm``; decay counts like phase.
    """
    v = np.linspace(0.0, piece.length, 200)
    q = piece.radius(v)
    design = interfaces.design_path_nm(objective, q)
    sample = interfaces.root(objective.n_sample, q)
    immersion = interfaces.root(objective.n_immersion, q).real
    steepest_nm = 0.0
    for (z_nm, focus_nm), side in product(corners_nm, (-1.0, 1.0)):
        path_nm = design + z_nm * sample - focus_nm * immersion + side * radius_nm * q
        steepest_nm = max(steepest_nm, float(np.abs(np.diff(path_nm)).max()))
    return 0.5 * objective.wavenumber_per_nm * steepest_nm * (v.size - 1)


def node_count(steepest: float, accuracy: float) -> int:
    """Gauss-Legendre nodes for an integrand of phase rate ``steepest`` on [-1, 1].

    The error of n nodes falls like the Bessel function J_2n(w) = Ai(c) beyond its turning point
    2n = w, with c = (2n - w) / (w / 2)^(1/3) and Ai(c) ~ exp(-2/3 c^(3/2)).
    """
    # defocused images are weak against the light that makes them: three more digits
    digits = 3.0 - math.log10(accuracy)
    beyond = (1.5 * math.log(10.0) * digits) ** (2 / 3)
    return math.ceil(0.5 * steepest + 0.5 * beyond * (0.5 * steepest) ** (1 / 3)) + 4


@dataclass(frozen=True)
class RadialField:
    """The light at the quadrature nodes of the pupil radius, before height and focus.

    ``q``, ``area``: (nodes,) radius [NA] and weight of q dq; ``kernels``: (orders, nodes), those of
    I_0, I_1, I_2; ``strength``: (orders,), with which |I_m|^2 counts for a freely rotating dipole;
    ``sample_root``, ``immersion_root``: axial indices less their values on axis; ``path_nm``.
    """

    objective: Objective
    q: FloatArray
    area: FloatArray
    kernels: ComplexArray
    strength: FloatArray
    sample_root: ComplexArray
    immersion_root: FloatArray
    path_nm: FloatArray

    def phasors(self, z_nm: FloatArray, focus_nm: FloatArray) -> ComplexArray:
        """exp(i k Psi) at heights and foci [1], (planes, nodes)."""
        path = (
            self.path_nm
            + z_nm[:, None] * self.sample_root
            - focus_nm[:, None] * self.immersion_root
        )
        phasor: ComplexArray = np.exp(1j * self.objective.wavenumber_per_nm * path)
        return phasor

    def energies(self, z_nm: FloatArray) -> FloatArray:
        """Energy of each order through the pupil at heights [NA^2], (planes, orders).

        Parseval: proportional to the plane integral of |I_m|^2; a freely rotating dipole's energy
        is the sum with ``strength``.
        """
        decay = np.abs(self.phasors(z_nm, np.zeros_like(z_nm))) ** 2
        energies: FloatArray = 2.0 * np.pi * decay @ (self.area * np.abs(self.kernels) ** 2).T
        return energies

    def height_rates(self, z_nm: FloatArray) -> ComplexArray:
        """Logarithmic derivative of ``sources`` with height [1/nm], (planes, nodes).

        The path's own, less that of the energy, which sinks as the evanescent part decays.
        """
        rate = 1j * self.objective.wavenumber_per_nm * self.sample_root
        decay = np.abs(self.phasors(z_nm, np.zeros_like(z_nm))) ** 2
        density = decay * self.area * (self.strength @ np.abs(self.kernels) ** 2)
        sinks = (density @ rate.real) / density.sum(axis=1)
        rates: ComplexArray = rate - sinks[:, None]
        return rates

    def sources(self, z_nm: FloatArray, focus_nm: FloatArray) -> ComplexArray:
        """What J_m(k q r) is summed with to give I_m [1/nm], (orders, planes, nodes).

        Scaled so that the sum of strength_m |I_m|^2 integrates to 1 over the image plane.
        """
        scale = self.objective.wavenumber_per_nm / np.sqrt(self.energies(z_nm) @ self.strength)
        wave = self.area * self.phasors(z_nm, focus_nm) * scale[:, None]
        return self.kernels[:, None] * wave


def radial_field(objective: Objective, model: str, counts: tuple[int, ...]) -> RadialField:
    """The light at the nodes, ``counts`` of them on each piece; ``model`` as in the recipe."""
    rules = [p.nodes(count) for p, count in zip(pieces(objective), counts, strict=True)]
    q, area = (np.concatenate(column) for column in zip(*rules, strict=True))
    if model == "gibson_lanni":
        kernels, strength = np.ones((1, q.size), dtype=np.complex128), np.ones(1)
    else:
        even, split, axial = interfaces.dipole_amplitudes(objective, q)
        kernels, strength = np.array((even, axial, split)), np.array((2.0, 1.0, 2.0))
    return RadialField(
        objective,
        q,
        area,
        kernels,
        strength,
        interfaces.root(objective.n_sample, q) - objective.n_sample,
        interfaces.root(objective.n_immersion, q).real - objective.n_immersion,
        interfaces.design_path_nm(objective, q),
    )


def bessel_taylor(largest: float) -> FloatArray:
    """Taylor coefficients of J0 about multiples of TAYLOR_STEP up to ``largest``, (points, terms).

    By the recurrence that Bessel's equation x y'' + y' + x y = 0 imposes on them.
    """
    x = TAYLOR_STEP * np.arange(math.ceil(largest / TAYLOR_STEP) + 2)
    terms = np.zeros((TAYLOR_TERMS, x.size))
    terms[0], terms[1] = j0(x), -j1(x)
    past = x[1:]
    for n in range(2, TAYLOR_TERMS):
        before = terms[n - 3, 1:] if n > 2 else 0.0
        pull = (n - 1) ** 2 * terms[n - 1, 1:] + past * terms[n - 2, 1:] + before
        terms[n, 1:] = -pull / (past * n * (n - 1))
        terms[n, 0] = 0.0 if n % 2 else -terms[n - 2, 0] / n**2
    return np.ascontiguousarray(terms.T)


def bessel_tables(
    field: RadialField, radii_nm: FloatArray, taylor: FloatArray
) -> tuple[FloatArray, ...]:
    """J_m(k q r) of the field's orders, each (radii, nodes)."""
    scaled = field.objective.wavenumber_per_nm * radii_nm
    shape, none = (radii_nm.size, field.q.size), np.empty((0, 0))
    tables = [np.empty(shape) for _ in range(field.strength.size)]
    wanted = (*tables, none, none)[:3]
    bessel_functions(scaled, field.q, taylor, TAYLOR_STEP, *wanted)
    return tuple(tables)


def integrals(sources: ComplexArray, tables: tuple[FloatArray, ...]) -> list[ComplexArray]:
    """I_m [1/nm] of every order, (radii, planes) each; ``sources``: (orders, planes, nodes)."""
    results = []
    for source, table in zip(sources, tables, strict=True):
        # one real product for real and imaginary parts: (radii, nodes) by (nodes, 2 planes)
        results.append((table @ _real_pairs(source).T).view(np.complex128))
    return results


def _real_pairs(source: ComplexArray) -> FloatArray:
    """Real and imaginary parts side by side, (2 planes, nodes)."""
    planes, nodes = source.shape
    return np.stack((source.real, source.imag), axis=1).reshape(2 * planes, nodes)
