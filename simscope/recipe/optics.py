"""What a recipe says of the optics: objective, media stack, pupil, modality, spectrum."""

from __future__ import annotations

import warnings
from typing import Any, Literal

from pydantic import Field, model_validator

from simscope.errors import SimscopeWarning
from simscope.recipe.analyser import Analyser
from simscope.recipe.base import Model, PerDataset, number
from simscope.recipe.distributions import Distribution
from simscope.recipe.field_dependence import FieldDependence
from simscope.recipe.gaussian import GaussianSpot, gaussian_conflict
from simscope.recipe.masks import Mask, SpatialLightModulator
from simscope.recipe.measured import MeasuredPsf, measured_conflict
from simscope.recipe.modality import Modality, Widefield, impossible_light
from simscope.recipe.spectrum import Spectrum
from simscope.recipe.wavefront import AmplitudeMap, WavefrontMap, ZernikeWavefront

THINNEST_GLASS_UM = 10.0
"""Thickness of glass and immersion below which millimetres may have been given for um."""


class Optics(Model):
    """Objective, media and pupil: everything that shapes the PSF except the camera."""

    model: Literal["vectorial", "gibson_lanni", "gaussian"] = Field(
        "vectorial",
        description="vectorial dipole emission, the scalar model of Gibson and Lanni, or Gaussian "
        "spots",
    )
    method: Literal["auto", "radial", "pupil"] = Field(
        "auto",
        description="how the model is evaluated: by radial integrals, on the pupil, or as fits",
    )
    gaussian: GaussianSpot | None = Field(
        None, description="widths of spots of model gaussian; from the objective if absent"
    )
    na: PerDataset = number("numerical aperture", unit="1", default=1.4, gt=0, lt=2)
    wavelength_nm: PerDataset = number(
        "emission wavelength in vacuum", unit="nm", default=600.0, ge=100, le=3000
    )
    n_sample: PerDataset = number("index of the sample", unit="1", default=1.33, ge=1, le=2.5)
    n_coverslip: PerDataset = number(
        "index of the coverslip", unit="1", default=1.523, ge=1, le=2.5
    )
    n_coverslip_design: PerDataset | None = number(
        "coverslip index the objective is made for; n_coverslip if absent",
        unit="1",
        default=None,
        ge=1,
        le=2.5,
    )
    n_immersion: PerDataset = number(
        "index of the immersion medium", unit="1", default=1.518, ge=1, le=2.5
    )
    n_immersion_design: PerDataset | None = number(
        "immersion index the objective is made for; n_immersion if absent",
        unit="1",
        default=None,
        ge=1,
        le=2.5,
    )
    coverslip_um: PerDataset = number(
        "coverslip thickness", unit="um", default=170.0, ge=0, le=5000
    )
    coverslip_design_um: PerDataset | None = number(
        "coverslip thickness the objective is made for; coverslip_um if absent",
        unit="um",
        default=None,
        ge=0,
        le=5000,
    )
    working_distance_um: PerDataset = number(
        "immersion thickness the objective is made for", unit="um", default=150.0, gt=0, le=1e5
    )
    magnification: float = number(
        "lateral magnification onto the camera", unit="1", default=100.0, gt=0, le=10000
    )
    wavefront: ZernikeWavefront | None = Field(None, description="aberrations in the pupil")
    wavefront_map: WavefrontMap | None = Field(
        None, description="measured wavefront, on top of the modes"
    )
    amplitude_map: AmplitudeMap | None = Field(
        None, description="transmission of the pupil, even if absent"
    )
    field_dependence: FieldDependence | None = Field(
        None, description="aberrations that change over the field of view, on top of wavefront"
    )
    mask: Mask | None = Field(None, description="phase mask in the pupil")
    slm: SpatialLightModulator | None = Field(
        None, description="modulator that shows the mask; a perfect plate if absent"
    )
    measured: MeasuredPsf | None = Field(
        None, description="a measured PSF, used instead of a computed one"
    )
    analyser: Analyser | None = Field(
        None, description="polarisation the camera sees; all of it if absent"
    )
    collection: Literal["normalised", "relative"] = Field(
        "normalised",
        description="whether images sum to 1, or to the share of light collected from this height "
        "and orientation relative to a freely rotating dipole far from the coverslip",
    )
    modality: Modality = Field(
        default_factory=Widefield, description="how light is excited and detected"
    )
    spectrum: Spectrum | None = Field(
        None, description="emission spectrum; monochromatic at wavelength_nm if absent"
    )
    bead_diameter_nm: float = number(
        "diameter of the uniformly filled sphere that shines; 0 for a molecule",
        unit="nm",
        default=0.0,
        ge=0,
        le=2000,
    )
    blur_nm: float = number(
        "standard deviation of a Gaussian blur on top, for what no model explains",
        unit="nm",
        default=0.0,
        ge=0,
        le=1000,
    )
    accuracy: float = number(
        "worst PSF error asked for, as a share of the peak", unit="1", default=1e-6, ge=1e-9, le=0.1
    )

    @model_validator(mode="after")
    def _light_fits(self) -> Optics:
        na = _highest(self.na)
        for name in ("n_immersion", "n_immersion_design", "n_coverslip", "n_coverslip_design"):
            value = getattr(self, name)
            index = None if value is None else _lowest(value)
            if index is not None and na >= index:
                verdict = "exceeds" if na > index else "is not below"
                raise ValueError(
                    f"na={na:g} {verdict} {name}={index:g}: no such ray passes; "
                    f"lower na or raise {name}"
                )
        problem = impossible_light(self.modality, na, _highest(self.wavelength_nm))
        if problem:
            raise ValueError(problem)
        return self

    @model_validator(mode="after")
    def _nothing_mistaken(self) -> Optics:
        for name in ("coverslip_um", "coverslip_design_um", "working_distance_um"):
            value = getattr(self, name)
            thin_um = THINNEST_GLASS_UM if value is None else _highest(value)
            if 0 < thin_um < THINNEST_GLASS_UM:
                _warn(f"{name}={thin_um:g} is in um: give {1000 * thin_um:g} if mm were meant")
        if self.slm is not None and self.mask is None:
            _warn("optics.slm has no mask to show and changes nothing: give optics.mask as well")
        return self

    @model_validator(mode="after")
    def _measured_alone(self) -> Optics:
        conflict = measured_conflict(self) if self.measured is not None else None
        if conflict is not None:
            raise ValueError(conflict)
        return self

    @model_validator(mode="after")
    def _gaussian_alone(self) -> Optics:
        conflict = gaussian_conflict(self)
        if conflict is not None:
            raise ValueError(conflict)
        return self

    def resolved(self) -> Optics:
        """The same optics with every absent design value filled in by the actual one."""
        filled: dict[str, Any] = {}
        for design, actual in (
            ("n_coverslip_design", "n_coverslip"),
            ("n_immersion_design", "n_immersion"),
            ("coverslip_design_um", "coverslip_um"),
        ):
            if getattr(self, design) is None:
                filled[design] = getattr(self, actual)
        return self.model_copy(update=filled)


def _warn(message: str) -> None:
    warnings.warn(message, SimscopeWarning, stacklevel=3)


def _highest(value: float | Distribution) -> float:
    return value.support()[1] if isinstance(value, Distribution) else value


def _lowest(value: float | Distribution) -> float:
    return value.support()[0] if isinstance(value, Distribution) else value
