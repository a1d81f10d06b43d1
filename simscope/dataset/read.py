"""Open a dataset file: the same samples as ``Simulator[i]``, read from disk."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt

from simscope.acquire import MAX_SAMPLES, ORIENTED_DTYPE, Sample
from simscope.camera import CameraMaps
from simscope.dataset import schema
from simscope.errors import DatasetError
from simscope.evaluate import in_frame
from simscope.recipe import Recipe

SIGNATURE = b"\x89HDF\r\n\x1a\n"


class Dataset:
    """A dataset file opened for reading; ``data[i]`` equals ``Simulator(recipe, seed)[i]``.

    Images stay on disk until they are asked for; the emitter table is read whole, once.
    """

    def __init__(self, path: str | os.PathLike[str]):
        if not isinstance(path, str | os.PathLike):
            raise DatasetError(f"dataset path {path!r} is no path: give the name of a .h5 file")
        self.path = Path(path)
        self._file = _open_file(self.path)
        try:
            _check_file(self.path, self._file)
        except BaseException:
            self._file.close()
            raise
        self.images: h5py.Dataset = self._file[schema.IMAGES]
        """All images [ADU], read on indexing: uint16 ``(samples, [t | z], y, x)``."""
        self._samples = int(self.images.shape[0])

    def __enter__(self) -> Dataset:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the file; arrays already read stay valid."""
        self._file.close()

    def __repr__(self) -> str:
        state = f"{len(self)} samples" if self._file else "closed"
        return f"<simscope.Dataset {self.path.name!r}: {state}>"

    def __len__(self) -> int:
        return self._samples

    def __iter__(self) -> Iterator[Sample]:
        return (self[index] for index in range(len(self)))

    def __getitem__(self, index: int) -> Sample:
        index = self._checked(index)
        return Sample(
            index=index,
            image=self.image(index),
            emitters=self.sample_emitters(index),
            parameters={path: float(values[index]) for path, values in self.parameters.items()},
        )

    def image(self, index: int) -> npt.NDArray[np.uint16]:
        """Camera counts of one sample [ADU], uint16, shape ``sample_shape``.

        Raises
        ------
        DatasetError
            If the stored bytes are damaged.
        """
        return _read(self.path, self.images, self._checked(index))

    def frame(self, number: int) -> npt.NDArray[np.uint16]:
        """Camera counts of one two-dimensional image [ADU], ``sample * frames_per_sample + t``.

        Raises
        ------
        DatasetError
            If the stored bytes are damaged.
        """
        sample, within = divmod(number, self.frames_per_sample)
        index = self._checked(sample)
        where = index if self.frames_per_sample == 1 else (index, within)
        return _read(self.path, self.images, where).reshape(self.images.shape[-2:])

    def sample_emitters(self, index: int) -> npt.NDArray[Any]:
        """Emitter table of one sample as in :attr:`emitters`, frames counted from 0 in it."""
        first = self._checked(index) * self.frames_per_sample
        start, stop = self.emitter_offsets[[first, first + self.frames_per_sample]]
        rows = self.emitters[start:stop].copy()
        rows["frame"] -= first
        return rows

    @property
    def expected_photons(self) -> h5py.Dataset | None:
        """Noiseless light at the camera [photons], float32 like ``images``; None if not stored."""
        return self._file.get(schema.EXPECTED)

    @cached_property
    def emitters(self) -> npt.NDArray[Any]:
        """Emitter table of all frames, sorted by frame (nm, photons, deg).

        ``EMITTER_DTYPE``, or ``ORIENTED_DTYPE`` where dipoles do not rotate freely.
        """
        group = self._file[schema.EMITTERS]
        names = _column_names(self.path, self._file)
        dtype = np.dtype([(name, ORIENTED_DTYPE[name]) for name in names])
        table = np.empty(group["frame"].shape, dtype)
        for name in names:
            table[name] = _read(self.path, group[name], ())
        self._check_emitters(table)
        return table

    def _check_emitters(self, table: npt.NDArray[Any]) -> None:
        frames = np.repeat(np.arange(len(self.emitter_offsets) - 1), np.diff(self.emitter_offsets))
        if not np.array_equal(table["frame"], frames):
            raise DatasetError(f"{self.path} is damaged: emitters/frame contradicts the offsets")
        for name in set(table.dtype.names or ()) - {"frame", "id"}:
            if not np.all(np.isfinite(table[name])):
                raise DatasetError(f"{self.path} is damaged: emitters/{name} is not finite")
        if np.any(table["photons"] < 0):
            raise DatasetError(f"{self.path} is damaged: emitters/photons are below 0")

    @cached_property
    def emitters_in_frame(self) -> npt.NDArray[Any]:
        """The rows of :attr:`emitters` that lie on the pixels (of the first channel, if two)."""
        inside = in_frame(self.emitters, self.recipe.acquisition.shape, self.pixel_nm)
        return self.emitters[inside]

    @cached_property
    def emitter_offsets(self) -> npt.NDArray[np.int64]:
        """Rows of frame k are ``offsets[k]:offsets[k + 1]``; int64, ``frames + 1``."""
        offsets = _read(self.path, self._file[schema.OFFSETS], ())
        rows = self._file[schema.EMITTERS]["frame"].shape[0]
        if offsets[0] != 0 or offsets[-1] != rows or np.any(np.diff(offsets) < 0):
            raise DatasetError(f"{self.path} is damaged: emitter offsets do not fit the table")
        return offsets

    @cached_property
    def parameters(self) -> dict[str, npt.NDArray[np.float64]]:
        """Everything drawn, by recipe path, float64 ``(samples,)``; see ``parameter_units``."""
        return {
            name: _read(self.path, values, ())
            for name, values in self._file[schema.PARAMETERS].items()
        }

    @cached_property
    def parameter_units(self) -> dict[str, str]:
        """Unit of each drawn parameter, by recipe path."""
        group = self._file[schema.PARAMETERS]
        return {name: str(values.attrs["unit"]) for name, values in group.items()}

    @cached_property
    def recipe(self) -> Recipe:
        """The recipe the file was made with."""
        text = str(self._file.attrs["recipe_json"])
        try:
            return Recipe.from_dict(json.loads(text), source=f"recipe in {self.path}")
        except json.JSONDecodeError as error:
            raise DatasetError(
                f"{self.path} is damaged: recipe_json is not JSON: {error}"
            ) from None

    @property
    def recipe_sha256(self) -> str:
        """SHA-256 of the recipe's canonical JSON text."""
        return str(self._file.attrs["recipe_sha256"])

    @property
    def seed(self) -> int:
        """Seed the file was made with."""
        return int(self._file.attrs["seed"])

    @property
    def frames_per_sample(self) -> int:
        """Two-dimensional images in a sample."""
        return int(self._file.attrs["frames_per_sample"])

    @property
    def sample_axes(self) -> str:
        """Axes of a sample, such as ``"yx"``, ``"tyx"`` or ``"zyx"``."""
        return str(self._file.attrs["sample_axes"])

    @property
    def sample_shape(self) -> tuple[int, ...]:
        """Shape of one sample, in the order of ``sample_axes``."""
        return tuple(int(size) for size in self.images.shape[1:])

    @property
    def pixel_nm(self) -> float:
        """Camera pixel in the sample [nm]."""
        return float(self._file.attrs["pixel_nm"])

    @property
    def saturated_pixels(self) -> int:
        """Pixels in the whole file that reached the converter's limit."""
        return int(self._file.attrs["saturated_pixels"])

    @property
    def warnings(self) -> list[str]:
        """What the simulator recorded while the file was made."""
        return [str(line) for line in json.loads(str(self._file.attrs.get("warnings", "[]")))]

    @property
    def report(self) -> dict[str, Any]:
        """Derived numbers of the rendering: window, energy left out, table error."""
        return dict(json.loads(str(self._file.attrs.get("report", "{}"))))

    @cached_property
    def camera_maps(self) -> CameraMaps:
        """Per-pixel maps of the chip the file was recorded with; flat for CCD and EMCCD."""
        names = ("gain", "offset_adu", "read_noise")
        group = self._file.get(schema.CAMERA)
        if group is None:
            shape = self.images.shape[-2:]
            return CameraMaps(np.ones(shape), np.zeros(shape), np.ones(shape))
        return CameraMaps(*(_read(self.path, group[name], ()) for name in names))

    @property
    def external_sha256(self) -> dict[str, str]:
        """SHA-256 of the files the recipe read besides itself, by the recipe path naming them."""
        return dict(json.loads(str(self._file.attrs.get("external_sha256", "{}"))))

    @property
    def software(self) -> dict[str, str]:
        """Versions of the software that made the file."""
        return dict(json.loads(str(self._file.attrs["software"])))

    def _checked(self, index: int) -> int:
        if isinstance(index, bool) or not isinstance(index, int | np.integer):
            raise DatasetError(f"sample index {index!r} is not a whole number: use an int")
        if not -self._samples <= index < self._samples:
            raise IndexError(f"sample {index} of {self._samples}: the last is {self._samples - 1}")
        return int(index) % self._samples


