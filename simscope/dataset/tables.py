"""Emitter tables to and from files of any software, put in their place as datasets are.

Conventions and layouts stand in :mod:`simscope.tables`; what is read has frames from 0 and nm from
the outer corner of the first pixel.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy.typing as npt

from simscope import tables
from simscope.dataset.output import output_target, replacing
from simscope.dataset.read import open_dataset
from simscope.errors import DatasetError, SimscopeWarning
from simscope.tables.formats import AUTO, companion, write_alone

HDF5_SUFFIXES = (".h5", ".hdf5")
MARK = "format"
"""Root attribute by which a dataset is told from a table."""


def write_localizations(
    path: str | os.PathLike[str],
    table: npt.NDArray[Any],
    *,
    format: str | None = None,
    pixel_nm: float | None = None,
    shape: tuple[int, int] | None = None,
    frames: int | None = None,
    force: bool = False,
    inputs: Sequence[str | os.PathLike[str]] = (),
) -> Path:
    """Path of a new file with an emitter table, in the format named or usual for its ending.

    ``table`` is a structured array with ``frame`` (from 0), ``x_nm``, ``y_nm`` and optionally
    ``z_nm``, ``photons`` and more. Formats are those of :mod:`simscope.tables`; without a name
    ``.csv`` is ThunderSTORM's, ``.h5`` and ``.npy`` simscope's own, ``.mat`` SMAP's. ``pixel_nm``,
    ``shape`` and ``frames`` of the movie are needed by formats that state or use them. A column
    that is NaN all over, such as the height a 2-D network cannot know, is left out.

    Raises
    ------
    DatasetError
        If the file exists (unless ``force``), is one of ``inputs``, cannot be written, or a column
        is missing or not finite.
    """
    path = Path(path)
    name = tables.format_for(path, format)
    imaging = tables.Imaging(pixel_nm, shape, frames)
    beside = companion(path, name, imaging)
    if beside is not None:
        output_target(beside[0], force=force, inputs=inputs)
    with replacing(path, force=force, inputs=inputs) as part:
        write_alone(part, table, name, imaging, path.suffix.lower())
    if beside is not None:
        with replacing(beside[0], force=force, inputs=inputs) as part:
            part.write_text(beside[1], encoding="utf-8")
    return path


def read_localizations(
    path: str | os.PathLike[str], *, format: str = AUTO, pixel_nm: float | None = None
) -> npt.NDArray[Any]:
    """Emitter table of a file of any software: structured array, frames from 0, lengths in nm.

    Has ``frame``, ``x_nm``, ``y_nm`` and whatever of ``id``, ``z_nm``, ``photons`` and further
    columns the file holds. A table may have no rows.

    Raises
    ------
    TableError
        If the file is missing, unreadable, of no known format, or lacks a column; if the pixel is
        needed and neither stated in the file nor given.
    """
    columns = tables.read(path, format=format, pixel_nm=pixel_nm)
    if "frame" not in columns:
        raise DatasetError(f"{path} lacks ['frame']; its columns are {list(columns)}: number them")
    return tables.to_records(columns)


def read_emitters(
    path: str | os.PathLike[str], *, format: str = AUTO, pixel_nm: float | None = None
) -> npt.NDArray[Any]:
    """Emitters on the pixels of a dataset, or a table of localisations, frames from 0.

    Raises
    ------
    DatasetError
        If the file is neither, or cannot be read.
    """
    if format == AUTO and is_dataset(Path(path)):
        with open_dataset(path) as data:
            return data.emitters_in_frame
    return read_localizations(path, format=format, pixel_nm=pixel_nm)


def read_truth(
    path: str | os.PathLike[str], *, format: str = AUTO, pixel_nm: float | None = None
) -> npt.NDArray[Any]:
    """Emitters to be found: of a dataset those on its pixels, of a table all.

    Raises
    ------
    DatasetError
        If the file is neither, or cannot be read.

    Warns
    -----
    SimscopeWarning
        With the number of emitters left out because they lie beside the frame.
    """
    if format != AUTO or not is_dataset(Path(path)):
        return read_localizations(path, format=format, pixel_nm=pixel_nm)
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


def movie_of(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Pixel [nm], shape (rows, columns) and number of frames of a dataset, as formats ask for.

    Raises
    ------
    DatasetError
        If it is no dataset or cannot be read.
    """
    with open_dataset(path) as data:
        return {
            "pixel_nm": data.pixel_nm,
            "shape": tuple(data.sample_shape[-2:]),
            "frames": len(data) * data.frames_per_sample,
        }


def is_dataset(path: Path) -> bool:
    """Whether a file says it is a dataset, or is HDF5 so damaged that only a dataset's reader can
    say what is wrong with it.
    """
    if path.suffix.lower() not in HDF5_SUFFIXES or not path.is_file():
        return False
    try:
        with h5py.File(path, "r") as file:
            return MARK in file.attrs
    except (OSError, RuntimeError):
        return True
