"""Slow twins of what pixels, spots and light tell, from the papers and without the package."""

from __future__ import annotations

import math

import numpy as np
from scipy import stats
from scipy.integrate import quad


def read_noise_information(mean_e, read_e):
    """Fisher information of Poisson electrons with Gaussian read noise (Ober et al. 2004, eq. 8).

    ``integral (dp/dm)^2 / p`` with ``dP_k/dm = P_k (k/m - 1)``, by adaptive quadrature.
    """
    electrons = np.arange(int(mean_e + 12 * math.sqrt(mean_e) + 30))
    weight = stats.poisson.pmf(electrons, mean_e)
    slope = weight * (electrons / mean_e - 1)

    def integrand(reading):
        bell = stats.norm.pdf(reading - electrons, scale=read_e)
        return (slope @ bell) ** 2 / (weight @ bell)

    stop = mean_e + 10 * math.sqrt(mean_e) + 8 * read_e + 5
    return quad(integrand, -8 * read_e, stop, limit=2000, epsabs=1e-12, epsrel=1e-8)[0]


def register_information(mean_e, read_e):
    """Fisher information behind a register of high gain (Hirsch et al. 2013), in units of gain.

    k electrons give a gamma variate of shape k; every density is convolved with read noise by a
    plain midpoint sum, and the information integrated the same way.
    """
    output = (np.arange(3000) + 0.5) * ((mean_e + 25.0) / 3000)
    reading = np.linspace(-7 * read_e, mean_e + 25.0, 1500)
    electrons = np.arange(1, int(mean_e + 12 * math.sqrt(mean_e) + 15))
    bell = stats.norm.pdf(reading[:, None] - output, scale=read_e) * (output[1] - output[0])
    densities = [stats.norm.pdf(reading, scale=read_e)]
    densities += [bell @ stats.gamma.pdf(output, k) for k in electrons]
    weight = stats.poisson.pmf(np.arange(len(densities)), mean_e)
    slope = weight * (np.arange(len(densities)) / mean_e - 1)
    density, change = (row @ np.array(densities) for row in (weight, slope))
    return float((change**2 / density).sum() * (reading[1] - reading[0]))


def mortensen_bound(photons, background, sigma_nm, pixel_nm):
    """Mortensen et al. 2010, eq. 5: limit of maximum likelihood for a Gaussian spot [nm]."""
    variance = sigma_nm**2 + pixel_nm**2 / 12
    tau = 2 * math.pi * variance * background / (photons * pixel_nm**2)
    integral = quad(lambda t: math.log(t) / (1 + t / tau), 0, 1)[0]
    return math.sqrt(variance / photons / (1 + integral))


def matched_quantum_bounds(na, index, wavelength_nm, nodes=1200):
    """Quantum bounds (x, z) [nm] of one photon of a freely rotating dipole, matched indices.

    From the fidelity of states: a pure state with overlap ``c = |<psi(0)|psi(d)>|`` has the
    information ``8 (1 - c) / d^2``; the three dipole axes are told apart. Fields behind an
    aplanatic objective on a square grid over the pupil: the s wave along phi, the p wave along rho.
    """
    line = (np.arange(nodes) + 0.5) / nodes * 2 * na - na
    kx, ky = np.meshgrid(line, line)
    q = np.hypot(kx, ky)
    inside = q < na
    cosine = np.sqrt(1 - (np.where(inside, q, 0) / index) ** 2)
    rho, phi = (kx / q, ky / q), (-ky / q, kx / q)
    k = 2 * np.pi / wavelength_nm
    step = 1.0
    shifts = {"x": np.exp(1j * k * kx * step), "z": np.exp(1j * k * index * cosine * step)}
    information, energies = {"x": [], "z": []}, []
    for axis in np.eye(3):
        s = axis[0] * phi[0] + axis[1] * phi[1]
        p = cosine * (axis[0] * rho[0] + axis[1] * rho[1]) - axis[2] * q / index
        intensity = np.where(inside, (s**2 + p**2) / cosine, 0)
        energies.append(intensity.sum())
        for name, shift in shifts.items():
            overlap = abs((intensity * shift).sum()) / intensity.sum()
            information[name].append(8 * (1 - overlap) / step**2)
    share = np.array(energies) / np.sum(energies)
    return tuple(1 / math.sqrt(share @ information[name]) for name in ("x", "z"))


def interface_quantum_bound(na, n_oil, n_water, wavelength_nm, z_nm, nodes=400_000):
    """Quantum bound of z [nm] of a photon of a free dipole above glass, evanescent light included.

    Bures distance of the labelled mixtures at z and z + d: ``8 (1 - sum sqrt(p p') c) / d^2`` with
    the shares p and p' of the three dipole axes and the overlaps c of their states. One interface
    (coverslip index that of the oil), Fresnel's coefficients from oil into water by reciprocity.
    """
    q = (np.arange(nodes) + 0.5) / nodes * na
    oil = np.sqrt(n_oil**2 - q**2)
    water = np.sqrt(n_water**2 - q**2 + 0j)
    ts = 2 * oil / (oil + water)
    tp = 2 * n_oil * n_water * oil / (n_water**2 * oil + n_oil**2 * water)
    transverse = 0.5 * (np.abs(ts) ** 2 + np.abs(tp * water / n_water) ** 2)
    axial = np.abs(tp * q / n_water) ** 2
    k, step = 2 * np.pi / wavelength_nm, 1.0
    waves = [np.exp(1j * k * water * height) for height in (z_nm, z_nm + step)]
    here, there, shared = (
        np.array([(density * q / oil * product).sum() for density in (transverse,) * 2 + (axial,)])
        for product in (np.abs(waves[0]) ** 2, np.abs(waves[1]) ** 2, waves[0].conj() * waves[1])
    )
    overlap = np.abs(shared) / np.sqrt(here.real * there.real)
    fidelity = np.sqrt(here.real / here.real.sum() * there.real / there.real.sum()) @ overlap
    return 1 / math.sqrt(8 * (1 - fidelity) / step**2)
