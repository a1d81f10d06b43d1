"""What training is fed: batches of a stream or a file, and samples kept from it in both."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import torch

from simscope.acquire import Batch
from simscope.dataset.loading import READ_AHEAD, Batches, is_recipe, order_of
from simscope.errors import TrainingError
from simscope.keys import Key
from simscope.learn.plan import Plan
from simscope.learn.stream import HDF5Dataset, StreamingDataset, training_seed
from simscope.learn.task import Task
from simscope.recipe import FocusStack, Recipe

VALIDATION_START = 2**31  # streamed samples that choose weights and threshold: from here
HELD_OUT_START = 3 * 2**30  # and those that nothing is chosen by, seen once at the end: from here

MAX_PIXELS = 2**24  # of one update; more than a few GiB of features on the way
Pair = tuple[torch.Tensor, torch.Tensor]


def open_source(
    source: Recipe | str | Path, seed: int, batch_size: int, threads: int | None,
    device: str = "cpu",
) -> StreamingDataset | HDF5Dataset:  # fmt: skip
    """Stream of a recipe (object, packaged name, YAML file), or a dataset file.

    Networks take their inputs and targets from NumPy arrays, wherever samples were simulated.
    """
    if not is_recipe(source):
        return HDF5Dataset(source)  # type: ignore[arg-type]
    return StreamingDataset(
        source, training_seed(seed), batch_size=batch_size, stop=VALIDATION_START,
        threads=threads, device=device, on_device=False,
    )  # fmt: skip


def validation_batch(data: StreamingDataset | HDF5Dataset, plan: Plan) -> Batch:
    """Samples the weights are never fitted to, but chosen by, as the threshold is.

    Far along the stream, or the last but the held-out ones of the file.

    Raises
    ------
    TrainingError
        If a file is too small to keep any, or a sample too large to train on.
    """
    _require_room(data.recipe, max(plan.batch_size, plan.validation_samples))
    if isinstance(data, StreamingDataset):
        return data.batch(VALIDATION_START, VALIDATION_START + plan.validation_samples)
    first = _training_samples(data, plan)
    return data.batch(first, first + plan.validation_samples)


def held_out_batch(data: StreamingDataset | HDF5Dataset, plan: Plan) -> Batch:
    """As many samples nothing was fitted to or chosen by: farther along, or the file's last."""
    if isinstance(data, StreamingDataset):
        return data.batch(HELD_OUT_START, HELD_OUT_START + plan.validation_samples)
    return data.batch(len(data) - plan.validation_samples, len(data))


def _training_samples(data: HDF5Dataset, plan: Plan) -> int:
    """Samples of a file that are trained on: all but those for validation and held out."""
    left = len(data) - 2 * plan.validation_samples
    if left < plan.batch_size:
        raise TrainingError(
            f"{data.path} has {len(data)} samples, too few for batch_size={plan.batch_size} and "
            f"twice validation_samples={plan.validation_samples}: generate more or lower these"
        )
    return left


def _require_room(recipe: Recipe, samples: int) -> None:
    acquisition = recipe.acquisition
    focus, shape = acquisition.focus_nm, acquisition.shape
    if recipe.channels > 1:
        raise TrainingError(
            "networks here take frames of one channel: set optics.analyser.channels to 'parallel' "
            "or 'crossed', or leave the analyser out"
        )
    planes = focus.planes if isinstance(focus, FocusStack) else acquisition.frames
    pixels = samples * planes * shape[0] * shape[1]
    if pixels > MAX_PIXELS:
        raise TrainingError(
            f"{samples} samples of {planes} x {shape[0]} x {shape[1]} are {pixels} pixels at once, "
            f"above {MAX_PIXELS}: lower batch_size, validation_samples, acquisition.frames or shape"
        )


def batches(
    data: StreamingDataset | HDF5Dataset, task: Task, plan: Plan, seed: int
) -> Iterator[Pair]:
    """Inputs and targets without end: streamed, or from a file, shuffled anew each epoch.

    Batches of a file, which come again, are augmented.
    """
    stop, ahead, stored = VALIDATION_START, 0, isinstance(data, HDF5Dataset)
    if isinstance(data, HDF5Dataset):
        stop, ahead = _training_samples(data, plan), READ_AHEAD
    order = order_of(data.source, plan.batch_size, seed, stop=stop, drop_last=True)
    augment_key = Key(seed).child("augment")
    with Batches(data.source, order, epochs=None, ahead=ahead, keep_open=True) as stream:
        while True:
            epoch, number = stream.epoch, stream.batch
            batch = next(stream)
            pair = task.inputs(batch.images), task.targets(batch)
            chance = float(augment_key.uniform(number, step=epoch))
            yield task.augment(*pair, chance) if stored else pair
