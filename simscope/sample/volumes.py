"""Continuous structures: cut out of a user's volume or labels, or made up for every sample.

A volume covers the frame and a margin of whole pixels around it. Random ones are those of
:mod:`simscope.sample.textures`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from simscope.elementary import exp
from simscope.errors import SampleError
from simscope.keys import Key
from simscope.memory import MOST_VOXELS
from simscope.recipe import (
    VOLUMES,
    LabelsStructure,
    Recipe,
    TextureStructure,
    VolumeStructure,
)
from simscope.recipe.draws import draw_emitters, number_of
from simscope.sample.fields import random_field
from simscope.sample.textures import texture_values
from simscope.sample.volume_files import volume_file, voxel_pitch_nm

Floats = npt.NDArray[np.float64]
Singles = npt.NDArray[np.float32]
FromFile = VolumeStructure | LabelsStructure
Continuous = FromFile | TextureStructure


@dataclass(frozen=True)
class VolumeGrid:
    """Voxels (z, y, x) of a sample's volume, and how many pixels of margin are among them."""

    shape: tuple[int, int, int]
    per_pixel: int
    margin_px: int


def volume_grid(recipe: Recipe) -> VolumeGrid:
    """The voxels that cover the frame and the margin.

    Raises
    ------
    SampleError
        If voxels do not fill pixels, or the file has too few of them.
    """
    structure = recipe.structure
    assert isinstance(structure, VOLUMES)
    count = _voxels_per_pixel(voxel_nm(structure), recipe.pixel_nm)
    margin = math.ceil(structure.margin_nm / recipe.pixel_nm)
    height, width = ((pixels + 2 * margin) * count for pixels in recipe.acquisition.shape)
    if isinstance(structure, TextureStructure):
        planes = structure.planes
    else:
        planes = _check_file(structure, (height, width))
    if planes * height * width > MOST_VOXELS:
        raise SampleError(
            f"a volume of {planes} x {height} x {width} voxels is larger than {MOST_VOXELS} "
            "voxels: use a smaller frame or margin_nm, larger voxels or fewer planes"
        )
    return VolumeGrid((planes, height, width), count, margin)


def volume_values(
    recipe: Recipe, key: Key, sample: int, drawn: dict[str, float], grid: VolumeGrid
) -> Singles:
    """Values of a sample's volume from 0 up, float32 (z, y, x); ``drawn``: its numbers."""
    structure = recipe.structure
    if isinstance(structure, VolumeStructure):
        highest = np.float32(volume_file(structure).highest)
        return cut_out(structure, recipe, drawn, grid).astype(np.float32) / highest
    if isinstance(structure, LabelsStructure):
        return _shining_objects(structure, recipe, key, sample, drawn, grid)
    assert isinstance(structure, TextureStructure)
    return texture_values(recipe, structure, key, sample, drawn, grid.shape)


def volume_photons(
    recipe: Recipe, key: Key, sample: int, drawn: dict[str, float], grid: VolumeGrid
) -> Singles:
    """Photons of every voxel in a frame towards the camera, float32 (z, y, x)."""
    structure: Any = recipe.structure
    voxel_um3 = math.prod(voxel_nm(structure)) * 1e-9
    each = number_of(recipe, drawn, "photophysics.photons_per_um3") * voxel_um3
    return volume_values(recipe, key, sample, drawn, grid) * np.float32(each)


def plane_count(structure: Continuous) -> int:
    """Planes of voxels."""
    if isinstance(structure, TextureStructure):
        return structure.planes
    return int(volume_file(structure).values.shape[0])


def voxel_nm(structure: Continuous) -> tuple[float, float, float]:
    """Pitch of the voxels (z, y, x) [nm]."""
    if isinstance(structure, TextureStructure):
        return structure.voxel_nm
    return voxel_pitch_nm(structure)


