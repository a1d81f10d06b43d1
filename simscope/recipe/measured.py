"""What a recipe says of a measured PSF: which file, in which format, and its units."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from simscope.recipe.base import Model


class MeasuredPsf(Model):
    """A PSF from a calibration file instead of a computed one."""

    kind: Literal["measured"] = "measured"
    path: str = Field(description="calibration file")
