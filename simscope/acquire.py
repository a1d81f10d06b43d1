"""From recipe to images: the one place that knows the order of the stages.

``Simulator(recipe, seed)[i]`` depends on the recipe, the seed and *i* alone. Parameters of a run of
samples are drawn as arrays first, then emitters are placed, their light per frame is worked out,
rendered, the background added, and the camera read out.
"""

from __future__ import annotations

import dataclasses
import math
import os
import threading
import warnings
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numba
import numpy as np
import numpy.typing as npt

from simscope import camera as cameras
from simscope import optics as opticses
from simscope import sample as samples_of
from simscope.brightness import Brightness
from simscope.device import Device
from simscope.device import device as device_named
from simscope.errors import RecipeError, SimscopeError, SimscopeWarning, WorkWarning
from simscope.keys import Key
from simscope.memory import MOST_BYTES
from simscope.recipe import (
    VOLUMES,
    FocusStack,
    FreeDipole,
    Recipe,
    load_recipe,
)
from simscope.recipe.draws import (
    draw_dataset,
    draw_samples,
    parameter_units,
)
from simscope.render import ChannelRenderer, ExactRenderer, Parameters, Run, TableRenderer
from simscope.render_volume import VolumeRenderer
from simscope.sample import Shining

Floats = npt.NDArray[np.float64]

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
ORIENTED_DTYPE = np.dtype(
    [
        *EMITTER_DTYPE.descr,
        ("polar_deg", np.float32),
        ("azimuth_deg", np.float32),
        ("half_angle_deg", np.float32),
    ]
)
"""Emitters whose dipoles do not rotate freely: where their axis points, and how far they wobble."""

MAX_SAMPLES = 2**32
CHUNK_BYTES = 16 << 20
GPU_CHUNK_BYTES = 1 << 30  # some ten thousand frames keep a GPU busy between two launches
ARRAYS = ("images", "emitter_offsets", "expected_photons")
EMITTERS = "emitters/"
EMITTER_BYTES = 300  # what a row of truth costs while it is made, all columns and copies
SATURATED = (
    "some pixels are saturated (counted in saturated_pixels): lower the photons, or raise "
    "e_per_adu, bit_depth or full_well_e"
)


@dataclass(frozen=True)
class Chunk:
    """A run of whole samples, or a window of frames of one sample.

    ``images`` is uint16 ``(samples, frames, y, x)`` [ADU] (``frames`` counts focal planes in a
    stack); ``expected_photons`` is the noiseless float32 image of the same shape at the camera, or
    None. ``emitters`` has ``EMITTER_DTYPE``, or ``ORIENTED_DTYPE`` where dipoles do not rotate
    freely, with ``frame = sample * frames_per_sample + t``, sorted by frame; ``emitter_offsets``
    (int64, ``samples * frames + 1``) says where each frame begins. Where asked for so, all arrays
    lie on the simulator's device and ``emitters`` is a dictionary of its columns. ``parameters`` as
    in :class:`Batch`.
    """

    sample_start: int
    sample_stop: int
    frame_start: int
    frame_stop: int
    images: Any
    emitters: Any
    emitter_offsets: Any
    saturated_pixels: int
    expected_photons: Any = None
    parameters: Parameters = field(default_factory=dict)

    def arrays(self) -> dict[str, Any]:
        """Every array of a chunk on the device by name; emitter columns follow ``EMITTERS``."""
        named = {name: getattr(self, name) for name in ARRAYS if getattr(self, name) is not None}
        return named | {f"{EMITTERS}{name}": values for name, values in self.emitters.items()}

    def with_arrays(self, arrays: dict[str, npt.NDArray[Any]]) -> Chunk:
        """The chunk with these NumPy arrays, its emitters as rows of a table."""
        columns = {
            name.removeprefix(EMITTERS): values
            for name, values in arrays.items()
            if name.startswith(EMITTERS)
        }
        changed: dict[str, Any] = {name: arrays[name] for name in ARRAYS if name in arrays}
        return dataclasses.replace(self, emitters=_table(columns), **changed)


