"""Emitters counted on grids finer than the camera's: density maps and voxel grids."""

from __future__ import annotations

import math
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field, model_validator

from simscope.errors import DatasetError
from simscope.evaluate.tables import in_frame
from simscope.kernels.gridding import count_emitters
from simscope.recipe import VOLUMES, Recipe
from simscope.recipe.base import number
from simscope.sample import height_range_nm
from simscope.targets.base import Axis, Floats, Target, fine_axes


class DensityTarget(Target):
    """Emitters per cell of a grid finer than the camera's, over the field of view."""

    kind: Literal["density"] = "density"
    upsampling: int = Field(4, ge=1, le=32, description="cells per camera pixel along each axis")
    blur_cells: float = number(
        "standard deviation of an emitter's Gaussian; 0 counts it in the one cell it lies in",
        unit="cells", default=1.0, ge=0, le=32,
    )  # fmt: skip

    @property
    def description(self) -> str:
        """What the values are, in one line."""
        return "emitters per cell; a frame sums to its emitters with light in the field of view"

    def axes(self, source: Any) -> tuple[Axis, ...]:
        """Rows and columns of cells."""
        check_molecules(source.recipe)
        return fine_axes(source.recipe, self.upsampling)

    def _made(self, source: Any, chunk: Any) -> npt.NDArray[np.float32]:
        recipe = source.recipe
        frame = frame_of_row(chunk.emitter_offsets)
        seen = lit_in_frame(chunk.emitters, recipe)
        cell_nm = recipe.pixel_nm / self.upsampling
        x, y = (_column(chunk.emitters, name, seen) / cell_nm for name in ("x_nm", "y_nm"))
        shape = (len(chunk.emitter_offsets) - 1, *self.shape(source))
        return density_map(frame[seen], x, y, shape, self.blur_cells)


class VoxelTarget(Target):
    """Emitters per voxel of a grid over the field of view and a range of heights."""

    kind: Literal["voxels"] = "voxels"
    upsampling: int = Field(4, ge=1, le=32, description="voxels per camera pixel along y and x")
    plane_nm: float = number("height of a voxel", unit="nm", default=50.0, ge=0.1, le=1e5)
    z_min_nm: float | None = number(
        "lowest height on the grid; that of the recipe's molecules if absent", unit="nm",
        default=None, ge=-1e5, le=1e5,
    )  # fmt: skip
    z_max_nm: float | None = number(
        "highest height on the grid; that of the recipe's molecules if absent", unit="nm",
        default=None, ge=-1e5, le=1e5,
    )  # fmt: skip
    blur_cells: float = number(
        "standard deviation of an emitter's Gaussian along all axes; 0 counts it in one voxel",
        unit="cells", default=0.0, ge=0, le=32,
    )  # fmt: skip

    @model_validator(mode="after")
    def _range_in_order(self) -> VoxelTarget:
        low, high = self.z_min_nm, self.z_max_nm
        if low is not None and high is not None and low > high:
            raise ValueError(f"z_min_nm={low:g} lies above z_max_nm={high:g}: swap them")
        return self

    @property
    def description(self) -> str:
        """What the values are, in one line."""
        return "emitters per voxel; a frame sums to its emitters with light on the grid"

    def axes(self, source: Any) -> tuple[Axis, ...]:
        """Planes from low to high, rows and columns of voxels."""
        check_molecules(source.recipe)
        low, high = self.range_nm(source.recipe)
        planes = max(1, math.ceil((high - low) / self.plane_nm - 1e-9))
        lowest = 0.5 * (low + high - planes * self.plane_nm)
        middles: Floats = lowest + self.plane_nm * (np.arange(planes, dtype=np.float64) + 0.5)
        planes_nm = Axis("fine_z", middles, "nm", "middles of the voxels above the coverslip")
        return planes_nm, *fine_axes(source.recipe, self.upsampling)

    def range_nm(self, recipe: Recipe) -> tuple[float, float]:
        """Lowest and highest height [nm] whose emitters are counted, both included.

        Raises
        ------
        SimscopeError
            If heights have no bounds, or the one given lies beyond those of the recipe.
        """
        low, high = self.z_min_nm, self.z_max_nm
        if low is None or high is None:
            lowest, highest = height_range_nm(recipe)
            low, high = lowest if low is None else low, highest if high is None else high
        if low > high:
            raise DatasetError(
                f"target voxels would reach from {low:g} to {high:g} nm: give z_min_nm and z_max_nm"
            )
        return low, high

    def _made(self, source: Any, chunk: Any) -> npt.NDArray[np.float32]:
        recipe, rows = source.recipe, chunk.emitters
        low, high = self.range_nm(recipe)
        seen = lit_in_frame(rows, recipe) & (rows["z_nm"] >= low) & (rows["z_nm"] <= high)
        cell_nm = recipe.pixel_nm / self.upsampling
        middles = self.axes(source)[0].values
        z = (_column(rows, "z_nm", seen) - middles[0]) / self.plane_nm + 0.5
        z = np.clip(z, 0.0, len(middles))  # rounding may move the ends of the range off the grid
        x, y = (_column(rows, name, seen) / cell_nm for name in ("x_nm", "y_nm"))
        frame = frame_of_row(chunk.emitter_offsets)[seen]
        shape = (len(chunk.emitter_offsets) - 1, *self.shape(source))
        return voxel_map(frame, z, y, x, shape, self.blur_cells)


