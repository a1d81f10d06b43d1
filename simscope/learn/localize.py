"""From images to an emitter table with a trained localisation network.

Frames are read piece by piece (:mod:`simscope.learn.movies`), brought to the camera the network
knows (:mod:`simscope.learn.foreign`) and, where they are large, cut into tiles that overlap by all
the network can see (:mod:`simscope.learn.tiles`), so that memory does not grow with the movie.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from simscope.dataset import open_dataset, tables
from simscope.errors import SimscopeWarning, TrainingError
from simscope.learn.compute import run_network
from simscope.learn.foreign import (
    ESTIMATE,
    PIXEL_TOLERANCE,
    STATED_TOLERANCE,
    Exchange,
    estimated,
    recipe_with,
    require_pixel,
    warn_if_unlike,
)
from simscope.learn.localizer import Localizer, empty_table
from simscope.learn.movies import Movies, Piece
from simscope.learn.runs import TrainedModel, load, warn_if_trained_on
from simscope.learn.tiles import joined, tiles_of
from simscope.recipe import FocusStack, Recipe
from simscope.tiff import SUFFIXES, TiffStack, tiff_stack

Progress = Callable[[int, int], None]


def localize(
    model: TrainedModel | str | Path,
    data: Any,
    *,
    threshold: float | None = None,
    camera: Any = None,
    pixel_nm: float | None = None,
    progress: Progress | None = None,
) -> npt.NDArray[Any]:
    """Emitter table of images, positions in nm: structured ``(emitters,)``, sorted by frame.

    Columns as ``FOUND_DTYPE``: ``frame`` (from 0, counted through all samples), position, photons,
    ``probability`` and predicted uncertainties; NaN where the network does not tell.

    Parameters
    ----------
    model
        A trained model or its run folder.
    data
        Path of a dataset or TIFF file, an opened dataset, or counts [ADU] of shape (y, x),
        (n, y, x), the frames of one movie, or (samples, frames, y, x).
    threshold
        Least probability of an emitter; the one chosen in training if None.
    camera
        That of the images: a recipe, settings that differ from the model's by name, such as
        ``{"baseline_adu": 400, "e_per_adu": 0.24}``, or "estimate" from the images. A dataset's
        own, or else the model's, if None.
    pixel_nm
        Pixel of the images in the sample [nm], to be checked against the model's.
    progress
        Called with the number of frames done and of all frames.

    Raises
    ------
    TrainingError
        If the model does not localise, or images, camera, pixel or threshold cannot be used.

    Warns
    -----
    SimscopeWarning
        With what was estimated or taken for granted, and if the model was trained on such data.
    """
    model = model if isinstance(model, TrainedModel) else load(model)
    task = model.task
    if not isinstance(task, Localizer):
        raise TrainingError(
            f"a {task.kind} network gives no positions: train a localiser such as 'deepstorm-slim'"
        )
    if threshold is not None and not 0 < threshold <= 1:
        raise TrainingError(f"threshold={threshold} is not in (0, 1]: give a probability")
    with _opened(data) as source:
        images, own, stated_nm = _described(model, source)
        if pixel_nm is not None:  # believed before what a file states
            require_pixel(task.recipe.pixel_nm, pixel_nm, PIXEL_TOLERANCE)
        else:
            wrong = ", or give pixel_nm if the file is wrong"
            require_pixel(task.recipe.pixel_nm, stated_nm, STATED_TOLERANCE, wrong)
        movies = Movies(images, one_movie=own is None)
        if isinstance(source, TiffStack):
            _tell_assumptions(task.recipe, camera, pixel_nm or stated_nm)
        given = _given_camera(task.recipe, camera, own, movies)
        return _found_in(task, movies, Exchange(given, task.recipe), threshold, progress)


def movie_of(model: TrainedModel, data: str | Path) -> dict[str, Any]:
    """Pixel [nm], shape (rows, columns) and number of frames of a file, as formats ask for.

    Raises
    ------
    SimscopeError
        If it is neither a dataset nor a TIFF file, or cannot be read.
    """
    if Path(data).suffix.lower() not in SUFFIXES:
        return tables.movie_of(data)
    with tiff_stack(data, str(data), TrainingError) as stack:
        frames, *shape = stack.shape
    return {"pixel_nm": model.recipe.pixel_nm, "shape": tuple(shape), "frames": frames}


@contextmanager
def _opened(data: Any) -> Iterator[Any]:
    """A dataset or TIFF stack by its path, anything else as it is."""
    if not isinstance(data, str | Path):
        yield data
        return
    is_tiff = Path(data).suffix.lower() in SUFFIXES
    with tiff_stack(data, str(data), TrainingError) if is_tiff else open_dataset(data) as opened:
        yield opened


def _described(model: TrainedModel, source: Any) -> tuple[Any, Recipe | None, float | None]:
    """Images, their own recipe if they have one, and the pixel they state [nm], if any."""
    if hasattr(source, "recipe"):
        warn_if_trained_on(model, source)
        if isinstance(source.recipe.acquisition.focus_nm, FocusStack):
            warnings.warn(
                "every plane of a focus stack is read as a frame of its own: one molecule comes "
                "out once a plane",
                SimscopeWarning,
                stacklevel=3,
            )
        return source.images, source.recipe, source.recipe.pixel_nm
    return source, None, source.pixel_nm if isinstance(source, TiffStack) else None


def _tell_assumptions(known: Recipe, camera: Any, pixel_nm: float | None) -> None:
    """Warn of what nobody said of a TIFF file."""
    missing = {} if pixel_nm else {"pixel_nm": f"pixel in the sample ({known.pixel_nm:g} nm)"}
    missing |= {"camera": "camera"} if camera is None else {}
    if missing:
        warnings.warn(
            f"the {' and the '.join(missing.values())} of these frames, not stated, is taken to be "
            f"the model's: give {' and '.join(missing)}",
            SimscopeWarning,
            stacklevel=3,
        )


def _given_camera(known: Recipe, camera: Any, own: Recipe | None, movies: Movies) -> Recipe:
    """A recipe with the camera of the images."""
    if isinstance(camera, str) and camera == ESTIMATE:
        return estimated(known, movies)
    if camera is not None:
        return recipe_with(known, camera)
    return known if own is None else own


def _found_in(
    task: Localizer,
    movies: Movies,
    exchange: Exchange,
    threshold: float | None,
    progress: Progress | None,
) -> npt.NDArray[Any]:
    """Emitter table of all frames."""
    pixel_nm, tables, done = task.recipe.pixel_nm, [empty_table(0)], 0
    side_px = math.isqrt(task.pixels_at_once)
    tiles = tiles_of(movies.shape[-2:], side_px, task.halo_px, task.stride_px)
    for piece in movies.pieces(task.pixels_at_once, task.context):
        counts = exchange(piece.counts)
        if not done:
            warn_if_unlike(task.recipe, task.config, counts)
        found = [
            tile.own(_found_at_once(task, piece, counts[..., *tile.seen], threshold), pixel_nm)
            for tile in tiles
        ]
        table = joined(found, pixel_nm)
        table["frame"] += piece.first
        tables.append(table)
        done += piece.frames
        if progress is not None:
            progress(done, movies.frames)
    return np.concatenate(tables)


def _found_at_once(
    task: Localizer, piece: Piece, counts: npt.NDArray[Any], threshold: float | None
) -> npt.NDArray[Any]:
    """Emitter table of a part of the frames that a piece is about, frames from 0."""
    output = run_network(task, counts)
    if not torch.isfinite(output).all():
        raise TrainingError(
            f"what the network says of counts from {counts.min():.3g} to {counts.max():.3g} is no "
            "number, so far are they from those it was trained on: check the frames and the camera"
        )
    return task.found(output[piece.before : len(output) - piece.after], threshold)
