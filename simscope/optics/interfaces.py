"""Objective and media: how a dipole's light passes sample, coverslip and immersion.

A dipole at height z above the coverslip radiates plane waves of transverse index q = n sin(theta),
the same number in every layer. Both interfaces transmit s and p light by Fresnel's coefficients,
the objective (aplanatic, obeying Abbe's sine condition) turns each wave into a pupil point at
radius q, and the layers between add optical path. Waves with q > n_sample leave the sample as
evanescent ("supercritical") waves; they are kept.

By reciprocity the amplitude of light leaving the sample per unit pupil area equals the one of
light entering it: coefficients run immersion -> coverslip -> sample and the aplanatic factor is
1/sqrt(cos theta) per area dqx dqy, that is sqrt(cos theta) sin theta d(theta) in Török and
Varga's integrals.

Left out: multiple reflections inside the coverslip (incoherent at 170 um), absorption, bleaching
of the pupil edge by real lenses.

Sources: Török and Varga, Appl. Opt. 36, 2305 (1997); Aguet et al., Opt. Express 17, 6829 (2009);
Gibson and Lanni, J. Opt. Soc. Am. A 8, 1601 (1991) for the optical path.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from simscope.errors import OpticsError

ComplexArray = NDArray[np.complex128]
FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class Objective:
    """Numbers of one objective and its media: nothing drawn, nothing missing; lengths in nm."""

    na: float
    wavelength_nm: float
    n_sample: float
    n_coverslip: float
    n_coverslip_design: float
    n_immersion: float
    n_immersion_design: float
    coverslip_nm: float
    coverslip_design_nm: float
    working_distance_nm: float

    def __post_init__(self) -> None:
        for field in fields(self):
            _check_number(field.name, getattr(self, field.name))
        for name in ("n_immersion", "n_immersion_design", "n_coverslip", "n_coverslip_design"):
            index = getattr(self, name)
            if self.na >= index:
                raise OpticsError(
                    f"na={self.na:g} exceeds {name}={index:g}: no such ray passes; "
                    f"lower na or raise {name}"
                )
        if self.immersion_nm < 0:
            raise OpticsError(
                f"coverslip_um={self.coverslip_nm / 1e3:g} leaves {self.immersion_nm / 1e3:.4g} um "
                f"of immersion in focus: use a thinner coverslip or a longer working_distance_um"
            )

    @property
    def wavenumber_per_nm(self) -> float:
        """Vacuum wavenumber 2 pi / wavelength [rad/nm]."""
        return 2.0 * math.pi / self.wavelength_nm

    @property
    def band_limit_per_nm(self) -> float:
        """Highest spatial frequency of the intensity, 2 NA / wavelength [cycles/nm]."""
        return 2.0 * self.na / self.wavelength_nm

    @property
    def immersion_nm(self) -> float:
        """Immersion thickness when the paraxial focus lies on the coverslip/sample interface [nm].

        Source: Gibson and Lanni 1991, eq. 5; focus_nm is taken off it.
        """
        return self.n_immersion * (
            self.coverslip_design_nm / self.n_coverslip_design
            + self.working_distance_nm / self.n_immersion_design
            - self.coverslip_nm / self.n_coverslip
        )

    @property
    def has_interface(self) -> bool:
        """Whether the sample ends at an optical interface, so that heights below 0 are glass."""
        return self.n_sample != self.n_immersion

    @property
    def supercritical(self) -> bool:
        """Whether the objective collects evanescent waves of the sample (NA above its index)."""
        return self.na > self.n_sample


def objective_of(optics: Any) -> Objective:
    """Resolved numbers of a recipe's optics, design values filled in.

    Raises OpticsError for a value still to be drawn, not finite, or physically impossible.
    """
    resolved = optics.resolved()
    return Objective(
        na=resolved.na,
        wavelength_nm=resolved.wavelength_nm,
        n_sample=resolved.n_sample,
        n_coverslip=resolved.n_coverslip,
        n_coverslip_design=resolved.n_coverslip_design,
        n_immersion=resolved.n_immersion,
        n_immersion_design=resolved.n_immersion_design,
        coverslip_nm=_um_to_nm("coverslip_um", resolved.coverslip_um),
        coverslip_design_nm=_um_to_nm("coverslip_design_um", resolved.coverslip_design_um),
        working_distance_nm=_um_to_nm("working_distance_um", resolved.working_distance_um),
    )


def _um_to_nm(name: str, value: Any) -> float:
    _check_number(name, value)
    return 1e3 * float(value)


def _check_number(name: str, value: Any) -> None:
    if not isinstance(value, (int, float)):
        raise OpticsError(f"{name} is still to be drawn ({value}): pass optics with plain numbers")
    if not math.isfinite(value):
        raise OpticsError(f"{name}={value} is not finite: give a plain number")
    if value < 0 or (value == 0 and not name.startswith("coverslip")):
        raise OpticsError(f"{name}={value:g} is not possible: it must be above 0")


def root(index: float, q: FloatArray) -> ComplexArray:
    """Axial index sqrt(n^2 - q^2) = n cos(theta) [1], on the branch with Im >= 0.

    The positive imaginary root makes waves beyond the critical angle decay with height.
    """
    squared = index**2 - q**2
    return np.where(squared >= 0, np.sqrt(np.abs(squared)), 1j * np.sqrt(np.abs(squared)))


def fresnel(n_from: float, n_into: float, q: FloatArray) -> tuple[ComplexArray, ComplexArray]:
    """Amplitude transmissions (s, p) from one medium into the next [1], shape of ``q``.

    Source: Born and Wolf, Principles of Optics, sec. 1.5.2, eq. 20.
    """
    root_from, root_into = root(n_from, q), root(n_into, q)
    s = 2.0 * root_from / (root_from + root_into)
    p = 2.0 * n_from * n_into * root_from / (n_into**2 * root_from + n_from**2 * root_into)
    return s, p


def transmission(objective: Objective, q: FloatArray) -> tuple[ComplexArray, ComplexArray]:
    """Amplitude transmissions (s, p) immersion -> coverslip -> sample [1], shape of ``q``."""
    s_lower, p_lower = fresnel(objective.n_immersion, objective.n_coverslip, q)
    s_upper, p_upper = fresnel(objective.n_coverslip, objective.n_sample, q)
    return s_lower * s_upper, p_lower * p_upper


def dipole_amplitudes(
    objective: Objective, q: FloatArray
) -> tuple[ComplexArray, ComplexArray, ComplexArray]:
    """Pupil amplitudes (even, split, axial) of a dipole per unit pupil area [1], shape of ``q``.

    A transverse dipole gives ``even + split*cos(2 phi)`` along itself and ``split*sin(2 phi)``
    across; an axial one gives ``axial*(cos(phi), sin(phi))``. They are the kernels of I0, I2 and
    I1 of Török and Varga 1997 and Aguet 2009, eq. 4, up to constants. The axial one is negative:
    pupil coordinates run against the rays (a ray that leaves towards +x crosses at -x), and p
    light of a ray towards r has the axis cos(theta) r + sin(theta) z.
    """
    s, p = transmission(objective, q)
    aplanatic = 1.0 / np.sqrt(root(objective.n_immersion, q).real / objective.n_immersion)
    p_transverse = p * root(objective.n_sample, q) / objective.n_sample
    p_axial = -p * q / objective.n_sample
    return (
        0.5 * aplanatic * (p_transverse + s),
        0.5 * aplanatic * (p_transverse - s),
        aplanatic * p_axial,
    )


def design_path_nm(objective: Objective, q: FloatArray) -> FloatArray:
    """Optical path that immersion and coverslip add against the design, at z = focus = 0 [nm].

    t_g root(n_g) - t_g0 root(n_g0) - t_i0 root(n_i0) + t_i root(n_i), less its value on axis.
    Source: Gibson and Lanni 1991, eq. 6.
    """
    layers = (
        (objective.coverslip_nm, objective.n_coverslip),
        (-objective.coverslip_design_nm, objective.n_coverslip_design),
        (-objective.working_distance_nm, objective.n_immersion_design),
        (objective.immersion_nm, objective.n_immersion),
    )
    path = np.zeros_like(q)
    for thickness_nm, index in layers:
        # n cos(theta) - n, without the cancellation at small q
        path -= thickness_nm * q**2 / (root(index, q).real + index)
    return path
