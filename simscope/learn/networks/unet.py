"""Image restoration: the noiseless image behind a noisy one, by a small U-Net.

Ronneberger, Fischer and Brox 2015, MICCAI, "U-Net", trained on pairs of images as content-aware
restoration does (Weigert et al. 2018, *Nat. Methods* 15:1090). There, pairs are taken twice at the
microscope; here the target is exact: the expected photons in every pixel, before the camera.

The network works on roots of photons, whose shot noise is even (Anscombe 1948, *Biometrika*
35:246), and predicts what to add to the noisy root. Planes of a focus stack are channels restored
together; frames of a movie are restored one by one.
"""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from pydantic import Field
from torch import nn
from torch.nn import functional

from simscope.acquire import Batch
from simscope.errors import TrainingError
from simscope.learn.inputs import Scales, photons_and_roots, photons_from_counts, scales_of
from simscope.learn.task import Task
from simscope.recipe import FocusStack, Recipe


class UNetConfig(Scales):
    """Size of the network and scales of its data."""

    kind: Literal["unet"] = "unet"
    channels: int = Field(
        32, ge=1, description="features at full resolution, twice that a level down"
    )
    levels: int = Field(3, ge=1, le=6, description="halvings of the field")


def convolutions(channels_in: int, channels: int) -> nn.Sequential:
    """Two 3x3 convolutions, each with a rectifier."""
    return nn.Sequential(
        nn.Conv2d(channels_in, channels, 3, padding=1), nn.ReLU(),
        nn.Conv2d(channels, channels, 3, padding=1), nn.ReLU(),
    )  # fmt: skip


class UNet(nn.Module):
    """Images (n, 2 planes, y, x) to corrections of their roots (n, planes, y, x), any size."""

    def __init__(self, planes: int, channels: int, levels: int) -> None:
        super().__init__()
        widths = [channels * 2**level for level in range(levels + 1)]
        self.stem = convolutions(2 * planes, channels)
        self.down = nn.ModuleList(convolutions(a, b) for a, b in pairwise(widths))
        self.up = nn.ModuleList(
            convolutions(a + b, b) for a, b in zip(widths[:0:-1], widths[-2::-1], strict=True)
        )
        self.head = nn.Conv2d(channels, planes, 1)
        for values in self.head.parameters():
            nn.init.zeros_(values)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Corrections as in the class's first line; edges are repeated to a fitting size."""
        height, width = images.shape[-2:]
        fit = 2 ** len(self.down)
        padded = functional.pad(images, (0, -width % fit, 0, -height % fit), mode="replicate")
        features = [self.stem(padded)]
        for block in self.down:
            features.append(block(functional.max_pool2d(features[-1], 2)))
        merged = features.pop()
        for block in self.up:
            wide = functional.interpolate(merged, scale_factor=2.0, mode="nearest")
            merged = block(torch.cat([wide, features.pop()], dim=1))
        return self.head(merged)[..., :height, :width]


class UNetTask(Task):
    """A restoring U-Net for any recipe.

    Its output is the correction, so an untrained network returns the noisy image.
    """

    kind = "unet"
    config: UNetConfig
    expected = True

    def __init__(self, recipe: Recipe, config: UNetConfig | None = None) -> None:
        super().__init__(recipe, config or UNetConfig())
        focus = recipe.acquisition.focus_nm
        self.planes = focus.planes if isinstance(focus, FocusStack) else 1
        self.network = UNet(self.planes, self.config.channels, self.config.levels)

    def fit_scales(self, batch: Batch) -> None:
        """Take dark level and spread from a batch."""
        photons = photons_from_counts(batch.images, self.recipe)
        self.config = self.config.model_copy(update=scales_of(photons))

    def inputs(self, images: Any) -> torch.Tensor:
        """Scaled photons and their roots (n, 2 planes, y, x)."""
        return photons_and_roots(self.photons(images), self.config)

    def photons(self, images: Any) -> npt.NDArray[np.float32]:
        """Noisy photons [photons/px] behind counts [ADU], (n, planes, y, x)."""
        photons = photons_from_counts(images, self.recipe)
        return photons.reshape(-1, self.planes, *photons.shape[-2:])

    def targets(self, batch: Batch) -> torch.Tensor:
        """What to add to the noisy roots to have the exact ones (n, planes, y, x)."""
        exact = self.exact_photons(batch)
        return self._roots(exact) - self._roots(self.photons(batch.images))

    def exact_photons(self, batch: Batch) -> npt.NDArray[np.float32]:
        """Expected photons [photons/px], (n, planes, y, x).

        Raises
        ------
        TrainingError
            If the batch does not carry them.
        """
        if batch.expected_photons is None:
            raise TrainingError(
                "the noiseless images are not in this file: generate it with expected=True "
                "(--expected), or train from the recipe"
            )
        exact = np.asarray(batch.expected_photons, np.float32)
        return exact.reshape(-1, self.planes, *exact.shape[-2:])

    def _roots(self, photons: npt.NDArray[np.float32]) -> torch.Tensor:
        level = max(self.config.background_photons, 1.0)
        return torch.sqrt(torch.from_numpy(photons).clamp(min=0) / level)

    def loss(self, output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """Mean squared error of the roots, relative to shot noise (1/4 of a photon)."""
        level = max(self.config.background_photons, 1.0)
        return 4.0 * level * functional.mse_loss(output.float(), target)

    def judge(self, output: torch.Tensor, batch: Batch) -> dict[str, float]:
        """Error of restored photons as a share of the noisy image's, and both as PSNR [dB]."""
        exact, noisy = self.exact_photons(batch), self.photons(batch.images)
        before = float(np.mean((noisy - exact) ** 2, dtype=np.float64))
        after = float(np.mean((self.read(output, noisy) - exact) ** 2, dtype=np.float64))
        peak = float(exact.max())
        return {
            "relative_error": math.sqrt(after / before),
            "psnr_db": 10 * math.log10(peak**2 / after),
            "psnr_noisy_db": 10 * math.log10(peak**2 / before),
        }

    def read(self, output: torch.Tensor, noisy: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Restored photons [photons/px] (n, planes, y, x) of noisy ones."""
        level = max(self.config.background_photons, 1.0)
        root = (self._roots(noisy) + output.float()).clamp(min=0)
        return (level * root**2).numpy()
