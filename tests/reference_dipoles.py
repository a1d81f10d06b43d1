"""Slow, obvious twins of oriented dipoles, written from the papers and sharing no code.

Images: every ray of a pupil carries s and p light of the dipole (Novotny and Hecht, Principles of
Nano-Optics, ch. 3 and 10), the objective turns both into the back focal plane, and the camera field
is the plain two-dimensional Fourier sum over the rays. Powers: angular spectrum of the dipole,
transmitted and reflected plane waves, flux through planes above and below (ch. 10.6), no
reciprocity. Orientation: averages over directions drawn in a cone, no closed form.

``stack``: dict with na, wavelength_nm, ns, ng, ni in a matched design (the design path is zero).
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np


def cone_directions(half_angle, rings=200, around=64):
    """Unit vectors (n, 3) spread evenly over a cone around z."""
    cosine = 1 - (1 - np.cos(half_angle)) * (np.arange(rings) + 0.5) / rings
    turn = 2 * np.pi * (np.arange(around) + 0.5) / around
    sine = np.sqrt(1 - cosine**2)
    return np.stack(
        [
            np.outer(sine, np.cos(turn)).ravel(),
            np.outer(sine, np.sin(turn)).ravel(),
            np.repeat(cosine, around),
        ],
        axis=1,
    )


def rotation(polar, azimuth):
    """Matrix that turns z onto the axis with these angles [rad]."""
    tilt = np.array(
        [
            [np.cos(polar), 0, np.sin(polar)],
            [0, 1, 0],
            [-np.sin(polar), 0, np.cos(polar)],
        ]
    )
    turn = np.array(
        [
            [np.cos(azimuth), -np.sin(azimuth), 0],
            [np.sin(azimuth), np.cos(azimuth), 0],
            [0, 0, 1],
        ]
    )
    return turn @ tilt


def dipole_image(stack, dipole, x_nm, y_nm, z_nm, focus_nm, angle=0.0, rings=48, around=72):
    """Intensities at points of light polarised along ``angle`` [rad] and across, (2, points).

    Per nm^2, so that both together integrate to 1 over the plane. ``dipole``: unit vector in 3-D.
    Rays leave the dipole downwards and are followed back to the focal plane.
    """
    k = 2 * np.pi / stack["wavelength_nm"]
    q, weight = _radii(stack["na"], stack["ns"], rings)
    turn = 2 * np.pi * np.arange(around) / around
    q, turn = (a.ravel() for a in np.meshgrid(q, turn, indexing="ij"))
    weight = np.repeat(weight, around) * 2 * np.pi / around
    field = _lens_field(stack, dipole, q, turn)
    axial = z_nm * _axial(stack["ns"], q) - focus_nm * _axial(stack["ni"], q)
    field = field * np.exp(1j * k * axial)
    # the ray's own transverse direction is (cos turn, sin turn)
    phase = np.outer(x_nm, q * np.cos(turn)) + np.outer(y_nm, q * np.sin(turn))
    wave = np.exp(1j * k * phase) * weight
    passed = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]]) @ field
    # Parseval on the plane: exp(i k q r) over d2q has the norm (2 pi / k)^2
    energy = (np.abs(field) ** 2 * weight).sum() * (2 * np.pi / k) ** 2
    return np.abs(passed @ wave.T) ** 2 / energy


def _lens_field(stack, dipole, q, turn):
    """Field (x, y) behind the objective for rays with transverse index q towards ``turn``."""
    cos_s = _axial(stack["ns"], q) / stack["ns"]
    cos_i = (_axial(stack["ni"], q) / stack["ni"]).real
    ts, tp = _two_interfaces(stack, q)
    along = dipole[0] * np.cos(turn) + dipole[1] * np.sin(turn)
    across = -dipole[0] * np.sin(turn) + dipole[1] * np.cos(turn)
    # the p axis of a downward ray (sin, 0, -cos) is (cos, 0, sin)
    p = tp * (along * cos_s + dipole[2] * q / stack["ns"])
    s = ts * across
    radial = np.stack([np.cos(turn), np.sin(turn)])
    tangent = np.stack([-np.sin(turn), np.cos(turn)])
    return (p * radial + s * tangent) / np.sqrt(cos_i)


def _two_interfaces(stack, q):
    """Transmissions immersion -> coverslip -> sample, as for light that comes from the camera."""
    ts, tp = 1.0, 1.0
    for n1, n2 in ((stack["ni"], stack["ng"]), (stack["ng"], stack["ns"])):
        c1, c2 = _axial(n1, q) / n1, _axial(n2, q) / n2
        ts = ts * 2 * n1 * c1 / (n1 * c1 + n2 * c2)
        tp = tp * 2 * n1 * c1 / (n2 * c1 + n1 * c2)
    return ts, tp


def _axial(n, q):
    """Axial index, decaying for evanescent waves."""
    return np.sqrt(n**2 - q**2 + 0j)


def _radii(end, branch, nodes):
    """Gauss nodes in q on [0, end], graded quadratically to a branch point; weights of q dq."""
    node, weight = np.polynomial.legendre.leggauss(nodes)
    u, du = 0.5 * (node + 1), 0.5 * weight
    first = min(end, branch)
    pieces = [(first * (1 - (1 - u) ** 2), first * 2 * (1 - u) * du)]
    if end > branch:
        pieces.append((branch + (end - branch) * u**2, (end - branch) * 2 * u * du))
    q, step = (np.concatenate(part) for part in zip(*pieces, strict=True))
    return q, q * step


def power_flow(stack, axis, z_nm, panels=20_000):
    """Power (up, down into the coverslip, through the objective) of a dipole along x or z.

    In units of what it radiates in unbounded sample medium. The dipole's angular spectrum weighs
    every plane wave by 1/axial; below, the waves are transmitted, above, direct and reflected waves
    interfere. ``axis``: 0 for x, 2 for z.
    """
    ns, ng = stack["ns"], stack["ng"]
    k = 2 * np.pi / stack["wavelength_nm"]
    scale = 3 / (8 * np.pi * ns)

    q, weight = _graded(0.0, ns, min(ns, ng), panels)
    s_axial, g_axial = _axial(ns, q).real, _axial(ng, q)
    turn = np.exp(2j * k * z_nm * s_axial)
    rs = (s_axial - g_axial) / (s_axial + g_axial)
    rp = (ng**2 * s_axial - ns**2 * g_axial) / (ng**2 * s_axial + ns**2 * g_axial)
    if axis == 2:
        ring = 2 * np.pi * (q / ns) ** 2 * np.abs(1 + rp * turn) ** 2
    else:
        ring = np.pi * (
            np.abs(1 + rs * turn) ** 2 + (s_axial / ns) ** 2 * np.abs(1 - rp * turn) ** 2
        )
    up = scale * (weight * ring / s_axial).sum()

    def below(q, weight):
        s_axial, g_axial = _axial(ns, q), _axial(ng, q).real
        ts = 2 * s_axial / (s_axial + g_axial)
        tp = 2 * ns * ng * s_axial / (ng**2 * s_axial + ns**2 * g_axial)
        if axis == 2:
            ring = 2 * np.pi * (q / ns) ** 2 * np.abs(tp) ** 2
        else:
            ring = np.pi * (np.abs(ts) ** 2 + np.abs(tp * s_axial / ns) ** 2)
        ring = ring * np.exp(-2 * k * z_nm * s_axial.imag) * g_axial / np.abs(s_axial) ** 2
        return scale * weight * ring

    down = below(*_graded(0.0, ng, min(ns, ng), panels)).sum()
    return up, down, _through_immersion(stack, axis, z_nm, panels)


def _through_immersion(stack, axis, z_nm, panels):
    """Power within the aperture, once past sample/coverslip and coverslip/immersion."""
    ns, ng, ni = stack["ns"], stack["ng"], stack["ni"]
    k = 2 * np.pi / stack["wavelength_nm"]
    q, weight = _graded(0.0, stack["na"], min(ns, stack["na"]), panels)
    s, g, i = _axial(ns, q), _axial(ng, q), _axial(ni, q).real
    ts = 2 * s / (s + g) * 2 * g / (g + i)
    tp = 2 * ns * ng * s / (ng**2 * s + ns**2 * g) * 2 * ng * ni * g / (ni**2 * g + ng**2 * i)
    if axis == 2:
        ring = 2 * np.pi * (q / ns) ** 2 * np.abs(tp) ** 2
    else:
        ring = np.pi * (np.abs(ts) ** 2 + np.abs(tp * s / ns) ** 2)
    ring = ring * np.exp(-2 * k * z_nm * s.imag) * i / np.abs(s) ** 2
    return 3 / (8 * np.pi * ns) * (weight * ring).sum()


def _graded(start, end, branch, panels):
    """Midpoints in q and weights of q dq on [start, end], graded to both ends and to the branch."""
    edges = [start, branch, end] if start < branch < end else [start, end]
    u = (np.arange(panels) + 0.5) / panels
    share, step = 0.5 * (1 - np.cos(np.pi * u)), 0.5 * np.pi * np.sin(np.pi * u) / panels
    q = np.concatenate([a + (b - a) * share for a, b in pairwise(edges)])
    dq = np.concatenate([(b - a) * step for a, b in pairwise(edges)])
    return q, q * dq
