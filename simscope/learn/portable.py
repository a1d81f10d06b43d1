"""A trained network as others may run it: counts in, its output out, nothing else needed.

What stands before a network (counts to photons, photons to scaled photons and their roots) is made
part of it, so that software that knows nothing of cameras can run it on raw frames.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from simscope.acquire import Simulator
from simscope.errors import TrainingError
from simscope.learn.compute import run_network
from simscope.learn.inputs import photons_from_counts
from simscope.learn.localizer import Localizer
from simscope.learn.networks.unet import UNetTask
from simscope.learn.runs import TrainedModel
from simscope.learn.stream import training_seed
from simscope.learn.task import Task

AGREES = 1e-4
"""Largest difference of an exported network's output, relative to the largest output."""


class Portable(nn.Module):
    """Counts [ADU] (n, planes, y, x), float32, to the output of a trained network, float32.

    Planes are the focal planes of a stack, or a frame between its neighbours, earliest first.
    """

    def __init__(self, task: Task) -> None:
        super().__init__()
        dark, one = photons_from_counts(np.array([[[0.0]], [[1.0]]], np.float32), task.recipe)
        self.photons_at_zero = float(dark[0, 0])
        self.photons_per_adu = float(one[0, 0] - dark[0, 0])
        self.prepared, self.network = task.prepared, task.network

    def forward(self, counts: torch.Tensor) -> torch.Tensor:
        """The network's output, as its module says."""
        photons = self.photons_per_adu * counts + self.photons_at_zero
        output: torch.Tensor = self.network(self.prepared(photons))
        return output


def planes_of(task: Task) -> int:
    """Planes of counts that a network sees at once."""
    if isinstance(task, Localizer):
        return 1 + 2 * task.context
    return int(getattr(task, "planes", 1))


def any_size(task: Task) -> bool:
    """Whether a network takes fields of any size."""
    return isinstance(task, Localizer | UNetTask)


def sample_counts(task: Task) -> npt.NDArray[np.float32]:
    """Counts [ADU] of one simulated sample, (1, planes, y, x), never one trained on.

    A patch of it for networks that read patches.
    """
    images = Simulator(task.recipe, training_seed(0) ^ 1).batch(0, planes_of(task)).images
    side = getattr(task.config, "patch_px", None)
    images = images[..., :side, :side]
    height, width = images.shape[-2:]
    planes = images.reshape(-1, height, width)[: planes_of(task)]
    return planes[None].astype(np.float32)


def portable(model: TrainedModel) -> tuple[Portable, torch.Tensor, torch.Tensor]:
    """A trained network ready for export, with counts of a sample and its output on them.

    Raises
    ------
    TrainingError
        If the network prepares its inputs in a way of its own, which would not be exported.
    """
    task = model.task
    made, counts = Portable(task).eval(), torch.from_numpy(sample_counts(task))
    with torch.inference_mode():
        output = made(counts)
        own = run_network(task, _as_samples(task, counts.numpy()))
    middle = task.context if isinstance(task, Localizer) else 0
    own = own[middle : middle + 1]
    if own.shape != output.shape or difference(output, own) > AGREES:
        raise TrainingError(
            f"a {task.kind} network prepares its inputs in a way of its own and cannot be exported"
        )
    return made, counts, output


def _as_samples(task: Task, counts: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Counts as the task takes images: frames of a movie, a stack, or single frames."""
    single = isinstance(task, Localizer) and not task.context
    return counts[:, 0] if single or hasattr(task.config, "patch_px") else counts


def difference(output: torch.Tensor, own: torch.Tensor) -> float:
    """Largest difference of two outputs, relative to the largest value of the second."""
    return float((output - own).abs().max() / own.abs().max().clamp(min=1e-30))
