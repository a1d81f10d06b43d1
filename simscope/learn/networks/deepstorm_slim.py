"""Deep-STORM: from a camera frame straight to a super-resolved map of emitters, in 2-D.

After Nehme et al. 2018, *Optica* 5:458, "Deep-STORM: super-resolution single-molecule microscopy
by deep learning". There an encoder-decoder works on the frame enlarged 8 times; here, for CPUs,
residual dilated convolutions (Nehme et al. 2020, *Nat. Methods* 17:734) see the frame at camera
resolution and the fine cells come out as channels (Shi et al. 2016, CVPR, "pixel shuffle").

The output is the logarithm of the expected number of emitters per fine cell, ``log m``. It is
trained by the Poisson deviance ``m - t log m`` against the smoothed true map ``t``: a proper
score, so the best prediction is the posterior mean of the truth. The mass around a peak is then
the probability that an emitter is there, and its centroid the best guess of where. Two emitters
closer than about half the width of the PSF appear as one.
"""

from __future__ import annotations

import math
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from pydantic import Field
from torch import nn
from torch.nn import functional

from simscope.acquire import Batch
from simscope.learn.heatmap import MapConfig, MapLocalizer, Peaks
from simscope.learn.inputs import photons_and_roots, photons_from_counts, scales_of
from simscope.learn.layers import DilatedBlock, initialise
from simscope.learn.localizer import LARGEST_LOG, frames_of
from simscope.recipe import Recipe


class DeepStormSlimConfig(MapConfig):
    """Size of the network, scales of its data, and how its map is read."""

    kind: Literal["deepstorm-slim"] = "deepstorm-slim"
    channels: int = Field(32, ge=1, description="features per camera pixel")
    dilations: tuple[int, ...] = Field((1, 2, 4, 4, 2, 1), description="one residual block each")
    photon_weight: float = Field(0.05, ge=0, description="weight of the loss of log photons")
    typical_photons: float = Field(1000.0, gt=0, description="photons of a typical emitter")
    emitters_per_cell: float = Field(1e-3, gt=0, description="mean of the training maps")


class DeepStormSlim(nn.Module):
    """Images (n, 2, y, x) to log emitters per fine cell and log photons per camera pixel.

    The output is ``(n, upsampling**2 + 1, y, x)``: :func:`split_output` takes it apart.
    """

    def __init__(self, config: DeepStormSlimConfig) -> None:
        super().__init__()
        width = config.channels
        self.stem = nn.Conv2d(2, width, 3, padding=1)
        self.blocks = nn.Sequential(*(DilatedBlock(width, d) for d in config.dilations))
        self.head = nn.Conv2d(width, config.upsampling**2 + 1, 3, padding=1)
        initialise(self, blocks=0.5, head=0.1)

    def start_from_mean(self, emitters_per_cell: float) -> None:
        """Begin with the mean density everywhere instead of one emitter a cell."""
        if self.head.bias is not None:
            with torch.no_grad():
                self.head.bias[:-1] = math.log(emitters_per_cell)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Output as in the class's first line."""
        return self.head(self.blocks(functional.relu(self.stem(images))))


