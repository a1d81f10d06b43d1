"""From images to the numbers behind them with a trained regression network."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, overload

import numpy as np
import numpy.typing as npt

from simscope.dataset import open_dataset
from simscope.errors import TrainingError
from simscope.learn.compute import run_network
from simscope.learn.regressor import Regressor
from simscope.learn.runs import TrainedModel, load, warn_if_trained_on

Columns = dict[str, npt.NDArray[np.float64]]
IMAGES_AT_ONCE = 64


@overload
def regress(
    model: TrainedModel | str | Path, data: Any, *, uncertainty: Literal[False] = False
) -> Columns: ...
@overload
def regress(
    model: TrainedModel | str | Path, data: Any, *, uncertainty: Literal[True]
) -> tuple[Columns, Columns]: ...
def regress(
    model: TrainedModel | str | Path, data: Any, *, uncertainty: bool = False
) -> Columns | tuple[Columns, Columns]:
    """Numbers read off images, in their units, float64 ``(samples,)`` by recipe path.

    Keys are as in ``dataset.parameters``, so the two compare directly. With ``uncertainty``, also
    the standard deviations the network expects of its errors, by the same keys.

    Parameters
    ----------
    model
        A trained regressor or its run folder.
    data
        Path of a dataset file, an opened dataset, or counts [ADU]: stacks (samples, planes, y, x)
        for ``zernike``, patches (samples, y, x) for ``psf-blind``.

    Raises
    ------
    TrainingError
        If the model is no regressor, or the images are not what it knows.
    """
    model = model if isinstance(model, TrainedModel) else load(model)
    task = checked_regressor(model)
    if isinstance(data, str | Path):
        with open_dataset(data) as opened:
            return regress(model, opened, uncertainty=uncertainty)  # type: ignore[call-overload]
    if hasattr(data, "recipe"):
        require_same_pixels(task, data.recipe)
        warn_if_trained_on(model, data)
    images = data.images if hasattr(data, "recipe") else np.asarray(data)
    task.check_images(tuple(images.shape))
    values, doubts = [np.zeros((0, len(task.paths)))], [np.zeros((0, len(task.paths)))]
    for first in range(0, images.shape[0], IMAGES_AT_ONCE):
        output = run_network(task, finite(np.asarray(images[first : first + IMAGES_AT_ONCE])))
        values.append(task.read(output))
        doubts.append(task.uncertainty(output))
    read, doubt = (_by_path(task, np.concatenate(parts)) for parts in (values, doubts))
    return (read, doubt) if uncertainty else read


def checked_regressor(model: TrainedModel) -> Regressor:
    """The model's task; TrainingError unless it is a regressor."""
    if not isinstance(model.task, Regressor):
        raise TrainingError(
            f"a {model.kind} network reads no numbers off images: train 'zernike' or 'psf-blind'"
        )
    return model.task


def require_same_pixels(task: Regressor, recipe: Any) -> None:
    """Return nothing; TrainingError unless data has the pixels the network was trained on."""
    known, given = task.recipe.pixel_nm, recipe.pixel_nm
    if abs(given - known) > 1e-6 * known:
        raise TrainingError(
            f"data has pixels of {given:g} nm, the model was trained on {known:g} nm: train on a "
            "recipe with the pixels of the data"
        )


def finite(images: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """The images; TrainingError if they hold NaN or infinity."""
    if not np.all(np.isfinite(images)):
        raise TrainingError("images hold NaN or infinity: repair them")
    return images


def _by_path(task: Regressor, table: npt.NDArray[np.float64]) -> Columns:
    return {path: table[:, column] for column, path in enumerate(task.paths)}
