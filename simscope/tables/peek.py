"""What a file is by its first bytes, and what its columns or groups are called."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from simscope.errors import TableError
from simscope.tables import hdf5, text

HDF5_MAGIC = b"\x89HDF\r\n\x1a\n"
MATLAB_USERBLOCK = 512
DECODE_COMMENT = "# DECODE EmitterSet"


@dataclass(frozen=True)
class Peek:
    """``kind``: "npy", "hdf5", "mat" (MATLAB before 7.3) or "text"; ``names``: header or groups.

    ``first_line`` is that of a text.
    """

    kind: str
    names: tuple[str, ...] = ()
    first_line: str = ""


def peek(path: Path) -> Peek:
    """The kind of a file by its content, and the names in it.

    Raises
    ------
    TableError
        If the file is missing, empty or unreadable.
    """
    start = _start(path)
    if start.startswith(b"\x93NUMPY"):
        return Peek("npy")
    if start.startswith(b"MATLAB 5.0 MAT-file"):
        return Peek("mat")
    if start.startswith(HDF5_MAGIC) or start[MATLAB_USERBLOCK:].startswith(HDF5_MAGIC):
        with hdf5.opened(path) as file:
            return Peek("hdf5", tuple(file))
    if start.startswith(b"PK\x03\x04"):
        raise TableError(f"{path} is a zip archive or torch pickle, which is not read: save as .h5")
    line = start.split(b"\n", 1)[0].decode("utf-8", "replace").lstrip("\ufeff").rstrip("\r")
    names = () if line.startswith(DECODE_COMMENT) else tuple(text.header(path))
    return Peek("text", names, line)


def _start(path: Path) -> bytes:
    if not path.is_file():
        raise TableError(f"no table {path}: check the path")
    try:
        with path.open("rb") as file:
            start = file.read(MATLAB_USERBLOCK + len(HDF5_MAGIC))
    except OSError as error:
        raise TableError(f"cannot read {path}: {error.strerror or error}") from None
    if not start:
        raise TableError(f"{path} is empty: give a header and at least one row")
    return start