def split_output(output: torch.Tensor, upsampling: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Log emitters per fine cell (n, y*up, x*up) and log relative photons (n, y, x), float32."""
    output = output.float()
    return functional.pixel_shuffle(output[:, :-1], upsampling)[:, 0], output[:, -1]


class DeepStormSlimTask(MapLocalizer):
    """Deep-STORM for a recipe of single frames or movies of molecules in one plane.

    Raises
    ------
    TrainingError
        If the recipe is a focus stack or a single bead.
    """

    kind = "deepstorm-slim"
    config: DeepStormSlimConfig
    network: DeepStormSlim

    def __init__(self, recipe: Recipe, config: DeepStormSlimConfig | None = None) -> None:
        super().__init__(recipe, config or DeepStormSlimConfig())
        self.network = DeepStormSlim(self.config)

    def fit_scales(self, batch: Batch) -> None:
        """Take dark level, spread, typical photons and mean density from a batch."""
        self.require_emitters(batch)
        frames, truth = frames_of(batch.images), self.truth(batch)
        self.config = self.config.model_copy(
            update=scales_of(photons_from_counts(frames, self.recipe))
            | {
                "typical_photons": float(np.median(truth["photons"])),
                "emitters_per_cell": float(self._density(batch).mean()),
            }
        )
        self.network.start_from_mean(self.config.emitters_per_cell)

    def inputs(self, images: Any) -> torch.Tensor:
        """Two channels (n, 2, y, x): scaled photons, and their root, whose noise is even."""
        photons = photons_from_counts(frames_of(images), self.recipe)
        return photons_and_roots(photons[:, None], self.config)

    def targets(self, batch: Batch) -> torch.Tensor:
        """True map and, per camera pixel, photons of the emitters in it: as the network's output.

        Channels: emitters per fine cell (unshuffled), then the mean of log photons relative to the
        typical (NaN in pixels without an emitter).
        """
        density = torch.from_numpy(self._density(batch))[:, None]
        fine = functional.pixel_unshuffle(density, self.config.upsampling)
        return torch.cat([fine, torch.from_numpy(self._log_photons(batch))[:, None]], dim=1)

    def loss(self, output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """Poisson deviance of the map per emitter, plus the spread of log photons."""
        output = output.float()
        log_map, true_map = output[:, :-1], target[:, :-1]
        deviance = (torch.exp(log_map) - true_map * log_map).sum() / true_map.sum().clamp(min=1)
        lit = ~torch.isnan(target[:, -1])
        if self.config.photon_weight == 0 or not lit.any():
            return deviance
        photons = functional.smooth_l1_loss(output[:, -1][lit], target[:, -1][lit])
        return deviance + self.config.photon_weight * photons

    @property
    def halo_px(self) -> int:
        """Radius of the receptive field and of a peak's reach [px]."""
        return 2 + sum(self.config.dilations) + self.reach_px

    def density(self, output: torch.Tensor) -> torch.Tensor:
        """Expected emitters per fine cell (n, y*up, x*up)."""
        log_density, _ = split_output(output, self.config.upsampling)
        return torch.exp(log_density.clamp(max=LARGEST_LOG))

    def photons(self, output: torch.Tensor, found: Peaks) -> npt.NDArray[np.float64]:
        """Photons of each peak, those said of the camera pixel it is in."""
        _, log_photons = split_output(output, self.config.upsampling)
        y, x = (
            np.minimum(position / self.config.upsampling, size - 1).astype(np.int64)
            for position, size in zip(
                (found.y_cells, found.x_cells), log_photons.shape[1:], strict=True
            )
        )
        brightness = np.exp(
            log_photons.clamp(max=LARGEST_LOG).cpu().numpy()[found.image, y, x].astype(np.float64)
        )
        return np.asarray(self.config.typical_photons * brightness)

    def _density(self, batch: Batch) -> npt.NDArray[np.float32]:
        """True map on the fine grid, float32 (frames, y, x)."""
        return self.true_map(batch, self.config.blur_cells)

    def _log_photons(self, batch: Batch) -> npt.NDArray[np.float32]:
        """Mean log of photons over ``typical_photons`` per camera pixel; NaN without emitter."""
        shape, truth = frames_of(batch.images).shape, self.truth(batch)
        y, x = ((truth[axis] / self.recipe.pixel_nm).astype(np.int64) for axis in ("y_nm", "x_nm"))
        pixel = np.ravel_multi_index((truth["frame"], y, x), shape)
        value = np.log(truth["photons"] / self.config.typical_photons)
        size = int(np.prod(shape))
        count = np.bincount(pixel, minlength=size)
        total = np.bincount(pixel, value, minlength=size)
        mean = np.divide(total, count, out=np.full(size, np.nan), where=count > 0)
        return mean.reshape(shape).astype(np.float32)
