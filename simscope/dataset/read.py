"""Open a dataset: the same samples as ``Simulator[i]``, read from disk, one file or many."""

from __future__ import annotations

import json
import os
import threading
from collections import OrderedDict
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from simscope.acquire import ORIENTED_DTYPE, Batch, Sample
from simscope.camera import CameraMaps
from simscope.dataset import schema
from simscope.dataset.manifest import Joined, open_whole
from simscope.dataset.parts import Part, json_attribute
from simscope.dataset.plan import Entry
from simscope.errors import DatasetError, did_you_mean
from simscope.evaluate import in_frame
from simscope.recipe import Recipe

FEWEST_OPEN, MOST_OPEN = 16, 512
"""Shards kept open at a time: a quarter of the files a process may open, within these."""

MOST_TABLES = 4
"""Shards whose emitters and parameters are kept in memory at a time."""


class Truth:
    """Emitters and parameters of one file, each read whole when first asked for."""

    def __init__(self, part: Part):
        self._part = part
        self._lock = threading.Lock()

    @cached_property
    def offsets(self) -> npt.NDArray[np.int64]:
        """Rows of the file's frame k are ``offsets[k]:offsets[k + 1]``."""
        return self._part.offsets()

    @cached_property
    def table(self) -> npt.NDArray[Any]:
        """Emitters, ``frame`` counted in the run."""
        return self._part.table(self.offsets)

    @cached_property
    def parameters(self) -> dict[str, npt.NDArray[np.float64]]:
        """Numbers drawn, by recipe path."""
        names = self._part.names(schema.PARAMETERS)
        return {name: self._part.verified(f"{schema.PARAMETERS}/{name}") for name in names}


