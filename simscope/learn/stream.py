"""Samples for PyTorch: simulated as they are needed, or read from a dataset.

:class:`StreamingDataset` hands out whole batches in an order of its own. Batch *k* of an epoch is
the same whoever makes it: with several DataLoader workers each makes every so many-th, and the
loader takes them in turns. :class:`HDF5Dataset` has the samples of a file by index, for samplers.
"""

from __future__ import annotations

import hashlib
import operator
import warnings
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numba
import numpy as np
import torch
from torch.utils.data import Dataset as TorchDataset
from torch.utils.data import IterableDataset, get_worker_info

from simscope.acquire import Batch, Simulator
from simscope.dataset import Dataset
from simscope.dataset.loading import (
    READ_AHEAD,
    Batches,
    Simulated,
    Stored,
    Transform,
    order_of,
    order_settings,
    position,
    source_of,
)
from simscope.dataset.order import whole_number
from simscope.device import device as device_named
from simscope.errors import SimscopeWarning, TrainingError
from simscope.keys import MAX_SEED, Key
from simscope.recipe import Recipe
from simscope.targets import Target, split_clean

MOST_WORKERS = 1024
"""Workers whose beginnings are remembered; those beyond are not warned of repetitions."""


def training_seed(seed: int) -> int:
    """Seed of the training stream: never the one of ``Simulator(recipe, seed)``.

    So a test set generated with the seed of the training run holds no sample trained on.
    """
    digest = hashlib.blake2b(f"simscope.learn:{seed}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") & MAX_SEED


def tensors(batch: Batch) -> dict[str, Any]:
    """A batch as tensors: ``images`` float32 [ADU], ``emitters`` by column, ``parameters``.

    ``samples`` (int64) are their numbers, ``start`` the first of them; ``emitter_offsets`` (int64,
    frames + 1) says where each frame's emitters begin. ``expected_photons`` and ``targets`` stand
    there if they were asked for. Tensors lie where the arrays do and share their memory, by DLPack:
    nothing goes through the host. Only images, whose type changes, and rows of a table are copied.
    """
    rows = batch.emitters
    columns = rows if isinstance(rows, dict) else {name: rows[name] for name in rows.dtype.names}
    made: dict[str, Any] = {
        "start": batch.start,
        "samples": torch.from_numpy(batch.samples),
        "images": torch.from_dlpack(batch.images.astype(np.float32)),
        "emitters": {name: _tensor(column) for name, column in columns.items()},
        "emitter_offsets": _tensor(batch.emitter_offsets),
        "parameters": {path: _tensor(values) for path, values in batch.parameters.items()},
    }
    if batch.expected_photons is not None:
        made["expected_photons"] = _tensor(batch.expected_photons)
    if batch.targets:
        made["targets"] = {kind: _tensor(values) for kind, values in batch.targets.items()}
    return made


def _tensor(array: Any) -> torch.Tensor:
    """A tensor over the memory of an array; a copy if that is no plain, writable block."""
    flags = array.flags
    plain = flags.c_contiguous and getattr(flags, "writeable", True)  # CuPy knows no other
    return torch.from_dlpack(array if plain else array.copy())


