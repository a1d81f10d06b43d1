"""Datasets into training loops: shuffled frames a second, against bare h5py reading one by one.

h5py gets the same file and the same order and reads images alone. Batches of ours come with
their emitters and drawn numbers; those of a ``DataLoader`` as tensors, images in float32.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from timing import Row, Seconds, interleaved, on_threads

import simscope as ss
from simscope.dataset.order import Order

SAMPLES, BATCH, ROUNDS = 4096, 64, 7
BAR = 0.9
RECIPE = "smlm-2d-dense"


def rows(threads: int) -> Iterable[Row]:
    """Rows of the table; how many threads there are changes nothing, so once."""
    if threads > 1:
        return
    with tempfile.TemporaryDirectory() as folder:
        for codec in ("default", "none"):
            path = ss.generate(RECIPE, SAMPLES, 3, Path(folder) / f"{codec}.h5", codec=codec)
            yield from _of_file(path, f"codec {codec}", workers=(0, 1, 2))
        path = ss.generate(RECIPE, SAMPLES, 3, Path(folder) / "shards.h5", samples_per_shard=256)
        yield from _of_file(path, f"{SAMPLES // 256} shards", workers=())


def _of_file(path: Path, name: str, workers: Iterable[int]) -> Iterable[Row]:
    """Rows of one dataset."""
    with ss.open_dataset(path) as data, h5py.File(path, "r") as file, on_threads(1):
        order = Order(0, SAMPLES, BATCH, seed=1, cuts=_cuts(data))
        works: dict[str, Any] = {
            "h5py": lambda: _by_h5py(file["images"], order),
            "images alone": lambda: [data.images[order.samples(k)] for k in range(len(order))],
            "batches": lambda: list(map(_seen, ss.batches(data, BATCH, seed=1))),
            "batches in order": lambda: list(map(_seen, ss.batches(data, BATCH, shuffle=False))),
        }
        works |= {f"DataLoader, {count} workers": _loader(path, count) for count in workers}
        times: dict[str, Seconds] = interleaved(works, ROUNDS)
    bare = times.pop("h5py")
    for work, seconds in times.items():
        bar = BAR if work in ("images alone", "batches") else 0.0
        yield Row(
            f"{work}, {name}",
            1,
            "frame",
            SAMPLES,
            seconds,
            "h5py, images alone",
            SAMPLES,
            bare,
            bar,
        )


def _cuts(data: ss.Dataset) -> list[int]:
    return [entry.first_frame // data.frames_per_sample for entry in data.shards]


def _seen(batch: ss.Batch) -> int:
    return len(batch.images)


def _by_h5py(images: h5py.Dataset, order: Order) -> None:
    """Batches of images in that order, each read as h5py reads it."""
    for number in range(len(order)):
        samples = order.samples(number).tolist()
        batch = np.empty((len(samples), *images.shape[1:]), np.uint16)
        for place, sample in enumerate(samples):
            batch[place] = images[sample]


def _loader(path: Path, workers: int) -> Any:
    """Goes once through a loader whose workers live on."""
    from torch.utils.data import DataLoader

    from simscope.learn import StreamingDataset

    stream = StreamingDataset(path, 1, batch_size=BATCH)
    loader = DataLoader(
        stream, batch_size=None, num_workers=workers, persistent_workers=workers > 0
    )
    return lambda: sum(len(batch["images"]) for batch in loader)


if __name__ == "__main__":
    print(Row.HEADER)
    for row in rows(1):
        print(row, flush=True)