class StoredArray:
    """An array of a dataset that is read as it is indexed, like one of NumPy.

    The first index, over samples, is a whole number, a slice or a list of samples; those that
    follow are whole numbers and slices.
    """

    def __init__(self, data: Dataset, path: str, shape: tuple[int, ...], dtype: np.dtype[Any]):
        self._data, self.path = data, path
        self.shape, self.dtype = shape, dtype
        self.ndim = len(shape)
        self.nbytes = dtype.itemsize * int(np.prod(shape, dtype=object))

    @property
    def per_frame(self) -> bool:
        """Whether it has an item for every frame, not one for a sample."""
        return self.path in self._data._by_frame

    def __len__(self) -> int:
        return self.shape[0]

    def __repr__(self) -> str:
        return f"<simscope array /{self.path}: {self.shape} {self.dtype}>"

    def __iter__(self) -> Iterator[npt.NDArray[Any]]:
        return (self[index] for index in range(len(self)))

    def __array__(
        self, dtype: npt.DTypeLike | None = None, copy: bool | None = None
    ) -> npt.NDArray[Any]:
        if copy is False:
            raise ValueError("an array on disk cannot be had without a copy")
        return self[:].astype(dtype or self.dtype, copy=False)

    def __getitem__(self, key: Any) -> npt.NDArray[Any]:
        lead, *rest = self._expanded(key)
        if isinstance(lead, slice):
            begin, end, step = lead.indices(len(self))
            if step == 1:
                found = self._data._run(self.path, begin, max(begin, end))
            else:
                found = self._chosen(np.arange(begin, end, step))
            return found[(slice(None), *rest)] if rest else found
        if np.ndim(lead):
            return self._chosen(self._numbers(lead))[(slice(None), *rest)]
        sample = self._number(lead)
        window = self._window(rest)
        if window is not None:
            found = self._data._window(self.path, sample, *window)
            rest = [0 if isinstance(rest[0], int | np.integer) else slice(None), *rest[1:]]
        else:
            found = self._data._one(self.path, sample)
        return found[tuple(rest)] if rest else found

    def _expanded(self, key: Any) -> list[Any]:
        """The indices one by one, those that ``...`` stands for written out."""
        keys = list(key) if isinstance(key, tuple) else [key]
        dots = [number for number, one in enumerate(keys) if one is Ellipsis]
        if len(dots) > 1 or len(keys) - len(dots) > self.ndim:
            raise IndexError(f"index {key!r} has too many axes: the array has {self.ndim}")
        if dots:
            missing = self.ndim - len(keys) + 1
            keys[dots[0] : dots[0] + 1] = [slice(None)] * missing
        for one in keys[1:]:
            if not isinstance(one, int | np.integer | slice) or isinstance(one, bool):
                raise IndexError(f"index {one!r} after the first: give whole numbers and slices")
        return keys or [slice(None)]

    def _number(self, one: Any) -> int:
        if isinstance(one, bool) or not isinstance(one, int | np.integer):
            raise IndexError(f"index {one!r} is no whole number, slice or list of them")
        if not -len(self) <= one < len(self):
            raise IndexError(f"sample {one} of {len(self)}: the last is {len(self) - 1}")
        return int(one) % len(self)

    def _numbers(self, lead: Any) -> npt.NDArray[np.int64]:
        """Samples that a list of numbers, or one of true and false, chooses."""
        chosen = np.asarray(lead)
        if chosen.dtype == bool and chosen.shape == (len(self),):
            return np.flatnonzero(chosen)
        if chosen.ndim != 1 or (chosen.size and chosen.dtype.kind not in "iu"):
            raise IndexError(f"index of shape {chosen.shape}: give a list of whole numbers")
        wrong = chosen[(chosen < -len(self)) | (chosen >= len(self))]
        if wrong.size:
            raise IndexError(f"sample {wrong[0]} of {len(self)}: the last is {len(self) - 1}")
        return chosen.astype(np.int64) % len(self)

    def _window(self, rest: list[Any]) -> tuple[int, int] | None:
        """Frames of a movie that the second index means, where they lie side by side."""
        if not rest or self.ndim < 4 or self.path not in self._data._by_frame:
            return None
        frames, one = self.shape[1], rest[0]
        if isinstance(one, slice):
            first, last, step = one.indices(frames)
            return (first, last) if step == 1 and first < last else None
        if not -frames <= one < frames:
            raise IndexError(f"frame {one} of {frames}: the last is {frames - 1}")
        return int(one) % frames, int(one) % frames + 1

    def _chosen(self, samples: npt.NDArray[np.int64]) -> npt.NDArray[Any]:
        data, out = self._data, np.empty((len(samples), *self.shape[1:]), self.dtype)
        windows = self.path in data._by_frame
        for place, (sample, number) in enumerate(
            zip(samples.tolist(), data._files_of(samples).tolist(), strict=True)
        ):
            part = data._part(number)
            if windows and part.frames < data._per_sample:
                out[place] = data._one(self.path, sample)
            else:
                part.array(self.path).into(sample - part.first_sample, out[place, ...])
        return out


