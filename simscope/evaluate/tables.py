"""Named columns out of anybody's emitter table."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from simscope.errors import EvaluationError
from simscope.tables.columns import FARTHEST_NM, LAST_WHOLE

Floats = npt.NDArray[np.float64]


def read_columns(table: Any, names: Sequence[str], what: str) -> dict[str, Floats]:
    """Columns ``names`` of ``table`` as float64 arrays of one shape ``(rows,)``.

    ``table`` is a structured array, a dict of arrays, a pandas data frame, or anything else whose
    columns are ``table[name]``; ``what`` names it in messages.

    Raises
    ------
    EvaluationError
        If a column is missing, masked, not one-dimensional, not finite, or of another length, if
        a position is farther than 1e12 nm, or a frame is not a whole number below 2**53.
    """
    columns = {name: _read_column(table, name, what) for name in names}
    lengths = {name: len(column) for name, column in columns.items()}
    if len(set(lengths.values())) > 1:
        raise EvaluationError(f"{what}: columns differ in length, {lengths}: give one row each")
    for name, column in columns.items():
        far = np.abs(column) > FARTHEST_NM
        if name.endswith("_nm") and far.any():
            raise EvaluationError(
                f"{what}: {name}={column[far][0]:g} lies beyond {FARTHEST_NM:g} nm: give "
                "positions in nm"
            )
    if "frame" in columns:
        _require_frames(columns["frame"], what)
    return columns


def places_apart(tables: Sequence[Any], radius_nm: float) -> list[Floats]:
    """Places ``(rows, 3)`` [nm] of each table, for trees that search within ``radius_nm``.

    ``x_nm``, ``y_nm`` and a height by frame, so that those of two frames lie too far apart to meet.
    """
    frames = np.concatenate([table["frame"] for table in tables])
    index = np.unique(frames, return_inverse=True)[1].astype(np.float64)
    lengths = [len(table["frame"]) for table in tables]
    heights = np.split(3 * radius_nm * index, np.cumsum(lengths)[:-1])
    return [
        np.column_stack([table["x_nm"], table["y_nm"], height])
        for table, height in zip(tables, heights, strict=True)
    ]


def has_column(table: Any, name: str) -> bool:
    """Whether a table has a column of that name, and not one that is NaN all over.

    An empty column is one, as a network that found nothing has.
    """
    try:
        values = np.asarray(table[name])
    except (KeyError, ValueError, IndexError, TypeError):
        return False
    unknown = values.dtype.kind == "f" and values.size > 0 and bool(np.isnan(values).all())
    return not unknown


def _require_frames(frames: Floats, what: str) -> None:
    broken = frames != np.round(frames)
    if broken.any():
        raise EvaluationError(
            f"{what}: frame={frames[broken][0]:g} is not a whole number: number the frames"
        )
    beyond = np.abs(frames) >= LAST_WHOLE
    if beyond.any():
        raise EvaluationError(
            f"{what}: frame={frames[beyond][0]:g} is not below 2**53: number the frames from 0"
        )


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
        values = table[name]
        masked = int(np.ma.getmaskarray(values).sum()) if np.ma.isMaskedArray(values) else 0
        if np.iscomplexobj(values):
            raise TypeError("complex numbers have no order")
        column = np.asarray(values, dtype=np.float64)
    except (KeyError, ValueError, IndexError, TypeError, OverflowError):
        raise EvaluationError(
            f"{what}: no column {name!r} of numbers; {_known_columns(table)}: add or rename it"
        ) from None
    if masked:
        raise EvaluationError(
            f"{what}: column {name!r} has {masked} masked rows, and what lies under a mask is no "
            "value: leave these rows out"
        )
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
