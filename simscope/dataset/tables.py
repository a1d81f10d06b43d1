"""Emitter tables to and from files: ThunderSTORM's CSV layout, or HDF5 columns.

ThunderSTORM (Ovesny et al. 2014, Bioinformatics 30:2389) counts frames from 1; everything inside
simscope counts from 0. Positions share the origin: the outer corner of the first pixel.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt

from simscope.dataset.output import replacing
from simscope.dataset.read import open_dataset
from simscope.errors import DatasetError, SimscopeWarning
from simscope.sample.tables import read_csv_columns

GROUP = "localizations"
LAST_FRAME = 2.0**53
FARTHEST_NM = 1e12
CSV_NAMES = {
    "frame": "frame",
    "x_nm": "x [nm]",
    "y_nm": "y [nm]",
    "z_nm": "z [nm]",
    "photons": "intensity [photon]",
}
UNITS = {"x_nm": "nm", "y_nm": "nm", "z_nm": "nm", "photons": "photons"}
_TYPES = {"frame": np.int64, "id": np.int64}


def write_localizations(
    path: str | os.PathLike[str],
    table: npt.NDArray[Any],
    *,
    force: bool = False,
    inputs: Sequence[str | os.PathLike[str]] = (),
) -> Path:
    """Path of a new ``.csv`` or ``.h5`` file with an emitter table.

    ``table`` is a structured array with ``frame`` (from 0), ``x_nm``, ``y_nm`` and optionally
    ``z_nm``, ``photons``. CSV holds these alone, HDF5 every column. A column that is NaN all
    over, such as the height a 2-D network cannot know, is left out.

    Raises
    ------
    DatasetError
        If the file exists (unless ``force``), is one of ``inputs``, cannot be written, or a column
        is missing or not finite.
    """
    path = Path(path)
    names = _columns(table)
    suffix = path.suffix.lower()
    if suffix not in (".csv", ".h5", ".hdf5"):
        raise DatasetError(f"{path}: unknown kind {suffix!r}; use .csv or .h5")
    with replacing(path, force=force, inputs=inputs) as part:
        if suffix == ".csv":
            _write_csv(part, table, names)
        else:
            _write_hdf5(part, table, names)
    return path


def read_localizations(path: str | os.PathLike[str]) -> npt.NDArray[Any]:
    """Emitter table of a CSV or HDF5 file: structured array, frames from 0, lengths in nm.

    Has ``frame``, ``x_nm``, ``y_nm`` and whatever of ``id``, ``z_nm``, ``photons`` and further
    columns the file holds. CSV files count frames from 1. A table may have no rows.

    Raises
    ------
    DatasetError
        If the file is missing, unreadable, or lacks a column.
    SampleError
        If a CSV field is not a finite number.
    """
    path = Path(path)
    if not path.is_file():
        raise DatasetError(f"no table {path}: check the path")
    suffix = path.suffix.lower()
    if suffix == ".csv":
        columns = _read_csv(path)
    elif suffix in (".h5", ".hdf5"):
        columns = _read_hdf5(path)
    else:
        raise DatasetError(f"{path}: unknown kind {suffix!r}; use .csv or .h5")
    types = [(name, _TYPES.get(name, np.float64)) for name in columns]
    table = np.empty(len(columns["frame"]), np.dtype(types))
    for name, values in columns.items():
        table[name] = values
    _columns(table)
    return table


def read_emitters(path: str | os.PathLike[str]) -> npt.NDArray[Any]:
    """Emitters on the pixels of a dataset, or a table of localisations, frames from 0.

    Raises
    ------
    DatasetError, SampleError
        If the file is neither, or cannot be read.
    """
    path = Path(path)
    if path.suffix.lower() in (".h5", ".hdf5") and not _holds_localizations(path):
        with open_dataset(path) as data:
            return data.emitters_in_frame
    return read_localizations(path)


def read_truth(path: str | os.PathLike[str]) -> npt.NDArray[Any]:
    """Emitters to be found: of a dataset those on its pixels, of a table all.

    Raises
    ------
    DatasetError, SampleError
        If the file is neither, or cannot be read.

    Warns
    -----
    SimscopeWarning
        With the number of emitters left out because they lie beside the frame.
    """
    path = Path(path)
    if path.suffix.lower() not in (".h5", ".hdf5") or _holds_localizations(path):
        return read_localizations(path)
    with open_dataset(path) as data:
        inside, total = data.emitters_in_frame, len(data.emitters)
    if len(inside) < total:
        warnings.warn(
            f"{total - len(inside)} of {total} emitter rows of {path} lie beside the frame, where "
            "nothing can be found, and are left out",
            SimscopeWarning,
            stacklevel=2,
        )
    return inside


def _holds_localizations(path: Path) -> bool:
    try:
        with h5py.File(path, "r") as file:
            return GROUP in file
    except (OSError, RuntimeError):
        return False


def _columns(table: npt.NDArray[Any]) -> list[str]:
    """Names of the columns that are known, once they are checked."""
    names = list(table.dtype.names or ())
    missing = {"frame", "x_nm", "y_nm"} - set(names)
    if missing:
        raise DatasetError(f"emitter table lacks {sorted(missing)}; its columns are {names}")
    known = [name for name in names if not len(table) or not np.all(np.isnan(table[name]))]
    for name in known:
        if not np.all(np.isfinite(table[name])):
            raise DatasetError(f"emitter table has a {name} that is not finite: remove such rows")
        if name.endswith("_nm") and np.any(np.abs(table[name]) > FARTHEST_NM):
            raise DatasetError(f"emitter table has a {name} beyond {FARTHEST_NM:g} nm: give nm")
    return known


def _write_csv(path: Path, table: npt.NDArray[Any], known: list[str]) -> None:
    names = [name for name in CSV_NAMES if name in known]
    header = ",".join(f'"{name}"' for name in ("id", *(CSV_NAMES[name] for name in names)))
    columns = [np.arange(1, len(table) + 1)]
    columns += [table[name] + (name == "frame") for name in names]
    formats = ["%d", "%d"] + ["%.3f"] * (len(names) - 1)
    np.savetxt(path, np.column_stack(columns), formats, delimiter=",", header=header, comments="")


def _read_csv(path: Path) -> dict[str, npt.NDArray[Any]]:
    columns = read_csv_columns(path, allow_empty=True)
    missing = {"frame", "x_nm", "y_nm"} - set(columns)
    if missing:
        raise DatasetError(f"{path} lacks {sorted(missing)}; its columns are {list(columns)}")
    _require_whole_frames(path, columns["frame"], lowest=1)
    columns["frame"] = columns["frame"] - 1
    return columns


def _require_whole_frames(path: Path, frame: npt.NDArray[Any], *, lowest: int) -> None:
    wrong = frame[~((frame >= lowest) & (frame <= LAST_FRAME) & (frame == np.round(frame)))]
    if len(wrong):
        raise DatasetError(
            f"{path} has frame {wrong[0]:g}: frames here are whole numbers from {lowest} to 2^53"
        )


def _write_hdf5(path: Path, table: npt.NDArray[Any], names: list[str]) -> None:
    with h5py.File(path, "w") as file:
        group = file.create_group(GROUP)
        for name in names:
            column = group.create_dataset(name, data=table[name])
            column.attrs["unit"] = UNITS.get(name, "1")


def _read_column(path: Path, name: str, item: h5py.Dataset | h5py.Group) -> npt.NDArray[Any]:
    if not isinstance(item, h5py.Dataset) or item.dtype.kind not in "fiu" or item.ndim != 1:
        raise DatasetError(f"{path}: {GROUP}/{name} is no column of numbers: give a table")
    return item[()]


def _read_hdf5(path: Path) -> dict[str, npt.NDArray[Any]]:
    try:
        with h5py.File(path, "r") as file:
            group = file.get(GROUP)
            if not isinstance(group, h5py.Group):
                raise DatasetError(f"{path} holds {sorted(file)}, no group {GROUP}: give a table")
            columns = {name: _read_column(path, name, item) for name, item in group.items()}
    except (OSError, RuntimeError) as error:
        cause = " ".join(str(error).split())
        raise DatasetError(f"{path} is no readable HDF5 file: {cause}") from None
    if "frame" in columns:
        _require_whole_frames(path, columns["frame"], lowest=0)
    if "frame" not in columns or len({values.shape for values in columns.values()}) != 1:
        raise DatasetError(f"{path} is no emitter table: its columns differ or lack frame")
    return columns
