"""From recipe to images: the one place that knows the order of the stages.

``Simulator(recipe, seed)[i]`` depends on the recipe, the seed and *i* alone. Parameters of a batch
are drawn as arrays first, then emitters are placed, their light per frame is worked out, rendered,
the background added, and the camera read out.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

EMITTER_DTYPE = np.dtype(
    [
        ("frame", np.int64),
        ("id", np.int64),
        ("x_nm", np.float32),
        ("y_nm", np.float32),
        ("z_nm", np.float32),
        ("photons", np.float32),
    ]
)


@dataclass(frozen=True)
class Chunk:
    """A run of whole samples, or a window of frames of one sample.

    ``images`` is uint16 ``(samples, frames, y, x)`` [ADU] (``frames`` counts focal planes in a
    stack); ``expected_photons`` is the noiseless float32 image of the same shape at the camera, or
    None. ``emitters`` has ``EMITTER_DTYPE`` with ``frame = sample * frames_per_sample + t``, sorted
    by frame; ``emitter_offsets`` (int64, ``samples * frames + 1``) says where each frame begins.
    """

    sample_start: int
    sample_stop: int
    frame_start: int
    frame_stop: int
    images: npt.NDArray[np.uint16]
    emitters: npt.NDArray[Any]
    emitter_offsets: npt.NDArray[np.int64]
    saturated_pixels: int
    expected_photons: npt.NDArray[np.float32] | None = None
