"""What stands where in a dataset file: names, types, units, descriptions (see docs/format.md)."""

from __future__ import annotations

import hashlib
import json
import math
import platform
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import h5py
import numba
import numpy as np
import numpy.typing as npt

from simscope import __version__
from simscope.acquire import MAX_SAMPLES, Simulator
from simscope.dataset.codec import named
from simscope.errors import DatasetError
from simscope.recipe import FreeDipole, Recipe
from simscope.recipe.acquisition import FocusStack
from simscope.recipe.base import file_references
from simscope.targets import Target

FORMAT_NAME = "simscope-dataset"
FORMAT_VERSION = 2
LIBVER = ("v108", "v108")
"""Files HDF5 1.8 reads; from that version on headers carry checksums of their own."""

IMAGES = "images"
EXPECTED = "expected_photons"
EMITTERS = "emitters"
OFFSETS = "emitters/offsets"
PARAMETERS = "parameters"
AXES = "axes"
CAMERA = "camera"
TARGETS = "targets"
MANIFEST = "manifest"

MAX_CHUNK_BYTES = 1 << 20
"""A sample is one chunk up to this size; larger samples are stored one frame a chunk."""

LARGEST_CHUNK_BYTES = 4 << 30
"""HDF5 has no chunks of this size or above."""

ROWS_PER_CHUNK = 1 << 16

NOT_STATED = "not stated"
MOST_LICENCE_BYTES = 1 << 16


@dataclass(frozen=True)
class Column:
    """One column of the emitter table: name, unit and meaning."""

    name: str
    unit: str
    description: str


EMITTER_COLUMNS = (
    Column("frame", "1", "frame the row belongs to, sample * frames_per_sample + t, from 0"),
    Column("id", "1", "molecule, counted from 0 within its sample"),
    Column("x_nm", "nm", "position along x (columns) from the outer corner of the first pixel"),
    Column("y_nm", "nm", "position along y (rows) from the outer corner of the first pixel"),
    Column("z_nm", "nm", "height above the coverslip"),
    Column("photons", "photons", "expected photons that reach the camera in this frame"),
)

ORIENTATION_COLUMNS = (
    Column("polar_deg", "deg", "angle of the dipole's axis from the optical axis"),
    Column("azimuth_deg", "deg", "angle of the dipole's axis around it, from x towards y"),
    Column("half_angle_deg", "deg", "half angle of the cone it wobbles in; 0 is fixed, 90 free"),
)
"""Columns that follow where dipoles do not rotate freely."""

CAMERA_MAPS = {
    "gain": ("1", "gain of each pixel, relative to 1 / e_per_adu"),
    "offset_adu": ("ADU", "offset of each pixel, added to baseline_adu"),
    "read_noise": ("1", "read noise of each pixel, relative to read_noise_e"),
}
OFFSETS_MEANING = "rows of frame k are offsets[k] up to, not including, offsets[k+1]"
AXIS_LABELS = {"t": "time", "z": "focus", "y": "y", "x": "x"}


def checked_samples(samples: int) -> int:
    """The number of samples, once it can be one.

    Raises
    ------
    DatasetError
        If it is not a whole number in ``[1, MAX_SAMPLES]``.
    """
    whole = isinstance(samples, int | np.integer) and not isinstance(samples, bool)
    if not whole or not 1 <= samples <= MAX_SAMPLES:
        shown = repr(samples)
        shown = shown if len(shown) <= 40 else f"{shown[:20]}..."
        raise DatasetError(
            f"samples={shown} is not a whole number from 1 to {MAX_SAMPLES}: ask for that many"
        )
    return int(samples)


def parameter_meaning(name: str) -> str:
    """What the values of a drawn parameter are, in one line."""
    return f"recipe value {name} as drawn, one per sample"


def emitter_columns(recipe: Recipe) -> tuple[Column, ...]:
    """Columns of a recipe's emitter table."""
    oriented = not isinstance(recipe.dipoles, FreeDipole)
    return EMITTER_COLUMNS + (ORIENTATION_COLUMNS if oriented else ())