def _voxels_per_pixel(pitch_nm: tuple[float, float, float], pixel_nm: float) -> int:
    _, pitch_y, pitch_x = pitch_nm
    count = max(1, round(pixel_nm / pitch_x))
    if pitch_y != pitch_x or not math.isclose(count * pitch_x, pixel_nm, rel_tol=1e-6):
        raise SampleError(
            f"voxels of {pitch_y:g} x {pitch_x:g} nm do not fill pixels of {pixel_nm:g} nm: "
            f"resample to voxel_nm [{pitch_nm[0]:g}, {pixel_nm / count:g}, {pixel_nm / count:g}]"
        )
    return count


def _check_file(structure: FromFile, needed: tuple[int, int]) -> int:
    """Planes in the file; SampleError unless the frame can be cut out of it."""
    planes, height, width = volume_file(structure).values.shape
    sides = [needed, needed[::-1]] if _may_lie_across(structure) else [needed]
    for rows, columns in sides:
        if height < rows or width < columns:
            raise SampleError(
                f"{structure.path} has {height} x {width} voxels across, a frame with its margin "
                f"needs {rows} x {columns}: use a smaller acquisition.shape or margin_nm, or only "
                "turns that fit, such as turn: {choice: [0, 2, 4, 6]}"
            )
    return int(planes)


def _may_lie_across(structure: FromFile) -> bool:
    """Whether a sample may be turned by an odd number of quarters."""
    turn = structure.turn
    values = getattr(turn, "values", (turn,))
    return any(not isinstance(value, float | int) or round(value) % 2 for value in values)


def cut_out(
    structure: FromFile, recipe: Recipe, drawn: dict[str, float], grid: VolumeGrid
) -> npt.NDArray[Any]:
    """Voxels of the file that a sample shows, (z, y, x), turned as it says."""
    values = volume_file(structure).values
    turn = round(number_of(recipe, drawn, "structure.turn"))
    _, rows, columns = grid.shape
    if turn % 2:
        rows, columns = columns, rows
    spare_y, spare_x = values.shape[1] - rows, values.shape[2] - columns
    top, left = (
        _step(number_of(recipe, drawn, f"structure.crop_{axis}"), spare)
        for axis, spare in (("y", spare_y), ("x", spare_x))
    )
    piece = values[:, top : top + rows, left : left + columns]
    if turn >= 4:
        piece = piece[:, :, ::-1]
    # rows grow downwards, so turning x towards y is the opposite of numpy's sense
    return np.ascontiguousarray(np.rot90(piece, -(turn % 4), axes=(1, 2)))


def object_brightness(structure: LabelsStructure, key: Key, sample: int) -> Singles:
    """Brightness of every label of a structure in a sample, float32, that of background 0."""
    objects = np.arange(1, int(volume_file(structure).highest) + 1)
    drawn = draw_emitters(
        structure.brightness, key, "structure.brightness", element=objects, sample=sample
    )
    return np.concatenate([[0.0], drawn]).astype(np.float32)


def _shining_objects(
    structure: LabelsStructure, recipe: Recipe, key: Key, sample: int,
    drawn: dict[str, float], grid: VolumeGrid,
) -> Singles:  # fmt: skip
    """Brightness of every voxel: its object's, times smooth variations of mean 1."""
    labels = cut_out(structure, recipe, drawn, grid)
    values = object_brightness(structure, key, sample)[labels]
    contrast = number_of(recipe, drawn, "structure.contrast")
    if contrast > 0.0:
        steps = tuple(pitch / (1e3 * structure.scale_um) for pitch in voxel_nm(structure))
        field = random_field(key.child("structure/field"), sample, grid.shape, steps)
        values *= exp(contrast * (field.astype(np.float64) - 0.5 * contrast)).astype(np.float32)
    return values


def _step(share: float, spare: int) -> int:
    """The voxel that lies this share of the way, on every possible one alike."""
    return min(int(share * (spare + 1)), spare)
