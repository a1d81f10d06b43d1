"""Camera counts as a network sees them: expected photons, shifted and scaled to order one.

A network is not told what a recipe draws per sample, so drawn camera settings enter by their mean,
in training and in use alike.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from pydantic import Field

from simscope.camera import adu_to_photons
from simscope.errors import TrainingError
from simscope.recipe import Distribution, Model, Recipe


class Scales(Model):
    """What brings images to order one; part of every network's config."""

    background_photons: float = Field(0.0, description="level taken off images [photons/px]")
    spread_photons: float = Field(1.0, gt=0, description="images are divided by this [photons/px]")


def photons_from_counts(images: npt.ArrayLike, recipe: Recipe) -> npt.NDArray[np.float32]:
    """Photons [photons/px] behind counts [ADU], float32 of the same shape."""
    return adu_to_photons(images, recipe.camera, parameters=mean_settings(recipe))


def mean_settings(recipe: Recipe) -> dict[str, float]:
    """Means of the camera's settings that the recipe draws, by name."""
    camera = recipe.camera
    fields = {name: getattr(camera, name) for name in type(camera).model_fields}
    return {name: v.mean() for name, v in fields.items() if isinstance(v, Distribution)}


def scales_of(photons: npt.NDArray[np.float32]) -> dict[str, float]:
    """Fields of :class:`Scales` for images [photons/px]: their median and standard deviation.

    Raises
    ------
    TrainingError
        If the images are all alike.
    """
    level, spread = float(np.median(photons)), float(np.std(photons))
    if not spread > 0:
        raise TrainingError(
            f"images are flat at {level:g} photons/px: nothing to learn from; check the recipe"
        )
    return {"background_photons": level, "spread_photons": spread}


def photons_and_roots(photons: npt.NDArray[np.float32], scales: Scales) -> torch.Tensor:
    """Network input (n, 2 planes, y, x), channels last, from photons (n, planes, y, x).

    First the scaled photons of all planes, then their roots, whose noise is even.
    """
    inputs = scaled_and_roots(torch.from_numpy(photons), scales)
    return inputs.contiguous(memory_format=torch.channels_last)


def scaled_and_roots(photons: torch.Tensor, scales: Scales) -> torch.Tensor:
    """Scaled photons and their roots (n, 2 planes, y, x), from photons (n, planes, y, x)."""
    root = torch.sqrt(photons.clamp(min=0) / max(scales.background_photons, 1.0)) - 1
    return torch.cat([scaled(photons, scales), root], dim=1)


def scaled(photons: torch.Tensor, scales: Scales) -> torch.Tensor:
    """Photons shifted and scaled to order one, of the same shape."""
    return (photons - scales.background_photons) / scales.spread_photons
