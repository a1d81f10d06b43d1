"""One file of a dataset opened for reading, checked as a whole before anything of it is believed.

Nothing is read by way of links or from other files, and what is declared must be there: no array
is larger than its file can hold, and none has a chunk missing, which HDF5 would read as zeros.
"""

from __future__ import annotations

import hashlib
import json
import math
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import numpy as np
import numpy.typing as npt

from simscope.acquire import MAX_SAMPLES, ORIENTED_DTYPE
from simscope.dataset import schema
from simscope.dataset.columns import sha256_of
from simscope.dataset.frames import Frames
from simscope.errors import DatasetError
from simscope.tables.peek import HDF5_MAGIC

MOST_EXPANSION = 1100
"""No filter used here unpacks to more than so many times the bytes that are stored."""

MOST_FRAMES = 2**32
LARGEST = 2**63 - 1
COUNTS = {
    "seed": (0, LARGEST),
    "samples": (1, MAX_SAMPLES),
    "frames": (1, LARGEST),
    "frames_per_sample": (1, MOST_FRAMES),
    "first_sample": (0, MAX_SAMPLES),
    "first_frame": (0, MOST_FRAMES),
    "shards": (1, LARGEST),
    "rows": (0, LARGEST),
    "saturated_pixels": (0, LARGEST),
}
"""Whole numbers among the root's attributes, and their limits."""

TEXTS = ("recipe_yaml", "recipe_json", "recipe_sha256", "sample_axes", "codec", "arrays_sha256",
         "inputs", "targets", "warnings", "report", "software")  # fmt: skip
"""Texts among the root's attributes."""

_HDF5_ERRORS = (KeyError, TypeError, ValueError, AttributeError, OSError, RuntimeError)


class Seen(NamedTuple):
    """What is remembered of a file that was checked, to open it again without another check."""

    stamp: tuple[int, int, int]
    """Length, time of the last change and number of the file."""
    attrs: dict[str, Any]


