"""Samples for PyTorch: simulated as they are needed, or read from a dataset file.

A stream never ends before the counter does and never repeats a sample, so a network trained on it
cannot learn samples by heart. Batch *k* is samples ``k * batch_size`` onwards whoever makes it:
with several DataLoader workers each makes every so many-th batch, and the order stays the same.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch.utils.data import Dataset as TorchDataset
from torch.utils.data import IterableDataset, get_worker_info

from simscope.acquire import MAX_SAMPLES, Batch, Simulator
from simscope.dataset import open_dataset
from simscope.device import device as device_named
from simscope.errors import TrainingError
from simscope.keys import MAX_SEED, Key
from simscope.recipe import Recipe, load_recipe

Transform = Callable[[Batch], Any]


class Source(Protocol):
    """Anything that hands out batches of whole samples of a recipe."""

    recipe: Recipe

    def batch(self, start: int, stop: int) -> Batch:
        """Samples ``start`` to ``stop``."""
        ...


def training_seed(seed: int) -> int:
    """Seed of the training stream: never the one of ``Simulator(recipe, seed)``.

    So a test set generated with the seed of the training run holds no sample trained on.
    """
    digest = hashlib.blake2b(f"simscope.learn:{seed}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") & MAX_SEED


def tensors(batch: Batch) -> dict[str, Any]:
    """A batch as tensors: ``images`` float32 [ADU], ``emitters`` by column, ``parameters``.

    ``emitter_offsets`` (int64, frames + 1) says where each frame's emitters begin. Tensors lie
    where the arrays do and share their memory, by DLPack: nothing goes through the host. Only
    images, whose type changes, and rows of a table are copied.
    """
    rows = batch.emitters
    columns = rows if isinstance(rows, dict) else {name: rows[name] for name in rows.dtype.names}
    return {
        "start": batch.start,
        "images": torch.from_dlpack(batch.images.astype(np.float32)),
        "emitters": {name: _tensor(column) for name, column in columns.items()},
        "emitter_offsets": _tensor(batch.emitter_offsets),
        "parameters": {path: _tensor(values) for path, values in batch.parameters.items()},
    }


def _tensor(array: Any) -> torch.Tensor:
    """A tensor over the memory of an array; a copy if that is no plain, writable block."""
    flags = array.flags
    plain = flags.c_contiguous and getattr(flags, "writeable", True)  # CuPy knows no other
    return torch.from_dlpack(array if plain else array.copy())


class StreamingDataset(IterableDataset[Any]):
    """Batches straight from the simulator, for ``DataLoader(stream, batch_size=None)``.

    With workers in a process that has simulated already, give the ``DataLoader``
    ``multiprocessing_context="spawn"``: threads do not survive a fork.

    Parameters
    ----------
    recipe, seed
        As for :class:`simscope.Simulator`: batch *k* holds exactly its samples.
    batch_size
        Samples in a batch.
    start, stop
        First sample and the one after the last; without ``stop`` as many as the counter can name.
    transform
        Makes of a batch what is handed out; :func:`tensors` by default.
    device
        Where samples are simulated, ``cpu``, ``cuda`` or ``auto``; they do not depend on it.
    on_device
        Whether transforms get arrays where they were simulated, emitters as a dictionary of
        columns, rather than NumPy arrays with a table: true for a GPU if left out. Tensors are then
        made on the GPU; a ``DataLoader`` must have no workers.

    Raises
    ------
    TrainingError
        If ``batch_size`` or the range of samples is impossible.
    DeviceError
        If the device is unknown or cannot be used.
    """

    def __init__(
        self,
        recipe: Recipe | str | Path,
        seed: int,
        *,
        batch_size: int = 16,
        start: int = 0,
        stop: int = MAX_SAMPLES,
        transform: Transform = tensors,
        threads: int | None = None,
        device: str = "cpu",
        on_device: bool | None = None,
    ) -> None:
        whole = [type(value) is int for value in (batch_size, start, stop)]
        if not all(whole) or batch_size < 1 or not 0 <= start <= stop <= MAX_SAMPLES:
            raise TrainingError(
                f"batch_size={batch_size}, start={start}, stop={stop}: needs whole numbers with "
                f"batch_size >= 1 and 0 <= start <= stop <= {MAX_SAMPLES}"
            )
        self.recipe, self.seed = load_recipe(recipe), Key(seed).seed
        self.batch_size, self.start, self.stop = batch_size, start, stop
        self.transform, self.threads = transform, threads
        found = device_named(device)
        self.device = found.name
        self.on_device = found.is_gpu if on_device is None else on_device
        self._simulator: Simulator | None = None

    @property
    def simulator(self) -> Simulator:
        """The simulator, built on first use so that every worker has its own."""
        if self._simulator is None:
            self._simulator = Simulator(
                self.recipe, self.seed, threads=self.threads, device=self.device
            )
        return self._simulator

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_simulator": None}

    def batch(self, start: int, stop: int) -> Batch:
        """Samples ``start`` to ``stop`` of the simulator, on the host."""
        return self.simulator.batch(start, stop)

    def __iter__(self) -> Iterator[Any]:
        worker = get_worker_info()
        first, of = (worker.id, worker.num_workers) if worker else (0, 1)
        if worker and self.device == "cuda":
            raise TrainingError(
                f"{of} workers cannot share a GPU: give the DataLoader num_workers=0"
            )
        for begin in range(self.start + first * self.batch_size, self.stop, of * self.batch_size):
            end = min(begin + self.batch_size, self.stop)
            yield self.transform(self._made(begin, end))

    def _made(self, start: int, stop: int) -> Batch:
        """Samples ``start`` to ``stop``, where the transform expects them."""
        if self.on_device:
            return self.simulator.batch(start, stop, on_device=True)
        return self.batch(start, stop)


class HDF5Dataset(TorchDataset[dict[str, Any]]):
    """Samples of a dataset file by index: ``image`` float32 [ADU], emitters, parameters.

    Raises
    ------
    DatasetError
        If the file cannot be read as a simscope dataset.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._data: Any = None
        self.recipe: Recipe = self.data.recipe
        self.seed: int = self.data.seed

    @property
    def data(self) -> Any:
        """The opened file, opened anew in every worker."""
        if self._data is None:
            self._data = open_dataset(self.path)
        return self._data

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_data": None}

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, index: int) -> dict[str, Any]:
        if not -len(self) <= index < len(self):
            raise IndexError(f"sample {index} of {len(self)} in {self.path}")
        index %= len(self)
        whole = tensors(self.batch(index, index + 1))
        values = {path: value[0] for path, value in whole["parameters"].items()}
        return whole | {"images": whole["images"][0], "parameters": values}

    def batch(self, start: int, stop: int) -> Batch:
        """Samples ``start`` to ``stop`` as the simulator would give them."""
        data = self.data
        per_sample = data.frames_per_sample
        offsets = np.asarray(
            data.emitter_offsets[start * per_sample : stop * per_sample + 1], dtype=np.int64
        )
        return Batch(
            start,
            np.asarray(data.images[start:stop]),
            data.emitters[offsets[0] : offsets[-1]],
            offsets - offsets[0],
            {path: np.asarray(values[start:stop]) for path, values in data.parameters.items()},
        )
