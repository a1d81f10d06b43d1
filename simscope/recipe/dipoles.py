"""What a recipe says of the molecules' transition dipoles: free, fixed, wobbling in a cone.

A dipole and its opposite emit alike, so axes fill the half sphere: ``polar_deg`` from the optical
axis (0: along it, 90: in the plane of the coverslip), ``azimuth_deg`` from x (columns, rightwards)
towards y (rows, downwards). Left out of both, the axes are isotropic: ``{solid_angle: [0, 90]}``
draws a polar angle evenly over the sphere, which ``{uniform: [0, 90]}`` does not (it crowds axes
around the pole).
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field, model_validator

from simscope.recipe.base import Model, PerEmitter, number
from simscope.recipe.distributions import Floats, SolidAngle, Uniform


class FreeDipole(Model):
    """Rotates freely and fast: emits the same from all orientations."""

    kind: Literal["free"] = "free"


def _polar() -> Any:
    return number(
        "angle of the axis from the optical axis, drawn per molecule; isotropic if left out",
        unit="deg",
        default=SolidAngle(low=0.0, high=90.0),
        ge=0,
        le=180,
    )


def _azimuth() -> Any:
    return number(
        "angle of the axis around the optical axis, from x towards y, drawn per molecule; "
        "isotropic if left out",
        unit="deg",
        default=Uniform(low=0.0, high=360.0),
        ge=-360,
        le=360,
    )


class FixedDipole(Model):
    """Stands still along an axis of its own; isotropic axes unless angles are given."""

    kind: Literal["fixed"] = "fixed"
    polar_deg: PerEmitter = _polar()
    azimuth_deg: PerEmitter = _azimuth()


class ConeDipole(Model):
    """Wobbles fast and evenly within a cone around an axis of its own.

    The cone is given by its half angle (0: fixed, 90: free) or by Backer and Moerner's rotational
    constraint (1: fixed, 0: free).
    """

    kind: Literal["cone"] = "cone"
    polar_deg: PerEmitter = _polar()
    azimuth_deg: PerEmitter = _azimuth()
    half_angle_deg: PerEmitter | None = number(
        "half angle of the cone, drawn per molecule", unit="deg", default=None, ge=0, le=90
    )
    rotational_constraint: PerEmitter | None = number(
        "share of the emission that a fixed dipole on the axis would give, the rest is isotropic",
        unit="1",
        default=None,
        ge=0,
        le=1,
    )

    @model_validator(mode="after")
    def _one_cone(self) -> ConeDipole:
        if (self.half_angle_deg is None) == (self.rotational_constraint is None):
            raise ValueError("give either half_angle_deg or rotational_constraint, one of the two")
        return self


Dipole = Annotated[FreeDipole | FixedDipole | ConeDipole, Field(discriminator="kind")]


def constraint_of_half_angle(half_angle_rad: float | Floats) -> Floats:
    """Rotational constraint [1] of an even wobble in a cone, cos(alpha) (1 + cos(alpha)) / 2.

    Shape of ``half_angle_rad``. The mean square of the cosine to the axis over the cone is
    (1 + cos + cos^2) / 3 = (1 + 2 gamma) / 3. Source: Backer and Moerner, J. Phys. Chem. B 118,
    8313 (2014).
    """
    cosine = np.cos(np.asarray(half_angle_rad, np.float64))
    return np.asarray(0.5 * cosine * (1.0 + cosine))


def half_angle_of_constraint(constraint: float | Floats) -> Floats:
    """Half angle [rad] of the cone with a rotational constraint, shape of ``constraint``.

    Inverts :func:`constraint_of_half_angle` on [0, pi/2].
    """
    cosine = 0.5 * (np.sqrt(1.0 + 8.0 * np.asarray(constraint, np.float64)) - 1.0)
    return np.asarray(np.arccos(np.clip(cosine, 0.0, 1.0)))
