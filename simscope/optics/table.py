"""PSF tables: an image of a unit emitter that can be put anywhere in a frame within a microsecond.

The pixel-integrated image is sampled on a grid of heights and sub-pixel shifts, tapered smoothly
to zero at the window's edge, and turned into a separable cubic B-spline. Two errors remain and both
are measured: the spline against the exact model at random points off the grid (`error`, refused
if larger than asked), and the light outside the window (`energy_left_out`, a warning above 5 %, an
error above 20 % unless accepted). The taper counts as light left out.

Source of the B-spline prefilter: Unser, IEEE Signal Process. Mag. 16(6), 22 (1999).
"""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass, fields, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import scipy.ndimage
from numpy.typing import ArrayLike, NDArray
from threadpoolctl import threadpool_limits

from simscope.errors import OpticsError, SimscopeWarning
from simscope.kernels.splat import padded_window, splat
from simscope.optics.cache import default_cache_dir, load_arrays, save_arrays, table_key
from simscope.optics.checks import check_heights
from simscope.optics.interfaces import objective_of
from simscope.optics.pixels import samples_per_pixel
from simscope.optics.pupil import PupilModel

FloatArray = NDArray[np.float64]

TAPER_PX = 3.0
"""Width of the smooth fall to zero at the window's edge, in pixels (an eighth of small windows)."""

HELD_SHARE = 0.96
"""Share of the light an automatic window tries to hold at every height."""

WARN_LEFT_OUT, REFUSE_LEFT_OUT = 0.05, 0.20
GUARD_PLANES = 6
"""Heights sampled beyond either end, so that the spline is not felt to end."""

CHECK_POINTS = 48
MOST_REFINEMENTS = 8
ROUNDING = 2.0**-24
"""Coefficients are rounded to this share of the peak, so that machines agree on every bit."""


