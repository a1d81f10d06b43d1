"""What networks learn, worked out from the truth of a sample, on request stored in the dataset.

- ``density``: emitters per cell of a grid finer than the camera's, each a small Gaussian of weight
  one on its exact place, as Deep-STORM learns (Nehme et al. 2018, *Optica* 5:458).
- ``voxels``: the same in three dimensions, as DeepSTORM3D learns (Nehme et al. 2020, *Nat.
  Methods* 17:734).
- ``labels``: which object each camera pixel shows, where a recipe has objects.
- ``wavefront``: optical path over the pupil [nm].

The noiseless image, ``clean``, is no target of its own: datasets hold it as ``expected_photons``.
A frame's target depends on its own emitters alone, so any batch or window gives the same bytes.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any, ClassVar, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
from pydantic import Field, model_validator

from simscope.errors import DatasetError, RecipeError, did_you_mean
from simscope.evaluate.tables import in_frame
from simscope.kernels.gridding import count_emitters
from simscope.keys import Key
from simscope.memory import MOST_BYTES
from simscope.optics.field import mode_values
from simscope.optics.interfaces import objective_of
from simscope.optics.maps import wavefront_map_nm
from simscope.recipe import Model, Recipe
from simscope.recipe.base import number
from simscope.recipe.draws import COEFFICIENT, draw_dataset
from simscope.sample import Section, camera_labels, check_objects, height_range_nm

Floats = npt.NDArray[np.float64]
CLEAN = "clean"


class Axis(NamedTuple):
    """One axis of a target: name, where its cells' middles lie, unit and meaning."""

    name: str
    values: Floats
    unit: str
    description: str


