"""Emitters out of maps of their density on a grid finer than the camera's.

A map holds the expected number of emitters per fine cell; true ones are those of
``simscope/targets/``. A predicted map is taken apart by steepest ascent: every cell belongs to
the peak it climbs to, the cells of a peak sum to its expected number of emitters, and their
centroid is the position.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional

Floats = npt.NDArray[np.float64]
Rows = npt.NDArray[np.int64]


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