@dataclass(frozen=True)
class SplineTable:
    """Image of a unit emitter as cubic B-spline over height and sub-pixel position.

    ``coefficients``: float32 in the layout of ``kernels/splat.py``; lowest height ``z0_nm``, step
    ``dz_nm``, highest ``z_max_nm``. ``error``: worst measured error over ``peak`` (largest value of
    the table). ``energy_left_out``: (heights, 2), columns z [nm] and share of the light outside the
    window or lost to its taper.
    """

    coefficients: NDArray[np.float32]
    per_pixel: int
    window_px: int
    pixel_nm: float
    z0_nm: float
    dz_nm: float
    z_max_nm: float
    focus_nm: float
    peak: float
    error: float
    energy_left_out: FloatArray

    def render(
        self,
        x_nm: ArrayLike,
        y_nm: ArrayLike,
        z_nm: ArrayLike,
        photons: ArrayLike,
        frame_offsets: ArrayLike,
        shape: tuple[int, int],
        out: NDArray[np.float32] | None = None,
        *,
        threads: int = 1,
    ) -> NDArray[np.float32]:
        """Expected photons per pixel, float32 (frames, y, x), added to ``out`` if given.

        Emitters of frame f are those from ``frame_offsets[f]`` to ``frame_offsets[f + 1] - 1``;
        positions count from the outer corner of the first pixel. Emitters outside the frame
        contribute what reaches into it. Raises OpticsError for heights outside the table, values
        that are not finite, negative photons or offsets that do not fit.
        """
        x, y, z = (_column(n, v) for n, v in (("x_nm", x_nm), ("y_nm", y_nm), ("z_nm", z_nm)))
        light = _column("photons", photons)
        offsets = _offsets(frame_offsets, x.size)
        if not x.size == y.size == z.size == light.size:
            raise OpticsError("x_nm, y_nm, z_nm and photons differ in length: give one per emitter")
        if light.min(initial=0.0) < 0:
            raise OpticsError(f"photons={light.min():g} is negative: emitters cannot take light")
        frames = offsets.size - 1
        if out is None:
            out = np.zeros((frames, *shape), dtype=np.float32)
        if out.shape != (frames, *shape) or out.dtype != np.float32:
            raise OpticsError(f"out is {out.dtype} {out.shape}: need float32 {(frames, *shape)}")
        splat(
            self.coefficients[None], self.per_pixel, self.window_px, offsets,
            x / self.pixel_nm, y / self.pixel_nm, self._height(z), light.astype(np.float32),
            np.zeros((1, 1), np.int64), np.ones((1, 1), np.float32), out, int(threads),
        )  # fmt: skip
        return out

    def derivatives(
        self, x_nm: ArrayLike, y_nm: ArrayLike, z_nm: ArrayLike, window_px: int | None = None
    ) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray]:
        """Image of unit emitters and its derivatives by x, y, z [1/nm], each float64 (n, w, w).

        The window of ``window_px`` pixels (odd, the table's own if None) is centred on the pixel
        that holds the emitter: its first pixel is ``floor(x_nm / pixel_nm) - w // 2``. The
        derivatives are those of the spline. A table of one height knows no derivative by z and
        returns 0. Raises OpticsError for heights outside the table or too large a window.
        """
        window = self.window_px if window_px is None else int(window_px)
        if window > self.window_px or window < 1 or window % 2 == 0:
            raise OpticsError(
                f"window_px={window} must be odd and at most the table's {self.window_px}"
            )
        x, y, z = np.broadcast_arrays(
            *(_column(n, v) for n, v in (("x_nm", x_nm), ("y_nm", y_nm), ("z_nm", z_nm)))
        )
        images = np.empty((4, x.size, window, window))
        height = self._height(z)
        for e in range(x.size):
            step_x, step_y = (
                (1.0 - (v / self.pixel_nm - math.floor(v / self.pixel_nm))) * self.per_pixel
                for v in (float(x[e]), float(y[e]))
            )
            images[:, e] = self._unit_image(step_x, step_y, float(height[e]), window)
        return images[0], images[1], images[2], images[3]

    def _unit_image(self, step_x: float, step_y: float, height: float, window: int) -> FloatArray:
        """Image and derivatives by x, y, z of one emitter, (4, window, window)."""
        plane, plane_slope = self._planes(height)
        rows, rows_slope = (_pixel_basis(self, step_y, window, slope) for slope in (False, True))
        columns, columns_slope = (
            _pixel_basis(self, step_x, window, slope) for slope in (False, True)
        )
        along = plane @ columns.T
        return np.array(
            (
                rows @ along,
                rows @ (plane @ columns_slope.T),
                rows_slope @ along,
                rows @ (plane_slope @ columns.T),
            )
        )

    def _planes(self, height: float) -> tuple[FloatArray, FloatArray]:
        """Lateral coefficients at a height, and their slope by z [1/nm], each (nodes, nodes)."""
        nodes = self._nodes
        if nodes.shape[0] == 1:
            return nodes[0], np.zeros_like(nodes[0])
        lowest = min(max(math.floor(height), 0), nodes.shape[0] - 4)
        four = nodes[lowest : lowest + 4]
        weights, slopes = _cubic(height - lowest)
        return np.tensordot(weights, four, 1), np.tensordot(slopes / self.dz_nm, four, 1)

    @cached_property
    def _nodes(self) -> FloatArray:
        """Coefficients in plain order (planes, nodes y, nodes x)."""
        planes, m, _, places, width = self.coefficients.shape
        plain = self.coefficients.transpose(0, 3, 1, 4, 2).astype(np.float64)
        return plain.reshape(planes, places * m, width * m)[:, :, : places * m]

    def _height(self, z: FloatArray) -> FloatArray:
        """Heights in steps above the lowest; OpticsError outside the table."""
        tolerance = 1e-6
        low, high = z.min(initial=self.z_max_nm), z.max(initial=self.z0_nm)
        if low < self.z0_nm - tolerance or high > self.z_max_nm + tolerance:
            raise OpticsError(
                f"z_nm from {low:g} to {high:g} leaves the table's range [{self.z0_nm:g}, "
                f"{self.z_max_nm:g}]: build the table for the wider range"
            )
        return np.ascontiguousarray((z - self.z0_nm) / self.dz_nm)


def _column(name: str, values: ArrayLike) -> FloatArray:
    column = np.atleast_1d(np.ascontiguousarray(values, dtype=np.float64))
    if column.ndim != 1:
        raise OpticsError(f"{name} has shape {column.shape}: give one value per emitter")
    if not np.isfinite(column).all():
        raise OpticsError(f"{name} holds values that are not finite: give plain numbers")
    return column


