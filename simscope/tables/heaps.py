"""Heaps of HDF5 files, looked through before the library does, which may go round in them for ever.

Texts of varying length lie in global heap collections: ``GCOL``, version 1, size; then objects of
index, count, length and data padded to 8 bytes, the last one, of index 0, being what is free (HDF5
File Format Specification 3.0, III.E). The library walks them by the lengths it finds, and does not
come back from one that adds up to nothing.
"""

from __future__ import annotations

import mmap
import struct
from pathlib import Path

from simscope.errors import TableError

START = b"GCOL\x01\x00\x00\x00"
HEAD = 16


def require_sound_heaps(path: Path) -> None:
    """Raise TableError if a collection of texts in a file has objects that do not fit into it."""
    if path.stat().st_size < HEAD:
        return
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        at = content.find(START)
        while at >= 0:
            _require_sound(path, content, at)
            at = content.find(START, at + 1)


def _require_sound(path: Path, content: mmap.mmap, at: int) -> None:
    (size,) = _words(content, at + 8, "<Q")
    end = min(at + size, len(content))
    place = at + HEAD
    while place + HEAD <= end:
        index, _, _, length = _words(content, place, "<HHIQ")
        step = length if index == 0 else HEAD + -(-length // 8) * 8
        if step < HEAD or place + step > at + size:
            raise TableError(
                f"cannot read {path}: its texts are damaged at byte {place}: copy it anew"
            )
        place += step


def _words(content: mmap.mmap, at: int, layout: str) -> tuple[int, ...]:
    """Whole numbers at a byte; zeros beyond the end of the file."""
    size = struct.calcsize(layout)
    return struct.unpack(layout, content[at : at + size].ljust(size, b"\0"))
