"""Beads: the image of a sphere filled evenly with molecules.

The image is the mean of molecules' images over the sphere's volume. Along z the sphere is cut into
discs by Gauss's rule for the weight R^2 - dz^2 (the discs' areas), and each disc averages the image
at its height over its radius sqrt(R^2 - dz^2), by short filters exact within the image's band
(``filters.py``). The number of discs is chosen where the rule's transform meets that of a ball,
3 (sin KR - KR cos KR) / (KR)^3, at every spatial frequency the image holds.

``z_nm`` is the height of the bead's centre. Every molecule emits the same number of photons; each
height counts with the share the objective collects (more light close to the glass), and the bead's
image as a whole sums to 1. Left out: the bead's own index and its scattering, and illumination that
dims across it.

Source: Abramowitz and Stegun, Handbook of Mathematical Functions, sec. 25.4 (Gauss-Jacobi rules);
the ball's transform: Bracewell, The Fourier Transform and its Applications (3rd ed.), ch. 13.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import roots_jacobi

from simscope.errors import OpticsError
from simscope.optics.collection import collected_power, emitted_power
from simscope.optics.dipoles import FREE_MOMENTS
from simscope.optics.filters import (
    apply,
    disc_filter,
    disc_transform,
    sampled,
    source_spacing_nm,
)
from simscope.optics.interfaces import Objective, objective_of
from simscope.optics.pixels import Window
from simscope.optics.reach import Reach

FloatArray = NDArray[np.float64]
ComplexArray = NDArray[np.complex128]

MOST_DISCS = 200
PLANES_AT_ONCE = 16
HEIGHT_STEP_NM = 0.5
"""Half step of the central difference of the collected share by height."""


class BeadModel:
    """Images of evenly filled spheres of ``optics.bead_diameter_nm``.

    ``build`` gives the model of the same optics with molecules, at points; ``band_limit_per_nm`` is
    that of their images. Raises OpticsError if the bead is too large for the accuracy.
    """

    def __init__(
        self,
        optics: Any,
        window: Window,
        reach: Reach,
        accuracy: float,
        build: Callable[..., Any],
        band_limit_per_nm: float,
    ) -> None:
        self.radius_nm = 0.5 * optics.bead_diameter_nm
        self.objective = objective_of(optics)
        self._collects = optics.model == "vectorial" and optics.measured is None
        self.grid_y, self.grid_x = window.grids(band_limit_per_nm, 0.2 * accuracy)
        spacing_nm = self.grid_x.spacing_nm
        self.heights_nm, self.shares = ball_rule(
            self.radius_nm, band_limit_per_nm, self.objective, 0.2 * accuracy
        )
        discs = [
            disc_filter(
                math.sqrt(max(self.radius_nm**2 - height**2, 0.0)),
                band_limit_per_nm,
                0.2 * accuracy,
            )
            for height in self.heights_nm
        ]
        shape = (self.grid_y.positions_nm.size, self.grid_x.positions_nm.size)
        source_nm = source_spacing_nm(spacing_nm, band_limit_per_nm)
        sides, self._discs = sampled(discs, shape, spacing_nm, source_nm)
        points = Window(sides, source_nm, points=True)
        low, high = reach.z_nm
        wider = replace(reach, z_nm=(low - self.radius_nm, high + self.radius_nm))
        self._molecules = build(
            optics.model_copy(update={"bead_diameter_nm": 0.0}),
            points,
            wider,
            accuracy=0.4 * accuracy,
        )

    def images(
        self,
        z_nm: ArrayLike = 0.0,
        focus_nm: ArrayLike = 0.0,
        x_nm: ArrayLike = 0.0,
        y_nm: ArrayLike = 0.0,
    ) -> FloatArray:
        """Probability per pixel of beads, float64 (n, y, x); arguments broadcast to n images."""
        return np.maximum(self._mean(self._molecules.images, z_nm, focus_nm, x_nm, y_nm), 0.0)

    def basis_images(
        self,
        z_nm: ArrayLike = 0.0,
        focus_nm: ArrayLike = 0.0,
        x_nm: ArrayLike = 0.0,
        y_nm: ArrayLike = 0.0,
        **options: Any,
    ) -> FloatArray:
        """Six images of beads full of equally oriented dipoles, (n, 6, y, x)."""
        basis = partial(self._molecules.basis_images, **options)
        return self._mean(basis, z_nm, focus_nm, x_nm, y_nm)

    def basis_energies(self, z_nm: ArrayLike, **options: Any) -> FloatArray:
        """Sums of the six images over an infinite camera, (n, 6)."""
        z = np.atleast_1d(np.asarray(z_nm, dtype=np.float64))
        shares = self._weights(z)
        return np.asarray(
            sum(
                share[:, None] * self._molecules.basis_energies(z + height, **options)
                for share, height in zip(shares, self.heights_nm, strict=True)
            )
        )

    def energies(self, z_nm: ArrayLike = 0.0, focus_nm: ArrayLike = 0.0) -> FloatArray:
        """Sums of the images over an infinite camera, (n,): 1 in widefield."""
        z, focus = np.broadcast_arrays(
            *(np.atleast_1d(np.asarray(a, float)) for a in (z_nm, focus_nm))
        )
        if not hasattr(self._molecules, "energies"):
            return np.ones(z.size)
        return np.asarray(
            sum(
                share * self._molecules.energies(z + height, focus)
                for share, height in zip(self._weights(z), self.heights_nm, strict=True)
            )
        )

    def slopes(
        self,
        z_nm: ArrayLike = 0.0,
        focus_nm: ArrayLike = 0.0,
        x_nm: ArrayLike = 0.0,
        y_nm: ArrayLike = 0.0,
    ) -> FloatArray:
        """Images and their derivatives by x, y, z [1/nm], float64 (n, 4, y, x).

        Analytic, but for the share each height is collected with: central differences of 1 nm.
        """
        return self._mean(self._molecules.slopes, z_nm, focus_nm, x_nm, y_nm, slopes=True)

    def _mean(
        self, molecules: Callable[..., FloatArray], *where: ArrayLike, slopes: bool = False
    ) -> FloatArray:
        """Mean over the ball of what ``molecules`` answers, integrated over the pixels."""
        z, focus, x, y = np.broadcast_arrays(
            *(np.atleast_1d(np.asarray(a, dtype=np.float64)) for a in where)
        )
        pieces = []
        for start in range(0, z.size, PLANES_AT_ONCE):
            some = slice(start, start + PLANES_AT_ONCE)
            shares = self._weights(z[some])
            changes = self._weight_slopes(z[some]) if slopes else None
            total: FloatArray | float = 0.0
            for i, (height, disc) in enumerate(zip(self.heights_nm, self._discs, strict=True)):
                seen = apply(disc, molecules(z[some] + height, focus[some], x[some], y[some]))
                share = shares[i].reshape(-1, *[1] * (seen.ndim - 1))
                part = share * seen
                if changes is not None:
                    part[:, 3] += changes[i][:, None, None] * seen[:, 0]
                total = total + part
            pieces.append(self.grid_y.weights @ (total @ self.grid_x.weights.T))
        return np.concatenate(pieces)

    def _weights(self, z_nm: FloatArray) -> FloatArray:
        """Share of the bead's detected photons from each disc, (discs, n), summing to 1."""
        shares = self.shares[:, None] * np.ones(z_nm.size)
        if self._collects and self.objective.has_interface:
            heights = np.maximum(z_nm + self.heights_nm[:, None], 0.0)
            shares = shares * _collected(self.objective, heights.ravel()).reshape(heights.shape)
        return np.asarray(shares / shares.sum(axis=0))

    def _weight_slopes(self, z_nm: FloatArray) -> FloatArray:
        """Derivative of the shares by height [1/nm], (discs, n)."""
        above, below = (self._weights(z_nm + side * HEIGHT_STEP_NM) for side in (1.0, -1.0))
        return (above - below) / (2.0 * HEIGHT_STEP_NM)


