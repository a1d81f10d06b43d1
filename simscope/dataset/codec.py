"""Compressed chunks, packed outside HDF5 and stored directly.

HDF5 runs its filters one chunk after the other under a lock that stops all other threads; packed
here, a file is compressed while the next samples are simulated, by as many threads as are given.
What is stored is what HDF5's own filters would have stored, so every reader unpacks it:

- ``default``: byte shuffle, then deflate, which every HDF5 library reads;
- ``fast``: bitshuffle and LZ4 (Masui et al. 2015, Astronomy and Computing 12, 181), for readers
  with the plugin (``pip install 'simscope[fast]'``);
- ``none``: chunks as they are.
"""

from __future__ import annotations

import ctypes
import functools
import struct
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt
from isal import isal_zlib

from simscope.errors import DatasetError, did_you_mean
from simscope.kernels import deflate

Packed = bytes | memoryview

FAST_FILTER = 32008
"""Registered number of bitshuffle among HDF5's filters."""

LZ4_INSIDE = 2
"""What bitshuffle's filter calls LZ4."""

HEADER = struct.Struct(">QI")
"""What HDF5's bitshuffle filter puts before a chunk: its bytes, and the bytes of a block."""

MAX_BLOCK_BYTES = 1 << 20
"""Blocks of the plugin have a few kilobytes."""


@dataclass(frozen=True)
class Codec:
    """A way to store chunks: its name, the filters HDF5 is told of, and how chunks are packed."""

    name: str
    filters: dict[str, Any]
    _pack: Callable[[npt.NDArray[Any]], list[Packed]]
    _unpack: Callable[[Packed, npt.NDArray[Any]], None]

    def pack(self, chunks: npt.NDArray[Any]) -> list[Packed]:
        """Bytes to store for each chunk; ``chunks`` has one in every row of its first axis.

        Runs on the calling thread, and lets other threads run meanwhile.
        """
        flat = np.ascontiguousarray(chunks).reshape(len(chunks), -1)
        return self._pack(flat)

    def unpack(self, packed: Packed, out: npt.NDArray[Any]) -> None:
        """Put the values of a packed chunk in ``out``, contiguous.

        Raises
        ------
        DatasetError
            If the bytes are damaged, or hold more or less than ``out`` does.
        """
        self._unpack(packed, out)

    def pack_on(
        self, pool: Executor, threads: int, chunks: npt.NDArray[Any]
    ) -> Callable[[], list[Packed]]:
        """What waits for the same bytes, packed on several threads of a pool from now on."""
        cuts = np.linspace(0, len(chunks), min(threads, len(chunks)) + 1).astype(int).tolist()
        parts = pool.map(lambda a, b: self.pack(chunks[a:b]), cuts[:-1], cuts[1:])
        return lambda: [packed for part in parts for packed in part]


def named(name: str) -> Codec:
    """The codec of a name: ``default``, ``fast`` or ``none``.

    Raises
    ------
    DatasetError
        If there is no such codec, or its package is not installed.
    """
    if name not in NAMES:
        hint = did_you_mean(name, NAMES) or f"choose one of {', '.join(NAMES)}"
        raise DatasetError(f"there is no codec {name!r}: {hint}")
    return NAMES[name]()


def of(dataset: h5py.Dataset) -> Codec | None:
    """The codec an array is stored with, or None where it is none of ours.

    Raises
    ------
    DatasetError
        If it is ``fast`` and its package is not installed.
    """
    pipeline, width = dataset.id.get_create_plist(), dataset.dtype.itemsize
    filters = [pipeline.get_filter(number) for number in range(pipeline.get_nfilters())]
    settings = {number: values for number, _, values, _ in filters}
    numbers = [number for number, *_ in filters]
    if not numbers:
        return named("none")
    shuffle_deflate = [h5py.h5z.FILTER_SHUFFLE, h5py.h5z.FILTER_DEFLATE]
    if numbers == shuffle_deflate and settings[h5py.h5z.FILTER_SHUFFLE] == (width,):
        return named("default")
    if numbers == [FAST_FILTER] and settings[FAST_FILTER][2::2] == (width, LZ4_INSIDE):
        return named("fast")
    return None


def write_chunks(
    dataset: h5py.Dataset, corners: npt.NDArray[np.int64], packed: Sequence[Packed]
) -> None:
    """Store packed chunks; ``corners`` are their first indices, ``(chunks, axes)``."""
    write = dataset.id.write_direct_chunk
    for corner, chunk in zip(corners.tolist(), packed, strict=True):
        write(tuple(corner), chunk)


def _deflated(chunks: npt.NDArray[Any]) -> list[Packed]:
    """Each chunk shuffled and deflated, the same bytes on every machine."""
    width = chunks.dtype.itemsize
    count, nbytes = len(chunks), chunks.shape[1] * width
    words = np.empty(count * deflate.most_words(nbytes, width), np.uint64)
    starts, sizes = np.empty((2, count), np.int64)
    deflate.pack_chunks(chunks.view(np.uint8), width, words, starts, sizes)
    streams = memoryview(words.view(np.uint8))  # type: ignore[arg-type]
    stops = starts + sizes
    return [streams[a:b] for a, b in zip(starts.tolist(), stops.tolist(), strict=True)]