def _offsets(values: ArrayLike, emitters: int) -> NDArray[np.int64]:
    offsets = np.ascontiguousarray(values, dtype=np.int64)
    fits = offsets.ndim == 1 and offsets.size >= 1 and offsets[0] == 0 and offsets[-1] == emitters
    if not fits or (np.diff(offsets) < 0).any():
        raise OpticsError(
            f"frame_offsets must rise from 0 to the number of emitters, {emitters}: "
            "they cut the emitter table into frames"
        )
    return offsets


def _cubic(t: float) -> tuple[FloatArray, FloatArray]:
    """Weights and slopes (per step) of the four nearest cubic B-splines, each (4,)."""
    s = 1.0 - t
    weights = np.array((s**3, 3 * t**3 - 6 * t**2 + 4, 3 * s**3 - 6 * s**2 + 4, t**3)) / 6.0
    slopes = np.array((-(s**2), 3 * t**2 - 4 * t, -3 * s**2 + 4 * s, t**2)) / 2.0
    return weights, slopes


def _pixel_basis(table: SplineTable, step: float, window: int, slope: bool) -> FloatArray:
    """Matrix (window, nodes) from nodes to pixels along one axis, or to their slope [1/nm]."""
    m = table.per_pixel
    node = math.floor(step)
    four = _cubic(step - node)[1] * (-m / table.pixel_nm) if slope else _cubic(step - node)[0]
    matrix = np.zeros((window, table._nodes.shape[1]))
    skipped = (table.window_px - window) // 2
    for pixel in range(window):
        first = (pixel + skipped) * m + node
        matrix[pixel, first : first + 4] = four
    return matrix


def taper(offset_px: NDArray[Any], window_px: int) -> FloatArray:
    """Weight [1] of the image at ``offset_px`` from the emitter along one axis.

    1 inside, cos^2 to 0 over the last ``TAPER_PX`` pixels before half a pixel from the edge.
    """
    ring = min(TAPER_PX, window_px / 8.0)
    end = 0.5 * window_px - 0.5
    share = np.clip((np.abs(offset_px) - (end - ring)) / ring, 0.0, 1.0)
    return np.cos(0.5 * np.pi * share) ** 2


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
    cache: Path | str | None = "default",
) -> SplineTable:
    """PSF table for emitters from ``z_min_nm`` to ``z_max_nm``, its error at most ``accuracy``.

    ``window_px`` "auto" is the smallest odd window that holds 96 % of the light at every height,
    at most ``max_window_px``. ``cache``: folder for finished tables, "default" for the platform's,
    None for none. Raises OpticsError if the accuracy is not reached or more than 20 % of the light
    falls outside (unless ``accept_energy_loss``); warns above 5 %.
    """
    _check_request(optics, z_min_nm, z_max_nm, focus_nm, accuracy, window_px, max_window_px)
    request = {
        "focus_nm": float(focus_nm),
        "z_min_nm": float(z_min_nm),
        "z_max_nm": float(z_max_nm),
        "pixel_nm": float(pixel_nm),
        "window_px": window_px,
        "max_window_px": int(max_window_px),
        "accuracy": float(accuracy),
    }
    folder = default_cache_dir() if cache == "default" else cache
    key = table_key(optics, request)
    stored = None if folder is None else load_arrays(Path(folder), key)
    table = None if stored is None else _from_arrays(stored)
    if table is None:
        # small products: threads of BLAS only get in each other's way, and might move last bits
        with threadpool_limits(1, "blas"):
            table = _build(optics, request)
        if folder is not None:
            save_arrays(Path(folder), key, _to_arrays(table))
    z_nm, left_out = table.energy_left_out[np.argmax(table.energy_left_out[:, 1])]
    judge_energy(left_out, f"z_nm={z_nm:g}", table.window_px, accepted=accept_energy_loss)
    return table


