"""Maps of emitter density on a grid finer than the camera's, and emitters back out of them.

A map holds the expected number of emitters per fine cell. A true map is drawn from an emitter
table, each emitter a small Gaussian of weight one on its exact sub-pixel position (Nehme et al.
2018, *Optica* 5:458, smooth the same way). A predicted map is taken apart by steepest ascent:
every cell belongs to the peak it climbs to, the cells of a peak sum to its expected number of
emitters, and their centroid is the position.
"""

from __future__ import annotations

import math
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


def density_map(
    image: Rows, x_cells: Floats, y_cells: Floats, shape: tuple[int, int, int], blur_cells: float
) -> npt.NDArray[np.float32]:
    """Emitters per fine cell, float32 ``shape`` = (images, y, x), one Gaussian an emitter.

    Positions count cells from the outer corner; emitters outside the map are left out. A Gaussian
    cut by the border loses what lies beyond it.
    """
    inside = (x_cells >= 0) & (x_cells < shape[2]) & (y_cells >= 0) & (y_cells < shape[1])
    image, x_cells, y_cells = image[inside], x_cells[inside], y_cells[inside]
    reach = max(1, math.ceil(3 * blur_cells))
    rows, weight_y = _gaussian_cells(y_cells, reach, blur_cells)
    columns, weight_x = _gaussian_cells(x_cells, reach, blur_cells)
    padded = np.zeros((shape[0], shape[1] + 2 * reach, shape[2] + 2 * reach), np.float32)
    np.add.at(
        padded,
        (image[:, None, None], rows[:, :, None] + reach, columns[:, None, :] + reach),
        (weight_y[:, :, None] * weight_x[:, None, :]).astype(np.float32),
    )
    return padded[:, reach:-reach, reach:-reach]


def _gaussian_cells(position: Floats, reach: int, blur_cells: float) -> tuple[Rows, Floats]:
    """Cells around each position and their weights, both ``(emitters, 2 * reach + 1)``."""
    cells = np.floor(position).astype(np.int64)[:, None] + np.arange(-reach, reach + 1)
    weight = np.exp(-0.5 * ((cells + 0.5 - position[:, None]) / blur_cells) ** 2)
    return cells, weight / weight.sum(axis=1, keepdims=True)


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
