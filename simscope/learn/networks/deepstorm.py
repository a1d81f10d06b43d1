"""Deep-STORM as published: an encoder-decoder on the frame enlarged eight times, in 2-D.

After Nehme et al. 2018, *Optica* 5:458, "Deep-STORM: super-resolution single-molecule microscopy
by deep learning", in layers, widths, initial weights, targets and loss: every pixel becomes 8x8
equal cells; three times 3x3 convolution, batch normalisation (Ioffe and Szegedy 2015, ICML), ReLU
and 2x2 pooling, with 32, 64 and 128 features; 512 features at the bottom; three times enlarged by
two, with 128, 64 and 32 features; a 1x1 convolution to one image of spikes. Its loss is the squared
error of the spikes blurred by a Gaussian of one cell (7x7, sum 2) against the true ones (sum 100 an
emitter), plus the mean size of the spikes, which keeps them few. So a spike of 50 is one emitter.

Otherwise than there, frames are brought to order one by one level and spread for all, not each by
its own darkest and brightest pixel: a dim frame stays dim, and a tile of a frame is seen as the
frame is. Emitters are read off the blurred spikes, where there only their sum over frames is shown.

It is for GPUs: 1.4 million weights and 6 million multiplications a camera pixel, a hundred times
those of the slim network; an update of 16 patches of 26x26 px, as published, takes 2.5 s of CPU.
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import nn
from torch.nn import functional

from simscope.acquire import Batch
from simscope.learn.heatmap import MapConfig, MapLocalizer
from simscope.learn.inputs import photons_from_counts, scaled, scales_of
from simscope.learn.localizer import frames_of
from simscope.recipe import Recipe

KERNEL_SIDE = 7
KERNEL_SUM = 2.0
"""Sum of the Gaussian that blurs predicted spikes."""
HEAT = 100.0
"""Sum of an emitter's true blurred spot."""
RECEPTIVE_PX = 4
"""Radius of the receptive field: 22 cells by convolutions and up to 7 by pooling, of 8 a pixel."""


class DeepStormConfig(MapConfig):
    """Widths of the published network, scales of its data, and how its map is read."""

    kind: Literal["deepstorm"] = "deepstorm"
    upsampling: Literal[8] = Field(8, description="fine cells per camera pixel and axis")
    widths: tuple[int, int, int, int] = Field(
        (32, 64, 128, 512), description="features at full, half, quarter and eighth of the grid"
    )


class Stage(nn.Sequential):
    """3x3 convolution without bias, batch normalisation, ReLU."""

    def __init__(self, before: int, after: int) -> None:
        convolution = nn.Conv2d(before, after, 3, padding=1, bias=False)
        nn.init.orthogonal_(convolution.weight)
        super().__init__(convolution, nn.BatchNorm2d(after, eps=1e-3), nn.ReLU())


class DeepStorm(nn.Module):
    """Images (n, 1, y, x) to spikes (n, 1, 8 y, 8 x), 50 an emitter."""

    def __init__(self, config: DeepStormConfig) -> None:
        super().__init__()
        full, half, quarter, eighth = config.widths
        self.down = nn.ModuleList([Stage(1, full), Stage(full, half), Stage(half, quarter)])
        self.bottom = Stage(quarter, eighth)
        self.up = nn.ModuleList([Stage(eighth, quarter), Stage(quarter, half), Stage(half, full)])
        self.spikes = nn.Conv2d(full, 1, 1, bias=False)
        nn.init.orthogonal_(self.spikes.weight)
        # bfloat16 on a CPU is four times faster so
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Output as in the class's first line."""
        features = functional.interpolate(images, scale_factor=8.0, mode="nearest")
        for stage in self.down:
            features = functional.max_pool2d(stage(features), 2)
        features = self.bottom(features)
        for stage in self.up:
            features = stage(functional.interpolate(features, scale_factor=2.0, mode="nearest"))
        return self.spikes(features)


def gaussian_kernel(blur_cells: float) -> torch.Tensor:
    """Gaussian on 7x7 cells of sum 1, shape (1, 1, 7, 7)."""
    cells = torch.arange(KERNEL_SIDE) - (KERNEL_SIDE - 1) / 2
    profile = torch.exp(-(cells**2) / (2 * blur_cells**2))
    kernel = torch.outer(profile, profile)
    return (kernel / kernel.sum())[None, None]


class DeepStormTask(MapLocalizer):
    """Deep-STORM as published, for a recipe of single frames or movies of molecules in one plane.

    Raises
    ------
    TrainingError
        If the recipe is a focus stack or a single bead.
    """

    kind = "deepstorm"
    plan: ClassVar[dict[str, Any]] = {"learning_rate": 1e-3, "weight_decay": 0.0}
    pixels_at_once: ClassVar[int] = 1 << 14
    config: DeepStormConfig
    network: DeepStorm

    def __init__(self, recipe: Recipe, config: DeepStormConfig | None = None) -> None:
        super().__init__(recipe, config or DeepStormConfig())
        self.network = DeepStorm(self.config)

    def fit_scales(self, batch: Batch) -> None:
        """Take level and spread from a batch."""
        self.require_emitters(batch)
        photons = photons_from_counts(frames_of(batch.images), self.recipe)
        self.config = self.config.model_copy(update=scales_of(photons))

    def inputs(self, images: Any) -> torch.Tensor:
        """Scaled photons (n, 1, y, x)."""
        photons = torch.from_numpy(photons_from_counts(frames_of(images), self.recipe))
        return self.prepared(photons[:, None])

    def prepared(self, photons: torch.Tensor) -> torch.Tensor:
        """Scaled photons alone, as published."""
        return scaled(photons, self.config)

    def targets(self, batch: Batch) -> torch.Tensor:
        """True blurred spots of 100 an emitter, each in the middle of its cell (n, 1, 8 y, 8 x)."""
        spikes = torch.from_numpy(self.true_map(batch, 0.0))[:, None]
        return HEAT * self._blurred(spikes)

    def loss(self, output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """Mean squared error of the blurred spikes plus mean absolute value of the spikes."""
        spikes = output.float()
        blurred = KERNEL_SUM * self._blurred(spikes)
        return functional.mse_loss(blurred, target) + spikes.abs().mean()

    def density(self, output: torch.Tensor) -> torch.Tensor:
        """Emitters per fine cell (n, 8 y, 8 x): spikes above 0, blurred."""
        spikes = output.float().clamp(min=0)
        return self._blurred(spikes)[:, 0] * (KERNEL_SUM / HEAT)

    @property
    def halo_px(self) -> int:
        """Radius of the receptive field and of a peak's reach [px]."""
        return RECEPTIVE_PX + 1 + self.reach_px

    def _blurred(self, spikes: torch.Tensor) -> torch.Tensor:
        """Spikes after a Gaussian of sum 1; what it would carry over the edge is lost."""
        kernel = gaussian_kernel(self.config.blur_cells).to(spikes.device)
        return functional.conv2d(spikes, kernel, padding=KERNEL_SIDE // 2)
