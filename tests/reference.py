"""Slow, obvious twins of the kernels and models, written from the papers and sharing no code.

Noise: Salmon et al. 2011 (Philox), Marsaglia and Tsang 2000 (gamma), inversion of the Poisson law,
the camera's order of operations, the jump chain of a Markov process.

Optics: Török and Varga, Appl. Opt. 36, 2305 (1997), and Aguet et al., Opt. Express 17, 6829 (2009),
eq. 4: integrals I0, I1, I2 over the angle theta in the immersion, evaluated by brute-force midpoint
sums on pieces that end at the critical angle. Indices and lengths are plain numbers here.
"""

from __future__ import annotations

import numpy as np
from scipy import stats
from scipy.special import ive, j0, j1


def philox4x32_10(counter, key):
    """Random123's Philox4x32-10 in Python integers (Salmon et al. 2011, section 3.3)."""
    word = 2**32
    left0, right0, left1, right1 = counter
    key0, key1 = key
    for _ in range(10):
        product0, product1 = 0xD2511F53 * left0, 0xCD9E8D57 * left1
        left0, right0, left1, right1 = (
            (product1 // word) ^ right0 ^ key0,
            product1 % word,
            (product0 // word) ^ right1 ^ key1,
            product0 % word,
        )
        key0, key1 = (key0 + 0x9E3779B9) % word, (key1 + 0xBB67AE85) % word
    return left0, right0, left1, right1


def unit_interval(high, low):
    """52 bits and a half: (top 52 of the 64 bits + 1/2) / 2^52."""
    return ((high * 2**32 + low) // 2**12 + 0.5) / 2**52


def poisson_quantile(u, mean):
    """Smallest n whose cumulative Poisson probability reaches u, by scipy."""
    return stats.poisson.ppf(u, mean)


def radial_psf(stack, radius_nm, z_nm, focus_nm, panels=4000):
    """Intensity [1/nm^2] at ``radius_nm`` of a freely rotating dipole, unit photon.

    ``stack``: dict with na, wavelength_nm, ns, ng, ng0, ni, ni0 and tg, tg0, ti0 in nm.
    """
    theta, weight = _angles(stack, panels)
    ni, ns, ng = stack["ni"], stack["ns"], stack["ng"]
    sin_i, cos_i = np.sin(theta), np.cos(theta)
    q = ni * sin_i
    cos_g = np.sqrt(1 - (q / ng) ** 2 + 0j)
    cos_s = np.sqrt(1 - (q / ns) ** 2 + 0j)
    ts = (2 * ni * cos_i / (ni * cos_i + ng * cos_g)) * (2 * ng * cos_g / (ng * cos_g + ns * cos_s))
    tp = (2 * ni * cos_i / (ng * cos_i + ni * cos_g)) * (2 * ng * cos_g / (ns * cos_g + ng * cos_s))
    k = 2 * np.pi / stack["wavelength_nm"]
    wave = np.sqrt(cos_i) * sin_i * np.exp(1j * k * _path(stack, q, z_nm, focus_nm)) * weight
    radius = np.atleast_1d(radius_nm)
    argument = np.maximum(k * np.outer(radius, q), 1e-12)
    bessel = [j0(argument), j1(argument)]
    # the recurrence J2 = 2 J1 / x - J0
    bessel.append(2 * bessel[1] / argument - bessel[0])
    i0 = bessel[0] @ (wave * (ts + tp * cos_s))
    i1 = bessel[1] @ (wave * tp * (q / ns))
    i2 = bessel[2] @ (wave * (ts - tp * cos_s))
    intensity = np.abs(i0) ** 2 + 2 * np.abs(i1) ** 2 + np.abs(i2) ** 2
    # Parseval: the plane integral of each |I_m|^2 is 2 pi / k^2 times that of its kernel over q
    dq = ni * cos_i * weight
    kernels = (ts + tp * cos_s, np.sqrt(2) * tp * q / ns, ts - tp * cos_s)
    plain = np.abs(wave / weight) ** 2 / (ni * cos_i) ** 2
    energy = sum((plain * np.abs(kernel) ** 2 / q * dq).sum() for kernel in kernels)
    return intensity / (2 * np.pi / k**2 * energy)


def _angles(stack, panels):
    """Midpoint nodes on [0, alpha], graded quadratically towards the critical angle."""
    alpha = np.arcsin(stack["na"] / stack["ni"])
    u = (np.arange(panels) + 0.5) / panels
    if stack["ns"] >= stack["na"]:
        return alpha * u, np.full(panels, alpha / panels)
    critical = np.arcsin(stack["ns"] / stack["ni"])
    below = critical * (1 - (1 - u) ** 2), critical * 2 * (1 - u) / panels
    above = critical + (alpha - critical) * u**2, (alpha - critical) * 2 * u / panels
    return tuple(np.concatenate(pair) for pair in zip(below, above, strict=True))


def _path(stack, q, z_nm, focus_nm):
    """Optical path Psi [nm] as printed in Gibson and Lanni 1991, with focus as a stage reading."""

    def axial(n):
        return np.sqrt(n**2 - q**2 + 0j)

    ni, ng, ng0, ni0 = stack["ni"], stack["ng"], stack["ng0"], stack["ni0"]
    ti = ni * (stack["tg0"] / ng0 + stack["ti0"] / ni0 - stack["tg"] / ng) - focus_nm
    return (
        z_nm * axial(stack["ns"])
        + stack["tg"] * axial(ng)
        - stack["tg0"] * axial(ng0)
        - stack["ti0"] * axial(ni0)
        + ti * axial(ni)
    )


def pixel_mean(stack, x_nm, y_nm, pixel_nm, z_nm, focus_nm, order=8, profile=radial_psf):
    """Probability in pixels centred at ``x_nm``, ``y_nm`` by Gauss quadrature over the pixel."""
    node, weight = np.polynomial.legendre.leggauss(order)
    dx, dy = np.meshgrid(0.5 * pixel_nm * node, 0.5 * pixel_nm * node)
    area = np.outer(weight, weight) * (0.5 * pixel_nm) ** 2
    x, y = np.atleast_1d(x_nm)[:, None, None] + dx, np.atleast_1d(y_nm)[:, None, None] + dy
    radius, place = np.unique(np.hypot(x, y).round(9), return_inverse=True)
    values = profile(stack, radius, z_nm, focus_nm)[place].reshape(x.shape)
    return (values * area).sum(axis=(1, 2))


def published_convention_image(
    mask, na_per_pixel, na, wavelength_nm, n_water, n_oil, z_nm, focus_nm, pixels, pixel_nm
):
    """Scalar image in the sign convention published with the masks of DeepSTORM3D.

    Pupil phase + mask + k_water cos(theta_water) z - k_oil cos(theta_oil) focus, forward Fourier
    transform, uniform amplitude, no supercritical light, arrays [row = y, column = x].
    """  # fmt: skip
    line = (np.arange(mask.shape[0]) - (mask.shape[0] - 1) / 2) * na_per_pixel
    kx, ky = np.meshgrid(line, line)
    q = np.hypot(kx, ky)
    k = 2 * np.pi / wavelength_nm
    inside = q < min(na, n_water)
    water, oil = (np.sqrt(np.maximum(n**2 - q**2, 0)) for n in (n_water, n_oil))
    pupil = inside * np.exp(1j * (mask + k * water * z_nm - k * oil * focus_nm))
    place = (np.arange(pixels) - pixels // 2) * pixel_nm
    forward = np.exp(-1j * k * np.outer(place, line))
    return np.abs(forward @ pupil @ forward.T) ** 2


def gibson_lanni_psf(stack, radius_nm, z_nm, focus_nm, panels=4000):
    """Intensity [1/nm^2] at ``radius_nm`` of the scalar model, unit photon.

    Gibson and Lanni, J. Opt. Soc. Am. A 8, 1601 (1991), eq. 7: |integral over rho from 0 to 1 of
    J0(k NA rho r) exp(i k Psi) rho|^2, divided by its plane integral (Parseval). ``stack`` as in
    ``radial_psf``.
    """
    theta, weight = _angles(stack, panels)
    q = stack["ni"] * np.sin(theta)
    rho, step = q / stack["na"], stack["ni"] * np.cos(theta) * weight / stack["na"]
    k = 2 * np.pi / stack["wavelength_nm"]
    phasor = np.exp(1j * k * _path(stack, q, z_nm, focus_nm))
    field = j0(k * np.outer(np.atleast_1d(radius_nm), q)) @ (phasor * rho * step)
    energy = 2 * np.pi / (k * stack["na"]) ** 2 * (np.abs(phasor) ** 2 * rho * step).sum()
    return np.abs(field) ** 2 / energy


def stallinga_focus_scale(na, n_sample, n_immersion, count=200_000):
    """Objective displacement per height of least RMS wavefront, even weight over the pupil [1].

    Stallinga, Appl. Opt. 44, 849 (2005): covariance of the axial indices over the disc of radius
    NA, divided by the variance of the immersion's. By midpoint sums over the pupil's area.
    """
    squared = na**2 * (np.arange(count) + 0.5) / count
    sample, immersion = np.sqrt(n_sample**2 - squared), np.sqrt(n_immersion**2 - squared)
    return np.cov(sample, immersion, bias=True)[0, 1] / immersion.var()


def gaussian_share(stack, width_nm, z_nm, focus_nm, vectorial, panels=500):
    """Light under exp(-r^2 / 2 w^2) of a unit photon [1], freely rotating dipole or scalar.

    Parseval with Weber's second exponential integral (Watson, Bessel Functions, sec. 13.31): the
    plane integral of J_m(a r) J_m(b r) exp(-r^2 / 2 w^2) r is w^2 exp(-w^2 (a^2 + b^2) / 2)
    I_m(w^2 a b). Gauss nodes on the pieces of ``_angles``; ``stack`` as in ``radial_psf``.
    """
    alpha, node = np.arcsin(stack["na"] / stack["ni"]), np.polynomial.legendre.leggauss(panels)
    u, step = 0.5 * (node[0] + 1), 0.5 * node[1]
    theta, weight = alpha * u, alpha * step
    if stack["ns"] < stack["na"]:
        inner = np.arcsin(stack["ns"] / stack["ni"])
        theta = np.concatenate((inner * (1 - (1 - u) ** 2), inner + (alpha - inner) * u**2))
        weight = np.concatenate((inner * 2 * (1 - u), (alpha - inner) * 2 * u)) * np.tile(step, 2)
    waves = _kernels(stack, theta, z_nm, focus_nm) if vectorial else _scalar(
        stack, theta, z_nm, focus_nm
    )  # fmt: skip
    scaled = 2 * np.pi / stack["wavelength_nm"] * width_nm * stack["ni"] * np.sin(theta)
    near = np.exp(-0.5 * (scaled[:, None] - scaled) ** 2)
    light = energy = 0.0
    for order, wave in waves:
        source = wave * weight
        bell = near * ive(order, np.outer(scaled, scaled))
        light += (source.conj() @ bell @ source).real * width_nm**2
        # without the window J_m(a r) J_m(b r) r integrates to delta(a - b) / a
        dq = stack["ni"] * np.cos(theta)
        k = 2 * np.pi / stack["wavelength_nm"]
        energy += (np.abs(wave) ** 2 / (k**2 * stack["ni"] * np.sin(theta) * dq) * weight).sum()
    return light / energy


def _kernels(stack, theta, z_nm, focus_nm):
    """Order and kernel, per angle, of I0, sqrt(2) I1 and I2 of a freely rotating dipole."""
    ni, ns, ng = stack["ni"], stack["ns"], stack["ng"]
    sin_i, cos_i = np.sin(theta), np.cos(theta)
    q = ni * sin_i
    cos_g, cos_s = np.sqrt(1 - (q / ng) ** 2 + 0j), np.sqrt(1 - (q / ns) ** 2 + 0j)
    ts = (2 * ni * cos_i / (ni * cos_i + ng * cos_g)) * (2 * ng * cos_g / (ng * cos_g + ns * cos_s))
    tp = (2 * ni * cos_i / (ng * cos_i + ni * cos_g)) * (2 * ng * cos_g / (ns * cos_g + ng * cos_s))
    wave = (
        np.sqrt(cos_i)
        * sin_i
        * np.exp(2j * np.pi / stack["wavelength_nm"] * _path(stack, q, z_nm, focus_nm))
    )
    return (
        (0, wave * (ts + tp * cos_s)),
        (1, np.sqrt(2) * wave * tp * q / ns),
        (2, wave * (ts - tp * cos_s)),
    )


def _scalar(stack, theta, z_nm, focus_nm):
    """Order and kernel, per angle, of the scalar model: rho d(rho) in terms of theta."""
    q = stack["ni"] * np.sin(theta)
    phase = 2 * np.pi / stack["wavelength_nm"] * _path(stack, q, z_nm, focus_nm)
    return ((0, q * stack["ni"] * np.cos(theta) * np.exp(1j * phase)),)
