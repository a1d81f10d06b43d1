"""What all networks that find emitters share: their table, their truth, how they are judged.

A localiser reads frames and writes a table of emitters. It sees ``context`` frames before and
after each, and beyond ``halo_px`` pixels no pixel matters to another, so that large frames can be
cut into tiles (:mod:`simscope.learn.localize`).
"""

from __future__ import annotations

import math
from abc import abstractmethod
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import torch

from simscope.acquire import Batch
from simscope.errors import TrainingError
from simscope.evaluate import in_frame, score
from simscope.learn.task import Task
from simscope.recipe import BeadStructure, FocusStack, Model, Recipe
from simscope.targets import frame_of_row

FOUND_DTYPE = np.dtype(
    [("frame", np.int64)]
    + [
        (name, np.float64)
        for name in (
            "x_nm", "y_nm", "z_nm", "photons", "probability",
            "uncertainty_x_nm", "uncertainty_y_nm", "uncertainty_z_nm", "uncertainty_photons",
        )
    ]
)  # fmt: skip
"""Columns of what a localiser finds; NaN where a network does not tell.

``probability`` that an emitter is there; uncertainties are predicted standard deviations.
"""
TRUTH_COLUMNS = ("x_nm", "y_nm", "z_nm", "photons")
LARGEST_LOG = 30.0
"""What networks say as a logarithm is cut here, so that frames unlike any in training, such as
saturated ones, give wrong numbers with a warning, but numbers."""
THRESHOLDS = tuple(k / 20 for k in range(2, 19))


def frames_of(images: Any) -> Any:
    """Images as (frames, y, x), whether samples are single frames or movies."""
    return images.reshape(-1, *images.shape[-2:])


def empty_table(rows: int) -> npt.NDArray[Any]:
    """Table of ``rows`` emitters about which nothing is known yet: frame 0, all else NaN."""
    table = np.full(rows, np.nan, [(name, np.float64) for name in FOUND_DTYPE.names or ()])
    table["frame"] = 0
    return table.astype(FOUND_DTYPE)


class Localizer(Task):
    """A network that finds emitters in frames of a recipe.

    Raises
    ------
    TrainingError
        If the recipe is a focus stack or a single bead.
    """

    radius_nm: ClassVar[float] = 250.0
    """Largest lateral distance of a match, for judging and for choosing the threshold."""
    axial_radius_nm: ClassVar[float | None] = None

    def __init__(self, recipe: Recipe, config: Model) -> None:
        super().__init__(recipe, config)
        if isinstance(recipe.acquisition.focus_nm, FocusStack):
            raise TrainingError(
                f"recipe {recipe.name!r} images focus stacks, {self.kind} reads single frames: "
                "train 'zernike' on it, or set acquisition.focus_nm to a number"
            )
        if isinstance(recipe.structure, BeadStructure):
            raise TrainingError(
                f"recipe {recipe.name!r} holds one bead near the middle: a localiser would learn "
                "to guess the middle; use structure.kind: uniform"
            )

    @property
    def context(self) -> int:
        """Frames before and after each that the network sees; ends of a movie see their own again.

        Images (n, y, x) are then consecutive frames of one movie, (samples, t, y, x) several.
        """
        return 0

    @property
    def stride_px(self) -> int:
        """Tiles of a frame must begin at multiples of this."""
        return 1

    @property
    @abstractmethod
    def halo_px(self) -> int:
        """Pixels around a place that its output can depend on (radius of the receptive field)."""

    @abstractmethod
    def found(self, output: torch.Tensor, threshold: float | None = None) -> npt.NDArray[Any]:
        """Emitter table (``FOUND_DTYPE``, frames from 0, sorted) of the network's output.

        Emitters below the threshold, by default the one chosen in training, are left out.
        """

    def truth(self, batch: Batch) -> dict[str, npt.NDArray[Any]]:
        """Emitters with light inside the frame, frames counted from the batch's first."""
        height, width = batch.images.shape[-2:]
        emitters = batch.emitters
        seen = in_frame(emitters, (height, width), self.recipe.pixel_nm)
        seen &= emitters["photons"] > 0
        columns = {name: emitters[name][seen].astype(np.float64) for name in TRUTH_COLUMNS}
        return columns | {"frame": frame_of_row(batch.emitter_offsets)[seen]}

    def require_emitters(self, batch: Batch) -> None:
        """Return nothing; raise TrainingError if a batch to set scales by shows no emitter."""
        if not len(self.truth(batch)["frame"]):
            raise TrainingError(
                f"no emitter in {len(frames_of(batch.images))} frames of {self.recipe.name!r}: "
                "raise the density"
            )

    def judge(self, output: torch.Tensor, batch: Batch) -> dict[str, float]:
        """Jaccard index, precision, recall and RMS errors [nm] within the radii of the class."""
        result = score(self.found(output), self.truth(batch), self.radius_nm, self.axial_radius_nm)
        judged = {
            "jaccard": result.jaccard,
            "precision": result.precision,
            "recall": result.recall,
            "rmse_lateral_nm": result.rmse_lateral_nm,
        }
        if self.axial_radius_nm is not None:
            judged["rmse_axial_nm"] = result.rmse_axial_nm
        return judged

    def calibrate(self, output: torch.Tensor, batch: Batch) -> None:
        """Choose the threshold with the best efficiency (Sage et al. 2019) on a batch."""
        threshold, merit = self.best_threshold(self.found(output, THRESHOLDS[0]), batch)
        if merit > -math.inf:
            self.config = self.config.model_copy(update={"threshold": threshold})

    def best_threshold(self, found: npt.NDArray[Any], batch: Batch) -> tuple[float, float]:
        """Threshold with the best efficiency [%], in 3-D if heights count, and that efficiency."""
        truth, best, choice = self.truth(batch), -math.inf, THRESHOLDS[0]
        for threshold in THRESHOLDS:
            sure = found[found["probability"] >= threshold]
            result = score(sure, truth, self.radius_nm, self.axial_radius_nm)
            flat = self.axial_radius_nm is None
            merit = result.efficiency_lateral if flat else result.efficiency_3d
            if merit > best:
                best, choice = merit, threshold
        return choice, best

    def common_height_nm(self) -> float:
        """The height all molecules share [nm], NaN if they do not: what a 2-D network can say."""
        z_nm = getattr(self.recipe.structure, "z_nm", math.nan)
        return float(z_nm) if isinstance(z_nm, float | int) else math.nan