def check_molecules(recipe: Recipe) -> None:
    """Return nothing; DatasetError where a recipe has no molecules to count."""
    if isinstance(recipe.structure, VOLUMES):
        raise DatasetError(
            f"a structure of kind {recipe.structure.kind} has no molecules to count: ask for "
            "targets clean or labels"
        )


def density_map(
    frame: npt.NDArray[np.int64], x_cells: Floats, y_cells: Floats, shape: tuple[int, ...],
    blur_cells: float,
) -> npt.NDArray[np.float32]:  # fmt: skip
    """Emitters per cell, float32 ``shape`` = (frames, y, x), one Gaussian an emitter.

    Positions count cells from the outer corner, rows come sorted by frame; emitters outside the map
    are left out. A Gaussian at the border keeps its weight of one on the cells of the map.
    """
    frames, *flat = shape
    plane = np.full(len(x_cells), 0.5)
    whole = (frames, 1, *flat)
    return voxel_map(frame, plane, y_cells, x_cells, whole, blur_cells).reshape(shape)


def voxel_map(
    frame: npt.NDArray[np.int64], z_cells: Floats, y_cells: Floats, x_cells: Floats,
    shape: tuple[int, ...], blur_cells: float,
) -> npt.NDArray[np.float32]:  # fmt: skip
    """Emitters per voxel, float32 ``shape`` = (frames, z, y, x), as in :func:`density_map`.

    Along z the upper end of the grid belongs to it.
    """
    out = np.zeros(shape, np.float32)
    z, y, x = (np.asarray(cells, np.float64) for cells in (z_cells, y_cells, x_cells))
    keep = (z >= 0) & (z <= shape[1]) & (y >= 0) & (y < shape[2]) & (x >= 0) & (x < shape[3])
    offsets = np.searchsorted(frame, np.arange(shape[0] + 1)).astype(np.int64)
    inside = slice(int(offsets[0]), int(offsets[-1]))
    blur = float(blur_cells)
    reach = max(1, math.ceil(3 * blur)) if blur > 0 else 0
    count_emitters(z[inside], y[inside], x[inside], keep[inside], offsets, reach, blur, out)
    return out


def lit_in_frame(emitters: Any, recipe: Recipe) -> npt.NDArray[np.bool_]:
    """Which rows have light and lie in the field of view, bool ``(rows,)``."""
    seen = in_frame(emitters, recipe.acquisition.shape, recipe.pixel_nm)
    return np.asarray(seen & (emitters["photons"] > 0))


def _column(emitters: Any, name: str, seen: npt.NDArray[np.bool_]) -> Floats:
    """A column of the rows seen, in double precision."""
    return np.asarray(emitters[name][seen], np.float64)


def frame_of_row(offsets: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Frame of each row, counted from the first of the offsets."""
    counts = np.diff(offsets)
    return np.repeat(np.arange(len(counts)), counts)
