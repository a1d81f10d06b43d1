"""What a recipe says of the light that excites the molecules: everywhere alike, or evanescent."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from simscope.recipe.base import Model, PerSample, number


class UniformIllumination(Model):
    """The same excitation at every height; photons mean the same everywhere."""

    kind: Literal["uniform"] = "uniform"


class EvanescentIllumination(Model):
    """Total internal reflection: excitation falls as exp(-z / depth) from the coverslip.

    Photons of the photophysics are those at the coverslip, z = 0. The depth is given, or follows
    from the angle of incidence in the immersion medium and the excitation wavelength.
    """

    kind: Literal["evanescent"] = "evanescent"
    depth_nm: PerSample | None = number(
        "height at which the intensity is 1/e of that at the coverslip",
        unit="nm",
        default=None,
        ge=10,
        le=1e5,
    )
    angle_deg: PerSample | None = number(
        "angle of incidence, measured in the immersion medium from the optical axis",
        unit="deg",
        default=None,
        gt=0,
        lt=90,
    )
    excitation_wavelength_nm: float | None = number(
        "excitation wavelength in vacuum, needed with angle_deg",
        unit="nm",
        default=None,
        ge=100,
        le=3000,
    )

    @model_validator(mode="after")
    def _one_way(self) -> EvanescentIllumination:
        if (self.depth_nm is None) == (self.angle_deg is None):
            raise ValueError("give either depth_nm or angle_deg, one of the two")
        if self.angle_deg is not None and self.excitation_wavelength_nm is None:
            raise ValueError("angle_deg needs excitation_wavelength_nm: add it")
        if self.depth_nm is not None and self.excitation_wavelength_nm is not None:
            raise ValueError("depth_nm stands alone: drop excitation_wavelength_nm")
        return self


Illumination = Annotated[UniformIllumination | EvanescentIllumination, Field(discriminator="kind")]
