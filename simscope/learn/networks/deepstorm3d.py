"""DeepSTORM3D: from a camera frame to a grid of voxels, for PSFs that carry height in their shape.

After Nehme et al. 2020, *Nat. Methods* 17:734, "DeepSTORM3D: dense 3D localization microscopy and
PSF design by deep learning": dilated residual convolutions see a PSF as large as the Tetrapod's
whole, and the planes of the voxel grid come out as channels. Three things differ, so that twenty
minutes of two cores suffice:

- **The optics are known.** The first layer correlates the frame, its noise evened by a square root,
  with a basis of the recipe's own PSFs: the leading singular vectors of the images at all heights
  and places in a block.
  Any matched filter is a weighted sum of these few, so the trunk starts from evidence per place and
  height instead of finding out what a Tetrapod is. ``matched_filters=0`` leaves them out.
- **The loss is a proper score.** The output is the logarithm of the expected emitters per voxel,
  trained by the Poisson deviance against the true grid, whose emitters are Gaussians below a voxel
  wide. Its best answer is the posterior mean (the original smooths both and takes a squared error).
- **Voxels are coarse,** and each column of them says where in it the emitter is, how bright, and
  how sure that is: a Gaussian likelihood as in DECODE (Speiser et al. 2021, *Nat. Methods*
  18:1082).

The trunk works on blocks of ``stride`` x ``stride`` pixels. Published size: ``stride=1``,
``upsampling=4``, ``channels=64``, ``dilations=(1, 2, 4, 8, 16, ...)``, for GPUs.
"""

from __future__ import annotations

import math
from typing import Any, ClassVar, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from pydantic import Field
from torch import nn
from torch.nn import functional

from simscope.acquire import Batch
from simscope.errors import TrainingError
from simscope.learn.inputs import Scales, photons_and_roots, photons_from_counts, scales_of
from simscope.learn.layers import DilatedBlock, initialise
from simscope.learn.localizer import LARGEST_LOG, Localizer, empty_table, frames_of
from simscope.learn.matched_filters import BLOCK_PX, MatchedFilters, in_whole_blocks, psf_basis
from simscope.recipe import Recipe
from simscope.sample.structures import height_range_nm
from simscope.targets import voxel_map

REACH_VOXELS = 2
"""A peak counts the voxels this far along each axis; two peaks are farther apart than this."""
WINDOW_PLANES = 3
"""Planes on either side of a peak whose mean is its height."""
NEAR_VOXELS = 1.2
"""Columns whose middle is this near to an emitter learn where it is."""
MEANS, WIDTHS = slice(0, 4), slice(4, 8)  # channels of x, y, z, log photons, and of their log sigma
LOG_WIDTHS = (-4.0, 2.0)


class DeepStorm3dConfig(Scales):
    """Size of the network, scales of its data, and how its grid is read."""

    kind: Literal["deepstorm3d"] = "deepstorm3d"
    channels: int = Field(96, ge=1, description="features of the trunk")
    dilations: tuple[int, ...] = Field(
        (1, 2, 4, 8, 1, 2, 4, 8, 1), description="one residual block each [blocks of stride px]"
    )
    stride: Literal[1, 2, 4] = Field(2, description="camera pixels per feature and axis")
    upsampling: int = Field(1, ge=1, le=8, description="voxels per camera pixel and axis")
    plane_nm: float = Field(100.0, gt=0, description="height of a voxel [nm]")
    blur_voxels: float = Field(0.75, gt=0, description="standard deviation of a true spot [voxels]")
    matched_filters: int = Field(48, ge=0, le=128, description="images of the PSF's basis")
    filter_px: int = Field(72, ge=8, le=512, description="side of these images [px]")
    place_weight: float = Field(0.5, ge=0, description="weight of the likelihood of places")
    typical_photons: float = Field(1000.0, gt=0, description="photons of a typical emitter")
    emitters_per_voxel: float = Field(1e-5, gt=0, description="mean of the training grids")
    threshold: float = Field(0.5, gt=0, description="least expected emitters of a peak")


