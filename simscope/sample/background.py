"""Light behind the molecules: even, or varying smoothly over the frame."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
from scipy import special

from simscope.blas import single_blas_thread
from simscope.keys import Key
from simscope.recipe import Recipe, SmoothBackground
from simscope.recipe.draws import per_sample

Floats = npt.NDArray[np.float64]


def background_photons(
    recipe: Recipe, key: Key, indices: npt.NDArray[np.int64], drawn: dict[str, Floats]
) -> npt.NDArray[np.float32]:
    """Expected background photons, float32 ``(samples, y, x)`` or ``(samples, 1, 1)`` if even."""
    path = "background.photons_per_pixel"
    level = per_sample(recipe, drawn, path, len(indices))[:, None, None]
    background = recipe.background
    if not isinstance(background, SmoothBackground):
        return level.astype(np.float32)
    contrast = per_sample(recipe, drawn, "background.contrast", len(indices))[:, None, None]
    field = _smooth_field(recipe, key, indices, background.scale_um)
    return (level * np.exp(contrast * field - 0.5 * contrast**2)).astype(np.float32)


def _smooth_field(
    recipe: Recipe, key: Key, indices: npt.NDArray[np.int64], scale_um: float
) -> Floats:
    """Gaussian random field of zero mean and unit variance everywhere, ``(samples, y, x)``.

    Normal variates on a grid of spacing ``scale_um``, spread by cubic B-splines; each pixel is
    divided by the root of the sum of its squared weights.
    """
    across = [
        _spline_weights(pixels, recipe.pixel_nm / (scale_um * 1e3))
        for pixels in recipe.acquisition.shape
    ]
    rows, columns = (weights.shape[1] for weights in across)
    uniform = key.child("background/field").uniform(
        np.arange(rows)[:, None] * columns + np.arange(columns), sample=indices[:, None, None]
    )
    unit = [weights / np.linalg.norm(weights, axis=1, keepdims=True) for weights in across]
    normal = special.ndtri(uniform)
    with single_blas_thread():  # one sample at a time: the same bits in any batch
        return np.stack([unit[0] @ nodes @ unit[1].T for nodes in normal])


def _spline_weights(pixels: int, step: float) -> Floats:
    """Cubic B-spline weights of grid nodes at pixel centres, ``(pixels, nodes)``."""
    position = (np.arange(pixels) + 0.5) * step + 1.0
    distance = np.abs(position[:, None] - np.arange(math.ceil(position[-1]) + 2))
    inner = 2 / 3 - distance**2 + distance**3 / 2
    outer = (2 - np.minimum(distance, 2)) ** 3 / 6
    return np.where(distance < 1, inner, outer)