def _check_request(
    optics: Any,
    z_min_nm: float,
    z_max_nm: float,
    focus_nm: float,
    accuracy: float,
    window_px: int | str,
    max_window_px: int,
) -> None:
    check_heights(objective_of(optics), np.array([z_min_nm, z_max_nm], dtype=np.float64))
    if z_max_nm < z_min_nm:
        raise OpticsError(f"z_max_nm={z_max_nm:g} lies below z_min_nm={z_min_nm:g}: swap them")
    if not math.isfinite(focus_nm):
        raise OpticsError(f"focus_nm={focus_nm} is not finite: give a plain number")
    if not 1e-6 <= accuracy <= 0.1:
        raise OpticsError(f"accuracy={accuracy:g} lies outside [1e-6, 0.1] for tables")
    widest = max_window_px if window_px == "auto" else window_px
    if isinstance(widest, str) or widest < 7 or widest % 2 == 0 or widest > 1023:
        raise OpticsError(f"window of {widest} pixels: give an odd number from 7 to 1023, or auto")


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
            f"{what}, more than {100 * REFUSE_LEFT_OUT:g} %: raise rendering.max_window_px (or "
            "rendering.window_px), shorten the height or focus range, or accept the loss with "
            "rendering.accept_energy_loss: true"
        )
    warnings.warn(what, SimscopeWarning, stacklevel=3)


def _build(optics: Any, request: dict[str, Any]) -> SplineTable:
    """Table for a request: window first, then grids refined until the error is small enough."""
    window = request["window_px"]
    if window == "auto":
        window = automatic_window(optics, request)
    objective = objective_of(optics)
    per_pixel = max(2, samples_per_pixel(request["pixel_nm"], objective.band_limit_per_nm))
    dz_nm = _first_dz_nm(optics)
    exact = _Exact(optics, request, window)
    error, best = math.inf, math.inf
    for _ in range(MOST_REFINEMENTS):
        table = _tabulate(optics, request, window, per_pixel, dz_nm)
        before, error = error, exact.error(table)
        if error <= request["accuracy"]:
            return replace(table, error=error)
        best = min(best, error)
        if table.coefficients.shape[0] == 1 or error > 0.8 * before:
            per_pixel += 1
        else:
            dz_nm *= 0.6
    raise OpticsError(
        f"the PSF table reached an error of {best:.1e} of the peak, accuracy="
        f"{request['accuracy']:g} was asked: raise the table accuracy or use smaller pixels"
    )


def _first_dz_nm(optics: Any) -> float:
    """Height step to start from: a tenth of the period of the fastest axial interference [nm]."""
    objective = objective_of(optics)
    index = objective.n_sample
    lowest = math.sqrt(max(index**2 - objective.na**2, 0.0))
    return 0.1 * objective.wavelength_nm / (index - lowest)


def automatic_window(optics: Any, request: dict[str, Any]) -> int:
    """Smallest odd window [px] that holds 96 % of the light at every height, capped."""
    widest = request["max_window_px"]
    z_nm = np.unique(np.linspace(request["z_min_nm"], request["z_max_nm"], 9))
    model = _model(optics, request, (widest, widest), z_nm, None)
    images = model.images(z_nm, request["focus_nm"])
    offset = np.arange(widest) - widest // 2
    for window in range(9, widest, 2):
        weight = taper(offset.astype(np.float64), window)
        held = np.einsum("zyx,y,x->z", images, weight, weight)
        if held.min() >= HELD_SHARE:
            return window
    return int(widest)


def _model(
    optics: Any,
    request: dict[str, Any],
    shape: tuple[int, int],
    z_nm: FloatArray,
    per_pixel: int | None,
) -> PupilModel:
    """Pupil model ten times more exact than the table is to be; the z range may run on below 0."""
    return PupilModel(
        optics,
        shape=shape,
        pixel_nm=request["pixel_nm"],
        z_nm=(float(z_nm.min()), float(z_nm.max())),
        focus_nm=(request["focus_nm"], request["focus_nm"]),
        reach_nm=0.5 * request["pixel_nm"] if per_pixel is None else 0.0,
        accuracy=0.1 * request["accuracy"],
        per_pixel=per_pixel,
    )


