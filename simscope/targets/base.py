"""What all targets have in common: settings, axes, memory."""

from __future__ import annotations

import math
from typing import Any, ClassVar, NamedTuple

import numpy as np
import numpy.typing as npt

from simscope.errors import DatasetError
from simscope.keys import Key
from simscope.memory import MOST_BYTES
from simscope.recipe import Model, Recipe
from simscope.recipe.draws import draw_dataset

Floats = npt.NDArray[np.float64]


class Axis(NamedTuple):
    """One axis of a target: name, where its cells' middles lie, unit and meaning."""

    name: str
    values: Floats
    unit: str
    description: str


class Target(Model):
    """What to work out of every frame, or of every sample, with the settings of its kind.

    ``source`` below is anything with a ``recipe`` and a ``seed``, such as a
    :class:`simscope.Simulator` or an opened dataset; a chunk is a
    :class:`simscope.acquire.Chunk` or ``Batch`` on the host.
    """

    kind: str
    per_frame: ClassVar[bool] = True
    unit: ClassVar[str] = "1"
    dtype: ClassVar[np.dtype[Any]] = np.dtype(np.float32)

    @property
    def description(self) -> str:
        """What the values are, in one line."""
        raise NotImplementedError

    def axes(self, source: Any) -> tuple[Axis, ...]:
        """Axes of the target of one frame, or of one sample."""
        raise NotImplementedError

    def shape(self, source: Any) -> tuple[int, ...]:
        """Shape of the target of one frame, or of one sample."""
        return tuple(len(axis.values) for axis in self.axes(source))

    def of(self, source: Any, chunk: Any) -> npt.NDArray[Any]:
        """Targets ``(samples, frames, *shape)``, or ``(samples, *shape)`` if one a sample.

        Raises
        ------
        SimscopeError
            If the recipe has nothing of the kind, or the targets take too much memory.
        """
        count = len(chunk.emitter_offsets) - 1 if self.per_frame else len(chunk.images)
        shape = self.shape(source)
        needed = count * math.prod(shape) * self.dtype.itemsize
        if needed > MOST_BYTES:
            raise DatasetError(
                f"target {self.kind} of {count} images takes {needed / 1e9:.3g} GB, more than "
                f"{MOST_BYTES / 1e9:g}: ask for a coarser grid, or fewer samples at a time"
            )
        frames = (count // len(chunk.images),) if self.per_frame else ()
        return self._made(source, chunk).reshape(len(chunk.images), *frames, *shape)

    def _made(self, source: Any, chunk: Any) -> npt.NDArray[Any]:
        raise NotImplementedError


def fine_axes(recipe: Recipe, upsampling: int) -> tuple[Axis, Axis]:
    """Rows and columns of a grid with so many cells per camera pixel, over the field of view."""
    cell_nm = recipe.pixel_nm / upsampling
    rows, columns = (
        Axis(
            f"fine_{name}",
            (np.arange(pixels * upsampling, dtype=np.float64) + 0.5) * cell_nm,
            "nm",
            f"middles of the cells along {name} from the outer corner of the first pixel",
        )
        for name, pixels in zip("yx", recipe.acquisition.shape, strict=True)
    )
    return rows, columns


def resolved(source: Any) -> Recipe:
    """The recipe of a source with the numbers put in that are drawn once per dataset."""
    return draw_dataset(source.recipe, Key(source.seed))[0]
