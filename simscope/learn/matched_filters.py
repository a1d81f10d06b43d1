"""Filters that match a recipe's own PSFs, as the first layer of a network.

Frames are correlated with a few fixed images whose sums are nearly all PSFs of the recipe: the
leading singular vectors of the images at all heights. Any matched filter (Turin 1960, *IRE Trans.
Inf. Theory* 6:311) is a weighted sum of these.
"""

from __future__ import annotations

import warnings
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import nn
from torch.nn import functional

from simscope.errors import SimscopeWarning, TrainingError
from simscope.optics.psf import psf
from simscope.recipe import Distribution, Recipe
from simscope.sample.structures import height_range_nm

BLOCK_PX = 8
"""Side of the blocks of pixels that the filters take as channels; a tile's stride."""


class Kept(NamedTuple):
    """A kernel, and the images it was made of, as they were then."""

    images: torch.Tensor
    state: tuple[int, torch.dtype]
    kernel: torch.Tensor


class MatchedFilters(nn.Module):
    """Frames (n, 1, y, x) to their correlation with fixed images, (n, filters, y / s, x / s).

    Correlations stand at the middles of blocks of ``stride`` pixels. For speed the frame is cut
    into blocks of 8 x 8 pixels, which become channels of an ordinary convolution.
    """

    images: torch.Tensor

    def __init__(self, filters: int, side_px: int, stride: int) -> None:
        super().__init__()
        self.stride, self.side_px = stride, side_px + (side_px - stride) % 2
        self.register_buffer("images", torch.zeros(filters, self.side_px, self.side_px))
        self._kept: Kept | None = None
        last = (stride + self.side_px - 2) // 2 + BLOCK_PX - stride
        self.reach = last // BLOCK_PX

    def forward(self, frames: torch.Tensor) -> torch.Tensor:
        """Correlations as in the class's first line; sides of frames are multiples of 8."""
        blocks = functional.pixel_unshuffle(frames, BLOCK_PX)
        correlations = functional.conv2d(blocks, self._kept_kernel(), padding=self.reach)
        return functional.pixel_shuffle(correlations, BLOCK_PX // self.stride)

    def _kept_kernel(self) -> torch.Tensor:
        """The kernel in the precision and layout that suit the convolution, made once."""
        images, kind = self.images, self.images.device.type
        low = torch.is_autocast_enabled(kind)
        dtype = torch.get_autocast_dtype(kind) if low else images.dtype
        if torch.compiler.is_compiling() or torch.jit.is_tracing() or images.is_inference():
            return self._kernel()
        kept = self._kept
        if kept is None or kept.images is not images or kept.state != (images._version, dtype):
            state = images._version, dtype
            with torch.inference_mode(False), torch.no_grad():
                kernel = self._kernel().to(dtype, memory_format=torch.channels_last)
            self._kept = kept = Kept(images, state, kernel)
        return kept.kernel

    def _kernel(self) -> torch.Tensor:
        """The images, once for every place in a block, as weights over blocks of pixels."""
        width, places = 2 * self.reach + 1, range(0, BLOCK_PX, self.stride)
        pixels = width * BLOCK_PX
        kernel = self.images.new_zeros(len(self.images), len(places), len(places), pixels, pixels)
        start = self.reach * BLOCK_PX + (self.stride - self.side_px) // 2
        for row, y in enumerate(places):
            for column, x in enumerate(places):
                rows = slice(start + y, start + y + self.side_px)
                columns = slice(start + x, start + x + self.side_px)
                kernel[:, row, column, rows, columns] = self.images
        return functional.pixel_unshuffle(kernel.flatten(0, 2)[:, None], BLOCK_PX)


def in_whole_blocks(images: torch.Tensor) -> torch.Tensor:
    """Images cut to sides that are multiples of a block."""
    height, width = (size - size % BLOCK_PX for size in images.shape[-2:])
    return images[..., :height, :width]


def psf_basis(
    recipe: Recipe, images: int, side_px: int, block_px: float = 0.0
) -> npt.NDArray[np.float32]:
    """Orthonormal images (images, y, x) whose sums are nearly all of a recipe's PSFs.

    Leading singular vectors of the PSFs at 41 heights and, within a block of ``block_px`` pixels,
    3 x 3 places, without their means, which would answer to background.

    Raises
    ------
    TrainingError
        If the optics or the focus are drawn per sample, so that there is no one PSF.
    """
    focus = recipe.acquisition.focus_nm
    drawn = [path for path in recipe.drawn("sample") if path.startswith("optics.")]
    if drawn or isinstance(focus, Distribution):
        raise TrainingError(
            f"{', '.join(drawn) or 'acquisition.focus_nm'} drawn per sample, so there is no one "
            "PSF to match: set matched_filters=0 in the network's config"
        )
    heights = np.unique(np.linspace(*height_range_nm(recipe), 41))
    thirds = [step * block_px * recipe.pixel_nm / 3 for step in (-1, 0, 1)] if block_px else [0.0]
    shape, pixel_nm = (side_px, side_px), recipe.pixel_nm
    with warnings.catch_warnings(action="ignore", category=SimscopeWarning):  # light outside
        spots = np.concatenate(
            [
                psf(recipe.optics, heights, focus, shape, pixel_nm, x_nm=x, y_nm=y)  # type: ignore[arg-type]
                for y in thirds
                for x in thirds
            ]
        )
    spots -= spots.mean(axis=(1, 2), keepdims=True)
    spots /= np.linalg.norm(spots, axis=(1, 2), keepdims=True)
    _, _, basis = np.linalg.svd(spots.reshape(len(spots), -1), full_matrices=False)
    if len(basis) < images:
        raise TrainingError(
            f"matched_filters={images} exceeds the {len(basis)} images they are made from: lower it"
        )
    return basis[:images].reshape(-1, side_px, side_px).astype(np.float32)