def inputs_of(recipe: Recipe) -> dict[str, dict[str, str]]:
    """Name, SHA-256 and licence of every file a recipe reads besides itself, by recipe path.

    The licence is what ``<file>.license`` says after ``SPDX-License-Identifier:``, as REUSE
    (https://reuse.software) writes it, or ``not stated``.
    """
    return {
        name: {"file": path.name, "sha256": file_sha256(path), "licence": _licence(path)}
        for name, path in file_references(recipe).items()
    }


def file_sha256(path: Path) -> str:
    """SHA-256 of a file's bytes, hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _licence(path: Path) -> str:
    beside = path.with_name(f"{path.name}.license")
    try:
        text = beside.read_bytes()[:MOST_LICENCE_BYTES].decode("utf8", "replace")
    except OSError:
        return NOT_STATED
    stated = re.findall(r"^\s*SPDX-License-Identifier:\s*(\S.*?)\s*$", text, re.MULTILINE)
    return " AND ".join(dict.fromkeys(stated)) or NOT_STATED


@dataclass(frozen=True)
class FrameArray:
    """An array with one item a frame, or a sample: where it stands, and what an item is."""

    path: str
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    per_frame: bool
    unit: str
    description: str
    axes: tuple[str, ...]
    """Name of the dimension scale of each axis of an item, in ``/axes``."""

    @property
    def item_bytes(self) -> int:
        """Bytes of one item before compression."""
        return self.dtype.itemsize * math.prod(self.shape)


@dataclass(frozen=True)
class AxisValues:
    """A dimension scale: where the items along one axis lie."""

    name: str
    values: npt.NDArray[np.float64]
    unit: str
    description: str
    label: str


@dataclass(frozen=True)
class Layout:
    """Everything about a run that is known before its first sample."""

    recipe: Recipe
    seed: int
    samples: int
    sample_axes: str
    sample_shape: tuple[int, ...]
    frames_per_sample: int
    parameter_units: dict[str, str]
    expected: bool
    codec: str = "default"
    targets: tuple[Target, ...] = ()
    inputs: dict[str, dict[str, str]] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        sim: Simulator,
        *,
        samples: int,
        expected: bool = False,
        codec: str = "default",
        targets: Sequence[Target] = (),
    ) -> Layout:
        """Layout of ``samples`` samples of this simulator.

        Raises
        ------
        DatasetError
            If there is no such codec or its package is missing, or an image is too large to store.
        """
        layout = cls(
            recipe=sim.recipe,
            seed=sim.seed,
            samples=samples,
            sample_axes=sim.sample_axes,
            sample_shape=tuple(sim.sample_shape),
            frames_per_sample=sim.frames_per_sample,
            parameter_units=dict(sim.parameter_names),
            expected=expected,
            codec=named(codec).name,
            targets=tuple(targets),
            inputs=inputs_of(sim.recipe),
        )
        layout._check_sizes()
        return layout

    def _check_sizes(self) -> None:
        for array in self.frame_arrays:
            if array.item_bytes >= LARGEST_CHUNK_BYTES:
                raise DatasetError(
                    f"/{array.path} of shape {array.shape} has {array.item_bytes / 1e9:.3g} GB, "
                    f"HDF5 stores at most {LARGEST_CHUNK_BYTES / 1e9:.3g}: ask for smaller images"
                )

    @cached_property
    def frame_arrays(self) -> tuple[FrameArray, ...]:
        """Images, and the noiseless images and targets asked for."""
        frame, yx = self.sample_shape[-2:], ("y", "x")
        counts = np.dtype("<u2"), frame, True, "ADU", "camera counts", yx
        arrays = [FrameArray(IMAGES, *counts)]
        if self.expected:
            meaning = "noiseless light at the camera, background included"
            light = np.dtype("<f4"), frame, True, "photons", meaning, yx
            arrays.append(FrameArray(EXPECTED, *light))
        return (*arrays, *(self._target_array(target) for target in self.targets))

    def _target_array(self, target: Target) -> FrameArray:
        return FrameArray(
            f"{TARGETS}/{target.kind}",
            target.dtype.newbyteorder("<"),
            tuple(target.shape(self)),
            target.per_frame,
            target.unit,
            target.description,
            tuple(f"{target.kind}_{axis.name}" for axis in target.axes(self)),
        )

    @cached_property
    def recipe_texts(self) -> dict[str, str]:
        """Attributes that hold the recipe: as YAML, as JSON and its SHA-256; alike in all files."""
        recipe = self.recipe
        return {
            "recipe_yaml": recipe.to_yaml(),
            "recipe_json": recipe.to_json(),
            "recipe_sha256": recipe.sha256,
        }

    @cached_property
    def target_settings(self) -> dict[str, Any]:
        """Settings of the targets by kind, plain for JSON."""
        return {target.kind: target.model_dump(mode="json") for target in self.targets}

    @property
    def columns(self) -> tuple[Column, ...]:
        """Columns of the emitter table."""
        return emitter_columns(self.recipe)

    @property
    def frames(self) -> int:
        """Two-dimensional images in the whole file."""
        return self.samples * self.frames_per_sample

    @property
    def fixed_bytes(self) -> int:
        """Bytes of what does not depend on the images: offsets and drawn parameters."""
        return 8 * (self.frames + self.samples * len(self.parameter_units))

    @property
    def raw_bytes(self) -> int:
        """Bytes of images, offsets and parameters before compression."""
        return self.fixed_bytes + self.image_bytes

    @property
    def image_bytes(self) -> int:
        """Bytes of all images and targets before compression."""
        counts = (
            array.item_bytes * (self.frames if array.per_frame else self.samples)
            for array in self.frame_arrays
        )
        return sum(counts)

    @property
    def frames_per_chunk(self) -> int:
        """Frames stored together: all of a sample, or one where a sample is large."""
        sample_bytes = 2 * int(np.prod(self.sample_shape))
        return self.frames_per_sample if sample_bytes <= MAX_CHUNK_BYTES else 1

    @property
    def stacked_axes(self) -> str:
        """The axis along which a sample has frames, ``t`` or ``z``; none where it is a frame."""
        return self.sample_axes[:-2]

    def axes(self) -> list[AxisValues]:
        """Dimension scales of the images and targets."""
        own = [
            AxisValues(axis, *self.axis_values(axis), AXIS_LABELS[axis])
            for axis in self.sample_axes
        ]
        of_targets = [
            AxisValues(f"{target.kind}_{axis.name}", *axis[1:], axis.name)
            for target in self.targets
            for axis in target.axes(self)
        ]
        return own + of_targets

    def axis_values(self, axis: str) -> tuple[npt.NDArray[np.float64], str, str]:
        """Values, unit and description of one axis of a sample (``t``, ``z``, ``y`` or ``x``)."""
        acquisition = self.recipe.acquisition
        count = self.sample_shape[self.sample_axes.index(axis)]
        if axis in "yx":
            centres = (np.arange(count, dtype=np.float64) + 0.5) * self.recipe.pixel_nm
            return centres, "nm", f"pixel centres along {axis}"
        if axis == "z" and isinstance(acquisition.focus_nm, FocusStack):
            return acquisition.focus_nm.positions_nm, "nm", "objective displacement of each plane"
        interval_ms = acquisition.interval_ms or acquisition.exposure_ms
        return (
            np.arange(count, dtype=np.float64) * interval_ms,
            "ms",
            "start of each frame's exposure",
        )


def software_versions() -> str:
    """JSON text of the versions that made a file."""
    return json.dumps(
        {
            "simscope": __version__,
            "python": platform.python_version(),
            "numpy": np.__version__,
            "numba": numba.__version__,
            "h5py": h5py.__version__,
            "hdf5": h5py.version.hdf5_version,
        }
    )
