"""Named columns out of anybody's emitter table."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from simscope.errors import EvaluationError

Floats = npt.NDArray[np.float64]


def read_columns(table: Any, names: Sequence[str], what: str) -> dict[str, Floats]:
    """Columns ``names`` of ``table`` as float64 arrays of one shape ``(rows,)``.

    ``table`` is a structured array, a dict of arrays, a pandas data frame, or anything else whose
    columns are ``table[name]``; ``what`` names it in messages.

    Raises
    ------
    EvaluationError
        If a column is missing, not one-dimensional, not finite, or of another length, or if a
        frame is not a whole number.
    """
    columns = {name: _read_column(table, name, what) for name in names}
    lengths = {name: len(column) for name, column in columns.items()}
    if len(set(lengths.values())) > 1:
        raise EvaluationError(f"{what}: columns differ in length, {lengths}: give one row each")
    frames = columns.get("frame")
    if frames is not None and np.any(frames != np.round(frames)):
        bad = frames[frames != np.round(frames)][0]
        raise EvaluationError(f"{what}: frame={bad:g} is not a whole number: number the frames")
    return columns


def in_frame(
    table: Any, shape: tuple[int, int] | Sequence[int], pixel_nm: float
) -> npt.NDArray[np.bool_]:
    """Which rows of ``table`` lie on the ``(y, x)`` pixels of ``shape``, bool ``(rows,)``.

    A row counts if ``0 <= x_nm < width * pixel_nm`` and ``0 <= y_nm < height * pixel_nm``: the
    frame's own edge at 0 belongs to it, the far edge to its neighbour.

    Raises
    ------
    EvaluationError
        If a column is missing or not finite, or the frame has no area.
    """
    height, width = _checked_shape(shape)
    if not (np.isfinite(pixel_nm) and pixel_nm > 0):
        raise EvaluationError(f"pixel_nm={pixel_nm} is not above 0: give the pixel in the sample")
    columns = read_columns(table, ("x_nm", "y_nm"), "table")
    x_px, y_px = columns["x_nm"] / pixel_nm, columns["y_nm"] / pixel_nm
    inside: npt.NDArray[np.bool_] = (x_px >= 0) & (x_px < width) & (y_px >= 0) & (y_px < height)
    return inside


def _checked_shape(shape: Sequence[int]) -> tuple[int, int]:
    try:
        height, width = (int(size) for size in shape)
    except (TypeError, ValueError, OverflowError):
        height = width = 0
    if height < 1 or width < 1:
        raise EvaluationError(f"shape={shape} is no frame: give (height, width) in pixels")
    return height, width


def _read_column(table: Any, name: str, what: str) -> Floats:
    try:
        column = np.asarray(table[name], dtype=np.float64)
    except (KeyError, ValueError, IndexError, TypeError):
        raise EvaluationError(
            f"{what}: no column {name!r} of numbers; {_known_columns(table)}: add or rename it"
        ) from None
    if column.ndim != 1:
        raise EvaluationError(
            f"{what}: column {name!r} has {column.ndim} dimensions, not 1: give one number a row"
        )
    broken = ~np.isfinite(column)
    if broken.any():
        raise EvaluationError(
            f"{what}: column {name!r} holds {broken.sum()} values that are not finite "
            f"(first in row {int(np.argmax(broken))}): remove these rows"
        )
    return column


def _known_columns(table: Any) -> str:
    names = getattr(getattr(table, "dtype", None), "names", None)
    if names is None and hasattr(table, "keys"):
        names = tuple(str(key) for key in table.keys())  # noqa: SIM118  (data frames too)
    if not names:
        return f"a {type(table).__name__} without named columns"
    return f"there are {', '.join(map(str, names))}"
