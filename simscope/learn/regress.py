"""From images to the numbers behind them with a trained regression network."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, overload

import numpy as np
import numpy.typing as npt

from simscope.dataset import open_dataset
from simscope.dataset.output import replacing, require_suffix
from simscope.errors import TrainingError
from simscope.learn.compute import run_network
from simscope.learn.foreign import PIXEL_TOLERANCE, STATED_TOLERANCE, Exchange, require_pixel
from simscope.learn.regressor import Floats, Regressor, pooled
from simscope.learn.runs import TrainedModel, load, warn_if_trained_on
from simscope.learn.task import Task
from simscope.tiff import SUFFIXES, tiff_stack

Columns = dict[str, npt.NDArray[np.float64]]
Counts = Callable[[npt.NDArray[Any]], npt.NDArray[Any]]
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
        Path of a dataset or TIFF file, an opened dataset, or counts [ADU]: stacks (samples, planes,
        y, x) for ``zernike``, frames (samples, y, x) for ``psf-blind``, whose patches are read one
        by one and pooled by their certainty.

    Raises
    ------
    TrainingError
        If the model is no regressor, or the images are not what it knows.
    """
    model = model if isinstance(model, TrainedModel) else load(model)
    task = checked_regressor(model)
    with opened(data, task) as source:
        read, doubt = _read(task, *counts_of(model, source))
    columns = _by_path(task, read), _by_path(task, doubt)
    return columns if uncertainty else columns[0]


def counts_of(model: TrainedModel, source: Any) -> tuple[Any, Counts]:
    """Images, and what makes counts of them such as the model's camera gives, for its datasets.

    Raises
    ------
    TrainingError
        If a dataset has other pixels than the model.
    """
    if not hasattr(source, "recipe"):
        return np.asarray(source), lambda counts: counts
    require_pixel(model.recipe.pixel_nm, source.recipe.pixel_nm, PIXEL_TOLERANCE)
    warn_if_trained_on(model, source)
    return source.images, Exchange(source.recipe, model.recipe)


