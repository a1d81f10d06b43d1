"""What training is fed: batches of a stream or a file, and samples kept from it in both."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
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


def validation_batch(data: StreamingDataset | HDF5Dataset, task: Task, plan: Plan) -> Batch:
    """Samples the weights are never fitted to, but chosen by, as the threshold is.

    Far along the stream, or the last but the held-out ones of the file.

    Raises
    ------
    TrainingError
        If a file is too small to keep any, or a sample too large to train on.
    """
    _require_room(data.recipe, max(plan.batch_size, plan.validation_samples))
    first = _training_samples(data, plan) if isinstance(data, HDF5Dataset) else VALIDATION_START
    return _samples(data, task, first, plan.validation_samples)


def held_out_batch(data: StreamingDataset | HDF5Dataset, task: Task, plan: Plan) -> Batch:
    """As many samples nothing was fitted to or chosen by: farther along, or the file's last."""
    count = plan.validation_samples
    streamed = isinstance(data, StreamingDataset)
    return _samples(data, task, HELD_OUT_START if streamed else len(data) - count, count)


def _samples(data: StreamingDataset | HDF5Dataset, task: Task, first: int, count: int) -> Batch:
    """``count`` samples on the host, with the noiseless images if the network learns them."""
    numbers = np.arange(first, first + count)
    return data.source.take(numbers, expected=task.expected, on_device=False)


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


class Feed:
    """Inputs and targets of one update after another, without end; used as a context.

    Streamed, or from a file, shuffled anew each epoch; ``first`` is the update to begin with.
    Batches of a file, which come again, are augmented, streamed ones where the task asks for it.
    On a GPU, and from a file, batches are made in a thread of their own while the network works.
    ``seconds_preparing`` is the time spent on inputs, targets and augmenting rather than on
    simulating or reading.
    """

    def __init__(
        self, data: StreamingDataset | HDF5Dataset, task: Task, plan: Plan, seed: int,
        *, first: int = 0, ahead: bool = False,
    ) -> None:  # fmt: skip
        stored = isinstance(data, HDF5Dataset)
        stop = _training_samples(data, plan) if isinstance(data, HDF5Dataset) else VALIDATION_START
        order = order_of(data.source, plan.batch_size, seed, stop=stop, drop_last=True)
        self._task, self._augmented = task, stored or task.augments_fresh
        self._key = Key(seed).child("augment")
        self.seconds_preparing = 0.0
        self._batches = Batches(
            data.source, order, epochs=None, first=first, transform=self._pair, keep_open=True,
            ahead=READ_AHEAD if stored or ahead else 0, expected=task.expected,
        )  # fmt: skip

    def _pair(self, batch: Batch) -> Pair:
        begun = time.perf_counter()
        pair = self._task.inputs(batch.images), self._task.targets(batch)
        self.seconds_preparing += time.perf_counter() - begun
        return pair

    def __enter__(self) -> Feed:
        return self

    def __exit__(self, *error: object) -> None:
        self._batches.close()

    def __iter__(self) -> Iterator[Pair]:
        return self

    def __next__(self) -> Pair:
        epoch, number = self._batches.epoch, self._batches.batch
        pair: Pair = next(self._batches)
        if not self._augmented:
            return pair
        begun = time.perf_counter()
        augmented = self._task.augment(*pair, float(self._key.uniform(number, step=epoch)))
        self.seconds_preparing += time.perf_counter() - begun
        return augmented
