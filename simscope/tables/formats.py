"""Which format a table is in, by its content; reading and writing by the name of a format."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import numpy.typing as npt

from simscope.errors import TableError, did_you_mean
from simscope.tables import challenge, columns, decode, picasso, plain, smap, thunderstorm
from simscope.tables.columns import Columns, Imaging
from simscope.tables.peek import Peek, peek

Name = str | os.PathLike[str]

AUTO = "auto"


@dataclass(frozen=True)
class Format:
    """A software's tables: module with its convention, endings written, kinds of file read."""

    module: ModuleType
    suffixes: tuple[str, ...]
    kinds: tuple[str, ...]

    @property
    def companion(self) -> Callable[[Path, Imaging], tuple[Path, str]] | None:
        """What gives the file that belongs beside a table, if one does."""
        return getattr(self.module, "companion", None)


FORMATS = {
    "plain": Format(plain, (".csv", ".npy", ".h5", ".hdf5"), ("text", "npy", "hdf5")),
    "thunderstorm": Format(thunderstorm, (".csv",), ("text",)),
    "picasso": Format(picasso, (".hdf5", ".h5"), ("hdf5",)),
    "smap": Format(smap, (".mat", ".csv"), ("mat", "hdf5", "text")),
    "decode": Format(decode, (".h5", ".hdf5"), ("hdf5", "text")),
    "challenge": Format(challenge, (".csv",), ("text",)),
}
USUAL = {".csv": "thunderstorm", ".npy": "plain", ".h5": "plain", ".hdf5": "plain", ".mat": "smap"}
"""The format written to a file whose format is not named."""


def read(
    path: Name,
    *,
    format: str = AUTO,
    pixel_nm: float | None = None,
    axes: str = "xy",
    dataset: str | None = None,
    sidecar: bool = True,
) -> Columns:
    """Columns of a table in simscope's convention: nm from the first pixel's corner, frames from 0.

    Parameters
    ----------
    format
        One of :data:`FORMATS`, or "auto" to tell it by the content.
    pixel_nm
        Pixel in the sample [nm], for tables that count in pixels, or from a pixel's centre, and
        do not state it.
    axes
        "yx" where the first coordinate of a table is the row, as in DECODE's fits of frames that
        were not turned.
    dataset
        Array or group in an HDF5 file of simscope's own.
    sidecar
        Whether a file beside the table, as picasso's YAML, may state the pixel.

    Raises
    ------
    TableError
        If the file is missing or damaged, its format is none or more than one of those known, the
        pixel is needed and not known, or the numbers make no table.
    """
    path = Path(path)
    imaging = Imaging(pixel_nm=pixel_nm, axes=axes, dataset=dataset, sidecar=sidecar)
    seen = peek(path)
    name = _told(path, seen, imaging) if format == AUTO else _known(format)
    chosen = FORMATS[name]
    if seen.kind not in chosen.kinds:
        raise TableError(f"{path} is a file of kind {seen.kind}, which {name} never is: leave "
                         "format out, or name another")  # fmt: skip
    found = chosen.module.read(path, imaging, seen)
    if axes == "yx" and chosen.module is not decode:
        swapped = {"x_nm": "y_nm", "y_nm": "x_nm"}
        found = {swapped.get(key, key): values for key, values in found.items()}
    return columns.checked(found, str(path))


def read_positions(path: Name, **options: Any) -> npt.NDArray[np.float64]:
    """Positions x, y, z [nm] of all rows of a table, float64 ``(n, 3)``; absent z reads as 0.

    ``options`` are those of :func:`read`.

    Raises
    ------
    TableError
        As :func:`read`, or if the table has no rows.
    """
    found = read(path, **options)
    if not len(found["x_nm"]):
        raise TableError(f"{path} has a header but no rows: give at least one position")
    return columns.positions(found)


def _known(name: str) -> str:
    if name not in FORMATS:
        hint = did_you_mean(name, FORMATS) or f"known are {', '.join(FORMATS)}"
        raise TableError(f"format {name!r} is not known; {hint}")
    return name


def _told(path: Path, seen: Peek, imaging: Imaging) -> str:
    """The one format whose marks a file bears."""
    if imaging.dataset is not None:
        return "plain"
    names = [name for name, entry in FORMATS.items()
             if seen.kind in entry.kinds and entry.module.claims(seen)]  # fmt: skip
    if len(names) == 1:
        return names[0]
    if not names and seen.kind == "hdf5":
        return "plain"
    what = ", ".join(repr(name) for name in seen.names[:12]) or seen.kind
    if names:
        raise TableError(f"{path} ({what}) may be {' or '.join(names)}: say which with format")
    raise TableError(
        f"{path} ({what}) has the columns of none of {', '.join(FORMATS)}: name its columns as one "
        "of them does, such as x_nm, y_nm, frame"
    )


def format_for(path: Name, format: str | None = None) -> str:
    """The format to write to a file of this name: the one named, or the usual one of its ending.

    Raises
    ------
    TableError
        If the format or the ending is not known, or the two do not go together.
    """
    suffix = Path(path).suffix.lower()
    if format is None or format == AUTO:
        if suffix not in USUAL:
            raise TableError(f"{path}: unknown kind {suffix!r}; use {', '.join(USUAL)}")
        return USUAL[suffix]
    suffixes = FORMATS[_known(format)].suffixes
    if suffix not in suffixes:
        raise TableError(f"{path}: {format} is written to {' or '.join(suffixes)}, not {suffix!r}")
    return format


def write(
    path: Name,
    table: Any,
    *,
    format: str | None = None,
    pixel_nm: float | None = None,
    shape: tuple[int, int] | None = None,
    frames: int | None = None,
    axes: str = "xy",
) -> None:
    """Write a table to a new file, and beside it the file that its software asks for.

    ``table`` is a structured array, dictionary or data frame with ``frame``, ``x_nm``, ``y_nm`` and
    further columns in simscope's convention; ``shape`` (rows, columns) and ``frames`` are those of
    the movie.

    Raises
    ------
    TableError
        If a file is in the way, the format does not go with the name, or something the format needs
        is missing or no number.
    """
    path = Path(path)
    imaging = Imaging(pixel_nm, shape, frames, axes)
    name = format_for(path, format)
    beside = companion(path, name, imaging)
    for target in (path, *([beside[0]] if beside else [])):
        if target.exists():
            raise TableError(f"{target} exists: choose another name, or remove it first")
    try:
        write_alone(path, table, name, imaging, path.suffix.lower())
        if beside:
            beside[0].write_text(beside[1], encoding="utf-8")
    except OSError as error:
        raise TableError(f"cannot write {path}: {error.strerror or error}") from None


def companion(path: Path, name: str, imaging: Imaging) -> tuple[Path, str] | None:
    """Name and text of the file that belongs beside a table in this format, if one does."""
    entry = FORMATS[name]
    return None if entry.companion is None else entry.companion(path, imaging)


def write_alone(path: Path, table: Any, name: str, imaging: Imaging, suffix: str) -> None:
    """Write a table without what belongs beside it, to a path that may end in anything.

    Raises
    ------
    TableError
        As :func:`write`.
    """
    named = columns.with_lateral_uncertainty(columns.as_columns(table))
    given = columns.checked(named, "emitter table")
    if "frame" not in given:
        raise TableError(f"emitter table lacks ['frame']; its columns are {sorted(given)}: add it")
    FORMATS[name].module.write(path, given, imaging, suffix)
