"""What a recipe says of polarisation: which part of it the camera sees."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from simscope.recipe.base import Model, number


class Analyser(Model):
    """A linear polariser before the camera, or a splitter that sends each half to its channel."""

    angle_deg: float = number(
        "angle of the light that the parallel channel passes, from x towards y",
        unit="deg",
        default=0.0,
        ge=-360,
        le=360,
    )
    channels: Literal["both", "parallel", "crossed"] = Field(
        "both", description="the parallel channel, the one crossed to it, or both in this order"
    )

    @property
    def angles_deg(self) -> tuple[float, ...]:
        """Angle of the light each channel passes [deg]."""
        pair = {"parallel": self.angle_deg, "crossed": self.angle_deg + 90.0}
        return tuple(pair.values()) if self.channels == "both" else (pair[self.channels],)