def _read(
    task: Regressor, images: Any, known: Counts = lambda counts: counts
) -> tuple[Floats, Floats]:
    """Numbers of all images and their doubts (samples, parameters), a block at a time."""
    task.check_images(tuple(images.shape))
    members = task.patches_of(images.shape)
    at_once = max(1, IMAGES_AT_ONCE // members)
    read = [(np.zeros((0, len(task.paths))), np.zeros((0, len(task.paths))))]
    for first in range(0, images.shape[0], at_once):
        output = run_network(task, known(finite(np.asarray(images[first : first + at_once]))))
        read.append(pooled(task.read(output), task.uncertainty(output), members))
    values, doubts = zip(*read, strict=True)
    return np.concatenate(values), np.concatenate(doubts)


@dataclass(frozen=True)
class ParameterMap:
    """Numbers of the PSF over a field.

    ``values`` and ``uncertainties`` hold an array (y, x) for each recipe path; ``y_nm`` and
    ``x_nm`` are the middles of the patches from the outer corner of the first pixel.
    """

    y_nm: Floats
    x_nm: Floats
    values: Columns
    uncertainties: Columns

    def table(self) -> Columns:
        """One row a place: ``x_nm``, ``y_nm``, every number and its uncertainty."""
        y_nm, x_nm = np.meshgrid(self.y_nm, self.x_nm, indexing="ij")
        places = {"x_nm": x_nm.ravel(), "y_nm": y_nm.ravel()}
        return places | beside(
            *({path: part.ravel() for path, part in columns.items()}
              for columns in (self.values, self.uncertainties))
        )  # fmt: skip


def beside(values: Columns, doubts: Columns) -> Columns:
    """Columns of values, each followed by its uncertainty."""
    return {
        name: column
        for path in values
        for name, column in ((path, values[path]), (f"{path} uncertainty", doubts[path]))
    }


def write_columns(
    out: str | Path, columns: Columns, *, force: bool = False, inputs: Iterable[str | Path] = ()
) -> int:
    """Write columns as CSV with a line of names on top; the number of rows.

    Raises
    ------
    DatasetError
        If ``out`` is not named .csv, exists and ``force`` is not set, is one of ``inputs``, or
        cannot be written.
    """
    require_suffix(out, ".csv")
    table = np.column_stack(list(columns.values()))
    with replacing(out, force=force, inputs=inputs) as part:
        np.savetxt(part, table, fmt="%.6g", delimiter=",", header=",".join(columns), comments="")
    return len(table)


def regress_map(
    model: TrainedModel | str | Path, images: Any, *, stride_px: int | None = None
) -> ParameterMap:
    """Numbers of the PSF place by place, from patches of a large field side by side or closer.

    Parameters
    ----------
    model
        A trained ``psf-blind`` or its run folder.
    images
        Counts [ADU] (y, x), or frames (n, y, x) of one field, whose numbers are pooled by their
        certainty; or the path of a TIFF file.
    stride_px
        Pixels from patch to patch; half a patch by default.

    Raises
    ------
    TrainingError
        If the model reads no patches, the stride is no whole number above 0, or the images are too
        small or hold NaN.
    """
    model = model if isinstance(model, TrainedModel) else load(model)
    task = checked_regressor(model)
    side = getattr(task.config, "patch_px", None)
    if side is None:
        raise TrainingError(f"a {task.kind} network reads no patches: train 'psf-blind' for maps")
    stride = side // 2 if stride_px is None else stride_px
    if isinstance(stride, bool) or not isinstance(stride, int) or stride < 1:
        raise TrainingError(f"stride_px={stride!r}: give a whole number of pixels from 1 up")
    with opened(images, task) as source:
        images, known = counts_of(model, source)
        frames = known(np.asarray(images))
    frames = frames[None] if frames.ndim == 2 else frames
    task.check_images(frames.shape)
    tops, lefts = (np.arange(0, length - side + 1, stride) for length in frames.shape[1:])
    read = [_read_place(task, frames[:, y : y + side, x : x + side]) for y in tops for x in lefts]
    shape = (len(tops), len(lefts), len(task.paths))
    values, doubts = (np.concatenate(part).reshape(shape) for part in zip(*read, strict=True))
    y_nm, x_nm = ((corners + 0.5 * side) * task.recipe.pixel_nm for corners in (tops, lefts))
    return ParameterMap(y_nm, x_nm, _by_path(task, values), _by_path(task, doubts))


def _read_place(task: Regressor, patches: npt.NDArray[Any]) -> tuple[Floats, Floats]:
    """Numbers (1, parameters) at one place seen in several frames, and their doubts."""
    values, doubts = _read(task, patches)
    return pooled(values, doubts, len(values))


@contextmanager
def opened(data: Any, task: Task) -> Iterator[Any]:
    """A dataset by its path, counts of a TIFF file, anything else as it is.

    Frames of a TIFF file are planes of one stack after another for networks that read stacks.
    """
    if not isinstance(data, str | Path):
        yield data
        return
    if Path(data).suffix.lower() not in SUFFIXES:
        with open_dataset(data) as dataset:
            yield dataset
        return
    with tiff_stack(data, str(data), TrainingError) as stack:
        require_pixel(task.recipe.pixel_nm, stack.pixel_nm, STATED_TOLERANCE)
        frames = stack[0 : stack.shape[0]]
    planes = getattr(task, "planes", None)
    if planes is not None:
        if len(frames) % planes:
            raise TrainingError(
                f"{data} has {len(frames)} frames, no whole number of stacks of {planes} planes: "
                "cut it, or train on stacks like these"
            )
        frames = frames.reshape(-1, planes, *frames.shape[1:])
    yield frames


def checked_regressor(model: TrainedModel) -> Regressor:
    """The model's task; TrainingError unless it is a regressor."""
    if not isinstance(model.task, Regressor):
        raise TrainingError(
            f"a {model.kind} network reads no numbers off images: train 'zernike' or 'psf-blind'"
        )
    return model.task


def finite(images: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """The images; TrainingError if they hold NaN or infinity."""
    if not np.all(np.isfinite(images)):
        raise TrainingError("images hold NaN or infinity: repair them")
    return images


def _by_path(task: Regressor, table: Floats) -> Columns:
    return {path: table[..., column] for column, path in enumerate(task.paths)}
