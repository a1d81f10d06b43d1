"""What a recipe says of the phase mask in the pupil, and of the modulator that shows it.

Each mask names its paper. ``z_range_nm`` means the same in all of them: the axial range in the
sample, along z, over which the mask is made to tell heights apart.
"""

from __future__ import annotations

import warnings
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from simscope.errors import SimscopeWarning
from simscope.recipe.base import Model, number

MOST_VALUES_ACROSS = 256
"""Rows of an array that may stand in a recipe; larger ones belong into files."""


SHORTEST_RANGE_NM = 100.0
"""Axial range below which a mask changes hardly anything, and its unit may be mistaken."""


class MaskModel(Model):
    """What every mask has: the wavelength at which its phase is in radians."""

    design_wavelength_nm: float | None = number(
        "wavelength at which the phase is in radians, scaling as 1/wavelength elsewhere; that of "
        "the optics if absent",
        unit="nm",
        default=None,
        ge=100,
        le=3000,
    )

    @model_validator(mode="after")
    def _range_in_nm(self) -> MaskModel:
        range_nm = getattr(self, "z_range_nm", None)
        if range_nm is not None and range_nm < SHORTEST_RANGE_NM:
            warnings.warn(
                f"z_range_nm={range_nm:g} of a mask is in nm and too short to change the image "
                f"visibly: give {1000.0 * range_nm:g} if um were meant",
                SimscopeWarning,
                stacklevel=2,
            )
        return self


class TetrapodMask(MaskModel):
    """Two spots that part along one axis above focus and along the other below, over a long range.

    Shechtman, Weiss, Backer, Sahl and Moerner, Nano Lett. 15, 4194 (2015).
    """

    kind: Literal["tetrapod"] = "tetrapod"
    z_range_nm: float = number(
        "axial range the mask is made for", unit="nm", default=4000.0, gt=0, le=20000
    )


class SaddlePointMask(MaskModel):
    """First and second astigmatism, optimised together for the information on x, y and z.

    Shechtman, Sahl, Backer and Moerner, Phys. Rev. Lett. 113, 133902 (2014).
    """

    kind: Literal["saddle_point"] = "saddle_point"
    z_range_nm: float = number(
        "axial range the mask is made for", unit="nm", default=3000.0, gt=0, le=20000
    )


class DoubleHelixMask(MaskModel):
    """Two lobes that turn about their middle with height, half a turn over the range.

    Idea: Pavani and Piestun, Opt. Express 16, 3484 (2008); Pavani et al., Proc. Natl. Acad. Sci.
    106, 2995 (2009). Design by zones: Prasad, Opt. Lett. 38, 585 (2013), with the odd charges of
    Berlich and Stallinga, Opt. Express 26, 4873 (2018), for two lobes.
    """

    kind: Literal["double_helix"] = "double_helix"
    z_range_nm: float = number(
        "axial range over which the lobes make half a turn",
        unit="nm",
        default=2000.0,
        gt=0,
        le=20000,
    )


class VortexMask(MaskModel):
    """Spiral phase of a whole number of turns: a dark centre.

    Orientation microscopy: Hulleman et al., Nat. Commun. 12, 5934 (2021).
    """

    kind: Literal["vortex"] = "vortex"
    charge: int = Field(1, ge=-10, le=10, description="turns of 2 pi around the pupil")


class CubicMask(MaskModel):
    """Phase alpha (x^3 + y^3) over the pupil: an image that hardly changes with height.

    Dowski and Cathey, Appl. Opt. 34, 1859 (1995).
    """

    kind: Literal["cubic"] = "cubic"
    alpha_rad: float | None = number(
        "phase on the axes at the pupil edge; made for z_range_nm if absent",
        unit="rad",
        default=None,
        ge=-1000,
        le=1000,
    )
    z_range_nm: float | None = number(
        "axial range over which frequencies up to half the cutoff keep their contrast; 4000 if "
        "alpha_rad is absent too",
        unit="nm",
        default=None,
        gt=0,
        le=20000,
    )

    @model_validator(mode="after")
    def _one_of_two(self) -> CubicMask:
        if self.alpha_rad is not None and self.z_range_nm is not None:
            raise ValueError("alpha_rad and z_range_nm both set the strength: give one of the two")
        return self


class AstigmatismMask(MaskModel):
    """Cylindrical lens: an ellipse that lies along one axis above focus, along the other below.

    Huang, Wang, Bates and Zhuang, Science 319, 810 (2008).
    """

    kind: Literal["astigmatism"] = "astigmatism"
    z_range_nm: float = number(
        "axial distance of the two line foci, the range's ends",
        unit="nm",
        default=800.0,
        gt=0,
        le=20000,
    )
    angle_deg: float = number(
        "direction, from x towards y, of the line that molecules above focus are drawn out to",
        unit="deg",
        default=0.0,
        ge=-180,
        le=180,
    )


