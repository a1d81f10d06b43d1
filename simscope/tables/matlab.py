"""Structs of numbers out of MATLAB files before 7.3, read by Python alone.

The layout is MathWorks' "MAT-File Format", level 5: a header of 128 bytes, then elements of a tag
(type and length) and data, compressed or not. Numbers, structs and nothing else are read; whatever
a damaged or hostile file says, lengths are checked before they are believed, which readers in C do
not do everywhere.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from simscope.errors import TableError

HEADER = 128
MATRIX, COMPRESSED = 14, 15
STRUCT = 2
NUMERIC = range(6, 16)
TYPES = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}
DEEPEST = 8
MOST_FIELDS = 4096
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


def read_struct(path: Path, name: str) -> Any:
    """The variable of this name: a struct as a dict, numbers as a 1-D array, anything else None.

    Of an array of structs the first is read. None too where the file has no such variable.

    Raises
    ------
    TableError
        If the file is damaged, or unpacks to more than 2 GB.
    """
    try:
        content = memoryview(path.read_bytes())
        order = {b"IM": "<", b"MI": ">"}.get(bytes(content[126:HEADER]))
        if order is None:
            raise _DamagedError("its header does not say its byte order")
        for element in _elements(content, HEADER, order):
            matrix = _unpacked(element, order, name)
            if matrix is not None:
                return _value(matrix, order, DEEPEST)
    except _DamagedError as damage:
        raise TableError(f"cannot read {path}: {damage}: save it anew") from None
    except OSError as error:
        raise TableError(f"cannot read {path}: {error.strerror or error}") from None
    return None


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


def _unpacked(element: _Element, order: str, name: str) -> memoryview | None:
    """Data of a top element if it is the matrix of this name."""
    if element.type == COMPRESSED:
        start = memoryview(_inflated(element.data, START))
        if len(start) < 8 or _name_of(start[8:], order) != name:
            return None
        element = _element(memoryview(_inflated(element.data, LARGEST)), 0, order)
    if element.type != MATRIX or _name_of(element.data, order) != name:
        return None
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


def _name_of(matrix: memoryview, order: str) -> str:
    _, _, name, _ = _head(matrix, order)
    return name


def _head(matrix: memoryview, order: str) -> tuple[int, int, str, int]:
    """Class, number of entries and name of a matrix, and where its content begins."""
    flags = _element(matrix, 0, order)
    shape = _element(matrix, flags.end, order)
    name = _element(matrix, shape.end, order)
    if len(flags.data) < 4 or shape.type != 5 or len(shape.data) % 4:
        raise _DamagedError("an array has no class or shape")
    sizes = [int(size) for size in np.frombuffer(shape.data, order + "i4")]
    if not sizes or min(sizes) < 0:
        raise _DamagedError(f"an array has the shape {sizes[:8]}")
    count = 1
    for size in sizes:
        count *= size
    kind = int(np.frombuffer(flags.data[:4], order + "u4")[0]) & 0xFF
    return kind, count, bytes(name.data).decode("ascii", "replace"), name.end


def _value(matrix: memoryview, order: str, depth: int) -> Any:
    if not len(matrix) or depth == 0:
        return None
    kind, count, _, begin = _head(matrix, order)
    if kind == STRUCT:
        return _struct(matrix, begin, count, order, depth)
    return _numbers(matrix, begin, count, order) if kind in NUMERIC else None


def _numbers(matrix: memoryview, begin: int, count: int, order: str) -> Any:
    """All numbers of an array in MATLAB's order; it may store them in a shorter type."""
    real = _element(matrix, begin, order)
    if real.type not in TYPES:
        raise _DamagedError(f"an array is stored as type {real.type}")
    dtype = np.dtype(order + TYPES[real.type])
    if len(real.data) != count * dtype.itemsize:
        raise _DamagedError(f"an array of {count} numbers has {len(real.data)} bytes")
    return np.frombuffer(real.data, dtype).astype(dtype.newbyteorder("="))


def _struct(matrix: memoryview, begin: int, count: int, order: str, depth: int) -> dict[str, Any]:
    """Fields of the first struct of an array of structs."""
    width = _element(matrix, begin, order)
    names = _element(matrix, width.end, order)
    size = int.from_bytes(bytes(width.data[:4]), "little" if order == "<" else "big")
    if size < 1 or len(names.data) // size > MOST_FIELDS:
        raise _DamagedError("a struct has no names of fields")
    texts = bytes(names.data)
    fields: dict[str, Any] = {}
    start = names.end
    for number in range(len(texts) // size if count else 0):
        field = _element(matrix, start, order)
        name = texts[number * size : (number + 1) * size].split(b"\0")[0].decode("ascii", "replace")
        fields[name] = _value(field.data, order, depth - 1) if field.type == MATRIX else None
        start = field.end
    return fields
