"""Whether a dataset is what its recipe and seed say: checksums, and samples made once more.

A sample is a function of recipe, seed and index, so a stranger's file can be held against its own
recipe. Shards are gone through one by one and long movies window by window, so memory stays flat.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from simscope.acquire import Chunk, Simulator
from simscope.dataset import schema
from simscope.dataset.columns import little_endian
from simscope.dataset.comparing import Comparison, Difference, Places
from simscope.dataset.frames import BLOCK_BYTES, Frames
from simscope.dataset.inputs import recipe_with_files
from simscope.dataset.manifest import Joined, open_whole
from simscope.dataset.parts import OpenFile, Part, json_attribute
from simscope.dataset.plan import Progress
from simscope.dataset.read import Dataset, open_dataset
from simscope.dataset.schema import Layout
from simscope.errors import DatasetError
from simscope.targets import parse_targets

MANY_COUNTS = 1e-3
"""Share of counts above which rounding of the light cannot be why they differ."""

SAMPLES = 100
"""Samples made once more unless told otherwise."""


@dataclass(frozen=True)
class Verdict:
    """What came of a check: nothing is wrong where ``damage`` and ``differences`` are empty.

    ``damage`` names the files and arrays whose checksums are not those noted; ``differences`` the
    arrays that differ from what recipe and seed give, in the ``verified`` samples of ``samples``.
    """

    path: str
    samples: int
    verified: int
    files: int
    arrays: tuple[str, ...]
    damage: tuple[str, ...]
    differences: tuple[Difference, ...]
    software_there: dict[str, str]
    software_here: dict[str, str]

    @property
    def identical(self) -> bool:
        """Whether all that was compared is equal."""
        return not self.damage and not self.differences

    @property
    def explanation(self) -> str:
        """What may be the cause of a difference, in words; empty where there is none."""
        if self.identical:
            return ""
        if self.damage:
            return "the file is not as it was written: copy it again, or generate it again"
        other = [
            f"{name} {version} there, {self.software_here.get(name, 'none')} here"
            for name, version in self.software_there.items()
            if self.software_here.get(name) != version
        ]
        if other:
            return f"it was made by other software ({'; '.join(other)}), which may give other bits"
        if any(self._beyond_rounding(one) for one in self.differences):
            return (
                "so much is no matter of rounding: the file was not made of this recipe and seed, "
                "or it was changed and its checksums with it"
            )
        return (
            "few values differ, by the same software: another processor or library of mathematics "
            "may round the last bits of the light otherwise and so turn single counts over; if "
            "both machines are alike, the file was changed and its checksums with it"
        )

    @staticmethod
    def _beyond_rounding(one: Difference) -> bool:
        """Whether a difference is more than the last bits of the light can make."""
        counted = one.array in ("emitters/rows in a frame", "emitters/id", "emitters/frame")
        many = one.array == schema.IMAGES and one.values > MANY_COUNTS * one.compared
        return not one.values or counted or many

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "path": self.path,
            "identical": self.identical,
            "samples": self.samples,
            "verified": self.verified,
            "files": self.files,
            "arrays": list(self.arrays),
            "damage": list(self.damage),
            "differences": [difference.to_dict() for difference in self.differences],
            "explanation": self.explanation,
            "software_there": self.software_there,
            "software_here": self.software_here,
        }

    def lines(self) -> list[str]:
        """What was found, in words."""
        count = f"{self.verified:,} of {self.samples:,} samples"
        if self.identical:
            return [
                f"{self.path} is what its recipe and seed give: {self.files:,} file(s) with the "
                f"checksums noted, {count} made once more, {len(self.arrays)} arrays bit for bit"
            ]
        told = [difference.text("file", "recipe") for difference in self.differences]
        return [
            f"{self.path} differs ({count} made once more):",
            *(f"  {line}" for line in (*self.damage, *told)),
            self.explanation,
        ]


def verify(
    path: str | os.PathLike[str],
    *,
    samples: int | None = SAMPLES,
    files: str | os.PathLike[str] | None = None,
    allow_files: bool = False,
    checksums: bool = True,
    threads: int | None = None,
    progress: Progress | None = None,
) -> Verdict:
    """Whether a dataset holds what its own recipe and seed give, and what it held when written.

    ``samples`` of them, spread evenly from the first to the last, are made once more; all if None.
    Files the recipe reads are looked for below the dataset's folder and ``files``, elsewhere only
    with ``allow_files``. ``progress(done, total)`` counts frames, those of checksums as well.

    Raises
    ------
    DatasetError
        If the dataset cannot be read, or a file its recipe needs is not found.
    RecipeError, OpticsError, SampleError, CameraError
        If its recipe describes no possible experiment.
    """
    with open_dataset(path) as data, open_whole(data.path) as face:
        _ = data.inputs, data.warnings, data.report  # each raises where it is damaged
        recipe = recipe_with_files(data, files, allow_files=allow_files)
        chosen = spread(len(data), samples)
        per_sample = data.frames_per_sample
        total = chosen.size * per_sample + checksums * len(data) * per_sample
        count = Counter(total, progress)
        damage = tuple(damaged(face, count)) if checksums else ()
        found = Comparison()
        if not damage:
            sim = Simulator(recipe, data.seed, threads=threads)
            Regeneration(data, face, sim, found, count).run(chosen)
        return Verdict(
            str(data.path), len(data), 0 if damage else chosen.size, max(len(data.shards), 1),
            tuple(found.arrays), damage, found.differences,
            data.software, json.loads(schema.software_versions()),
        )  # fmt: skip


def spread(total: int, wanted: int | None) -> npt.NDArray[np.int64]:
    """Numbers of ``wanted`` samples of ``total``, evenly from the first to the last; all for None.

    Raises
    ------
    DatasetError
        If that is no whole number above 0.
    """
    if wanted is None:
        return np.arange(total)
    if isinstance(wanted, bool) or not isinstance(wanted, int) or wanted < 1:
        raise DatasetError(f"samples={wanted!r} is no whole number from 1 up: give such a one")
    return np.unique(np.linspace(0, total - 1, min(wanted, total)).round().astype(np.int64))


class Counter:
    """Frames done of all that there are to do, told to whoever listens."""

    def __init__(self, total: int, progress: Progress | None) -> None:
        self._done, self._total, self._progress = 0, total, progress

    def add(self, frames: int) -> None:
        """So many more are done."""
        self._done += frames
        if self._progress is not None:
            self._progress(self._done, self._total)


@contextmanager
def opened(face: Part | Joined, number: int) -> Iterator[Part]:
    """One of the files with frames of a dataset."""
    if isinstance(face, Part):
        yield face
        return
    with face.shard(number) as part:
        yield part


def damaged(face: Part | Joined, count: Counter) -> Iterator[str]:
    """What does not have the checksum noted of it, in words, file by file."""
    if isinstance(face, Part):
        yield from unlike_noted(face)
        count.add(face.frames)
        return
    yield from unlike_noted(face)
    for number, entry in enumerate(face.entries):
        digest = schema.file_sha256(face.folder / entry.file)
        if digest != entry.file_sha256:
            yield f"{entry.file} has the SHA-256 {digest}, {entry.file_sha256} is noted"
        try:
            with face.shard(number) as part:
                yield from unlike_noted(part)
        except DatasetError as error:
            yield str(error)
        count.add(entry.frames)


def unlike_noted(file: OpenFile) -> Iterator[str]:
    """Arrays of a file that do not have the SHA-256 noted in it, in words."""
    noted = json_attribute(file.path, file.attrs, "arrays_sha256")
    for path in required_arrays(file):
        if path not in noted:
            yield f"{file.path.name}: no checksum of /{path} is noted"
    for path, digest in noted.items():
        try:
            found = array_sha256(file.array(path))
        except DatasetError as error:
            yield str(error)
            continue
        if found != digest:
            yield f"{file.path.name}: /{path} has the SHA-256 {found}, {digest} is noted"


def required_arrays(file: OpenFile) -> list[str]:
    """Arrays of which a file must note a checksum."""
    maps = [f"{schema.CAMERA}/{name}" for name in file.names(schema.CAMERA)]
    if not isinstance(file, Part):
        return [schema.OFFSETS, *maps]
    groups = {name: file.names(name) for name in (schema.PARAMETERS, schema.TARGETS)}
    groups[schema.EMITTERS] = file.column_names
    named = [f"{group}/{name}" for group, names in groups.items() for name in names]
    expected = [schema.EXPECTED] if schema.EXPECTED in file.file else []
    return [schema.IMAGES, schema.OFFSETS, *expected, *named, *maps]


def array_sha256(array: Frames) -> str:
    """SHA-256 of an array's values as little-endian bytes in C order, read block by block."""
    digest = hashlib.sha256()
    for values in blocks(array):
        digest.update(little_endian(values).reshape(-1).view(np.uint8).data)
    return digest.hexdigest()


