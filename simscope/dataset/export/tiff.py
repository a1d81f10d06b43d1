"""Stacks of frames as TIFF, written frame by frame; BigTIFF where 4 GB do not suffice."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

CLASSIC_BYTES = 4_000_000_000
"""Beyond this a classic TIFF, with its offsets of 32 bits, cannot be addressed."""

PAGE_BYTES = 512
"""What the header of a page may take."""


def needs_bigtiff(shape: tuple[int, ...], item_bytes: int) -> bool:
    """Whether a stack ``(..., y, x)`` of such items exceeds a classic TIFF."""
    pages = int(np.prod(shape[:-2], dtype=np.int64))
    page = int(np.prod(shape[-2:], dtype=np.int64)) * item_bytes
    return pages * (page + PAGE_BYTES) > CLASSIC_BYTES


def write_stack(
    path: Path,
    pages: Iterable[npt.NDArray[Any]],
    shape: tuple[int, ...],
    dtype: Any = np.uint16,
    *,
    pixel_nm: float,
    **options: Any,
) -> None:
    """Write images ``(y, x)``, as many as ``shape`` says, to a TIFF of one page each.

    ``options`` go to ``tifffile.imwrite``.
    """
    import tifffile

    dtype = np.dtype(dtype)
    per_cm = 1e7 / pixel_nm
    tifffile.imwrite(
        path,
        (np.ascontiguousarray(page, dtype) for page in pages),
        shape=shape,
        dtype=dtype,
        bigtiff=needs_bigtiff(shape, dtype.itemsize),
        photometric="minisblack",
        resolution=(per_cm, per_cm),
        resolutionunit="CENTIMETER",
        software="simscope",
        **options,
    )