def _table(columns: dict[str, npt.NDArray[Any]]) -> npt.NDArray[Any]:
    """Columns as rows of a table."""
    dtype = ORIENTED_DTYPE if "polar_deg" in columns else EMITTER_DTYPE
    table = np.empty(len(columns["id"]), dtype)
    for name, values in columns.items():
        table[name] = values
    return table


@dataclass(frozen=True)
class Batch:
    """Whole samples ``start`` to ``start + len(images)`` with their truth, or those ``picked``.

    ``images`` is uint16 ``(samples, *sample_shape)`` [ADU]; emitters and offsets as in ``Chunk``,
    frame after frame of the images in their order; ``parameters`` holds float64 ``(samples,)`` by
    recipe path, on the host always. ``targets`` holds what else was asked for, by kind.
    """

    start: int
    images: Any
    emitters: Any
    emitter_offsets: Any
    parameters: Parameters
    expected_photons: Any = None
    picked: npt.NDArray[np.int64] | None = None
    targets: dict[str, npt.NDArray[Any]] = field(default_factory=dict)

    @property
    def samples(self) -> npt.NDArray[np.int64]:
        """Number of every sample, int64 ``(samples,)``."""
        if self.picked is None:
            return np.arange(self.start, self.start + len(self.images))
        return self.picked


@dataclass(frozen=True)
class Sample:
    """One acquisition: image [ADU], emitters (frame counted from 0 in the sample), parameters."""

    index: int
    image: npt.NDArray[np.uint16]
    emitters: npt.NDArray[Any]
    parameters: dict[str, float]


def emitter_dtype(recipe: Recipe) -> np.dtype[Any]:
    """Columns of the emitters of a recipe: orientations only where dipoles have one."""
    return EMITTER_DTYPE if isinstance(recipe.dipoles, FreeDipole) else ORIENTED_DTYPE


@dataclass(frozen=True)
class Movie:
    """Molecules of a sample as a frame begins, kept for whoever goes on from there."""

    index: int
    frame: int
    run: Run


