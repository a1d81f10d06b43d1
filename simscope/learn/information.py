"""Cramér-Rao bounds in torch, from images and slopes, with gradients by whatever shaped them.

The information of independent pixels, as :mod:`simscope.evaluate.information` has it in NumPy, for
the noise of :func:`simscope.camera.noise_model`.
"""

from __future__ import annotations

import torch

from simscope.camera import noise_model
from simscope.recipe import Recipe


class Detection:
    """Noise of a camera as the layer needs it: variance = floor + slope * photons, and efficiency.

    A camera's variance is linear in the light, so two values of
    :func:`simscope.camera.noise_model` hold it all.
    """

    def __init__(self, recipe: Recipe) -> None:
        seconds = recipe.acquisition.exposure_ms * 1e-3
        dark, lit = (
            noise_model(recipe.camera, None, photons, exposure_s=seconds) for photons in (0.0, 1.0)
        )
        self.floor_e2 = float(dark.variance_e2)
        self.slope_e2 = float(lit.variance_e2 - dark.variance_e2)
        self.efficiency = float(lit.mean_e - dark.mean_e)

    def variance_e2(self, photons: torch.Tensor) -> torch.Tensor:
        """Variance of pixels [e^2] that expect ``photons``."""
        return self.floor_e2 + self.slope_e2 * photons


def bounds_nm(
    slopes: torch.Tensor, photons: float, background_photons: float, detection: Detection
) -> torch.Tensor:
    """Cramér-Rao bounds of x, y, z [nm], (n, 3), from images and slopes (n, 4, y, x).

    As :func:`simscope.evaluate.psf_crlb` with its standard parameters: positions, photons and
    background are estimated together.
    """
    image, by_place = slopes[:, :1], photons * slopes[:, 1:]
    effects = torch.cat((by_place, image, torch.ones_like(image)), dim=1).flatten(2).double()
    mean = photons * image.flatten(2) + background_photons
    variance = detection.variance_e2(mean.clamp(min=0.0).double())
    effects = detection.efficiency * effects
    information = (effects / variance) @ effects.transpose(1, 2)
    scale = torch.sqrt(torch.diagonal(information, dim1=1, dim2=2))
    inverse = torch.linalg.inv(information / (scale[:, :, None] * scale[:, None, :]))
    return (torch.sqrt(torch.diagonal(inverse, dim1=1, dim2=2)) / scale)[:, :3]
