"""The frames of a dataset one after another, as programs outside simscope want them.

Samples of an export are strung together into one line of two-dimensional frames, counted from 0:
frame ``t`` of the export's k-th sample is ``k * frames_per_sample + t``. Images are read in blocks
of bounded size; of emitters only those on the pixels are kept, as nothing else can be found there.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from simscope.dataset.frames import BLOCK_BYTES
from simscope.dataset.plan import Progress, numbers_in
from simscope.dataset.read import Dataset
from simscope.errors import DatasetError
from simscope.evaluate import in_frame
from simscope.recipe import Recipe
from simscope.recipe.distributions import Distribution

Columns = dict[str, npt.NDArray[Any]]


def silent(done: int, total: int) -> None:
    """Report no progress."""


@dataclass(frozen=True)
class Frames:
    """Samples ``first`` to ``last`` (not included) of an open dataset, as one line of frames."""

    data: Dataset
    first: int
    last: int
    tick: Progress = silent

    @classmethod
    def of(cls, data: Dataset, samples: str | None = None, tick: Progress = silent) -> Frames:
        """The samples that ``"100:200"`` means, the 100th up to and without the 200th, or all.

        Raises
        ------
        DatasetError
            If the text is no such range, or leads beyond the samples.
        """
        chosen = numbers_in(samples, len(data), "samples")
        return cls(data, chosen.start, chosen.stop, tick)

    @property
    def recipe(self) -> Recipe:
        """The recipe of the dataset."""
        return self.data.recipe

    @property
    def samples(self) -> int:
        """Samples exported."""
        return self.last - self.first

    @property
    def per_sample(self) -> int:
        """Two-dimensional frames of a sample."""
        return self.data.frames_per_sample

    @property
    def count(self) -> int:
        """Two-dimensional frames exported."""
        return self.samples * self.per_sample

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of a frame."""
        rows, columns = self.data.sample_shape[-2:]
        return rows, columns

    @property
    def pixel_nm(self) -> float:
        """Camera pixel in the sample [nm]."""
        return self.data.pixel_nm

    @property
    def is_movie(self) -> bool:
        """Whether frames of a sample follow each other in time."""
        return "t" in self.data.sample_axes

    @property
    def interval_ms(self) -> float:
        """Time from frame to frame [ms]."""
        acquisition = self.recipe.acquisition
        return acquisition.interval_ms or acquisition.exposure_ms

    def blocks(self) -> Iterator[tuple[int, npt.NDArray[np.uint16]]]:
        """Number of a first frame, and images from it on [ADU], uint16 ``(frames, y, x)``."""
        for start, stop, window in self._cuts():
            where = slice(start, stop) if window is None else (start, window)
            images = np.asarray(self.data.images[where]).reshape(-1, *self.shape)
            first = (start - self.first) * self.per_sample + (window.start if window else 0)
            yield first, images

    def _cuts(self) -> Iterator[tuple[int, int, slice | None]]:
        """Runs of whole samples, or of one sample's frames where a sample exceeds a block."""
        rows, columns = self.shape
        most = max(1, BLOCK_BYTES // (2 * rows * columns))
        if self.per_sample <= most:
            step = most // self.per_sample
            for start in range(self.first, self.last, step):
                yield start, min(start + step, self.last), None
            return
        for sample in range(self.first, self.last):
            for begin in range(0, self.per_sample, most):
                yield sample, sample + 1, slice(begin, min(begin + most, self.per_sample))

    def images(self) -> Iterator[npt.NDArray[np.uint16]]:
        """Images one after another [ADU], uint16 ``(y, x)``, progress told on the way."""
        for first, images in self.blocks():
            yield from images
            self.tick(first + len(images), self.count)

    @cached_property
    def emitters(self) -> Columns:
        """Emitters on the pixels, sorted by frame: columns as ``simscope.tables`` names them.

        Molecules are numbered over all samples, as no two samples share one. ``background``
        [photons/px] is there if the recipe has an even one.
        """
        rows, _ = self.data.emitters_of(self.first, self.last)
        rows = rows[in_frame(rows, self.recipe.acquisition.shape, self.pixel_nm)]
        columns: Columns = {"frame": rows["frame"].astype(np.int64) - self.first * self.per_sample}
        columns["id"] = self._numbered(rows["id"].astype(np.int64), columns["frame"])
        for name in ("x_nm", "y_nm", "z_nm", "photons"):
            columns[name] = rows[name].astype(np.float64)
        background = self.values("background.photons_per_pixel")
        if background is not None and self.recipe.background.kind == "uniform":
            columns["background"] = background[columns["frame"] // self.per_sample]
        return columns

    def _numbered(
        self, ids: npt.NDArray[np.int64], frame: npt.NDArray[np.int64]
    ) -> npt.NDArray[np.int64]:
        """Numbers of molecules that no other sample has."""
        sample = frame // self.per_sample
        most = np.zeros(self.samples, np.int64)
        np.maximum.at(most, sample, ids + 1)
        return ids + (np.cumsum(most) - most)[sample]

    def values(self, path: str) -> npt.NDArray[np.float64] | None:
        """A number of the recipe for each sample, float64 ``(samples,)``; None if it has none."""
        if path in self.drawn:
            return self.drawn[path]
        value: Any = self.recipe
        for part in path.split("."):
            value = getattr(value, part, None)
        if value is None or isinstance(value, Distribution | bool | str):
            return None
        return np.full(self.samples, float(value))

    def mean(self, path: str) -> float | None:
        """Mean over the samples of a number of the recipe; None if it has none."""
        values = self.values(path)
        if values is None or np.all(values == values[0]):
            return None if values is None else float(values[0])
        return float(values.mean())

    @cached_property
    def drawn(self) -> dict[str, npt.NDArray[np.float64]]:
        """Everything drawn for the samples, float64 ``(samples,)`` by recipe path."""
        return self.data.parameters_of(self.first, self.last)

    def differing(self, paths: Iterable[str]) -> list[str]:
        """Which of these numbers differ from sample to sample."""
        return [path for path in paths if path in self.drawn]


def require_molecules(frames: Frames, to: str) -> None:
    """Return nothing; DatasetError unless the dataset has emitters in frames of one channel."""
    recipe = frames.recipe
    if "z" in frames.data.sample_axes:
        raise DatasetError(
            f"{to} takes frames at one focus, this dataset has focus stacks: export it to "
            "ome-tiff, ome-zarr or npz"
        )
    if recipe.channels > 1:
        raise DatasetError(
            f"{to} takes one channel, this dataset has {recipe.channels} side by side, and "
            "positions in the first: export it to ome-tiff, ome-zarr or npz"
        )
    if recipe.photophysics.kind == "steady":
        raise DatasetError(
            f"{to} takes single molecules, a structure of kind {recipe.structure.kind} has none: "
            "export it to ome-tiff, ome-zarr, npz, coco or labels"
        )