class FrameSpace:
    """Memory for frames that are needed until the next ones are made, touched once for all."""

    def __init__(self) -> None:
        self._kept: Any = None

    def array(self, xp: Any, shape: tuple[int, ...]) -> Any:
        """An array float32 of that shape with no values yet; it takes the place of the last."""
        size = math.prod(shape)
        if self._kept is None or self._kept.size < size:
            self._kept = xp.empty(size, np.float32)
        return self._kept[:size].reshape(shape)


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
    device
        ``cpu``, ``cuda``, or ``auto``: a GPU where one can be used. The bytes do not depend on it.

    Raises
    ------
    RecipeError, OpticsError, SampleError, CameraError
        If the recipe cannot be computed.
    DeviceError
        If the device is unknown, or ``cuda`` cannot be used here.
    """

    def __init__(
        self,
        recipe: Recipe | str | Path,
        seed: int,
        *,
        threads: int | None = None,
        cache: Path | None = None,
        device: str = "cpu",
    ) -> None:
        self.device: Device = device_named(device)
        self.recipe = load_recipe(recipe)
        self.key = Key(seed)
        self.seed = self.key.seed
        self.threads = _checked_threads(threads)
        self.resolved, self._dataset_draws = draw_dataset(self.recipe, self.key)
        self.warnings: list[str] = []
        self._told: set[str] = set()
        self._movies: deque[Movie] = deque(maxlen=1)
        samples_of.expected_molecules(self.resolved)
        with _threads(self.threads), self._recording():
            self.maps = cameras.camera_maps(
                self.resolved.camera, self.resolved.camera_shape, self.key
            )
            self._brightness = Brightness(self.resolved)
            self._renderer = self._choose_renderer(cache)
        self._lasting_warnings = len(self.warnings)

    def fresh_warnings(self) -> None:
        """Forget the warnings raised since construction: those of the samples to come start anew.

        ``warnings`` then depends on the recipe and on what is simulated next, on nothing before.
        """
        del self.warnings[self._lasting_warnings :]

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
        shape = self.resolved.camera_shape
        return shape if self.sample_axes == "yx" else (self.frames_per_sample, *shape)

    @cached_property
    def parameter_names(self) -> dict[str, str]:
        """Unit of every number drawn per dataset or per sample, by recipe path."""
        return parameter_units(self.recipe)

    @property
    def table(self) -> opticses.SplineTable | opticses.GaussianSpots | None:
        """The PSF table or spots; None where samples have optics of their own or are analysed."""
        renderer = self._renderer
        whole = self.resolved.optics.analyser is None
        return renderer.table if whole and isinstance(renderer, TableRenderer) else None

    @property
    def report(self) -> dict[str, Any]:
        """Derived numbers of the rendering: window, energy left out, table error; the device.

        ``device`` says where it is computed, and which parts of that work stay on the CPU.
        """
        parts = self._host_parts if self.device.is_gpu else []
        return self._renderer.report | {"device": {"name": self.device.name, "on_cpu": parts}}

    @property
    def _host_parts(self) -> list[str]:
        """What the CPU computes for a GPU: few numbers, or work without a GPU kernel."""
        return [
            *samples_of.host_parts(self.resolved),
            *self._brightness.host_parts,
            *self._renderer.host_parts,
        ]

    __iter__ = None  # without end: ask for samples by index, batch or chunks

    def __getitem__(self, index: int) -> Sample:
        index = _whole(index)
        batch = self.batch(index, index + 1)
        emitters = batch.emitters.copy()
        emitters["frame"] -= index * self.frames_per_sample
        values = {path: float(value[0]) for path, value in batch.parameters.items()}
        return Sample(index, batch.images[0], emitters, values)

    @cached_property
    def _emitters_per_frame(self) -> float:
        """Most rows of truth a frame is likely to have."""
        return samples_of.expected_bright(self.resolved)

    @property
    def _frame_bytes(self) -> float:
        """Memory of the expected photons and the truth of a frame."""
        pixels = math.prod(self.resolved.camera_shape)
        return 4 * pixels + EMITTER_BYTES * self._emitters_per_frame

    def _check_room(self, samples: int) -> None:
        """Return nothing; SimscopeError if so many whole samples take too much memory."""
        counts = 2 * math.prod(self.resolved.camera_shape)
        each = self.frames_per_sample * (self._frame_bytes + counts)
        if samples * each <= MOST_BYTES:
            return
        fits = int(MOST_BYTES // each)
        if fits:
            remedy = f"ask for at most {fits} at a time, or for chunks(start, stop)"
        elif self._is_stack:
            remedy = "give acquisition.focus_nm fewer planes, or a smaller acquisition.shape"
        else:
            remedy = "ask for chunks(start, stop), which come by windows of frames"
        raise SimscopeError(
            f"{samples} sample(s) of {self.frames_per_sample} frame(s) take "
            f"{samples * each / 1e9:.3g} GB at once, more than {MOST_BYTES / 1e9:g}: {remedy}"
        )

    def parameters(self, start: int, stop: int) -> Parameters:
        """Every number drawn for samples ``start`` to ``stop``, float64 ``(samples,)`` by path."""
        indices = _indices(start, stop)
        return self._labels(len(indices), draw_samples(self.resolved, self.key, indices))

    def _labels(self, samples: int, drawn: Parameters) -> Parameters:
        """Numbers drawn per dataset, repeated, and per sample."""
        return {
            path: np.full(samples, value) for path, value in self._dataset_draws.items()
        } | drawn

    def batch(
        self, start: int, stop: int, *, expected: bool = False, on_device: bool = False
    ) -> Batch:
        """Whole samples ``start`` to ``stop``; ``expected`` adds the noiseless images.

        ``on_device`` leaves arrays where they were computed, as CuPy arrays on a GPU, with the
        emitters as a dictionary of columns.

        Raises
        ------
        SimscopeError
            If there are no such samples, or they take more than 16 GB.
        """
        start, stop = _span(start, stop)
        self._check_room(stop - start)
        chunk = self._window(_indices(start, stop), 0, self.frames_per_sample, expected=expected)
        chunk = chunk if on_device else self._on_host(chunk)
        shape = (stop - start, *self.sample_shape)
        clean = chunk.expected_photons
        return Batch(
            start,
            chunk.images.reshape(shape),
            chunk.emitters,
            chunk.emitter_offsets,
            chunk.parameters,
            None if clean is None else clean.reshape(shape),
        )

    def chunks(
        self,
        start: int,
        stop: int,
        *,
        max_bytes: int | None = None,
        expected: bool = False,
        on_device: bool = False,
    ) -> Iterator[Chunk]:
        """Samples ``start`` to ``stop`` in order, a bounded piece at a time.

        Short samples come several to a chunk; a movie larger than ``max_bytes`` comes by windows of
        frames, with the state of its molecules carried along, so that memory stays flat. A focus
        stack stays whole. A GPU takes larger pieces unless told otherwise; ``on_device`` as in
        :meth:`batch`.
        """
        for chunk in self._pieces(start, stop, self._frames_within(max_bytes), expected):
            yield chunk if on_device else self._on_host(chunk)

    def _frames_within(self, max_bytes: int | None) -> int:
        """Frames that so much memory holds, 1 at least; the device's usual memory for None."""
        if max_bytes is None:
            max_bytes = GPU_CHUNK_BYTES if self.device.is_gpu else CHUNK_BYTES
        return max(1, int(max_bytes // self._frame_bytes))

    def _pieces(self, start: int, stop: int, room: int, expected: bool) -> Iterator[Chunk]:
        """Chunks on the device, of ``room`` frames at most unless a stack has more."""
        start, stop = _span(start, stop)
        frames = self.frames_per_sample
        if self._is_stack:
            self._check_room(1)
        # planes of a stack are worked out together: cut otherwise, their last bits would change
        space = None if expected else FrameSpace()
        if frames <= room or self._is_stack:
            step = max(1, room // frames)
            for first in range(start, stop, step):
                indices = _indices(first, min(first + step, stop))
                yield self._window(indices, 0, frames, expected=expected, room=space)
            return
        for index in range(start, stop):
            yield from self._movie_windows(index, 0, frames, room, space)

    def frames(
        self,
        index: int,
        first: int,
        last: int,
        *,
        max_bytes: int | None = None,
        expected: bool = False,
        on_device: bool = False,
    ) -> Iterator[Chunk]:
        """Frames ``first`` to ``last`` of one sample in order, a bounded piece at a time.

        They are those of the whole sample, bit for bit. Molecules of a movie are carried on from
        where the last call ended, if that was in the same sample and not beyond ``first``;
        otherwise they switch from time 0 up to there, without an image being made. Planes of a
        focus stack are worked out together and come whole. Memory and ``on_device`` as in
        :meth:`chunks`.

        Raises
        ------
        SimscopeError
            If there is no such sample or there are no such frames.
        """
        index = _whole(index)
        _span(index, index + 1)
        self._check_frames(first, last)
        room = self._frames_within(max_bytes)
        if self._is_stack:
            windows = self._pieces(index, index + 1, room, expected)
        else:
            space = None if expected else FrameSpace()
            windows = self._movie_windows(index, first, last, room, space)
        for chunk in windows:
            yield chunk if on_device else self._on_host(chunk)

    def _check_frames(self, first: int, last: int) -> None:
        """Return nothing; SimscopeError unless there are such frames, or they part a stack."""
        frames = self.frames_per_sample
        if not 0 <= _whole(first) < _whole(last) <= frames:
            raise SimscopeError(
                f"frames {first} to {last} do not lie in order within [0, {frames}]: ask for at "
                "least one frame of a sample"
            )
        if self._is_stack and last - first < frames:
            raise SimscopeError(
                f"planes {first} to {last} are part of a stack of {frames}, whose planes are "
                f"worked out together: ask for 0 to {frames}"
            )

    def _movie_windows(
        self, index: int, first: int, last: int, room: int, space: FrameSpace | None
    ) -> Iterator[Chunk]:
        """Windows of one movie on the device, at most ``room`` frames each.

        Without ``space`` each keeps its expected photons. Between windows the molecules lie in
        ``_movies``, where another call may take them.
        """
        indices, expected = _indices(index, index + 1), space is None
        for begin in range(first, last, room):
            end = min(begin + room, last)
            run = self._run_at(index, begin)
            chunk = self._window(indices, begin, end, expected=expected, state=run, room=space)
            if end < self.frames_per_sample:
                self._movies.append(Movie(index, end, run))
            yield chunk

    def _run_at(self, index: int, frame: int) -> Run:
        """Molecules of a sample as a frame begins: those kept from before, or from time 0 on."""
        try:
            kept = self._movies.pop()
        except IndexError:
            kept = None
        with _threads(self.threads), self._recording():
            if kept is None or kept.index != index or kept.frame > frame:
                kept = Movie(index, 0, self._begin(_indices(index, index + 1)))
            if kept.frame < frame:
                self._skip(kept.run, frame)
        return kept.run

    def _window(
        self,
        indices: npt.NDArray[np.int64],
        first: int,
        last: int,
        *,
        expected: bool,
        state: Run | None = None,
        room: FrameSpace | None = None,
    ) -> Chunk:
        """Frames ``first`` to ``last`` of the given samples, from molecules to counts.

        ``room``: where their expected photons may lie, which nobody asks for afterwards.
        """
        with _threads(self.threads), self._recording():
            run = self._begin(indices) if state is None else state
            shining = self._shine(run, first, last)
            photons = self._render(run, shining, first, last, room or FrameSpace())
            photons = photons.reshape(len(indices), last - first, *self.resolved.camera_shape)
            images, saturated = self._read_out(photons, run, first, last)
            total = int(saturated.sum())
            if total:
                warnings.warn(SATURATED, SimscopeWarning, stacklevel=2)
        return Chunk(
            int(indices[0]),
            int(indices[-1]) + 1,
            first,
            last,
            images,
            self._truth(run, shining, first, last),
            shining.offsets,
            total,
            photons if expected else None,
            self._labels(len(indices), run.drawn),
        )

    def _on_host(self, chunk: Chunk) -> Chunk:
        """A chunk of the device with NumPy arrays, its emitters as rows of a table."""
        get = self.device.get
        return chunk.with_arrays({name: get(array) for name, array in chunk.arrays().items()})

    def _begin(self, indices: npt.NDArray[np.int64]) -> Run:
        drawn = draw_samples(self.resolved, self.key, indices)
        molecules = samples_of.place(self.resolved, self.key, indices, drawn, self.device)
        molecules = samples_of.orient(self.resolved, self.key, indices, molecules, self.device)
        return Run(indices, drawn, molecules, {})

    def _skip(self, run: Run, frame: int) -> None:
        """Let the molecules of a run switch until a later frame begins, unseen."""
        samples_of.skip(
            self.resolved, self.key, run.indices, run.drawn, run.molecules, frame,
            carried=run.carried, device=self.device,
        )  # fmt: skip

    def _shine(self, run: Run, first: int, last: int) -> Shining:
        shining = samples_of.shine(
            self.resolved,
            self.key,
            run.indices,
            run.drawn,
            run.molecules,
            first,
            last,
            carried=run.carried,
            device=self.device,
        )
        factors = self._brightness.factors(run.molecules, run.drawn, len(run.indices), self.device)
        if factors is None:
            return shining
        photons = (shining.photons * factors[shining.molecule]).astype(np.float32)
        return dataclasses.replace(shining, photons=photons)

    def _render(self, run: Run, shining: Shining, first: int, last: int, room: FrameSpace) -> Any:
        """Expected photons of all light on the device, float32 ``(samples * frames, y, x)``."""
        out = self._background(run, last - first, room)
        if not self._renderer.on_host:
            return self._renderer.render(run, shining, first, last, self.device, out)
        get, get_all = self.device.get, self.device.get_all
        run = dataclasses.replace(run, molecules=get_all(run.molecules))
        lit = self._renderer.render(run, get_all(shining), first, last, out=get(out))
        return self.device.put(lit)

    def _background(self, run: Run, frames: int, room: FrameSpace) -> Any:
        """What glows behind the molecules in every frame, float32 ``(samples * frames, y, x)``."""
        xp, shape = self.device.xp, self.resolved.camera_shape
        level = samples_of.background_photons(
            self.resolved, self.key, run.indices, run.drawn, self.device
        )
        if self.resolved.optics.analyser is not None:
            # background is unpolarised: each channel passes half of it
            even = level.shape[2] == 1
            level = 0.5 * xp.tile(level, (1, 1, 1 if even else self.resolved.channels))
        out = room.array(xp, (len(run.indices), frames, *shape))
        out[:] = level[:, None]
        return out.reshape(-1, *shape)

    def _read_out(
        self, photons: Any, run: Run, first: int, last: int
    ) -> tuple[Any, npt.NDArray[np.int64]]:
        """Counts (samples, frames, y, x) on the device, and saturated pixels of each frame."""
        frames = last - first
        varied = {
            path.removeprefix("camera."): np.repeat(value, frames)
            for path, value in run.drawn.items()
            if path.startswith("camera.")
        }
        images, saturated = cameras.detect(
            photons.reshape(-1, *photons.shape[2:]),
            self.resolved.camera,
            self.maps,
            self.key,
            sample_index=np.repeat(run.indices, frames),
            frame_index=np.tile(np.arange(first, last), len(run.indices)),
            exposure_s=self.resolved.acquisition.exposure_ms * 1e-3,
            parameters=varied or None,
            device=self.device,
        )
        return images.reshape(photons.shape), saturated

    def _truth(self, run: Run, shining: Shining, first: int, last: int) -> dict[str, Any]:
        """Emitter columns of a window: one row per molecule and frame in which it shines."""
        molecules, who = run.molecules, shining.molecule
        row = molecules.sample[who]
        sample = self.device.put(run.indices)[row]
        within = shining.frame - row * (last - first)
        columns = {
            "frame": sample * self.frames_per_sample + first + within,
            "id": molecules.id[who],
            "photons": shining.photons,
        }
        passed = self._brightness.passed(molecules, self.device)
        if passed is not None:
            columns["photons"] = (shining.photons * passed[who]).astype(np.float32)
        names = emitter_dtype(self.resolved).names or ()
        return {
            name: columns[name] if name in columns else getattr(molecules, name)[who]
            for name in names
        }

    def volume(self, index: int) -> npt.NDArray[np.float32]:
        """Photons of each voxel of a sample's frame towards the camera, float32 ``(z, y, x)``.

        The truth of recipes with volumes: what a frame's light came from, plane 0 the lowest.
        """
        if not isinstance(self._renderer, VolumeRenderer):
            raise SimscopeError(
                f"a structure of kind {self.resolved.structure.kind} has molecules, no volume: "
                "look at the emitters of the sample"
            )
        index = _whole(index)
        _indices(index, index + 1)
        return self._renderer.volume(index)

    def labels(
        self, index: int, *, section: samples_of.Section = "projection"
    ) -> npt.NDArray[np.uint16]:
        """Object each camera pixel of a sample shows, uint16 ``(y, x)``, 0 background.

        A pixel bears the label that covers most of it; ``section`` says whether objects are seen
        from above, or cut at the nominal focus: then a focus stack has ``(z, y, x)``.

        Raises
        ------
        SimscopeError
            If the recipe has no objects.
        """
        index = _whole(index)
        _indices(index, index + 1)
        planes = samples_of.camera_labels(self.resolved, self.key, index, section)
        return planes if section == "focus" and self._is_stack else planes[0]

    def objects(self, index: int) -> npt.NDArray[Any]:
        """Objects seen in a sample: columns ``label``, ``brightness`` as drawn, and ``pixels``.

        Raises
        ------
        SimscopeError
            If the recipe has no objects.
        """
        index = _whole(index)
        _indices(index, index + 1)
        return samples_of.objects_in_frame(self.resolved, self.key, index)

    @property
    def _is_stack(self) -> bool:
        return isinstance(self.recipe.acquisition.focus_nm, FocusStack)

    @property
    def _planes(self) -> int:
        focus = self.recipe.acquisition.focus_nm
        return focus.planes if isinstance(focus, FocusStack) else 1

    def _choose_renderer(
        self, cache: Path | None
    ) -> TableRenderer | ChannelRenderer | ExactRenderer | VolumeRenderer:
        if isinstance(self.resolved.structure, VOLUMES):
            return VolumeRenderer(self.resolved, self._brightness, self.key)
        wavefront = self.resolved.optics.wavefront
        own_optics = wavefront is not None and wavefront.drawn
        fixed_focus = isinstance(self.resolved.acquisition.focus_nm, float | int)
        if fixed_focus and not own_optics:
            renderer = ChannelRenderer if self.resolved.channels > 1 else TableRenderer
            return renderer(self.resolved, cache)
        if self.resolved.optics.analyser is not None:
            raise RecipeError(
                "optics.analyser splits frames whose samples share one focus and wavefront: give "
                "acquisition.focus_nm and the wavefront plain numbers, or leave the analyser out"
            )
        return ExactRenderer(self.resolved)

    def _record(self, message: str) -> None:
        if message not in self.warnings:
            self.warnings.append(message)

    @contextmanager
    def _recording(self) -> Iterator[None]:
        """Keep every warning about results in ``self.warnings``; pass all on, once each.

        Simulators in several threads take turns: Python catches warnings for all threads at once,
        and one would note those of another.
        """
        with _Turn.lock, warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", SimscopeWarning)
            yield
        for warning in caught:
            message = str(warning.message)
            known = message in self._told
            if issubclass(warning.category, SimscopeWarning):
                self._told.add(message)
                if not issubclass(warning.category, WorkWarning):
                    self._record(message)
            if not known:
                warnings.warn_explicit(
                    warning.message, warning.category, warning.filename, warning.lineno
                )


def _indices(start: int, stop: int) -> npt.NDArray[np.int64]:
    return np.arange(*_span(start, stop), dtype=np.int64)


def _span(start: int, stop: int) -> tuple[int, int]:
    """First sample and the one after the last; SimscopeError unless there are such samples."""
    start, stop = _whole(start), _whole(stop)
    if not 0 <= start < stop <= MAX_SAMPLES:
        raise SimscopeError(
            f"samples {start} to {stop} do not lie in order within [0, {MAX_SAMPLES}]: "
            "ask for at least one sample from 0 up"
        )
    return start, stop


def _whole(index: int) -> int:
    if isinstance(index, bool) or not isinstance(index, int | np.integer):
        raise SimscopeError(f"sample index {index!r} is not a whole number: use an int")
    return int(index)


def _checked_threads(threads: int | None) -> int:
    most = int(numba.config.NUMBA_NUM_THREADS)  # type: ignore[attr-defined]
    if threads is None:
        return most
    if isinstance(threads, bool) or not isinstance(threads, int):
        raise SimscopeError(f"threads={threads!r} is not a whole number: use 1 to {most}")
    if not 1 <= threads <= most:
        raise SimscopeError(f"threads={threads} lies outside [1, {most}]: choose in that range")
    return threads


def _note_threads() -> None:
    """As this process forks: remember whether it has run kernels on threads of GNU OpenMP."""
    try:
        layer = numba.threading_layer()
    except ValueError:
        return  # no kernel has used threads yet
    if layer == "omp":
        _OPENMP_RAN_IN.add(os.getpid())


def _threads_left(count: int) -> int:
    """So many threads, or 1 in a process forked from one that ran threads of GNU OpenMP.

    They do not survive a fork, and to start new ones ends the process; one thread needs none.
    """
    return 1 if _OPENMP_RAN_IN - {os.getpid()} else count


_OPENMP_RAN_IN: set[int] = set()


class _Turn:
    """Whose turn it is to simulate and to note warnings; anew in a forked child."""

    lock = threading.RLock()

    @classmethod
    def begin_anew(cls) -> None:
        cls.lock = threading.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_note_threads, after_in_child=_Turn.begin_anew)


@contextmanager
def _threads(count: int) -> Iterator[None]:
    """Run numba kernels on ``count`` threads inside."""
    before = numba.get_num_threads()
    numba.set_num_threads(_threads_left(count))
    try:
        yield
    finally:
        numba.set_num_threads(before)
