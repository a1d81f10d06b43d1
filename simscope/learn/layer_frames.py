"""Whole frames through the PSF layer: a recipe's molecules, their images added up, camera noise.

Noise is a normal variate times the standard deviation of Poisson and read noise, so that gradients
pass through both (reparametrisation, Kingma and Welling 2014, ICLR); it is close to the counts' own
law from some ten photons a pixel.
"""

from __future__ import annotations

from typing import Any, cast

import numpy as np
import numpy.typing as npt
import torch
from torch.utils.checkpoint import checkpoint

from simscope.acquire import Batch, Simulator
from simscope.errors import TrainingError
from simscope.keys import Key
from simscope.learn.information import Detection
from simscope.learn.psf_layer import PsfLayer
from simscope.learn.stream import training_seed
from simscope.recipe import Recipe, UniformBackground

MOLECULES_AT_ONCE = 64
"""Molecules whose fields are kept for gradients: some 10 MB each."""
LEVEL = "background.photons_per_pixel"


class Frames:
    """Frames of a recipe's molecules seen through a layer's mask, with gradients by it.

    Raises
    ------
    TrainingError
        If the recipe's background differs between pixels or it takes movies.
    """

    def __init__(self, recipe: Recipe, layer: PsfLayer, focus_nm: float, seed: int) -> None:
        if not isinstance(recipe.background, UniformBackground) or recipe.acquisition.frames > 1:
            raise TrainingError(
                f"{recipe.name!r} has movies or a background that differs between pixels: set "
                "acquisition.frames to 1 and background.kind to uniform"
            )
        self.layer, self.focus_nm, self.recipe = layer, focus_nm, recipe
        self.detection, self.key = Detection(recipe), Key(seed).child("design/noise")
        # spots take the place of the PSF: only where molecules are and how bright is used
        spots = recipe.replace_all({"optics.mask": None, "optics.model": "gaussian"})
        self.source = Simulator(spots, training_seed(seed))

    def truth(self, start: int, count: int) -> Batch:
        """Molecules of samples ``start`` to ``start + count``; the images are not to be used."""
        return self.source.batch(start, start + count)

    def photons(self, batch: Batch) -> torch.Tensor:
        """Expected photons per pixel, (frames, y, x)."""
        shape = batch.images.shape
        common: Any = self.recipe.background.photons_per_pixel
        level = np.broadcast_to(batch.parameters.get(LEVEL, common), shape[:1])
        background = torch.from_numpy(level.astype(np.float32))[:, None, None]
        frame = np.repeat(np.arange(shape[0]), np.diff(batch.emitter_offsets))
        seen, pixel_nm = batch.emitters, self.recipe.pixel_nm
        column, row = (np.floor(seen[n] / pixel_nm).astype(np.int64) for n in ("x_nm", "y_nm"))
        x, y = (
            seen[name].astype(np.float64) - (place + 0.5) * pixel_nm
            for name, place in (("x_nm", column), ("y_nm", row))
        )
        images = self._images(seen["z_nm"].astype(np.float64), x, y)
        light = torch.from_numpy(seen["photons"].astype(np.float32))[:, None, None] * images
        return add_patches(light, frame, row, column, shape) + background

    def _images(self, *places: npt.NDArray[np.float64]) -> torch.Tensor:
        """Images (n, y, x) of molecules at z, x, y; a crowd's are computed again for gradients."""
        z, x, y = (torch.from_numpy(place).split(MOLECULES_AT_ONCE) for place in places)
        if len(z) == 1:
            return cast(torch.Tensor, self.layer(z[0], self.focus_nm, x[0], y[0]).float())
        parts = [
            checkpoint(self.layer, z_nm, self.focus_nm, x_nm, y_nm, use_reentrant=False)
            for z_nm, x_nm, y_nm in zip(z, x, y, strict=True)
        ]
        return torch.cat(parts).float()

    def noisy(self, photons: torch.Tensor, step: int) -> torch.Tensor:
        """Photons as a camera with the recipe's noise would tell them, (frames, y, x)."""
        spread = torch.sqrt(self.detection.variance_e2(photons.clamp(min=0.0)))
        drawn = self.key.normal(np.arange(photons.numel()), step=step).astype(np.float32)
        noise = torch.from_numpy(drawn).reshape(photons.shape)
        return photons + spread * noise / self.detection.efficiency


def add_patches(
    patches: torch.Tensor,
    frame: npt.NDArray[np.int64],
    row: npt.NDArray[np.int64],
    column: npt.NDArray[np.int64],
    shape: tuple[int, ...],
) -> torch.Tensor:
    """Frames of ``shape`` with patches (n, side, side) added, their middles at row and column."""
    frames, height, width = shape
    side = patches.shape[-1]
    half = side // 2
    y, x = (
        torch.from_numpy(middle)[:, None] - half + torch.arange(side) for middle in (row, column)
    )
    inside = ((y >= 0) & (y < height))[:, :, None] & ((x >= 0) & (x < width))[:, None, :]
    first = torch.from_numpy(frame)[:, None, None] * height
    place = (first + y[:, :, None]) * width + x[:, None, :]
    flat = torch.zeros(frames * height * width, dtype=patches.dtype)
    return flat.index_add(0, place[inside], patches[inside]).reshape(frames, height, width)
