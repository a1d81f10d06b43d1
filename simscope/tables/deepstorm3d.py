"""Labels of DeepSTORM3D's training folder: micrometres from the centre of the middle pixel.

A label is ``xyz`` of shape ``(1, emitters, 3)``: x along columns, y along rows, both 0 in the
centre of pixel ``floor(n / 2)`` counted from 0, where the Fourier transform puts an emitter of no
phase and the cropping layer cuts around it (``physics_utils.py``); its frames are odd in both
directions, and 0 is then the middle of the frame. z is the height above the coverslip, between
``zmin`` and ``zmax``, with the focus at ``NFP`` (``EmittersToPhases``).

Its loader puts a label into voxel ``floor(x / s) + 4 floor(n / 2)`` of a grid with ``s`` a quarter
pixel (``batch_xyz_to_boolean_grid``), half a camera pixel from the image; the network learns the
offset, and its result is read with the same rule. Labels that fall outside the grid stop its
loader: :func:`on_grid` tells them. Source: Nehme et al., Nat. Methods 17, 734 (2020).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from simscope.errors import TableError
from simscope.tables.columns import Columns, positions

UPSAMPLING = 4


def labels_um(columns: Columns, shape: Sequence[int], pixel_nm: float) -> npt.NDArray[np.float64]:
    """Labels ``(1, emitters, 3)`` of one frame [um]; ``shape`` is its rows and columns.

    Raises
    ------
    TableError
        If the frame is even in a direction, which DeepSTORM3D's are not.
    """
    height, width = _odd(shape)
    middle_nm = np.array([width // 2 + 0.5, height // 2 + 0.5, 0.0]) * [pixel_nm, pixel_nm, 1.0]
    return (positions(columns) - middle_nm)[None] * 1e-3


def on_grid(
    labels: npt.NDArray[np.float64],
    shape: Sequence[int],
    pixel_nm: float,
    z_range_um: tuple[float, float],
) -> npt.NDArray[np.bool_]:
    """Which labels ``(1, emitters, 3)`` fall into the loader's grid, bool ``(emitters,)``."""
    height, width = _odd(shape)
    voxel_um = pixel_nm * 1e-3 / UPSAMPLING
    inside = (labels[0, :, 2] >= z_range_um[0]) & (labels[0, :, 2] < z_range_um[1])
    for axis, size in enumerate((width, height)):
        index = np.floor(labels[0, :, axis] / voxel_um) + UPSAMPLING * (size // 2)
        inside &= (index >= 0) & (index < UPSAMPLING * size)
    return inside


def _odd(shape: Sequence[int]) -> tuple[int, int]:
    height, width = (int(size) for size in shape)
    if height % 2 == 0 or width % 2 == 0:
        raise TableError(
            f"frames of {height} x {width} pixels are even, DeepSTORM3D's are odd: simulate "
            f"{height + 1 - height % 2} x {width + 1 - width % 2}"
        )
    return height, width