def open_dataset(path: str | os.PathLike[str]) -> Dataset:
    """A dataset file opened for reading; use it in a ``with`` block or call ``close``.

    Raises
    ------
    DatasetError
        If the file is missing, empty, foreign, truncated, incomplete or of another version.
    """
    return Dataset(path)


def _open_file(path: Path) -> h5py.File:
    if not path.exists():
        raise DatasetError(f"no dataset {path}: check the path")
    if path.is_dir():
        raise DatasetError(f"{path} is a folder: give the .h5 file in it")
    if not path.is_file():
        raise DatasetError(f"{path} is a device or pipe, no regular file: give a .h5 file")
    try:
        with path.open("rb") as file:
            start = file.read(len(SIGNATURE))
        if not start:
            raise DatasetError(f"{path} is empty: generate it again")
        if start != SIGNATURE:
            raise DatasetError(f"{path} is not an HDF5 file: give a file written by simscope")
        return h5py.File(path, "r")
    except PermissionError:
        raise DatasetError(f"no permission to read {path}") from None
    except BlockingIOError:
        raise DatasetError(f"{path} is still being written: wait for the run to end") from None
    except (OSError, RuntimeError) as error:
        cause = " ".join(str(error).split())
        raise DatasetError(f"{path} is truncated or damaged ({cause}): generate it again") from None