class DefocusMask(MaskModel):
    """Shift of the focal plane, exact at high NA: the same as a travel of the objective.

    Botcherby, Juskaitis, Booth and Wilson, Opt. Lett. 32, 2007 (2007).
    """

    kind: Literal["defocus"] = "defocus"
    defocus_nm: float = number(
        "travel of the objective towards the sample that the phase stands for",
        unit="nm",
        default=1000.0,
        ge=-20000,
        le=20000,
    )


class FileMask(MaskModel):
    """Phase mask from a .npy, .mat or .tif file: radians on a square grid of NA."""

    kind: Literal["file"] = "file"
    path: str = Field(description="file with a square 2-D array of phase [rad]")
    na_per_pixel: float = number("NA one mask pixel spans", unit="NA", gt=0, le=1)
    variable: str | None = Field(None, description="name of the array in a .mat file")


def parse_rows(values: Any) -> Any:
    """Rows of plain numbers from nested lists or an array; raises ValueError for anything else."""
    kind = getattr(getattr(values, "dtype", None), "kind", "f")
    if kind == "c":
        raise ValueError("values are complex: give the phase, np.angle(...), or the modulus, abs()")
    if kind not in "fiu":
        raise ValueError(f"values hold {values.dtype}: give plain numbers")
    rows = values.tolist() if hasattr(values, "tolist") else values
    if isinstance(rows, list | tuple):
        rows = [row.tolist() if hasattr(row, "tolist") else row for row in rows]
    square = isinstance(rows, list | tuple) and all(
        isinstance(row, list | tuple) and len(row) == len(rows) for row in rows
    )
    if not square or len(rows) == 0:
        raise ValueError("values are no square of numbers: give as many rows as columns")
    if len(rows) > MOST_VALUES_ACROSS:
        raise ValueError(
            f"values have {len(rows)} rows, a recipe holds up to {MOST_VALUES_ACROSS}: save the "
            "array as .npy and use kind file"
        )
    return tuple(tuple(row) for row in rows)


Finite = Annotated[float, Field(allow_inf_nan=False)]
Rows = Annotated[tuple[tuple[Finite, ...], ...], BeforeValidator(parse_rows)]


class ArrayMask(MaskModel):
    """Phase mask whose values stand in the recipe: radians on a square grid of NA."""

    kind: Literal["array"] = "array"
    values: Rows = Field(description="phase [rad], rows grow with ky, columns with kx")
    na_per_pixel: float = number("NA one mask pixel spans", unit="NA", gt=0, le=1)


Mask = Annotated[
    TetrapodMask
    | SaddlePointMask
    | DoubleHelixMask
    | VortexMask
    | CubicMask
    | AstigmatismMask
    | DefocusMask
    | FileMask
    | ArrayMask,
    Field(discriminator="kind"),
]

MASKS: dict[str, type[MaskModel]] = {
    "astigmatism": AstigmatismMask,
    "saddle_point": SaddlePointMask,
    "tetrapod": TetrapodMask,
    "double_helix": DoubleHelixMask,
    "vortex": VortexMask,
    "cubic": CubicMask,
    "defocus": DefocusMask,
    "file": FileMask,
    "array": ArrayMask,
}
"""Every mask by its kind."""


class SpatialLightModulator(Model):
    """Liquid-crystal modulator that shows the mask: pixels, grey levels, light it leaves alone."""

    na_per_pixel: float | None = number(
        "NA one modulator pixel spans", unit="NA", default=None, gt=0, le=1
    )
    pixels_across: int | None = Field(
        None, ge=2, le=4096, description="modulator pixels across the pupil, instead of its pitch"
    )
    levels: int | None = Field(
        None, ge=2, le=65536, description="phase levels over one turn; continuous if absent"
    )
    wrapped: bool = Field(
        True, description="whether the phase is shown modulo one turn at the design wavelength"
    )
    unmodulated: float = number(
        "share of the light that keeps its phase (zero order), adding coherently",
        unit="1",
        default=0.0,
        ge=0,
        lt=1,
    )

    @model_validator(mode="after")
    def _one_pitch(self) -> SpatialLightModulator:
        if (self.na_per_pixel is None) == (self.pixels_across is None):
            raise ValueError("give either na_per_pixel or pixels_across, one of the two")
        return self
