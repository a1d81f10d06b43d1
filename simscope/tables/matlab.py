"""Numbers, structs and cells out of MATLAB files before 7.3, read by Python alone.

The layout is MathWorks' "MAT-File Format", level 5: a header of 128 bytes, then elements of a tag
(type and length) and data, compressed or not. Numbers, structs, cells and nothing else are read;
whatever a damaged or hostile file says, lengths are checked before they are believed, which readers
in C do not do everywhere.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from simscope.errors import TableError

HEADER = 128
MATRIX, COMPRESSED = 14, 15
CELL, STRUCT = 1, 2
COMPLEX = 0x0800
NUMERIC = range(6, 16)
TYPES = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}
DEEPEST = 8
MOST_FIELDS = 4096
MOST_AXES = 32
LARGEST = 1 << 31
START = 4096


class _DamagedError(Exception):
    """A file does not say what it should; becomes a TableError with the file's name."""


@dataclass(frozen=True)
class _Element:
    """One element: its type, its data, and where the next begins."""

    type: int
    data: memoryview
    end: int


def is_hdf5(path: Path) -> bool:
    """Whether a file's header says that it is of MATLAB 7.3, which is HDF5."""
    with path.open("rb") as file:
        return file.read(HEADER)[124:] in (b"\x00\x02IM", b"\x02\x00MI")


def names(path: Path) -> list[str]:
    """Names of the variables in a file, sorted; TableError if it is damaged."""
    with _opened(path) as (content, order):
        found = (_start_of(element, order) for element in _elements(content, HEADER, order))
        return sorted({_name_of(matrix, order) for matrix in found if matrix is not None} - {""})


def read_variable(path: Path, name: str) -> Any:
    """The variable of this name: numbers as an array, a struct as a dict, a cell as a list.

    Arrays have MATLAB's shape. Structs of other number than one are a list. None of anything else,
    and where the file has no such variable.

    Raises
    ------
    TableError
        If the file is damaged, or unpacks to more than 2 GB.
    """
    with _opened(path) as (content, order):
        for element in _elements(content, HEADER, order):
            matrix = _unpacked(element, order, name)
            if matrix is not None:
                return _value(matrix, order, DEEPEST)
    return None


def read_struct(path: Path, name: str) -> Any:
    """As :func:`read_variable`, arrays made 1-D in MATLAB's order, the first of several structs."""
    return _flattened(read_variable(path, name))