def _check_file(path: Path, file: h5py.File) -> None:
    try:
        _check_header(path, file)
        _check_contents(path, file)
    except DatasetError:
        raise
    except (KeyError, TypeError, ValueError, AttributeError, OSError, RuntimeError) as error:
        cause = " ".join(str(error).split())
        raise DatasetError(f"{path} is damaged ({cause}): generate it again") from None


def _check_header(path: Path, file: h5py.File) -> None:
    attrs = file.attrs
    if attrs.get("format") != schema.FORMAT_NAME:
        raise DatasetError(f"{path} is HDF5 but no simscope dataset: give a file simscope wrote")
    version = attrs.get("format_version")
    if version != schema.FORMAT_VERSION:
        raise DatasetError(
            f"{path} has format version {version}, this simscope reads {schema.FORMAT_VERSION}: "
            "use the simscope that wrote it or generate it again"
        )
    if not attrs.get("complete", False):
        raise DatasetError(f"{path} is incomplete, its run was cut short: generate it again")
    text, digest = str(attrs.get("recipe_json")), attrs.get("recipe_sha256")
    if hashlib.sha256(text.encode()).hexdigest() != digest:
        raise DatasetError(f"{path} is damaged: its recipe does not have the hash noted beside it")


def _check_contents(path: Path, file: h5py.File) -> None:
    missing = {"seed", "samples", "frames_per_sample", "sample_axes", "pixel_nm"} - set(file.attrs)
    if missing:
        raise DatasetError(f"{path} is damaged: attributes {sorted(missing)} are missing")
    _check_numbers(path, file.attrs)
    names = [schema.IMAGES, schema.OFFSETS]
    if schema.CAMERA in file:
        names += [f"{schema.CAMERA}/{name}" for name in schema.CAMERA_MAPS]
    columns = _column_names(path, file)
    names += [f"{schema.EMITTERS}/{column}" for column in columns]
    names += [f"{schema.PARAMETERS}/{name}" for name in file[schema.PARAMETERS]]
    for name in names:
        _require_own_array(path, file, name)
    samples, per_sample = int(file.attrs["samples"]), int(file.attrs["frames_per_sample"])
    _check_types(path, file)
    images, offsets = file[schema.IMAGES], file[schema.OFFSETS]
    rows = {file[schema.EMITTERS][column].shape for column in columns}
    fits = (
        images.ndim == 1 + len(str(file.attrs["sample_axes"]))
        and images.shape[0] == samples >= 1
        and images.dtype == np.uint16
        and offsets.shape == (samples * per_sample + 1,)
        and per_sample == np.prod(images.shape[1:-2])
        and len(rows) == 1
    )
    if not fits:
        raise DatasetError(f"{path} is damaged: shapes of images, offsets and emitters disagree")
    for name, values in file[schema.PARAMETERS].items():
        if values.shape != (samples,):
            raise DatasetError(f"{path} is damaged: parameter {name} has shape {values.shape}")


