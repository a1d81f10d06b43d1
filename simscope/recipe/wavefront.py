"""What a recipe says of the wavefront: Zernike modes, maps from files, dependence on the field."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from simscope.recipe.base import Model, PerSample, number
from simscope.recipe.distributions import Distribution


class ZernikeWavefront(Model):
    """Wavefront error as orthonormal Zernike modes; coefficients are RMS nanometres."""

    kind: Literal["zernike"] = "zernike"
    coefficients_nm: dict[int, PerSample] = Field(
        default_factory=dict,
        description="OSA/ANSI index -> RMS wavefront error, each drawn per sample [nm]",
    )
    random_modes: tuple[int, ...] = Field(
        default=(),
        description="OSA/ANSI indices that share rms_nm in a random direction, per sample",
    )
    rms_nm: PerSample = number(
        "RMS wavefront error of all random_modes together, drawn per sample",
        unit="nm",
        default=0.0,
        ge=0,
        le=1e5,
    )

    @model_validator(mode="after")
    def _modes_sensible(self) -> ZernikeWavefront:
        for index in (*self.coefficients_nm, *self.random_modes):
            if not 0 <= index <= 230:
                raise ValueError(f"OSA index {index} lies outside [0, 230]: choose a lower mode")
        twice = set(self.coefficients_nm) & set(self.random_modes)
        if twice or len(set(self.random_modes)) != len(self.random_modes):
            raise ValueError(
                f"OSA modes {sorted(twice) or self.random_modes} named twice: keep one"
            )
        if self.random_modes and self.rms_nm == 0.0:
            raise ValueError("random_modes given but rms_nm=0: set rms_nm or drop random_modes")
        return self

    @property
    def modes(self) -> tuple[int, ...]:
        """Every OSA index that occurs, sorted."""
        return tuple(sorted({*self.coefficients_nm, *self.random_modes}))

    @property
    def drawn(self) -> bool:
        """Whether the wavefront differs from sample to sample."""
        return bool(self.random_modes) or any(
            isinstance(value, Distribution) for value in self.coefficients_nm.values()
        )