def _inflate(packed: Packed, out: npt.NDArray[Any]) -> None:
    """Undo :func:`_deflated`, with memory for what is due and no more."""
    inflate = isal_zlib.decompressobj()
    try:
        planes = inflate.decompress(packed, out.nbytes + 1)
    except isal_zlib.error as error:  # type: ignore[misc]
        raise DatasetError(f"deflate: {error}") from None
    if len(planes) != out.nbytes or not inflate.eof or inflate.unused_data:
        raise DatasetError("a chunk does not hold what it should")
    items = out.reshape(-1).view(np.uint8)
    deflate.unshuffle(np.frombuffer(planes, np.uint8), out.itemsize, items)


@functools.cache
def _default() -> Codec:
    filters = {"compression": "gzip", "compression_opts": 1, "shuffle": True}
    return Codec("default", filters, _deflated, _inflate)


@functools.cache
def _none() -> Codec:
    def pack(chunks: npt.NDArray[Any]) -> list[Packed]:
        data, size = memoryview(chunks.reshape(-1).view(np.uint8)), chunks[0].nbytes  # type: ignore[arg-type]
        return [data[at : at + size] for at in range(0, chunks.nbytes, size)]

    def unpack(packed: Packed, out: npt.NDArray[Any]) -> None:
        if len(packed) != out.nbytes:
            raise DatasetError(f"a chunk has {len(packed)} bytes, not {out.nbytes}")
        out.reshape(-1)[...] = np.frombuffer(packed, out.dtype)

    return Codec("none", {}, pack, unpack)


@functools.cache
def _fast() -> Codec:
    library = bitshuffle_library()
    filters = {"compression": FAST_FILTER, "compression_opts": (0, LZ4_INSIDE)}
    pack = functools.partial(_bitshuffled, library)
    return Codec("fast", filters, pack, functools.partial(_unbitshuffle, library))


def bitshuffle_library() -> ctypes.CDLL:
    """The plugin's own functions, which release the interpreter's lock, unlike HDF5.

    The plugin as hdf5plugin's wheels bring it has no threads of its own. Importing it also
    registers it with HDF5, for reading.

    Raises
    ------
    DatasetError
        If the plugin is not installed.
    """
    try:
        import hdf5plugin
    except ImportError:
        raise DatasetError(
            "codec 'fast' needs the package hdf5plugin: pip install 'simscope[fast]'"
        ) from None
    path = hdf5plugin.get_config().registered_filters["bshuf"]
    library = ctypes.CDLL(path)
    size = ctypes.c_size_t
    library.bshuf_default_block_size.argtypes = [size]
    library.bshuf_default_block_size.restype = size
    library.bshuf_compress_lz4_bound.argtypes = [size, size, size]
    library.bshuf_compress_lz4_bound.restype = size
    for name in ("bshuf_compress_lz4", "bshuf_decompress_lz4"):
        function = getattr(library, name)
        function.argtypes = [ctypes.c_void_p, ctypes.c_void_p, size, size, size]
        function.restype = ctypes.c_int64
    return library


def _bitshuffled(library: ctypes.CDLL, chunks: npt.NDArray[Any]) -> list[Packed]:
    """Each chunk as HDF5's bitshuffle filter stores it."""
    items, width = chunks.shape[1], chunks.dtype.itemsize
    block = library.bshuf_default_block_size(width)
    header = HEADER.pack(items * width, block * width)
    room = len(header) + library.bshuf_compress_lz4_bound(items, width, block)
    out = np.empty(room, np.uint8)
    out[: len(header)] = np.frombuffer(header, np.uint8)
    packed: list[Packed] = []
    for chunk in chunks:
        to = out.ctypes.data + len(header)
        size = library.bshuf_compress_lz4(chunk.ctypes.data, to, items, width, block)
        if size < 0:
            raise DatasetError(f"bitshuffle fails with code {size}: choose codec 'default'")
        packed.append(out[: len(header) + size].tobytes())
    return packed


def _unbitshuffle(library: ctypes.CDLL, packed: Packed, out: npt.NDArray[Any]) -> None:
    """Undo :func:`_bitshuffled`; lengths inside are checked first, the plugin trusts them."""
    width = out.itemsize
    if len(packed) < HEADER.size:
        raise DatasetError("a chunk is cut short")
    nbytes, block_bytes = HEADER.unpack_from(packed)
    block, stray = divmod(block_bytes, width)
    if nbytes != out.nbytes or stray or block < 8 or block % 8 or block_bytes > MAX_BLOCK_BYTES:
        raise DatasetError("a chunk does not hold what it should")
    source = np.frombuffer(packed, np.uint8)
    require_lengths(source, out.size, width, block)
    start = source.ctypes.data + HEADER.size
    size = library.bshuf_decompress_lz4(start, out.ctypes.data, out.size, width, block)
    if size != len(packed) - HEADER.size:
        raise DatasetError(f"bitshuffle fails with code {size}")


def require_lengths(packed: npt.NDArray[np.uint8], items: int, width: int, block: int) -> None:
    """Refuse a bitshuffled chunk whose blocks do not fill it exactly.

    Whole blocks, then one of what is left in eights of items, each behind its length; the last
    few items stand bare.

    Raises
    ------
    DatasetError
        If a length leads beyond the chunk or short of its end.
    """
    blocks = items // block + (items % block >= 8)
    position = HEADER.size
    for _ in range(blocks):
        length = int.from_bytes(packed[position : position + 4].tobytes(), "big")
        position += 4 + length
        if position > len(packed):
            break
    if position + items % 8 * width != len(packed):
        raise DatasetError("a chunk's blocks do not fill it")


NAMES: dict[str, Callable[[], Codec]] = {"default": _default, "fast": _fast, "none": _none}
