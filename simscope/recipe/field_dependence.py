"""What a recipe says of aberrations that change over the field of view.

A place in the field is given in nm in the sample, x rightwards and y downwards, from the field's
centre. The camera frame's middle lies at ``frame_centre_nm`` of the field.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from simscope.recipe.base import Model, number

HIGHEST_POWER = 12


class _Field(Model):
    frame_centre_nm: tuple[float, float] = Field(
        (0.0, 0.0), description="place of the camera frame's middle in the field, (x, y) [nm]"
    )


class PolynomialField(_Field):
    """Zernike coefficients as polynomials of the place in the field, added to the wavefront's."""

    kind: Literal["polynomial"] = "polynomial"
    half_width_nm: float = number(
        "distance from the field's centre at which u or v is 1; beyond it they stay there",
        unit="nm", gt=0, le=1e7,
    )  # fmt: skip
    coefficients_nm: dict[int, tuple[tuple[int, int, float], ...]] = Field(
        description="OSA/ANSI index -> terms [power of u, power of v, RMS nm], summed"
    )

    @field_validator("coefficients_nm")
    @classmethod
    def _terms_sensible(
        cls, terms: dict[int, tuple[tuple[int, int, float], ...]]
    ) -> dict[int, tuple[tuple[int, int, float], ...]]:
        _check_modes(terms)
        for index, mode in terms.items():
            for x_power, y_power, _ in mode:
                if not (0 <= x_power <= HIGHEST_POWER and 0 <= y_power <= HIGHEST_POWER):
                    raise ValueError(
                        f"powers [{x_power}, {y_power}] of OSA mode {index} lie outside "
                        f"[0, {HIGHEST_POWER}]: use a polynomial of lower degree"
                    )
        return terms


class MapsField(_Field):
    """Zernike coefficients read from maps over the field, added to the wavefront's."""

    kind: Literal["maps"] = "maps"
    path: str = Field(description=".npy or .mat file of the maps")
    layout: Literal["simscope", "fd_deeploc"] = Field(
        "simscope",
        description="simscope: maps [mode, y, x] in nm RMS of the modes given; fd_deeploc: "
        "aber_map [y, x, mode] in waves, as FD-DeepLoc's calibration saves it",
    )
    variable: str | None = Field(None, description="name of the array in a .mat file")
    modes: tuple[int, ...] | None = Field(
        None, description="OSA/ANSI indices of the maps in their order; simscope layout only"
    )
    map_pixel_nm: float = number(
        "what a map pixel spans in the sample; the map's middle is the field's centre",
        unit="nm", gt=0, le=1e6,
    )  # fmt: skip

    @model_validator(mode="after")
    def _modes_fit_layout(self) -> MapsField:
        if self.layout == "fd_deeploc" and self.modes is not None:
            raise ValueError("modes are fixed by layout fd_deeploc: leave modes out")
        if self.layout == "simscope":
            if not self.modes:
                raise ValueError("modes are missing: name the OSA index of every map, in order")
            _check_modes(self.modes)
            if len(set(self.modes)) != len(self.modes):
                raise ValueError(f"modes {list(self.modes)} name one twice: keep one")
        return self


def _check_modes(indices: object) -> None:
    for index in indices:  # type: ignore[attr-defined]
        if not 0 <= index <= 230:
            raise ValueError(f"OSA index {index} lies outside [0, 230]: choose a lower mode")


FieldDependence = Annotated[PolynomialField | MapsField, Field(discriminator="kind")]
