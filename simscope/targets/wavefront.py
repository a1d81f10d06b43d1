"""Optical path over the pupil."""

from __future__ import annotations

from functools import lru_cache
from typing import Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field

from simscope.errors import DatasetError
from simscope.optics.field import mode_values
from simscope.optics.interfaces import objective_of
from simscope.optics.maps import wavefront_map_nm
from simscope.recipe.draws import COEFFICIENT
from simscope.targets.base import Axis, Floats, Target, resolved


class WavefrontTarget(Target):
    """Optical path over the pupil [nm], of every sample: Zernike modes, fixed and drawn, and map.

    Positive where light is delayed, 0 beyond the pupil's edge. Masks, defocus, media and what
    depends on the place in the frame are left out.
    """

    kind: Literal["wavefront"] = "wavefront"
    per_frame: ClassVar[bool] = False
    unit: ClassVar[str] = "nm"
    pupil_px: int = Field(64, ge=2, le=2048, description="pixels across the pupil's diameter")

    @property
    def description(self) -> str:
        """What the values are, in one line."""
        return "optical path of Zernike modes and wavefront map over the pupil, 0 beyond its edge"

    def axes(self, source: Any) -> tuple[Axis, ...]:
        """Rows along ky and columns along kx."""
        optics = source.recipe.optics
        if optics.wavefront is None and optics.wavefront_map is None:
            raise DatasetError(
                f"recipe {source.recipe.name!r} has no wavefront to learn: give optics.wavefront "
                "modes, or leave out target wavefront"
            )
        middles = _pupil_middles(self.pupil_px)
        rows, columns = (
            Axis(f"k{name}", middles, "1", f"middles along k{name}, the pupil's edge at 1")
            for name in "yx"
        )
        return rows, columns

    def _made(self, source: Any, chunk: Any) -> npt.NDArray[np.float32]:
        optics, count = resolved(source).optics, len(chunk.images)
        out = np.zeros((count, self.pupil_px, self.pupil_px))
        if optics.wavefront_map is not None:
            objective = objective_of(optics)
            kx, ky = (objective.na * k for k in _pupil_points(self.pupil_px))
            out += wavefront_map_nm(optics.wavefront_map, objective, kx, ky)
        if optics.wavefront is not None:
            for mode in optics.wavefront.modes:
                fixed = optics.wavefront.coefficients_nm.get(mode, 0.0)
                coefficient = chunk.parameters.get(f"{COEFFICIENT}{mode}", fixed)
                each = np.broadcast_to(np.asarray(coefficient, np.float64), count)
                out += each[:, None, None] * _mode(mode, self.pupil_px)
        kx, ky = _pupil_points(self.pupil_px)
        return (out * (kx * kx + ky * ky <= 1.0)).astype(np.float32)


def _pupil_middles(pixels: int) -> Floats:
    """Middles of pixels across the pupil, its edge at -1 and 1."""
    return (2.0 * np.arange(pixels, dtype=np.float64) + 1.0) / pixels - 1.0


def _pupil_points(pixels: int) -> tuple[Floats, Floats]:
    """kx and ky at the middles of the pixels, the pupil's edge at 1, both (ky, kx)."""
    ky, kx = np.meshgrid(*2 * [_pupil_middles(pixels)], indexing="ij")
    return kx, ky


@lru_cache(maxsize=256)
def _mode(osa: int, pixels: int) -> Floats:
    """Zernike mode of unit RMS at the pixels of the pupil, (ky, kx)."""
    return mode_values(osa, *_pupil_points(pixels), 1.0)
