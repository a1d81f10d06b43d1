"""From images to an emitter table with a trained localisation network."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from simscope.dataset import open_dataset
from simscope.errors import TrainingError
from simscope.learn.compute import run_network
from simscope.learn.localizer import Localizer, empty_table
from simscope.learn.runs import TrainedModel, load, warn_if_trained_on

PIXELS_AT_ONCE = 1 << 18


def localize(
    model: TrainedModel | str | Path, data: Any, *, threshold: float | None = None
) -> npt.NDArray[Any]:
    """Emitter table of images, positions in nm: structured ``(emitters,)``, sorted by frame.

    Columns as ``FOUND_DTYPE``: ``frame`` (from 0, counted through all samples), position, photons,
    ``probability`` and predicted uncertainties; NaN where the network does not tell.

    Parameters
    ----------
    model
        A trained model or its run folder.
    data
        Path of a dataset file, an opened dataset, or counts [ADU] of shape (y, x), (n, y, x) or
        (samples, frames, y, x). Pixel size and camera are taken to be those the model knows.
    threshold
        Least probability of an emitter; the one chosen in training if None.

    Raises
    ------
    TrainingError
        If the model does not localise, or the images or threshold cannot be used.
    """
    model = model if isinstance(model, TrainedModel) else load(model)
    task = model.task
    if not isinstance(task, Localizer):
        raise TrainingError(
            f"a {task.kind} network gives no positions: train a localiser such as 'deepstorm-slim'"
        )
    if threshold is not None and not 0 < threshold <= 1:
        raise TrainingError(f"threshold={threshold} is not in (0, 1]: give a probability")
    if isinstance(data, str | Path):
        with open_dataset(data) as opened:
            return localize(model, opened, threshold=threshold)
    if hasattr(data, "recipe"):
        _require_same_pixels(task, data.recipe)
        warn_if_trained_on(model, data)
        data = data.images
    tables = [empty_table(0)]
    for first, frames in _blocks(data):
        table = task.found(run_network(task, frames), threshold)
        table["frame"] += first
        tables.append(table)
    return np.concatenate(tables)


def _require_same_pixels(task: Localizer, recipe: Any) -> None:
    known, given = task.recipe.pixel_nm, recipe.pixel_nm
    if abs(given - known) > 1e-6 * known:
        raise TrainingError(
            f"data has pixels of {given:g} nm, the model was trained on {known:g} nm: "
            "train on a recipe with the pixels of the data"
        )


def _blocks(images: Any) -> Iterator[tuple[int, npt.NDArray[Any]]]:
    """First frame and frames (n, y, x) of blocks of bounded size, read as they are needed.

    A block is a run of whole samples, or a window of one sample's frames where a sample is larger
    than ``PIXELS_AT_ONCE``.
    """
    shape = images.shape
    if len(shape) not in (2, 3, 4) or 0 in shape[-2:]:
        raise TrainingError(f"images of shape {shape}: give (y, x), (n, y, x) or (n, t, y, x)")
    if len(shape) == 2:
        images, shape = np.asarray(images)[None], (1, *shape)
    per_item = shape[1] if len(shape) == 4 else 1
    frames_at_once = max(1, PIXELS_AT_ONCE // (shape[-2] * shape[-1]))
    for first, index in _pieces(shape[0], per_item, frames_at_once):
        block = np.asarray(images[index]).reshape(-1, *shape[-2:])
        if not np.all(np.isfinite(block)):
            raise TrainingError(f"images {first} onwards hold NaN or infinity: repair them")
        yield first, block


def _pieces(items: int, per_item: int, frames_at_once: int) -> Iterator[tuple[int, Any]]:
    """First frame, and the index that reads them, of at most ``frames_at_once`` frames."""
    if per_item <= frames_at_once:
        step = frames_at_once // max(per_item, 1)
        for item in range(0, items, step):
            yield item * per_item, slice(item, item + step)
        return
    for item in range(items):
        for frame in range(0, per_item, frames_at_once):
            yield item * per_item + frame, (item, slice(frame, frame + frames_at_once))
