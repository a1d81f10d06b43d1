"""Images of oriented dipoles: second moments of the orientation times six basis images.

Light from different moments of a molecule's rotation does not interfere, so its image is linear in
the second-moment tensor M = <mu mu^T> of its unit dipole moment mu (trace 1): whatever the motion,
six numbers describe it and six images make it. A dipole that wobbles fast and evenly in a cone of
half angle alpha has M = gamma mu mu^T + (1 - gamma)/3, gamma = cos(alpha) (1 + cos(alpha)) / 2.

Order everywhere: xx, yy, zz, xy, xz, yz, the factor 2 of the off-diagonal moments inside the basis
images. x runs along columns, y along rows, z from the coverslip into the sample.

Sources: Backer and Moerner, J. Phys. Chem. B 118, 8313 (2014) for moments and the constraint;
Stallinga, J. Opt. Soc. Am. A 32, 213 (2015) for the wobble between fixed and free. Holds for motion
much faster than the exposure and much slower or much faster than the emission alike, as far as the
image's shape goes; excitation that prefers some orientations is left out.
"""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from simscope.errors import OpticsError
from simscope.recipe.dipoles import (
    ConeDipole,
    FixedDipole,
    FreeDipole,
    constraint_of_half_angle,
    half_angle_of_constraint,
)

FloatArray = NDArray[np.float64]

FREE_MOMENTS: tuple[float, ...] = (1 / 3, 1 / 3, 1 / 3, 0.0, 0.0, 0.0)
"""Moments of a freely rotating dipole."""


class BasisModel(Protocol):
    """A model that gives the six basis images and their energies."""

    def basis_images(
        self,
        z_nm: ArrayLike = 0.0,
        focus_nm: ArrayLike = 0.0,
        x_nm: ArrayLike = 0.0,
        y_nm: ArrayLike = 0.0,
        analyser_deg: float | None = None,
    ) -> FloatArray:
        """Basis images, float64 (n, 6, y, x); a free dipole sums to 1 without analyser."""
        ...

    def basis_energies(self, z_nm: ArrayLike = 0.0) -> FloatArray:
        """Sums of the basis images over an infinite camera without analyser, (n, 6)."""
        ...


def moments(
    polar_rad: ArrayLike, azimuth_rad: ArrayLike, half_angle_rad: ArrayLike = 0.0
) -> FloatArray:
    """Second moments [1] of dipoles that wobble evenly in cones, float64 (n, 6), trace 1.

    Order xx, yy, zz, xy, xz, yz. ``polar_rad`` from z, ``azimuth_rad`` from x towards y,
    ``half_angle_rad`` 0 for fixed to pi/2 for free; they broadcast to n.
    """
    polar, azimuth, half_angle = np.broadcast_arrays(
        *(
            np.atleast_1d(np.asarray(a, np.float64))
            for a in (polar_rad, azimuth_rad, half_angle_rad)
        )
    )
    axis = (
        np.sin(polar) * np.cos(azimuth),
        np.sin(polar) * np.sin(azimuth),
        np.cos(polar),
    )
    pairs = ((0, 0), (1, 1), (2, 2), (0, 1), (0, 2), (1, 2))
    fixed = np.stack([axis[i] * axis[j] for i, j in pairs], axis=1)
    constraint = constraint_of_half_angle(half_angle)[:, None]
    return constraint * fixed + (1.0 - constraint) * np.array(FREE_MOMENTS)


def dipole_moments(dipole: Any) -> FloatArray:
    """Second moments (6,) of one dipole as a recipe writes it; None is freely rotating.

    Raises OpticsError for what is no dipole, or has an orientation still to be drawn.
    """
    if dipole is None or isinstance(dipole, FreeDipole):
        return np.array(FREE_MOMENTS)
    if not isinstance(dipole, FixedDipole | ConeDipole):
        raise OpticsError(
            f"dipole is of type {type(dipole).__name__}: pass FreeDipole(), "
            "FixedDipole(polar_deg=..., azimuth_deg=...) or ConeDipole(...)"
        )
    return moments(*orientation_rad(dipole))[0]


def orientation_rad(dipole: FixedDipole | ConeDipole) -> tuple[float, float, float]:
    """Polar angle, azimuth and half angle of the cone [rad] of a dipole as a recipe writes it.

    Raises OpticsError for angles that are still to be drawn.
    """
    polar, azimuth = (
        float(np.radians(_plain(name, getattr(dipole, name))))
        for name in ("polar_deg", "azimuth_deg")
    )
    return polar, azimuth, _half_angle_rad(dipole)


