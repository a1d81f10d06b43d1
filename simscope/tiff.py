"""TIFF files read with care: alone, whole, and within memory.

An OME-TIFF may say that planes lie in other files. A reader that follows opens whatever it is
pointed at, and one that finds nothing there takes the planes for dark: both are refused here.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import numpy.typing as npt

from simscope.errors import SimscopeError
from simscope.memory import MOST_BYTES

SUFFIXES = (".tif", ".tiff", ".btf", ".tf8")
UM = {
    "um": 1.0,
    "\u00b5m": 1.0,
    "\u03bcm": 1.0,
    "\\u00b5m": 1.0,
    "micron": 1.0,
    "nm": 1e-3,
    "mm": 1e3,
}
"""Micrometres in the units that files state pixels in."""


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

    with _explained(name, error), _whole_chain(name, error), tifffile.TiffFile(file) as tiff:
        ome = ElementTree.fromstring(tiff.ome_metadata or "") if tiff.is_ome else None
        _check_alone(ome, file, name, error)  # before the reader follows names of other files
        first = tiff.series[0]
        _check_whole(first, name, error)
        len(tiff.pages)  # follows the chain of pages to its end
        return TiffImage(np.asarray(first.asarray()), first.axes, ome, len(tiff.series))


@dataclass(frozen=True)
class TiffStack:
    """Frames of an opened TIFF file, read as they are asked for: ``stack[start:stop]``.

    ``shape`` is (frames, y, x); ``pixel_nm`` what the file states of its pixels, if it does.
    """

    shape: tuple[int, int, int]
    dtype: np.dtype[Any]
    pixel_nm: float | None
    _name: str = field(repr=False)
    _error: type[SimscopeError] = field(repr=False)
    _tiff: Any = field(repr=False)

    def __getitem__(self, frames: slice) -> npt.NDArray[Any]:
        """Counts of a run of frames, (frames, y, x).

        Raises
        ------
        SimscopeError
            If they are damaged or missing.
        """
        start, stop, _ = frames.indices(self.shape[0])
        with _explained(self._name, self._error):
            read = self._read(start, max(start, stop))
            return np.asarray(read).reshape(-1, *self.shape[1:]).astype(self.dtype, copy=False)

    def _read(self, start: int, stop: int) -> npt.NDArray[Any]:
        series = self._tiff.series
        if start == stop:
            return np.empty((0, *self.shape[1:]), self.dtype)
        if len(series) > 1:
            return np.asarray(self._tiff.asarray(key=slice(start, stop)))
        if series[0].dataoffset is None:
            return np.asarray(self._tiff.asarray(key=slice(start, stop), series=0))
        stored, size = self.dtype.newbyteorder(self._tiff.byteorder), self.shape[1] * self.shape[2]
        handle = self._tiff.filehandle
        handle.seek(series[0].dataoffset + start * size * stored.itemsize)
        content = handle.read((stop - start) * size * stored.itemsize)
        if len(content) < (stop - start) * size * stored.itemsize:
            raise self._error(f"{self._name} ends before frame {stop}: copy or export it again")
        return np.frombuffer(content, stored)


@contextmanager
def tiff_stack(file: str | Path, name: str, error: type[SimscopeError]) -> Iterator[TiffStack]:
    """The frames of a TIFF file of one channel, which errors of type ``error`` call ``name``.

    Plain, ImageJ, OME and BigTIFF; frames may be called time, planes or pages.

    Raises
    ------
    SimscopeError
        If the file is damaged or incomplete, has planes elsewhere, colours, several channels or
        images, or more than one axis of frames.
    """
    import tifffile  # slow to import

    with _explained(name, error):
        tiff = tifffile.TiffFile(file)
    with tiff:
        with _explained(name, error), _whole_chain(name, error):
            ome = ElementTree.fromstring(tiff.ome_metadata or "") if tiff.is_ome else None
            _check_alone(ome, Path(file), name, error)
            series = tiff.series[0]
            _check_complete(series, name, error)
            shape = _frames_of(tiff, name, error)
            dtype = np.dtype(series.dtype).newbyteorder("=")
            stated = _stated_pixel_nm(tiff, ome)
            len(tiff.pages)  # follows the chain of pages to its end
        yield TiffStack(shape, dtype, stated, name, error, tiff)


@contextmanager
def _explained(name: str, error: type[SimscopeError]) -> Iterator[None]:
    """Turn what a reader raises of a damaged file, nearly anything, into one message."""
    try:
        yield
    except SimscopeError:
        raise
    except FileNotFoundError:
        raise error(f"no file {name}: check the path") from None
    except Exception as problem:
        reason = " ".join(str(problem).split())
        raise error(f"{name} cannot be read as a TIFF ({reason}): export it again") from problem


class _Heard(logging.Handler):
    """Keeps what the reader says of a file, in its log alone."""

    def __init__(self) -> None:
        super().__init__()
        self.words: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.words.append(record.getMessage())


@contextmanager
def _whole_chain(name: str, error: type[SimscopeError]) -> Iterator[None]:
    """Raise ``error`` if pages point beyond the end: the reader says so, and drops them."""
    logger, heard = logging.getLogger("tifffile"), _Heard()
    logger.addHandler(heard)
    try:
        yield
    finally:
        logger.removeHandler(heard)
    if any("invalid page offset" in words for words in heard.words):
        raise error(f"{name} is cut short, it names a page beyond its end: copy or export it again")


def _frames_of(tiff: Any, name: str, error: type[SimscopeError]) -> tuple[int, int, int]:
    """Frames, rows and columns of the only image of a file, or of its pages if all are alike."""
    images = tiff.series
    first = images[0]
    axes = {axis: size for axis, size in zip(first.axes, first.shape, strict=True) if size > 1}
    if len(images) > 1:
        alike = all((image.shape, image.dtype) == (first.shape, first.dtype) for image in images)
        if not alike or len(first.shape) > 2 or len(tiff.pages) != len(images):
            raise error(f"{name} holds {len(images)} images of their own: export one movie alone")
        return len(images), int(first.shape[0]), int(first.shape[1])
    if first.axes[-2:] != "YX" or "S" in axes or "C" in axes:
        raise error(
            f"{name} has axes {first.axes} of sizes {tuple(first.shape)}, colours or channels: "
            "export one channel"
        )
    leading = [size for axis, size in axes.items() if axis not in "YX"]
    if len(leading) > 1:
        raise error(
            f"{name} has axes {first.axes} of sizes {tuple(first.shape)}: export one movie, with "
            "frames along one axis"
        )
    if np.dtype(first.dtype).kind not in "uif":
        raise error(f"{name} holds {first.dtype}: export counts as whole or real numbers")
    return math.prod(leading), int(first.shape[-2]), int(first.shape[-1])


def _stated_pixel_nm(tiff: Any, ome: ElementTree.Element | None) -> float | None:
    """Pixel along x [nm] by OME or ImageJ metadata, None if they do not state its length."""
    for node in () if ome is None else ome.iter():
        if tag(node) == "Pixels" and node.get("PhysicalSizeX"):
            unit = UM.get(node.get("PhysicalSizeXUnit", "um"))
            return _positive_nm(float(node.get("PhysicalSizeX", "nan")), unit)
    if not tiff.is_imagej:
        return None
    unit = UM.get(str((tiff.imagej_metadata or {}).get("unit", "")))
    resolution = tiff.pages[0].tags.get("XResolution")
    if resolution is None or not resolution.value[0]:
        return None
    return _positive_nm(resolution.value[1] / resolution.value[0], unit)


def _positive_nm(size: float, unit_um: float | None) -> float | None:
    """Nanometres of a size in a unit; None if either is not known."""
    return size * unit_um * 1000 if unit_um and math.isfinite(size) and size > 0 else None


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


def _check_complete(series: Any, name: str, error: type[SimscopeError]) -> None:
    """Return nothing; raise unless an image has all its planes."""
    if any(page is None for page in series):
        raise error(f"{name} lacks planes that it declares: export it again")


def _check_whole(series: Any, name: str, error: type[SimscopeError]) -> None:
    """Return nothing; raise unless an image has all its planes and fits the memory."""
    _check_complete(series, name, error)
    declared = math.prod(series.shape) * series.dtype.itemsize
    if declared > MOST_BYTES:
        raise error(
            f"{name} declares {declared / 1e9:.3g} GB, more than {MOST_BYTES / 1e9:g}: cut it, or "
            "save it as .npy"
        )
