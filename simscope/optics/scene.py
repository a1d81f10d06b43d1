"""Emitters to be added to frames, checked, and how frames are cut up for it.

The same for every way to render: tables of images (``table.py``) and Gaussian spots
(``gaussian.py``). Arrays lie on one device throughout.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from simscope.device import Device
from simscope.errors import OpticsError

BAND_BYTES = 2**20
"""Size of a band of rows that stays close to a processor core while emitters are added to it."""

GPU_TILE = (8, 32)
"""Rows and columns of the tiles whose emitters a GPU looks up: a warp is a row of one."""


@dataclass(frozen=True)
class Scene:
    """Emitters of frames: places and heights [nm] float64, ``photons`` float32, and the frames.

    Emitters of frame f are those from ``offsets[f]`` to ``offsets[f + 1] - 1``; ``out`` float32
    (frames, y, x) is added to.
    """

    x_nm: Any
    y_nm: Any
    z_nm: Any
    photons: Any
    offsets: Any
    out: Any
    device: Device

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of a frame."""
        return int(self.out.shape[1]), int(self.out.shape[2])

    def band_rows(self, window_px: int, threads: int) -> int:
        """Rows a CPU works on at a time: cached, enough bands for all threads, not too thin."""
        rows, columns = self.shape
        cached = max(BAND_BYTES // (4 * max(columns, 1)), 2 * window_px)
        shared = math.ceil(rows * len(self.out) / (2 * threads)) if threads > 1 else rows
        bands = max(1, rows // max(min(cached, shared), window_px, 1))
        return math.ceil(rows / bands)

    def tiles(self, x_px: Any, y_px: Any, windows: Any) -> tuple[Any, Any]:
        """Emitters of every tile on a GPU, (starts, emitters), as ``kernels/tiles.py`` has them."""
        xp, kernels = self.device.xp, self.device.kernels("tiles")
        count = int(x_px.size)
        place = (x_px, y_px, windows, *self.shape, *GPU_TILE)
        tiles = xp.zeros(count, np.int64)
        kernels.count_tiles(count, *place, tiles)
        ends = xp.cumsum(tiles)
        total = int(ends[-1]) if count else 0
        tile, emitter = (xp.empty(total, np.int64) for _ in range(2))
        frame = xp.searchsorted(self.offsets, xp.arange(count), side="right") - 1
        kernels.list_tiles(count, *place, frame, ends - tiles, tile, emitter)
        order = xp.argsort(tile, kind="stable")  # table order within a tile
        along = [math.ceil(n / size) for n, size in zip(self.shape, GPU_TILE, strict=True)]
        numbers = xp.arange(len(self.out) * math.prod(along) + 1)
        return xp.searchsorted(tile[order], numbers), emitter[order]


def scene(
    x_nm: ArrayLike,
    y_nm: ArrayLike,
    z_nm: ArrayLike,
    photons: ArrayLike,
    frame_offsets: ArrayLike,
    shape: tuple[int, int],
    out: Any,
    device: Device,
) -> Scene:
    """A :class:`Scene`; ``out`` is made of zeros if None.

    Raises
    ------
    OpticsError
        If columns differ in length or are not finite, photons are negative, offsets do not cut the
        emitters into frames, or ``out`` does not fit.
    """
    columns = {"x_nm": x_nm, "y_nm": y_nm, "z_nm": z_nm, "photons": photons}
    x, y, z, light = (column(name, values, device) for name, values in columns.items())
    offsets = _offsets(frame_offsets, x.size, device)
    if not x.size == y.size == z.size == light.size:
        raise OpticsError("x_nm, y_nm, z_nm and photons differ in length: give one per emitter")
    if light.size and float(light.min()) < 0:
        raise OpticsError(f"photons={float(light.min()):g} is negative: emitters cannot take light")
    expected = (int(offsets.size) - 1, *shape)
    if out is None:
        out = device.xp.zeros(expected, dtype=np.float32)
    if out.shape != expected or out.dtype != np.float32 or not out.flags.c_contiguous:
        raise OpticsError(f"out is {out.dtype} {out.shape}: need float32 {expected}, contiguous")
    return Scene(x, y, z, light.astype(np.float32), offsets, out, device)


def column(name: str, values: ArrayLike, device: Device) -> Any:
    """Values as float64 (emitters,) on the device; OpticsError unless they are finite."""
    xp = device.xp
    found = xp.atleast_1d(device.put(values, np.float64))
    if found.ndim != 1:
        raise OpticsError(f"{name} has shape {found.shape}: give one value per emitter")
    if not bool(xp.isfinite(found).all()):
        raise OpticsError(f"{name} holds values that are not finite: give plain numbers")
    return found


def _offsets(values: ArrayLike, emitters: int, device: Device) -> Any:
    offsets = device.put(values, np.int64)
    fits = offsets.ndim == 1 and offsets.size >= 1
    if not fits or int(offsets[0]) != 0 or int(offsets[-1]) != emitters or _falls(offsets):
        raise OpticsError(
            f"frame_offsets must rise from 0 to the number of emitters, {emitters}: "
            "they cut the emitter table into frames"
        )
    return offsets


def _falls(offsets: Any) -> bool:
    return bool((offsets[1:] < offsets[:-1]).any())
