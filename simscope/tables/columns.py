"""Tables of emitters as columns of numbers under simscope's names, and what may stand in them.

Conventions: ``x_nm`` along columns and ``y_nm`` along rows from the outer corner of the first
pixel, ``z_nm`` the height, ``frame`` counted from 0, ``photons`` in that frame. Further columns,
all optional: ``id``; ``sigma_nm`` or ``sigma_x_nm`` and ``sigma_y_nm``, widths of the spot;
``background`` and ``background_std`` [photons/px]; ``uncertainty_nm``, ``uncertainty_z_nm``;
``probability``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from simscope.errors import TableError

Columns = dict[str, npt.NDArray[Any]]

ESSENTIAL = ("frame", "x_nm", "y_nm", "z_nm", "photons")
WHOLE = ("frame", "id")
LAST_WHOLE = 2.0**53
"""float64 counts no further one by one."""

FARTHEST_NM = 1e12
"""A kilometre: beyond, float64 no longer resolves a thousandth of a nanometre."""

MOST_ROWS = 100_000_000


@dataclass(frozen=True)
class Imaging:
    """What a table does not say by itself but a format may need.

    ``pixel_nm``: pixel in the sample; ``shape``: rows and columns of a frame; ``frames``: how many
    there are; ``axes``: what the first two coordinates of a table are, "xy" (column, row) or "yx";
    ``dataset``: array or group of an HDF5 file; ``sidecar``: whether a file beside it is read too.
    """

    pixel_nm: float | None = None
    shape: tuple[int, int] | None = None
    frames: int | None = None
    axes: str = "xy"
    dataset: str | None = None
    sidecar: bool = True

    def __post_init__(self) -> None:
        if self.pixel_nm is not None and not 0 < self.pixel_nm <= FARTHEST_NM:
            raise TableError(f"pixel_nm={self.pixel_nm} is not above 0: give the pixel in nm")
        if self.axes not in ("xy", "yx"):
            raise TableError(
                f"axes={self.axes!r} is neither 'xy' nor 'yx': say which coordinate comes first"
            )

    def require_pixel(self, what: str) -> float:
        """The pixel in the sample [nm].

        Raises
        ------
        TableError
            If none was given.
        """
        if self.pixel_nm is None:
            raise TableError(f"{what} needs the size of a pixel, and states none: give pixel_nm")
        return float(self.pixel_nm)

    def agreed_pixel(self, what: str, stated_nm: float | None) -> float:
        """The pixel [nm] a file states, or the one given where it states none.

        Raises
        ------
        TableError
            If there is neither, or they differ by more than a thousandth.
        """
        if stated_nm is None:
            return self.require_pixel(what)
        if not (np.isfinite(stated_nm) and stated_nm > 0):
            raise TableError(f"{what} states a pixel of {stated_nm} nm: correct it in the file")
        if self.pixel_nm is not None and abs(self.pixel_nm / stated_nm - 1) > 1e-3:
            raise TableError(
                f"{what} states a pixel of {stated_nm:g} nm, pixel_nm={self.pixel_nm:g}: leave "
                "pixel_nm out or correct it"
            )
        return float(stated_nm)


def as_columns(table: Any) -> Columns:
    """Columns of a structured array, a dictionary of arrays or a data frame, as arrays.

    Raises
    ------
    TableError
        If it has no named columns.
    """
    if isinstance(table, Mapping):
        return {str(name): np.asarray(values) for name, values in table.items()}
    names = getattr(getattr(table, "dtype", None), "names", None) or getattr(table, "columns", None)
    if names is None:
        raise TableError(f"a {type(table).__name__} has no named columns: give x_nm, y_nm, frame")
    return {str(name): np.asarray(table[name]) for name in names}


def with_lateral_uncertainty(columns: Columns) -> Columns:
    """The same columns and, where those of x and y are told apart, their ``uncertainty_nm``.

    The root of the mean variance, which is what one number for both directions can say.
    """
    apart = [columns.get(f"uncertainty_{axis}_nm") for axis in "xy"]
    if "uncertainty_nm" in columns or any(part is None for part in apart):
        return columns
    x, y = (np.asarray(part, np.float64) for part in apart)
    return columns | {"uncertainty_nm": np.sqrt((x**2 + y**2) / 2)}


def to_records(columns: Columns) -> npt.NDArray[Any]:
    """The columns as a structured array ``(rows,)``: frame and id int64, all else float64."""
    types = [(name, np.int64 if name in WHOLE else np.float64) for name in columns]
    rows = len(next(iter(columns.values()), ()))
    table = np.empty(rows, np.dtype(types))
    for name, values in columns.items():
        table[name] = values
    return table


def positions(columns: Columns) -> npt.NDArray[np.float64]:
    """Positions x, y, z [nm], float64 ``(rows, 3)``; absent heights are 0."""
    flat = np.zeros(len(columns["x_nm"]))
    return np.stack([columns.get(name, flat) for name in ESSENTIAL[1:4]], axis=1)


def checked(columns: Columns, what: str) -> Columns:
    """Columns that hold what a table of emitters may hold, in the order of their names' ranks.

    Columns that are NaN all over say nothing and are left out.

    Raises
    ------
    TableError
        If x or y is missing, columns differ in length, hold no numbers, or hold positions, frames
        or photons that are not finite or beyond all measure.
    """
    missing = [name for name in ("x_nm", "y_nm") if name not in columns]
    if missing:
        raise TableError(f"{what} lacks {missing}; its columns are {sorted(columns)}: add them")
    numbers = {name: _numbers(values, name, what) for name, values in columns.items()}
    lengths = {name: len(values) for name, values in numbers.items()}
    if len(set(lengths.values())) > 1:
        raise TableError(f"{what} has columns that differ in length, {lengths}: give one row each")
    known = {name: values for name, values in numbers.items() if not _unknown(values)}
    for name, values in known.items():
        _require_sensible(name, values, what)
    if not {"x_nm", "y_nm"} <= set(known):
        raise TableError(f"{what} has no position that is a number: give x and y in nm")
    first = [name for name in ESSENTIAL if name in known]
    ranked = first + [name for name in known if name not in first]
    return {name: known[name].astype(np.int64) if name in WHOLE else known[name] for name in ranked}


def _numbers(values: Any, name: str, what: str) -> npt.NDArray[Any]:
    values = np.asarray(values)
    if values.dtype.kind not in "fiub" or values.ndim != 1:
        raise TableError(
            f"{what}: column {name} is {values.dtype} of shape {values.shape}: give a number a row"
        )
    if len(values) > MOST_ROWS:
        raise TableError(f"{what} has {len(values):,} rows, the limit is {MOST_ROWS:,}: split it")
    return values


def _unknown(values: npt.NDArray[Any]) -> bool:
    return values.dtype.kind == "f" and len(values) > 0 and bool(np.isnan(values).all())


def _require_sensible(name: str, values: npt.NDArray[Any], what: str) -> None:
    if name not in ESSENTIAL and name not in WHOLE:
        return
    wrong = ~np.isfinite(values)
    if wrong.any():
        row = int(np.argmax(wrong))
        raise TableError(
            f"{what}: {name} is {values[row]} in row {row + 1}, not finite: remove such rows"
        )
    if name.endswith("_nm"):
        far = np.abs(values) > FARTHEST_NM
        if far.any():
            raise TableError(
                f"{what}: {name}={values[far][0]:g} lies beyond {FARTHEST_NM:g} nm: give nm"
            )
    if name in WHOLE:
        lowest = 0 if name == "frame" else -LAST_WHOLE
        require_whole(values, f"{what}: {name}", lowest)


def require_whole(values: npt.NDArray[Any], what: str, lowest: float = 0) -> None:
    """Raise TableError unless all values are whole numbers from ``lowest`` to 2^53."""
    wrong = ~((values >= lowest) & (values <= LAST_WHOLE) & (values == np.round(values)))
    if wrong.any():
        raise TableError(
            f"{what} {values[wrong][0]:g} in row {int(np.argmax(wrong)) + 1}: these are whole "
            f"numbers from {lowest:g} to 2^53 here"
        )


def frames_from_one(values: npt.NDArray[Any], what: str) -> npt.NDArray[Any]:
    """Frames counted from 0, of a file that counts from 1.

    Raises
    ------
    TableError
        If one is below 1 or no whole number.
    """
    require_whole(values, f"{what} has frame", lowest=1)
    return values - 1
