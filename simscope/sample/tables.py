"""Read positions of molecules from tables people have: CSV, NumPy and HDF5.

ThunderSTORM's CSV layout (Ovesny et al. 2014, Bioinformatics 30:2389) names its columns
``"x [nm]"``; plain CSV files here name them ``x_nm``.
"""

from __future__ import annotations

import csv
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from simscope.errors import SampleError

Floats = npt.NDArray[np.float64]

THUNDERSTORM_NAMES = {
    "x [nm]": "x_nm",
    "y [nm]": "y_nm",
    "z [nm]": "z_nm",
    "intensity [photon]": "photons",
}


def read_positions(path: str | os.PathLike[str], dataset: str | None = None) -> Floats:
    """Positions x, y, z [nm] of all rows of a table, float64 ``(n, 3)``; absent z reads as 0.

    ``path`` ends in ``.csv``, ``.npy``, ``.h5`` or ``.hdf5``; ``dataset`` names the array or group
    in an HDF5 file, and may be left out if the file holds one array only.

    Raises
    ------
    SampleError
        If the file is missing or unreadable, has no rows, lacks x or y, or holds a number that is
        not finite.
    """
    path = Path(path)
    readers: dict[str, Callable[[], Floats]] = {
        ".csv": lambda: _positions_of(path, read_csv_columns(path)),
        ".npy": lambda: _positions_of(path, _read_npy(path)),
        ".h5": lambda: _positions_of(path, _read_hdf5(path, dataset)),
        ".hdf5": lambda: _positions_of(path, _read_hdf5(path, dataset)),
    }
    suffix = path.suffix.lower()
    if suffix not in readers:
        raise SampleError(f"{path}: unknown kind {suffix!r}; use {', '.join(readers)}")
    _require_file(path)
    return readers[suffix]()


def read_csv_columns(
    path: str | os.PathLike[str], *, allow_empty: bool = False
) -> dict[str, Floats]:
    """Columns of a CSV table by simscope's names, each float64 ``(rows,)``.

    ThunderSTORM's headers are translated (``"x [nm]"`` to ``x_nm``); others keep their names.

    Raises
    ------
    SampleError
        If there is no header, no row (unless ``allow_empty``), or a field that is not a finite
        number.
    """
    path = Path(path)
    _require_file(path)
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            header = next(csv.reader(file), [])
            names = [THUNDERSTORM_NAMES.get(name.strip(), name.strip()) for name in header]
            _require_header(path, names)
            body = _read_numbers(file)
    except (OSError, UnicodeDecodeError, csv.Error, ValueError) as error:
        if isinstance(error, SampleError):
            raise
        raise SampleError(f"cannot read {path}: {' '.join(str(error).split())}") from None
    if not body.size and allow_empty:
        return {name: np.empty(0) for name in names}
    if not body.size:
        raise SampleError(f"{path} has a header but no rows: give at least one position")
    if body.shape[1] != len(names):
        raise SampleError(f"{path} has {len(names)} headers but {body.shape[1]} columns: fix it")
    _require_finite(path, body)
    return {name: body[:, number].copy() for number, name in enumerate(names)}


def _require_file(path: Path) -> None:
    if not path.is_file():
        raise SampleError(f"no table {path}: check the path")


def _require_header(path: Path, names: list[str]) -> None:
    if not any(names):
        raise SampleError(f"{path} is empty: give a header and at least one row")
    if all(_is_number(name) for name in names):
        raise SampleError(f"{path} has no header: name the columns x_nm,y_nm,z_nm in the first row")
    repeated = {name for name in names if names.count(name) > 1}
    if repeated:
        raise SampleError(f"{path} names {sorted(repeated)} more than once: rename the columns")


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _read_numbers(lines: Iterable[str]) -> Floats:
    rows = [line for line in lines if line.strip()]
    if not rows:
        return np.empty((0, 0))
    return np.loadtxt(rows, delimiter=",", ndmin=2, quotechar='"', comments=None)


def _read_npy(path: Path) -> npt.NDArray[Any]:
    try:
        return np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise SampleError(f"cannot read {path}: {' '.join(str(error).split())}") from None


def _read_hdf5(path: Path, dataset: str | None) -> npt.NDArray[Any] | dict[str, npt.NDArray[Any]]:
    import h5py

    try:
        with h5py.File(path, "r") as file:
            item = file.get(dataset) if dataset else _only_array(path, file)
            if item is None:
                raise SampleError(f"{path} has no {dataset!r}: it holds {sorted(file)}")
            if isinstance(item, h5py.Dataset):
                return _numeric(path, item)
            names = [name for name in item if name in ("x_nm", "y_nm", "z_nm")]
            return {name: _numeric(path, item[name]) for name in names}
    except (OSError, RuntimeError) as error:
        raise SampleError(f"cannot read {path}: {' '.join(str(error).split())}") from None


def _numeric(path: Path, item: Any) -> npt.NDArray[Any]:
    """Content of an HDF5 dataset of numbers, or of rows with named columns."""
    if getattr(item, "dtype", None) is None or item.dtype.kind not in "fiuV" or not item.shape:
        raise SampleError(f"{path}: {item.name} is no array of numbers: name another with dataset")
    return item[()]


def _only_array(path: Path, file: Any) -> Any:
    if len(file) != 1:
        raise SampleError(f"{path} holds {sorted(file)}: say which with dataset: name")
    return next(iter(file.values()))


def _positions_of(path: Path, table: npt.NDArray[Any] | dict[str, npt.NDArray[Any]]) -> Floats:
    """Columns x, y, z of a plain array, a structured array or a dictionary of columns."""
    names = list(table) if isinstance(table, dict) else list(table.dtype.names or ())
    if isinstance(table, dict) or names:
        missing = {"x_nm", "y_nm"} - set(names)
        if missing:
            raise SampleError(f"{path} lacks {sorted(missing)}; its columns are {names}")
        chosen = [table[name] for name in ("x_nm", "y_nm", "z_nm") if name in names]
    elif table.ndim == 2 and table.shape[1] in (2, 3):
        chosen = list(table.T)
    else:
        raise SampleError(f"{path} has shape {table.shape}: give (n, 2) or (n, 3) of x, y, z in nm")
    positions = np.zeros((np.size(chosen[0]), 3))
    for number, values in enumerate(chosen):
        positions[:, number] = _numbers(path, values, len(positions))
    if not len(positions):
        raise SampleError(f"{path} has no rows: give at least one position")
    _require_finite(path, positions)
    return positions


def _numbers(path: Path, values: npt.NDArray[Any], rows: int) -> Floats:
    values = np.asarray(values)
    if values.dtype.kind not in "fiu" or values.shape != (rows,):
        raise SampleError(
            f"{path} has a column of {values.dtype} with shape {values.shape}: give {rows} numbers"
        )
    return values.astype(np.float64)


def _require_finite(path: Path, values: Floats) -> None:
    bad = np.argwhere(~np.isfinite(values))
    if len(bad):
        row, column = bad[0]
        raise SampleError(
            f"{path} row {row + 1}, column {column + 1} is {values[row, column]:g}: "
            "remove the row or give a finite number"
        )
