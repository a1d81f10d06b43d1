"""What training is fed: batches of a stream or a file, and samples kept from it in both."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch.utils.data import DataLoader

from simscope.acquire import Batch
from simscope.errors import TrainingError
from simscope.keys import Key
from simscope.learn.plan import Plan
from simscope.learn.stream import HDF5Dataset, StreamingDataset, training_seed
from simscope.learn.task import Task
from simscope.recipe import FocusStack, Recipe, packaged_recipes

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
    is_recipe = isinstance(source, Recipe) or str(source) in packaged_recipes()
    if not is_recipe and Path(source).suffix.lower() not in (".yaml", ".yml"):  # type: ignore[arg-type]
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
    """Inputs and targets: streamed, or without end from a file."""
    if isinstance(data, HDF5Dataset):
        return _batches_of_file(data, task, plan, seed)

    def prepare(batch: Batch) -> Pair:
        return task.inputs(batch.images), task.targets(batch)

    data.transform = prepare
    return iter(DataLoader(data, batch_size=None, generator=torch.Generator()))


def _batches_of_file(data: HDF5Dataset, task: Task, plan: Plan, seed: int) -> Iterator[Pair]:
    """Runs of neighbouring samples in an order shuffled anew each epoch, augmented."""
    runs = _training_samples(data, plan) // plan.batch_size
    order_key, augment_key = (Key(seed).child(f"learn/{name}") for name in ("order", "augment"))
    for epoch in itertools.count():
        for run in np.argsort(order_key.uniform(np.arange(runs), step=epoch)).tolist():
            batch = data.batch(run * plan.batch_size, (run + 1) * plan.batch_size)
            chance = float(augment_key.uniform(run, step=epoch))
            yield task.augment(task.inputs(batch.images), task.targets(batch), chance)
