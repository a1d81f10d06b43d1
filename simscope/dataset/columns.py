"""Arrays that grow while a file is written: one-dimensional columns, packed by whole chunks.

They are compressed outside HDF5, as images are, and checked sums run along: the SHA-256 of the
values as little-endian bytes in C order.
"""

from __future__ import annotations

import hashlib
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt

from simscope.dataset import codec, schema


def set_text(item: h5py.File | h5py.Dataset, name: str, text: str) -> None:
    """Attach a text of fixed length, UTF-8.

    Such a text lies in a header that has a checksum; one of variable length lies in a heap that has
    none, and HDF5 may search a damaged one for ever.
    """
    written = text.encode()
    kind = h5py.string_dtype("utf-8", max(1, len(written)))
    item.attrs.create(name, np.bytes_(written), dtype=kind)


def describe(dataset: h5py.Dataset, unit: str, description: str) -> None:
    """Attach unit and meaning to a dataset."""
    set_text(dataset, "unit", unit)
    set_text(dataset, "description", description)


def little_endian(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """The same values in C order with their low bytes first."""
    values = np.asarray(values)
    return np.ascontiguousarray(values, values.dtype.newbyteorder("<"))


def sha256_of(values: npt.NDArray[Any]) -> str:
    """SHA-256 of the values as little-endian bytes in C order."""
    return hashlib.sha256(little_endian(values).reshape(-1).view(np.uint8).data).hexdigest()


def write_whole(
    file: h5py.File, path: str, values: npt.NDArray[Any], packer: codec.Codec
) -> h5py.Dataset:
    """A new dataset of one packed chunk."""
    values = little_endian(values)
    stored = file.create_dataset(
        path, values.shape, values.dtype, chunks=values.shape, **packer.filters
    )
    corner = np.zeros((1, values.ndim), np.int64)
    codec.write_chunks(stored, corner, packer.pack(values.reshape(1, -1)))
    return stored


class ColumnWriter:
    """A column that grows at its end, with at most one chunk and what was last added in memory.

    Chunks have ``schema.ROWS_PER_CHUNK`` rows; a column shorter than that is a single one.
    """

    def __init__(
        self,
        file: h5py.File,
        path: str,
        dtype: npt.DTypeLike,
        packer: codec.Codec,
        *,
        unit: str,
        description: str,
    ):
        self.path = path
        self._file, self._packer = file, packer
        self._dtype = np.dtype(dtype).newbyteorder("<")
        self._unit, self._description = unit, description
        self._digest = hashlib.sha256()
        self._pending: list[npt.NDArray[Any]] = []
        self._rows = 0
        self._stored = 0
        self._dataset: h5py.Dataset | None = None

    def append(self, values: npt.NDArray[Any]) -> None:
        """Take further rows; none is written yet."""
        values = np.ascontiguousarray(values, self._dtype)
        self._digest.update(values.view(np.uint8).data)
        self._pending.append(values)
        self._rows += len(values)

    def write(self, rows: int) -> None:
        """Store the whole chunks among the first ``rows`` rows."""
        size = schema.ROWS_PER_CHUNK
        whole = (min(rows, self._rows) - self._stored) // size * size
        if whole > 0:
            taken = self._take(whole)
            self._grow(self._stored + whole, size)
            self._pack(taken.reshape(-1, size))

    def finish(self) -> str:
        """SHA-256 of all values, once the last of them are stored."""
        self.write(self._rows)
        left = self._rows - self._stored
        if not self._rows:
            dataset = self._file.create_dataset(self.path, (0,), self._dtype)
            describe(dataset, self._unit, self._description)
        elif left:
            size = schema.ROWS_PER_CHUNK if self._stored else left
            last = np.zeros((1, size), self._dtype)
            last[0, :left] = self._take(left)
            self._grow(self._rows, size)
            self._pack(last)
        return self._digest.hexdigest()

    def _take(self, count: int) -> npt.NDArray[Any]:
        """The first ``count`` pending values, which are pending no more."""
        values = np.concatenate(self._pending) if len(self._pending) > 1 else self._pending[0]
        self._pending = [values[count:].copy()] if count < len(values) else []
        return values[:count]

    def _grow(self, rows: int, size: int) -> None:
        if self._dataset is None:
            longest = None if size == schema.ROWS_PER_CHUNK else rows
            self._dataset = self._file.create_dataset(
                self.path, (rows,), self._dtype, maxshape=(longest,), chunks=(size,),
                **self._packer.filters,
            )  # fmt: skip
            describe(self._dataset, self._unit, self._description)
        else:
            self._dataset.resize((rows,))

    def _pack(self, chunks: npt.NDArray[Any]) -> None:
        corners = self._stored + chunks.shape[1] * np.arange(len(chunks), dtype=np.int64)
        codec.write_chunks(self._dataset, corners[:, None], self._packer.pack(chunks))
        self._stored += chunks.size