class OpenFile:
    """A dataset's file opened for reading: its header checked, its arrays checked as asked for.

    Raises
    ------
    DatasetError
        If the file is missing, empty, foreign, truncated, incomplete or of another version.
    """

    def __init__(self, path: Path, seen: Seen | None = None):
        self.path = path
        self._frames: dict[str, Frames] = {}
        self.file = open_file(path)
        try:
            known = path.stat()
            self.bytes = known.st_size
            self.stamp = (known.st_size, known.st_mtime_ns, known.st_ino)
            self._checked = seen is not None and seen.stamp == self.stamp
            if seen is not None and self._checked:
                self.attrs = seen.attrs
            else:
                self._check()
        except DatasetError:
            self.file.close()
            raise
        except (RecursionError, OverflowError, *_HDF5_ERRORS) as error:
            self.file.close()
            cause = " ".join(str(error).split())
            raise DatasetError(f"{path} is damaged ({cause}): generate it again") from None
        except BaseException:
            self.file.close()
            raise

    def _check(self) -> None:
        """Raise what is wrong with the file; every dataset's file begins alike."""
        self.attrs = root_attributes(self.file)
        check_header(self.path, self.attrs)

    def __enter__(self) -> OpenFile:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file; arrays already read stay valid."""
        self._frames.clear()
        self.file.close()

    @property
    def seen(self) -> Seen:
        """What to remember of the file for opening it again."""
        return Seen(self.stamp, self.attrs)

    @property
    def samples(self) -> int:
        """Samples the file has frames of."""
        return int(self.attrs["samples"])

    @property
    def frames(self) -> int:
        """Two-dimensional images in the file."""
        return int(self.attrs["frames"])

    @property
    def frames_per_sample(self) -> int:
        """Two-dimensional images in a whole sample."""
        return int(self.attrs["frames_per_sample"])

    @property
    def first_sample(self) -> int:
        """Sample its first frame belongs to."""
        return int(self.attrs["first_sample"])

    @property
    def first_frame(self) -> int:
        """Its first frame, counted from 0 within that sample."""
        return int(self.attrs["first_frame"])

    @property
    def rows(self) -> int:
        """Rows of its emitter table."""
        return int(self.attrs["rows"])

    @cached_property
    def column_names(self) -> list[str]:
        """Names of the emitter columns it must have, by what its recipe says of dipoles."""
        try:
            written = json.loads(self.attrs["recipe_json"])
            free = written.get("dipoles", {"kind": "free"})["kind"] == "free"
        except (ValueError, RecursionError, AttributeError, TypeError, KeyError) as error:
            raise DatasetError(
                f"{self.path} is damaged: recipe_json is no recipe: {error}"
            ) from None
        columns = schema.EMITTER_COLUMNS + (() if free else schema.ORIENTATION_COLUMNS)
        return [column.name for column in columns]

    def names(self, group: str) -> list[str]:
        """Names of the members of a group of the root; none where there is no such group.

        Raises
        ------
        DatasetError
            If it lies elsewhere or is damaged.
        """
        try:
            if group not in self.file:
                return []
            if isinstance(self.file.get(group, getlink=True), h5py.HardLink):
                return list(self.file[group])
        except _HDF5_ERRORS as error:
            raise self._damaged(group, error) from None
        raise DatasetError(f"{self.path}: group /{group} points elsewhere: not followed")

    def attribute(self, name: str, attribute: str) -> str:
        """An attribute of an array, as text; DatasetError if it is damaged or missing."""
        dataset = self.array(name).dataset
        try:
            value = plain_attribute(dataset, attribute)
        except _HDF5_ERRORS as error:
            raise self._damaged(name, error) from None
        if not isinstance(value, str):
            raise DatasetError(
                f"{self.path} is damaged: attribute {attribute} of /{name} is no text"
            )
        return value

    def _damaged(self, name: str, error: Exception) -> DatasetError:
        cause = " ".join(str(error).split())
        return DatasetError(f"{self.path} is damaged at /{name}: {cause}: generate it again")

    def array(self, name: str) -> Frames:
        """An array of the file to be read along its first axis, once it proves to be there.

        Raises
        ------
        DatasetError
            If it is missing, lies elsewhere, or is not stored as declared.
        """
        if name not in self._frames:
            try:
                dataset = self.file[name] if self._checked else self._own(name)
                if not self._checked:
                    self._require_stored(name, dataset)
                self._frames[name] = Frames(dataset)
            except _HDF5_ERRORS as error:
                raise self._damaged(name, error) from None
        return self._frames[name]

    def read(self, name: str) -> npt.NDArray[Any]:
        """All values of an array; DatasetError as of :meth:`array`, or if they are damaged."""
        array = self.array(name)
        if not array.shape:
            raise DatasetError(f"{self.path} is damaged: /{name} is no array")
        return array.read(0, array.shape[0])

    def verified(self, name: str) -> npt.NDArray[Any]:
        """All values of an array that have the SHA-256 noted; DatasetError otherwise."""
        values = self.read(name)
        if sha256_of(values) != self._sums.get(name):
            raise DatasetError(
                f"{self.path} is damaged: {name} does not have the SHA-256 noted: generate it again"
            )
        return values

    @cached_property
    def _sums(self) -> dict[str, Any]:
        return json_attribute(self.path, self.attrs, "arrays_sha256")

    def _own(self, name: str) -> h5py.Dataset:
        """A dataset of this file, reached through no link; DatasetError if there is none."""
        group: Any = self.file
        for step in name.split("/"):
            link = group.get(step, getlink=True) if isinstance(group, h5py.Group) else None
            if link is None:
                raise DatasetError(f"{self.path} is damaged: dataset /{name} is missing")
            if not isinstance(link, h5py.HardLink):
                raise DatasetError(f"{self.path}: dataset /{name} points elsewhere: not followed")
            group = group[step]
        if not isinstance(group, h5py.Dataset):
            raise DatasetError(f"{self.path} is damaged: dataset /{name} is missing")
        if group.is_virtual or group.external:
            raise DatasetError(
                f"{self.path}: dataset /{name} points to another file, which is not followed"
            )
        return group

    def _require_stored(self, name: str, dataset: h5py.Dataset) -> None:
        """Raise unless all an array declares is stored."""
        damaged = f"{self.path} is damaged: /{name} of shape {dataset.shape}"
        if dataset.shape is None or dataset.dtype.kind not in "fiuS":
            raise DatasetError(f"{damaged} holds {dataset.dtype}")
        if 0 in dataset.shape:
            return
        if dataset.chunks is None:
            whole = dataset.id.get_storage_size() == dataset.nbytes <= self.bytes
        else:
            chunks = math.prod(
                -(-size // step) for size, step in zip(dataset.shape, dataset.chunks, strict=True)
            )
            each = math.prod(dataset.chunks) * dataset.dtype.itemsize
            bare = dataset.id.get_create_plist().get_nfilters() == 0
            most = self.bytes * (1 if bare else MOST_EXPANSION)
            whole = chunks * each <= most and dataset.id.get_num_chunks() == chunks
            if whole and bare:  # HDF5 reads as much as its index says into memory for one chunk
                whole = dataset.id.chunk_iter(lambda one: one.size != each or None) is None
        if not whole:
            raise DatasetError(f"{damaged} is not stored in full: generate it again")


class Part(OpenFile):
    """A file with frames: a whole dataset, or a shard of one.

    Raises
    ------
    DatasetError
        If anything in it contradicts itself or is not there.
    """

    def _check(self) -> None:
        super()._check()
        self._check_names()
        self._check_counts()
        self._check_images()
        self._check_columns()

    def __enter__(self) -> Part:
        return self

    @property
    def first(self) -> int:
        """Number of its first frame among those of the run."""
        return self.first_sample * self.frames_per_sample + self.first_frame

    def offsets(self) -> npt.NDArray[np.int64]:
        """Rows of the file's frame k are ``offsets[k]:offsets[k + 1]``; int64 ``(frames + 1,)``."""
        offsets = self.verified(schema.OFFSETS)
        if offsets[0] != 0 or offsets[-1] != self.rows or np.any(np.diff(offsets) < 0):
            raise DatasetError(f"{self.path} is damaged: emitter offsets do not fit the table")
        return offsets

    def table(self, offsets: npt.NDArray[np.int64]) -> npt.NDArray[Any]:
        """Emitters of all frames of the file, ``frame`` counted in the run."""
        dtype = np.dtype([(name, ORIENTED_DTYPE[name]) for name in self.column_names])
        table = np.empty(self.rows, dtype)
        for name in self.column_names:
            table[name] = self.verified(f"{schema.EMITTERS}/{name}")
        self._check_emitters(table, offsets)
        return table

    def _check_emitters(self, table: npt.NDArray[Any], offsets: npt.NDArray[np.int64]) -> None:
        frames = np.repeat(self.first + np.arange(self.frames), np.diff(offsets))
        if not np.array_equal(table["frame"], frames):
            raise DatasetError(f"{self.path} is damaged: emitters/frame contradicts the offsets")
        for name in set(table.dtype.names or ()) - {"frame", "id"}:
            if not np.all(np.isfinite(table[name])):
                raise DatasetError(f"{self.path} is damaged: emitters/{name} is not finite")
        if np.any(table["photons"] < 0):
            raise DatasetError(f"{self.path} is damaged: emitters/photons are below 0")

    def _check_names(self) -> None:
        """Raise unless it has the parameters, targets and images of which it notes checksums."""
        groups = (schema.PARAMETERS, schema.TARGETS)
        there = {f"{group}/{name}" for group in groups for name in self.names(group)}
        there |= {schema.EXPECTED} & set(self.file)
        noted = {path for path in self._sums if path.startswith(groups) or path == schema.EXPECTED}
        if there != noted:
            name = min(there ^ noted)
            raise DatasetError(f"{self.path} is damaged: /{name} and its checksum: one is missing")

    def _check_counts(self) -> None:
        """Raise unless the file has whole samples, or some frames of one."""
        whole = self.first_frame == 0 and self.frames == self.samples * self.frames_per_sample
        window = self.samples == 1 and self.first_frame + self.frames <= self.frames_per_sample
        if not whole and not window:
            raise DatasetError(
                f"{self.path} is damaged: {self.frames} frames of {self.samples} samples disagree"
            )

    def _check_images(self) -> None:
        samples, axes = self.samples, self.attrs["sample_axes"]
        stacked = (self.frames // samples,) if len(axes) == 3 else ()
        if not stacked and self.frames_per_sample != 1:
            raise DatasetError(f"{self.path} is damaged: samples of axes {axes} have one frame")
        leads = {schema.IMAGES: ("<u2", stacked, 2)}
        if schema.EXPECTED in self.file:
            leads[schema.EXPECTED] = ("<f4", stacked, 2)
        for name, (dtype, frames, items) in leads.items():
            array = self.array(name)
            lead = (samples, *frames)
            if array.shape[: len(lead)] != lead or len(array.shape) != len(lead) + items:
                raise DatasetError(
                    f"{self.path} is damaged: shapes of images, offsets and emitters disagree"
                )
            if array.dtype != np.dtype(dtype):
                raise DatasetError(f"{self.path} is damaged: /{name} holds {array.dtype}")
        for name in self.names(schema.TARGETS):
            if self.array(f"{schema.TARGETS}/{name}").shape[:1] != (samples,):
                raise DatasetError(f"{self.path} is damaged: target {name} has another length")

    def _check_columns(self) -> None:
        kinds = {
            f"{schema.EMITTERS}/{name}": ORIENTED_DTYPE[name].kind for name in self.column_names
        }
        lengths = dict.fromkeys(kinds, self.rows)
        kinds[schema.OFFSETS], lengths[schema.OFFSETS] = "i", self.frames + 1
        if schema.PARAMETERS not in self.file:
            raise DatasetError(f"{self.path} is damaged: group /parameters is missing")
        for name in self.names(schema.PARAMETERS):
            path = f"{schema.PARAMETERS}/{name}"
            kinds[path], lengths[path] = "f", self.samples
        for path, kind in kinds.items():
            array = self.array(path)
            if array.dtype.kind != kind:
                raise DatasetError(f"{self.path} is damaged: /{path} holds {array.dtype}")
            if array.shape == (lengths[path],):
                continue
            if path.startswith(schema.PARAMETERS):
                name = path.partition("/")[2]
                raise DatasetError(
                    f"{self.path} is damaged: parameter {name} has shape {array.shape}"
                )
            raise DatasetError(
                f"{self.path} is damaged: shapes of images, offsets and emitters disagree"
            )


def open_file(path: Path) -> h5py.File:
    """An HDF5 file opened for reading.

    Raises
    ------
    DatasetError
        If it is missing, no regular file, empty, not HDF5, truncated, or may not be read.
    """
    if not path.exists():
        raise DatasetError(f"no dataset {path}: check the path")
    if path.is_dir():
        raise DatasetError(f"{path} is a folder: give the .h5 file in it")
    if not path.is_file():
        raise DatasetError(f"{path} is a device or pipe, no regular file: give a .h5 file")
    try:
        with path.open("rb") as file:
            start = file.read(len(HDF5_MAGIC))
        if not start:
            raise DatasetError(f"{path} is empty: generate it again")
        if start != HDF5_MAGIC:
            raise DatasetError(f"{path} is not an HDF5 file: give a file written by simscope")
        return h5py.File(path, "r")
    except PermissionError:
        raise DatasetError(f"no permission to read {path}: ask its owner for it") from None
    except BlockingIOError:
        raise DatasetError(f"{path} is still being written: wait for the run to end") from None
    except (OSError, RuntimeError) as error:
        cause = " ".join(str(error).split())
        raise DatasetError(f"{path} is truncated or damaged ({cause}): generate it again") from None


def plain_attribute(item: h5py.File | h5py.Dataset, name: str) -> Any:
    """A number, truth value or text of fixed length; None where there is none or it is no such.

    Of texts of variable length not even a byte is read: HDF5 may search for it for ever.
    """
    key = name.encode()
    if not h5py.h5a.exists(item.id, key):
        return None
    attribute = h5py.h5a.open(item.id, key)
    kind = attribute.get_type()
    plain = (h5py.h5t.INTEGER, h5py.h5t.FLOAT, h5py.h5t.ENUM)
    fixed = kind.get_class() == h5py.h5t.STRING and not kind.is_variable_str()
    if attribute.shape != () or not (fixed or kind.get_class() in plain):
        return None
    value = np.zeros((), attribute.dtype)
    attribute.read(value)
    return value.item().decode("utf8") if fixed else value.item()


def root_attributes(file: h5py.File) -> dict[str, Any]:
    """What the format knows of the root's attributes: whole numbers, numbers, texts, truth."""
    names = ("format", "format_version", "complete", "pixel_nm", "shard", *COUNTS, *TEXTS)
    found = {name: plain_attribute(file, name) for name in names}
    return {name: value for name, value in found.items() if value is not None}


def check_header(path: Path, attrs: dict[str, Any]) -> None:
    """Return nothing; DatasetError unless the root's attributes are those of a complete file."""
    version = attrs.get("format_version")
    if attrs.get("format") != schema.FORMAT_NAME and version != 1:  # which had other texts
        raise DatasetError(f"{path} is HDF5 but no simscope dataset: give a file simscope wrote")
    if version != schema.FORMAT_VERSION:
        raise DatasetError(
            f"{path} has format version {version}, this simscope reads {schema.FORMAT_VERSION}: "
            "use the simscope that wrote it or generate it again"
        )
    if attrs.get("complete") is not True:
        raise DatasetError(f"{path} is incomplete, its run was cut short: generate it again")
    missing = {*COUNTS, *TEXTS, "pixel_nm"} - set(attrs)
    if missing:
        raise DatasetError(f"{path} is damaged: attributes {sorted(missing)} are missing")
    for name in TEXTS:
        if not isinstance(attrs[name], str):
            raise DatasetError(f"{path} is damaged: attribute {name} is no text")
    if hashlib.sha256(attrs["recipe_json"].encode()).hexdigest() != attrs["recipe_sha256"]:
        raise DatasetError(f"{path} is damaged: its recipe does not have the hash noted beside it")
    _check_numbers(path, attrs)
    if attrs["sample_axes"] not in ("yx", "tyx", "zyx"):
        raise DatasetError(f"{path} is damaged: sample_axes={attrs['sample_axes']!r}")
    for name in ("arrays_sha256", "inputs", "targets", "report", "software"):
        json_attribute(path, attrs, name)


def _check_numbers(path: Path, attrs: dict[str, Any]) -> None:
    for name, (low, high) in COUNTS.items():
        value = attrs[name]
        if type(value) is not int or not low <= value <= high:
            raise DatasetError(
                f"{path} is damaged: {name}={value!r} is no whole number from {low} to {high}"
            )
    pixel_nm = attrs["pixel_nm"]
    if type(pixel_nm) not in (int, float) or not 0 < pixel_nm < math.inf:
        raise DatasetError(f"{path} is damaged: pixel_nm={pixel_nm!r} is not above 0")


def json_attribute(path: Path, attrs: dict[str, Any], name: str) -> dict[str, Any]:
    """An attribute that is a JSON object, as a dictionary.

    Raises
    ------
    DatasetError
        If it is none.
    """
    try:
        values = json.loads(attrs[name])
    except (ValueError, RecursionError) as error:
        raise DatasetError(f"{path} is damaged: {name} is not JSON: {error}") from None
    if not isinstance(values, dict):
        raise DatasetError(f"{path} is damaged: {name} is no JSON object")
    return values
