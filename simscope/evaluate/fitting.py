"""The classical yardstick: maximum-likelihood fits of single emitters with the recipe's own PSF.

Around every position a box of pixels is cut out, and (x, y, z, photons, background) are sought
that make its counts most likely. A pixel of mean m electrons is read with the camera's variance
``F m + v``: v from read noise, F = 1, or 2 behind an electron-multiplying register. Counts c
shifted and scaled so that variance and mean agree,

    (c + v/F) / F  ~  Poisson((m + v/F) / F) ,

are taken for Poisson (Huang et al. 2013, Nat. Methods 10:653, F = 1, each pixel with a read noise
of its own; for F = 2 this is Mortensen's approximation, 2010, Nat. Methods 7:377). Such a fit
uses mean and variance only, and where it converges its errors tend to the bound of
:func:`simscope.evaluate.crlb`, which knows as much. Image and slopes come from the table that
renders the recipe's images; the fit itself is :mod:`simscope.kernels.fit`.

Where it fails: several emitters in one box, backgrounds that slope across it, and few photons,
where the likelihood has peaks of noise, and errors exceed any bound (``docs/fitting.md`` says
where).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numba
import numpy as np
import numpy.typing as npt

from simscope.acquire import Simulator
from simscope.camera import adu_to_photons, excess_noise, noise_model
from simscope.camera.maps import CameraMaps
from simscope.errors import EvaluationError
from simscope.evaluate.crlb import simulator_without_draws, the_only_psf
from simscope.evaluate.information import bound_or_infinity, fisher_information
from simscope.evaluate.tables import Floats, has_column, in_frame, read_columns
from simscope.kernels import fit as kernels
from simscope.optics import SplineTable
from simscope.recipe import Recipe

FIT_DTYPE = np.dtype(
    [("frame", np.int64)]
    + [
        (name, np.float64)
        for name in (
            "x_nm", "y_nm", "z_nm", "photons", "background",
            "uncertainty_x_nm", "uncertainty_y_nm", "uncertainty_z_nm", "uncertainty_photons",
            "uncertainty_background", "log_likelihood",
        )
    ]
    + [("iterations", np.int64), ("converged", np.bool_)]
)  # fmt: skip
"""Columns of a fit: photons, background [photons/px], and standard deviations of all.

``uncertainty_*``: the Cramér-Rao bound at the estimate, for the pixels of the box, NaN where there
is none. ``log_likelihood``: less that of a model which meets every pixel, so that twice its
negative is near the box's pixels less five where the model is true. ``iterations``: images drawn.
"""

START_STEP_NM = 150.0
"""Heights to start from lie this close, or closer."""
CLIMBS = 2
MOST_IMAGES = 60
BOX_LOSS = 1.02
"""An automatic box leaves every bound of position within this factor of the whole window's."""
SMALLEST_BOX_PX = 7
BOX_HEIGHTS, BOX_PHOTONS, BOX_BACKGROUND = 17, 2000.0, 10.0
BLOCK_BYTES = 64 << 20

Map = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Chip:
    """A camera as the fit sees it: counts whose variance is their mean.

    A pixel expects ``gain * photons + rest`` of them: ``rest`` (y, x) holds dark electrons and read
    noise, of which ``shift`` (y, x) was added to the measured counts.
    """

    recipe: Recipe
    maps: CameraMaps | None
    gain: float
    rest: Map
    shift: Map

    @classmethod
    def of(cls, recipe: Recipe, maps: CameraMaps | None = None) -> Chip:
        """The chip of a recipe's camera, all pixels alike without maps."""
        shape = recipe.camera_shape
        if maps is not None and maps.shape != shape:
            raise EvaluationError(
                f"maps of {maps.shape} pixels do not fit frames of {shape}: crop the maps"
            )
        exposure_s = recipe.acquisition.exposure_ms * 1e-3
        unlit = noise_model(recipe.camera, maps, np.zeros(shape), exposure_s=exposure_s)
        excess = excess_noise(recipe.camera)
        shift = (unlit.variance_e2 / excess - unlit.mean_e) / excess
        rest = unlit.mean_e / excess + shift
        qe = float(recipe.camera.qe)  # type: ignore[arg-type]
        return cls(recipe, maps, qe / excess, rest.astype(np.float32), shift.astype(np.float32))

    def counts(self, images: npt.ArrayLike) -> Map:
        """Counts, float32 of the same shape, behind frames [ADU]."""
        photons = adu_to_photons(images, self.recipe.camera, self.maps)
        return np.asarray(np.float32(self.gain) * photons + self.shift, np.float32)


