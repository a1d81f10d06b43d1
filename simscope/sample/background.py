"""Light behind the molecules: even, or varying smoothly over the frame."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from simscope.device import CPU, Device
from simscope.elementary import normal_quantile
from simscope.keys import Key
from simscope.recipe import Recipe, SmoothBackground
from simscope.recipe.draws import per_sample

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


def background_photons(
    recipe: Recipe, key: Key, indices: Ints, drawn: dict[str, Floats], device: Device = CPU
) -> Any:
    """Expected background photons, float32 ``(samples, y, x)`` or ``(samples, 1, 1)`` if even.

    ``indices`` and ``drawn`` lie on the host, the result on the device.
    """
    level = per_sample(recipe, drawn, "background.photons_per_pixel", len(indices))
    background = recipe.background
    if not isinstance(background, SmoothBackground):
        return device.put(level.astype(np.float32)[:, None, None])
    contrast = per_sample(recipe, drawn, "background.contrast", len(indices))
    step = recipe.pixel_nm / (background.scale_um * 1e3)
    along_y, along_x = (spline_weights(pixels, step) for pixels in recipe.acquisition.shape)
    nodes = _normal_nodes(key, indices, along_y[2], along_x[2], device)
    out = device.xp.empty((len(indices), *recipe.acquisition.shape), np.float32)
    per_frame = (device.put(level), device.put(contrast), nodes)
    weights = (device.put(part) for axis in (along_y, along_x) for part in axis[:2])
    device.run("smooth", "smooth_light", out.size, *per_frame, *weights, out)
    return out


def _normal_nodes(key: Key, indices: Ints, rows: int, columns: int, device: Device) -> Any:
    """Normal variates at the nodes of every sample's grid, ``(samples, rows, columns)``."""
    uniform = key.child("background/field").uniform(
        device.xp.arange(rows * columns).reshape(rows, columns),
        sample=device.put(indices)[:, None, None],
        device=device,
    )
    return normal_quantile(uniform, device)


def spline_weights(pixels: int, step: float) -> tuple[Floats, Ints, int]:
    """Weights ``(pixels, 4)`` of the cubic B-splines at pixel centres, first nodes, all nodes.

    Squares of a pixel's weights sum to 1: so does the variance of what they blend.
    """
    position = (np.arange(pixels) + 0.5) * step + 1.0
    first = np.floor(position) - 1.0
    distance = np.abs(position[:, None] - (first[:, None] + np.arange(4)))
    inner = 2 / 3 - distance * distance * (1.0 - distance / 2)
    outer = np.maximum(2.0 - distance, 0.0)
    weights = np.where(distance < 1, inner, outer * outer * outer / 6)
    weights /= np.sqrt((weights * weights).sum(axis=1, keepdims=True))
    return weights, first.astype(np.int64), math.floor(position[-1]) + 3
