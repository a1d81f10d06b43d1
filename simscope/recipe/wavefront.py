"""What a recipe says of the wavefront: Zernike modes, maps from files, dependence on the field."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, model_validator

from simscope.recipe.base import Model, PerSample, number
from simscope.recipe.distributions import Distribution
from simscope.recipe.masks import Rows
from simscope.recipe.zernike_names import fringe_to_osa, noll_to_osa

TO_OSA = {"noll": noll_to_osa, "fringe": fringe_to_osa}


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

    indexing: Literal["osa", "noll", "fringe"] | None = Field(
        None,
        description="convention of the indices given here; they are kept, labelled and written "
        "back as OSA/ANSI",
    )

    @model_validator(mode="before")
    @classmethod
    def _named_by_osa(cls, data: Any) -> Any:
        if not isinstance(data, dict) or data.get("indexing") not in ("osa", *TO_OSA):
            return data
        convert = TO_OSA.get(data["indexing"], int)
        named = {key: value for key, value in data.items() if key != "indexing"}
        given = named.get("coefficients_nm")
        if isinstance(given, dict):
            named["coefficients_nm"] = {
                convert(_whole(index)): value for index, value in given.items()
            }
        if isinstance(named.get("random_modes"), list | tuple):
            named["random_modes"] = tuple(convert(_whole(i)) for i in named["random_modes"])
        return named

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


def _whole(index: Any) -> int:
    """A mode's index as a whole number; ValueError for anything else."""
    try:
        return int(str(index))
    except ValueError:
        raise ValueError(f"mode {index!r} is no whole number: give the index of a mode") from None


class PupilMap(Model):
    """Values over the pupil on a square grid of NA, from a file or inline."""

    path: str | None = Field(None, description="file with a square 2-D array: .npy, .mat or .tif")
    values: Rows | None = Field(
        None, description="the array itself: rows grow with ky, columns with kx"
    )
    na_per_pixel: float = number("NA one pixel of the map spans", unit="NA", gt=0, le=1)
    variable: str | None = Field(None, description="name of the array in a .mat file")

    @model_validator(mode="after")
    def _one_source(self) -> PupilMap:
        if (self.path is None) == (self.values is None):
            raise ValueError("give either path or values, one of the two")
        return self


class WavefrontMap(PupilMap):
    """Wavefront error over the pupil, unwrapped; adds to the Zernike modes."""

    unit: Literal["nm", "rad", "waves"] = Field(
        "nm", description="unit of the values: optical path [nm], or phase [rad] or waves"
    )
    design_wavelength_nm: float | None = number(
        "wavelength at which values in rad or waves hold; that of the optics if absent",
        unit="nm",
        default=None,
        ge=100,
        le=3000,
    )


class AmplitudeMap(PupilMap):
    """Amplitude transmission over the pupil, 0 or more; only its shape matters."""