class DeepStorm3d(nn.Module):
    """Images (n, 2, y, x) to (n, planes + 8, y * up, x * up).

    Channels: log emitters per voxel, then of each column of voxels the place in it (x, y in voxels
    from its middle, z in planes beyond the mean of the planes near the peak), the log of relative
    photons, and the log of the standard deviations of these four.
    """

    def __init__(self, config: DeepStorm3dConfig, planes: int) -> None:
        super().__init__()
        width, self.stride = config.channels, config.stride
        self.shuffle = config.stride * config.upsampling
        self.planes = planes
        self.filters = MatchedFilters(config.matched_filters, config.filter_px, config.stride)
        entering = config.matched_filters + 2 * config.stride**2
        self.stem = nn.Conv2d(entering, width, 3, padding=1)
        self.blocks = nn.Sequential(*(DilatedBlock(width, d) for d in config.dilations))
        self.last = nn.Conv2d(width, width, 3, padding=1)
        self.head = nn.Conv2d(width, (planes + WIDTHS.stop) * self.shuffle**2, 1)
        initialise(self, blocks=0.4, head=0.01)

    def start_from_mean(self, emitters_per_voxel: float) -> None:
        """Begin with the mean density everywhere instead of one emitter a voxel."""
        if self.head.bias is not None:
            with torch.no_grad():
                self.head.bias[: self.planes * self.shuffle**2] = math.log(emitters_per_voxel)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Output as in the class's first line."""
        height, width = images.shape[-2:]
        whole = functional.pad(images, (0, -width % BLOCK_PX, 0, -height % BLOCK_PX))
        entering = functional.pixel_unshuffle(whole, self.stride)
        if len(self.filters.images):
            entering = torch.cat([self.filters(whole[:, 1:]).to(entering.dtype), entering], dim=1)
        entering = entering.contiguous(memory_format=torch.channels_last)
        features = self.blocks(functional.relu(self.stem(entering)))
        output = self.head(functional.relu(self.last(features)))
        up = self.shuffle // self.stride
        return functional.pixel_shuffle(output, self.shuffle)[..., : height * up, : width * up]


class Grid(NamedTuple):
    """Voxels of a recipe: their sides [nm], and lower end and number of planes."""

    voxel_nm: float
    plane_nm: float
    lowest_nm: float
    planes: int


def grid_of(recipe: Recipe, config: DeepStorm3dConfig) -> Grid:
    """Voxel grid that holds all heights of a recipe, its planes in their middle."""
    low, high = height_range_nm(recipe)
    planes = max(1, math.ceil((high - low) / config.plane_nm - 1e-6))
    lowest = 0.5 * (low + high - planes * config.plane_nm)
    return Grid(recipe.pixel_nm / config.upsampling, config.plane_nm, lowest, planes)