class StreamingDataset(IterableDataset[Any]):
    """Batches of a recipe or a dataset, for ``DataLoader(stream, batch_size=None)``.

    One pass over it is one epoch, with the batches of :func:`simscope.batches` for any number of
    workers. Passes count as successive epochs where the process that iterates lives on (no workers,
    or ``persistent_workers=True``); else say which one comes with :meth:`set_epoch`, as for torch's
    DistributedSampler.

    Workers may be forked or spawned; forked from a process that has simulated on several threads,
    a worker simulates on one.

    Parameters
    ----------
    source, seed
        A recipe (object, packaged name, YAML file), whose samples are those of
        ``Simulator(recipe, seed)``, or a dataset, whose order the seed decides.
    batch_size
        Samples in a batch.
    start, stop
        First sample and the one after the last; all if left out, of a recipe 2^32.
    endless
        Whether a pass goes on with epoch after epoch.
    shuffle, share, drop_last, targets, expected
        As for :func:`simscope.batches`; ``share`` is the rank and number of processes that train
        together, each with a stream (and workers) of its own.
    transform
        Makes of a batch what is handed out; :func:`tensors` by default.
    threads
        Threads of a simulator; if left out all cores, divided by the number of workers.
    device
        Where samples are simulated, ``cpu``, ``cuda`` or ``auto``; they do not depend on it.
    on_device
        Whether transforms get arrays where they were simulated, emitters as a dictionary of
        columns, rather than NumPy arrays with a table: true for a GPU if left out. Tensors are then
        made on the GPU; a ``DataLoader`` must have no workers.

    Raises
    ------
    DatasetError
        If the dataset cannot be read, or ``batch_size``, range or share is impossible.
    DeviceError
        If the device is unknown or cannot be used.
    """

    def __init__(
        self,
        source: Recipe | str | Path | Dataset,
        seed: int,
        *,
        batch_size: int = 16,
        start: int = 0,
        stop: int | None = None,
        shuffle: bool = True,
        endless: bool = False,
        share: tuple[int, int] = (0, 1),
        drop_last: bool = False,
        transform: Transform = tensors,
        targets: Iterable[Target | Mapping[str, Any] | str] = (),
        expected: bool = False,
        threads: int | None = None,
        device: str = "cpu",
        on_device: bool | None = None,
    ) -> None:
        found = device_named(device)
        self.device, self.seed = found.name, Key(seed).seed
        self.on_device = found.is_gpu if on_device is None else on_device
        self.source = source_of(
            source, seed, threads=threads, device=device, on_device=self.on_device
        )
        self.order = order_of(
            self.source, batch_size, self.seed if shuffle else None, start=start, stop=stop,
            share=share, drop_last=drop_last,
        )  # fmt: skip
        self.endless, self.transform = endless, transform
        self.targets, self.expected = split_clean(targets, expected)
        self._pass: Batches | None = None
        self._begin = 0
        self._saved: tuple[list[int], int] | None = None  # worker whose state was loaded, its batch
        # what all processes see: the batch the next pass begins with, how often that was set, and
        # the batch (plus one) that the last process of each worker began with
        self._shared = torch.zeros(2 + MOST_WORKERS, dtype=torch.int64).share_memory_()
        self._heard = 0

    @property
    def recipe(self) -> Recipe:
        """The recipe the samples are or were made with."""
        return self.source.recipe

    @property
    def simulator(self) -> Simulator:
        """The simulator, built on first use so that every worker has its own."""
        if isinstance(self.source, Stored):
            raise TrainingError(f"{self.source.path} is a dataset: it has no simulator")
        return self.source.simulator

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_pass": None}

    def __len__(self) -> int:
        """Batches in an epoch, of this share."""
        if self.endless:
            raise TypeError("an endless stream has no length: take batches_per_epoch")
        return len(self.order)

    @property
    def batches_per_epoch(self) -> int:
        """Batches in an epoch, of this share."""
        return len(self.order)

    def batch(self, start: int, stop: int) -> Batch:
        """Samples ``start`` to ``stop``, on the host."""
        return self.source.take(np.arange(start, stop), on_device=False)

    def set_epoch(self, epoch: int) -> None:
        """Let the next pass be this epoch; heard by workers that live on, too."""
        self._set_begin(whole_number("epoch", epoch, 0) * len(self.order))

    def state_at(self, epoch: int, batch: int) -> dict[str, Any]:
        """State before a batch of an epoch, for :meth:`load_state_dict`.

        For a plain ``DataLoader`` with workers, where only the loop knows how far it has come:
        ``batch`` counts what it was handed in this epoch.
        """
        number = whole_number("epoch", epoch, 0) * len(self.order) + whole_number("batch", batch, 0)
        epoch, batch = divmod(number, len(self.order))
        return {"epoch": epoch, "batch": batch, "of": order_settings(self.source, self.order)}

    def state_dict(self) -> dict[str, Any]:
        """State before the first batch this process has not handed out yet, as JSON values.

        Raises
        ------
        TrainingError
            If workers hand out the batches: see :meth:`state_at`, or use torchdata's
            ``StatefulDataLoader``, which asks the workers.
        """
        worker = get_worker_info()
        if worker is None and self._pass is None and bool(self._shared[2:].any()):
            raise TrainingError(
                "only the workers know how far they are: count the batches you were handed and "
                "take state_at(epoch, batch), or use torchdata's StatefulDataLoader"
            )
        if self._pass is None:
            return self.state_at(0, self._begin)
        number, each = self._pass.number, len(self.order)
        if worker is None:
            return self.state_at(0, number)
        epoch = number // each if self.endless else self._begin // each - 1
        own = {"epoch": epoch, "batch": number - epoch * each}
        return self.state_at(0, 0) | own | {"worker": [worker.id, worker.num_workers]}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Let the next pass go on from a state, to the end of its epoch.

        Raises
        ------
        DatasetError
            If the state belongs to other batches.
        """
        number, worker = position(state, self.source, self.order), state.get("worker")
        if worker is None:
            self._set_begin(number)
        else:
            self._set_begin(int(state["epoch"]) * len(self.order))
            self._saved = (list(worker), number)

    def _set_begin(self, number: int) -> None:
        """Let the next pass begin with a batch, in every process."""
        self._begin, self._saved, self._pass = number, None, None
        if get_worker_info() is None:
            self._shared[0] = number
            self._shared[1] += 1
            self._shared[2:] = 0
        self._heard = int(self._shared[1])

    def __iter__(self) -> Batches:
        worker = get_worker_info()
        part = [worker.id, worker.num_workers] if worker else [0, 1]
        if self._heard != int(self._shared[1]):
            self._begin, self._heard = (int(value) for value in self._shared[:2])
            self._saved = None
        if worker:
            self._prepare_worker(*part)
        whose, first = self._saved or (part, self._begin + part[0])
        if whose != part:
            raise TrainingError(
                f"state was saved by worker {whose[0]} of {whose[1]}, this is {part[0]} of "
                f"{part[1]}: keep num_workers"
            )
        epoch = self._begin // len(self.order)
        self._begin, self._saved = (epoch + 1) * len(self.order), None
        self._pass = Batches(
            self.source, self.order, transform=self.transform, first=first, step=part[1],
            epochs=None if self.endless else epoch + 1, expected=self.expected,
            targets=self.targets, keep_open=True,
            ahead=0 if worker or isinstance(self.source, Simulated) else READ_AHEAD,
        )  # fmt: skip
        return self._pass

    def _prepare_worker(self, number: int, of: int) -> None:
        """Give a worker its share of the cores, and notice if it repeats what one did before."""
        if self.device == "cuda":
            raise TrainingError(
                f"{of} workers cannot share a GPU: give the DataLoader num_workers=0"
            )
        if isinstance(self.source, Simulated) and self.source.threads is None:
            self.source.threads = max(1, numba.get_num_threads() // of)
        if number >= MOST_WORKERS or self._pass is not None:
            return
        slot, mark = 2 + number, self._begin + 1
        repeated = int(self._shared[slot]) == mark
        self._shared[slot] = mark
        if repeated and self._begin % len(self.order):
            raise TrainingError(
                "a second pass begins where the state loaded before the first one was: call "
                "set_epoch before every pass, or give the DataLoader persistent_workers=True"
            )
        if repeated and self.order.seed is not None:
            warnings.warn(
                f"epoch {self._begin // len(self.order)} begins again, in the same order: call "
                "set_epoch before every pass, or give the DataLoader persistent_workers=True",
                SimscopeWarning, stacklevel=2,
            )  # fmt: skip


class HDF5Dataset(TorchDataset[dict[str, Any]]):
    """Samples of a dataset by index: ``images`` float32 [ADU], emitters, parameters.

    Several indices at once give a batch as of :func:`tensors`, for
    ``DataLoader(data, sampler=BatchSampler(...), batch_size=None)``. A ``DataLoader`` that collects
    single samples needs ``collate_fn=collate``, since samples have unequally many emitters.

    Raises
    ------
    DatasetError
        If the file cannot be read as a simscope dataset.
    """

    def __init__(self, path: str | Path | Dataset) -> None:
        self.source = Stored(path)
        self.path, self.recipe, self.seed = self.source.path, self.source.recipe, self.source.seed

    @property
    def data(self) -> Dataset:
        """The opened file, opened anew in every process."""
        return self.source.data

    def __len__(self) -> int:
        return self.source.count

    def __getitem__(self, index: int | Sequence[int]) -> dict[str, Any]:
        if np.ndim(index):
            return tensors(self._taken(index))
        return self.__getitems__([index])[0]  # type: ignore[list-item]

    def __getitems__(self, indices: Sequence[int]) -> list[dict[str, Any]]:
        """Several samples, read together."""
        return _samples_of(tensors(self._taken(indices)))

    def _taken(self, indices: Any) -> Batch:
        wanted = np.array([operator.index(index) for index in indices], dtype=np.int64)
        wrong = (wanted < -len(self)) | (wanted >= len(self))
        if wrong.any():
            raise IndexError(f"sample {wanted[wrong][0]} of {len(self)} in {self.path}")
        if not len(wanted):
            raise IndexError("no sample is asked for: give at least one index")
        return self.source.take(wanted % len(self))

    def batch(self, start: int, stop: int) -> Batch:
        """Samples ``start`` to ``stop`` as the simulator would give them."""
        return self.source.take(np.arange(start, stop))


def _samples_of(batch: dict[str, Any]) -> list[dict[str, Any]]:
    """The samples of a batch of :func:`tensors` one by one, without a first axis."""
    offsets, count = batch["emitter_offsets"], len(batch["images"])
    frames = (len(offsets) - 1) // count
    made = []
    for k in range(count):
        own = offsets[k * frames : (k + 1) * frames + 1]
        rows = slice(int(own[0]), int(own[-1]))
        made.append(
            {
                "start": int(batch["samples"][k]),
                "samples": batch["samples"][k],
                "images": batch["images"][k],
                "emitters": {name: column[rows] for name, column in batch["emitters"].items()},
                "emitter_offsets": own - own[0],
                "parameters": {path: value[k] for path, value in batch["parameters"].items()},
            }
        )
    return made


def collate(samples: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Samples of :class:`HDF5Dataset` as one batch, as of :func:`tensors`."""
    first = samples[0]
    rows = [int(sample["emitter_offsets"][-1]) for sample in samples]
    before = np.concatenate([[0], np.cumsum(rows)])
    offsets = [
        sample["emitter_offsets"][:-1] + int(n)
        for sample, n in zip(samples, before[:-1], strict=True)
    ]
    return {
        "start": first["start"],
        "samples": torch.stack([sample["samples"] for sample in samples]),
        "images": torch.stack([sample["images"] for sample in samples]),
        "emitters": {
            name: torch.cat([sample["emitters"][name] for sample in samples])
            for name in first["emitters"]
        },
        "emitter_offsets": torch.cat([*offsets, torch.tensor([int(before[-1])])]),
        "parameters": {
            path: torch.stack([sample["parameters"][path] for sample in samples])
            for path in first["parameters"]
        },
    }
