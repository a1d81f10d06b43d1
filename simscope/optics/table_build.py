"""Building PSF tables: from any image model to B-splines whose error is measured.

The pixel-integrated image is sampled on a grid of heights and sub-pixel shifts, tapered smoothly
to zero at the window's edge, and turned into a separable cubic B-spline. Two errors remain and both
are measured: the spline against the exact model at random points off the grid (`error`, refused
if larger than asked), and the light outside the window (`energy_left_out`, a warning above 5 %, an
error above 20 % unless accepted). The taper counts as light left out.

Where the optics change over the field, the same is done at every node of a grid over the frame, and
a second B-spline runs across the nodes. Their number follows from the images half way between
them; the error of the finished table is measured at random places of the frame.

Source of the B-spline prefilter: Unser, IEEE Signal Process. Mag. 16(6), 22 (1999).
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, fields, replace
from functools import partial
from pathlib import Path
from threading import Lock
from typing import Any, Literal

import numba
import numpy as np
import scipy  # its parts load on first use
from numpy.typing import NDArray

from simscope.blas import single_blas_thread
from simscope.errors import OpticsError, SimscopeWarning, WorkWarning, held_warnings
from simscope.kernels.canvas import padded
from simscope.optics.cache import default_cache_dir, load_arrays, save_arrays, table_key
from simscope.optics.checks import check_heights, check_plain, check_supported
from simscope.optics.interfaces import objective_of
from simscope.optics.modalities import band_limit_per_nm
from simscope.optics.pixels import samples_per_pixel
from simscope.optics.table import NodeAxis, SplineTable, taper
from simscope.optics.table_field import (
    CHECK_PLACES,
    FieldOfView,
    across_nodes,
    spline_through,
    strength_nm,
)
from simscope.optics.table_images import (
    CHECK_POINTS,
    ExactPoints,
    TableImages,
    TableRequest,
    automatic_window,
)

FloatArray = NDArray[np.float64]
Progress = Callable[[int, int], None]

WARN_LEFT_OUT, REFUSE_LEFT_OUT = 0.05, 0.20
GUARD_PLANES = 6
"""Heights sampled beyond either end, so that the spline is not felt to end."""

MOST_REFINEMENTS = 8
ROUNDING = 2.0**-24
"""Coefficients are rounded to this share of the peak, so that machines agree on every bit."""

PLANES_AT_ONCE = 16
"""Heights computed together; a constant, so that no bit depends on the number of threads."""

LATERAL_SHARE = 0.6
"""Share of the accuracy that the error between lateral nodes may use up."""

GRID_SHARE = 0.6
"""Share of the accuracy that the table of a single field node may use up."""

WARN_GB = 1.0
WARNED = "warnings"
"""Name under which a kept table has the warnings that came with it."""


def build_table(
    optics: Any,
    *,
    focus_nm: float,
    z_min_nm: float,
    z_max_nm: float,
    pixel_nm: float,
    window_px: int | Literal["auto"] = "auto",
    max_window_px: int = 81,
    accuracy: float = 1e-3,
    accept_energy_loss: bool = False,
    dipoles: bool = False,
    frame_shape: tuple[int, int] | None = None,
    cache: Path | str | None = "default",
    memory_gb: float = 4.0,
    threads: int | None = None,
    progress: Progress | None = None,
) -> SplineTable:
    """PSF table for emitters from ``z_min_nm`` to ``z_max_nm``, its error at most ``accuracy``.

    ``window_px`` "auto" is the smallest odd window that holds 96 % of the light at every height,
    at most ``max_window_px``. ``dipoles``: the six basis images instead of one. ``frame_shape``:
    (y, x) pixels of the camera frame, needed where the optics depend on the field; emitters beyond
    it get the aberrations of its edge. ``cache``: folder for finished tables, "default" for the
    platform's, None for none. ``memory_gb``: what building may take at most. ``threads``: those
    of the filters, numba's number if None, of no influence on the result. ``progress`` is called
    with planes done and planes in all. Raises OpticsError if the accuracy is not reached, memory
    does not suffice or more than 20 % of the light falls outside (unless ``accept_energy_loss``);
    warns above 5 %. ``optics.collection`` plays no part: images hold the light collected, and how
    much that is belongs to the photons (``simscope.optics.CollectedLight``), as in recipes.
    """
    check_supported(optics)
    check_plain(
        focus_nm=focus_nm, z_min_nm=z_min_nm, z_max_nm=z_max_nm, pixel_nm=pixel_nm,
        accuracy=accuracy, max_window_px=max_window_px,
    )  # fmt: skip
    request = TableRequest(
        float(focus_nm), float(z_min_nm), float(z_max_nm), float(pixel_nm), window_px,
        int(max_window_px), float(accuracy), bool(dipoles),
        None if optics.field_dependence is None or frame_shape is None else
        (int(frame_shape[0]), int(frame_shape[1])),
    )  # fmt: skip
    _check_request(optics, request)
    folder = default_cache_dir() if cache == "default" else cache
    key = table_key(optics, asdict(request))
    stored = None if folder is None else load_arrays(Path(folder), key)
    table = None if stored is None else _from_arrays(stored)
    if table is None or stored is None:
        workers = threads or int(numba.get_num_threads())
        with held_warnings() as raised, single_blas_thread():
            table = _Builder(optics, request, memory_gb, workers, progress).build()
        stored = _to_arrays(table, raised)
        _warn_again(raised)
        if folder is not None:
            save_arrays(Path(folder), key, stored)
    else:
        _warn_again([SimscopeWarning(message) for message in stored[WARNED].tolist()])
    z_nm, left_out = table.energy_left_out[np.argmax(table.energy_left_out[:, 1])]
    judge_energy(left_out, f"z_nm={z_nm:g}", table.window_px, accepted=accept_energy_loss)
    return table


def _check_request(optics: Any, request: TableRequest) -> None:
    z_min, z_max = request.z_min_nm, request.z_max_nm
    ends = np.array([z_min, z_max], dtype=np.float64)
    check_heights(objective_of(optics), ends, 0.5 * optics.bead_diameter_nm)
    if z_max < z_min:
        raise OpticsError(f"z_max_nm={z_max:g} lies below z_min_nm={z_min:g}: swap them")
    if not 1e-6 <= request.accuracy <= 0.1:
        raise OpticsError(f"accuracy={request.accuracy:g} lies outside [1e-6, 0.1] for tables")
    widest = request.max_window_px if request.window_px == "auto" else request.window_px
    if isinstance(widest, str) or widest < 7 or widest % 2 == 0 or widest > 1023:
        raise OpticsError(f"window of {widest} pixels: give an odd number from 7 to 1023, or auto")
    if optics.field_dependence is not None and request.frame_shape is None:
        raise OpticsError("optics that depend on the field need frame_shape: give (y, x) pixels")
    if optics.field_dependence is not None and request.dipoles:
        raise OpticsError(
            "oriented dipoles and field dependence together are not tabulated: set dipoles to "
            "free without analyser, or take optics.field_dependence out"
        )


def judge_energy(left_out: float, where: str, window_px: int, *, accepted: bool) -> None:
    """Warn of light left out of a rendering window, or raise if too much and not ``accepted``.

    ``left_out``: largest share of an emitter's light outside the window or lost to its taper [1];
    ``where`` says which emitter that is. SimscopeWarning above 5 %, OpticsError above 20 %.
    """
    if left_out <= WARN_LEFT_OUT:
        return
    what = (
        f"{100 * left_out:.1f} % of the light at {where} falls outside the rendering window of "
        f"{window_px} pixels"
    )
    if left_out > REFUSE_LEFT_OUT and not accepted:
        raise OpticsError(
            f"{what}, more than {100 * REFUSE_LEFT_OUT:g} %: raise max_window_px or window_px "
            "(rendering.max_window_px in a recipe), shorten the height or focus range, check that "
            "pixels are in nm, or accept the loss with accept_energy_loss "
            "(rendering.accept_energy_loss: true)"
        )
    warnings.warn(what, SimscopeWarning, stacklevel=3)


@dataclass(frozen=True)
class _Grid:
    """Sampling of a table: window, nodes per pixel, and heights from ``z0_nm`` on."""

    window: int
    per_pixel: int
    z_nm: FloatArray
    step_nm: float
    guard: int

    @property
    def inside(self) -> slice:
        """Heights that may be asked for, without the guard planes."""
        return slice(self.guard, self.z_nm.size - self.guard)

    @property
    def count(self) -> int:
        """Samples along a side of the window."""
        return self.per_pixel * self.window + 1

    @property
    def plane_shape(self) -> tuple[int, int, int, int]:
        """Shape of the packed coefficients: planes and the layout of ``kernels/splat.py``."""
        heights = self.z_nm.size - 2 * self.guard
        m = self.per_pixel
        rows, width = m * self.window + 4, int(padded(self.window))
        return 1 if heights == 1 else heights + 2, rows, m, width


def _grid(
    request: TableRequest, window: int, per_pixel: int, dz_nm: float, *, guarded: bool
) -> _Grid:
    z_min, z_max = request.z_min_nm, request.z_max_nm
    intervals = math.ceil((z_max - z_min) / dz_nm)
    step_nm = (z_max - z_min) / intervals if intervals else 1.0
    # the model continues analytically a few steps below the coverslip, where nothing is rendered
    guard = GUARD_PLANES if intervals and guarded else 0
    z_nm = z_min + step_nm * np.arange(-guard, intervals + guard + 1, dtype=np.float64)
    return _Grid(window, per_pixel, z_nm, step_nm, guard)


@dataclass(frozen=True)
class _Tabulated:
    """Coefficients of one set of optics, (images, planes, ...), and what they were made of."""

    coefficients: NDArray[np.float32]
    peak: float
    left_out: FloatArray
    energies: FloatArray


class _Builder:
    """Builds one table: window first, then grids refined until the error is small enough."""

    def __init__(
        self, optics: Any, request: TableRequest, memory_gb: float, threads: int,
        progress: Progress | None,
    ) -> None:  # fmt: skip
        self.optics = optics
        self.request = request
        self.memory_gb = memory_gb
        self.threads = threads
        self.progress = progress or (lambda done, total: None)

    def build(self) -> SplineTable:
        """The finished table."""
        if self.optics.field_dependence is None:
            return self._build_alone(TableImages(self.optics, self.request), self.request.accuracy)
        return self._build_field()

    def _build_alone(
        self, images: TableImages, accuracy: float, window: int | None = None
    ) -> SplineTable:
        """Table of one set of optics."""
        window = self._window([images]) if window is None else window
        per_pixel = max(
            2, samples_per_pixel(self.request.pixel_nm, band_limit_per_nm(images.optics))
        )
        dz_nm = _first_dz_nm(images.optics)
        exact = ExactPoints(images, window)
        best = math.inf
        for _ in range(MOST_REFINEMENTS):
            grid = _grid(self.request, window, per_pixel, dz_nm, guarded=images.continues_below)
            (part,) = self._tabulate([images], grid)
            table = self._table(part, grid, np.empty((0, 3)))
            error = exact.error(table)
            if error <= accuracy:
                return replace(table, error=error)
            best = min(best, error)
            per_pixel, dz_nm = self._refined(images, table, error, accuracy)
        raise OpticsError(
            f"the PSF table reached an error of {best:.1e} of the peak, accuracy="
            f"{accuracy:g} was asked: raise the table accuracy or use smaller pixels"
        )

    def _refined(
        self, images: TableImages, table: SplineTable, error: float, accuracy: float
    ) -> tuple[int, float]:
        """Nodes per pixel and height step [nm] that should meet the accuracy after ``table``.

        What the table's error at three of its own heights leaves is that between heights; errors of
        cubic splines fall with the fourth power of the step.
        """
        lateral = self._lateral_error(images, table.window_px, table.per_pixel, table.peak)
        between = max(error - lateral, 0.0)
        finer = (lateral / (LATERAL_SHARE * accuracy)) ** 0.25
        per_pixel = max(table.per_pixel, math.ceil(table.per_pixel * min(finer, 2.0)))
        if between > (1.0 - LATERAL_SHARE) * accuracy or per_pixel == table.per_pixel:
            wanted = 0.9 * ((1.0 - LATERAL_SHARE) * accuracy / max(between, 1e-30)) ** 0.25
            return per_pixel, table.dz_nm * min(max(wanted, 0.3), 0.85)
        return per_pixel, table.dz_nm * (1 + 1e-9)

    def _lateral_error(
        self, images: TableImages, window: int, per_pixel: int, peak: float
    ) -> float:
        """Worst error over ``peak`` of tables of one height, at three heights of the range."""
        request = self.request
        worst = 0.0
        for z in np.unique(np.linspace(request.z_min_nm, request.z_max_nm, 3)):
            flat = images.at_height(float(z))
            grid = _grid(flat.request, window, per_pixel, 1.0, guarded=False)
            (part,) = self._tabulate([flat], grid)
            table = self._table(part, grid, np.empty((0, 3)))
            table = replace(table, z0_nm=float(z), z_max_nm=float(z))
            worst = max(worst, ExactPoints(flat, window).error(table) * part.peak / peak)
        return worst

    def _build_field(self) -> SplineTable:
        """Table over the field: grids from the hardest place, nodes from images between them."""
        field = FieldOfView(self.optics, self.request)
        corners = [field.images(x, y) for y in field.extremes[0] for x in field.extremes[1]]
        window = self._window(corners)
        hardest = max(corners, key=lambda images: strength_nm(images.optics))
        alone = self._build_alone(hardest, GRID_SHARE * self.request.accuracy, window)
        grid = _grid(
            self.request, window, alone.per_pixel, alone.dz_nm * (1 + 1e-9),
            guarded=hardest.continues_below,
        )  # fmt: skip
        counts = [field.node_count(axis, window) for axis in (0, 1)]
        exact = [
            ExactPoints(
                field.images(x, y), window, place=(x, y), points=CHECK_POINTS // CHECK_PLACES
            )
            for x, y in field.check_places()
        ]
        error = math.inf
        for _ in range(3):
            axes = [field.axis(axis, count) for axis, count in enumerate(counts)]
            table = self._field_table(field, axes, grid)
            error = max(check.error(table) for check in exact)
            if error <= self.request.accuracy:
                return replace(table, error=error)
            counts = [n if n == 1 and max(counts) > 1 else math.ceil(1.4 * n) for n in counts]
        raise OpticsError(
            f"the PSF table over the field reached an error of {error:.1e} of the peak with "
            f"{axes[1].count} x {axes[0].count} nodes, accuracy={self.request.accuracy:g} was "
            "asked: raise the table accuracy, or use a field that changes less over the frame"
        )

    def _field_table(self, field: FieldOfView, axes: list[NodeAxis], grid: _Grid) -> SplineTable:
        along_y, along_x = ([axis.first_nm + axis.step_nm * k for k in range(axis.count)]
                            for axis in axes)  # fmt: skip
        nodes = [field.images(x, y) for y in along_y for x in along_x]
        coefficients = axes[0].images * axes[1].images
        self._check_memory(grid, len(nodes) + coefficients)
        tabulated = self._tabulate(nodes, grid)
        peak = max(t.peak for t in tabulated)
        crossed = across_nodes([t.coefficients[0] for t in tabulated], axes, ROUNDING * peak)
        described = np.array([(axis.first_nm, axis.step_nm, axis.count) for axis in axes])
        merged = _Tabulated(
            crossed,
            peak,
            np.max([t.left_out for t in tabulated], axis=0),
            np.empty((0, 6)),
        )
        return self._table(merged, grid, described)

    def _window(self, places: list[TableImages]) -> int:
        """The window asked for, or the smallest that serves all places."""
        if self.request.window_px != "auto":
            return int(self.request.window_px)
        return max(automatic_window(images) for images in places)

    def _table(self, part: _Tabulated, grid: _Grid, node_axes: FloatArray) -> SplineTable:
        """Table of tabulated images, its error not yet measured (NaN)."""
        return SplineTable(
            coefficients=part.coefficients,
            per_pixel=grid.per_pixel,
            window_px=grid.window,
            pixel_nm=self.request.pixel_nm,
            z0_nm=self.request.z_min_nm,
            dz_nm=grid.step_nm,
            z_max_nm=self.request.z_max_nm,
            focus_nm=self.request.focus_nm,
            peak=part.peak,
            error=math.nan,
            energy_left_out=np.stack((grid.z_nm[grid.inside], part.left_out), axis=1),
            energies=part.energies,
            node_axes=node_axes,
        )

    def _tabulate(self, places: list[TableImages], grid: _Grid) -> list[_Tabulated]:
        """Coefficients of every place, computed a few heights at a time side by side."""
        self._check_memory(grid, sum(images.count for images in places))
        total = len(places) * grid.z_nm.size
        tabulated = []
        with ThreadPoolExecutor(self.threads) as pool:
            for number, images in enumerate(places):
                report = partial(self._report, number * grid.z_nm.size, total)
                tabulated.append(_tabulate(images, grid, pool, report))
        return tabulated

    def _report(self, before: int, total: int, done: int) -> None:
        self.progress(before + done, total)

    def _check_memory(self, grid: _Grid, images: int) -> None:
        """Say what the build will take; OpticsError if more than allowed, a warning above 1 GB."""
        working = (6 if self.request.dipoles else 1) * grid.z_nm.size * grid.count**2 * 8 * 2
        needed = (images * math.prod(grid.plane_shape) * 4 + working) / 1e9
        what = (
            f"building the PSF table takes {needed:.2g} GB ({images} images of {grid.z_nm.size} "
            f"heights, {grid.window} pixels wide)"
        )
        if needed > self.memory_gb:
            raise OpticsError(
                f"{what}, more than memory_gb={self.memory_gb:g}: use a smaller window, height "
                "range or field, a larger table accuracy, or raise memory_gb"
            )
        if needed > WARN_GB:
            warnings.warn(what, WorkWarning, stacklevel=2)


def _first_dz_nm(optics: Any) -> float:
    """Height step to start from: a tenth of the period of the fastest axial interference [nm]."""
    objective = objective_of(optics)
    index = objective.n_sample
    lowest = math.sqrt(max(index**2 - objective.na**2, 0.0))
    return 0.1 * objective.wavelength_nm / (index - lowest)


def _tabulate(
    images: TableImages, grid: _Grid, pool: ThreadPoolExecutor, progress: Callable[[int], None]
) -> _Tabulated:
    """Coefficients of one set of optics on a grid."""
    count, heights = grid.count, grid.z_nm
    model = images.model((count, count), heights, grid.per_pixel)
    weight = taper((np.arange(count) - 0.5 * (count - 1)) / grid.per_pixel, grid.window)
    filtered = np.empty((images.count, heights.size, count, count))
    sums = np.empty((heights.size, images.count))
    peaks = np.zeros(heights.size)
    # models may run kernels of many threads, which not every layer lets two callers start at once
    one_at_a_time = Lock()

    def compute(start: int) -> int:
        chosen = slice(start, min(start + PLANES_AT_ONCE, heights.size))
        with one_at_a_time:
            samples = images.images(model, heights[chosen])
        samples *= weight[:, None] * weight
        sums[chosen] = samples.sum(axis=(2, 3)) / grid.per_pixel**2
        bright = samples[:, 0] if images.count == 1 else samples[:, :3].mean(axis=1)
        peaks[chosen] = bright.max(axis=(1, 2))
        for k in range(images.count):
            filtered[k, chosen] = _prefilter_plane(samples[:, k])
        return chosen.stop - chosen.start

    done = 0
    for planes in pool.map(compute, range(0, heights.size, PLANES_AT_ONCE)):
        done += planes
        progress(done)
    expected, energies = images.light(model, heights[grid.inside])
    peak = float(peaks[grid.inside].max())
    packed = np.empty((images.count, *grid.plane_shape), dtype=np.float32)

    def pack(k: int) -> None:
        packed[k] = _pack(_prefilter_heights(filtered[k], grid.guard), grid, peak)

    for _ in pool.map(pack, range(images.count)):
        pass
    return _Tabulated(packed, peak, images.left_out(sums[grid.inside], expected), energies)


def _prefilter_plane(samples: FloatArray) -> FloatArray:
    """Lateral B-spline coefficients of samples (z, y, x), which vanish at the edge."""
    padded = np.pad(samples, ((0, 0), (8, 8), (8, 8)))
    for axis in (1, 2):
        padded = scipy.ndimage.spline_filter1d(padded, order=3, axis=axis, mode="mirror")
    return padded[:, 8:-8, 8:-8]


def _prefilter_heights(samples: FloatArray, guard: int) -> FloatArray:
    """B-spline coefficients along z, one step beyond the ends; a lone plane as it is."""
    if samples.shape[0] == 1:
        return samples
    if guard:
        filtered = scipy.ndimage.spline_filter1d(samples, order=3, axis=0, mode="mirror")
        return np.asarray(filtered[guard - 1 : samples.shape[0] - guard + 1])
    return np.tensordot(spline_through(samples.shape[0]), samples, 1)


def _pack(coefficients: FloatArray, grid: _Grid, peak: float) -> NDArray[np.float32]:
    """Coefficients at shifts -window/2 to window/2 in the layout of ``kernels/splat.py``.

    The two outermost nodes on each side, whose splines would reach past the window, are dropped;
    they are tapered to next to nothing.
    """
    quantum = ROUNDING * peak
    planes, rows, m, width = grid.plane_shape
    count = grid.count
    nodes = np.zeros((planes, rows, width * m), dtype=np.float32)
    kept = slice(2, count - 2)
    nodes[:, 3 : count - 1, 3 : count - 1] = (
        np.round(coefficients[:, kept, kept] / quantum) * quantum
    )
    return np.ascontiguousarray(nodes.reshape(planes, rows, width, m).swapaxes(2, 3))


def _warn_again(raised: Sequence[SimscopeWarning]) -> None:
    """Raise warnings that were held back, or kept with a table."""
    for warning in raised:
        warnings.warn(warning, stacklevel=3)


def _to_arrays(table: SplineTable, raised: Sequence[SimscopeWarning]) -> dict[str, NDArray[Any]]:
    """What is kept of a table: its arrays, and the warnings that came with it."""
    lasting = [str(warning) for warning in raised if not isinstance(warning, WorkWarning)]
    return {WARNED: np.array(lasting, dtype=np.str_)} | {
        field.name: np.asarray(getattr(table, field.name)) for field in fields(SplineTable)
    }


def _from_arrays(arrays: dict[str, NDArray[Any]]) -> SplineTable | None:
    """The stored table, or None if an array is missing."""
    if {WARNED, *(field.name for field in fields(SplineTable))} - set(arrays):
        return None
    values: dict[str, Any] = {}
    for field in fields(SplineTable):
        array = arrays[field.name]
        values[field.name] = array if array.ndim else array.item()
    return SplineTable(**values)
