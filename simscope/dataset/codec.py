"""Compressed chunks any HDF5 library reads: byte shuffle, then deflate at level 1.

Chunks are compressed here and stored directly, since zlib lets other Python threads run meanwhile
(HDF5's own filters do not): a file is compressed while the next samples are simulated. Camera noise
repeats itself only within runs of equal high bytes, so zlib is told to look for runs alone
(``Z_RLE``): 2 % smaller and up to 1.6 times faster than its usual search, and every inflate reads
it.
"""

from __future__ import annotations

import zlib
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt

DEFLATE_LEVEL = 1
FILTERS: dict[str, Any] = {
    "compression": "gzip",
    "compression_opts": DEFLATE_LEVEL,
    "shuffle": True,
}


def shuffled(chunks: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    """Bytes of each chunk, all first bytes first; shape ``(chunks, itemsize, items)``.

    ``chunks`` has one chunk per row of its first axis. This is HDF5's shuffle filter.
    """
    flat = np.ascontiguousarray(chunks).reshape(len(chunks), -1)
    planes = flat.view(np.uint8).reshape(len(chunks), -1, chunks.dtype.itemsize)
    return np.ascontiguousarray(planes.transpose(0, 2, 1))


def deflated(plane: npt.NDArray[np.uint8]) -> bytes:
    """A zlib stream of the bytes of one shuffled chunk."""
    packer = zlib.compressobj(DEFLATE_LEVEL, strategy=zlib.Z_RLE)
    return packer.compress(plane.data) + packer.flush()


def write_chunks(
    dataset: h5py.Dataset, corners: npt.NDArray[np.int64], chunks: npt.NDArray[Any]
) -> None:
    """Store whole chunks, compressed; ``corners`` are their first indices, ``(chunks, axes)``."""
    for corner, planes in zip(corners.tolist(), shuffled(chunks), strict=True):
        dataset.id.write_direct_chunk(tuple(corner), deflated(planes))