def fit(
    images: Any,
    source: Simulator | Recipe | str | Path,
    positions: Any,
    *,
    box_px: int | None = None,
    heights_nm: npt.ArrayLike | None = None,
    maps: CameraMaps | None = None,
    threads: int | None = None,
) -> npt.NDArray[Any]:
    """Likeliest place, light and background of the emitter near each position (``FIT_DTYPE``).

    ``images``: counts [ADU] (y, x), (frames, y, x), or more axes before y, which are counted
    through as frames. ``source``: the recipe; the ``Simulator`` of a dataset knows the maps of its
    chip too. ``positions``: columns ``x_nm``, ``y_nm`` on the frame and, for more than one frame,
    ``frame``; rows come back in their order.

    ``box_px``: odd side of the square that is fitted, :func:`box_of` if None, clipped at the
    frame's edge. ``heights_nm``: heights to start from, (k,) for all or (positions, k); every
    150 nm of the recipe's heights if None, of which the two likeliest are climbed from. Where all
    molecules share one height it is known, and its uncertainty NaN. ``threads``: all if None, of no
    influence on the result.

    A fit that has not ``converged``, or ended at a limit of the box or of the heights, says so;
    its numbers are no estimate. Dipoles with orientations are fitted as rotating freely.

    Raises
    ------
    EvaluationError
        If the recipe has no one spline table, draws its camera per sample, or images, positions,
        box or heights do not fit it.
    """
    simulator = source if isinstance(source, Simulator) else simulator_without_draws(source)
    own_maps = simulator.maps if isinstance(source, Simulator) else None
    table, recipe = spline_table(simulator), simulator.resolved
    chip = Chip.of(recipe, own_maps if maps is None else maps)
    frames = frames_of(images, recipe)
    where = _positions(positions, len(frames), recipe)
    box = box_of(simulator) if box_px is None else _checked_box(box_px)
    heights = _start_heights(table, heights_nm, len(where["x_nm"]))
    result = np.empty((len(where["x_nm"]), kernels.COLUMNS))
    count = _checked_threads(threads)
    for first, last, rows in _blocks(where["frame"], frames):
        counts = chip.counts(frames[first:last])
        some = {name: column[rows] for name, column in where.items()}
        some["frame"] = some["frame"] - first
        result[rows] = _fit_block(table, chip, counts, some, heights[rows], box, count)
    return _as_table(result, where["frame"], table)


def spline_table(simulator: Simulator) -> SplineTable:
    """The spline table that renders a simulator's images; EvaluationError if there is none."""
    table = the_only_psf(simulator)
    if not isinstance(table, SplineTable):
        raise EvaluationError(
            f"recipe {simulator.recipe.name!r} renders Gaussian spots without a table: fits need "
            "optics.model 'vectorial' or 'gibson_lanni'"
        )
    return table


