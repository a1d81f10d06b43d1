"""What a recipe says of the optics: objective, media stack, wavefront and phase mask."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from simscope.recipe.base import Model, PerDataset, PerSample, number
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


class TetrapodMask(Model):
    """Tetrapod phase mask computed by simscope for a given axial range (Shechtman 2014, 2015)."""

    kind: Literal["tetrapod"] = "tetrapod"
    z_range_nm: float = number(
        "axial range the mask is made for", unit="nm", default=4000.0, gt=0, le=20000
    )


class VortexMask(Model):
    """Spiral phase of a whole number of turns."""

    kind: Literal["vortex"] = "vortex"
    charge: int = Field(1, ge=-10, le=10, description="turns of 2 pi around the pupil")


class FileMask(Model):
    """Phase mask from a .mat or .npy file: radians on a square grid of NA."""

    kind: Literal["file"] = "file"
    path: str = Field(description="file with a square 2-D array of phase [rad]")
    na_per_pixel: float = number("NA one mask pixel spans", unit="NA", gt=0, le=1)
    variable: str | None = Field(None, description="name of the array in a .mat file")


Mask = Annotated[TetrapodMask | VortexMask | FileMask, Field(discriminator="kind")]


class Optics(Model):
    """Objective, media and pupil: everything that shapes the PSF except the camera."""

    model: Literal["vectorial", "gibson_lanni"] = Field(
        "vectorial",
        description="vectorial dipole emission; gibson_lanni (scalar) is not available yet",
    )
    method: Literal["auto", "radial", "pupil"] = Field(
        "auto",
        description="how the model is evaluated: auto or pupil; radial is not available yet",
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
    mask: Mask | None = Field(None, description="phase mask in the pupil")
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
                raise ValueError(
                    f"na={na:g} exceeds {name}={index:g}: no such ray passes; "
                    f"lower na or raise {name}"
                )
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


def _highest(value: float | Distribution) -> float:
    return value.support()[1] if isinstance(value, Distribution) else value


def _lowest(value: float | Distribution) -> float:
    return value.support()[0] if isinstance(value, Distribution) else value
