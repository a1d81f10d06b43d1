"""What stands where in a dataset file: names, types, units, descriptions (see docs/format.md)."""

from __future__ import annotations

import hashlib
import json
import math
import platform
from dataclasses import dataclass

import h5py
import numba
import numpy as np
import numpy.typing as npt

from simscope import __version__
from simscope.acquire import MAX_SAMPLES, Simulator
from simscope.errors import DatasetError
from simscope.recipe import FreeDipole, Recipe
from simscope.recipe.acquisition import FocusStack
from simscope.recipe.base import file_references

FORMAT_NAME = "simscope-dataset"
FORMAT_VERSION = 1

IMAGES = "images"
EXPECTED = "expected_photons"
EMITTERS = "emitters"
OFFSETS = "emitters/offsets"
PARAMETERS = "parameters"
AXES = "axes"
CAMERA = "camera"

MAX_CHUNK_BYTES = 1 << 20
"""A sample is one chunk up to this size; larger samples are stored one frame a chunk."""

ROWS_PER_CHUNK = 1 << 16


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


def emitter_columns(recipe: Recipe) -> tuple[Column, ...]:
    """Columns of a recipe's emitter table."""
    oriented = not isinstance(recipe.dipoles, FreeDipole)
    return EMITTER_COLUMNS + (ORIENTATION_COLUMNS if oriented else ())


def external_sha256(recipe: Recipe) -> dict[str, str]:
    """SHA-256 of every file a recipe reads besides itself, by recipe path."""
    return {
        name: hashlib.sha256(path.read_bytes()).hexdigest()
        for name, path in file_references(recipe).items()
    }


@dataclass(frozen=True)
class Layout:
    """Everything about a file that is known before its first sample."""

    recipe: Recipe
    seed: int
    samples: int
    sample_axes: str
    sample_shape: tuple[int, ...]
    frames_per_sample: int
    parameter_units: dict[str, str]
    expected: bool

    @classmethod
    def of(cls, sim: Simulator, *, samples: int, expected: bool) -> Layout:
        """Layout of a file of ``samples`` samples of this simulator."""
        return cls(
            recipe=sim.recipe,
            seed=sim.seed,
            samples=samples,
            sample_axes=sim.sample_axes,
            sample_shape=tuple(sim.sample_shape),
            frames_per_sample=sim.frames_per_sample,
            parameter_units=dict(sim.parameter_names),
            expected=expected,
        )

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
        """Bytes of all images before compression."""
        return (6 if self.expected else 2) * math.prod(self.image_shape)

    @property
    def image_shape(self) -> tuple[int, ...]:
        """Shape of ``/images``: samples first, then the axes of a sample."""
        return (self.samples, *self.sample_shape)

    @property
    def frames_per_chunk(self) -> int:
        """Frames stored together: all of a sample, or one where a sample is large."""
        sample_bytes = 2 * int(np.prod(self.sample_shape))
        return self.frames_per_sample if sample_bytes <= MAX_CHUNK_BYTES else 1

    @property
    def image_chunk(self) -> tuple[int, ...]:
        """Chunk shape of ``/images``."""
        stacked = (self.frames_per_chunk,) if len(self.sample_shape) == 3 else ()
        return (1, *stacked, *self.sample_shape[-2:])

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
