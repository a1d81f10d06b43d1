"""Which object lies where: labels of voxels, and of camera pixels.

Objects are those of a user's label image, or the bodies of a texture: voxels inside bodies that
touch by their faces are one object (the field is above its level there, brightness at least half).

A camera pixel bears the label that covers most of it, background counted as label 0; of equals the
lowest. Seen from above (``projection``) a column of voxels bears the label most of its voxels have,
background left out, so that an object shows wherever there is any of it. In focus (``focus``) it
bears the label of the voxel that holds the nominal focal plane; above and below the volume there is
background.
"""

from __future__ import annotations

import math
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import scipy  # its parts load on first use

from simscope.errors import SampleError
from simscope.kernels.majority import bin_labels, project_labels
from simscope.keys import Key
from simscope.recipe import FocusStack, LabelsStructure, Recipe, TextureStructure
from simscope.recipe.draws import draw_samples
from simscope.sample.volume_files import MOST_LABELS
from simscope.sample.volumes import (
    VolumeGrid,
    cut_out,
    object_brightness,
    volume_grid,
    volume_values,
    voxel_nm,
)

Labels = npt.NDArray[np.uint16]
Section = Literal["projection", "focus"]
OBJECT_DTYPE = np.dtype([("label", np.uint16), ("brightness", np.float32), ("pixels", np.int64)])
INSIDE = 0.5
"""Value of a texture on the surface of its bodies."""


def check_objects(recipe: Recipe) -> None:
    """Return nothing; SampleError where a recipe has no objects to label."""
    structure = recipe.structure
    if isinstance(structure, LabelsStructure):
        return
    if isinstance(structure, TextureStructure) and structure.form == "bodies":
        return
    form = f" of form {_shown(structure.form)}" if isinstance(structure, TextureStructure) else ""
    raise SampleError(
        f"a structure of kind {structure.kind}{form} has no objects to label: use kind labels, or "
        "kind texture of form bodies"
    )


def _shown(form: str | tuple[str, ...]) -> str:
    return form if isinstance(form, str) else "|".join(form)


def camera_labels(recipe: Recipe, key: Key, sample: int, section: Section) -> Labels:
    """Object each camera pixel of a sample shows, uint16 (planes, y, x), 0 background.

    One plane, but those of a focus stack where ``section`` is ``focus``.

    Raises
    ------
    SampleError
        If the recipe has no objects, or more than labels can name.
    """
    check_objects(recipe)
    grid = volume_grid(recipe)
    draws = draw_samples(recipe, key, np.array([sample], np.int64))
    drawn = {path: float(values[0]) for path, values in draws.items()}
    labels = object_labels(recipe, key, sample, drawn, grid)
    if section == "projection":
        return on_camera(projected(labels), grid)[None]
    structure: Any = recipe.structure
    focus: Any = recipe.acquisition.focus_nm
    stacked = isinstance(focus, FocusStack)
    foci = focus.positions_nm if stacked else [drawn.get("acquisition.focus_nm", focus)]
    lowest, pitch = drawn.get("structure.z_nm", structure.z_nm), voxel_nm(structure)[0]
    return np.stack([on_camera(in_focus(labels, at, lowest, pitch), grid) for at in foci])


def objects_in_frame(recipe: Recipe, key: Key, sample: int) -> npt.NDArray[Any]:
    """Objects of a sample seen from above, ``OBJECT_DTYPE``, sorted by label.

    ``brightness`` is that drawn for the object, 1 for bodies; ``pixels`` counts those it covers.

    Raises
    ------
    SampleError
        As :func:`camera_labels`.
    """
    labels, counts = np.unique(camera_labels(recipe, key, sample, "projection"), return_counts=True)
    seen = labels > 0
    table = np.ones(int(seen.sum()), OBJECT_DTYPE)
    table["label"], table["pixels"] = labels[seen], counts[seen]
    if isinstance(recipe.structure, LabelsStructure):
        table["brightness"] = object_brightness(recipe.structure, key, sample)[table["label"]]
    return table


def object_labels(
    recipe: Recipe, key: Key, sample: int, drawn: dict[str, float], grid: VolumeGrid
) -> Labels:
    """Object of every voxel of a sample, uint16 (z, y, x), 0 background; margins included.

    Raises
    ------
    SampleError
        If the recipe has no objects, or more than labels can name.
    """
    structure = recipe.structure
    if isinstance(structure, LabelsStructure):
        return cut_out(structure, recipe, drawn, grid)
    inside = volume_values(recipe, key, sample, drawn, grid) >= np.float32(INSIDE)
    bodies, count = scipy.ndimage.label(inside)
    if count > MOST_LABELS:
        raise SampleError(
            f"sample {sample} has {count} bodies, more than {MOST_LABELS}: raise "
            "structure.scale_um, or image a smaller frame"
        )
    return np.asarray(bodies, np.uint16)


def projected(labels: Labels) -> Labels:
    """Labels seen from above, uint16 (y, x) of voxels."""
    out = np.empty(labels.shape[1:], np.uint16)
    project_labels(labels, out)
    return out


def in_focus(labels: Labels, focus_nm: float, lowest_nm: float, pitch_nm: float) -> Labels:
    """Labels of the plane that holds a height, uint16 (y, x) of voxels; 0 beyond the volume.

    ``lowest_nm``: middle of the lowest plane of voxels, each ``pitch_nm`` high.
    """
    plane = math.floor((focus_nm - lowest_nm) / pitch_nm + 0.5)
    if 0 <= plane < len(labels):
        return labels[plane]
    return np.zeros(labels.shape[1:], np.uint16)


def on_camera(fine: Labels, grid: VolumeGrid) -> Labels:
    """Labels of camera pixels of the frame, uint16 (y, x), from those of voxels, with margins."""
    margin = grid.margin_px * grid.per_pixel
    inside: Any = fine[margin : fine.shape[0] - margin, margin : fine.shape[1] - margin]
    out = np.empty(
        (inside.shape[0] // grid.per_pixel, inside.shape[1] // grid.per_pixel), np.uint16
    )
    bin_labels(inside, grid.per_pixel, out)
    return out
