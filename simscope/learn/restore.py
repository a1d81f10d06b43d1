"""From noisy images to restored ones with a trained U-Net."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from simscope.errors import TrainingError
from simscope.learn.compute import run_network
from simscope.learn.networks.unet import UNetTask
from simscope.learn.regress import counts_of, opened
from simscope.learn.runs import TrainedModel, load

PIXELS_AT_ONCE = 1 << 20


def restore(model: TrainedModel | str | Path, data: Any) -> npt.NDArray[np.float32]:
    """Restored images [photons/px], float32 of the shape of the counts.

    ``data`` is the path of a dataset or TIFF file, an opened dataset, or counts [ADU] whose last
    axes are (y, x), or (planes, y, x) for a network of focus stacks. Any size of field will do.
    Counts are taken to be of the model's camera; a dataset brings its own.

    Raises
    ------
    TrainingError
        If the model does not restore images, or they have another number of planes or another
        pixel, are colours, or hold NaN.
    """
    model = model if isinstance(model, TrainedModel) else load(model)
    task = model.task
    if not isinstance(task, UNetTask):
        raise TrainingError(f"a {task.kind} network restores no images: train 'unet'")
    with opened(data, task) as source:
        stored, known = counts_of(model, source)
        images = np.asarray(stored)
    if isinstance(data, str | Path) and images is stored and task.planes == 1:
        images = images.reshape(-1, *images.shape[-2:])  # frames of a TIFF file
    if images.dtype.kind not in "uif":
        raise TrainingError(f"images are of type {images.dtype}: give counts, real numbers")
    if images.ndim < 2 or 0 in images.shape or not np.all(np.isfinite(images)):
        raise TrainingError(f"images of shape {images.shape}: give finite counts (n, y, x)")
    if task.planes > 1 and images.shape[-3:-2] != (task.planes,):
        raise TrainingError(
            f"images of shape {images.shape}: this network restores stacks of {task.planes} planes"
        )
    blocks = [_restored(task, known(block)) for block in _blocks(images, task.planes)]
    return np.concatenate(blocks).reshape(images.shape)


def _restored(task: UNetTask, images: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    return task.read(run_network(task, images), task.photons(images))


def _blocks(images: npt.NDArray[Any], planes: int) -> Iterator[npt.NDArray[Any]]:
    """Items (n, planes, y, x) of bounded size."""
    items = images.reshape(-1, planes, *images.shape[-2:])
    step = max(1, PIXELS_AT_ONCE // (images.shape[-2] * images.shape[-1]))
    for first in range(0, len(items), step):
        yield items[first : first + step]
