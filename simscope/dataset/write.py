"""Write a dataset so that a killed run never leaves a file that opens as if complete.

Everything goes to a growing file. Only when all its frames are in is it flushed, marked complete,
synced, reopened and checked, and moved to its name in one step.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import math
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt

from simscope.acquire import ORIENTED_DTYPE, Chunk
from simscope.camera import CameraMaps
from simscope.dataset import codec, schema
from simscope.dataset.columns import (
    ColumnWriter,
    describe,
    little_endian,
    set_text,
    sha256_of,
    write_whole,
)
from simscope.dataset.output import output_target
from simscope.dataset.parts import Part
from simscope.dataset.plan import Entry, Piece, Plan
from simscope.dataset.schema import FrameArray, Layout
from simscope.errors import DatasetError
from simscope.tables.peek import HDF5_MAGIC

MARKED_BYTES = 1 << 20
"""The name of the format lies in the first megabyte of a file, however far its run came."""


def part_path(path: Path) -> Path:
    """Where a file grows until it is complete."""
    return path.with_name(path.name + ".part")


@dataclass(frozen=True)
class Taken:
    """Images or targets of a chunk on their way to a file, with the unit each belongs to."""

    dataset: h5py.Dataset
    units: npt.NDArray[np.int64]
    corners: npt.NDArray[np.int64]
    wait: Callable[[], list[codec.Packed]]

    @cached_property
    def packed(self) -> list[codec.Packed]:
        """Their bytes, waited for once."""
        return self.wait()

    def store(self, first: int, last: int) -> None:
        """Write what belongs to these units."""
        a, b = np.searchsorted(self.units, (first, last))
        codec.write_chunks(self.dataset, self.corners[a:b], self.packed[a:b])


@dataclass(frozen=True)
class Waiting:
    """A chunk that is being packed, and the frames of the file before it."""

    before: int
    chunk: Chunk
    taken: list[Taken]


class FrameWriter:
    """Images or targets of one file, packed chunk by chunk; where to store them is told later.

    A unit is what no chunk goes beyond: a sample, or one frame where a sample is large or cut.
    """

    def __init__(self, file: h5py.File, array: FrameArray, plan: Plan, piece: Piece):
        self.array = array
        self._piece, self._unit = piece, frames_per_unit(plan)
        whole = array.item_bytes * self._unit <= schema.MAX_CHUNK_BYTES
        self._per_chunk = self._unit if whole or own_image(array) else 1
        self._stacked = array.per_frame and plan.layout.stacked_axes != ""
        self._digest = hashlib.sha256()
        self._dataset = self._create(file, plan.layout)

    def take(self, values: npt.NDArray[Any], chunk: Chunk, pack: Pack) -> Taken:
        """Pack ``(samples, frames, *item)`` of a chunk, or ``(samples, *item)`` if one a sample."""
        frames = chunk.frame_stop - chunk.frame_start
        if self.array.per_frame:
            first = np.arange(0, len(values) * frames, self._per_chunk)
            rows = values.reshape(len(first), -1)
        else:  # with the first frame of their sample in this file
            begin = chunk.frame_start == self._piece.frame_start
            first = np.arange(len(values) if begin else 0) * frames
            rows = values[: len(first)].reshape(len(first), math.prod(self.array.shape))
        rows = little_endian(rows)
        corners = np.zeros((len(first), self._dataset.ndim), np.int64)
        corners[:, 0] = chunk.sample_start - self._piece.sample_start + first // frames
        if self._stacked:
            corners[:, 1] = chunk.frame_start - self._piece.frame_start + first % frames
        packed = pack(rows, self._digest) if len(rows) else list
        return Taken(self._dataset, first // self._unit, corners, packed)

    def finish(self) -> str:
        """SHA-256 of all values."""
        return self._digest.hexdigest()

    def _create(self, file: h5py.File, layout: Layout) -> h5py.Dataset:
        array, piece = self.array, self._piece
        stacked = (piece.frames_of_sample,) if self._stacked else ()
        inner = (self._per_chunk,) if self._stacked else ()
        dataset = file.create_dataset(
            array.path, (piece.samples, *stacked, *array.shape), array.dtype,
            chunks=(1, *inner, *array.shape), **codec.named(layout.codec).filters,
        )  # fmt: skip
        describe(dataset, array.unit, array.description)
        if not own_image(array):
            set_text(dataset, "per", "frame" if array.per_frame else "sample")
        label_axes(file, dataset, array, layout)
        return dataset


Pack = Callable[[npt.NDArray[Any], Any], Callable[[], list[codec.Packed]]]
"""Begins to pack chunks, one a row, and to add them to a SHA-256 that runs along."""


class DatasetWriter:
    """Context manager that fills a growing file and moves it to ``path`` on :meth:`finish`.

    It holds one piece of a plan and grows as ``<path>.part``, or as ``part``, a name nobody else
    writes to. Leaving the block without :meth:`finish` removes the growing file. Its bytes depend
    on the piece, the plan and the software alone: not on how its frames come, nor on ``threads``,
    which pack them.

    Raises
    ------
    DatasetError
        If the output exists (unless ``force``, or with a ``part`` of its own), is being written by
        another run, or cannot be written.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        plan: Plan,
        piece: Piece,
        *,
        part: Path | None = None,
        force: bool = False,
        threads: int = 1,
    ):
        self.path = Path(path)
        self.plan, self.piece, self.layout = plan, piece, plan.layout
        self._codec = codec.named(self.layout.codec)
        self._force = force or part is not None
        self._target = require_writable(self.path, force=force) if part is None else self.path
        self.part = part_path(self._target) if part is None else part
        self._pool = ThreadPoolExecutor(threads, "simscope-pack") if threads > 1 else None
        self._summing = ThreadPoolExecutor(1, "simscope-sum") if threads > 1 else None
        self._threads = threads
        self._waiting: deque[Waiting] = deque()
        self._frames = self._rows = self._saturated = self._samples = 0
        self._noted: tuple[list[str], dict[str, object]] = ([], {})
        self._sums: dict[str, str] = {}
        self._abandoned = False
        with self._disk_errors():
            self._file = h5py.File(self.part, "w", libver=schema.LIBVER)
            self._lay_out()
            self._file.flush()  # the marker is on disk before anything else

    def __enter__(self) -> DatasetWriter:
        return self

    def __exit__(self, *error: object) -> None:
        if self._file:
            self.abandon()

    def write_parameters(self, start: int, values: dict[str, npt.NDArray[np.float64]]) -> None:
        """Store what was drawn for the samples from ``start`` on; once is enough for each."""
        new = self.piece.sample_start + self._samples - start
        taken = 0
        with self._disk_errors():
            for name, drawn in values.items():
                column = self._parameters[name]
                column.append(drawn[new:])
                taken = len(drawn[new:])
        self._samples += taken

    def write_camera_maps(self, maps: CameraMaps) -> None:
        """Store gain, offset and read noise of every pixel, in the first file of a run only."""
        if self.piece.number > 0:
            return
        with self._disk_errors():
            for name, (unit, meaning) in schema.CAMERA_MAPS.items():
                values = getattr(maps, name)
                path = f"{schema.CAMERA}/{name}"
                describe(write_whole(self._file, path, values, self._codec), unit, meaning)
                self._sums[path] = sha256_of(values)

    def append(self, chunk: Chunk) -> None:
        """Take the next chunk; chunks must come in order and without gaps.

        With several threads it is packed while the one before it is stored: its arrays must stay
        as they are until the next but one, or until :meth:`settle`.
        """
        self._require_next(chunk)
        with self._disk_errors():
            taken = [
                writer.take(self._values(writer.array, chunk), chunk, self._pack)
                for writer in self._frame_writers
            ]
        self._waiting.append(Waiting(self._frames, chunk, taken))
        self._frames += len(chunk.emitter_offsets) - 1
        self._saturated += chunk.saturated_pixels
        self.settle(0 if self._pool is None else 1)

    def settle(self, most: int = 0) -> None:
        """Store what was taken, but for the last ``most`` chunks."""
        with self._disk_errors():
            while len(self._waiting) > most:
                self._store(self._waiting.popleft())

    def _store(self, waiting: Waiting) -> None:
        chunk = waiting.chunk
        ends = self._rows + chunk.emitter_offsets[1:]
        for name, column in self._columns.items():
            column.append(chunk.emitters[name])
        self._offsets.append(ends)
        self._store_units(waiting, ends)
        self._rows = int(ends[-1])

    def note(self, warnings: list[str], report: dict[str, object]) -> None:
        """Keep what the simulator wants a reader to know, but for the device it ran on."""
        known = {name: value for name, value in report.items() if name != "device"}
        self._noted = (list(warnings), known)

    def finish(self) -> Entry:
        """What is known of the file, once it is complete, on disk, checked and in place."""
        if self._frames != self.piece.frames:
            raise DatasetError(
                f"{self._frames} of {self.piece.frames} frames written: {self.path} is incomplete"
            )
        self.settle()
        with self._disk_errors():
            self._complete()
            entry = self._entry()
            check_written(self.part, self.plan, entry)
            place(self.part, self._target, force=self._force)
        return entry

    def abandon(self) -> None:
        """Close and remove the partial file."""
        self._end_pool()
        if self._file and not self._abandoned:  # HDF5 crashes if a file that broke is used again
            self._abandoned = True
            with contextlib.suppress(OSError, RuntimeError):
                discard_writes(self._file)
                self._file.close()
        self.part.unlink(missing_ok=True)

    def _require_next(self, chunk: Chunk) -> None:
        """Return nothing; DatasetError unless a chunk follows the last one and fills units."""
        unit = frames_per_unit(self.plan)
        first = chunk.sample_start * self.layout.frames_per_sample + chunk.frame_start
        due = first_frame(self.layout, self.piece) + self._frames
        if first != due:
            raise DatasetError(f"chunk begins at frame {first}, frame {due} is next")
        frames = chunk.frame_stop - chunk.frame_start
        if chunk.frame_start % unit or frames % unit:
            raise DatasetError(f"{frames} frames do not fill chunks of {unit} frames")
        count = len(chunk.emitter_offsets) - 1
        if self._frames + count > self.piece.frames:
            raise DatasetError(f"chunk ends {count} frames on, the file has {self.piece.frames}")

    def _values(self, array: FrameArray, chunk: Chunk) -> npt.NDArray[Any]:
        if array.path == schema.IMAGES:
            return chunk.images
        if array.path == schema.EXPECTED:
            return chunk.expected_photons
        kinds = {target.kind: target for target in self.layout.targets}
        return kinds[array.path.removeprefix(f"{schema.TARGETS}/")].of(self.layout, chunk)

    def _pack(self, rows: npt.NDArray[Any], digest: Any) -> Callable[[], list[codec.Packed]]:
        values = rows.reshape(-1).view(np.uint8).data
        if self._pool is None or self._summing is None:
            digest.update(values)
            done = self._codec.pack(rows)
            return lambda: done
        summed = self._summing.submit(digest.update, values)  # by one thread, so in their order
        packed = self._codec.pack_on(self._pool, self._threads, rows)

        def both() -> list[codec.Packed]:
            summed.result()
            return packed()

        return both

    def _store_units(self, waiting: Waiting, ends: npt.NDArray[np.int64]) -> None:
        """Write what was taken in an order that does not depend on how it came.

        Unit by unit, all arrays of each; a column's chunk follows the unit that fills it.
        """
        unit, size = frames_per_unit(self.plan), schema.ROWS_PER_CHUNK
        rows = ends[unit - 1 :: unit]
        frames = waiting.before + unit * np.arange(1, len(rows) + 1)
        filled = rows // size + (frames + 1) // size + frames // self.piece.frames_of_sample // size
        if len(self._frame_writers) > 1:
            cuts = np.arange(1, len(rows) + 1)
        else:
            cuts = np.unique([1, *(np.flatnonzero(np.diff(filled)) + 2), len(rows)])
        first = 0
        for last in cuts.tolist():
            for taken in waiting.taken:
                taken.store(first, last)
            self._write_columns(int(rows[last - 1]), int(frames[last - 1]))
            first = last

    def _write_columns(self, rows: int, frames: int) -> None:
        for column in self._columns.values():
            column.write(rows)
        self._offsets.write(frames + 1)
        for column in self._parameters.values():
            column.write(frames // self.piece.frames_of_sample)

    def _complete(self) -> None:
        """Write what is left, sums and notes, mark the file as complete, close and sync it."""
        self._end_pool()
        for writer in self._frame_writers:
            self._sums[writer.array.path] = writer.finish()
        for column in (*self._columns.values(), self._offsets, *self._parameters.values()):
            self._sums[column.path] = column.finish()
        attrs = self._file.attrs
        attrs["rows"] = self._rows
        attrs["saturated_pixels"] = self._saturated
        set_text(self._file, "warnings", json.dumps(self._noted[0]))
        set_text(self._file, "report", json.dumps(self._noted[1], default=str))
        set_text(self._file, "arrays_sha256", json.dumps(self._sums, sort_keys=True))
        self._file.flush()
        attrs["complete"] = True
        self._file.close()
        sync(self.part)

    def _entry(self) -> Entry:
        return Entry(
            file=self._target.name,
            first_frame=first_frame(self.layout, self.piece),
            frames=self._frames,
            rows=self._rows,
            saturated_pixels=self._saturated,
            bytes=self.part.stat().st_size,
            file_sha256=schema.file_sha256(self.part),
            arrays_sha256=dict(self._sums),
            warnings=tuple(self._noted[0]),
        )

    def _end_pool(self) -> None:
        for pool in (self._pool, self._summing):
            if pool is not None:
                pool.shutdown(cancel_futures=True)

    @contextlib.contextmanager
    def _disk_errors(self) -> Iterator[None]:
        try:
            yield
        except DatasetError:
            raise
        except (OSError, RuntimeError) as error:
            with contextlib.suppress(AttributeError):
                self.abandon()
            raise DatasetError(f"cannot write {self.path}: {reason(error)}") from error

    def _lay_out(self) -> None:
        layout, file = self.layout, self._file
        write_attributes(file, self.plan, self.piece)
        self._sums |= create_axes(file, layout, self.piece)
        self._frame_writers = [
            FrameWriter(file, array, self.plan, self.piece) for array in layout.frame_arrays
        ]
        file.create_group(schema.EMITTERS)
        file.create_group(schema.PARAMETERS)
        self._columns = {
            column.name: self._column(
                f"{schema.EMITTERS}/{column.name}", ORIENTED_DTYPE[column.name],
                column.unit, column.description,
            )
            for column in layout.columns
        }  # fmt: skip
        self._offsets = self._column(schema.OFFSETS, "i8", "1", schema.OFFSETS_MEANING)
        self._offsets.append(np.zeros(1, np.int64))
        self._parameters = {
            name: self._column(
                f"{schema.PARAMETERS}/{name}", "f8", unit, schema.parameter_meaning(name)
            )
            for name, unit in layout.parameter_units.items()
        }

    def _column(self, path: str, dtype: Any, unit: str, meaning: str) -> ColumnWriter:
        return ColumnWriter(self._file, path, dtype, self._codec, unit=unit, description=meaning)


def own_image(array: FrameArray) -> bool:
    """Whether it is one of the images, no target."""
    return array.path in (schema.IMAGES, schema.EXPECTED)


def frames_per_unit(plan: Plan) -> int:
    """Frames that no chunk goes beyond: those of a sample, or 1 where it is large or cut."""
    return 1 if plan.frames_per_piece is not None else plan.layout.frames_per_chunk


def first_frame(layout: Layout, piece: Piece) -> int:
    """Number of a piece's first frame among those of the run."""
    return piece.sample_start * layout.frames_per_sample + piece.frame_start


def write_attributes(file: h5py.File, plan: Plan, piece: Piece | None = None) -> None:
    """Root attributes of the file of a piece, or of the file that joins all pieces of a run."""
    layout, attrs = plan.layout, file.attrs
    set_text(file, "format", schema.FORMAT_NAME)
    attrs["format_version"] = schema.FORMAT_VERSION
    attrs["complete"] = False
    for name, text in layout.recipe_texts.items():
        set_text(file, name, text)
    attrs["schema_version"] = layout.recipe.schema_version
    attrs["seed"] = layout.seed
    attrs["shards"] = len(plan)
    if piece is not None:
        attrs["shard"] = piece.number
    attrs["first_sample"] = 0 if piece is None else piece.sample_start
    attrs["first_frame"] = 0 if piece is None else piece.frame_start
    attrs["samples"] = layout.samples if piece is None else piece.samples
    attrs["frames"] = layout.frames if piece is None else piece.frames
    attrs["frames_per_sample"] = layout.frames_per_sample
    set_text(file, "sample_axes", layout.sample_axes)
    attrs["pixel_nm"] = layout.recipe.pixel_nm
    set_text(file, "codec", layout.codec)
    set_text(file, "targets", json.dumps(layout.target_settings, sort_keys=True))
    set_text(file, "inputs", json.dumps(layout.inputs, sort_keys=True))
    set_text(file, "software", schema.software_versions())


def create_axes(file: h5py.File, layout: Layout, piece: Piece | None = None) -> dict[str, str]:
    """Write the dimension scales, of a window of a movie its own times; SHA-256 by path."""
    sums = {}
    for axis in layout.axes():
        path, values = f"{schema.AXES}/{axis.name}", axis.values
        if piece is not None and axis.name == layout.stacked_axes:
            values = values[piece.frame_start : piece.frame_stop]
        scale = file.create_dataset(path, data=values)
        describe(scale, axis.unit, axis.description)
        scale.make_scale(axis.label)
        sums[path] = sha256_of(values)
    return sums


def label_axes(file: h5py.File, dataset: h5py.Dataset, array: FrameArray, layout: Layout) -> None:
    """Label the dimensions of images or targets and attach their scales."""
    dataset.dims[0].label = "sample"
    stacked = tuple(layout.stacked_axes) if array.per_frame else ()
    for number, axis in enumerate((*stacked, *array.axes), start=1):
        scale = file[schema.AXES][axis]
        dataset.dims[number].label = axis.rpartition("_")[2]
        dataset.dims[number].attach_scale(scale)


def require_writable(
    path: Path, *, force: bool, inputs: Iterable[str | os.PathLike[str]] = ()
) -> Path:
    """The file to be written, once nothing speaks against it (see ``output_target``).

    A ``.part`` file in the way is taken over only if a run of simscope left it.

    Raises
    ------
    DatasetError
        With the reason and the remedy.
    """
    target = output_target(path, force=force, inputs=inputs)
    part = part_path(target)
    if not os.path.lexists(part):
        return target
    if part.is_symlink() or not part.is_file() or not begins_like_a_dataset(part):
        raise DatasetError(f"{part} is in the way and not simscope's: move it, or choose a name")
    if _being_written(part):
        raise DatasetError(f"another run is writing {part}: wait or choose another name")
    return target


def begins_like_a_dataset(part: Path) -> bool:
    """Whether a file is empty, or an HDF5 file that begins as a dataset does, opened or not."""
    with part.open("rb") as file:
        start = file.read(MARKED_BYTES)
    return not start or (start.startswith(HDF5_MAGIC) and schema.FORMAT_NAME.encode() in start)


def _being_written(part: Path) -> bool:
    try:
        h5py.File(part, "r+").close()
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


def discard_writes(file: h5py.File) -> None:
    """Send what HDF5 still holds back to nowhere, so that a full disk cannot make closing fail.

    HDF5 keeps a file it could not flush open, tries again as the program ends, and crashes.
    """
    nowhere = os.open(os.devnull, os.O_RDWR)
    try:
        os.dup2(nowhere, file.id.get_vfd_handle())
    finally:
        os.close(nowhere)


def sync(path: Path) -> None:
    """Push a file or folder to the disk itself."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def check_written(part: Path, plan: Plan, entry: Entry) -> None:
    """Reopen a finished file and compare it with what was meant.

    Raises
    ------
    DatasetError
        If it does not open, or differs in recipe, seed, counts, sums, shape, rows or offsets.
    """
    with Part(part) as file:
        layout, attrs = plan.layout, file.attrs
        meant = (
            layout.recipe_texts["recipe_sha256"],
            layout.seed,
            entry.frames,
            entry.rows,
            entry.arrays_sha256,
        )
        sums = json.loads(str(attrs["arrays_sha256"]))
        found = (attrs["recipe_sha256"], attrs["seed"], file.frames, file.rows, sums)
        if meant != found:
            raise DatasetError(f"{part} reads back {found}, {meant} was written: write it again")
        file.offsets()
        images = file.array(schema.IMAGES)
        for sample in {0, images.shape[0] - 1}:
            images.one(sample)


def place(part: Path, path: Path, *, force: bool) -> None:
    """Move the finished file to its name, in one step, and sync the folder.

    Without ``force`` a file that appeared there meanwhile is left alone.

    Raises
    ------
    DatasetError
        If the name was taken in the meantime.
    """
    if path.exists() and not force:
        raise DatasetError(f"{path} appeared meanwhile: the finished file is left as {part}")
    os.replace(part, path)
    sync(path.parent)


def reason(error: BaseException) -> str:
    """Short cause and remedy of a failed write."""
    code = getattr(error, "errno", None)
    remedies = {
        errno.ENOSPC: "free some space, nothing was left behind",
        errno.EDQUOT: "free some of your quota, nothing was left behind",
        errno.EFBIG: "choose a file system for larger files",
        errno.EACCES: "choose a folder you may write to",
        errno.EROFS: "choose a folder you may write to",
    }
    if code in remedies:
        return f"{os.strerror(code)}; {remedies[code]}"
    return os.strerror(code) if code else " ".join(str(error).split())
