"""What the training loop needs to know of a network: its data, its loss, its judgement."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar

import torch
from torch import nn

from simscope.acquire import Batch
from simscope.learn.inputs import scaled_and_roots
from simscope.recipe import Model, Recipe


class Task(ABC):
    """A network for a recipe, with everything that turns batches into numbers to learn from.

    ``config`` is a frozen model that, with the weights, is all that is needed to use the network.
    ``recipe`` is the experiment it is trained on; ``network`` the torch module.
    """

    kind: ClassVar[str]
    plan: ClassVar[dict[str, Any]] = {}
    """Hyper-parameters of training that suit this network better than the loop's defaults."""
    expected: ClassVar[bool] = False
    """Whether batches carry their noiseless images."""
    augments_fresh: ClassVar[bool] = False
    """Whether samples straight from the simulator are augmented too."""
    pixels_at_once: ClassVar[int] = 1 << 18
    """Camera pixels that go through the network together when it is used."""
    network: nn.Module

    def __init__(self, recipe: Recipe, config: Model) -> None:
        self.recipe = recipe
        self.config: Any = config

    @abstractmethod
    def fit_scales(self, batch: Batch) -> None:
        """Set scales of inputs and outputs in ``config`` from data, before training."""

    @abstractmethod
    def inputs(self, images: Any) -> torch.Tensor:
        """Network input from counts [ADU] of one batch."""

    def prepared(self, photons: torch.Tensor) -> torch.Tensor:
        """Network input from photons (n, planes, y, x), as an exported network makes it."""
        return scaled_and_roots(photons, self.config)

    @abstractmethod
    def targets(self, batch: Batch) -> torch.Tensor:
        """What the network should say of a batch."""

    def augment(
        self, inputs: torch.Tensor, targets: torch.Tensor, chance: float
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """A batch as likely, chosen by ``chance`` in (0, 1); the same one by default."""
        return inputs, targets

    @abstractmethod
    def loss(self, output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """Scalar to be made small."""

    @abstractmethod
    def judge(self, output: torch.Tensor, batch: Batch) -> dict[str, float]:
        """Figures of merit on data not trained on, in physical units."""

    def calibrate(self, output: torch.Tensor, batch: Batch) -> None:  # noqa: B027
        """Set what is chosen on validation data, such as a threshold; nothing by default."""