class DeepStorm3dTask(Localizer):
    """DeepSTORM3D for a recipe of single frames or movies of molecules at any height.

    Raises
    ------
    TrainingError
        If the recipe is a focus stack or a single bead.
    """

    kind = "deepstorm3d"
    radius_nm: ClassVar[float] = 100.0
    axial_radius_nm: ClassVar[float | None] = 100.0
    plan: ClassVar[dict[str, Any]] = {
        "batch_size": 4,
        "optimiser": "muon",
        "learning_rate": 1.2e-3,
        "validation_samples": 48,
    }
    config: DeepStorm3dConfig
    network: DeepStorm3d

    def __init__(self, recipe: Recipe, config: DeepStorm3dConfig | None = None) -> None:
        super().__init__(recipe, config or DeepStorm3dConfig())
        self.grid = grid_of(recipe, self.config)
        self.network = DeepStorm3d(self.config, self.grid.planes)

    def fit_scales(self, batch: Batch) -> None:
        """Take scales and mean density from a batch, and the matched filters from the optics."""
        self.require_emitters(batch)
        size = tuple(batch.images.shape[-2:])
        if min(size) < BLOCK_PX:
            raise TrainingError(
                f"frames of {size} pixels are smaller than the blocks of {BLOCK_PX}"
                " that deepstorm3d reads: enlarge acquisition.shape"
            )
        frames, truth = frames_of(batch.images), self.truth(batch)
        self.config = self.config.model_copy(
            update=scales_of(photons_from_counts(frames, self.recipe))
            | {
                "typical_photons": float(np.median(truth["photons"])),
                "emitters_per_voxel": float(self._voxels(batch).mean()),
            }
        )
        self.network.start_from_mean(self.config.emitters_per_voxel)
        if self.config.matched_filters:
            filters = self.network.filters
            filters.images.copy_(torch.from_numpy(self._basis()))
            with torch.inference_mode():
                size = filters(in_whole_blocks(self.inputs(batch.images)[:16, 1:]))
            filters.images.div_(size.std(dim=(0, 2, 3))[:, None, None])

    def _basis(self) -> npt.NDArray[np.float32]:
        """The images that the filters match, float32 (filters, y, x)."""
        side_px, config = self.network.filters.side_px, self.config
        return psf_basis(self.recipe, config.matched_filters, side_px, config.stride)

    def inputs(self, images: Any) -> torch.Tensor:
        """Two channels (n, 2, y, x): scaled photons, and their root, whose noise is even."""
        photons = photons_from_counts(frames_of(images), self.recipe)
        return photons_and_roots(photons[:, None], self.config)

    def targets(self, batch: Batch) -> torch.Tensor:
        """True emitters per voxel, and place and log photons of the emitter nearest to a column.

        (n, planes + 4, y, x): x and y in voxels from the middle of the column, z in planes from the
        lower end of the grid, log photons over the typical; NaN in columns far from emitters.
        """
        voxels = self._voxels(batch)
        places = self._places(batch, (len(voxels), *voxels.shape[2:]))
        return torch.from_numpy(np.concatenate([voxels, places], axis=1))

    def loss(self, output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """Poisson deviance of the grid and Gaussian likelihood of the places, per emitter."""
        output, planes = output.float(), self.grid.planes
        log_map, true_map = output[:, :planes], target[:, :planes]
        deviance = (torch.exp(log_map) - true_map * log_map).sum() / true_map.sum().clamp(min=1)
        image, y, x = torch.nonzero(~torch.isnan(target[:, planes]), as_tuple=True)
        if self.config.place_weight == 0 or not len(image):
            return deviance
        columns, truth = output[image, :, y, x], target[image, planes:, y, x]
        plane = truth[:, 2].long().clamp(0, planes - 1)
        means, log_widths = places_of(columns, plane, planes)
        errors = (means - truth) * torch.exp(-log_widths)
        unlikelihood = (0.5 * errors**2 + log_widths).sum(dim=1).mean()
        return deviance + self.config.place_weight * unlikelihood

    @property
    def halo_px(self) -> int:
        """Radius of the receptive field [px]."""
        filters = self.network.filters.side_px // 2 if self.config.matched_filters else 0
        return filters + self.config.stride * (3 + sum(self.config.dilations))

    @property
    def stride_px(self) -> int:
        """Tiles of a frame must begin at multiples of this."""
        return BLOCK_PX

    def found(self, output: torch.Tensor, threshold: float | None = None) -> npt.NDArray[Any]:
        """Emitter table (``FOUND_DTYPE``) read from the network's output."""
        grid, output = self.grid, output.float()
        given = self.config.threshold if threshold is None else threshold
        peaks = volume_peaks(torch.exp(output[:, : grid.planes].clamp(max=LARGEST_LOG)), given)
        image, plane, y, x = peaks.places
        means, log_widths = places_of(output[image, :, y, x], plane, grid.planes)
        value, width = means.double().numpy(), torch.exp(log_widths).double().numpy()
        table = empty_table(len(image))
        table["frame"] = image.numpy()
        table["x_nm"] = (x.numpy() + 0.5 + value[:, 0]) * grid.voxel_nm
        table["y_nm"] = (y.numpy() + 0.5 + value[:, 1]) * grid.voxel_nm
        table["z_nm"] = grid.lowest_nm + value[:, 2] * grid.plane_nm
        table["photons"] = self.config.typical_photons * np.exp(
            np.minimum(value[:, 3], LARGEST_LOG)
        )
        table["probability"] = peaks.weight.clamp(max=1).numpy()
        sides = (grid.voxel_nm, grid.voxel_nm, grid.plane_nm)
        for column, (axis, side) in enumerate(zip("xyz", sides, strict=True)):
            table[f"uncertainty_{axis}_nm"] = width[:, column] * side
        table["uncertainty_photons"] = width[:, 3] * table["photons"]
        return table

    def _voxels(self, batch: Batch) -> npt.NDArray[np.float32]:
        """Emitters per voxel, float32 (frames, planes, y, x)."""
        frames, height, width = frames_of(batch.images).shape
        truth, grid, up = self.truth(batch), self.grid, self.config.upsampling
        z = np.clip((truth["z_nm"] - grid.lowest_nm) / grid.plane_nm, 0, grid.planes)
        y, x = (truth[name] / grid.voxel_nm for name in ("y_nm", "x_nm"))
        shape = (frames, grid.planes, height * up, width * up)
        return voxel_map(truth["frame"], z, y, x, shape, self.config.blur_voxels)

    def _places(self, batch: Batch, shape: tuple[int, ...]) -> npt.NDArray[np.float32]:
        """Place and log photons of the nearest emitter, float32 (frames, 4, y, x), or NaN."""
        truth, grid = self.truth(batch), self.grid
        steps = np.arange(-2, 3)
        dy, dx = (d.ravel()[:, None] for d in np.meshgrid(steps, steps, indexing="ij"))
        row, column = (np.floor(truth[name] / grid.voxel_nm) + d
                       for name, d in (("y_nm", dy), ("x_nm", dx)))  # fmt: skip
        y = truth["y_nm"] / grid.voxel_nm - row - 0.5
        x = truth["x_nm"] / grid.voxel_nm - column - 0.5
        far = np.hypot(x, y)
        keep = (far <= NEAR_VOXELS) & (row >= 0) & (row < shape[1])
        keep &= (column >= 0) & (column < shape[2])
        nearest_last = np.argsort(-far[keep], kind="stable")
        z = (truth["z_nm"] - grid.lowest_nm) / grid.plane_nm
        light = np.log(truth["photons"] / self.config.typical_photons)
        places = np.full((shape[0], 4, *shape[1:]), np.nan, np.float32)
        frame, row, column, *values = (
            np.broadcast_to(part, keep.shape)[keep][nearest_last]
            for part in (truth["frame"], row, column, x, y, z, light)
        )
        places[frame, :, row.astype(np.int64), column.astype(np.int64)] = np.stack(values, axis=1)
        return places


def places_of(
    columns: torch.Tensor, plane: torch.Tensor, planes: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Place (m, 4) in a column of voxels, as in targets, and log of its standard deviations.

    ``columns`` (m, planes + 8) of the network's output, ``plane`` (m,) where the peak is. The
    height is the mean of the planes around the peak, corrected by the network.
    """
    level = torch.arange(planes, device=columns.device)
    far = (level - plane[:, None]).abs() > WINDOW_PLANES
    share = torch.softmax(columns[:, :planes].masked_fill(far, -math.inf), dim=1)
    rest = columns[:, planes:]
    means = rest[:, MEANS].clone()
    means[:, 2] += (share * (level + 0.5)).sum(dim=1)
    return means, rest[:, WIDTHS].clamp(*LOG_WIDTHS)


class VolumePeaks(NamedTuple):
    """Peaks of a batch of volumes: image, plane, row and column, and the emitters in each."""

    places: tuple[torch.Tensor, ...]
    weight: torch.Tensor


def volume_peaks(density: torch.Tensor, threshold: float) -> VolumePeaks:
    """Local maxima of ``density`` (images, z, y, x) around which ``threshold`` emitters stand."""
    size = 2 * REACH_VOXELS + 1
    highest = mass = functional.pad(density[:, None], (REACH_VOXELS,) * 6)
    for window in ((size, 1, 1), (1, size, 1), (1, 1, size)):
        highest = functional.max_pool3d(highest, window, 1)
        mass = size * functional.avg_pool3d(mass, window, 1)
    peak = (density == highest[:, 0]) & (mass[:, 0] >= threshold)
    places = torch.nonzero(peak, as_tuple=True)
    return VolumePeaks(places, mass[:, 0][places].double())