def _collected(objective: Objective, z_nm: FloatArray) -> FloatArray:
    """Collected share of a freely rotating dipole's photons at each height [1], (n,)."""
    heights, place = np.unique(z_nm, return_inverse=True)
    collected = collected_power(objective, heights) @ FREE_MOMENTS
    return np.asarray((collected / (emitted_power(objective, heights) @ FREE_MOMENTS))[place])


def ball_rule(
    radius_nm: float, band_limit_per_nm: float, objective: Objective, accuracy: float
) -> tuple[FloatArray, FloatArray]:
    """Heights of discs above the centre [nm] and their shares of a ball's volume, each (n,).

    The fewest for which the discs' transform equals the ball's within ``accuracy`` in the band, for
    travelling and for evanescent light.
    """
    frequencies = _intensity_frequencies(band_limit_per_nm, objective)
    wanted = ball_transform(radius_nm, frequencies[0], frequencies[1])
    largest = np.exp(2.0 * np.pi * np.abs(frequencies[1].imag) * radius_nm)
    for count in range(1, MOST_DISCS + 1):
        node, weight = roots_jacobi(count, 1.0, 1.0)
        heights = radius_nm * node
        shares = weight / weight.sum()
        total = sum(
            share
            * disc_transform(math.sqrt(max(radius_nm**2 - height**2, 0.0)), frequencies[0])
            * np.exp(2j * np.pi * frequencies[1] * height)
            for share, height in zip(shares, heights, strict=True)
        )
        if (np.abs(total - wanted) / largest).max() < accuracy:
            return heights, shares
    raise OpticsError(
        f"{MOST_DISCS} discs do not make a bead of {2 * radius_nm:g} nm to accuracy={accuracy:.1g}:"
        " use a smaller bead or a larger accuracy"
    )


def ball_transform(radius_nm: float, lateral: FloatArray, axial: ComplexArray) -> ComplexArray:
    """Transform of the mean over a ball at frequencies [cycles/nm], 3 (sin u - u cos u)/u^3 [1].

    ``axial`` may be imaginary, for light that fades with height.
    """
    u = 2.0 * np.pi * radius_nm * np.sqrt(lateral**2 + axial**2 + 0j)
    small = np.abs(u) < 1e-2
    safe = np.where(small, 1.0, u)
    series = 1.0 - u**2 / 10.0 + u**4 / 280.0
    return np.where(small, series, 3.0 * (np.sin(safe) - safe * np.cos(safe)) / safe**3)


def _intensity_frequencies(
    band_limit_per_nm: float, objective: Objective
) -> tuple[FloatArray, ComplexArray]:
    """Lateral and axial frequencies an intensity holds, two columns [cycles/nm], each (n,).

    Axially at most half the lateral band: (n - sqrt(n^2 - NA^2))/wavelength <= NA/wavelength.
    """
    shares = np.linspace(0.0, 1.0, 13)
    axial = [0.5 * band_limit_per_nm * share + 0j for share in shares]
    if objective.supercritical:
        beyond = math.sqrt(objective.na**2 - objective.n_sample**2) / objective.na
        axial += [1j * band_limit_per_nm * beyond * share for share in shares[1:]]
    lateral, along = np.meshgrid(band_limit_per_nm * shares, np.array(axial))
    return lateral.ravel(), along.ravel()