def _column_names(path: Path, file: h5py.File) -> list[str]:
    """Names of the emitter columns a file must have, by what its recipe says of dipoles."""
    try:
        written = json.loads(str(file.attrs["recipe_json"]))
        free = written.get("dipoles", {"kind": "free"})["kind"] == "free"
    except (json.JSONDecodeError, AttributeError, TypeError, KeyError) as error:
        raise DatasetError(f"{path} is damaged: recipe_json is no recipe: {error}") from None
    columns = schema.EMITTER_COLUMNS + (() if free else schema.ORIENTATION_COLUMNS)
    return [column.name for column in columns]


def _check_numbers(path: Path, attrs: h5py.AttributeManager) -> None:
    limits = {"seed": (0, 2**63 - 1), "samples": (1, MAX_SAMPLES), "frames_per_sample": (1, 2**32)}
    for name, (low, high) in limits.items():
        value = attrs[name]
        if not isinstance(value, int | np.integer) or not low <= value <= high:
            raise DatasetError(f"{path} is damaged: {name}={value!r} is no whole number >= {low}")
    pixel_nm = attrs["pixel_nm"]
    real = isinstance(pixel_nm, int | float | np.integer | np.floating)
    if not real or not np.isfinite(pixel_nm) or pixel_nm <= 0:
        raise DatasetError(f"{path} is damaged: pixel_nm={pixel_nm!r} is not above 0")
    if attrs["sample_axes"] not in ("yx", "tyx", "zyx"):
        raise DatasetError(f"{path} is damaged: sample_axes={attrs['sample_axes']!r}")


def _check_types(path: Path, file: h5py.File) -> None:
    meant = {
        f"{schema.EMITTERS}/{name}": ORIENTED_DTYPE[name].kind for name in _column_names(path, file)
    }
    meant |= {schema.OFFSETS: "i"}
    meant |= {f"{schema.PARAMETERS}/{name}": "f" for name in file[schema.PARAMETERS]}
    for name, kind in meant.items():
        if file[name].dtype.kind != kind:
            raise DatasetError(f"{path} is damaged: /{name} holds {file[name].dtype}")


def _require_own_array(path: Path, file: h5py.File, name: str) -> None:
    item = file.get(name)
    if not isinstance(item, h5py.Dataset):
        raise DatasetError(f"{path} is damaged: dataset /{name} is missing")
    if item.file.filename != file.filename or item.is_virtual or item.external:
        raise DatasetError(f"{path}: dataset /{name} points to another file, which is not followed")


def _read(path: Path, dataset: h5py.Dataset, index: Any) -> npt.NDArray[Any]:
    try:
        return dataset[index]
    except (OSError, RuntimeError) as error:
        cause = " ".join(str(error).split())
        raise DatasetError(f"{path} is damaged at {dataset.name}: {cause}") from None
