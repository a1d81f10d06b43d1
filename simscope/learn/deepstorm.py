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
from simscope.errors import TrainingError
from simscope.evaluate import in_frame, score
from simscope.learn.heatmap import peaks
from simscope.learn.inputs import background_and_spread, photons_from_counts
from simscope.learn.task import Task
from simscope.recipe import BeadStructure, FocusStack, Model, Recipe, UniformStructure
from simscope.targets import density_map, frame_of_row

# ``expected`` is the expected number of emitters at a place: near 1 for a sure single one.
FOUND_DTYPE = np.dtype(
    [
        ("frame", np.int64),
        ("x_nm", np.float64),
        ("y_nm", np.float64),
        ("z_nm", np.float64),
        ("photons", np.float64),
        ("expected", np.float64),
    ]
)
CALIBRATION_RADIUS_NM = 250.0
TRUTH_COLUMNS = ("x_nm", "y_nm", "photons")
THRESHOLDS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6)
REACHES_NM = (75.0, 100.0, 125.0)


class DeepStormConfig(Model):
    """Size of the network, scales of its data, and how its map is read."""

    kind: Literal["deepstorm"] = "deepstorm"
    channels: int = Field(48, ge=1, description="features per camera pixel")
    dilations: tuple[int, ...] = Field((1, 2, 4, 2), description="one residual block each")
    upsampling: int = Field(4, ge=1, le=16, description="fine cells per camera pixel and axis")
    blur_cells: float = Field(1.0, gt=0, description="standard deviation of a true spot [cells]")
    photon_weight: float = Field(0.05, ge=0, description="weight of the loss of log photons")
    background_photons: float = Field(0.0, description="level taken off images [photons/px]")
    spread_photons: float = Field(1.0, gt=0, description="images are divided by this [photons/px]")
    typical_photons: float = Field(1000.0, gt=0, description="photons of a typical emitter")
    emitters_per_cell: float = Field(1e-3, gt=0, description="mean of the training maps")
    threshold: float = Field(0.3, gt=0, description="least expected emitters of a peak")
    reach_nm: float = Field(100.0, gt=0, description="radius around a peak that counts [nm]")


