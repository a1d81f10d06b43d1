"""What a recipe says of the acquisition: frame, exposure, stage, and how images are rendered."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import numpy as np
import numpy.typing as npt
from pydantic import Discriminator, Field, Tag, field_validator, model_validator

from simscope.recipe.base import Model, PerSample, number


class FocusStack(Model):
    """Evenly spaced objective positions; the image gets a z axis."""

    start_nm: float = number("first objective position", unit="nm", ge=-1e6, le=1e6)
    stop_nm: float = number("last objective position", unit="nm", ge=-1e6, le=1e6)
    planes: int = Field(ge=2, le=10000, description="number of planes")

    @property
    def positions_nm(self) -> npt.NDArray[np.float64]:
        """Objective positions, shape ``(planes,)`` [nm]."""
        return np.linspace(self.start_nm, self.stop_nm, self.planes)


def _focus_is(value: Any) -> str:
    """Which of the two a focus is written as."""
    keys = value if isinstance(value, dict) else ()
    stack = isinstance(value, FocusStack) or any(key in FocusStack.model_fields for key in keys)
    return "FocusStack" if stack else "number"


class Acquisition(Model):
    """One sample: a frame, a movie of frames, or a focus stack."""

    shape: tuple[int, int] = Field(description="camera pixels (y, x)")
    frames: int = Field(1, ge=1, le=2**31 - 1, description="frames of one sample")
    exposure_ms: float = number("exposure of a frame", unit="ms", default=10.0, gt=0, le=1e7)
    interval_ms: float | None = number(
        "time from frame to frame; the exposure if absent", unit="ms", default=None, gt=0, le=1e7
    )
    focus_nm: Annotated[
        Annotated[PerSample, Tag("number")] | Annotated[FocusStack, Tag("FocusStack")],
        Discriminator(_focus_is),
    ] = Field(
        0.0,
        description="objective displacement towards the sample, 0 where the paraxial focus lies "
        "on the coverslip; a number, a distribution per sample, or a stack [nm]",
    )

    @field_validator("shape")
    @classmethod
    def _shape_sensible(cls, shape: tuple[int, int]) -> tuple[int, int]:
        if min(shape) < 1 or max(shape) > 16384:
            raise ValueError(f"shape={list(shape)} lies outside 1 to 16384 pixels: change it")
        return shape

    @model_validator(mode="after")
    def _times_fit(self) -> Acquisition:
        if self.interval_ms is not None and self.interval_ms < self.exposure_ms:
            raise ValueError(
                f"interval_ms={self.interval_ms:g} is shorter than exposure_ms="
                f"{self.exposure_ms:g}: lengthen the interval"
            )
        if isinstance(self.focus_nm, FocusStack) and self.frames > 1:
            raise ValueError(
                f"frames={self.frames} with a focus stack: a stack is one frame a plane; "
                "set frames: 1"
            )
        return self


class Rendering(Model):
    """How emitters become pixels: window, accuracy, and what may be left out."""

    window_px: int | Literal["auto"] = Field(
        "auto", description="side of the window an emitter is rendered in; auto holds the energy"
    )
    max_window_px: int = Field(101, description="largest window auto may choose")
    accuracy: float = number(
        "worst table error allowed, as a share of the in-focus peak",
        unit="1",
        default=1e-3,
        ge=1e-6,
        le=0.1,
    )
    accept_energy_loss: bool = Field(
        False, description="render even if more than 20 % of the light falls outside the window"
    )

    @field_validator("window_px", "max_window_px")
    @classmethod
    def _odd(cls, window: int | str) -> int | str:
        if isinstance(window, int) and (window % 2 == 0 or not 7 <= window <= 1001):
            raise ValueError(f"{window} pixels is no window: give an odd number from 7 to 1001")
        return window
