"""TIFF files read with care: alone, whole, and within memory.

An OME-TIFF may say that planes lie in other files. A reader that follows opens whatever it is
pointed at, and one that finds nothing there takes the planes for dark: both are refused here.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import numpy.typing as npt

from simscope.errors import SimscopeError
from simscope.memory import MOST_BYTES


@dataclass(frozen=True)
class TiffImage:
    """The first image of a file, its axes as letters, OME metadata if any, and how many there are.

    Axes are those of the TIFF's own metadata; I and Q are of unknown meaning.
    """

    values: npt.NDArray[Any]
    axes: str
    ome: ElementTree.Element | None
    images: int


def read_tiff(file: Path, name: str, error: type[SimscopeError]) -> TiffImage:
    """The first image of a TIFF file, which errors of type ``error`` call ``name``.

    Raises
    ------
    SimscopeError
        If the file is damaged or incomplete, has planes elsewhere, or declares too much.
    """
    import tifffile  # slow to import

    # damaged files make the reader raise nearly anything
    try:
        with tifffile.TiffFile(file) as tiff:
            ome = ElementTree.fromstring(tiff.ome_metadata or "") if tiff.is_ome else None
            _check_alone(ome, file, name, error)  # before the reader follows names of other files
            first = tiff.series[0]
            _check_whole(first, name, error)
            return TiffImage(np.asarray(first.asarray()), first.axes, ome, len(tiff.series))
    except SimscopeError:
        raise
    except Exception as problem:
        reason = " ".join(str(problem).split())
        raise error(f"{name} cannot be read as a TIFF ({reason}): export it again") from problem


def tag(node: ElementTree.Element) -> str:
    """Name of an element of OME metadata without its namespace."""
    return node.tag.rpartition("}")[2]


def _check_alone(
    ome: ElementTree.Element | None, file: Path, name: str, error: type[SimscopeError]
) -> None:
    """Return nothing; raise if planes of an OME-TIFF lie in other files."""
    own = None if ome is None else ome.get("UUID")
    for node in () if ome is None else ome.iter():
        other = node.get("FileName")
        if tag(node) == "UUID" and other is not None and other != file.name and node.text != own:
            raise error(f"{name} has planes in another file, {other!r}: export all to one file")


def _check_whole(series: Any, name: str, error: type[SimscopeError]) -> None:
    """Return nothing; raise unless an image has all its planes and fits the memory."""
    if any(page is None for page in series):
        raise error(f"{name} lacks planes that it declares: export it again")
    declared = math.prod(series.shape) * series.dtype.itemsize
    if declared > MOST_BYTES:
        raise error(
            f"{name} declares {declared / 1e9:.3g} GB, more than {MOST_BYTES / 1e9:g}: cut it, or "
            "save it as .npy"
        )
