"""Movies of any length read piece by piece, with the frames around each piece that a network needs.

Images are four axes, (movies, frames, y, x), of which any index of the first two reads only what it
names: an array, a dataset's images, a TIFF stack.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from simscope.errors import TrainingError

FRAMES_WITH_CONTEXT = 16
"""Least frames in a piece for networks that see neighbours, which pieces read once more."""


@dataclass(frozen=True)
class Piece:
    """Counts [ADU] of whole movies, or a window of one movie, (movies, frames, y, x).

    ``first`` is the number of its first frame through all movies; ``before`` and ``after`` count
    the frames at its ends that are only there to be seen by others.
    """

    first: int
    counts: npt.NDArray[Any]
    before: int = 0
    after: int = 0

    @property
    def frames(self) -> int:
        """Number of frames it is about."""
        movies, frames = self.counts.shape[:2]
        return int(movies * frames - self.before - self.after)


class Movies:
    """Images as movies: ``one_movie`` says that three axes are a movie, not single frames.

    Raises
    ------
    TrainingError
        If the images have no such shape, or hold other than real numbers.
    """

    def __init__(self, images: Any, *, one_movie: bool = True) -> None:
        if not hasattr(images, "shape") or not hasattr(images, "dtype"):
            images = np.asarray(images)
        axes = len(images.shape)
        if axes not in (2, 3, 4) or 0 in images.shape[-2:]:
            raise TrainingError(
                f"images of shape {tuple(images.shape)}: give (y, x), (n, y, x) or (n, t, y, x)"
            )
        if np.dtype(images.dtype).kind not in "uif":
            raise TrainingError(f"images are of type {images.dtype}: give counts, real numbers")
        self._images, self._axes, self._one = images, axes, one_movie
        leading = {2: (1, 1), 3: (1, images.shape[0]) if one_movie else (images.shape[0], 1)}
        movies, frames = leading[axes] if axes < 4 else images.shape[:2]
        self.shape = (int(movies), int(frames), int(images.shape[-2]), int(images.shape[-1]))

    @property
    def frames(self) -> int:
        """Number of frames of all movies."""
        return self.shape[0] * self.shape[1]

    def movies(self, start: int, stop: int) -> npt.NDArray[Any]:
        """Whole movies, (movies, frames, y, x)."""
        return self._read(slice(start, stop), slice(0, self.shape[1]))

    def window(self, movie: int, start: int, stop: int) -> npt.NDArray[Any]:
        """Frames ``start`` to ``stop`` of one movie, (1, frames, y, x)."""
        return self._read(slice(movie, movie + 1), slice(start, stop))

    def _read(self, movies: slice, frames: slice) -> npt.NDArray[Any]:
        size = self.shape[-2:]
        if self._axes == 2:
            part = self._images[:]
        elif self._axes == 3:
            part = self._images[frames if self._one else movies]
        elif movies.stop - movies.start == 1:
            part = self._images[movies.start, frames]
        else:
            part = self._images[movies]
        part = np.asarray(part).reshape(-1, frames.stop - frames.start, *size)
        if part.dtype.kind == "f" and not np.isfinite(part).all():
            first = movies.start * self.shape[1] + frames.start
            raise TrainingError(f"frames from {first} on hold NaN or infinity: repair them")
        return part

    def pieces(self, pixels: int, context: int = 0) -> Iterator[Piece]:
        """All frames, in pieces of about ``pixels`` at most, read as they are needed."""
        count, length, height, width = self.shape
        at_once = max(1, pixels // (height * width))
        if length <= at_once:
            step = at_once // max(length, 1)
            for movie in range(0, count, step):
                yield Piece(movie * length, self.movies(movie, min(movie + step, count)))
            return
        step = max(at_once, FRAMES_WITH_CONTEXT if context else 1)
        for movie in range(count):
            for start in range(0, length, step):
                stop = min(start + step, length)
                low, high = max(0, start - context), min(length, stop + context)
                counts = self.window(movie, low, high)
                yield Piece(movie * length + start, counts, start - low, high - stop)

    def sampled(self, pixels: int) -> npt.NDArray[Any]:
        """Frames spread over the movies, (frames, y, x), at most ``pixels`` in all but one."""
        wanted = min(self.frames, max(1, pixels // (self.shape[-2] * self.shape[-1])))
        numbers = np.unique(np.linspace(0, self.frames - 1, wanted).round().astype(int))
        read = [
            self.window(n // self.shape[1], n % self.shape[1], n % self.shape[1] + 1)[0]
            for n in numbers
        ]
        return np.concatenate(read)
