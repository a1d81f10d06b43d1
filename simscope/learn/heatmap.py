"""Emitters out of maps of their density on a grid finer than the camera's.

A map holds the expected number of emitters per fine cell; true ones are those of
``simscope/targets/``. A predicted map is taken apart by steepest ascent: every cell belongs to
the peak it climbs to, the cells of a peak sum to its expected number of emitters, and their
centroid is the position. :class:`MapLocalizer` is what networks share that predict such maps.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from pydantic import Field
from torch.nn import functional

from simscope.acquire import Batch
from simscope.learn.inputs import Scales
from simscope.learn.localizer import THRESHOLDS, Localizer, empty_table, frames_of
from simscope.targets import density_map

Floats = npt.NDArray[np.float64]
Rows = npt.NDArray[np.int64]
REACHES_NM = (75.0, 100.0, 125.0)


class MapConfig(Scales):
    """Grid of a map of emitters, and how the map is read."""

    upsampling: int = Field(4, ge=1, le=16, description="fine cells per camera pixel and axis")
    blur_cells: float = Field(1.0, gt=0, description="standard deviation of a true spot [cells]")
    threshold: float = Field(0.3, gt=0, description="least expected emitters of a peak")
    reach_nm: float = Field(100.0, gt=0, description="radius around a peak that counts [nm]")


class Peaks(NamedTuple):
    """Peaks of a batch of maps: image number, position in fine cells from the corner, weight."""

    image: Rows
    x_cells: Floats
    y_cells: Floats
    weight: Floats


def peaks(density: torch.Tensor, *, reach_cells: float, threshold: float) -> Peaks:
    """Peaks of ``density`` (images, y, x) that hold at least ``threshold`` emitters.

    Cells farther than ``reach_cells`` from their peak are not counted.
    """
    images, height, width = density.shape
    peak = _peak_of_each_cell(density)
    cell = torch.arange(height * width, device=density.device)
    dx, dy = cell % width - peak % width, cell // width - peak // width
    near = (dx**2 + dy**2) <= reach_cells**2
    mass = torch.where(near, density.reshape(images, -1), density.new_zeros(()))
    weight, moment_x, moment_y = (
        torch.zeros_like(mass).scatter_add_(1, peak, part) for part in (mass, mass * dx, mass * dy)
    )
    image, where = torch.nonzero(weight >= threshold, as_tuple=True)
    total = weight[image, where].double()
    x = (where % width) + 0.5 + moment_x[image, where] / total
    y = (where // width) + 0.5 + moment_y[image, where] / total
    return Peaks(*(part.cpu().numpy() for part in (image, x, y, total)))


def _peak_of_each_cell(density: torch.Tensor) -> torch.Tensor:
    """Flat index of the local maximum every cell climbs to, int64 ``(images, cells)``.

    Each cell points to the brightest of its 3x3 neighbours; following pointers of pointers
    doubles the way at each turn until nothing moves.
    """
    _, step = functional.max_pool2d(density[:, None], 3, 1, 1, return_indices=True)
    goal: torch.Tensor = step.reshape(len(density), -1)
    while True:
        farther = torch.gather(goal, 1, goal)
        if torch.equal(farther, goal):
            return goal
        goal = farther


class MapLocalizer(Localizer):
    """A localiser that predicts how many emitters are in each cell of a fine grid, in 2-D.

    ``probability`` is the expected number of emitters of a peak, at most 1.
    """

    config: MapConfig

    @abstractmethod
    def density(self, output: torch.Tensor) -> torch.Tensor:
        """Expected emitters per fine cell (frames, y, x) of the network's output."""

    def photons(self, output: torch.Tensor, found: Peaks) -> Any:
        """Photons of each peak; NaN where the network does not tell."""
        return np.nan

    @property
    def reach_px(self) -> int:
        """Pixels around a peak whose cells may belong to it."""
        return 2 * math.ceil(max(REACHES_NM) / self.recipe.pixel_nm)

    def found(self, output: torch.Tensor, threshold: float | None = None) -> npt.NDArray[Any]:
        """Emitter table (``FOUND_DTYPE``) read from the network's output."""
        given = self.config.threshold if threshold is None else threshold
        return self._read(output, given, self.config.reach_nm)

    def _read(self, output: torch.Tensor, threshold: float, reach_nm: float) -> npt.NDArray[Any]:
        """Emitter table of all peaks; the height is that of all molecules, if they share one."""
        cell_nm = self.recipe.pixel_nm / self.config.upsampling
        found = peaks(self.density(output), reach_cells=reach_nm / cell_nm, threshold=threshold)
        table = empty_table(len(found.image))
        table["frame"] = found.image
        table["x_nm"], table["y_nm"] = found.x_cells * cell_nm, found.y_cells * cell_nm
        table["z_nm"] = self.common_height_nm()
        table["photons"] = self.photons(output, found)
        table["probability"] = np.minimum(found.weight, 1.0)
        return table

    def calibrate(self, output: torch.Tensor, batch: Batch) -> None:
        """Choose threshold and reach with the best efficiency (Sage et al. 2019) on a batch."""
        best = -math.inf
        for reach_nm in REACHES_NM:
            found = self._read(output, THRESHOLDS[0], reach_nm)
            threshold, merit = self.best_threshold(found, batch)
            if merit > best:
                best, choice = merit, {"threshold": threshold, "reach_nm": reach_nm}
        if best > -math.inf:
            self.config = self.config.model_copy(update=choice)

    def true_map(self, batch: Batch, blur_cells: float) -> npt.NDArray[np.float32]:
        """Emitters per fine cell, blurred, float32 (frames, y, x)."""
        frames, height, width = frames_of(batch.images).shape
        truth, fine = self.truth(batch), self.config.upsampling
        cell_nm = self.recipe.pixel_nm / fine
        return density_map(
            truth["frame"],
            truth["x_nm"] / cell_nm,
            truth["y_nm"] / cell_nm,
            (frames, height * fine, width * fine),
            blur_cells,
        )
