"""Volumes and label images in a user's .npy and TIFF files, and the voxels an OME-TIFF states.

Axes of TIFF files are taken from what they declare: channels, times and colours are refused, never
taken for planes. Physical sizes follow the OME-TIFF model (Goldberg et al. 2005, *Genome Biology*
6:R47): ``PhysicalSizeX``, ``Y`` and ``Z`` of the image, in micrometres unless a unit is given.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import numpy.typing as npt

from simscope.errors import SampleError
from simscope.memory import MOST_BYTES
from simscope.recipe.volumes import LabelsStructure, VolumeStructure, check_pitch
from simscope.tiff import read_tiff, tag

UNIT_NM = {"pm": 1e-3, "Å": 0.1, "nm": 1.0, "µm": 1e3, "μm": 1e3, "um": 1e3, "mm": 1e6, "cm": 1e7}
MANY = {
    "C": "channels",
    "T": "times",
    "S": "colours (as tifffile writes 3 planes unless photometric='minisblack')",
    "P": "positions",
    "R": "regions",
}
PLANES = {"YX", "ZYX", "QYX", "IYX"}
"""Axes of stacks; Q and I are planes whose meaning a plain TIFF does not say."""
MOST_LABELS = 65535


@dataclass(frozen=True)
class VolumeFile:
    """Values (z, y, x) of a file, their highest, and the pitch of voxels [nm] it states, if any."""

    values: npt.NDArray[Any]
    highest: float
    voxel_nm: tuple[float, float, float] | None


def volume_file(structure: VolumeStructure | LabelsStructure) -> VolumeFile:
    """The file a structure names, read once: float or whole values, or labels as uint16.

    Raises
    ------
    SampleError
        If it cannot be read, or holds anything but numbers from 0 up.
    """
    labels = isinstance(structure, LabelsStructure)
    return _read_once(structure.path, labels, _state(structure.path))


def voxel_pitch_nm(structure: VolumeStructure | LabelsStructure) -> tuple[float, float, float]:
    """Pitch of a structure's voxels (z, y, x) [nm], its own or what the file states.

    Raises
    ------
    SampleError
        If neither says it.
    """
    if structure.voxel_nm is not None:
        return structure.voxel_nm
    stated = volume_file(structure).voxel_nm
    if stated is None:
        raise SampleError(
            f"{structure.path} states no physical size of its voxels along z, y and x: give "
            "structure.voxel_nm"
        )
    try:
        check_pitch(stated, f"the voxel size in {structure.path}")
    except ValueError as error:
        raise SampleError(f"{error}, or structure.voxel_nm") from None
    return stated


def _state(path: str) -> tuple[int, int]:
    """Time of the last change [ns] and size of a file; zeros where there is none."""
    file = Path(path).expanduser()
    if not file.is_file():
        return 0, 0
    state = file.stat()
    return state.st_mtime_ns, state.st_size


@lru_cache(maxsize=4)
def _read_once(path: str, labels: bool, _state: tuple[int, int]) -> VolumeFile:
    """A file in one state."""
    values, voxel_nm = read_stack(path)
    if labels:
        values, highest = _checked_labels(values, path)
        return VolumeFile(values, highest, voxel_nm)
    if values.dtype.kind not in "fiub" or values.ndim != 3 or 0 in values.shape:
        raise SampleError(
            f"{path} holds {values.dtype} of shape {values.shape}: give a stack (z, y, x) of "
            "plain numbers"
        )
    return VolumeFile(values, _highest(values, path), voxel_nm)


def read_stack(
    path: str | Path,
) -> tuple[npt.NDArray[Any], tuple[float, float, float] | None]:
    """The array in a .npy or TIFF file, .npy left on disk, and the pitch (z, y, x) [nm] it states.

    Raises
    ------
    SampleError
        If it cannot be read, or a TIFF holds channels, times or several images.
    """
    file = Path(path).expanduser()
    if not file.is_file():
        raise SampleError(f"volume file {str(path)!r} does not exist: check structure.path")
    if file.suffix.lower() == ".npy":
        return _read_npy(file), None
    return _read_tiff(file)


def _read_npy(file: Path) -> npt.NDArray[Any]:
    # damaged headers make the reader raise nearly anything
    try:
        values = np.load(file, mmap_mode="r", allow_pickle=False)
    except Exception as error:
        raise SampleError(
            f"{file} is no .npy array of plain numbers, or damaged: write it with np.save"
        ) from error
    if not isinstance(values, np.ndarray):
        raise SampleError(f"{file} is an .npz archive: save one array as .npy")
    return values


def _read_tiff(
    file: Path,
) -> tuple[npt.NDArray[Any], tuple[float, float, float] | None]:
    if file.suffix.lower() not in (".tif", ".tiff"):
        raise SampleError(f"{file} is neither .npy nor .tif: save the volume as one of them")
    image = read_tiff(file, str(file), SampleError)
    if image.images != 1:
        raise SampleError(f"{file} holds {image.images} images of their own: export one of them")
    return _planes(image.values, image.axes, file), _ome_voxel_nm(image.ome)


def _planes(values: npt.NDArray[Any], axes: str, file: Path) -> npt.NDArray[Any]:
    """Values (z, y, x) or (y, x) of an image with named axes, those of length 1 left out."""
    axes = axes.upper()
    single = tuple(
        k for k, name in enumerate(axes) if values.shape[k] == 1 and name not in ("Z", "Y", "X")
    )
    left = "".join(name for k, name in enumerate(axes) if k not in single)
    for k, name in enumerate(axes):
        if name in MANY and k not in single:
            raise SampleError(
                f"{file} holds {values.shape[k]} {MANY[name]} (axes {axes}): export one of them "
                "as a stack (z, y, x)"
            )
    if left not in PLANES:
        raise SampleError(f"{file} has axes {axes}: export it as a stack (z, y, x)")
    return values.squeeze(single)


def _ome_voxel_nm(ome: ElementTree.Element | None) -> tuple[float, float, float] | None:
    """Pitch (z, y, x) [nm] that OME metadata states for their image, None unless all three."""
    nodes = () if ome is None else ome.iter()
    pixels = next((node for node in nodes if tag(node) == "Pixels"), None)
    if pixels is None:
        return None
    sizes = [_physical_nm(pixels, axis) for axis in "ZYX"]
    if None in sizes:
        return None
    z, y, x = (size for size in sizes if size is not None)
    return z, y, x


def _physical_nm(pixels: ElementTree.Element, axis: str) -> float | None:
    """Physical size along an axis [nm], rounded to 1e-6 nm; None if not stated as a length."""
    unit = UNIT_NM.get(pixels.get(f"PhysicalSize{axis}Unit", "µm"))
    try:
        size = float(pixels.get(f"PhysicalSize{axis}", ""))
    except ValueError:
        return None
    if unit is None or not math.isfinite(size) or size <= 0:
        return None
    return round(size * unit, 6)


def _highest(values: npt.NDArray[Any], path: str) -> float:
    """The highest value of a volume; SampleError unless all are finite, 0 or more, and not dark."""
    lowest, highest = math.inf, -math.inf
    for plane in values:  # a plane at a time: the file may be larger than memory
        lowest, highest = min(lowest, float(plane.min())), max(highest, float(plane.max()))
        if not (math.isfinite(lowest) and math.isfinite(highest)):
            raise SampleError(f"{path} holds values that are not finite: replace them")
    if lowest < 0.0:
        raise SampleError(f"{path} holds {lowest:g}: subtract the background and clip at 0")
    if highest == 0.0:
        raise SampleError(f"{path} is dark everywhere: give a volume with something in it")
    return highest


def _checked_labels(values: npt.NDArray[Any], path: str) -> tuple[npt.NDArray[np.uint16], float]:
    """Labels uint16 (z, y, x) and the highest of them."""
    if values.dtype.kind not in "iub" or values.ndim not in (2, 3) or 0 in values.shape:
        raise SampleError(
            f"{path} holds {values.dtype} of shape {values.shape}: give labels as whole numbers "
            "(y, x) or (z, y, x)"
        )
    if 2 * values.size > MOST_BYTES:
        raise SampleError(
            f"{path} holds {values.size:.3g} labels, more than {MOST_BYTES / 2:.3g}: cut it"
        )
    lowest, highest = int(values.min()), int(values.max())
    if lowest < 0 or highest > MOST_LABELS:
        raise SampleError(
            f"{path} holds labels from {lowest} to {highest}: number objects from 1 to "
            f"{MOST_LABELS}, background 0"
        )
    if highest == 0:
        raise SampleError(f"{path} holds background only: give an image with labels above 0")
    planes = np.asarray(values[None] if values.ndim == 2 else values, np.uint16)
    return planes, float(highest)
