"""What a recipe says of the microscope beyond the objective: widefield, confocal and others."""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from simscope.recipe.base import Model, number

AIRY_DISC = 1.22
"""Diameter of the Airy disc, one Airy unit, in units of emission wavelength over NA."""

HIGHEST_SHEET_NA = 0.4
"""NA up to which a light sheet is the paraxial beam it is computed as."""


class Widefield(Model):
    """Every emitter shines with its own light, seen by a camera."""

    kind: Literal["widefield"] = "widefield"


class _Excited(Model):
    """Light of one wavelength excites the emitters through the objective."""

    excitation_wavelength_nm: float = number(
        "excitation wavelength in vacuum", unit="nm", ge=100, le=3000
    )
    excitation_na: float | None = number(
        "numerical aperture the excitation beam fills evenly; the objective's if absent",
        unit="1",
        default=None,
        gt=0,
        lt=2,
    )


class _Pinholed(_Excited):
    """Light is detected through a pinhole."""

    pinhole_airy_units: float = number(
        "pinhole diameter in Airy units of 1.22 wavelength_nm / na",
        unit="1",
        default=1.0,
        gt=0,
        le=10,
    )


class Confocal(_Pinholed):
    """A focused beam scans the sample, a pinhole passes light from its focus."""

    kind: Literal["confocal"] = "confocal"


class TwoPhoton(_Excited):
    """A focused beam scans the sample; two photons excite together, all light is detected."""

    kind: Literal["two_photon"] = "two_photon"


class LightSheet(Model):
    """A Gaussian sheet of light lies in the focal plane, a camera sees the whole field."""

    kind: Literal["light_sheet"] = "light_sheet"
    excitation_wavelength_nm: float = number(
        "excitation wavelength in vacuum", unit="nm", ge=100, le=3000
    )
    waist_nm: float | None = number(
        "half thickness of the sheet at its waist, where intensity is 1/e^2",
        unit="nm",
        default=None,
        gt=0,
        le=1e5,
    )
    sheet_na: float | None = number(
        "numerical aperture that forms the sheet, instead of waist_nm",
        unit="1",
        default=None,
        gt=0,
        le=HIGHEST_SHEET_NA,
    )
    offset_nm: float = number(
        "distance of the field from the waist along the sheet's propagation",
        unit="nm",
        default=0.0,
        ge=-1e7,
        le=1e7,
    )
    height_nm: float = number(
        "height of the sheet's middle above the focal plane, a misalignment",
        unit="nm",
        default=0.0,
        ge=-1e5,
        le=1e5,
    )

    @model_validator(mode="after")
    def _one_thickness(self) -> LightSheet:
        if (self.waist_nm is None) == (self.sheet_na is None):
            raise ValueError("give the sheet's thickness by one of waist_nm and sheet_na")
        thinnest_nm = self.excitation_wavelength_nm / (math.pi * HIGHEST_SHEET_NA)
        if self.waist_nm is not None and self.waist_nm < thinnest_nm:
            raise ValueError(
                f"waist_nm={self.waist_nm:g} takes a sheet NA above {HIGHEST_SHEET_NA:g}, where "
                f"sheets are no Gaussian beams: give at least {math.ceil(thinnest_nm)} nm"
            )
        return self


class Sted(_Pinholed):
    """Confocal with a donut of depletion light around the focus (vortex, circular light)."""

    kind: Literal["sted"] = "sted"
    depletion_wavelength_nm: float = number(
        "depletion wavelength in vacuum", unit="nm", ge=100, le=3000
    )
    saturation: float = number(
        "donut's peak over the intensity that leaves 1/e of the fluorescence",
        unit="1",
        ge=0,
        le=1000,
    )
    residual: float = number(
        "depletion light in the middle of an imperfect donut, as a share of its peak",
        unit="1",
        default=0.0,
        ge=0,
        le=1,
    )


class ImageScanning(_Excited):
    """A focused beam scans the sample, a small array detector images it; pixels reassigned."""

    kind: Literal["ism"] = "ism"
    array: Literal["square", "hexagonal"] = Field("square", description="how elements are packed")
    across: int = Field(
        5, ge=1, le=15, description="elements along the array's longest line, an odd number"
    )
    pitch_airy_units: float = number(
        "distance of neighbouring elements in Airy units of 1.22 wavelength_nm / na",
        unit="1",
        default=0.25,
        gt=0,
        le=2,
    )
    reassignment: float | Literal["adaptive"] = Field(
        0.5,
        description="share of an element's offset by which its image is shifted back, or "
        "adaptive: the share that suits the widths of excitation and detection [1]",
    )

    @model_validator(mode="after")
    def _array_fits(self) -> ImageScanning:
        if self.across % 2 == 0:
            raise ValueError(f"across={self.across} is even: give an odd number, 5 say")
        if self.reassignment != "adaptive" and not 0 <= self.reassignment <= 1:
            raise ValueError(f"reassignment={self.reassignment:g} lies outside [0, 1]: try 0.5")
        return self


Modality = Annotated[
    Widefield | Confocal | TwoPhoton | LightSheet | Sted | ImageScanning,
    Field(discriminator="kind"),
]


def impossible_light(modality: Any, na: float, wavelength_nm: float) -> str | None:
    """What is wrong with a modality's wavelengths and apertures, in a sentence; None if nothing.

    ``na``: the objective's; ``wavelength_nm``: of emission. One photon must carry more energy
    than the emission's, two together likewise; a depletion photon less than the exciting one.
    """
    exciting_nm = getattr(modality, "excitation_wavelength_nm", None)
    if exciting_nm is None:
        return None
    photons = 2 if modality.kind == "two_photon" else 1
    if exciting_nm >= photons * wavelength_nm:
        return (
            f"excitation_wavelength_nm={exciting_nm:g} carries too little energy for emission at "
            f"wavelength_nm={wavelength_nm:g}: it must be below {photons * wavelength_nm:g} nm"
        )
    if modality.kind == "two_photon" and exciting_nm <= wavelength_nm:
        return (
            f"excitation_wavelength_nm={exciting_nm:g} excites with one photon emission at "
            f"wavelength_nm={wavelength_nm:g}: two-photon excitation lies above it, or use confocal"
        )
    if modality.kind == "sted" and modality.depletion_wavelength_nm <= exciting_nm:
        return (
            f"depletion_wavelength_nm={modality.depletion_wavelength_nm:g} would excite: it must "
            f"exceed excitation_wavelength_nm={exciting_nm:g}"
        )
    filled = getattr(modality, "excitation_na", None)
    if filled is not None and filled > na:
        return f"excitation_na={filled:g} exceeds the objective's na={na:g}: lower it"
    return None
