"""OME-TIFF with physical sizes, axes TZYX.

Samples of single images or focus stacks stand along T of one file, of no given interval; a movie
has a file for each sample, with its interval. ``PhysicalSizeX`` is the pixel in the sample and
``PhysicalSizeZ`` the step of the objective, in um (OME model 2016-06).
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from simscope.dataset.export.frames import Frames
from simscope.dataset.export.tiff import write_stack
from simscope.dataset.export.truth import write_truth
from simscope.recipe import FocusStack

CONVENTION = """\
images.ome.tif: camera counts [ADU], uint16, axes TZYX, samples along T; of movies one file a
sample, sample-00000.ome.tif and so on; PhysicalSize in um; rows along y
"""


def write(frames: Frames, folder: Path) -> list[str]:
    """Write the export; returns what the user must know besides the convention."""
    pages = frames.images()
    for name, planes in files(frames):
        shape = (*planes, *frames.shape)
        count = planes[0] * planes[1]
        metadata = physical(frames) | {"UUID": identity(frames, name)}
        write_stack(
            folder / name, islice(pages, count), shape,
            pixel_nm=frames.pixel_nm, ome=True, metadata=metadata,
        )  # fmt: skip
    for _ in pages:  # tells of the last block
        pass
    return write_truth(frames, folder)


def files(frames: Frames) -> Iterator[tuple[str, tuple[int, int]]]:
    """Names of the files, and how many images each has along T and Z."""
    if not frames.is_movie:
        yield "images.ome.tif", (frames.samples, frames.per_sample)
        return
    for number in range(frames.samples):
        yield f"sample-{number:05d}.ome.tif", (frames.per_sample, 1)


def plane_nm(frames: Frames) -> float | None:
    """Step of the objective from plane to plane of a focus stack [nm]; None if there is none."""
    focus = frames.recipe.acquisition.focus_nm
    if not isinstance(focus, FocusStack):
        return None
    return (focus.stop_nm - focus.start_nm) / (focus.planes - 1)


def physical(frames: Frames) -> dict[str, Any]:
    """OME metadata: axes, sizes and interval."""
    size_um = 1e-3 * frames.pixel_nm
    said: dict[str, Any] = {"axes": "TZYX", "Name": frames.recipe.name}
    for axis in "XY":
        said |= {f"PhysicalSize{axis}": size_um, f"PhysicalSize{axis}Unit": "µm"}
    step_nm = plane_nm(frames)
    if step_nm:
        said |= {"PhysicalSizeZ": 1e-3 * abs(step_nm), "PhysicalSizeZUnit": "µm"}
    if frames.is_movie:
        said |= {"TimeIncrement": frames.interval_ms, "TimeIncrementUnit": "ms"}
    return said


def identity(frames: Frames, name: str) -> str:
    """UUID of a file, the same for the same content."""
    data = frames.data
    content = f"{data.recipe_sha256}/{data.seed}/{frames.first}:{frames.last}/{name}"
    return str(uuid.uuid5(uuid.NAMESPACE_URL, f"simscope:{content}"))
