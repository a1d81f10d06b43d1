"""Camera counts as a network sees them: expected photons, shifted and scaled to order one.

A network is not told what a recipe draws per sample, so drawn camera settings enter by their mean,
in training and in use alike.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from simscope.camera import adu_to_photons
from simscope.errors import TrainingError
from simscope.recipe import Distribution, Recipe


def photons_from_counts(images: npt.ArrayLike, recipe: Recipe) -> npt.NDArray[np.float32]:
    """Photons [photons/px] behind counts [ADU], float32 of the same shape."""
    camera = recipe.camera
    fields = {name: getattr(camera, name) for name in type(camera).model_fields}
    means = {name: v.mean() for name, v in fields.items() if isinstance(v, Distribution)}
    return adu_to_photons(images, camera, parameters=means)


def background_and_spread(photons: npt.NDArray[np.float32]) -> tuple[float, float]:
    """Typical dark level and spread of images [photons/px]: median and standard deviation.

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
    return level, spread
