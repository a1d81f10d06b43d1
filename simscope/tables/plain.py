"""simscope's own tables: CSV, NumPy and HDF5 under simscope's names, in simscope's convention.

Lengths in nm, ``x_nm`` along columns and ``y_nm`` along rows from the outer corner of the first
pixel, ``z_nm`` the height above the coverslip, frames from 0. A NumPy file holds rows with named
columns or a bare ``(n, 2)`` or ``(n, 3)`` array of x, y, z. An HDF5 file holds the columns under
``/localizations`` or ``/emitters``, or one array.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from simscope.errors import TableError
from simscope.tables import hdf5, text
from simscope.tables.columns import Columns, Imaging, as_columns, to_records
from simscope.tables.peek import Peek

GROUP = "localizations"
TRUTH = "emitters"
NOT_COLUMNS = ("offsets",)
UNITS = {"photons": "photons", "background": "photons", "background_std": "photons"}


def claims(peek: Peek) -> bool:
    """Whether the file is one of these."""
    if peek.kind == "npy":
        return True
    if peek.kind == "hdf5":
        return GROUP in peek.names or TRUTH in peek.names
    return bool({"x_nm", "y_nm"} & set(peek.names))


def read(path: Path, imaging: Imaging, peek: Peek) -> Columns:
    """Columns as they stand in the file."""
    if peek.kind == "npy":
        return _of_array(path, _read_npy(path))
    if peek.kind == "hdf5":
        return _read_hdf5(path, imaging.dataset)
    return text.read_columns(path)


def write(path: Path, columns: Columns, imaging: Imaging, suffix: str) -> None:
    """Write CSV, ``.npy`` or HDF5, after the suffix."""
    if suffix == ".npy":
        with path.open("wb") as file:
            np.save(file, to_records(columns), allow_pickle=False)
    elif suffix == ".csv":
        formats = ["%d" if name in ("frame", "id") else "%.17g" for name in columns]
        text.write_rows(path, ",".join(columns), formats, list(columns.values()))
    else:
        _write_hdf5(path, columns)


def _write_hdf5(path: Path, columns: Columns) -> None:
    with hdf5.created(path) as file:
        group = file.create_group(GROUP)
        for name, values in columns.items():
            column = group.create_dataset(name, data=values)
            column.attrs["unit"] = "nm" if name.endswith("_nm") else UNITS.get(name, "1")


def _read_npy(path: Path) -> Any:
    try:
        return np.load(path, allow_pickle=False, mmap_mode="r")
    except Exception as error:  # numpy parses the header with whatever fails on its way
        raise TableError(f"cannot read {path}: {' '.join(str(error).split())}") from None


def _of_array(path: Path, table: Any) -> Columns:
    if getattr(table.dtype, "names", None):
        return {name: np.array(values) for name, values in as_columns(table).items()}
    if table.ndim != 2 or table.shape[1] not in (2, 3):
        raise TableError(f"{path} has shape {table.shape}: give (n, 2) or (n, 3) of x, y, z in nm")
    names = ("x_nm", "y_nm", "z_nm")[: table.shape[1]]
    return {name: np.array(table[:, k]) for k, name in enumerate(names)}


def _read_hdf5(path: Path, dataset: str | None) -> Columns:
    with hdf5.opened(path) as file:
        item = _item(path, file, dataset)
        if not hdf5.is_group(item):
            return _of_array(path, hdf5.numbers(path, item))
        names = [name for name in item if name not in NOT_COLUMNS]
        return {name: hdf5.numbers(path, item[name]) for name in names}


def _item(path: Path, file: Any, dataset: str | None) -> Any:
    if dataset is not None:
        item = file.get(dataset)
        if item is None:
            raise TableError(f"{path} has no {dataset!r}: it holds {sorted(file)}")
        return item
    for name in (GROUP, TRUTH):
        if name in file:
            return file[name]
    if len(file) != 1:
        raise TableError(f"{path} holds {sorted(file)}: say which with dataset: name")
    return next(iter(file.values()))
