"""Which object each camera pixel shows."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field

from simscope.keys import Key
from simscope.sample import Section, camera_labels, check_objects
from simscope.targets.base import Axis, Target, fine_axes, resolved


class LabelTarget(Target):
    """Which object each camera pixel shows, 0 background: of every frame the same, or in focus."""

    kind: Literal["labels"] = "labels"
    dtype: ClassVar[np.dtype[Any]] = np.dtype(np.uint16)
    section: Section = Field(
        "projection", description="objects seen from above, or cut at the nominal focus"
    )

    @property
    def description(self) -> str:
        """What the values are, in one line."""
        seen = {"projection": "seen from above", "focus": "cut at the nominal focus"}[self.section]
        return f"object that covers most of each pixel, 0 background, {seen}"

    def axes(self, source: Any) -> tuple[Axis, ...]:
        """Rows and columns of camera pixels."""
        check_objects(source.recipe)
        rows, columns = fine_axes(source.recipe, 1)
        return rows._replace(name="y"), columns._replace(name="x")

    def _made(self, source: Any, chunk: Any) -> npt.NDArray[np.uint16]:
        recipe, key = resolved(source), Key(source.seed)
        samples = _samples(chunk)
        frames = (len(chunk.emitter_offsets) - 1) // len(samples)
        out = np.empty((len(samples), frames, *recipe.acquisition.shape), np.uint16)
        for row, sample in enumerate(samples):
            out[row] = camera_labels(recipe, key, sample, self.section)  # one, or all of a stack
        return out


def _samples(chunk: Any) -> list[int]:
    """Numbers of the samples of a chunk, or of a batch in whatever order they were picked."""
    if hasattr(chunk, "sample_start"):
        return list(range(chunk.sample_start, chunk.sample_stop))
    return [int(sample) for sample in chunk.samples]
