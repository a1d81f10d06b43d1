"""Slow, obvious twins of scanned microscopes, beads and spectra, sharing no code with simscope.

Focused beams: Richards and Wolf, Proc. R. Soc. A 253, 358 (1959), eq. 2.26, as a plain sum of plane
waves over both angles, each turned from the pupil's polarisation by rotation matrices. Everything
else is the definition with dense quadrature.
"""

from __future__ import annotations

import numpy as np
from scipy.special import j1


def airy(radius_nm, na, wavelength_nm):
    """Intensity [1/nm^2] of a scalar, evenly filled pupil in focus, 1 in all (Born and Wolf)."""
    v = 2 * np.pi * na * np.asarray(radius_nm, float) / wavelength_nm
    safe = np.where(v == 0, 1.0, v)
    return np.pi * (na / wavelength_nm) ** 2 * np.where(v == 0, 1.0, 2 * j1(safe) / safe) ** 2


def circular_focus(na, n, wavelength_nm, x, y, z, charge=0, wavefront_nm=None, count=72):
    """|E|^2 at points of a homogeneous medium for circular light with a vortex of ``charge``.

    ``wavefront_nm``: function of pupil coordinates (px, py) in [-1, 1]. Unnormalised.
    """
    node, weight = np.polynomial.legendre.leggauss(count)
    alpha = np.arcsin(na / n)
    theta = 0.5 * alpha * (node + 1)
    phi = 2 * np.pi * np.arange(count) / count
    theta, phi = (a.ravel() for a in np.meshgrid(theta, phi, indexing="ij"))
    area = np.repeat(0.5 * alpha * weight, count) * 2 * np.pi / count
    c, s, cp, sp = np.cos(theta), np.sin(theta), np.cos(phi), np.sin(phi)
    # refraction: turn the meridional plane to x, tilt by theta, turn back
    e_x, e_y = 1 / np.sqrt(2), 1j / np.sqrt(2)
    radial, azimuthal = e_x * cp + e_y * sp, -e_x * sp + e_y * cp
    field = np.array(
        (radial * c * cp - azimuthal * sp, radial * c * sp + azimuthal * cp, -radial * s)
    )
    k = 2 * np.pi / wavelength_nm
    phase = charge * phi
    if wavefront_nm is not None:
        rho = n * s / na
        phase = phase + k * wavefront_nm(rho * cp, rho * sp)
    field = field * np.sqrt(c) * s * area * np.exp(1j * phase)
    waves = np.exp(1j * k * n * (np.outer(x, s * cp) + np.outer(y, s * sp) + np.outer(z, c)))
    return (np.abs(waves @ field.T) ** 2).sum(axis=1)


def highest(values):
    """Highest value of a smooth curve, by a parabola through the three highest points."""
    top = int(values.argmax())
    before, here, after = values[top - 1 : top + 2]
    return here - (after - before) ** 2 / (8 * (after - 2 * here + before))


def disc_mean(profile, radius_nm, distance_nm, count=40):
    """Mean of a radial function over discs whose centres lie ``distance_nm`` from its axis."""
    node, weight = np.polynomial.legendre.leggauss(count)
    rho = radius_nm * 0.5 * (node + 1)
    ring = 0.5 * radius_nm * weight * rho * 2 / radius_nm**2
    phi = 2 * np.pi * (np.arange(2 * count) + 0.5) / (2 * count)
    distance = np.atleast_1d(distance_nm)[:, None, None]
    from_axis = np.sqrt(distance**2 + rho[:, None] ** 2 + 2 * distance * rho[:, None] * np.cos(phi))
    return np.einsum("drp,r->d", profile(from_axis), ring) / (2 * count)


def square_mean(image, side_nm, x, y, count=16):
    """Mean of ``image(x, y)`` over squares centred on points."""
    node, weight = np.polynomial.legendre.leggauss(count)
    total = 0.0
    for dx, wx in zip(node, weight, strict=True):
        for dy, wy in zip(node, weight, strict=True):
            total = total + 0.25 * wx * wy * image(x + 0.5 * side_nm * dx, y + 0.5 * side_nm * dy)
    return total


def ball_points(radius_nm, rings=5, heights=8, turns=12):
    """Points (3, n) [nm] and weights (n,) that integrate smooth functions over a ball, mean 1."""
    radial, radial_weight = np.polynomial.legendre.leggauss(rings)
    radius = 0.5 * radius_nm * (radial + 1)
    radial_weight = radial_weight * radius**2
    cosine, cosine_weight = np.polynomial.legendre.leggauss(heights)
    phi = 2 * np.pi * (np.arange(turns) + 0.5) / turns
    r, c, p = np.meshgrid(radius, cosine, phi, indexing="ij")
    weight = (radial_weight[:, None, None] * cosine_weight[:, None] * np.ones(turns)).ravel()
    sine = np.sqrt(1 - c**2)
    points = np.array((r * sine * np.cos(p), r * sine * np.sin(p), r * c)).reshape(3, -1)
    return points, weight / weight.sum()


def width(positions, values):
    """Full width at half of the highest value of a single-peaked curve, by linear crossings."""
    half = values.max() / 2
    above = np.flatnonzero(values > half)
    left, right = above[0], above[-1]

    def crossing(outer, inner):
        share = (half - values[outer]) / (values[inner] - values[outer])
        return positions[outer] + share * (positions[inner] - positions[outer])

    return crossing(right + 1, right) - crossing(left - 1, left)
