"""The list of a run's shards, ``/manifest`` of the file that joins them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from simscope.dataset import schema
from simscope.dataset.columns import describe, sha256_of
from simscope.dataset.folder import RUN_FILE, folder_of, shard_name
from simscope.dataset.parts import OpenFile, Part, Seen, json_attribute
from simscope.dataset.plan import Entry
from simscope.errors import DatasetError

COLUMNS = {
    "file": ("1", "name of the shard's file, in the folder named like this file without .h5"),
    "first_frame": ("1", "number of the shard's first frame among those of the run, from 0"),
    "frames": ("1", "two-dimensional images in the shard"),
    "rows": ("1", "rows of the shard's emitter table"),
    "saturated_pixels": ("1", "pixels of the shard cut at the converter's limit"),
    "bytes": ("bytes", "length of the shard's file"),
    "file_sha256": ("1", "SHA-256 of the shard's file, hexadecimal"),
    "arrays_sha256": ("1", "SHA-256 of the values of each array of the shard by path, JSON"),
    "warnings": ("1", "what the simulator noted while the shard was made, JSON"),
}
"""Unit and meaning of the columns, one row a shard."""

TEXTS = ("file", "file_sha256", "arrays_sha256", "warnings")


def write_manifest(file: h5py.File, entries: Sequence[Entry]) -> dict[str, str]:
    """Write what is known of each shard; SHA-256 of the columns by path."""
    sums = {}
    for name, (unit, meaning) in COLUMNS.items():
        path = f"{schema.MANIFEST}/{name}"
        values = np.array([_plain(getattr(entry, name)) for entry in entries])
        values = values.astype("S" if name in TEXTS else "<i8")
        describe(file.create_dataset(path, data=values), unit, meaning)
        sums[path] = sha256_of(values)
    return sums


def _plain(value: Any) -> int | str:
    """A number, or a text: JSON of what is more than that."""
    return value if isinstance(value, int | str) else json.dumps(value, sort_keys=True)


class Joined(OpenFile):
    """The file that joins the shards of a run; what they hold is read from them directly.

    Raises
    ------
    DatasetError
        If its manifest contradicts itself or its shards.
    """

    def __init__(self, path: Path, folder: Path | None = None):
        self.folder = folder_of(path.resolve()) if folder is None else folder
        self._seen: dict[int, Seen] = {}
        super().__init__(path)

    def _check(self) -> None:
        super()._check()
        self.entries = self._read_entries()
        offsets = self.array(schema.OFFSETS)
        if offsets.shape != (self.frames + 1,) or offsets.dtype.kind != "i":
            raise DatasetError(f"{self.path} is damaged: /{schema.OFFSETS} does not fit its frames")

    def __enter__(self) -> Joined:
        return self

    def _read_entries(self) -> tuple[Entry, ...]:
        columns = {name: self._column(name) for name in COLUMNS}
        if {len(values) for values in columns.values()} != {self.attrs["shards"]}:
            raise DatasetError(f"{self.path} is damaged: its manifest has another length")
        rows = zip(*(columns[name] for name in COLUMNS), strict=True)
        entries = tuple(self._entry(dict(zip(COLUMNS, row, strict=True))) for row in rows)
        self._check_entries(entries)
        return entries

    def _column(self, name: str) -> list[Any]:
        values = self.read(f"{schema.MANIFEST}/{name}")
        kind = "S" if name in TEXTS else "i"
        if values.ndim != 1 or values.dtype.kind != kind:
            raise DatasetError(f"{self.path} is damaged: manifest/{name} is no column of its kind")
        return [text.decode("ascii") for text in values] if kind == "S" else values.tolist()

    def _entry(self, row: dict[str, Any]) -> Entry:
        known = row | {name: json.loads(row[name]) for name in ("arrays_sha256", "warnings")}
        return Entry.from_json(json.dumps(known), source=f"{self.path}: manifest")

    def _check_entries(self, entries: Sequence[Entry]) -> None:
        """Raise unless the shards follow one another and add up."""
        first = 0
        for number, entry in enumerate(entries):
            if entry.file != shard_name(number) or entry.first_frame != first or entry.frames < 1:
                raise DatasetError(f"{self.path} is damaged: shard {number} of its manifest is odd")
            first += entry.frames
        totals = (first, sum(e.rows for e in entries), sum(e.saturated_pixels for e in entries))
        if totals != (self.frames, self.rows, self.attrs["saturated_pixels"]):
            raise DatasetError(f"{self.path} is damaged: its shards do not add up to what it says")
        arrays = [{p for p in e.arrays_sha256 if not p.startswith(schema.CAMERA)} for e in entries]
        if any(names != arrays[0] for names in arrays):
            raise DatasetError(f"{self.path} is damaged: its shards do not have the same arrays")
        if self.frames != self.samples * self.frames_per_sample:
            raise DatasetError(f"{self.path} is damaged: frames and samples disagree")

    def require_shards(self) -> None:
        """Return nothing once every shard lies there with its length.

        Raises
        ------
        DatasetError
            Naming the first that does not.
        """
        for entry in self.entries:
            shard = self.folder / entry.file
            try:
                size = shard.stat().st_size
            except OSError as error:
                again = "" if self.folder.is_dir() else " and --force"
                raise DatasetError(
                    f"{shard}, one of {len(self.entries)} shards of {self.path}, cannot be found "
                    f"({error.strerror}): put it back, or run generate again with the same "
                    f"arguments{again}"
                ) from None
            if size != entry.bytes:
                raise DatasetError(
                    f"{shard} has {size} bytes, {entry.bytes} are noted in {self.path}: put it "
                    "back, or run generate again with the same arguments"
                )

    def shard(self, number: int) -> Part:
        """A shard opened for reading, once it proves to be the one that is noted.

        One that was opened before and has not changed since is not looked through again.

        Raises
        ------
        DatasetError
            If it is damaged or of another run.
        """
        entry, seen = self.entries[number], self._seen.get(number)
        part = Part(self.folder / entry.file, seen)
        if seen is not None and seen.stamp == part.stamp:
            return part
        try:
            require_noted(part, number, entry, self.attrs, str(self.path))
        except DatasetError:
            part.close()
            raise
        shared = {
            name: value for name, value in self.attrs.items() if value == part.attrs.get(name)
        }
        part.attrs |= shared  # texts that all shards have are kept once
        self._seen[number] = part.seen
        return part


def require_noted(
    part: Part, number: int, entry: Entry, attrs: Mapping[str, Any], joined: str
) -> None:
    """Return nothing once a shard proves to be what is noted of it.

    ``attrs`` are those of the joining file, whose name is ``joined``.

    Raises
    ------
    DatasetError
        If it does not.
    """
    same = ("recipe_sha256", "seed", "frames_per_sample", "sample_axes", "codec", "targets")
    fits = (
        all(part.attrs[name] == attrs[name] for name in same)
        and part.attrs.get("shard") == number
        and (part.first, part.frames, part.rows) == (entry.first_frame, entry.frames, entry.rows)
        and json_attribute(part.path, part.attrs, "arrays_sha256") == entry.arrays_sha256
    )
    if not fits:
        raise DatasetError(
            f"{part.path} is not shard {number} as {joined} notes it: put that back, or run "
            "generate again with the same arguments"
        )


def joining_file(folder: Path) -> Path:
    """The file that joins the shards in a folder, or the name it will most likely have."""
    beside = [folder.with_name(f"{folder.name}{end}") for end in (".h5", ".hdf5")]
    found = [path for path in (*beside, folder.with_name(folder.stem)) if path.is_file()]
    return found[0] if found else beside[0]


def _refuse_run(path: Path) -> None:
    """Raise DatasetError with the way out if a path leads to a run, not to its dataset."""
    if path.is_dir() and (path / RUN_FILE).is_file():
        raise DatasetError(f"{path} is the folder of a run: give {joining_file(path)} beside it")
    folder = folder_of(path)
    if not path.exists() and (folder / RUN_FILE).is_file():
        raise DatasetError(
            f"{path} is not finished, its shards are still made in {folder}: run generate again "
            "with the same arguments, or wait where it runs"
        )


def open_whole(path: Path) -> Part | Joined:
    """A dataset's file opened for reading: a single one, or that which joins shards.

    Raises
    ------
    DatasetError
        If it cannot be read as one, is a shard of a run, or shards of it are missing.
    """
    _refuse_run(path)
    with OpenFile(path) as file:
        attrs = file.attrs
    if attrs["shards"] == 1:
        return Part(path)
    if "shard" in attrs:
        whole = joining_file(path.resolve().parent)
        raise DatasetError(f"{path} is shard {attrs['shard']} of a run: open {whole}")
    joined = Joined(path)
    try:
        joined.require_shards()
    except DatasetError:
        joined.close()
        raise
    return joined