class ResidualBlock(nn.Module):
    """One dilated 3x3 convolution added to what went in."""

    def __init__(self, channels: int, dilation: int) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(channels, channels, 3, padding=dilation, dilation=dilation)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Features of the same shape."""
        return features + functional.relu(self.convolution(features))


class DeepStorm(nn.Module):
    """Images (n, 2, y, x) to log emitters per fine cell and log photons per camera pixel.

    The output is ``(n, upsampling**2 + 1, y, x)``: :func:`split_output` takes it apart.
    """

    def __init__(self, config: DeepStormConfig) -> None:
        super().__init__()
        width = config.channels
        self.stem = nn.Conv2d(2, width, 3, padding=1)
        self.blocks = nn.Sequential(*(ResidualBlock(width, d) for d in config.dilations))
        self.head = nn.Conv2d(width, config.upsampling**2 + 1, 3, padding=1)
        self._initialise()

    def _initialise(self) -> None:
        """He et al. 2015 (ICCV), quieter where residuals add up and at the output."""
        for name, values in self.named_parameters():
            if name.endswith("bias"):
                nn.init.zeros_(values)
                continue
            nn.init.kaiming_normal_(values)
            with torch.no_grad():
                values.mul_({"stem": 1.0, "blocks": 0.5, "head": 0.1}[name.split(".")[0]])

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


class DeepStormTask(Task):
    """Deep-STORM for a recipe of single frames or movies of molecules in one plane.

    Raises
    ------
    TrainingError
        If the recipe is a focus stack or a single bead.
    """

    kind = "deepstorm"
    config: DeepStormConfig
    network: DeepStorm

    def __init__(self, recipe: Recipe, config: DeepStormConfig | None = None) -> None:
        super().__init__(recipe, config or DeepStormConfig())
        if isinstance(recipe.acquisition.focus_nm, FocusStack):
            raise TrainingError(
                f"recipe {recipe.name!r} images focus stacks, deepstorm reads single frames: "
                "train 'zernike' on it, or set acquisition.focus_nm to a number"
            )
        if isinstance(recipe.structure, BeadStructure):
            raise TrainingError(
                f"recipe {recipe.name!r} holds one bead near the middle: a localiser would learn "
                "to guess the middle; use structure.kind: uniform"
            )
        self.network = DeepStorm(self.config)

    def fit_scales(self, batch: Batch) -> None:
        """Take dark level, spread, typical photons and mean density from a batch."""
        photons = photons_from_counts(_frames(batch.images), self.recipe)
        level, spread = background_and_spread(photons)
        truth = self._truth(batch)
        if not len(truth["photons"]):
            raise TrainingError(
                f"no emitter in {len(photons)} frames of {self.recipe.name!r}: raise the density"
            )
        self.config = self.config.model_copy(
            update={
                "background_photons": level,
                "spread_photons": spread,
                "typical_photons": float(np.median(truth["photons"])),
                "emitters_per_cell": float(self._density(batch).mean()),
            }
        )
        self.network.start_from_mean(self.config.emitters_per_cell)

    def inputs(self, images: Any) -> torch.Tensor:
        """Two channels (n, 2, y, x): scaled photons, and their root, whose noise is even."""
        config = self.config
        photons = torch.from_numpy(photons_from_counts(_frames(images), self.recipe))
        scaled = (photons - config.background_photons) / config.spread_photons
        level = max(config.background_photons, 1.0)
        root = torch.sqrt(photons.clamp(min=0) / level) - 1
        stacked = torch.stack([scaled, root], dim=1)
        return stacked.contiguous(memory_format=torch.channels_last)

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

    def judge(self, output: torch.Tensor, batch: Batch) -> dict[str, float]:
        """Jaccard index, precision, recall and lateral RMSE [nm] at 250 nm."""
        result = score(self.found(output), self._truth(batch), CALIBRATION_RADIUS_NM)
        return {
            "jaccard": result.jaccard,
            "precision": result.precision,
            "recall": result.recall,
            "rmse_lateral_nm": result.rmse_lateral_nm,
        }

    def calibrate(self, output: torch.Tensor, batch: Batch) -> None:
        """Choose threshold and reach with the best efficiency (Sage et al. 2019) on a batch."""
        truth = self._truth(batch)
        best = -math.inf
        for reach_nm in REACHES_NM:
            lowest = {"reach_nm": reach_nm, "threshold": THRESHOLDS[0]}
            found = read_map(output, self.config.model_copy(update=lowest), self.recipe)
            for threshold in THRESHOLDS:
                sure = found[found["expected"] >= threshold]
                merit = score(sure, truth, CALIBRATION_RADIUS_NM).efficiency_lateral
                if merit > best:
                    best, choice = merit, {"threshold": threshold, "reach_nm": reach_nm}
        if best > -math.inf:
            self.config = self.config.model_copy(update=choice)

    def found(self, output: torch.Tensor, threshold: float | None = None) -> npt.NDArray[Any]:
        """Emitter table (``FOUND_DTYPE``) read from the network's output."""
        update = {} if threshold is None else {"threshold": threshold}
        return read_map(output, self.config.model_copy(update=update), self.recipe)

    def _truth(self, batch: Batch) -> dict[str, npt.NDArray[Any]]:
        """Emitters with light inside the frame, frames counted from the batch's first."""
        height, width = batch.images.shape[-2:]
        emitters = batch.emitters
        seen = in_frame(emitters, (height, width), self.recipe.pixel_nm)
        seen &= emitters["photons"] > 0
        columns = {name: emitters[name][seen].astype(np.float64) for name in TRUTH_COLUMNS}
        return columns | {"frame": frame_of_row(batch.emitter_offsets)[seen]}

    def _density(self, batch: Batch) -> npt.NDArray[np.float32]:
        """True map on the fine grid, float32 (frames, y, x)."""
        frames, height, width = _frames(batch.images).shape
        cell_nm = self.recipe.pixel_nm / self.config.upsampling
        truth, fine = self._truth(batch), self.config.upsampling
        return density_map(
            truth["frame"],
            truth["x_nm"] / cell_nm,
            truth["y_nm"] / cell_nm,
            (frames, height * fine, width * fine),
            self.config.blur_cells,
        )

    def _log_photons(self, batch: Batch) -> npt.NDArray[np.float32]:
        """Mean log of photons over ``typical_photons`` per camera pixel; NaN without emitter."""
        shape, truth = _frames(batch.images).shape, self._truth(batch)
        y, x = ((truth[axis] / self.recipe.pixel_nm).astype(np.int64) for axis in ("y_nm", "x_nm"))
        pixel = np.ravel_multi_index((truth["frame"], y, x), shape)
        value = np.log(truth["photons"] / self.config.typical_photons)
        size = int(np.prod(shape))
        count = np.bincount(pixel, minlength=size)
        total = np.bincount(pixel, value, minlength=size)
        mean = np.divide(total, count, out=np.full(size, np.nan), where=count > 0)
        return mean.reshape(shape).astype(np.float32)


def read_map(output: torch.Tensor, config: DeepStormConfig, recipe: Recipe) -> npt.NDArray[Any]:
    """Emitter table (``FOUND_DTYPE``, frames from 0) of a network output, sorted by frame.

    ``z_nm`` is the recipe's height if all molecules share one, else NaN: a 2-D map has no z.
    """
    log_map, log_photons = split_output(output, config.upsampling)
    cell_nm = recipe.pixel_nm / config.upsampling
    found = peaks(
        torch.exp(log_map), reach_cells=config.reach_nm / cell_nm, threshold=config.threshold
    )
    table = np.empty(len(found.image), FOUND_DTYPE)
    table["frame"] = found.image
    table["x_nm"], table["y_nm"] = found.x_cells * cell_nm, found.y_cells * cell_nm
    table["z_nm"] = _common_height_nm(recipe)
    table["expected"] = found.weight
    y, x = (
        np.minimum(position / config.upsampling, size - 1).astype(np.int64)
        for position, size in zip(
            (found.y_cells, found.x_cells), log_photons.shape[1:], strict=True
        )
    )
    brightness = np.exp(log_photons.cpu().numpy()[found.image, y, x].astype(np.float64))
    table["photons"] = config.typical_photons * brightness
    return table


def _common_height_nm(recipe: Recipe) -> float:
    structure = recipe.structure
    if isinstance(structure, UniformStructure) and isinstance(structure.z_nm, float | int):
        return float(structure.z_nm)
    return math.nan


def _frames(images: Any) -> Any:
    """Images as (frames, y, x), whether samples are single frames or movies."""
    return images.reshape(-1, *images.shape[-2:])
