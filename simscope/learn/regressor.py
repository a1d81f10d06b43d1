"""What all networks that read numbers off images share: truth, scales, loss, how they are judged.

A regressor says of every image one number for each of its ``paths``, the recipe's drawn numbers,
in their units, with the standard deviation it expects of its error. Values are learned by least
squares; the doubt beside them by the likelihood of a normal law whose residuals are held fixed
(Nix and Weigend 1994, ICNN, without the pull of doubt on the values, which Seitzer et al. 2022,
ICLR, show to spoil them).
"""

from __future__ import annotations

from abc import abstractmethod

import numpy as np
import numpy.typing as npt
import torch
from pydantic import Field
from torch.nn import functional

from simscope.acquire import Batch
from simscope.errors import TrainingError
from simscope.evaluate.regression import regression_scores
from simscope.learn.inputs import Scales
from simscope.learn.task import Task
from simscope.recipe import Model, Recipe
from simscope.recipe.draws import parameter_units

Floats = npt.NDArray[np.float64]

DOUBT_WEIGHT = 0.1
"""Weight of the likelihood of the doubts beside the squared error."""
DOUBT_RANGE = (-12.0, 3.0)
"""Logarithms of variances [spread squared] are kept in here."""


class RegressorConfig(Scales):
    """Scales of a regressor's data: each number's mean and spread in training, in its unit."""

    centres: tuple[float, ...] = Field((), description="mean of each parameter [its unit]")
    spreads: tuple[float, ...] = Field((), description="its standard deviation [its unit]")


class Regressor(Task):
    """A network that reads drawn numbers of a recipe off its images.

    Its output (n, 2 * parameters) holds the values in units of their spread, then the logarithms
    of the variances of their errors.
    """

    paths: tuple[str, ...]
    """Where in the recipe the numbers stand, one for each column."""

    def __init__(self, recipe: Recipe, config: Model, paths: tuple[str, ...]) -> None:
        super().__init__(recipe, config)
        self.paths = paths
        known = self.config.centres, self.config.spreads
        if any(known) and {len(part) for part in known} != {len(paths)}:
            raise TrainingError(
                f"config of {self.kind} has {len(known[0])} centres and {len(known[1])} spreads, "
                f"the recipe {recipe.name!r} draws {len(paths)} numbers: give one each, or none"
            )

    @property
    def units(self) -> tuple[str, ...]:
        """Unit of each number."""
        units = parameter_units(self.recipe)
        return tuple(units[path] for path in self.paths)

    @abstractmethod
    def check_images(self, shape: tuple[int, ...]) -> None:
        """Return nothing; raise TrainingError unless images of this shape can be read."""

    def patches_of(self, shape: tuple[int, ...]) -> int:
        """Patches read one by one from each image of a block of this shape: 1, the whole."""
        return 1

    def truth(self, batch: Batch) -> Floats:
        """Drawn numbers (n, parameters), in their units."""
        return np.column_stack([batch.parameters[path] for path in self.paths])

    def learned_scales(self, batch: Batch) -> dict[str, tuple[float, ...]]:
        """Centres and spreads of a batch, fields of the config.

        Raises
        ------
        TrainingError
            If a number is the same in all samples.
        """
        truth = self.truth(batch)
        spreads = truth.std(axis=0)
        for path, spread in zip(self.paths, spreads, strict=True):
            if not spread > 0:
                raise TrainingError(
                    f"{path} is the same in all samples: draw it from a distribution in the recipe"
                )
        return {"centres": tuple(truth.mean(axis=0).tolist()), "spreads": tuple(spreads.tolist())}

    def targets(self, batch: Batch) -> torch.Tensor:
        """Numbers (n, parameters) off their centres, in units of their spread."""
        centres, spreads = self._scales()
        return torch.from_numpy(((self.truth(batch) - centres) / spreads).astype(np.float32))

    def loss(self, output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """Mean squared error in units of the spread, and how unlikely it makes the doubts."""
        values, doubts = self._halves(output.float())
        residual = functional.mse_loss(values.detach(), target, reduction="none")
        unlikely = 0.5 * (residual * torch.exp(-doubts) + doubts).mean()
        return functional.mse_loss(values, target) + DOUBT_WEIGHT * unlikely

    def read(self, output: torch.Tensor) -> Floats:
        """Numbers (n, parameters), in their units, from the network's output."""
        centres, spreads = self._scales()
        values = self._halves(output)[0].numpy().astype(np.float64)
        return np.asarray(values * spreads + centres)

    def uncertainty(self, output: torch.Tensor) -> Floats:
        """Expected standard deviations of the errors of :meth:`read`, of the same shape."""
        doubts = self._halves(output)[1].numpy().astype(np.float64)
        return np.asarray(np.exp(0.5 * doubts) * self._scales()[1])

    def judge(self, output: torch.Tensor, batch: Batch) -> dict[str, float]:
        """R² and RMS error of each number in its unit, mean R², RMS of errors over doubts."""
        truth, read = self.truth(batch), self.read(output)
        scores = regression_scores(read, truth, self.paths)
        judged = {"r2": float(np.mean([score.r2 for score in scores.values()]))}
        z_score = (read - truth) / self.uncertainty(output)
        judged["z_score_rms"] = float(np.sqrt(np.mean(z_score**2)))
        for path, score in scores.items():
            judged |= {f"r2 {path}": score.r2, f"rms_error {path}": score.rmse}
        return judged

    def _halves(self, output: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        count = len(self.paths)
        return output[:, :count], output[:, count:].clamp(*DOUBT_RANGE)

    def _scales(self) -> tuple[Floats, Floats]:
        count = len(self.paths)
        return (
            np.array(self.config.centres or (0.0,) * count),
            np.array(self.config.spreads or (1.0,) * count),
        )


def pooled(values: Floats, doubts: Floats, members: int) -> tuple[Floats, Floats]:
    """Means of ``members`` rows each, weighted by certainty, and the doubts about them.

    Patches of one image err together, so a mean is held no surer than its members are on average
    (harmonic mean of their variances).
    """
    count, parameters = len(values) // members, values.shape[1]
    weights = doubts.reshape(count, members, parameters) ** -2.0
    means = (weights * values.reshape(weights.shape)).sum(axis=1) / weights.sum(axis=1)
    return means, weights.mean(axis=1) ** -0.5
