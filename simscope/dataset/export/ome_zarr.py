"""OME-Zarr: NGFF 0.4 multiscale images, Zarr version 2, with places of pixels in micrometres.

A pixel's place is ``scale * index + translation``, that of its centre: ``(k + 1/2)`` pixels from
the outer corner of the first one, simscope's own origin, so that emitters and images share
coordinates on every level. A level halves y and x by averages of 2 x 2 pixels, an odd last row or
column left out, as long as a side exceeds ``SMALLEST``. Samples stand along t; a movie has an image
for each sample. Specification: https://ngff.openmicroscopy.org/0.4
"""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from simscope.dataset.export.frames import Frames
from simscope.dataset.export.ome_tiff import plane_nm
from simscope.dataset.export.truth import write_truth
from simscope.errors import DatasetError
from simscope.recipe import FocusStack

VERSION = "0.4"
SMALLEST = 256
CHUNK_BYTES = 4 << 20
"""Images of a chunk: those of several samples together where images are small."""

CONVENTION = """\
images.ome.zarr: camera counts [ADU], uint16, axes t, (z,) y, x, samples along t; of movies one
image a sample, sample-00000.ome.zarr and so on; NGFF 0.4, coordinates in um from the outer corner
of the first pixel
"""


def write(frames: Frames, folder: Path) -> list[str]:
    """Write the export; returns what the user must know besides the convention.

    Raises
    ------
    DatasetError
        If the package zarr is not installed.
    """
    if importlib.util.find_spec("zarr") is None:
        raise DatasetError("ome-zarr needs the package zarr: pip install 'simscope[exchange]'")
    if not frames.is_movie:
        _write_image(frames, folder / "images.ome.zarr", frames.first, frames.last)
    else:
        for number in range(frames.samples):
            sample = frames.first + number
            _write_image(frames, folder / f"sample-{number:05d}.ome.zarr", sample, sample + 1)
    return write_truth(frames, folder)


def _write_image(frames: Frames, path: Path, first: int, last: int) -> None:
    """Write samples ``first`` to ``last`` (not included) as one multiscale image."""
    import zarr

    part = Frames(frames.data, first, last)
    stack = () if frames.is_movie else (part.per_sample,) if plane_nm(frames) is not None else ()
    times = part.count // (stack[0] if stack else 1)
    group = zarr.open_group(str(path), mode="w", zarr_format=2)
    levels = [
        group.create_array(
            str(level), shape=(times, *stack, *shape), dtype="uint16",
            chunks=_chunk(times, (*stack, *shape)), fill_value=0,
            chunk_key_encoding={"name": "v2", "separator": "/"},
        )
        for level, shape in enumerate(level_shapes(frames.shape))
    ]  # fmt: skip
    group.attrs["multiscales"] = [multiscale(frames, len(levels))]
    done = (first - frames.first) * frames.per_sample
    for start, images in _whole_chunks(part, levels[0].chunks[0], stack):
        for level in levels:
            level[start : start + len(images)] = images
            images = halved(images)
        planes = stack[0] if stack else 1
        frames.tick(done + min(part.count, (start + level.chunks[0]) * planes), frames.count)


def _chunk(times: int, image: tuple[int, ...]) -> tuple[int, ...]:
    """Chunk of whole images, as many as make ``CHUNK_BYTES``."""
    size = 2 * int(np.prod(image, dtype=np.int64))
    return (max(1, min(times, CHUNK_BYTES // size)), *image)


def _whole_chunks(frames: Frames, step: int, stack: tuple[int, ...]) -> Any:
    """First index along t and images ``(t, [z], y, x)``, a chunk at a time."""
    planes = stack[0] if stack else 1
    held: list[npt.NDArray[np.uint16]] = []
    start = 0
    for image in frames.images():
        held.append(image)
        if len(held) == step * planes:
            yield start, np.stack(held).reshape(-1, *stack, *frames.shape)
            start, held = start + step, []
    if held:
        yield start, np.stack(held).reshape(-1, *stack, *frames.shape)


def level_shapes(shape: tuple[int, int]) -> list[tuple[int, int]]:
    """Rows and columns of each level."""
    shapes = [shape]
    while max(shapes[-1]) > SMALLEST and min(shapes[-1]) > 1:
        rows, columns = shapes[-1]
        shapes.append((rows // 2, columns // 2))
    return shapes


def halved(images: npt.NDArray[np.uint16]) -> npt.NDArray[np.uint16]:
    """Averages of 2 x 2 pixels, rounded; an odd last row or column is left out."""
    rows, columns = (size // 2 * 2 for size in images.shape[-2:])
    even = images[..., :rows, :columns].astype(np.uint32)
    pairs = even[..., ::2, :] + even[..., 1::2, :]
    return ((pairs[..., ::2] + pairs[..., 1::2] + 2) // 4).astype(np.uint16)


def multiscale(frames: Frames, levels: int) -> dict[str, Any]:
    """The ``multiscales`` entry of an image: its axes, and places of the pixels of each level."""
    step_nm, focus = plane_nm(frames), frames.recipe.acquisition.focus_nm
    axes: list[dict[str, str]] = [{"name": "t", "type": "time"}]
    steps, starts = [1.0], [0.0]
    if frames.is_movie:
        axes[0]["unit"] = "millisecond"
        steps = [frames.interval_ms]
    if step_nm is not None and isinstance(focus, FocusStack):
        axes.append({"name": "z", "type": "space", "unit": "micrometer"})
        steps.append(1e-3 * step_nm)
        starts.append(1e-3 * focus.start_nm)
    axes += [{"name": name, "type": "space", "unit": "micrometer"} for name in "yx"]
    return {
        "version": VERSION,
        "name": frames.recipe.name,
        "axes": axes,
        "datasets": [
            {"path": str(level), "coordinateTransformations": _places(frames, level, steps, starts)}
            for level in range(levels)
        ],
        "type": "mean of 2 x 2",
    }


def _places(
    frames: Frames, level: int, steps: list[float], starts: list[float]
) -> list[dict[str, Any]]:
    """Scale, then translation, of a level [um]."""
    pixel_um = 1e-3 * frames.pixel_nm * 2**level
    return [
        {"type": "scale", "scale": [*steps, pixel_um, pixel_um]},
        {"type": "translation", "translation": [*starts, 0.5 * pixel_um, 0.5 * pixel_um]},
    ]
