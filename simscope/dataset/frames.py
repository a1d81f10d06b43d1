"""Arrays of a dataset file read chunk by chunk, unpacked outside HDF5.

HDF5 unpacks one chunk after the other under a lock that stops all other threads. Here it only hands
over the bytes that are stored; they are checked and unpacked beside it. Arrays that are stored in
another way than simscope's are read as h5py reads them.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt

from simscope.dataset import codec
from simscope.errors import DatasetError

BLOCK_BYTES = 16 << 20
"""Values held at a time by what goes through all of a dataset."""


class Frames:
    """An array of a file, opened for reading along its first axis.

    Fast where its chunks lie within one index of the first axis and cut at most the second axis,
    as all simscope writes do, or where the array has one axis.
    """

    def __init__(self, dataset: h5py.Dataset) -> None:
        self.dataset = dataset
        self.shape: tuple[int, ...] = dataset.shape
        self.dtype = dataset.dtype
        shape, chunks = self.shape, dataset.chunks
        self.codec = codec.of(dataset)
        self._lead = len(shape) > 1
        cut = 1 if self._lead else 0
        self._direct = (
            self.codec is not None
            and chunks is not None
            and chunks[:cut] == (1,) * cut
            and chunks[cut + 1 :] == shape[cut + 1 :]
            and 0 not in shape
        )
        self._whole = False
        if self._direct:
            self._whole = self._lead and shape[cut] == chunks[cut]
            self._rows, self._step = shape[cut], chunks[cut]
            self._inner = shape[cut + 1 :]
            self._zeros = (0,) * len(self._inner)

    def read(self, start: int, stop: int) -> npt.NDArray[Any]:
        """Values from ``start`` up to, not including, ``stop`` of the first axis.

        Raises
        ------
        DatasetError
            If what is stored is damaged.
        """
        if not self._direct:
            return self._slice(slice(start, stop))
        if not self._lead:
            return self._window(0, start, stop)
        out = np.empty((stop - start, *self.shape[1:]), self.dtype)
        for index in range(start, stop):
            if self._whole:
                self._unpack((index, 0, *self._zeros), out[index - start])
            else:
                self._fill(index, 0, self._rows, out[index - start])
        return out

    def one(self, index: int) -> npt.NDArray[Any]:
        """Values of one index of the first axis; raises as :meth:`read` does."""
        if not self._direct:
            return self._slice(index)
        if not self._lead:
            return self._window(0, index, index + 1)[0]
        if not self._whole:
            return self._window(index, 0, self._rows)
        out = np.empty(self.shape[1:], self.dtype)
        self._unpack((index, 0, *self._zeros), out)
        return out

    def into(self, index: int, out: npt.NDArray[Any]) -> None:
        """Put the values of one index of the first axis in ``out``; raises as :meth:`read` does."""
        if self._whole:
            self._unpack((index, 0, *self._zeros), out)
        else:
            out[...] = self.one(index)

    def window(self, index: int, first: int, last: int) -> npt.NDArray[Any]:
        """Values of ``[index, first:last]``: frames of a movie; raises as :meth:`read` does."""
        if not (self._direct and self._lead):
            return self._slice((index, slice(first, last)))
        return self._window(index, first, last)

    def _window(self, index: int, first: int, last: int) -> npt.NDArray[Any]:
        out = np.empty((last - first, *self._inner), self.dtype)
        self._fill(index, first, last, out)
        return out

    def _fill(self, index: int, first: int, last: int, out: npt.NDArray[Any]) -> None:
        """Put rows of the axis that is cut into chunks in ``out``."""
        for begin, a, b in self._chunks(first, last):
            corner = (index, begin, *self._zeros) if self._lead else (begin,)
            to = out[a - first : b - first]
            if b - a == self._step:
                self._unpack(corner, to)
            else:
                whole = np.empty((self._step, *self._inner), self.dtype)
                self._unpack(corner, whole)
                to[...] = whole[a - begin : b - begin]

    def _chunks(self, first: int, last: int) -> Iterator[tuple[int, int, int]]:
        """First row of every chunk, and the rows of it that lie in the range."""
        for begin in range(first // self._step * self._step, last, self._step):
            yield begin, max(begin, first), min(begin + self._step, last)

    def _unpack(self, corner: tuple[int, ...], out: npt.NDArray[Any]) -> None:
        """Put the values of the chunk at a corner in ``out``, contiguous."""
        try:
            mask, packed = self.dataset.id.read_direct_chunk(corner)
            if mask == 0:
                self.codec.unpack(packed, out)  # type: ignore[union-attr]
                return
        except MemoryError:  # what h5py makes of a chunk whose size HDF5 does not know
            raise self._damaged(corner, "the chunk is missing") from None
        except (OSError, RuntimeError, ValueError) as error:
            raise self._damaged(corner, error) from None
        whole = tuple(slice(a, a + n) for a, n in zip(corner, self.dataset.chunks, strict=True))
        found = self._slice(whole)  # stored without some of its filters: HDF5 knows how
        out.reshape(self.dataset.chunks)[tuple(map(slice, found.shape))] = found

    def _slice(self, index: Any) -> npt.NDArray[Any]:
        try:
            return self.dataset[index]
        except (OSError, RuntimeError) as error:
            raise self._damaged(index, error) from None

    def _damaged(self, where: Any, error: Exception | str) -> DatasetError:
        cause = " ".join(str(error).split())
        name, file = self.dataset.name, self.dataset.file.filename
        return DatasetError(f"{file} is damaged at {name} {where}: {cause}: generate it again")