class Target(Model):
    """What to work out of every frame, or of every sample, with the settings of its kind.

    ``source`` below is anything with a ``recipe``, such as a :class:`simscope.Simulator` or an
    opened dataset; a chunk is a :class:`simscope.acquire.Chunk` or ``Batch`` on the host.
    """

    kind: str
    per_frame: ClassVar[bool] = True
    unit: ClassVar[str] = "1"
    dtype: ClassVar[np.dtype[Any]] = np.dtype(np.float32)

    @property
    def description(self) -> str:
        """What the values are, in one line."""
        raise NotImplementedError

    def axes(self, source: Any) -> tuple[Axis, ...]:
        """Axes of the target of one frame, or of one sample."""
        raise NotImplementedError

    def shape(self, source: Any) -> tuple[int, ...]:
        """Shape of the target of one frame, or of one sample."""
        return tuple(len(axis.values) for axis in self.axes(source))

    def of(self, source: Any, chunk: Any) -> npt.NDArray[Any]:
        """Targets ``(samples, frames, *shape)``, or ``(samples, *shape)`` if one a sample.

        Raises
        ------
        SimscopeError
            If the recipe has nothing of the kind, or the targets take too much memory.
        """
        count = len(chunk.emitter_offsets) - 1 if self.per_frame else len(chunk.images)
        shape = self.shape(source)
        needed = count * math.prod(shape) * self.dtype.itemsize
        if needed > MOST_BYTES:
            raise DatasetError(
                f"target {self.kind} of {count} images takes {needed / 1e9:.3g} GB, more than "
                f"{MOST_BYTES / 1e9:g}: ask for a coarser grid, or fewer samples at a time"
            )
        frames = (count // len(chunk.images),) if self.per_frame else ()
        return self._made(source, chunk).reshape(len(chunk.images), *frames, *shape)

    def _made(self, source: Any, chunk: Any) -> npt.NDArray[Any]:
        raise NotImplementedError


class DensityTarget(Target):
    """Emitters per cell of a grid finer than the camera's, over the field of view."""

    kind: Literal["density"] = "density"
    upsampling: int = Field(4, ge=1, le=32, description="cells per camera pixel along each axis")
    blur_cells: float = number(
        "standard deviation of an emitter's Gaussian; 0 counts it in the one cell it lies in",
        unit="cells", default=1.0, ge=0, le=32,
    )  # fmt: skip

    @property
    def description(self) -> str:
        """What the values are, in one line."""
        return "emitters per cell; a frame sums to its emitters with light in the field of view"

    def axes(self, source: Any) -> tuple[Axis, ...]:
        """Rows and columns of cells."""
        return fine_axes(source.recipe, self.upsampling)

    def _made(self, source: Any, chunk: Any) -> npt.NDArray[np.float32]:
        recipe = source.recipe
        frame = frame_of_row(chunk.emitter_offsets)
        seen = lit_in_frame(chunk.emitters, recipe)
        cell_nm = recipe.pixel_nm / self.upsampling
        x, y = (_column(chunk.emitters, name, seen) / cell_nm for name in ("x_nm", "y_nm"))
        shape = (len(chunk.emitter_offsets) - 1, *self.shape(source))
        return density_map(frame[seen], x, y, shape, self.blur_cells)


class VoxelTarget(Target):
    """Emitters per voxel of a grid over the field of view and a range of heights."""

    kind: Literal["voxels"] = "voxels"
    upsampling: int = Field(4, ge=1, le=32, description="voxels per camera pixel along y and x")
    plane_nm: float = number("height of a voxel", unit="nm", default=50.0, ge=0.1, le=1e5)
    z_min_nm: float | None = number(
        "lowest height on the grid; that of the recipe's molecules if absent", unit="nm",
        default=None, ge=-1e5, le=1e5,
    )  # fmt: skip
    z_max_nm: float | None = number(
        "highest height on the grid; that of the recipe's molecules if absent", unit="nm",
        default=None, ge=-1e5, le=1e5,
    )  # fmt: skip
    blur_cells: float = number(
        "standard deviation of an emitter's Gaussian along all axes; 0 counts it in one voxel",
        unit="cells", default=0.0, ge=0, le=32,
    )  # fmt: skip

    @model_validator(mode="after")
    def _range_in_order(self) -> VoxelTarget:
        low, high = self.z_min_nm, self.z_max_nm
        if low is not None and high is not None and low > high:
            raise ValueError(f"z_min_nm={low:g} lies above z_max_nm={high:g}: swap them")
        return self

    @property
    def description(self) -> str:
        """What the values are, in one line."""
        return "emitters per voxel; a frame sums to its emitters with light on the grid"

    def axes(self, source: Any) -> tuple[Axis, ...]:
        """Planes from low to high, rows and columns of voxels."""
        low, high = self.range_nm(source.recipe)
        planes = max(1, math.ceil((high - low) / self.plane_nm - 1e-9))
        lowest = 0.5 * (low + high - planes * self.plane_nm)
        middles: Floats = lowest + self.plane_nm * (np.arange(planes, dtype=np.float64) + 0.5)
        planes_nm = Axis("fine_z", middles, "nm", "middles of the voxels above the coverslip")
        return planes_nm, *fine_axes(source.recipe, self.upsampling)

    def range_nm(self, recipe: Recipe) -> tuple[float, float]:
        """Lowest and highest height [nm] whose emitters are counted, both included.

        Raises
        ------
        SimscopeError
            If heights have no bounds, or the one given lies beyond those of the recipe.
        """
        low, high = self.z_min_nm, self.z_max_nm
        if low is None or high is None:
            lowest, highest = height_range_nm(recipe)
            low, high = lowest if low is None else low, highest if high is None else high
        if low > high:
            raise DatasetError(
                f"target voxels would reach from {low:g} to {high:g} nm: give z_min_nm and z_max_nm"
            )
        return low, high

    def _made(self, source: Any, chunk: Any) -> npt.NDArray[np.float32]:
        recipe, rows = source.recipe, chunk.emitters
        low, high = self.range_nm(recipe)
        seen = lit_in_frame(rows, recipe) & (rows["z_nm"] >= low) & (rows["z_nm"] <= high)
        cell_nm = recipe.pixel_nm / self.upsampling
        middles = self.axes(source)[0].values
        z = (_column(rows, "z_nm", seen) - middles[0]) / self.plane_nm + 0.5
        z = np.clip(z, 0.0, len(middles))  # rounding may move the ends of the range off the grid
        x, y = (_column(rows, name, seen) / cell_nm for name in ("x_nm", "y_nm"))
        frame = frame_of_row(chunk.emitter_offsets)[seen]
        shape = (len(chunk.emitter_offsets) - 1, *self.shape(source))
        return voxel_map(frame, z, y, x, shape, self.blur_cells)


class LabelTarget(Target):
    """Which object each camera pixel shows, 0 background: of every frame the same, or in focus."""

    kind: Literal["labels"] = "labels"
    dtype: ClassVar[np.dtype[Any]] = np.dtype(np.uint16)
    section: Section = Field(
        "projection", description="objects seen from above, or cut at the nominal focus"
    )

    @property
    def description(self) -> str:
        """What the values are, in one line."""
        seen = {"projection": "seen from above", "focus": "cut at the nominal focus"}[self.section]
        return f"object that covers most of each pixel, 0 background, {seen}"

    def axes(self, source: Any) -> tuple[Axis, ...]:
        """Rows and columns of camera pixels."""
        check_objects(source.recipe)
        rows, columns = fine_axes(source.recipe, 1)
        return rows._replace(name="y"), columns._replace(name="x")

    def _made(self, source: Any, chunk: Any) -> npt.NDArray[np.uint16]:
        recipe, key = _resolved(source), Key(source.seed)
        samples = len(chunk.images)
        frames = (len(chunk.emitter_offsets) - 1) // samples
        window = slice(*_window(chunk, frames))
        out = np.empty((samples, frames, *recipe.acquisition.shape), np.uint16)
        for row in range(samples):
            planes = camera_labels(recipe, key, _first_sample(chunk) + row, self.section)
            out[row] = planes[window] if len(planes) > 1 else planes
        return out


class WavefrontTarget(Target):
    """Optical path over the pupil [nm], of every sample: Zernike modes, fixed and drawn, and map.

    Positive where light is delayed, 0 beyond the pupil's edge. Masks, defocus, media and what
    depends on the place in the frame are left out.
    """

    kind: Literal["wavefront"] = "wavefront"
    per_frame: ClassVar[bool] = False
    unit: ClassVar[str] = "nm"
    pupil_px: int = Field(64, ge=2, le=2048, description="pixels across the pupil's diameter")

    @property
    def description(self) -> str:
        """What the values are, in one line."""
        return "optical path of Zernike modes and wavefront map over the pupil, 0 beyond its edge"

    def axes(self, source: Any) -> tuple[Axis, ...]:
        """Rows along ky and columns along kx."""
        optics = source.recipe.optics
        if optics.wavefront is None and optics.wavefront_map is None:
            raise DatasetError(
                f"recipe {source.recipe.name!r} has no wavefront to learn: give optics.wavefront "
                "modes, or leave out target wavefront"
            )
        middles = _pupil_middles(self.pupil_px)
        rows, columns = (
            Axis(f"k{name}", middles, "1", f"middles along k{name}, the pupil's edge at 1")
            for name in "yx"
        )
        return rows, columns

    def _made(self, source: Any, chunk: Any) -> npt.NDArray[np.float32]:
        optics, count = _resolved(source).optics, len(chunk.images)
        out = np.zeros((count, self.pupil_px, self.pupil_px))
        if optics.wavefront_map is not None:
            objective = objective_of(optics)
            kx, ky = (objective.na * k for k in _pupil_points(self.pupil_px))
            out += wavefront_map_nm(optics.wavefront_map, objective, kx, ky)
        if optics.wavefront is not None:
            for mode in optics.wavefront.modes:
                fixed = optics.wavefront.coefficients_nm.get(mode, 0.0)
                coefficient = chunk.parameters.get(f"{COEFFICIENT}{mode}", fixed)
                each = np.broadcast_to(np.asarray(coefficient, np.float64), count)
                out += each[:, None, None] * _mode(mode, self.pupil_px)
        kx, ky = _pupil_points(self.pupil_px)
        return (out * (kx * kx + ky * ky <= 1.0)).astype(np.float32)


def _pupil_middles(pixels: int) -> Floats:
    """Middles of pixels across the pupil, its edge at -1 and 1."""
    return (2.0 * np.arange(pixels, dtype=np.float64) + 1.0) / pixels - 1.0


def _pupil_points(pixels: int) -> tuple[Floats, Floats]:
    """kx and ky at the middles of the pixels, the pupil's edge at 1, both (ky, kx)."""
    ky, kx = np.meshgrid(*2 * [_pupil_middles(pixels)], indexing="ij")
    return kx, ky


@lru_cache(maxsize=256)
def _mode(osa: int, pixels: int) -> Floats:
    """Zernike mode of unit RMS at the pixels of the pupil, (ky, kx)."""
    return mode_values(osa, *_pupil_points(pixels), 1.0)


def _resolved(source: Any) -> Recipe:
    """The recipe of a source with the numbers put in that are drawn once per dataset."""
    return draw_dataset(source.recipe, Key(source.seed))[0]


def _first_sample(chunk: Any) -> int:
    """Number of the first sample of a chunk or a batch."""
    return int(chunk.sample_start if hasattr(chunk, "sample_start") else chunk.start)


def _window(chunk: Any, frames: int) -> tuple[int, int]:
    """First frame within the sample and the one after the last of a chunk, or of whole samples."""
    first = int(getattr(chunk, "frame_start", 0))
    return first, first + frames


def density_map(
    frame: npt.NDArray[np.int64], x_cells: Floats, y_cells: Floats, shape: tuple[int, ...],
    blur_cells: float,
) -> npt.NDArray[np.float32]:  # fmt: skip
    """Emitters per cell, float32 ``shape`` = (frames, y, x), one Gaussian an emitter.

    Positions count cells from the outer corner, rows come sorted by frame; emitters outside the map
    are left out. A Gaussian at the border keeps its weight of one on the cells of the map.
    """
    frames, *flat = shape
    plane = np.full(len(x_cells), 0.5)
    whole = (frames, 1, *flat)
    return voxel_map(frame, plane, y_cells, x_cells, whole, blur_cells).reshape(shape)


def voxel_map(
    frame: npt.NDArray[np.int64], z_cells: Floats, y_cells: Floats, x_cells: Floats,
    shape: tuple[int, ...], blur_cells: float,
) -> npt.NDArray[np.float32]:  # fmt: skip
    """Emitters per voxel, float32 ``shape`` = (frames, z, y, x), as in :func:`density_map`.

    Along z the upper end of the grid belongs to it.
    """
    out = np.zeros(shape, np.float32)
    z, y, x = (np.asarray(cells, np.float64) for cells in (z_cells, y_cells, x_cells))
    keep = (z >= 0) & (z <= shape[1]) & (y >= 0) & (y < shape[2]) & (x >= 0) & (x < shape[3])
    offsets = np.searchsorted(frame, np.arange(shape[0] + 1)).astype(np.int64)
    inside = slice(int(offsets[0]), int(offsets[-1]))
    blur = float(blur_cells)
    reach = max(1, math.ceil(3 * blur)) if blur > 0 else 0
    count_emitters(z[inside], y[inside], x[inside], keep[inside], offsets, reach, blur, out)
    return out


def lit_in_frame(emitters: Any, recipe: Recipe) -> npt.NDArray[np.bool_]:
    """Which rows have light and lie in the field of view, bool ``(rows,)``."""
    seen = in_frame(emitters, recipe.acquisition.shape, recipe.pixel_nm)
    return np.asarray(seen & (emitters["photons"] > 0))


def fine_axes(recipe: Recipe, upsampling: int) -> tuple[Axis, Axis]:
    """Rows and columns of a grid with so many cells per camera pixel, over the field of view."""
    cell_nm = recipe.pixel_nm / upsampling
    rows, columns = (
        Axis(
            f"fine_{name}",
            (np.arange(pixels * upsampling, dtype=np.float64) + 0.5) * cell_nm,
            "nm",
            f"middles of the cells along {name} from the outer corner of the first pixel",
        )
        for name, pixels in zip("yx", recipe.acquisition.shape, strict=True)
    )
    return rows, columns


def _column(emitters: Any, name: str, seen: npt.NDArray[np.bool_]) -> Floats:
    """A column of the rows seen, in double precision."""
    return np.asarray(emitters[name][seen], np.float64)


def frame_of_row(offsets: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Frame of each row, counted from the first of the offsets."""
    counts = np.diff(offsets)
    return np.repeat(np.arange(len(counts)), counts)


TARGETS: dict[str, type[Target]] = {
    "density": DensityTarget,
    "voxels": VoxelTarget,
    "labels": LabelTarget,
    "wavefront": WavefrontTarget,
}


def split_clean(
    asked: Iterable[Target | Mapping[str, Any] | str], expected: bool = False
) -> tuple[tuple[Target, ...], bool]:
    """Targets as of :func:`parse_targets`, and whether noiseless images are asked for (``clean``).

    Raises
    ------
    DatasetError
        As :func:`parse_targets`.
    """
    asked = _listed(asked)
    others = [target for target in asked if target not in (CLEAN, {"kind": CLEAN})]
    return parse_targets(others), expected or len(others) < len(asked)


def parse_targets(asked: Iterable[Target | Mapping[str, Any] | str]) -> tuple[Target, ...]:
    """Targets from texts such as ``"density:upsampling=8,blur_cells=0"``, mappings or targets.

    Raises
    ------
    DatasetError
        If a kind or setting is unknown or beyond its limits, or a kind is asked for twice.
    """
    targets = tuple(_parsed(target) for target in _listed(asked))
    kinds = [target.kind for target in targets]
    for kind in kinds:
        if kinds.count(kind) > 1:
            raise DatasetError(f"target {kind} is asked for twice: keep one of them")
    return targets


def _listed(asked: Any) -> list[Any]:
    return [asked] if isinstance(asked, Target | Mapping | str) else list(asked)


def _parsed(asked: Any) -> Target:
    if isinstance(asked, Target):
        return asked
    if isinstance(asked, str):
        asked = _settings(asked)
    if not isinstance(asked, Mapping):
        raise DatasetError(f"target {asked!r} is no name: give one such as 'density'")
    settings = dict(asked)
    kind = settings.get("kind")
    if kind == CLEAN:
        raise DatasetError("target clean is the noiseless image: ask for it by expected=True")
    if not isinstance(kind, str) or kind not in TARGETS:
        hint = did_you_mean(kind, [*TARGETS, CLEAN]) or f"there are {', '.join(TARGETS)}, {CLEAN}"
        raise DatasetError(f"unknown target {kind!r}; {hint}")
    try:
        return TARGETS[kind](**settings)
    except (RecipeError, TypeError) as error:
        raise DatasetError(f"target {kind}: {error}") from None


def _settings(text: str) -> dict[str, Any]:
    """Kind and settings from ``kind:name=value,name=value``."""
    kind, _, rest = text.partition(":")
    settings: dict[str, Any] = {"kind": kind.strip()}
    for part in filter(None, (piece.strip() for piece in rest.split(","))):
        name, equals, value = (piece.strip() for piece in part.partition("="))
        if not equals:
            raise DatasetError(f"target {text!r}: {part!r} is no setting; write name=value")
        if name in settings:
            raise DatasetError(f"target {text!r} gives {name} twice: keep one of them")
        settings[name] = _value(value)
    return settings


def _value(text: str) -> Any:
    """A number, true, false or null as JSON has them, else the text itself."""
    try:
        return json.loads(text)
    except ValueError:
        return text
