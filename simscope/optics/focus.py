"""Where an emitter comes to focus: the objective's position at which its image is sharpest.

``focus_nm`` is the objective's displacement towards the sample from where the paraxial focus lies
on the coverslip. Between media of different index rays of different angle focus at different
positions, and three definitions of the best one are in use:

paraxial    where rays near the axis meet: n_immersion / n_sample times the height (Carlsson,
            J. Microsc. 163, 167 (1991); the low-NA limit of all others)
rms         where the wavefront over the propagating part of the pupil is flattest, its variance
            weighted by the field amplitude (Stallinga, Appl. Opt. 44, 849 (2005), for even weights)
peak        where the intensity in the middle of the image is highest, as a fit or an eye finds it

The peak follows from wave optics and is not proportional to the height: an oil objective that looks
into water must follow an emitter near the coverslip by more than n_immersion / n_sample times its
height, because steep rays focus deeper (Hell et al., J. Microsc. 169, 391 (1993); Loginov et al.,
Optica 11, 553 (2024)).

Fails where the optics are not symmetric about the axis: a mask or astigmatism has no single focus.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import product
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from simscope.errors import OpticsError
from simscope.optics import interfaces
from simscope.optics.checks import check_heights, check_numbers, check_supported
from simscope.optics.interfaces import objective_of
from simscope.optics.radial import symmetry_breakers
from simscope.optics.radial_integrals import (
    RadialField,
    node_count,
    pieces,
    radial_field,
    steepest_phase,
)

FloatArray = NDArray[np.float64]
ComplexArray = NDArray[np.complex128]
Criterion = Literal["peak", "rms", "paraxial"]

ACCURACY = 1e-9
"""Error of the intensity on axis, as a share of its peak."""

STEEPEST = 0.97
"""Share of the pupil radius whose rays' foci are searched; beyond, they run to infinity."""

STEPS_PER_DEPTH = 8
"""Foci tried per beat of marginal against central rays, wavelength / (n - sqrt(n^2 - NA^2))."""

NEWTON_STEPS = 8


def best_focus(optics: Any, z_nm: ArrayLike, criterion: Criterion = "peak") -> FloatArray:
    """Objective position ``focus_nm`` [nm] at which an emitter at ``z_nm`` is sharpest, (n,).

    ``criterion``: "peak", highest intensity in the middle; "rms", flattest wavefront; "paraxial",
    rays near the axis. Where spherical aberration gives several peaks, the highest. Raises
    OpticsError for heights below the coverslip and optics that are not symmetric about the axis.
    """
    check_supported(optics)
    broken = symmetry_breakers(optics)
    if broken:
        raise OpticsError(
            f"optics with {' and '.join(broken)} need not have one best focus: take it out, or "
            "look at ss.psf over focus_nm"
        )
    if criterion not in _CRITERIA:
        raise OpticsError(f"criterion={criterion!r}: choose one of {', '.join(_CRITERIA)}")
    (z,) = check_numbers(z_nm=z_nm)
    objective = objective_of(optics)
    check_heights(objective, z)
    places, place = np.unique(z, return_inverse=True)
    return _CRITERIA[criterion](optics, places)[place]


def focal_shift(optics: Any, z_nm: ArrayLike, criterion: Criterion = "peak") -> FloatArray:
    """How much further than its height the objective must move to focus an emitter [nm], (n,).

    ``best_focus(optics, z_nm, criterion) - z_nm``: positive where the sample's index is below that
    of the immersion. Arguments and errors as for ``best_focus``.
    """
    (z,) = check_numbers(z_nm=z_nm)
    return best_focus(optics, z, criterion) - z


def _paraxial(optics: Any, z_nm: FloatArray) -> FloatArray:
    objective = objective_of(optics)
    return z_nm * (objective.n_immersion / objective.n_sample)


def _flattest(optics: Any, z_nm: FloatArray) -> FloatArray:
    """Focus that minimises the variance of the optical path over the propagating pupil."""
    field = _field(optics, z_nm, np.zeros(1))
    travels = field.q < field.objective.n_sample
    weight = (field.area * np.abs(field.kernels[0]))[travels]
    weight /= weight.sum()
    drive = field.immersion_root[travels]
    drive = drive - weight @ drive
    path_nm = field.path_nm[travels] + z_nm[:, None] * field.sample_root.real[travels]
    return np.asarray((path_nm * drive) @ weight / (weight @ drive**2))


