"""What a recipe says of the emission spectrum and the filter in front of the camera."""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated, Literal

from pydantic import Field, model_validator

from simscope.recipe.base import Model, number


class Bandpass(Model):
    """Emission filter that passes wavelengths between two edges."""

    low_nm: float = number("short edge, where half the light passes", unit="nm", ge=100, le=3000)
    high_nm: float = number("long edge, where half the light passes", unit="nm", ge=100, le=3000)
    edge_nm: float = number(
        "width over which the transmission rises linearly from 0 to 1",
        unit="nm",
        default=0.0,
        ge=0,
        le=200,
    )

    @model_validator(mode="after")
    def _edges_in_order(self) -> Bandpass:
        if self.low_nm + self.edge_nm > self.high_nm or self.low_nm == self.high_nm:
            raise ValueError(
                f"filter from low_nm={self.low_nm:g} to high_nm={self.high_nm:g} with edges of "
                f"edge_nm={self.edge_nm:g} never opens: high_nm must exceed low_nm + edge_nm"
            )
        return self


class GaussianSpectrum(Model):
    """Emission of Gaussian shape around ``wavelength_nm`` of the optics."""

    kind: Literal["gaussian"] = "gaussian"
    fwhm_nm: float = number("full width at half maximum", unit="nm", gt=0, le=500)
    filter: Bandpass | None = Field(None, description="emission filter in front of the camera")


class TableSpectrum(Model):
    """Emission measured at some wavelengths: photons per nm, linear in between, 0 outside."""

    kind: Literal["table"] = "table"
    wavelengths_nm: tuple[float, ...] | None = Field(
        None, description="rising wavelengths in vacuum, two at least [nm]"
    )
    values: tuple[float, ...] | None = Field(
        None, description="photons per nm at each wavelength, in any unit"
    )
    path: str | None = Field(
        None, description="csv file with columns wavelength [nm] and photons per nm, instead"
    )
    filter: Bandpass | None = Field(None, description="emission filter in front of the camera")

    @model_validator(mode="after")
    def _one_source(self) -> TableSpectrum:
        listed = self.wavelengths_nm is not None and self.values is not None
        if listed == (self.path is not None) or (self.wavelengths_nm is None) != (
            self.values is None
        ):
            raise ValueError("give the spectrum by wavelengths_nm with values, or by path alone")
        if listed:
            problem = impossible_table(self.wavelengths_nm or (), self.values or ())
            if problem:
                raise ValueError(problem)
        return self


def impossible_table(wavelengths_nm: tuple[float, ...], values: tuple[float, ...]) -> str | None:
    """What is wrong with a tabulated spectrum, in a sentence; None if nothing."""
    count = len(wavelengths_nm)
    if count < 2 or len(values) != count:
        return (
            f"a spectrum of {count} wavelengths and {len(values)} values: give one value for each "
            "of at least two wavelengths"
        )
    if not all(100 <= value <= 3000 for value in wavelengths_nm):
        return "a wavelength of the spectrum lies outside [100, 3000] nm: give nm"
    if not all(before < after for before, after in pairwise(wavelengths_nm)):
        return "the wavelengths of the spectrum do not rise: sort them and drop doubles"
    if not all(0 <= value < float("inf") for value in values) or max(values) <= 0:
        return "the spectrum has values that are negative, not finite, or all 0: subtract the dark"
    return None


Spectrum = Annotated[GaussianSpectrum | TableSpectrum, Field(discriminator="kind")]
