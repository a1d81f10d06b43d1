"""What decides the design of a phase mask, what is learned, and where it starts."""

from __future__ import annotations

from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
from pydantic import Field, model_validator

from simscope.keys import Key
from simscope.learn.psf_layer import Phase, PixelPhase, ZernikePhase
from simscope.optics import nm_to_osa
from simscope.optics.masks import modes_phase
from simscope.optics.zernike import osa_to_nm
from simscope.recipe import ArrayMask, Model

Floats = npt.NDArray[np.float64]
BEYOND_EDGE = 1.1
"""Pupil radius to which modes are continued outside the pupil: splines need a pixel or two."""


class DesignPlan(Model):
    """Everything that decides a design, with the recipe."""

    z_nm: tuple[float, float] = Field((0.0, 4000.0), description="heights to serve [nm]")
    heights: int = Field(11, ge=2, le=200, description="heights the mean is taken over")
    photons: float = Field(3500.0, gt=0, description="photons of a molecule at the camera")
    background_photons: float = Field(20.0, gt=0, description="background photons per pixel")
    basis: Literal["zernike", "pixels"] = Field("zernike", description="what is learned")
    order: int = Field(8, ge=2, le=20, description="highest radial order of the modes")
    pixels: int = Field(96, ge=8, le=256, description="pixels of the mask across the pupil")
    window_px: int = Field(41, ge=5, le=201, description="pixels that inform, each way")
    steps: int = Field(80, ge=1, description="looks at the bound from each start, at most")
    starts: int = Field(4, ge=1, le=1000, description="random starts")
    start_rad: float = Field(1.0, gt=0, description="RMS of the random starts [rad]")
    strength_rad: float = Field(0.5, gt=0, description="phase the quadrature has room for [rad]")
    seed: int = Field(0, ge=0, description="decides the starts")

    @model_validator(mode="after")
    def _possible(self) -> DesignPlan:
        if not self.z_nm[0] < self.z_nm[1]:
            raise ValueError(f"z_nm={self.z_nm} is no range: give the lower height first")
        if self.window_px % 2 == 0:
            raise ValueError(f"window_px={self.window_px} has no middle pixel: give an odd number")
        return self

    @property
    def heights_nm(self) -> Floats:
        """Heights of the mean [nm]."""
        return np.linspace(*self.z_nm, self.heights)

    @property
    def modes(self) -> tuple[int, ...]:
        """OSA indices of the modes: from order 2, as piston and tilts say nothing."""
        last = nm_to_osa(self.order, self.order)
        return tuple(range(3, last + 1))


def new_phase(plan: DesignPlan, na: float) -> Phase:
    """A flat phase of the plan's basis."""
    if plan.basis == "zernike":
        return ZernikePhase(plan.modes)
    return PixelPhase(plan.pixels, pixel_pitch_na(plan.pixels, na))


def pixel_pitch_na(pixels: int, na: float) -> float:
    """NA a pixel spans where the array reaches one pixel beyond the pupil's edge."""
    return 2.0 * na / (pixels - 2)


def mask_of(phase: Phase, plan: DesignPlan, na: float) -> ArrayMask:
    """The learned phase as a mask for a recipe."""
    if isinstance(phase, PixelPhase):
        return phase.mask
    pitch = pixel_pitch_na(plan.pixels, na)
    line = (np.arange(plan.pixels) - 0.5 * (plan.pixels - 1)) * pitch / na
    x, y = np.meshgrid(line, line)
    inward = np.minimum(1.0, BEYOND_EDGE / np.hypot(x, y).clip(min=1e-9))
    modes = tuple(osa_to_nm(mode) for mode in phase.modes)
    coefficients = phase.coefficients_rad.detach().cpu().double().numpy()
    return ArrayMask(
        values=modes_phase(modes, coefficients, x * inward, y * inward), na_per_pixel=pitch
    )


def random_start(plan: DesignPlan, phase: Phase, number: int) -> torch.Tensor:
    """Coefficients or phases [rad] of start ``number``: modes of equal size, RMS ``start_rad``.

    The pixels' phases are those of such modes.
    """
    key = Key(plan.seed).child("design/start")
    normal = key.normal(np.arange(len(plan.modes)), sample=number)
    coefficients = torch.from_numpy(normal * plan.start_rad / np.sqrt((normal**2).sum()))
    if isinstance(phase, ZernikePhase):
        return coefficients
    modes = ZernikePhase(plan.modes)
    modes.coefficients_rad.data = coefficients
    na = 0.5 * phase.na_per_pixel * (plan.pixels - 2)
    return torch.from_numpy(np.array(mask_of(modes, plan, na).values))