def _brightest(optics: Any, z_nm: FloatArray) -> FloatArray:
    """Focus of the highest intensity on axis: the best of a scan, then Newton's steps."""
    scans = [_scan(optics, float(z)) for z in z_nm]
    field = _field(optics, z_nm, np.concatenate(scans))
    # only I_0 reaches the axis
    phasors = field.phasors(z_nm, np.zeros_like(z_nm))
    waves = field.area * field.kernels[0] * phasors
    rate = np.asarray(
        -1j * field.objective.wavenumber_per_nm * field.immersion_root, dtype=np.complex128
    )
    return np.array([_climb(wave, rate, scan) for wave, scan in zip(waves, scans, strict=True)])


def _climb(wave: ComplexArray, rate: ComplexArray, scan_nm: FloatArray) -> float:
    """Where abs(sum(wave exp(rate focus)))^2 is highest [nm], from the best of equidistant foci."""
    step_nm = float(scan_nm[1] - scan_nm[0])
    focus_nm = float(scan_nm[np.abs(_on_axis(wave, rate, scan_nm)).argmax()])
    for _ in range(NEWTON_STEPS):
        moved = wave * np.exp(rate * focus_nm)
        value, slope, bend = moved.sum(), moved @ rate, moved @ rate**2
        first = 2.0 * (value.conjugate() * slope).real
        second = 2.0 * (abs(slope) ** 2 + (value.conjugate() * bend).real)
        if second >= 0.0:
            raise OpticsError(
                f"no peak of the intensity near focus_nm={focus_nm:g}: use criterion='rms'"
            )
        focus_nm += float(np.clip(-first / second, -step_nm, step_nm))
    return focus_nm


def _on_axis(wave: ComplexArray, rate: ComplexArray, scan_nm: FloatArray) -> ComplexArray:
    """Sums of wave exp(rate focus) at equidistant foci, (foci,).

    A focus is a far step and a near one: phasors of both and their product serve all foci.
    """
    side = math.ceil(math.sqrt(scan_nm.size))
    step_nm = scan_nm[1] - scan_nm[0]
    far = np.exp(np.outer(scan_nm[::side], rate))
    near = np.exp(np.outer(step_nm * np.arange(side), rate))
    sums: ComplexArray = ((far * wave) @ near.T).ravel()[: scan_nm.size]
    return sums


def _scan(optics: Any, z_nm: float) -> FloatArray:
    """Equidistant foci [nm] that cover those of all rays but the steepest, and their blur."""
    objective = objective_of(optics)
    q = np.linspace(0.02, STEEPEST, 200) * min(objective.na, objective.n_sample)
    design_nm = np.gradient(interfaces.design_path_nm(objective, q), q)
    # a ray focuses where its path has no slope; roots have the slope -q / root
    immersion = interfaces.root(objective.n_immersion, q).real
    foci_nm = (z_nm / interfaces.root(objective.n_sample, q).real - design_nm / q) * immersion
    edge = float(interfaces.root(objective.n_immersion, np.array(objective.na)).real)
    depth_nm = objective.wavelength_nm / (objective.n_immersion - edge)
    low, high = foci_nm.min() - depth_nm, foci_nm.max() + depth_nm
    return np.linspace(low, high, 2 + int(STEPS_PER_DEPTH * (high - low) / depth_nm))


def _field(optics: Any, z_nm: FloatArray, focus_nm: FloatArray) -> RadialField:
    """Pupil field on nodes that serve all given heights and foci."""
    objective = objective_of(optics)
    corners = list(product((z_nm.min(), z_nm.max()), (focus_nm.min(), focus_nm.max())))
    counts = tuple(
        node_count(steepest_phase(objective, piece, corners, 0.0), ACCURACY)
        for piece in pieces(objective)
    )
    return radial_field(objective, optics.model, counts)


_CRITERIA: dict[str, Callable[[Any, FloatArray], FloatArray]] = {
    "peak": _brightest,
    "rms": _flattest,
    "paraxial": _paraxial,
}