def box_of(source: Simulator | Recipe | str | Path) -> int:
    """Side [px] of the smallest odd box that tells nearly all the PSF's window tells of position.

    Bounds of x, y, z within ``BOX_LOSS`` of the window's at heights across the table, for
    ``BOX_PHOTONS`` photons on ``BOX_BACKGROUND`` per pixel.
    """
    simulator = source if isinstance(source, Simulator) else simulator_without_draws(source)
    table, recipe = spline_table(simulator), simulator.resolved
    z = np.linspace(table.z0_nm, table.z_max_nm, 1 if _one_height(table) else BOX_HEIGHTS)
    middle = np.full(z.size, 0.5 * table.pixel_nm)
    psf, dx, dy, dz = table.derivatives(middle, middle, z)
    derivatives = np.stack(
        [BOX_PHOTONS * d for d in ((dx, dy) if _one_height(table) else (dx, dy, dz))]
        + [psf, np.ones_like(psf)],
        axis=1,
    )
    mean = np.maximum(BOX_PHOTONS * psf + BOX_BACKGROUND, 0.0)
    noise = noise_model(recipe.camera, None, mean, exposure_s=recipe.acquisition.exposure_ms * 1e-3)

    def bounds(box: int) -> Floats:
        inner = slice((table.window_px - box) // 2, (table.window_px + box) // 2)
        some = derivatives[..., inner, inner].reshape(*derivatives.shape[:2], -1)
        variance = noise.variance_e2[:, inner, inner].reshape(len(z), -1)
        return bound_or_infinity(fisher_information(some, variance))[:, :-2]

    whole = bounds(table.window_px)
    sides = range(min(SMALLEST_BOX_PX, table.window_px), table.window_px, 2)
    return next((box for box in sides if np.all(bounds(box) <= BOX_LOSS * whole)), table.window_px)


def _one_height(table: SplineTable) -> bool:
    return table.z_max_nm == table.z0_nm


def frames_of(images: Any, recipe: Recipe) -> npt.NDArray[Any]:
    """Images as (frames, y, x); EvaluationError unless they are frames of the recipe."""
    frames = np.asarray(images)
    if (
        frames.ndim < 2
        or frames.shape[-2:] != recipe.camera_shape
        or frames.dtype.kind not in "uif"
    ):
        raise EvaluationError(
            f"images of shape {frames.shape} and type {frames.dtype} are no frames of "
            f"{recipe.camera_shape} pixels: give counts (frames, y, x), or set acquisition.shape"
        )
    return frames.reshape(-1, *frames.shape[-2:])


def _positions(table: Any, frames: int, recipe: Recipe) -> dict[str, npt.NDArray[Any]]:
    """Columns x_nm, y_nm, frame (int64) of positions that lie on these frames."""
    numbered = frames > 1 or has_column(table, "frame")
    names = ("x_nm", "y_nm", "frame") if numbered else ("x_nm", "y_nm")
    columns: dict[str, npt.NDArray[Any]] = dict(read_columns(table, names, "positions"))
    columns["frame"] = columns.get("frame", np.zeros(len(columns["x_nm"]))).astype(np.int64)
    beyond = (columns["frame"] < 0) | (columns["frame"] >= frames)
    if beyond.any():
        raise EvaluationError(
            f"positions: frame={columns['frame'][beyond][0]} is not one of the {frames} frames: "
            "number the frames of the images from 0"
        )
    outside = ~in_frame(columns, recipe.camera_shape, recipe.pixel_nm)
    if outside.any():
        raise EvaluationError(
            f"positions: {outside.sum()} lie off the frame, the first in row "
            f"{int(np.argmax(outside))}: leave them out with in_frame"
        )
    return columns


def _checked_box(box_px: int) -> int:
    whole = isinstance(box_px, int | np.integer) and not isinstance(box_px, bool)
    if not whole or box_px < 3 or box_px % 2 == 0:
        raise EvaluationError(f"box_px={box_px!r} is not an odd whole number from 3 up: try 13")
    return int(box_px)


def _checked_threads(threads: int | None) -> int:
    most = int(numba.get_num_threads())
    if threads is None:
        return most
    if isinstance(threads, bool) or not isinstance(threads, int) or not 1 <= threads <= most:
        raise EvaluationError(f"threads={threads!r} is no whole number from 1 to {most}")
    return threads


def start_heights_nm(table: SplineTable) -> Floats:
    """Heights [nm] to start from where none are given, (k,): middles of equal shares."""
    count = 1 + math.ceil((table.z_max_nm - table.z0_nm) / START_STEP_NM)
    edges = np.linspace(table.z0_nm, table.z_max_nm, count + 1)
    return np.asarray(0.5 * (edges[1:] + edges[:-1]))


def _start_heights(table: SplineTable, given: npt.ArrayLike | None, rows: int) -> Floats:
    """Heights to start from in steps of the table, (rows, k)."""
    spread = given is None or _one_height(table)
    heights = start_heights_nm(table) if spread else np.asarray(given, np.float64)
    if heights.ndim not in (1, 2) or (heights.ndim == 2 and len(heights) != rows):
        raise EvaluationError(
            f"heights_nm of shape {heights.shape} fit no {rows} positions: give (k,), or "
            "(positions, k)"
        )
    if heights.shape[-1] == 0 or not np.all((heights >= table.z0_nm) & (heights <= table.z_max_nm)):
        raise EvaluationError(
            f"heights_nm must hold at least one height, all within [{table.z0_nm:g}, "
            f"{table.z_max_nm:g}], those of the recipe"
        )
    steps = (np.sort(heights, axis=-1) - table.z0_nm) / table.dz_nm
    return np.broadcast_to(steps, (rows, steps.shape[-1]))


def _blocks(
    frame: npt.NDArray[np.int64], frames: npt.NDArray[Any]
) -> Iterator[tuple[int, int, npt.NDArray[np.int64]]]:
    """First frame, the one after the last, and rows in them, for blocks of bounded memory."""
    each = max(1, BLOCK_BYTES // (4 * math.prod(frames.shape[1:])))
    order = np.argsort(frame, kind="stable")
    for first in range(0, len(frames), each):
        last = min(first + each, len(frames))
        begin, end = np.searchsorted(frame[order], (first, last))
        if begin < end:
            yield first, last, order[begin:end]


def _fit_block(
    table: SplineTable,
    chip: Chip,
    counts: Map,
    where: dict[str, npt.NDArray[Any]],
    heights: Floats,
    box: int,
    threads: int,
) -> Floats:
    """Rows of :func:`simscope.kernels.fit.fit` for positions in a block of frames."""
    x, y = where["x_nm"] / table.pixel_nm, where["y_nm"] / table.pixel_nm
    height, width = counts.shape[1:]
    top, left = (np.floor(place).astype(np.int64) - box // 2 for place in (y, x))
    boxes = np.stack(
        (
            np.maximum(top, 0), np.minimum(top + box, height),
            np.maximum(left, 0), np.minimum(left + box, width),
        ), axis=1,
    )  # fmt: skip
    mixture = table.mixture(where["x_nm"], where["y_nm"])
    rows = np.empty((x.size, kernels.COLUMNS))
    kernels.fit(
        table.in_lanes, table.per_pixel, table.window_px, np.ascontiguousarray(mixture.images),
        np.ascontiguousarray(mixture.weights, dtype=np.float32), counts, chip.rest, chip.gain,
        np.ascontiguousarray(where["frame"]), boxes, np.stack((x, y), axis=1),
        np.ascontiguousarray(heights), (table.z_max_nm - table.z0_nm) / table.dz_nm, CLIMBS,
        MOST_IMAGES, rows, threads,
    )  # fmt: skip
    return rows


def _as_table(result: Floats, frame: npt.NDArray[np.int64], table: SplineTable) -> npt.NDArray[Any]:
    """The kernel's rows with names and units."""
    found = np.empty(len(result), FIT_DTYPE)
    found["frame"] = frame
    units = (table.pixel_nm, table.pixel_nm, table.dz_nm, 1.0, 1.0)
    for k, (name, unit) in enumerate(zip(FIT_DTYPE.names[1:6], units, strict=True)):  # type: ignore[index]
        found[name] = unit * result[:, k]
        found[f"uncertainty_{name}"] = unit * result[:, kernels.PARAMETERS + k]
    found["z_nm"] += table.z0_nm
    if _one_height(table):
        found["uncertainty_z_nm"] = np.nan
    found["log_likelihood"] = result[:, -3]
    found["iterations"] = result[:, -2].astype(np.int64)
    found["converged"] = result[:, -1] > 0
    return found
