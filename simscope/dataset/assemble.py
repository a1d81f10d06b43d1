"""Join the shards of a run in one small file that shows them as one dataset.

Images, targets, emitters and parameters are HDF5 virtual datasets: any reader from HDF5 1.10 on
follows them into the shards, by names relative to this file. What simscope itself reads it takes
from the shards directly, since HDF5 gives fill values, no error, where one is missing. Here those
are values no run stores: the largest count, NaN, and -1.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from simscope.acquire import ORIENTED_DTYPE
from simscope.dataset import codec, schema
from simscope.dataset.columns import ColumnWriter, describe, set_text, sha256_of, write_whole
from simscope.dataset.folder import unique_part
from simscope.dataset.manifest import Joined, require_noted, write_manifest
from simscope.dataset.parts import Part, root_attributes
from simscope.dataset.plan import Entry, Piece, Plan
from simscope.dataset.schema import FrameArray
from simscope.dataset.write import (
    create_axes,
    discard_writes,
    label_axes,
    own_image,
    reason,
    sync,
    write_attributes,
)
from simscope.errors import DatasetError

LIBVER = ("v108", "v110")
"""Virtual datasets came with HDF5 1.10."""


def assemble(out: Path, plan: Plan, entries: Sequence[Entry], folder: Path) -> Path:
    """Path of the file that joins all shards of a run, which lie in ``folder`` beside it.

    Its bytes depend on the plan and the shards alone; several processes may make it at once.

    Raises
    ------
    DatasetError
        If a shard is missing, damaged or another than its entry says, or the disk refuses.
    """
    if len(entries) != len(plan):
        raise DatasetError(f"{len(entries)} of {len(plan)} shards of {out} are finished: make all")
    part = unique_part(out)
    try:
        file = h5py.File(part, "w", libver=LIBVER)
        try:
            Assembly(file, plan, entries, folder).write()
            file.flush()
        except BaseException:
            with contextlib.suppress(OSError, RuntimeError):
                discard_writes(file)
                file.close()
            raise
        file.close()
        sync(part)
        with Joined(part, folder) as joined:
            joined.require_shards()
        os.replace(part, out)
        sync(out.parent)
    except (OSError, RuntimeError) as error:
        raise DatasetError(f"cannot write {out}: {reason(error)}") from error
    finally:
        part.unlink(missing_ok=True)
    return out


class Virtual:
    """A virtual dataset that is made of arrays of the same path in the shards.

    Written by HDF5's own functions, as h5py's would put the time of day in the file.
    """

    def __init__(self, folder: Path, path: str, shape: tuple[int, ...], dtype: np.dtype[Any]):
        self._folder, self._path, self._shape, self._dtype = folder, path, shape, dtype
        self._made = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        missing = {"u": 2 ** (8 * dtype.itemsize) - 1, "f": np.nan}.get(dtype.kind, -1)
        self._made.set_fill_value(np.array(missing, dtype))
        self._made.set_obj_track_times(False)

    def show(self, shard: str, start: tuple[int, ...], shape: tuple[int, ...]) -> None:
        """Put a shard's array, all of that shape, where it starts along the first axes."""
        here = h5py.h5s.create_simple(self._shape)
        here.select_hyperslab((*start, *(0,) * (len(shape) - len(start))), shape)
        name = f"{self._folder.name}/{shard}".replace("%", "%%")  # HDF5 counts blocks by "%b"
        there = h5py.h5s.create_simple(shape)
        self._made.set_virtual(here, os.fsencode(name), self._path.encode(), there)

    def create(self, file: h5py.File) -> h5py.Dataset:
        """The dataset in the file."""
        group, _, name = self._path.rpartition("/")
        parent = file.require_group(group) if group else file
        kind = h5py.h5t.py_create(self._dtype, logical=True)
        space = h5py.h5s.create_simple(self._shape)
        return h5py.Dataset(h5py.h5d.create(parent.id, name.encode(), kind, space, self._made))


