"""What a dataset is, for a person who has just been given one; how far an unfinished run is."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from simscope.dataset import schema
from simscope.dataset.folder import RUN_FILE, folder_of, read_run
from simscope.dataset.forecasting import readable_bytes
from simscope.dataset.manifest import Joined, joining_file, open_whole
from simscope.dataset.parts import Part, plain_attribute
from simscope.dataset.read import Dataset, open_dataset
from simscope.errors import DatasetError, TableError
from simscope.tables.heaps import require_sound_heaps

Values = dict[str, Any]

PARAMETER_SAMPLES = 1 << 16
"""Samples whose drawn numbers are read at a time."""

SHARD_ENTRY = re.compile(r"shard-\d{5,}\.json")


@dataclass(frozen=True)
class Unfinished:
    """How far a run is: ``finished`` of ``shards`` lie in ``folder``, of what ``run`` says."""

    folder: str
    finished: int
    shards: int
    bytes: int
    growing: int
    run: Values

    def to_dict(self) -> Values:
        """Plain values for JSON."""
        return {
            "unfinished": True, "folder": self.folder, "shards_finished": self.finished,
            "shards": self.shards, "bytes": self.bytes, "growing_files": self.growing,
            "recipe": self.run.get("recipe"), "seed": self.run.get("seed"),
            "samples": self.run.get("samples"),
        }  # fmt: skip

    def rows(self) -> list[tuple[str, str]]:
        """Name and value, in words."""
        recipe = self.run.get("recipe") or {}
        state = "complete but for the file that joins them" if self.finished == self.shards else (
            f"{self.finished / max(self.shards, 1):.1%}; the same generate command goes on from "
            "there"
        )  # fmt: skip
        return [
            ("unfinished run", self.folder),
            ("recipe", str(recipe.get("name", "-"))),
            ("seed", str(self.run.get("seed"))),
            ("samples", f"{self.run.get('samples')}"),
            ("shards", f"{self.finished:,} of {self.shards:,} are finished, {state}"),
            ("files growing", f"{self.growing:,}"),
            ("size so far", readable_bytes(self.bytes)),
        ]


@dataclass(frozen=True)
class Description:
    """What a dataset holds; ``parameters`` by recipe path with unit, range and distribution."""

    path: str
    values: Values

    def to_dict(self) -> Values:
        """Plain values for JSON."""
        return {"unfinished": False, "path": self.path} | self.values

    def rows(self) -> list[tuple[str, str]]:
        """Name and value, in words."""
        known = self.values
        axes = " x ".join(map(str, known["sample_shape"]))
        targets = ", ".join(known["targets"]) or "none stored"
        shards = "one file" if not known["shards"] else f"{known['shards']:,} shards beside it"
        rows = [
            ("dataset", self.path),
            ("recipe", known["recipe"]),
            ("", known["description"]),
            ("samples", f"{known['samples']:,} of {axes} pixels ({known['sample_axes']})"),
            ("sample pixel", f"{known['pixel_nm']:.1f} nm"),
            *_axis_rows(known["axes"]),
            ("emitters", f"{known['emitters']:,}, {known['emitters_per_frame']:.3g} a frame"),
            ("noiseless images", "stored" if known["expected_photons"] else "not stored"),
            ("targets", targets),
            ("saturated pixels", f"{known['saturated_pixels']:,}"),
            ("seed", str(known["seed"])),
            ("size", f"{readable_bytes(known['bytes'])} in {shards}, codec {known['codec']}, "
             f"images packed {known['image_ratio']:.2f} times"),
            ("recipe SHA-256", known["recipe_sha256"]),
            ("software", ", ".join(f"{k} {v}" for k, v in known["software"].items())),
        ]  # fmt: skip
        return [row for row in rows if row[1]] + self._named_rows()

    def _named_rows(self) -> list[tuple[str, str]]:
        known = self.values
        drawn = [
            (
                "drawn",
                f"{path}: {one['min']:.6g} to {one['max']:.6g} {one['unit']}".removesuffix(" 1")
                + (f", {one['distribution']}" if one["distribution"] else ""),
            )
            for path, one in known["parameters"].items()
        ]
        read = [
            (
                "file read",
                f"{path}: {one.get('file')}, licence {one.get('licence')}, "
                f"SHA-256 {one.get('sha256')}",
            )
            for path, one in known["inputs"].items()
        ]
        return [*drawn, *read, *(("warning", line) for line in known["warnings"])]


def _axis_rows(axes: Values) -> list[tuple[str, str]]:
    return [
        (f"axis {name}", f"{one['size']:,} from {one['first']:g} to {one['last']:g} {one['unit']}")
        for name, one in axes.items()
    ]


def describe(path: str | os.PathLike[str]) -> Description | Unfinished:
    """What a dataset is, or how far its run has come.

    ``path`` may be the dataset, the folder of its shards, or one of their growing files.

    Raises
    ------
    DatasetError
        If it is none of these or cannot be read.
    """
    path = Path(path)
    run = run_folder(path)
    if run is not None:
        standing = unfinished(run)
        if standing.finished < standing.shards or not joining_file(run).is_file():
            return standing
        path = joining_file(run)
    if path.name.endswith(".part"):
        refuse_growing(path)
    with open_dataset(path) as data:
        return Description(str(path), described(data))


def run_folder(path: Path) -> Path | None:
    """The folder of the run that a path belongs to, where the dataset itself is not there yet."""
    if path.is_dir():
        return path
    if path.name.endswith(".part") and (path.parent / RUN_FILE).is_file():
        return path.parent
    folder = folder_of(path)
    return folder if not path.exists() and (folder / RUN_FILE).is_file() else None


def refuse_growing(path: Path) -> None:
    """Raise DatasetError that says what a growing file is."""
    if not path.is_file():
        raise DatasetError(f"no file {path}: check the path")
    size = readable_bytes(path.stat().st_size)
    raise DatasetError(
        f"{path} is an unfinished dataset of {size}: wait for its run, or run generate again with "
        "the same arguments"
    )


def unfinished(folder: Path) -> Unfinished:
    """How far the run of a folder is.

    Raises
    ------
    DatasetError
        If it is no folder of a run.
    """
    run_file = folder / RUN_FILE
    if not run_file.is_file():
        raise DatasetError(f"{folder} is a folder without {RUN_FILE}, no run of simscope: give a "
                           "dataset")  # fmt: skip
    run = read_run(run_file, "give a dataset")
    if type(run.get("shards")) is not int or not isinstance(run.get("recipe") or {}, dict):
        raise DatasetError(f"{run_file} is damaged: run generate again")
    names = {one.name: one for one in folder.iterdir()}
    done = (name for name in names if SHARD_ENTRY.fullmatch(name))
    files = [Path(name).with_suffix(".h5").name for name in done]
    there = [names[name] for name in files if name in names]
    growing = sum(name.endswith(".part") for name in names)
    size = sum(one.stat().st_size for one in there)
    return Unfinished(str(folder), len(there), run["shards"], size, growing, run)


def described(data: Dataset) -> Values:
    """Everything :class:`Description` tells of an opened dataset, plain for JSON."""
    recipe = data.recipe
    stored = data.path.stat().st_size + sum(entry.bytes for entry in data.shards)
    with open_whole(data.path) as face:
        rows = face.rows
        ratio = image_ratio(face)
    frames = len(data) * data.frames_per_sample
    return {
        "recipe": recipe.name,
        "description": recipe.description,
        "samples": len(data),
        "sample_axes": data.sample_axes,
        "sample_shape": list(data.sample_shape),
        "frames_per_sample": data.frames_per_sample,
        "pixel_nm": data.pixel_nm,
        "axes": axes_of(data),
        "emitters": rows,
        "emitters_per_frame": rows / frames,
        "parameters": parameters_of(data),
        "expected_photons": data.expected_photons is not None,
        "targets": data.target_settings,
        "saturated_pixels": data.saturated_pixels,
        "seed": data.seed,
        "format_version": schema.FORMAT_VERSION,
        "codec": data.codec,
        "bytes": stored,
        "image_ratio": ratio,
        "shards": len(data.shards),
        "recipe_sha256": data.recipe_sha256,
        "arrays_sha256": data.arrays_sha256,
        "software": data.software,
        "inputs": data.inputs,
        "report": data.report,
        "warnings": data.warnings,
    }


def image_ratio(face: Part | Joined) -> float:
    """Bytes of the images over those they take in the file; of shards, in the first."""
    if isinstance(face, Joined):
        with face.shard(0) as part:
            return image_ratio(part)
    images = face.file[schema.IMAGES]
    return float(images.nbytes / max(images.id.get_storage_size(), 1))


def axes_of(data: Dataset) -> Values:
    """Size, ends and unit of every axis of a sample."""
    with open_whole(data.path) as face:
        found: Values = {}
        for axis in data.sample_axes:
            path = f"{schema.AXES}/{axis}"
            values = face.verified(path)
            if values.shape != (data.sample_shape[data.sample_axes.index(axis)],):
                raise DatasetError(f"{data.path} is damaged: /{path} does not fit its samples")
            found[axis] = {
                "size": int(values.size),
                "first": float(values[0]),
                "last": float(values[-1]),
                "unit": face.attribute(path, "unit"),
            }
    return found


def parameters_of(data: Dataset) -> Values:
    """Unit, range over all samples and distribution of every drawn number, by recipe path."""
    labels = {path: dist.label() for path, _, dist in data.recipe.drawables()}
    found: dict[str, Values] = {
        name: {"unit": unit, "min": np.inf, "max": -np.inf, "distribution": labels.get(name, "")}
        for name, unit in data.parameter_units.items()
    }
    for start in range(0, len(data) if found else 0, PARAMETER_SAMPLES):
        drawn = data.parameters_of(start, min(start + PARAMETER_SAMPLES, len(data)))
        for name, values in drawn.items():
            found[name]["min"] = min(found[name]["min"], float(values.min()))
            found[name]["max"] = max(found[name]["max"], float(values.max()))
    return found


def tree(path: str | os.PathLike[str]) -> list[Values]:
    """Name, shape, type, unit and description of every array in a dataset's own file.

    Of a dataset in shards that is the file that joins them, which shows them as one. Raises
    DatasetError as :func:`describe` does.
    """
    with open_whole(Path(path)) as face:
        try:
            require_sound_heaps(face.path)  # HDF5 looks there for virtual datasets, maybe for ever
            return [_array(name, node) for name, node in _arrays(face.file)]
        except TableError as error:
            raise DatasetError(str(error)) from None
        except (OSError, RuntimeError, KeyError, TypeError, ValueError) as error:
            cause = " ".join(str(error).split())
            raise DatasetError(f"{path} is damaged ({cause}): generate it again") from None


def _arrays(file: h5py.File) -> Iterator[tuple[str, h5py.Dataset]]:
    """Arrays of the root and of its groups, by path; no link is followed, nor groups in groups."""
    for name, node in _members(file):
        if isinstance(node, h5py.Dataset):
            yield name, node
        elif isinstance(node, h5py.Group):
            within = (one for one in _members(node) if isinstance(one[1], h5py.Dataset))
            yield from ((f"{name}/{inner}", array) for inner, array in within)


def _members(group: h5py.Group) -> Iterator[tuple[str, Any]]:
    """What a group holds itself, by name."""
    for name in group:
        if isinstance(group.get(name, getlink=True), h5py.HardLink):
            yield name, group[name]


def _array(name: str, node: h5py.Dataset) -> Values:
    return {
        "name": f"/{name}", "shape": list(node.shape or ()), "type": str(node.dtype),
        "unit": str(plain_attribute(node, "unit") or ""),
        "description": str(plain_attribute(node, "description") or ""),
    }  # fmt: skip