def blocks(array: Frames) -> Iterator[npt.NDArray[Any]]:
    """The values of an array in C order, some megabytes at a time."""
    count, inner = array.shape[0], array.shape[1:]
    each = array.dtype.itemsize * int(np.prod(inner, dtype=object))
    if each <= BLOCK_BYTES or not inner:
        step = max(1, BLOCK_BYTES // max(each, 1))
        for start in range(0, count, step):
            yield array.read(start, min(start + step, count))
        return
    step = max(1, BLOCK_BYTES * inner[0] // each)
    for index in range(count):
        for first in range(0, inner[0], step):
            yield array.window(index, first, min(first + step, inner[0]))


class Regeneration:
    """Samples of a dataset made once more, and compared with what is stored."""

    def __init__(
        self, data: Dataset, face: Part | Joined, sim: Simulator, found: Comparison, count: Counter
    ) -> None:
        self._data, self._face, self._sim = data, face, sim
        self._found, self._count = found, count
        self._targets = parse_targets(data.target_settings.values())
        self._layout = Layout.of(
            sim, samples=len(data), expected=data.expected_photons is not None,
            codec=data.codec, targets=self._targets,
        )  # fmt: skip

    def run(self, chosen: npt.NDArray[np.int64]) -> None:
        """Compare what belongs to all samples, and these samples."""
        self._compare_shape()
        if self._found.differences:
            return
        self._compare_maps()
        for number in range(max(len(self._data.shards), 1)):
            entry = self._data.shards[number] if self._data.shards else None
            if entry is not None and not self._touched(entry.first_frame, entry.frames, chosen):
                continue
            with opened(self._face, number) as part:
                self._compare_axes(part)
                self._compare_part(part, chosen)

    def _touched(self, first: int, frames: int, chosen: npt.NDArray[np.int64]) -> bool:
        per_sample = self._data.frames_per_sample
        begin = first // per_sample
        end = (first + frames - 1) // per_sample
        return bool(np.any((chosen >= begin) & (chosen <= end)))

    def _compare_shape(self) -> None:
        data, sim = self._data, self._sim
        for name, was, now in (
            ("axes of a sample", data.sample_axes, sim.sample_axes),
            ("shape of a sample", data.sample_shape, tuple(sim.sample_shape)),
            ("pixel_nm", data.pixel_nm, sim.recipe.pixel_nm),
            ("units of parameters", data.parameter_units, dict(sim.parameter_names)),
        ):
            if was != now:
                self._found.unlike(name, was, now)

    def _compare_maps(self) -> None:
        """Camera maps, which the joining file holds for all shards."""
        scmos = self._sim.resolved.camera.kind == "scmos"
        made = {name: getattr(self._sim.maps, name) for name in schema.CAMERA_MAPS if scmos}
        names = self._face.names(schema.CAMERA)
        stored = {name: self._face.read(f"{schema.CAMERA}/{name}") for name in names}
        self._found.take_named(schema.CAMERA, stored, made)

    def _compare_axes(self, part: Part) -> None:
        """Dimension scales; of a window of a movie, its own times."""
        own = {axis.name: axis.values for axis in self._layout.axes()}
        stacked = self._layout.stacked_axes
        if stacked:
            within = part.frames // part.samples
            own[stacked] = own[stacked][part.first_frame : part.first_frame + within]
        stored = {name: part.read(f"{schema.AXES}/{name}") for name in part.names(schema.AXES)}
        self._found.take_named(schema.AXES, stored, own)

    def _compare_part(self, part: Part, chosen: npt.NDArray[np.int64]) -> None:
        offsets = part.offsets()
        table = part.table(offsets)
        names = part.names(schema.PARAMETERS)
        drawn = {name: part.read(f"{schema.PARAMETERS}/{name}") for name in names}
        last = part.first_sample + part.samples
        mine = chosen[(chosen >= part.first_sample) & (chosen < last)]
        for start, stop in runs(mine):
            for chunk in self._chunks(part, start, stop):
                self._compare_frames(part, chunk)
                self._compare_emitters(part, chunk, table, offsets)
                self._compare_parameters(part, chunk, drawn)
                self._count.add(len(chunk.emitter_offsets) - 1)

    def _chunks(self, part: Part, start: int, stop: int) -> Iterator[Chunk]:
        expected, arrays = self._layout.expected, self._layout.frame_arrays
        room = BLOCK_BYTES * arrays[0].item_bytes // sum(array.item_bytes for array in arrays)
        if part.frames == part.samples * part.frames_per_sample:
            return self._sim.chunks(start, stop, max_bytes=room, expected=expected)
        first, last = part.first_frame, part.first_frame + part.frames
        return self._sim.frames(start, first, last, max_bytes=room, expected=expected)

    def _places(self, chunk: Chunk) -> Places:
        per_sample = self._data.frames_per_sample
        first = chunk.sample_start * per_sample + chunk.frame_start
        return Places.of_frames(first, len(chunk.emitter_offsets) - 1, per_sample)

    def _compare_frames(self, part: Part, chunk: Chunk) -> None:
        """Images, noiseless images and targets."""
        made = {
            schema.IMAGES: chunk.images,
            schema.EXPECTED: chunk.expected_photons,
        } | {
            f"{schema.TARGETS}/{target.kind}": target.of(self._layout, chunk)
            for target in self._targets
            if target.per_frame or chunk.frame_start == part.first_frame
        }
        per_frame = {array.path for array in self._layout.frame_arrays if array.per_frame}
        for path, values in made.items():
            if values is None:
                continue
            read = partial(stored_frames if path in per_frame else stored_samples, part, path)
            places, lead = self._places(chunk), 2
            if path not in per_frame:
                places, lead = Places.of_samples(chunk.sample_start, chunk.sample_stop), 1
            item = values.shape[lead:]
            stored = read(chunk)
            self._found.take(path, stored.reshape(-1, *item), values.reshape(-1, *item), places)

    def _compare_emitters(
        self, part: Part, chunk: Chunk, table: npt.NDArray[Any], offsets: npt.NDArray[np.int64]
    ) -> None:
        places = self._places(chunk)
        first = chunk.sample_start * part.frames_per_sample + chunk.frame_start - part.first
        ends = offsets[first : first + len(chunk.emitter_offsets)]
        stored = table[ends[0] : ends[-1]], ends - ends[0]
        self._found.take_emitters(stored, (chunk.emitters, chunk.emitter_offsets), places)

    def _compare_parameters(
        self, part: Part, chunk: Chunk, drawn: dict[str, npt.NDArray[np.float64]]
    ) -> None:
        if chunk.frame_start != part.first_frame:
            return
        start, stop = (n - part.first_sample for n in (chunk.sample_start, chunk.sample_stop))
        stored = {name: values[start:stop] for name, values in drawn.items()}
        places = Places.of_samples(chunk.sample_start, chunk.sample_stop)
        self._found.take_named(schema.PARAMETERS, stored, chunk.parameters, places)


def stored_frames(part: Part, path: str, chunk: Chunk) -> npt.NDArray[Any]:
    """Values of an array with an item a frame, for the frames of a chunk."""
    array, first = part.array(path), chunk.sample_start - part.first_sample
    if chunk.sample_stop - chunk.sample_start > 1 or not _is_window(part, chunk):
        return array.read(first, first + chunk.sample_stop - chunk.sample_start)
    begin = chunk.frame_start - part.first_frame
    return array.window(first, begin, begin + chunk.frame_stop - chunk.frame_start)


def _is_window(part: Part, chunk: Chunk) -> bool:
    """Whether a chunk has some of the frames that the file has of its sample."""
    return chunk.frame_stop - chunk.frame_start < part.frames // part.samples


def stored_samples(part: Part, path: str, chunk: Chunk) -> npt.NDArray[Any]:
    """Values of an array with an item a sample, for the samples of a chunk."""
    start, stop = (n - part.first_sample for n in (chunk.sample_start, chunk.sample_stop))
    return part.array(path).read(start, stop)


def runs(numbers: npt.NDArray[np.int64]) -> Iterator[tuple[int, int]]:
    """Runs ``[start, stop)`` of numbers that follow one another."""
    cuts = np.flatnonzero(np.diff(numbers) != 1) + 1
    for part in np.split(numbers, cuts):
        if part.size:
            yield int(part[0]), int(part[-1]) + 1
