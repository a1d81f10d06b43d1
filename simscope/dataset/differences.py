"""Where two datasets differ: recipe, seed, samples, then every array they have in common.

How they are stored (shards, codec, software) is told but is no difference.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy.typing as npt

from simscope.dataset import schema
from simscope.dataset.comparing import Comparison, Difference, Places
from simscope.dataset.folder import changes
from simscope.dataset.frames import BLOCK_BYTES
from simscope.dataset.plan import Progress
from simscope.dataset.read import Dataset, StoredArray, open_dataset


@dataclass(frozen=True)
class Delta:
    """How two datasets differ; equal where ``changes`` and ``differences`` are empty.

    ``changes``: lines ``what: was -> is`` of recipe, seed and sizes; ``stored``: the same of how
    they are stored, which does not count; ``equal``: arrays that are the same bit for bit in the
    ``samples`` that both have.
    """

    paths: tuple[str, str]
    samples: int
    changes: tuple[str, ...]
    stored: tuple[str, ...]
    equal: tuple[str, ...]
    differences: tuple[Difference, ...]

    @property
    def same(self) -> bool:
        """Whether both are the same dataset."""
        return not self.changes and not self.differences

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "paths": list(self.paths),
            "same": self.same,
            "samples": self.samples,
            "changes": list(self.changes),
            "stored": list(self.stored),
            "equal": list(self.equal),
            "differences": [difference.to_dict() for difference in self.differences],
        }

    def lines(self) -> list[str]:
        """The differences in words."""
        first = "same" if self.same else "different"
        head = f"{first}: {self.paths[0]} and {self.paths[1]}, {self.samples:,} samples compared"
        told = [difference.text("first", "second") for difference in self.differences]
        equal = [f"equal: {', '.join(self.equal)}"] if self.equal else []
        stored = [f"{line} (how it is stored)" for line in self.stored]
        return [head, *(f"  {line}" for line in (*self.changes, *told, *equal, *stored))]


def difference(
    first: str | os.PathLike[str],
    second: str | os.PathLike[str],
    *,
    progress: Progress | None = None,
) -> Delta:
    """How two datasets differ, each in one file or in shards; memory does not grow with them.

    ``progress(done, total)`` counts frames.

    Raises
    ------
    DatasetError
        If one of them cannot be read.
    """
    with open_dataset(first) as a, open_dataset(second) as b:
        found = Comparison()
        told = tuple(changes(described(a), described(b)))
        count = min(len(a), len(b))
        compare_fixed(a, b, found)
        if a.sample_shape == b.sample_shape and a.sample_axes == b.sample_axes:
            for done in compare_samples(a, b, count, found):
                if progress is not None:
                    progress(done, count * a.frames_per_sample)
        differ = found.differences
        names = {one.array for one in differ}
        return Delta(
            (str(a.path), str(b.path)), count, told, tuple(changes(storage(a), storage(b))),
            tuple(name for name in found.arrays if name not in names), differ,
        )  # fmt: skip


def described(data: Dataset) -> dict[str, Any]:
    """What makes a dataset this one: recipe, seed, sizes, targets, contents of files it read."""
    return {
        "recipe": data.recipe.written(),
        "seed": data.seed,
        "samples": len(data),
        "axes of a sample": data.sample_axes,
        "shape of a sample": list(data.sample_shape),
        "targets": data.target_settings,
        "sha256": {name: known.get("sha256") for name, known in data.inputs.items()},
    }


def storage(data: Dataset) -> dict[str, Any]:
    """How a dataset is stored."""
    return {"shards": len(data.shards) or 1, "codec": data.codec, "software": data.software}


def compare_fixed(a: Dataset, b: Dataset, found: Comparison) -> None:
    """Compare what belongs to all samples: the camera's maps."""
    mine, theirs = (
        {name: getattr(data.camera_maps, name) for name in schema.CAMERA_MAPS} for data in (a, b)
    )
    found.take_named(schema.CAMERA, mine, theirs)


def stored_arrays(data: Dataset) -> dict[str, StoredArray]:
    """Images, noiseless images and targets of a dataset by path."""
    arrays = {schema.IMAGES: data.images}
    if data.expected_photons is not None:
        arrays[schema.EXPECTED] = data.expected_photons
    return arrays | {f"{schema.TARGETS}/{name}": data.target(name) for name in data.target_names}


def compare_samples(a: Dataset, b: Dataset, count: int, found: Comparison) -> Iterator[int]:
    """Compare the first ``count`` samples; yields how many frames are done."""
    mine, theirs = stored_arrays(a), stored_arrays(b)
    for path in dict.fromkeys((*mine, *theirs)):
        if path not in mine or path not in theirs:
            found.once(path, was=path in mine)
    common = {path: (mine[path], theirs[path]) for path in mine if path in theirs}
    per_sample = a.frames_per_sample
    stacked = len(a.sample_axes) == 3
    for start, stop, first, last in windows(a, count):
        frames = Places.of_frames(
            start * per_sample + first, (stop - start) * (last - first), per_sample
        )
        begin, end = start * per_sample + first, (stop - 1) * per_sample + last
        for path, pair in common.items():
            places = frames if pair[0].per_frame else Places.of_samples(start, stop)
            if pair[0].shape[1:] != pair[1].shape[1:]:
                found.unlike(path, *(f"shape {array.shape}" for array in pair))
            elif pair[0].per_frame or first == 0:
                values = [items(one, (start, stop, first, last), stacked) for one in pair]
                found.take(path, values[0], values[1], places)
        tables = [data.emitters_of_frames(begin, end) for data in (a, b)]
        found.take_emitters(tables[0], tables[1], frames)
        if first == 0:
            drawn = [data.parameters_of(start, stop) for data in (a, b)]
            places = Places.of_samples(start, stop)
            found.take_named(schema.PARAMETERS, drawn[0], drawn[1], places)
        yield end


def windows(data: Dataset, count: int) -> Iterator[tuple[int, int, int, int]]:
    """Samples and frames ``(start, stop, first, last)`` to be held in memory at a time."""
    frames = data.frames_per_sample
    stored = sum(array.nbytes for array in stored_arrays(data).values())
    room = max(1, BLOCK_BYTES * len(data) * frames // stored)
    if frames <= room:
        step = room // frames
        for start in range(0, count, step):
            yield start, min(start + step, count), 0, frames
        return
    for sample in range(count):
        for first in range(0, frames, room):
            yield sample, sample + 1, first, min(first + room, frames)


def items(array: StoredArray, window: tuple[int, int, int, int], stacked: bool) -> npt.NDArray[Any]:
    """Values of an array for some samples or frames, one item after the other."""
    start, stop, first, last = window
    if not stacked or not array.per_frame:
        return array[start:stop]
    if stop - start == 1:
        return array[start, first:last]
    values = array[start:stop]
    return values.reshape(-1, *values.shape[2:])
