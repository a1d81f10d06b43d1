"""From stacks to Zernike coefficients with a trained regression network."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from simscope.dataset import open_dataset
from simscope.errors import TrainingError
from simscope.learn.compute import run_network
from simscope.learn.networks.zernike import ZernikeTask
from simscope.learn.runs import TrainedModel, load, warn_if_trained_on

STACKS_AT_ONCE = 64


def regress(model: TrainedModel | str | Path, data: Any) -> dict[str, npt.NDArray[np.float64]]:
    """Zernike coefficients [nm RMS] of stacks, float64 ``(samples,)`` by recipe path.

    ``data`` is the path of a dataset file, an opened dataset, or counts [ADU] of shape
    (samples, planes, y, x). Keys are as in ``dataset.parameters``, so the two compare directly.

    Raises
    ------
    TrainingError
        If the model does not regress coefficients or the stacks have another number of planes.
    """
    model = model if isinstance(model, TrainedModel) else load(model)
    task = model.task
    if not isinstance(task, ZernikeTask):
        raise TrainingError(f"a {task.kind} network gives no coefficients: train 'zernike'")
    if isinstance(data, str | Path):
        with open_dataset(data) as opened:
            return regress(model, opened)
    if hasattr(data, "recipe"):
        warn_if_trained_on(model, data)
    images = data.images if hasattr(data, "recipe") else np.asarray(data)
    if len(images.shape) != 4 or images.shape[1] != task.planes:
        raise TrainingError(
            f"images of shape {images.shape}: give (samples, {task.planes} planes, y, x)"
        )
    blocks = [
        task.read(run_network(task, np.asarray(images[first : first + STACKS_AT_ONCE])))
        for first in range(0, images.shape[0], STACKS_AT_ONCE)
    ]
    table = np.concatenate([np.zeros((0, len(task.paths))), *blocks])
    return {path: table[:, column] for column, path in enumerate(task.paths)}