def _half_angle_rad(dipole: FixedDipole | ConeDipole) -> float:
    if isinstance(dipole, FixedDipole):
        return 0.0
    if dipole.half_angle_deg is not None:
        return float(np.radians(_plain("half_angle_deg", dipole.half_angle_deg)))
    constraint = _plain("rotational_constraint", dipole.rotational_constraint)
    return float(half_angle_of_constraint(constraint))


def _plain(name: str, value: Any) -> float:
    if not isinstance(value, int | float):
        shown = value.label() if hasattr(value, "label") else repr(value)
        raise OpticsError(
            f"dipole {name} is still to be drawn ({shown}): give one number for one image"
        )
    return float(value)


def is_free(weights: ArrayLike) -> bool:
    """Whether second moments are those of a freely rotating dipole."""
    return bool(np.allclose(weights, FREE_MOMENTS, rtol=0.0, atol=1e-15))


def image_weights(moment: ArrayLike, energies: ArrayLike) -> FloatArray:
    """Weights of the basis images for images that sum to 1 over an infinite camera, (n, 6).

    ``moment`` (n, 6) or (6,) second moments, ``energies`` (n, 6) those of the basis images at each
    height. The off-diagonal energies vanish unless a mask dims the pupil unevenly.
    """
    moment, energies = np.asarray(moment, np.float64), np.asarray(energies, np.float64)
    total = (moment * energies).sum(axis=-1, keepdims=True)
    return np.asarray(moment / total)


class DipoleModel:
    """Images of one kind of dipole, through an analyser or not, as any model answers them.

    ``model`` gives the basis images, ``moment`` (6,) says how the dipole moves. ``analyser_deg``:
    only light polarised along this angle from x towards y. Without analyser every image sums to 1;
    with one it sums to the share of the detected light that passes, so that two crossed channels
    add to the image without.
    """

    def __init__(
        self, model: BasisModel, moment: ArrayLike, analyser_deg: float | None = None
    ) -> None:
        self.model = model
        self.moment = np.asarray(moment, np.float64)
        self.analyser_deg = analyser_deg

    def images(
        self,
        z_nm: ArrayLike = 0.0,
        focus_nm: ArrayLike = 0.0,
        x_nm: ArrayLike = 0.0,
        y_nm: ArrayLike = 0.0,
    ) -> FloatArray:
        """Probability per pixel, float64 (n, y, x); arguments broadcast to n images."""
        z, focus, x, y = np.broadcast_arrays(
            *(np.atleast_1d(np.asarray(a, np.float64)) for a in (z_nm, focus_nm, x_nm, y_nm))
        )
        basis = self.model.basis_images(z, focus, x, y, analyser_deg=self.analyser_deg)
        weights = image_weights(self.moment, self.model.basis_energies(z))
        # weighted basis images cancel where it is dark: rounding may leave less than nothing
        return np.maximum(np.einsum("nk,nkyx->nyx", weights, basis), 0.0)


def oriented(model: Any, optics: Any, moment: ArrayLike | None) -> Any:
    """The model's images for a dipole of second moments ``moment`` through the optics' analyser.

    The model itself for a free dipole (None) without analyser. Raises OpticsError where the
    analyser has two channels, which are two images. Models that know no polarisation raise theirs
    when they are asked for images.
    """
    if (moment is None or is_free(moment)) and optics.analyser is None:
        return model
    return DipoleModel(
        model, FREE_MOMENTS if moment is None else moment, analyser_angle_deg(optics)
    )


def analyser_angle_deg(optics: Any) -> float | None:
    """The one angle of the optics' analyser, None without one; OpticsError for two channels."""
    if optics.analyser is None:
        return None
    angles = optics.analyser.angles_deg
    if len(angles) != 1:
        raise OpticsError(
            "analyser channels='both' makes two images: ask for channels 'parallel' and 'crossed' "
            "one after the other, or ss.psf, which gives both"
        )
    return float(angles[0])


def channels(optics: Any) -> list[Any]:
    """The optics of each detected channel: themselves, or one per channel of their analyser."""
    analyser = optics.analyser
    if analyser is None or analyser.channels != "both":
        return [optics]
    return [
        optics.model_copy(update={"analyser": analyser.model_copy(update={"channels": name})})
        for name in ("parallel", "crossed")
    ]