def _tabulate(
    optics: Any, request: dict[str, Any], window: int, per_pixel: int, dz_nm: float
) -> SplineTable:
    """Table on one choice of grids, its error not yet measured (NaN)."""
    z_min, z_max = request["z_min_nm"], request["z_max_nm"]
    intervals = math.ceil((z_max - z_min) / dz_nm)
    step_nm = (z_max - z_min) / intervals if intervals else 1.0
    # the model continues analytically a few steps below the coverslip, where nothing is rendered
    guard = GUARD_PLANES if intervals else 0
    z_nm = z_min + step_nm * np.arange(-guard, intervals + guard + 1)
    count = per_pixel * window + 1
    samples = _model(optics, request, (count, count), z_nm, per_pixel).images(
        z_nm, request["focus_nm"]
    )
    weight = taper((np.arange(count) - 0.5 * (count - 1)) / per_pixel, window)
    samples *= weight[:, None] * weight
    inside = slice(guard, guard + intervals + 1)
    left_out = 1.0 - samples[inside].sum(axis=(1, 2)) / per_pixel**2
    peak = float(samples[inside].max())
    return SplineTable(
        coefficients=_pack(_prefilter(samples, guard), per_pixel, window, peak),
        per_pixel=per_pixel,
        window_px=window,
        pixel_nm=request["pixel_nm"],
        z0_nm=z_min,
        dz_nm=step_nm,
        z_max_nm=z_max,
        focus_nm=request["focus_nm"],
        peak=peak,
        error=math.nan,
        energy_left_out=np.stack((z_nm[inside], left_out), axis=1),
    )


def _prefilter(samples: FloatArray, guard: int) -> FloatArray:
    """B-spline coefficients of samples (z, y, x), one step beyond the ends in z if guarded."""
    padded = np.pad(samples, ((0, 0), (8, 8), (8, 8)))
    for axis in (1, 2):
        padded = scipy.ndimage.spline_filter1d(padded, order=3, axis=axis, mode="mirror")
    inner = padded[:, 8:-8, 8:-8]
    if guard == 0:
        return inner
    filtered = scipy.ndimage.spline_filter1d(inner, order=3, axis=0, mode="mirror")
    return filtered[guard - 1 : samples.shape[0] - guard + 1]


def _pack(coefficients: FloatArray, m: int, window: int, peak: float) -> NDArray[np.float32]:
    """Coefficients at shifts -window/2 to window/2 in the layout of ``kernels/splat.py``.

    The two outermost nodes on each side, whose splines would reach past the window, are dropped;
    they are tapered to next to nothing.
    """
    quantum = ROUNDING * peak
    rounded = np.round(coefficients / quantum) * quantum
    planes, count, _ = rounded.shape
    places, width = window + -(-4 // m), int(padded_window(window)) + 4
    nodes = np.zeros((planes, places * m, width * m), dtype=np.float32)
    kept = slice(2, count - 2)
    nodes[:, 3 : count - 1, 3 : count - 1] = rounded[:, kept, kept]
    phases = nodes.reshape(planes, places, m, width, m).transpose(0, 2, 4, 1, 3)
    return np.ascontiguousarray(phases)


class _Exact:
    """The exact model at fixed pseudo-random points off the table's grid, to measure errors by."""

    def __init__(self, optics: Any, request: dict[str, Any], window: int) -> None:
        draws = np.random.default_rng(20140926).random((3, CHECK_POINTS))
        self.window = window
        self.pixel_nm = request["pixel_nm"]
        self.x, self.y = (draws[:2] - 0.5) * self.pixel_nm
        self.z = request["z_min_nm"] + draws[2] * (request["z_max_nm"] - request["z_min_nm"])
        model = _model(optics, request, (window, window), self.z, None)
        images = model.images(self.z, request["focus_nm"], self.x, self.y)
        middle = np.arange(window) - window // 2
        weight_y, weight_x = (
            taper(middle - shift[:, None] / self.pixel_nm, window) for shift in (self.y, self.x)
        )
        self.images = images * weight_y[:, :, None] * weight_x[:, None, :]

    def error(self, table: SplineTable) -> float:
        """Worst difference of the rendered table from the exact model, over the table's peak."""
        middle = (self.window // 2 + 0.5) * self.pixel_nm
        rendered = table.render(
            self.x + middle, self.y + middle, self.z, np.ones(self.z.size),
            np.arange(self.z.size + 1), (self.window, self.window),
        )  # fmt: skip
        return float(np.abs(rendered - self.images).max() / table.peak)


def _to_arrays(table: SplineTable) -> dict[str, NDArray[Any]]:
    return {field.name: np.asarray(getattr(table, field.name)) for field in fields(SplineTable)}


def _from_arrays(arrays: dict[str, NDArray[Any]]) -> SplineTable | None:
    """The stored table, or None if an array is missing."""
    if {field.name for field in fields(SplineTable)} - set(arrays):
        return None
    values: dict[str, Any] = {}
    for field in fields(SplineTable):
        array = arrays[field.name]
        values[field.name] = array if array.ndim else array.item()
    return SplineTable(**values)