class Dataset:
    """A dataset opened for reading; ``data[i]`` equals ``Simulator(recipe, seed)[i]``.

    Images stay on disk until they are asked for; emitters are read whole, those of a few shards at
    a time. It may be pickled, and used in several threads and after a fork: another process opens
    the files anew.
    """

    def __init__(self, path: str | os.PathLike[str]):
        if not isinstance(path, str | os.PathLike):
            raise DatasetError(f"dataset path {path!r} is no path: give the name of a .h5 file")
        self.path = Path(path)
        self._lock = threading.RLock()
        self._closed = False
        self._open()
        try:
            self._look()
        except BaseException:  # whoever keeps the error would keep the files open with it
            self.close()
            raise

    def _look(self) -> None:
        """Take from the files what does not change."""
        face = self._face
        self._attrs = face.attrs
        self._samples, self._per_sample = face.samples, face.frames_per_sample
        self._shards = face.entries if isinstance(face, Joined) else ()
        self._firsts = np.array([entry.first_frame for entry in self._shards] or [0], np.int64)
        self._axes = str(face.attrs["sample_axes"])
        first = self._part(0)
        self._by_frame = {schema.IMAGES, schema.EXPECTED}
        for name in first.names(schema.TARGETS):
            path_of = f"{schema.TARGETS}/{name}"
            if first.attribute(path_of, "per") == "frame":
                self._by_frame.add(path_of)
        self.images = self._stored(schema.IMAGES)
        """All images [ADU], read on indexing: uint16 ``(samples, [t | z], y, x)``."""

    def _open(self) -> None:
        self._face: Part | Joined = open_whole(self.path)
        self._process = os.getpid()
        self._most_open = most_open()
        self._parts: OrderedDict[int, Part] = OrderedDict()
        self._truths: OrderedDict[int, Truth] = OrderedDict()

    def __getstate__(self) -> dict[str, Any]:
        return {"path": self.path}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(state["path"])  # type: ignore[misc]

    def __enter__(self) -> Dataset:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the files; arrays already read stay valid."""
        with self._lock:
            self._closed = True
            for part in self._parts.values():
                part.close()
            self._parts.clear()
            self._face.close()

    def __repr__(self) -> str:
        state = "closed" if self._closed else f"{len(self)} samples"
        return f"<simscope.Dataset {self.path.name!r}: {state}>"

    def __len__(self) -> int:
        return self._samples

    def __iter__(self) -> Iterator[Sample]:
        return (self[index] for index in range(len(self)))

    def __getitem__(self, index: int) -> Sample:
        index = self._checked(index)
        number = self._part_of(index * self._per_sample)
        within = index - self._part(number).first_sample
        drawn = self._truth(number).parameters
        return Sample(
            index=index,
            image=self.image(index),
            emitters=self.sample_emitters(index),
            parameters={path: float(values[within]) for path, values in drawn.items()},
        )

    def image(self, index: int) -> npt.NDArray[np.uint16]:
        """Camera counts of one sample [ADU], uint16, shape ``sample_shape``.

        Raises
        ------
        DatasetError
            If the stored bytes are damaged.
        """
        return self._one(schema.IMAGES, self._checked(index))

    def frame(self, number: int) -> npt.NDArray[np.uint16]:
        """Camera counts of one two-dimensional image [ADU], ``sample * frames_per_sample + t``.

        Raises
        ------
        DatasetError
            If the stored bytes are damaged.
        """
        sample, within = divmod(number, self._per_sample)
        index = self._checked(sample)
        if self._per_sample == 1 and self._axes == "yx":
            return self._one(schema.IMAGES, index)
        return self._window(schema.IMAGES, index, within, within + 1)[0]

    def batch(self, start: int, stop: int) -> Batch:
        """Samples ``start`` to ``stop`` as :meth:`simscope.Simulator.batch` gives them.

        ``emitters`` count frames in the whole dataset; ``expected_photons`` are there if stored.

        Raises
        ------
        DatasetError
            If there are no such samples, or their stored bytes are damaged.
        """
        start, stop = self._span(start, stop)
        emitters, offsets = self.emitters_of(start, stop)
        expected = self._has_expected
        return Batch(
            start,
            self._run(schema.IMAGES, start, stop),
            emitters,
            offsets,
            self.parameters_of(start, stop),
            self._run(schema.EXPECTED, start, stop) if expected else None,
        )

    def pick(self, samples: npt.ArrayLike, *, expected: bool = False) -> Batch:
        """Samples of any numbers, in that order; noiseless images only where asked for.

        Raises
        ------
        DatasetError
            If there are no such samples, noiseless images are not stored, or bytes are damaged.
        """
        numbers, clean = self._to_pick(samples), self.expected_photons
        if expected and clean is None:
            raise DatasetError(
                f"{self.path} holds no noiseless images: generate it with expected=True"
            )
        files = self._files_of(numbers)
        truths = {number: self._truth(number) for number in dict.fromkeys(files.tolist())}
        emitters, offsets = self._rows_of(numbers, files, truths)
        return Batch(
            int(numbers[0]),
            self.images[numbers],
            emitters,
            offsets,
            self._drawn_for(numbers, files, truths),
            clean[numbers] if expected and clean is not None else None,
            picked=numbers,
        )

    def _to_pick(self, samples: npt.ArrayLike) -> npt.NDArray[np.int64]:
        numbers = np.asarray(samples)
        if numbers.ndim != 1 or not numbers.size or numbers.dtype.kind not in "iu":
            raise DatasetError("samples to pick are no list of whole numbers: give at least one")
        wrong = numbers[(numbers < 0) | (numbers >= self._samples)]
        if wrong.size:
            last = self._samples - 1
            raise DatasetError(f"sample {wrong[0]} of {self._samples}: give 0 to {last}")
        return numbers.astype(np.int64)

    def _files_of(self, samples: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Numbers of the files in which samples begin."""
        return np.searchsorted(self._firsts, samples * self._per_sample, side="right") - 1

    def _rows_of(
        self, samples: npt.NDArray[np.int64], files: npt.NDArray[np.int64], truths: dict[int, Truth]
    ) -> tuple[npt.NDArray[Any], npt.NDArray[np.int64]]:
        """Emitters of samples, which begin in these files, one after another."""
        pieces = []
        for sample, number in zip(samples.tolist(), files.tolist(), strict=True):
            part = self._part(number)
            if part.frames < self._per_sample:
                pieces.append(self.emitters_of(sample, sample + 1))
                continue
            truth, first = truths[number], sample * self._per_sample - part.first
            ends = truth.offsets[first : first + self._per_sample + 1]
            pieces.append((truth.table[ends[0] : ends[-1]], ends))
        counts = np.diff(np.concatenate([ends for _, ends in pieces]).reshape(len(pieces), -1))
        offsets = np.concatenate([[0], np.cumsum(counts)])
        table, place = np.empty(offsets[-1], pieces[0][0].dtype), 0
        for rows, _ in pieces:
            table[place : place + len(rows)] = rows
            place += len(rows)
        return table, offsets

    def _drawn_for(
        self, samples: npt.NDArray[np.int64], files: npt.NDArray[np.int64], truths: dict[int, Truth]
    ) -> dict[str, npt.NDArray[np.float64]]:
        """Everything drawn for samples, which begin in these files, by recipe path."""
        found: dict[str, npt.NDArray[np.float64]] = {}
        for number, truth in truths.items():
            where = files == number
            within = samples[where] - self._part(number).first_sample
            for name, values in truth.parameters.items():
                found.setdefault(name, np.empty(len(samples)))[where] = values[within]
        return found

    def emitters_of(self, start: int, stop: int) -> tuple[npt.NDArray[Any], npt.NDArray[np.int64]]:
        """Emitters of samples ``start`` to ``stop`` and where each of their frames begins.

        Rows as in :attr:`emitters`, ``frame`` counted in the whole dataset; offsets from 0, int64
        ``(frames + 1,)``.
        """
        start, stop = self._span(start, stop)
        return self.emitters_of_frames(start * self._per_sample, stop * self._per_sample)

    def emitters_of_frames(
        self, first: int, last: int
    ) -> tuple[npt.NDArray[Any], npt.NDArray[np.int64]]:
        """As :meth:`emitters_of`, of frames ``first`` to ``last`` of the whole dataset.

        Raises
        ------
        DatasetError
            If there are no such frames, or their stored bytes are damaged.
        """
        frames = self._samples * self._per_sample
        if not 0 <= first < last <= frames:
            raise DatasetError(
                f"frames {first} to {last} do not lie in order within [0, {frames}]: ask for at "
                "least one that is there"
            )
        tables, offsets, rows = [], [np.zeros(1, np.int64)], 0
        while first < last:
            number = self._part_of(first)
            part, truth = self._part(number), self._truth(number)
            a, b = first - part.first, min(last - part.first, part.frames)
            ends = truth.offsets[a : b + 1]
            tables.append(truth.table[ends[0] : ends[-1]])
            offsets.append(ends[1:] - ends[0] + rows)
            rows += int(ends[-1] - ends[0])
            first = part.first + b
        table = np.concatenate(tables) if len(tables) > 1 else tables[0].copy()
        return table, np.concatenate(offsets)

    def parameters_of(self, start: int, stop: int) -> dict[str, npt.NDArray[np.float64]]:
        """Everything drawn for samples ``start`` to ``stop``, float64, by recipe path."""
        start, stop = self._span(start, stop)
        found: dict[str, list[npt.NDArray[np.float64]]] = {}
        while start < stop:
            number = self._part_of(start * self._per_sample)
            part = self._part(number)
            within = start - part.first_sample
            count = min(stop - start, part.samples - within)
            for name, values in self._truth(number).parameters.items():
                found.setdefault(name, []).append(values[within : within + count])
            start += count
        return {name: np.concatenate(values) for name, values in found.items()}

    def sample_emitters(self, index: int) -> npt.NDArray[Any]:
        """Emitter table of one sample as in :attr:`emitters`, frames counted from 0 in it."""
        index = self._checked(index)
        rows, _ = self.emitters_of(index, index + 1)
        rows["frame"] -= index * self._per_sample
        return rows

    @property
    def expected_photons(self) -> StoredArray | None:
        """Noiseless light at the camera [photons], float32 like ``images``; None if not stored."""
        return self._stored(schema.EXPECTED) if self._has_expected else None

    @cached_property
    def _has_expected(self) -> bool:
        return schema.EXPECTED in self._part(0).file

    @cached_property
    def target_names(self) -> tuple[str, ...]:
        """Kinds of the targets that are stored, such as ``density``."""
        return tuple(self._part(0).names(schema.TARGETS))

    @property
    def target_settings(self) -> dict[str, Any]:
        """Settings of the stored targets, by kind."""
        return json_attribute(self.path, self._attrs, "targets")

    def target(self, name: str) -> StoredArray:
        """A stored target, read on indexing: ``(samples, [t | z], ...)``, or one a sample.

        Raises
        ------
        DatasetError
            If it is not stored.
        """
        if name not in self.target_names:
            hint = did_you_mean(name, self.target_names) or (
                f"it has {', '.join(self.target_names) or 'none'}; work it out by simscope.targets"
            )
            raise DatasetError(f"{self.path} holds no target {name!r}: {hint}")
        return self._stored(f"{schema.TARGETS}/{name}")

    @cached_property
    def emitters(self) -> npt.NDArray[Any]:
        """Emitter table of all frames, sorted by frame (nm, photons, deg).

        ``EMITTER_DTYPE``, or ``ORIENTED_DTYPE`` where dipoles do not rotate freely.
        """
        if not self._shards:
            return self._truth(0).table
        names = self._part(0).column_names
        table = np.empty(
            sum(entry.rows for entry in self._shards),
            np.dtype([(name, ORIENTED_DTYPE[name]) for name in names]),
        )
        done = 0
        for number, entry in enumerate(self._shards):
            table[done : done + entry.rows] = self._truth(number).table
            done += entry.rows
        return table

    @cached_property
    def emitters_in_frame(self) -> npt.NDArray[Any]:
        """The rows of :attr:`emitters` that lie on the pixels (of the first channel, if two)."""
        inside = in_frame(self.emitters, self.recipe.acquisition.shape, self.pixel_nm)
        return self.emitters[inside]

    @cached_property
    def emitter_offsets(self) -> npt.NDArray[np.int64]:
        """Rows of frame k are ``offsets[k]:offsets[k + 1]``; int64, ``frames + 1``."""
        if not self._shards:
            return self._truth(0).offsets
        ends, rows = [np.zeros(1, np.int64)], 0
        for number, entry in enumerate(self._shards):
            ends.append(self._truth(number).offsets[1:] + rows)
            rows += entry.rows
        return np.concatenate(ends)

    @cached_property
    def parameters(self) -> dict[str, npt.NDArray[np.float64]]:
        """Everything drawn, by recipe path, float64 ``(samples,)``; see ``parameter_units``."""
        return self.parameters_of(0, len(self))

    @cached_property
    def parameter_units(self) -> dict[str, str]:
        """Unit of each drawn parameter, by recipe path."""
        part = self._part(0)
        return {
            name: part.attribute(f"{schema.PARAMETERS}/{name}", "unit")
            for name in part.names(schema.PARAMETERS)
        }

    @cached_property
    def recipe(self) -> Recipe:
        """The recipe the file was made with."""
        written = json_attribute(self.path, self._attrs, "recipe_json")
        return Recipe.from_dict(written, source=f"recipe in {self.path}")

    @property
    def recipe_sha256(self) -> str:
        """SHA-256 of the recipe's canonical JSON text."""
        return str(self._attrs["recipe_sha256"])

    @property
    def seed(self) -> int:
        """Seed the file was made with."""
        return int(self._attrs["seed"])

    @property
    def frames_per_sample(self) -> int:
        """Two-dimensional images in a sample."""
        return self._per_sample

    @property
    def sample_axes(self) -> str:
        """Axes of a sample, such as ``"yx"``, ``"tyx"`` or ``"zyx"``."""
        return self._axes

    @property
    def sample_shape(self) -> tuple[int, ...]:
        """Shape of one sample, in the order of ``sample_axes``."""
        return self.images.shape[1:]

    @property
    def pixel_nm(self) -> float:
        """Camera pixel in the sample [nm]."""
        return float(self._attrs["pixel_nm"])

    @property
    def saturated_pixels(self) -> int:
        """Pixels in the whole dataset that were cut at the converter's limit."""
        return int(self._attrs["saturated_pixels"])

    @property
    def codec(self) -> str:
        """Name of the codec its chunks are packed with."""
        return str(self._attrs["codec"])

    @property
    def shards(self) -> tuple[Entry, ...]:
        """What is known of each shard, in order; none for a single file."""
        return self._shards

    @property
    def folder(self) -> Path | None:
        """Folder of the shards; None for a single file."""
        return self._face.folder if isinstance(self._face, Joined) else None

    @property
    def arrays_sha256(self) -> dict[str, str]:
        """SHA-256 of the values of each array by its path.

        Of a dataset in shards those that lie in the joining file; the others, by shard, are in
        :attr:`shards`.
        """
        return json_attribute(self.path, self._attrs, "arrays_sha256")

    @property
    def inputs(self) -> dict[str, dict[str, str]]:
        """Name, SHA-256 and licence of the files the recipe read besides itself, by recipe path."""
        known = json_attribute(self.path, self._attrs, "inputs")
        if any(not isinstance(one, dict) for one in known.values()):
            raise DatasetError(f"{self.path} is damaged: inputs does not tell of files")
        return known

    @property
    def warnings(self) -> list[str]:
        """What the simulator recorded while the dataset was made."""
        try:
            return [str(line) for line in json.loads(self._attrs["warnings"])]
        except (ValueError, TypeError, RecursionError) as error:
            raise DatasetError(f"{self.path} is damaged: warnings: {error}") from None

    @property
    def report(self) -> dict[str, Any]:
        """Derived numbers of the rendering: window, energy left out, table error."""
        return json_attribute(self.path, self._attrs, "report")

    @property
    def software(self) -> dict[str, str]:
        """Versions of the software that made the file."""
        return json_attribute(self.path, self._attrs, "software")

    @cached_property
    def camera_maps(self) -> CameraMaps:
        """Per-pixel maps of the chip the file was recorded with; flat for CCD and EMCCD."""
        if not self._alive().names(schema.CAMERA):
            shape = self.images.shape[-2:]
            one, zero = np.ones(shape, np.float32), np.zeros(shape, np.float32)
            return CameraMaps(one, zero, one)
        maps = [self._alive().verified(f"{schema.CAMERA}/{name}") for name in schema.CAMERA_MAPS]
        if any(values.shape != self.images.shape[-2:] for values in maps):
            raise DatasetError(f"{self.path} is damaged: camera maps do not have its pixels")
        return CameraMaps(*maps)

    def _checked(self, index: int) -> int:
        if isinstance(index, bool) or not isinstance(index, int | np.integer):
            raise DatasetError(f"sample index {index!r} is not a whole number: use an int")
        if not -self._samples <= index < self._samples:
            raise IndexError(f"sample {index} of {self._samples}: the last is {self._samples - 1}")
        return int(index) % self._samples

    def _span(self, start: int, stop: int) -> tuple[int, int]:
        whole = all(
            isinstance(value, int | np.integer) and not isinstance(value, bool)
            for value in (start, stop)
        )
        if not whole or not 0 <= start < stop <= self._samples:
            raise DatasetError(
                f"samples {start!r} to {stop!r} do not lie in order within [0, {self._samples}]: "
                "ask for at least one sample that is there"
            )
        return int(start), int(stop)

    def _alive(self) -> Part | Joined:
        """The dataset's own file, opened anew in a process that began as a copy of this one."""
        if self._closed:
            raise DatasetError(f"{self.path} is closed: open it again")
        if self._process != os.getpid():
            self._lock = threading.RLock()
            self._open()
        return self._face

    def _part(self, number: int) -> Part:
        """An opened file; dropped ones close once nobody reads them any more."""
        face = self._alive()
        if isinstance(face, Part):
            return face
        with self._lock:
            if number in self._parts:
                self._parts.move_to_end(number)
                return self._parts[number]
            part = face.shard(number)
            self._parts[number] = part
            while len(self._parts) > self._most_open:
                self._parts.popitem(last=False)
            return part

    def _truth(self, number: int) -> Truth:
        with self._lock:
            part = self._part(number)
            if number not in self._truths:
                self._truths[number] = Truth(part)
                while len(self._truths) > MOST_TABLES:
                    self._truths.popitem(last=False)
            self._truths.move_to_end(number)
            return self._truths[number]

    def _part_of(self, frame: int) -> int:
        """Number of the file in which a frame of the dataset lies."""
        if not self._shards:
            return 0
        return int(np.searchsorted(self._firsts, frame, side="right")) - 1

    def _stored(self, path: str) -> StoredArray:
        array = self._part(0).array(path)
        stacked = len(self._axes) == 3 and path in self._by_frame
        items = array.shape[2:] if stacked else array.shape[1:]
        frames = (self._per_sample,) if stacked else ()
        return StoredArray(self, path, (self._samples, *frames, *items), array.dtype)

    def _one(self, path: str, sample: int) -> npt.NDArray[Any]:
        """Values of one sample of an array."""
        part = self._part(self._part_of(sample * self._per_sample))
        if part.frames >= self._per_sample or path not in self._by_frame:
            return part.array(path).one(sample - part.first_sample)
        return self._window(path, sample, 0, self._per_sample)

    def _run(self, path: str, start: int, stop: int) -> npt.NDArray[Any]:
        """Values of samples ``start`` to ``stop`` of an array."""
        pieces = []
        while start < stop:
            part = self._part(self._part_of(start * self._per_sample))
            within = start - part.first_sample
            if part.frames < self._per_sample and path in self._by_frame:
                pieces.append(self._one(path, start)[None])
            else:
                pieces.append(
                    part.array(path).read(within, min(stop - part.first_sample, part.samples))
                )
            start += len(pieces[-1])
        if len(pieces) == 1:
            return pieces[0]
        shape = self._stored(path).shape[1:]
        return (
            np.concatenate(pieces)
            if pieces
            else np.empty((0, *shape), self._part(0).array(path).dtype)
        )

    def _window(self, path: str, sample: int, first: int, last: int) -> npt.NDArray[Any]:
        """Frames ``first`` to ``last`` of one sample of an array of a movie or stack."""
        pieces = []
        while first < last:
            part = self._part(self._part_of(sample * self._per_sample + first))
            begin = part.first_frame if part.frames < self._per_sample else 0
            end = min(last, begin + part.frames, self._per_sample)
            index = sample - part.first_sample
            pieces.append(part.array(path).window(index, first - begin, end - begin))
            first = end
        return np.concatenate(pieces) if len(pieces) > 1 else pieces[0]


def most_open() -> int:
    """Shards that may be kept open at a time."""
    try:
        import resource
    except ImportError:  # not on Windows
        return min(MOST_OPEN, 128)
    allowed = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    if allowed == resource.RLIM_INFINITY:
        return MOST_OPEN
    return min(MOST_OPEN, max(FEWEST_OPEN, allowed // 4))


def open_dataset(path: str | os.PathLike[str]) -> Dataset:
    """A dataset opened for reading; use it in a ``with`` block or call ``close``.

    Raises
    ------
    DatasetError
        If the file is missing, empty, foreign, truncated, incomplete or of another version, or if
        shards of it are missing.
    """
    return Dataset(path)
