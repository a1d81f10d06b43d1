"""Compressed chunks any HDF5 library reads: byte shuffle, then deflate at level 1.

The bytes equal what HDF5's own shuffle and gzip filters would store, but zlib lets other Python
threads run meanwhile, so a file is compressed while the next samples are simulated.
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


def write_chunks(
    dataset: h5py.Dataset, corners: npt.NDArray[np.int64], chunks: npt.NDArray[Any]
) -> None:
    """Store whole chunks, compressed; ``corners`` are their first indices, ``(chunks, axes)``."""
    for corner, planes in zip(corners.tolist(), shuffled(chunks), strict=True):
        dataset.id.write_direct_chunk(tuple(corner), zlib.compress(planes.data, DEFLATE_LEVEL))
