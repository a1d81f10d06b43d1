"""HDF5 files of other programs, opened with every trouble told in a sentence."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy.typing as npt

from simscope.errors import TableError
from simscope.tables.columns import MOST_ROWS
from simscope.tables.heaps import require_sound_heaps

LONGEST_TEXT = 1 << 24


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
        require_sound_heaps(path)
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
    shaped = bool(getattr(item, "shape", None)) and not is_group(item)
    return shaped and dtype is not None and dtype.kind in "fiubV"


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
    _require_fields_apart(path, item)
    if item.is_virtual:
        for source in item.virtual_sources():
            if source.file_name != "." and not (path.parent / source.file_name).is_file():
                raise TableError(
                    f"{path}: {item.name} has a part in {source.file_name}, which is missing: put "
                    "it beside the file"
                )
    return item[()]


def text(path: Path, item: Any) -> bytes:
    """The bytes of a text in a file.

    Raises
    ------
    TableError
        If it is no text, or is declared longer than :data:`LONGEST_TEXT`, for which HDF5 would
        take the memory before it looks.
    """
    dtype = getattr(item, "dtype", None)
    if is_group(item) or dtype is None or dtype.kind not in "OS" or item.shape != ():
        raise TableError(f"{path}: {getattr(item, 'name', 'it')} is no text: save the table anew")
    if _declared_length(path, item) > LONGEST_TEXT:
        raise TableError(f"{path}: {item.name} is no text of at most {LONGEST_TEXT:,} bytes")
    content = item[()]
    return content if isinstance(content, bytes) else str(content).encode()


def _declared_length(path: Path, item: Any) -> float:
    """Length in bytes of a text, as it stands before the text; infinite where it cannot be seen."""
    if item.dtype.kind == "S":
        return int(item.dtype.itemsize)
    offset = item.id.get_offset()
    if offset is None:
        return math.inf
    with path.open("rb") as file:
        file.seek(offset)
        return int.from_bytes(file.read(4), "little")


def _require_fields_apart(path: Path, item: Any) -> None:
    """Raise where fields of a row overlap, as HDF5 would then write beyond the memory it reads to,
    or where one is no number.
    """
    fields = sorted((item.dtype.fields or {}).values(), key=lambda field: field[1])
    ends = [offset + dtype.itemsize for dtype, offset, *_ in fields]
    starts = [offset for _, offset, *_ in fields[1:]] + [item.dtype.itemsize]
    overlap = any(end > start for end, start in zip(ends, starts, strict=False))
    if overlap or any(dtype.kind not in "fiub" for dtype, *_ in fields):
        raise TableError(
            f"{path}: rows of {item.name} overlap or hold no numbers: the file is damaged, copy it "
            "anew"
        )
