"""Batches for any training loop, from a dataset or simulated as they are needed.

Which samples a batch holds is decided by :mod:`simscope.dataset.order`; here they are read or
simulated, turned into what the loop wants and handed out one after another. The position is a small
dictionary, and a run that goes on from it gets exactly the batches it had not been handed yet.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from simscope.acquire import MAX_SAMPLES, Batch, Simulator
from simscope.dataset.order import Order, Samples, whole_number
from simscope.dataset.read import Dataset, open_dataset
from simscope.device import device as device_named
from simscope.errors import DatasetError
from simscope.keys import Key
from simscope.memory import MOST_BYTES
from simscope.recipe import Recipe, load_recipe, packaged_recipes
from simscope.targets import Target, split_clean

Transform = Callable[[Batch], Any]
READ_AHEAD = 2
"""Batches of a file that are read before they are asked for."""


class Simulated:
    """Samples of a recipe, simulated as they are asked for, in runs of successive numbers.

    ``identity`` says what distinguishes them from those of other sources, ``count`` how many there
    are, ``sample_bytes`` how large an image is at least, ``cuts`` where a new file begins. It may
    be pickled; every process has its own simulator.
    """

    count = MAX_SAMPLES
    cuts: tuple[int, ...] = ()

    def __init__(
        self, recipe: Recipe | str | Path, seed: int, *, threads: int | None = None,
        device: str = "cpu", on_device: bool = False,
    ) -> None:  # fmt: skip
        self.recipe, self.seed = load_recipe(recipe), Key(seed).seed
        self.threads, self.on_device = threads, on_device
        self.device = device_named(device).name
        self.identity = {"recipe": self.recipe.sha256, "data_seed": self.seed}
        planes = self.recipe.acquisition.frames
        self.sample_bytes = 2 * planes * math.prod(self.recipe.camera_shape)
        self._opened: tuple[int, Simulator] | None = None

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_opened": None}

    @property
    def simulator(self) -> Simulator:
        """The simulator of this process, built on first use."""
        if self._opened is None or self._opened[0] != os.getpid():
            made = Simulator(self.recipe, self.seed, threads=self.threads, device=self.device)
            self._opened = (os.getpid(), made)
        return self._opened[1]

    def take(
        self, samples: Samples, *, expected: bool = False, on_device: bool | None = None
    ) -> Batch:
        """Successive samples; ``on_device`` may say otherwise than the source does."""
        first, last = int(samples[0]), int(samples[-1]) + 1
        where = self.on_device if on_device is None else on_device
        return self.simulator.batch(first, last, expected=expected, on_device=where)

    def close(self) -> None:
        """Nothing is open."""


class Stored:
    """Samples of a dataset, given as its path or opened; the same face as :class:`Simulated`."""

    def __init__(self, data: str | Path | Dataset) -> None:
        opened = isinstance(data, Dataset)
        self.path = Path(data.path) if isinstance(data, Dataset) else Path(data)
        self._given = data if opened else None
        self._opened: tuple[int, Dataset] | None = (os.getpid(), data) if opened else None  # type: ignore[assignment]
        data = self.data
        self.recipe, self.seed, self.count = data.recipe, data.seed, len(data)
        self.identity = {
            "recipe": data.recipe_sha256, "data_seed": data.seed, "data_samples": self.count,
        }  # fmt: skip
        per_sample = data.frames_per_sample
        self.sample_bytes = 2 * math.prod(data.sample_shape)
        self.cuts = tuple(sorted({entry.first_frame // per_sample for entry in data.shards}))

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_opened": None, "_given": None}

    @property
    def data(self) -> Dataset:
        """The dataset, opened anew in every process."""
        if self._opened is None or self._opened[0] != os.getpid():
            self._opened = (os.getpid(), open_dataset(self.path))
        return self._opened[1]

    def take(
        self, samples: Samples, *, expected: bool = False, on_device: bool | None = None
    ) -> Batch:
        """Samples of any numbers, in that order; they are always on the host."""
        first, last = int(samples[0]), int(samples[-1]) + 1
        data = self.data
        if expected or last - first != len(samples) or np.any(np.diff(samples) != 1):
            return data.pick(samples, expected=expected)
        emitters, offsets = data.emitters_of(first, last)
        drawn = data.parameters_of(first, last)
        return Batch(first, data.images[first:last], emitters, offsets, drawn)

    def close(self) -> None:
        """Close the dataset, unless it was given opened."""
        if self._opened is not None and self._given is None:
            self._opened[1].close()
            self._opened = None


def source_of(
    source: Recipe | str | Path | Dataset, seed: int, *, threads: int | None = None,
    device: str = "cpu", on_device: bool = False,
) -> Simulated | Stored:  # fmt: skip
    """Samples of a recipe (object, packaged name, YAML file) of that seed, or of a dataset.

    Raises
    ------
    SimscopeError
        If recipe or dataset cannot be read.
    """
    if isinstance(source, Dataset):
        return Stored(source)
    if isinstance(source, Recipe) or is_recipe(source):
        return Simulated(source, seed, threads=threads, device=device, on_device=on_device)
    return Stored(source)


def is_recipe(source: Recipe | str | Path) -> bool:
    """Whether samples are simulated from it (object, packaged name, YAML file), rather than read.

    Raises
    ------
    DatasetError
        If it is neither recipe nor path.
    """
    if isinstance(source, Recipe):
        return True
    if not isinstance(source, str | Path):
        raise DatasetError(f"{source!r} is no recipe or dataset: give one, its name or path")
    return str(source) in packaged_recipes() or Path(source).suffix.lower() in (".yaml", ".yml")


class Batches:
    """Batches one after another; made by :func:`batches`. Use it once, in one process.

    ``step`` is the number of those who share the work, each making every so many-th batch.
    """

    def __init__(
        self, source: Simulated | Stored, order: Order, *, transform: Transform | None = None,
        epochs: int | None = 1, first: int = 0, step: int = 1, ahead: int = 0,
        expected: bool = False, targets: tuple[Target, ...] = (), keep_open: bool = False,
    ) -> None:  # fmt: skip
        self.source, self.order, self.transform = source, order, transform
        self.expected, self.targets, self.keep_open = expected, targets, keep_open
        self._end = None if epochs is None else epochs * len(order)
        self._next, self._step, self._ahead = first, step, ahead
        self._asked, self._process = first, os.getpid()
        self._waiting: deque[Future[Any]] = deque()
        self._pool = ThreadPoolExecutor(1, "simscope-batches") if ahead else None

    @property
    def batches_per_epoch(self) -> int:
        """Batches in an epoch, of this share."""
        return len(self.order)

    @property
    def number(self) -> int:
        """Number of the next batch, counted from the first epoch on."""
        return self._next

    @property
    def over(self) -> bool:
        """Whether no batch is left."""
        return self._end is not None and self._next >= self._end

    @property
    def epoch(self) -> int:
        """Epoch of the next batch, from 0."""
        return self._next // len(self.order)

    @property
    def batch(self) -> int:
        """Number of the next batch within its epoch, from 0."""
        return self._next % len(self.order)

    def state(self) -> dict[str, Any]:
        """Where it stands, as JSON values: give it to :func:`batches` to go on from here.

        Batches read ahead but not handed out yet count as still to come.
        """
        settings = order_settings(self.source, self.order)
        return {"epoch": self.epoch, "batch": self.batch, "of": settings}

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        if self._process != os.getpid():
            raise DatasetError("batches do not survive a fork: make them anew in each process")
        if self.over:
            self.close()
            raise StopIteration
        made = self._make(self._next) if self._pool is None else self._awaited(self._pool)
        self._next += self._step
        return made

    def _awaited(self, pool: ThreadPoolExecutor) -> Any:
        """The next batch from the thread that makes them, which then makes more."""
        self._ask(pool, 1)
        future = self._waiting[0]
        try:
            made = future.result()
        except BaseException:
            self._forget()
            raise
        self._waiting.popleft()
        self._ask(pool, self._ahead)
        return made

    def _ask(self, pool: ThreadPoolExecutor, batches: int) -> None:
        """Have so many batches under way."""
        while len(self._waiting) < batches and (self._end is None or self._asked < self._end):
            self._waiting.append(pool.submit(self._make, self._asked))
            self._asked += self._step

    def _forget(self) -> None:
        """Drop what is under way; it will be asked for again."""
        for future in self._waiting:
            future.cancel()
        self._waiting.clear()
        self._asked = self._next

    def _make(self, number: int) -> Any:
        batch = self.source.take(self.order.samples(number), expected=self.expected)
        if self.targets:
            made = {target.kind: target.of(self.source, batch) for target in self.targets}
            batch = dataclasses.replace(batch, targets=made)
        return batch if self.transform is None else self.transform(batch)

    def close(self) -> None:
        """Stop reading ahead and close the file; the position stays."""
        if self._pool is not None:
            self._pool.shutdown(wait=True, cancel_futures=True)
            self._pool = None
            self._forget()
        if not self.keep_open:
            self.source.close()

    def __enter__(self) -> Batches:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


def batches(
    source: Recipe | str | Path | Dataset,
    batch_size: int,
    *,
    seed: int = 0,
    epochs: int | None = 1,
    shuffle: bool = True,
    start: int = 0,
    stop: int | None = None,
    share: tuple[int, int] = (0, 1),
    drop_last: bool = False,
    transform: Transform | None = None,
    targets: Iterable[Target | Mapping[str, Any] | str] = (),
    expected: bool = False,
    prefetch: int | None = None,
    state: Mapping[str, Any] | None = None,
    threads: int | None = None,
    device: str = "cpu",
) -> Batches:
    """Batches of samples as NumPy arrays, one after another, for any training loop.

    Batch *k* of an epoch is the same whoever reads it and however it is shared. An epoch hands out
    every sample once, over all shares together.

    Parameters
    ----------
    source
        A dataset (path or opened), or a recipe (object, packaged name, YAML file).
    batch_size
        Samples in a batch; the last of an epoch may have fewer.
    seed
        Of a dataset: decides the order. Of a recipe: samples are those of ``Simulator(recipe,
        seed)``, in the order of their numbers; they do not depend on one another.
    epochs
        How often to go through the samples; without end if None.
    shuffle
        Whether each epoch of a dataset has a new random order.
    start, stop
        First sample and the one after the last; all if left out, 2^32 of a recipe.
    share
        ``(k, of)``: this is the *k*-th of so many processes, from 0. Shares of an epoch may differ
        by a batch.
    drop_last
        Leave out what does not fill a batch for every share.
    transform
        Makes of a :class:`Batch` what is handed out, in the thread that reads ahead.
    targets
        Targets to work out of the truth, as for ``generate``, into ``batch.targets``; ``clean``
        stands for ``expected``.
    expected
        Whether to add the noiseless images.
    prefetch
        Batches made ahead by a thread in the background. If left out, 2 from a dataset and none
        from a recipe, whose simulator uses all cores already; simulated ahead, warnings that others
        catch meanwhile (``warnings.catch_warnings``) may pass unseen.
    state
        What ``state()`` of an earlier iterator said: go on from there.
    threads, device
        As for :class:`Simulator`; for a recipe alone.

    Raises
    ------
    SimscopeError
        If the source cannot be read, a value is impossible or a state belongs to other batches.
    """
    made = source_of(source, seed, threads=threads, device=device)
    order = order_of(
        made, batch_size, seed if shuffle else None, start=start, stop=stop, share=share,
        drop_last=drop_last,
    )  # fmt: skip
    wanted, clean = split_clean(targets, expected)
    first = 0 if state is None else position(state, made, order)
    if prefetch is None:
        prefetch = READ_AHEAD if isinstance(made, Stored) else 0
    return Batches(
        made, order, transform=transform, first=first, expected=clean, targets=wanted,
        epochs=None if epochs is None else whole_number("epochs", epochs, 1),
        ahead=whole_number("prefetch", prefetch, 0),
    )  # fmt: skip


def order_of(
    source: Simulated | Stored, batch_size: int, seed: int | None, *, start: int = 0,
    stop: int | None = None, share: tuple[int, int] = (0, 1), drop_last: bool = False,
) -> Order:  # fmt: skip
    """The order of a source's samples; shuffled by ``seed``, unless None or simulated.

    Raises
    ------
    DatasetError
        If a value is impossible or ``stop`` lies beyond the samples.
    """
    order = Order(
        start, source.count if stop is None else stop, batch_size,
        None if isinstance(source, Simulated) else seed, share, drop_last, source.cuts,
    )  # fmt: skip
    if order.stop > source.count:
        raise DatasetError(f"stop={stop} lies beyond the {source.count} samples: lower it")
    needed = min(order.batch_size, order.stop - order.start) * source.sample_bytes
    if needed > MOST_BYTES:
        raise DatasetError(
            f"batches of {batch_size} samples take {needed / 1e9:.3g} GB, more than "
            f"{MOST_BYTES / 1e9:g}: lower batch_size, or read long movies frame by frame "
            "(Dataset.frame, Simulator.chunks)"
        )
    return order


def order_settings(source: Simulated | Stored, order: Order) -> dict[str, Any]:
    """What decides which samples are in which batch, as JSON values."""
    cuts = hashlib.sha256(json.dumps(list(source.cuts)).encode()).hexdigest()[:16]
    names = ("batch_size", "start", "stop", "seed", "drop_last")
    settings = {name: getattr(order, name) for name in names}
    return source.identity | settings | {"share": list(order.share), "files": cuts}


def position(state: Mapping[str, Any], source: Simulated | Stored, order: Order) -> int:
    """Number of the batch a state stands before, counted from the first epoch on.

    Raises
    ------
    DatasetError
        If it is no state, or one of other batches.
    """
    try:
        epoch, batch, saved = state["epoch"], state["batch"], dict(state["of"])
    except (TypeError, KeyError, ValueError):
        raise DatasetError("state is none of batches: give what state() said") from None
    now = order_settings(source, order)
    for name in sorted(now.keys() | saved.keys()):
        if saved.get(name) != now.get(name):
            raise DatasetError(
                f"state was saved with {name}={saved.get(name)!r}, now it is {now.get(name)!r}: "
                "go on with the same source and arguments"
            )
    epoch, batch = whole_number("epoch", epoch, 0), whole_number("batch", batch, 0)
    return epoch * len(order) + batch
