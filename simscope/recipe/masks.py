"""What a recipe says of the phase mask in the pupil."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from simscope.recipe.base import Model, number


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
