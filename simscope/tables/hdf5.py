"""HDF5 files of other programs, opened with every trouble told in a sentence."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy.typing as npt

from simscope.errors import TableError
from simscope.tables.columns import MOST_ROWS


@contextmanager
def opened(path: Path) -> Iterator[Any]:
    """An HDF5 file open for reading.

    Raises
    ------
    TableError
        If it cannot be opened, or what is asked of it cannot be read.
    """
    import h5py

    try:
        with h5py.File(path, "r") as file:
            yield file
    except (OSError, RuntimeError, KeyError, ValueError, TypeError) as error:
        if isinstance(error, TableError):
            raise
        raise TableError(
            f"cannot read {path} as HDF5, {' '.join(str(error).split())}: copy it anew"
        ) from None


@contextmanager
def created(path: Path) -> Iterator[Any]:
    """A new HDF5 file open for writing."""
    import h5py

    with h5py.File(path, "w") as file:
        yield file


def nothing() -> Any:
    """What stands for an array that holds nothing: an empty float32 dataset without a shape."""
    import h5py

    return h5py.Empty("f")


def is_group(item: Any) -> bool:
    """Whether an item of a file is a group."""
    return hasattr(item, "keys")


def is_array(item: Any) -> bool:
    """Whether an item of a file is an array of numbers, or of rows with named columns."""
    dtype = getattr(item, "dtype", None)
    return not is_group(item) and dtype is not None and dtype.kind in "fiubV" and bool(item.shape)


def numbers(path: Path, item: Any) -> npt.NDArray[Any]:
    """The whole of an array in a file.

    Raises
    ------
    TableError
        If it is no array of numbers, declares too many rows, or has parts in files that are gone.
    """
    if not is_array(item):
        name = getattr(item, "name", "what was asked for")
        raise TableError(f"{path}: {name} is no array of numbers: name another with dataset")
    if item.size > 16 * MOST_ROWS:
        raise TableError(f"{path}: {item.name} declares {item.size:,} numbers: no table is so long")
    if item.is_virtual:
        for source in item.virtual_sources():
            if source.file_name != "." and not (path.parent / source.file_name).is_file():
                raise TableError(
                    f"{path}: {item.name} has a part in {source.file_name}, which is missing: put "
                    "it beside the file"
                )
    return item[()]
