"""Large frames cut into tiles that a network can hold, and their tables joined without seams.

A tile reaches ``halo_px`` beyond the part whose emitters are its own, so nothing that matters to
them is missing. Where rounding puts an emitter on one side of a seam in one tile and on the other
side in the next, both would take it, or none: tiles take a little more than their own, and what
two of them found at one place counts once.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.spatial import cKDTree

SEAM_PX = 0.02
"""How far a tile takes emitters beyond its own part; rounding moves them far less."""


@dataclass(frozen=True)
class Span:
    """Rows or columns of a tile: ``first`` to ``last`` are seen, ``low`` to ``high`` its own [px].

    Beyond the frame everything is the outermost tile's own.
    """

    first: int
    last: int
    low: float
    high: float


@dataclass(frozen=True)
class Tile:
    """Rows and columns of a frame that a network sees at once, and those that are its own."""

    y: Span
    x: Span

    @property
    def seen(self) -> tuple[slice, slice]:
        """Index of what the network sees."""
        return slice(self.y.first, self.y.last), slice(self.x.first, self.x.last)

    def own(self, table: npt.NDArray[Any], pixel_nm: float) -> npt.NDArray[Any]:
        """Rows of a table of what is seen that are the tile's own, placed in the frame."""
        table["x_nm"] += self.x.first * pixel_nm
        table["y_nm"] += self.y.first * pixel_nm
        inside = np.ones(len(table), bool)
        for span, name in ((self.x, "x_nm"), (self.y, "y_nm")):
            place_px = table[name] / pixel_nm
            inside &= (place_px >= span.low - SEAM_PX) & (place_px < span.high + SEAM_PX)
        return table[inside]


def tiles_of(shape: tuple[int, int], side_px: int, halo_px: int, stride_px: int = 1) -> list[Tile]:
    """Tiles of frames of ``shape`` (y, x), beginning at multiples of ``stride_px``.

    ``side_px`` is the longest side of the part that is a tile's own.
    """
    rows, columns = (_spans(length, side_px, halo_px, stride_px) for length in shape)
    return [Tile(y, x) for y in rows for x in columns]


def _spans(length: int, side_px: int, halo_px: int, stride_px: int) -> list[Span]:
    """Spans of about equal length that share out ``length`` pixels."""
    step = math.ceil(length / math.ceil(length / side_px) / stride_px) * stride_px
    return [
        Span(
            first=max(0, (low - halo_px) // stride_px * stride_px),
            last=min(length, math.ceil((low + step + halo_px) / stride_px) * stride_px),
            low=low if low else -math.inf,
            high=low + step if low + step < length else math.inf,
        )
        for low in range(0, length, step)
    ]


def joined(tables: list[npt.NDArray[Any]], pixel_nm: float) -> npt.NDArray[Any]:
    """One table, sorted by frame, of what tiles found, each emitter at a seam once."""
    found = np.concatenate(tables)
    tile = np.repeat(np.arange(len(tables)), [len(table) for table in tables])
    if len(tables) > 1 and len(found):
        places = np.stack([found["x_nm"], found["y_nm"]], axis=1) / pixel_nm
        apart = np.concatenate([places, found["frame"][:, None].astype(float)], axis=1)
        pairs = cKDTree(apart).query_pairs(2 * SEAM_PX, output_type="ndarray")
        twice = pairs[tile[pairs[:, 0]] != tile[pairs[:, 1]]]
        found = np.delete(found, np.unique(twice.max(axis=1))) if len(twice) else found
    return found[np.argsort(found["frame"], kind="stable")]
