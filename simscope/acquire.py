"""From recipe to images: the one place that knows the order of the stages.

``Simulator(recipe, seed)[i]`` depends on the recipe, the seed and *i* alone. Parameters of a run of
samples are drawn as arrays first, then emitters are placed, their light per frame is worked out,
rendered, the background added, and the camera read out.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numba
import numpy as np
import numpy.typing as npt
from threadpoolctl import threadpool_limits

from simscope import camera as cameras
from simscope import optics as opticses
from simscope import sample as samples_of
from simscope.errors import RecipeError, SimscopeError, SimscopeWarning
from simscope.keys import Key
from simscope.recipe import (
    BeadStructure,
    Blinking,
    Distribution,
    FocusStack,
    Recipe,
    ZernikeWavefront,
    load_recipe,
)
from simscope.recipe.draws import (
    COEFFICIENT,
    draw_dataset,
    draw_samples,
    parameter_units,
    per_sample,
)
from simscope.sample import Molecules, Shining

Floats = npt.NDArray[np.float64]
Parameters = dict[str, Floats]

EMITTER_DTYPE = np.dtype(
    [
        ("frame", np.int64),
        ("id", np.int64),
        ("x_nm", np.float32),
        ("y_nm", np.float32),
        ("z_nm", np.float32),
        ("photons", np.float32),
    ]
)
MAX_SAMPLES = 2**32
CHUNK_BYTES = 16 << 20
SATURATED = (
    "some pixels are saturated (counted in saturated_pixels): lower the photons, or raise "
    "e_per_adu, bit_depth or full_well_e"
)


@dataclass(frozen=True)
class Chunk:
    """A run of whole samples, or a window of frames of one sample.

    ``images`` is uint16 ``(samples, frames, y, x)`` [ADU] (``frames`` counts focal planes in a
    stack); ``expected_photons`` is the noiseless float32 image of the same shape at the camera, or
    None. ``emitters`` has ``EMITTER_DTYPE`` with ``frame = sample * frames_per_sample + t``, sorted
    by frame; ``emitter_offsets`` (int64, ``samples * frames + 1``) says where each frame begins.
    """

    sample_start: int
    sample_stop: int
    frame_start: int
    frame_stop: int
    images: npt.NDArray[np.uint16]
    emitters: npt.NDArray[Any]
    emitter_offsets: npt.NDArray[np.int64]
    saturated_pixels: int
    expected_photons: npt.NDArray[np.float32] | None = None


@dataclass(frozen=True)
class Batch:
    """Whole samples ``start`` to ``start + len(images)`` with their truth.

    ``images`` is uint16 ``(samples, *sample_shape)`` [ADU]; emitters and offsets as in ``Chunk``;
    ``parameters`` holds float64 ``(samples,)`` by recipe path.
    """

    start: int
    images: npt.NDArray[np.uint16]
    emitters: npt.NDArray[Any]
    emitter_offsets: npt.NDArray[np.int64]
    parameters: Parameters
    expected_photons: npt.NDArray[np.float32] | None = None


@dataclass(frozen=True)
class Sample:
    """One acquisition: image [ADU], emitters (frame counted from 0 in the sample), parameters."""

    index: int
    image: npt.NDArray[np.uint16]
    emitters: npt.NDArray[Any]
    parameters: dict[str, float]


class Simulator:
    """Samples of a recipe as a pure function of (recipe, seed, index).

    Parameters
    ----------
    recipe
        A recipe, the name of a packaged one, or the path of a YAML file.
    seed
        Whole number in ``[0, 2**63 - 1]``.
    threads
        Threads of the kernels; results do not depend on it. All cores if None.
    cache
        Folder for PSF tables; the user's cache folder if None.

    Raises
    ------
    RecipeError, OpticsError, SampleError, CameraError
        If the recipe cannot be computed.
    """

    def __init__(
        self,
        recipe: Recipe | str | Path,
        seed: int,
        *,
        threads: int | None = None,
        cache: Path | None = None,
    ) -> None:
        self.recipe = load_recipe(recipe)
        self.key = Key(seed)
        self.seed = self.key.seed
        self.threads = _checked_threads(threads)
        self.resolved, self._dataset_draws = draw_dataset(self.recipe, self.key)
        self.warnings: list[str] = []
        with self._recording():
            self.maps = cameras.camera_maps(
                self.resolved.camera, self.resolved.acquisition.shape, self.key
            )
            self._renderer = self._choose_renderer(cache)

    @property
    def frames_per_sample(self) -> int:
        """Two-dimensional images in a sample: frames of a movie or planes of a stack."""
        return self._planes if self._is_stack else self.resolved.acquisition.frames

    @property
    def sample_axes(self) -> str:
        """Axes of a sample's image, such as ``yx``, ``tyx`` or ``zyx``."""
        if self._is_stack:
            return "zyx"
        return "tyx" if self.resolved.acquisition.frames > 1 else "yx"

    @property
    def sample_shape(self) -> tuple[int, ...]:
        """Shape of a sample's image."""
        shape = self.resolved.acquisition.shape
        return shape if self.sample_axes == "yx" else (self.frames_per_sample, *shape)

    @cached_property
    def parameter_names(self) -> dict[str, str]:
        """Unit of every number drawn per dataset or per sample, by recipe path."""
        return parameter_units(self.recipe)

    @property
    def table(self) -> opticses.SplineTable | None:
        """The PSF table, or None where every sample has optics of its own."""
        renderer = self._renderer
        return renderer.table if isinstance(renderer, TableRenderer) else None

    @property
    def report(self) -> dict[str, Any]:
        """Derived numbers of the rendering: window, energy left out, table error."""
        return self._renderer.report

    def __getitem__(self, index: int) -> Sample:
        if isinstance(index, bool) or not isinstance(index, int | np.integer):
            raise SimscopeError(f"sample index {index!r} is not a whole number: use an int")
        index = int(index)
        batch = self.batch(index, index + 1)
        emitters = batch.emitters.copy()
        emitters["frame"] -= index * self.frames_per_sample
        values = {path: float(value[0]) for path, value in batch.parameters.items()}
        return Sample(index, batch.images[0], emitters, values)

    def parameters(self, start: int, stop: int) -> Parameters:
        """Every number drawn for samples ``start`` to ``stop``, float64 ``(samples,)`` by path."""
        indices = _indices(start, stop)
        constant = {
            path: np.full(len(indices), value) for path, value in self._dataset_draws.items()
        }
        return constant | draw_samples(self.resolved, self.key, indices)

    def batch(self, start: int, stop: int, *, expected: bool = False) -> Batch:
        """Whole samples ``start`` to ``stop``; ``expected`` adds the noiseless images."""
        chunk = self._window(_indices(start, stop), 0, self.frames_per_sample, expected=expected)
        shape = (stop - start, *self.sample_shape)
        clean = chunk.expected_photons
        return Batch(
            start,
            chunk.images.reshape(shape),
            chunk.emitters,
            chunk.emitter_offsets,
            self.parameters(start, stop),
            None if clean is None else clean.reshape(shape),
        )

    def chunks(
        self, start: int, stop: int, *, max_bytes: int = CHUNK_BYTES, expected: bool = False
    ) -> Iterator[Chunk]:
        """Samples ``start`` to ``stop`` in order, a bounded piece at a time.

        Short samples come several to a chunk; a movie larger than ``max_bytes`` comes by windows of
        frames, with the state of its molecules carried along, so that memory stays flat.
        """
        frames = self.frames_per_sample
        frame_bytes = 4 * math.prod(self.resolved.acquisition.shape)
        room = max(1, max_bytes // frame_bytes)
        if frames <= room:
            step = room // frames
            for first in range(start, stop, step):
                indices = _indices(first, min(first + step, stop))
                yield self._window(indices, 0, frames, expected=expected)
            return
        for index in range(start, stop):
            indices = _indices(index, index + 1)
            state = self._begin(indices)
            for first in range(0, frames, room):
                last = min(first + room, frames)
                yield self._window(indices, first, last, expected=expected, state=state)

    def _window(
        self,
        indices: npt.NDArray[np.int64],
        first: int,
        last: int,
        *,
        expected: bool,
        state: _Run | None = None,
    ) -> Chunk:
        """Frames ``first`` to ``last`` of the given samples, from molecules to counts."""
        with _threads(self.threads), self._recording():
            run = self._begin(indices) if state is None else state
            shining = self._shine(run, first, last)
            photons = self._renderer.render(run, shining, first, last)
            self._add_background(photons, run, last - first)
            images, saturated = self._read_out(photons, run, first, last)
            total = int(saturated.sum())
            if total:
                warnings.warn(SATURATED, SimscopeWarning, stacklevel=2)
        shape = (len(indices), last - first, *self.resolved.acquisition.shape)
        return Chunk(
            int(indices[0]),
            int(indices[-1]) + 1,
            first,
            last,
            images.reshape(shape),
            self._truth(run, shining, first, last),
            shining.offsets,
            total,
            photons.reshape(shape) if expected else None,
        )

    def _begin(self, indices: npt.NDArray[np.int64]) -> _Run:
        drawn = draw_samples(self.resolved, self.key, indices)
        molecules = samples_of.place(self.resolved, self.key, indices, drawn)
        return _Run(indices, drawn, molecules, {})

    def _shine(self, run: _Run, first: int, last: int) -> Shining:
        shine = (
            samples_of.shine_blinking
            if isinstance(self.resolved.photophysics, Blinking)
            else samples_of.shine_snapshot
        )
        return shine(
            self.resolved,
            self.key,
            run.indices,
            run.drawn,
            run.molecules,
            first,
            last,
            carried=run.carried,
        )

    def _add_background(self, photons: npt.NDArray[np.float32], run: _Run, frames: int) -> None:
        level = samples_of.background_photons(self.resolved, self.key, run.indices, run.drawn)
        photons += np.repeat(level, frames, axis=0)

    def _read_out(
        self, photons: npt.NDArray[np.float32], run: _Run, first: int, last: int
    ) -> tuple[npt.NDArray[np.uint16], npt.NDArray[np.int64]]:
        frames = last - first
        varied = {
            path.removeprefix("camera."): np.repeat(value, frames)
            for path, value in run.drawn.items()
            if path.startswith("camera.")
        }
        return cameras.detect(
            photons,
            self.resolved.camera,
            self.maps,
            self.key,
            sample_index=np.repeat(run.indices, frames),
            frame_index=np.tile(np.arange(first, last), len(run.indices)),
            exposure_s=self.resolved.acquisition.exposure_ms * 1e-3,
            parameters=varied or None,
        )

    def _truth(self, run: _Run, shining: Shining, first: int, last: int) -> npt.NDArray[Any]:
        """Emitter table of a window: one row per molecule and frame in which it shines."""
        molecules, who = run.molecules, shining.molecule
        table = np.empty(len(who), EMITTER_DTYPE)
        sample = run.indices[molecules.sample[who]]
        within = shining.frame - molecules.sample[who] * (last - first)
        table["frame"] = sample * self.frames_per_sample + first + within
        table["id"] = molecules.id[who]
        for axis in ("x_nm", "y_nm", "z_nm"):
            table[axis] = getattr(molecules, axis)[who]
        table["photons"] = shining.photons
        return table

    @property
    def _is_stack(self) -> bool:
        return isinstance(self.recipe.acquisition.focus_nm, FocusStack)

    @property
    def _planes(self) -> int:
        focus = self.recipe.acquisition.focus_nm
        return focus.planes if isinstance(focus, FocusStack) else 1

    def _choose_renderer(self, cache: Path | None) -> TableRenderer | ExactRenderer:
        wavefront = self.resolved.optics.wavefront
        own_optics = wavefront is not None and wavefront.drawn
        fixed_focus = isinstance(self.resolved.acquisition.focus_nm, float | int)
        if fixed_focus and not own_optics:
            return TableRenderer(self.resolved, cache)
        return ExactRenderer(self.resolved)

    def _record(self, message: str) -> None:
        if message not in self.warnings:
            self.warnings.append(message)

    @contextmanager
    def _recording(self) -> Iterator[None]:
        """Keep every warning raised inside in ``self.warnings`` and pass it on once."""
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", SimscopeWarning)
            yield
        for warning in caught:
            known = str(warning.message) in self.warnings
            if issubclass(warning.category, SimscopeWarning):
                self._record(str(warning.message))
            if not known:
                warnings.warn_explicit(
                    warning.message, warning.category, warning.filename, warning.lineno
                )


@dataclass
class _Run:
    """Samples under way: their draws, molecules, and what photophysics carries between windows."""

    indices: npt.NDArray[np.int64]
    drawn: Parameters
    molecules: Molecules
    carried: dict[str, Any]


class TableRenderer:
    """Renders from one B-spline table: the same optics for every sample."""

    def __init__(self, recipe: Recipe, cache: Path | None) -> None:
        low, high = samples_of.height_range_nm(recipe)
        focus = recipe.acquisition.focus_nm
        assert isinstance(focus, float | int)
        rendering = recipe.rendering
        self.shape = recipe.acquisition.shape
        self.table = opticses.build_table(
            recipe.optics,
            focus_nm=float(focus),
            z_min_nm=low,
            z_max_nm=high,
            pixel_nm=recipe.pixel_nm,
            window_px=rendering.window_px,
            max_window_px=rendering.max_window_px,
            accuracy=rendering.accuracy,
            accept_energy_loss=rendering.accept_energy_loss,
            cache="default" if cache is None else cache,
        )

    @property
    def report(self) -> dict[str, Any]:
        """Window, table error and energy left out."""
        return {
            "rendering": "table",
            "window_px": self.table.window_px,
            "table_error": float(self.table.error),
            "energy_left_out_max": float(self.table.energy_left_out[:, 1].max()),
        }

    def render(self, run: _Run, shining: Shining, first: int, last: int) -> npt.NDArray[np.float32]:
        """Expected photons, float32 ``(samples * frames, y, x)``."""
        molecules, who = run.molecules, shining.molecule
        photons = self.table.render(
            molecules.x_nm[who],
            molecules.y_nm[who],
            molecules.z_nm[who],
            shining.photons,
            shining.offsets,
            self.shape,
        )
        # a spline may dip below zero by its own error, which no light does
        return np.maximum(photons, 0.0, out=photons)


class ExactRenderer:
    """Renders every emitter from the pupil: samples differ in wavefront or focus."""

    def __init__(self, recipe: Recipe) -> None:
        self.recipe = recipe
        self.shape = recipe.acquisition.shape
        self.pixel_nm = recipe.pixel_nm
        focus = recipe.acquisition.focus_nm
        self.planes_nm = focus.positions_nm if isinstance(focus, FocusStack) else None
        self.window_px = self._window()
        self.model = opticses.PupilModel(
            recipe.optics.model_copy(update={"wavefront": _constant(recipe.optics.wavefront)}),
            shape=(self.window_px, self.window_px),
            pixel_nm=self.pixel_nm,
            z_nm=samples_of.height_range_nm(recipe),
            focus_nm=_focus_range_nm(focus),
            reach_nm=0.5 * self.pixel_nm,
            wavefront_limit_nm=_wavefront_limits_nm(recipe.optics.wavefront),
            accuracy=recipe.rendering.accuracy,
        )

    @property
    def report(self) -> dict[str, Any]:
        """Window and pupil sampling."""
        return {
            "rendering": "exact",
            "window_px": self.window_px,
            "pupil_nodes_across": self.model.nodes_across,
        }

    def render(self, run: _Run, shining: Shining, first: int, last: int) -> npt.NDArray[np.float32]:
        """Expected photons, float32 ``(samples * frames, y, x)``."""
        frames = last - first
        out = np.zeros((len(run.indices) * frames, *self.shape), np.float32)
        corner, shift_nm = self._places(run.molecules)
        with threadpool_limits(1, "blas"):
            if isinstance(self.recipe.structure, BeadStructure):
                patches = self._bead_patches(run, shift_nm)
                who, within = shining.molecule, shining.frame % frames
                plane = within if self.planes_nm is not None else np.zeros_like(within)
            else:
                patches, who, plane = self._patches(run, shining, frames, shift_nm)
            for k, frame in enumerate(shining.frame):
                patch = shining.photons[k] * patches[who[k], plane[k]]
                _add_patch(out[frame], patch, *corner[:, shining.molecule[k]])
        return out

    def _places(self, molecules: Molecules) -> tuple[npt.NDArray[np.int64], Floats]:
        """Pixel (row, column) that holds each molecule, and its shift (x, y) from its middle."""
        place = np.stack([molecules.y_nm, molecules.x_nm]).astype(np.float64) / self.pixel_nm
        corner = np.floor(place).astype(np.int64)
        return corner, ((place - corner - 0.5) * self.pixel_nm)[::-1]

    def _bead_patches(self, run: _Run, shift_nm: Floats) -> npt.NDArray[np.float32]:
        """Probability per pixel of each sample's bead, float32 ``(samples, planes, y, x)``."""
        samples = len(run.indices)
        focus = (
            per_sample(self.recipe, run.drawn, "acquisition.focus_nm", samples)[:, None]
            if self.planes_nm is None
            else self.planes_nm[None, :]
        )
        return self.model.stacks(
            run.molecules.z_nm[:, None],
            focus,
            *shift_nm,
            coefficients_nm=self._coefficients_nm(run) if self.model.modes else None,
            threads=numba.get_num_threads(),
        )

    def _patches(
        self, run: _Run, shining: Shining, frames: int, shift_nm: Floats
    ) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Patches ``(n, 1, y, x)`` of every distinct molecule and focus, and each row's patch."""
        sample = run.molecules.sample[shining.molecule]
        focus = (
            per_sample(self.recipe, run.drawn, "acquisition.focus_nm", len(run.indices))[sample]
            if self.planes_nm is None
            else self.planes_nm[shining.frame % frames]
        )
        distinct, back = np.unique(
            np.stack([shining.molecule.astype(np.float64), focus]), axis=1, return_inverse=True
        )
        who = distinct[0].astype(np.int64)
        places = (run.molecules.z_nm[who], distinct[1], *shift_nm[:, who])
        coefficients = self._coefficients_nm(run)[run.molecules.sample[who]]
        parts = [
            self.model.images(
                *(value[k] for value in places),
                wavefront_nm=dict(zip(self.model.modes, coefficients[k], strict=True)),
            )
            for k in range(len(who))
        ]
        empty = np.empty((0, self.window_px, self.window_px))
        patches = np.concatenate([empty, *parts]).astype(np.float32)[:, None]
        return patches, back.ravel(), np.zeros(len(back.ravel()), np.int64)

    def _coefficients_nm(self, run: _Run) -> Floats:
        """Coefficients drawn per sample, ``(samples, modes)`` [nm]."""
        columns = [run.drawn[f"{COEFFICIENT}{mode}"] for mode in self.model.modes]
        return np.stack(columns, axis=1) if columns else np.empty((len(run.indices), 0))

    def _window(self) -> int:
        """Side of the patch around an emitter's pixel: the whole frame if it may be."""
        rendering, structure = self.recipe.rendering, self.recipe.structure
        if isinstance(rendering.window_px, int):
            return rendering.window_px
        span = max(self.shape)
        if isinstance(structure, BeadStructure):
            farthest = max(_largest(structure.x_nm), _largest(structure.y_nm)) / self.pixel_nm
            reach = min(span / 2 + farthest, span)
        else:
            reach = span
        return int(min(2 * math.ceil(reach) + 1, rendering.max_window_px | 1))


def _add_patch(
    frame: npt.NDArray[np.float32], patch: npt.NDArray[np.float32], row: int, column: int
) -> None:
    """Add a patch centred on pixel (row, column), the parts outside the frame left out."""
    half = patch.shape[0] // 2
    top, left = row - half, column - half
    y0, y1 = max(top, 0), min(top + patch.shape[0], frame.shape[0])
    x0, x1 = max(left, 0), min(left + patch.shape[1], frame.shape[1])
    if y0 < y1 and x0 < x1:
        frame[y0:y1, x0:x1] += patch[y0 - top : y1 - top, x0 - left : x1 - left]


def _largest(value: float | Distribution) -> float:
    low, high = value.support() if isinstance(value, Distribution) else (value, value)
    return max(abs(low), abs(high))


def _focus_range_nm(focus: float | Distribution | FocusStack) -> tuple[float, float]:
    if isinstance(focus, FocusStack):
        return min(focus.start_nm, focus.stop_nm), max(focus.start_nm, focus.stop_nm)
    if not isinstance(focus, Distribution):
        return float(focus), float(focus)
    low, high = focus.support()
    if not (math.isfinite(low) and math.isfinite(high)):
        raise RecipeError(
            f"acquisition.focus_nm={focus.label()} has no bounds: give min and max so that the "
            "pupil can be sampled for it"
        )
    return low, high


def _constant(wavefront: ZernikeWavefront | None) -> ZernikeWavefront | None:
    """The part of a wavefront that is the same in every sample."""
    if wavefront is None:
        return None
    fixed = {
        mode: value
        for mode, value in wavefront.coefficients_nm.items()
        if not isinstance(value, Distribution)
    }
    return ZernikeWavefront(coefficients_nm=fixed) if fixed else None


def _wavefront_limits_nm(wavefront: ZernikeWavefront | None) -> dict[int, float]:
    """Coefficients [nm] whose root sum of squares no drawn wavefront exceeds."""
    if wavefront is None:
        return {}
    share = _largest(wavefront.rms_nm) / math.sqrt(max(len(wavefront.random_modes), 1))
    limits = dict.fromkeys(wavefront.random_modes, share)
    for mode, value in wavefront.coefficients_nm.items():
        if isinstance(value, Distribution):
            limits[mode] = _largest(value)
    for mode, limit in limits.items():
        if not math.isfinite(limit):
            raise RecipeError(
                f"wavefront coefficient {mode} has no bounds: give min and max so that the pupil "
                "can be sampled for it"
            )
    return limits


def _indices(start: int, stop: int) -> npt.NDArray[np.int64]:
    if not 0 <= start < stop <= MAX_SAMPLES:
        raise SimscopeError(
            f"samples {start} to {stop} do not lie in order within [0, {MAX_SAMPLES}]: "
            "ask for at least one sample from 0 up"
        )
    return np.arange(start, stop, dtype=np.int64)


def _checked_threads(threads: int | None) -> int:
    most = int(numba.config.NUMBA_NUM_THREADS)  # type: ignore[attr-defined]
    if threads is None:
        return most
    if not 1 <= threads <= most:
        raise SimscopeError(f"threads={threads} lies outside [1, {most}]: choose in that range")
    return threads


@contextmanager
def _threads(count: int) -> Iterator[None]:
    """Run numba kernels on ``count`` threads inside."""
    before = numba.get_num_threads()
    numba.set_num_threads(count)
    try:
        yield
    finally:
        numba.set_num_threads(before)
