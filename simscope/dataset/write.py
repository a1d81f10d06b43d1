"""Write a dataset so that a killed run never leaves a file that opens as if complete.

Everything goes to ``<name>.part``. Only when all samples are in is it flushed, marked complete,
synced, reopened and checked, and moved to its name in one step.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import TracebackType

import h5py
import numpy as np
import numpy.typing as npt

from simscope.acquire import ORIENTED_DTYPE, Chunk
from simscope.camera import CameraMaps
from simscope.dataset import codec, schema
from simscope.dataset.output import output_target
from simscope.dataset.read import SIGNATURE, open_dataset
from simscope.dataset.schema import Layout
from simscope.errors import DatasetError

MARKED_BYTES = 1 << 20
"""The name of the format lies in the first megabyte of a file, however far its run came."""


def part_path(path: Path) -> Path:
    """Where a file grows until it is complete."""
    return path.with_name(path.name + ".part")


class DatasetWriter:
    """Context manager that fills ``<path>.part`` and moves it to ``path`` on :meth:`finish`.

    Leaving the block without :meth:`finish` removes the partial file.

    Raises
    ------
    DatasetError
        If the output exists (unless ``force``), is being written by another run, or cannot be
        written.
    """

    def __init__(self, path: str | os.PathLike[str], layout: Layout, *, force: bool = False):
        self.path = Path(path)
        self.layout = layout
        self._force = force
        self._codec = codec.named("default")
        self._rows = 0
        self._frames = 0
        self._saturated = 0
        self._arrays: dict[str, h5py.Dataset] = {}
        self._target = require_writable(self.path, force=force)
        self.part = part_path(self._target)
        with self._disk_errors():
            self._file = h5py.File(self.part, "w")
            self._lay_out()
            self._file.flush()  # the marker is on disk before anything else

    def __enter__(self) -> DatasetWriter:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._file:
            self.abandon()

    def write_parameters(self, start: int, values: dict[str, npt.NDArray[np.float64]]) -> None:
        """Store drawn parameters of the samples from ``start`` on."""
        with self._disk_errors():
            for name, drawn in values.items():
                self._array(f"{schema.PARAMETERS}/{name}")[start : start + len(drawn)] = drawn

    def write_camera_maps(self, maps: CameraMaps) -> None:
        """Store gain, offset and read noise of every pixel."""
        with self._disk_errors():
            group = self._file.create_group(schema.CAMERA)
            for name, (unit, meaning) in schema.CAMERA_MAPS.items():
                values = getattr(maps, name)
                stored = group.create_dataset(name, data=values, chunks=True, **self._codec.filters)
                describe(stored, unit, meaning)
                self._arrays[stored.name] = stored

    def append(self, chunk: Chunk) -> None:
        """Store the next chunk; chunks must come in order and without gaps."""
        first = chunk.sample_start * self.layout.frames_per_sample + chunk.frame_start
        if first != self._frames:
            raise DatasetError(f"chunk begins at frame {first}, frame {self._frames} is next")
        with self._disk_errors():
            self._append_images(self._array(schema.IMAGES), chunk, chunk.images)
            if chunk.expected_photons is not None:
                self._append_images(self._array(schema.EXPECTED), chunk, chunk.expected_photons)
            self._append_emitters(chunk)
        self._frames += len(chunk.emitter_offsets) - 1
        self._saturated += chunk.saturated_pixels

    def finish(self) -> Path:
        """The final path, once the file is complete, on disk, checked and in place."""
        if self._frames != self.layout.frames:
            raise DatasetError(
                f"{self._frames} of {self.layout.frames} frames written: {self.path} is incomplete"
            )
        with self._disk_errors():
            self._file.attrs["saturated_pixels"] = self._saturated
            self._file.flush()
            self._file.attrs["complete"] = True
            self._file.close()
            sync(self.part)
            check_written(self.part, self.layout, self._rows)
            place(self.part, self._target, force=self._force)
        return self.path

    def note(self, warnings: list[str], report: dict[str, object]) -> None:
        """Store what the simulator wants a reader to know, as JSON."""
        self._file.attrs["warnings"] = json.dumps(list(warnings))
        self._file.attrs["report"] = json.dumps(report, default=str)

    def abandon(self) -> None:
        """Close and remove the partial file."""
        with contextlib.suppress(OSError, RuntimeError):
            discard_writes(self._file)
            self._file.close()
        self.part.unlink(missing_ok=True)

    def _array(self, name: str) -> h5py.Dataset:
        """An array of the file, kept open: what it holds back is written where failures show."""
        if name not in self._arrays:
            self._arrays[name] = self._file[name]
        return self._arrays[name]

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
        self._write_attributes()
        self._create_axes()
        self._create_images(schema.IMAGES, np.uint16, "ADU", "camera counts")
        if layout.expected:
            meaning = "noiseless light at the camera, background included"
            self._create_images(schema.EXPECTED, np.float32, "photons", meaning)
        emitters = file.create_group(schema.EMITTERS)
        for column in layout.columns:
            rows = emitters.create_dataset(
                column.name, (0,), ORIENTED_DTYPE[column.name], maxshape=(None,),
                chunks=(schema.ROWS_PER_CHUNK,), **self._codec.filters,
            )  # fmt: skip
            describe(rows, column.unit, column.description)
        offsets = file.create_dataset(
            schema.OFFSETS, (layout.frames + 1,), np.int64,
            chunks=(min(layout.frames + 1, schema.ROWS_PER_CHUNK),), **self._codec.filters,
        )  # fmt: skip
        describe(offsets, "1", "rows of frame k are offsets[k] up to, not including, offsets[k+1]")
        parameters = file.create_group(schema.PARAMETERS)
        for name, unit in layout.parameter_units.items():
            values = parameters.create_dataset(name, (layout.samples,), np.float64)
            describe(values, unit, f"recipe value {name} as drawn, one per sample")

    def _write_attributes(self) -> None:
        layout, attrs = self.layout, self._file.attrs
        attrs["format"] = schema.FORMAT_NAME
        attrs["format_version"] = schema.FORMAT_VERSION
        attrs["complete"] = False
        attrs["recipe_yaml"] = layout.recipe.to_yaml()
        attrs["recipe_json"] = layout.recipe.to_json()
        attrs["recipe_sha256"] = layout.recipe.sha256
        attrs["seed"] = layout.seed
        attrs["samples"] = layout.samples
        attrs["frames_per_sample"] = layout.frames_per_sample
        attrs["sample_axes"] = layout.sample_axes
        attrs["pixel_nm"] = layout.recipe.pixel_nm
        attrs["external_sha256"] = json.dumps(schema.external_sha256(layout.recipe))
        attrs["software"] = schema.software_versions()

    def _create_axes(self) -> None:
        axes = self._file.create_group(schema.AXES)
        for axis in self.layout.sample_axes:
            values, unit, meaning = self.layout.axis_values(axis)
            scale = axes.create_dataset(axis, data=values)
            describe(scale, unit, meaning)
            scale.make_scale(schema.AXIS_LABELS[axis])

    def _create_images(self, name: str, dtype: type, unit: str, meaning: str) -> None:
        images = self._file.create_dataset(
            name,
            self.layout.image_shape,
            dtype,
            chunks=self.layout.image_chunk,
            **self._codec.filters,
        )
        describe(images, unit, meaning)
        images.dims[0].label = "sample"
        for number, axis in enumerate(self.layout.sample_axes, start=1):
            images.dims[number].label = axis
            images.dims[number].attach_scale(self._file[schema.AXES][axis])

    def _append_images(
        self, dataset: h5py.Dataset, chunk: Chunk, images: npt.NDArray[np.generic]
    ) -> None:
        per_chunk = self.layout.frames_per_chunk
        frames = images.shape[1]
        if chunk.frame_start % per_chunk or frames % per_chunk:
            raise DatasetError(f"{frames} frames do not fill chunks of {per_chunk} frames")
        sample, frame = np.meshgrid(
            np.arange(chunk.sample_start, chunk.sample_stop),
            np.arange(chunk.frame_start, chunk.frame_stop, per_chunk),
            indexing="ij",
        )
        corners = np.zeros((sample.size, dataset.ndim), np.int64)
        corners[:, 0] = sample.ravel()
        if dataset.ndim == 4:
            corners[:, 1] = frame.ravel()
        packed = self._codec.pack(images.reshape(sample.size, -1))
        codec.write_chunks(dataset, corners, packed)

    def _append_emitters(self, chunk: Chunk) -> None:
        stop = self._rows + len(chunk.emitters)
        for column in self.layout.columns:
            rows = self._array(f"{schema.EMITTERS}/{column.name}")
            rows.resize((stop,))
            rows[self._rows : stop] = chunk.emitters[column.name]
        ends = self._rows + chunk.emitter_offsets
        frames = slice(self._frames, self._frames + len(ends))
        self._array(schema.OFFSETS)[frames] = ends
        self._rows = stop


def describe(dataset: h5py.Dataset, unit: str, description: str) -> None:
    """Attach unit and meaning to a dataset."""
    dataset.attrs["unit"] = unit
    dataset.attrs["description"] = description


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
    if part.is_symlink() or not part.is_file() or not _left_by_a_run(part):
        raise DatasetError(f"{part} is in the way and not simscope's: move it, or choose a name")
    if _being_written(part):
        raise DatasetError(f"another run is writing {part}: wait or choose another name")
    return target


def _left_by_a_run(part: Path) -> bool:
    """Whether a file is empty, or an HDF5 file that begins as a dataset does, opened or not."""
    with part.open("rb") as file:
        start = file.read(MARKED_BYTES)
    return not start or (start.startswith(SIGNATURE) and schema.FORMAT_NAME.encode() in start)


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


def check_written(part: Path, layout: Layout, rows: int) -> None:
    """Reopen a finished file and compare it with what was meant.

    Raises
    ------
    DatasetError
        If it does not open, or differs in shape, rows or offsets.
    """
    with open_dataset(part) as data:
        meant = (layout.image_shape, layout.recipe.sha256, layout.seed)
        found = (data.images.shape, data.recipe_sha256, data.seed)
        if meant != found:
            raise DatasetError(f"{part} reads back {found}, {meant} was written: write it again")
        offsets = data.emitter_offsets
        if offsets[-1] != rows or np.any(np.diff(offsets) < 0):
            raise DatasetError(f"{part} reads back damaged emitter offsets: write it again")
        for sample in {0, layout.samples - 1}:
            data.images[sample]


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
