"""Slow, obvious twin of the pupil model: the light of every ray of an aberrated pupil, summed.

Written from Novotny and Hecht, Principles of Nano-Optics, ch. 3 (focal fields) and 10 (dipoles near
interfaces), sharing no code with the model: plain complex exponentials on polar nodes, one dipole
axis after the other. ``stack`` as in ``reference.radial_psf``.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from reference import _path


def aberrated_psf(stack, path_nm, x_nm, y_nm, z_nm, focus_nm, scalar=False, rings=110, around=280):
    """Intensity [1/nm^2] at points of a freely rotating dipole, or a scalar source, unit photon.

    ``path_nm(rho, phi)``: wavefront error on the unit disc. A phase that grows with kx moves the
    image to +x, so the camera field is the transform with exp(-i k q r).
    """
    q, weight = _radii(stack, rings)
    phi = 2 * np.pi * np.arange(around) / around
    q, phi = (a.ravel() for a in np.meshgrid(q, phi, indexing="ij"))
    weight = np.repeat(weight, around) * q * 2 * np.pi / around
    k = 2 * np.pi / stack["wavelength_nm"]
    path = _path(stack, q, z_nm, focus_nm) + path_nm(q / stack["na"], phi)
    phase = np.exp(1j * k * path)
    x, y = np.atleast_1d(x_nm), np.atleast_1d(y_nm)
    to_point = np.exp(-1j * k * (np.outer(x, q * np.cos(phi)) + np.outer(y, q * np.sin(phi))))
    intensity, energy = 0.0, 0.0
    for field in [np.ones_like(q)] if scalar else _dipole_fields(stack, q, phi):
        light = field * phase
        intensity = intensity + np.abs(to_point @ (light * weight)) ** 2
        energy += (np.abs(light) ** 2 * weight).sum()
    return intensity / (stack["wavelength_nm"] ** 2 * energy)


def _dipole_fields(stack, q, phi):
    """Ex and Ey at the rays, of dipoles along x, y and z in turn."""
    ni, ns, ng = stack["ni"], stack["ns"], stack["ng"]
    cos_i, cos_g, cos_s = (np.sqrt(1 - (q / n) ** 2 + 0j) for n in (ni, ng, ns))
    ts = (2 * ni * cos_i / (ni * cos_i + ng * cos_g)) * (2 * ng * cos_g / (ng * cos_g + ns * cos_s))
    tp = (2 * ni * cos_i / (ng * cos_i + ni * cos_g)) * (2 * ng * cos_g / (ns * cos_g + ng * cos_s))
    s = np.array((-np.sin(phi), np.cos(phi), 0 * phi))
    p = np.array((cos_s * np.cos(phi), cos_s * np.sin(phi), -q / ns))
    for axis in range(3):
        for component in range(2):
            radial = np.array((np.cos(phi), np.sin(phi)))[component]
            yield (ts * s[axis] * s[component] + tp * p[axis] * radial) / np.sqrt(cos_i)


def _radii(stack, rings):
    """Gauss nodes and weights in q on [0, NA], drawn to the critical circle from both sides."""
    node, weight = np.polynomial.legendre.leggauss(rings)
    u, du = 0.5 * (node + 1), 0.5 * weight
    na, ns = stack["na"], stack["ns"]
    if ns >= na:
        return na * u, na * du
    inner = ns * (1 - (1 - u) ** 2), ns * 2 * (1 - u) * du
    outer = ns + (na - ns) * u**2, (na - ns) * 2 * u * du
    return tuple(np.concatenate(pair) for pair in zip(inner, outer, strict=True))


def aberrated_pixels(stack, path_nm, x_nm, y_nm, pixel_nm, z_nm, focus_nm, scalar=False, order=5):
    """Probability in pixels centred at ``x_nm``, ``y_nm`` by Gauss quadrature over each pixel."""
    node, weight = np.polynomial.legendre.leggauss(order)
    dx, dy = np.meshgrid(0.5 * pixel_nm * node, 0.5 * pixel_nm * node)
    area = np.outer(weight, weight) * (0.5 * pixel_nm) ** 2
    x = np.atleast_1d(x_nm)[:, None, None] + dx
    y = np.atleast_1d(y_nm)[:, None, None] + dy
    values = aberrated_psf(stack, path_nm, x.ravel(), y.ravel(), z_nm, focus_nm, scalar)
    return (values.reshape(x.shape) * area).sum(axis=(1, 2))


def modulated_psf(na, wavelength_nm, transmission, x_nm, y_nm):
    """Scalar intensity [1/nm^2] in focus behind square modulator pixels over the pupil's width.

    ``transmission[row = ky, col = kx]``: complex, of every pixel. Along kx the light of a pixel
    is a sinc, exactly; along ky = NA sin(t) the chord ends at NA cos(t), and Gauss's rule runs
    between all t at which a chord meets an edge or a corner of pixels.
    """
    size = len(transmission)
    edges = np.linspace(-na, na, size + 1)
    meets = np.sqrt(na**2 - edges**2)
    cuts = np.unique(np.round(np.arcsin(np.concatenate((edges, meets, -meets)) / na), 12))
    node, weight = np.polynomial.legendre.leggauss(12)
    k = 2 * np.pi / wavelength_nm
    field = np.zeros((len(y_nm), len(x_nm)), complex)
    energy = 0.0
    for low, high in pairwise(cuts):
        half = 0.5 * (high - low)
        for t, dt in zip(low + half * (node + 1), half * weight, strict=True):
            ky, end, step = na * np.sin(t), na * np.cos(t), na * np.cos(t) * dt
            shown = transmission[int((ky + na) / (2 * na) * size)]
            left, right = np.clip(edges[:-1], -end, end), np.clip(edges[1:], -end, end)
            width, middle = right - left, 0.5 * (left + right)
            waves = width * np.sinc(k * np.outer(x_nm, width) / (2 * np.pi))
            along = (waves * np.exp(-1j * k * np.outer(x_nm, middle))) @ shown
            field += step * np.outer(np.exp(-1j * k * ky * y_nm), along)
            energy += step * (width @ np.abs(shown) ** 2)
    return np.abs(field) ** 2 / (wavelength_nm**2 * energy)