def _flattened(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return value.ravel(order="F")
    if isinstance(value, list):
        return _flattened(value[0]) if value and isinstance(value[0], dict) else None
    if isinstance(value, dict):
        return {name: _flattened(inner) for name, inner in value.items()}
    return value


@contextmanager
def _opened(path: Path) -> Iterator[tuple[memoryview, str]]:
    """Content of a file and its byte order; damage found meanwhile becomes a TableError."""
    try:
        content = memoryview(path.read_bytes())
        order = {b"IM": "<", b"MI": ">"}.get(bytes(content[126:HEADER]))
        if order is None:
            raise _DamagedError("its header does not say its byte order")
        yield content, order
    except _DamagedError as damage:
        raise TableError(f"cannot read {path}: {damage}: save it anew") from None
    except OSError as error:
        raise TableError(f"cannot read {path}: {error.strerror or error}") from None


def _elements(content: memoryview, start: int, order: str) -> Iterator[_Element]:
    while start < len(content):
        element = _element(content, start, order)
        yield element
        start = element.end


def _element(content: memoryview, start: int, order: str) -> _Element:
    """The element that begins at a byte; small ones keep their data within the tag."""
    if start + 8 > len(content):
        raise _DamagedError("it ends within a tag")
    first, length = (int(word) for word in np.frombuffer(content[start : start + 8], order + "u4"))
    if first >> 16:
        kind, length, begin, end = first & 0xFFFF, first >> 16, start + 4, start + 8
        if length > 4:
            raise _DamagedError(f"a small element claims {length} bytes")
    else:
        kind, begin = first, start + 8
        end = begin + (length if kind == COMPRESSED else -(-length // 8) * 8)
    if begin + length > len(content):
        raise _DamagedError(f"{length} bytes are declared where fewer are left")
    return _Element(kind, content[begin : begin + length], end)


def _start_of(element: _Element, order: str) -> memoryview | None:
    """The first bytes at least of the data of a top element; None if it is no matrix."""
    if element.type != COMPRESSED:
        return element.data if element.type == MATRIX else None
    start = memoryview(_inflated(element.data, START))
    return start[8:] if bytes(start[:4]) == np.array(MATRIX, order + "u4").tobytes() else None


def _unpacked(element: _Element, order: str, name: str) -> memoryview | None:
    """Data of a top element if it is the matrix of this name."""
    start = _start_of(element, order)
    if start is None or _name_of(start, order) != name:
        return None
    if element.type == COMPRESSED:
        element = _element(memoryview(_inflated(element.data, LARGEST)), 0, order)
    return element.data


def _inflated(data: memoryview, most: int) -> bytes:
    machine = zlib.decompressobj()
    try:
        content = machine.decompress(data, most)
    except zlib.error as error:
        raise _DamagedError(f"it does not unpack, {error}") from None
    if most == LARGEST and not machine.eof:
        raise _DamagedError(f"it is torn, or unpacks to more than {LARGEST:,} bytes")
    return content


@dataclass(frozen=True)
class _Head:
    """Class, flags, shape and name of a matrix, and where its content begins."""

    kind: int
    flags: int
    shape: tuple[int, ...]
    name: str
    begin: int


def _name_of(matrix: memoryview, order: str) -> str:
    return _head(matrix, order).name


def _head(matrix: memoryview, order: str) -> _Head:
    flags = _element(matrix, 0, order)
    shape = _element(matrix, flags.end, order)
    name = _element(matrix, shape.end, order)
    if len(flags.data) < 4 or shape.type != 5 or len(shape.data) % 4:
        raise _DamagedError("an array has no class or shape")
    sizes = tuple(int(size) for size in np.frombuffer(shape.data, order + "i4"))
    if not 0 < len(sizes) <= MOST_AXES or min(sizes) < 0:
        raise _DamagedError(f"an array has the shape {sizes[:8]}")
    word = int(np.frombuffer(flags.data[:4], order + "u4")[0])
    text = bytes(name.data).decode("ascii", "replace")
    return _Head(word & 0xFF, word, sizes, text, name.end)


def _value(matrix: memoryview, order: str, depth: int) -> Any:
    if not len(matrix) or depth == 0:
        return None
    head = _head(matrix, order)
    if head.kind == STRUCT:
        return _structs(matrix, head, order, depth)
    if head.kind == CELL:
        count = math.prod(head.shape)
        return [value for value, _ in _inner(matrix, head.begin, count, order, depth)]
    return _numbers(matrix, head, order) if head.kind in NUMERIC else None


def _numbers(matrix: memoryview, head: _Head, order: str) -> Any:
    """All numbers of an array; it may store them in a shorter type."""
    values, end = _stored(matrix, head, head.begin, order)
    if head.flags & COMPLEX:
        imaginary, _ = _stored(matrix, head, end, order)
        values = values + 1j * imaginary
    return values.reshape(head.shape, order="F")


def _stored(matrix: memoryview, head: _Head, begin: int, order: str) -> tuple[Any, int]:
    """Numbers stored from a byte on, and where the next element begins."""
    real = _element(matrix, begin, order)
    if real.type not in TYPES:
        raise _DamagedError(f"an array is stored as type {real.type}")
    dtype = np.dtype(order + TYPES[real.type])
    if len(real.data) != math.prod(head.shape) * dtype.itemsize:
        raise _DamagedError(f"an array of shape {head.shape} has {len(real.data)} bytes")
    return np.frombuffer(real.data, dtype).astype(dtype.newbyteorder("=")), real.end


def _inner(
    matrix: memoryview, start: int, count: int, order: str, depth: int
) -> Iterator[tuple[Any, int]]:
    """Values of so many elements, and where each ends; more than there are is damage."""
    for _ in range(count):
        element = _element(matrix, start, order)
        value = _value(element.data, order, depth - 1) if element.type == MATRIX else None
        start = element.end
        yield value, start


def _structs(matrix: memoryview, head: _Head, order: str, depth: int) -> Any:
    """A struct, or several."""
    width = _element(matrix, head.begin, order)
    texts = _element(matrix, width.end, order)
    size = int.from_bytes(bytes(width.data[:4]), "little" if order == "<" else "big")
    if size < 1 or len(texts.data) // size > MOST_FIELDS:
        raise _DamagedError("a struct has no names of fields")
    plain = bytes(texts.data)
    fields = [
        plain[at : at + size].split(b"\0")[0].decode("ascii", "replace")
        for at in range(0, len(plain) - size + 1, size)
    ]
    count, found, start = math.prod(head.shape), [], texts.end
    for _ in range(count if fields else 0):
        values = list(_inner(matrix, start, len(fields), order, depth))
        found.append(dict(zip(fields, (value for value, _ in values), strict=True)))
        start = values[-1][1]
    return found[0] if count == 1 and found else found