class Assembly:
    """The joining file while it is written."""

    def __init__(self, file: h5py.File, plan: Plan, entries: Sequence[Entry], folder: Path):
        self._file, self._plan, self._entries, self._folder = file, plan, entries, folder
        self._codec = codec.named(plan.layout.codec)
        self._pieces: list[tuple[Piece, Entry]] = list(zip(plan, entries, strict=True))
        self._sums: dict[str, str] = {}

    def write(self) -> None:
        """Write all there is, and mark the file as complete."""
        file, layout = self._file, self._plan.layout
        write_attributes(file, self._plan)
        self._sums |= create_axes(file, layout)
        for array in layout.frame_arrays:
            self._join_frames(array)
        for column in layout.columns:
            self._join_rows(column)
        for name, unit in layout.parameter_units.items():
            self._join_parameter(name, unit)
        file.require_group(schema.PARAMETERS)
        self._sums |= write_manifest(file, self._entries)
        report = self._write_offsets()
        self._finish(report)

    def _join_frames(self, array: FrameArray) -> None:
        layout = self._plan.layout
        stacked = array.per_frame and layout.stacked_axes != ""
        frames = (layout.frames_per_sample,) if stacked else ()
        shape = (layout.samples, *frames, *array.shape)
        joined = Virtual(self._folder, array.path, shape, array.dtype)
        for piece, entry in self._pieces:
            if not array.per_frame and piece.frame_start:
                continue
            frames = (piece.frames_of_sample,) if stacked else ()
            start = (piece.sample_start, *((piece.frame_start,) if stacked else ()))
            joined.show(entry.file, start, (piece.samples, *frames, *array.shape))
        dataset = joined.create(self._file)
        describe(dataset, array.unit, array.description)
        if not own_image(array):
            set_text(dataset, "per", "frame" if array.per_frame else "sample")
        label_axes(self._file, dataset, array, layout)

    def _join_rows(self, column: schema.Column) -> None:
        path, dtype = f"{schema.EMITTERS}/{column.name}", ORIENTED_DTYPE[column.name]
        rows = sum(entry.rows for entry in self._entries)
        filled = [(entry.rows, entry) for entry in self._entries if entry.rows]
        self._join_column(path, dtype, rows, filled, column.unit, column.description)

    def _join_parameter(self, name: str, unit: str) -> None:
        first = [(piece.samples, entry) for piece, entry in self._pieces if not piece.frame_start]
        path, meaning = f"{schema.PARAMETERS}/{name}", schema.parameter_meaning(name)
        self._join_column(path, np.dtype("<f8"), self._plan.layout.samples, first, unit, meaning)

    def _join_column(
        self, path: str, dtype: np.dtype[Any], rows: int, sources: Iterable[tuple[int, Entry]],
        unit: str, meaning: str,
    ) -> None:  # fmt: skip
        """One column of all shards, end to end."""
        if not rows:
            describe(self._file.create_dataset(path, (0,), dtype), unit, meaning)
            return
        joined, first = Virtual(self._folder, path, (rows,), dtype), 0
        for count, entry in sources:
            joined.show(entry.file, (first,), (count,))
            first += count
        describe(joined.create(self._file), unit, meaning)

    def _write_offsets(self) -> str:
        """Write where each frame's rows begin, shard by shard; the report of the first shard."""
        offsets = ColumnWriter(
            self._file, schema.OFFSETS, "i8", self._codec,
            unit="1", description=schema.OFFSETS_MEANING,
        )  # fmt: skip
        offsets.append(np.zeros(1, np.int64))
        rows, report = 0, ""
        attrs = root_attributes(self._file)
        for number, entry in enumerate(self._entries):
            with Part(self._folder / entry.file) as part:
                require_noted(part, number, entry, attrs, self._file.filename)
                offsets.append(part.offsets()[1:] + rows)
                if number == 0:
                    report = part.attrs["report"]
                    self._copy_camera(part)
            offsets.write(part.first + part.frames + 1)
            rows += entry.rows
        self._sums[schema.OFFSETS] = offsets.finish()
        return str(report)

    def _copy_camera(self, part: Part) -> None:
        for name in part.names(schema.CAMERA):
            path = f"{schema.CAMERA}/{name}"
            values = part.read(path)
            describe(write_whole(self._file, path, values, self._codec), *schema.CAMERA_MAPS[name])
            self._sums[path] = sha256_of(values)

    def _finish(self, report: str) -> None:
        entries, attrs = self._entries, self._file.attrs
        attrs["rows"] = sum(entry.rows for entry in entries)
        attrs["saturated_pixels"] = sum(entry.saturated_pixels for entry in entries)
        told = dict.fromkeys(line for entry in entries for line in entry.warnings)
        set_text(self._file, "warnings", json.dumps(list(told)))
        set_text(self._file, "report", report)
        set_text(self._file, "arrays_sha256", json.dumps(self._sums, sort_keys=True))
        attrs["complete"] = True
