"""From frames to fitted emitters: candidates by matched filters, then one fit for each.

Frames are correlated with the recipe's own PSF at heights across its range, each image less its
mean, so that a flat background says nothing. Where noise alone is seen, the correlation over its
standard deviation is a unit normal variate; local maxima well above are candidates, with the height
that answered best. This finds any PSF, also one without a bright middle, and it serves isolated
emitters: candidates closer together than ``separation_nm`` are taken for one, and a fit knows
nothing of a neighbour in its box.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from simscope.acquire import Simulator
from simscope.errors import EvaluationError
from simscope.evaluate.crlb import simulator_without_draws
from simscope.evaluate.fitting import Chip, box_of, fit, frames_of, spline_table, start_heights_nm
from simscope.evaluate.tables import Floats, places_apart
from simscope.optics import SplineTable
from simscope.recipe import Recipe

CANDIDATE_DTYPE = np.dtype(
    [("frame", np.int64)] + [(name, np.float64) for name in ("x_nm", "y_nm", "z_nm", "contrast")]
)
"""``contrast``: correlation with the PSF in standard deviations of its noise."""
THRESHOLD = 7.0
SAME_NM = 100.0
"""Fits closer together than this are one emitter, found from two candidates."""


def fit_frames(
    images: Any,
    source: Simulator | Recipe | str | Path,
    *,
    threshold: float = THRESHOLD,
    separation_nm: float | None = None,
    box_px: int | None = None,
    threads: int | None = None,
) -> npt.NDArray[Any]:
    """Emitters found and fitted in frames (``FIT_DTYPE``), sorted by frame: converged fits alone.

    ``images``, ``source``, ``box_px`` and ``threads`` as in :func:`fit`; ``threshold`` and
    ``separation_nm`` as in :func:`candidates`. Of fits that ended within ``SAME_NM`` of each other
    the likelier stays.

    Raises
    ------
    EvaluationError
        As :func:`fit` and :func:`candidates`.
    """
    simulator = source if isinstance(source, Simulator) else simulator_without_draws(source)
    table = spline_table(simulator)
    places = candidates(images, source, threshold=threshold, separation_nm=separation_nm)
    step = np.diff(start_heights_nm(table)[:2]).sum()
    around = places["z_nm"][:, None] + step * np.array([-1.0, 0.0, 1.0])
    heights = np.clip(around, table.z0_nm, table.z_max_nm)
    found = fit(images, source, places, box_px=box_px, heights_nm=heights, threads=threads)
    found = found[found["converged"]]
    return found[_one_each(found)]


def candidates(
    images: Any,
    source: Simulator | Recipe | str | Path,
    *,
    threshold: float = THRESHOLD,
    separation_nm: float | None = None,
) -> npt.NDArray[Any]:
    """Places that look like the PSF (``CANDIDATE_DTYPE``), sorted by frame.

    ``threshold``: least contrast; noise reaches 7 once in 10^11 pixels. ``separation_nm``: of two
    candidates closer than this along x and y the weaker is left out, a quarter of the box of
    :func:`box_of` and at least two pixels if None. The noise of a frame is that of its median.

    Raises
    ------
    EvaluationError
        If the recipe has no one spline table, images are no frames of it, or a number is not
        above 0.
    """
    if not (threshold > 0 and (separation_nm is None or separation_nm > 0)):
        raise EvaluationError(
            f"threshold={threshold}, separation_nm={separation_nm}: give numbers above 0"
        )
    simulator = source if isinstance(source, Simulator) else simulator_without_draws(source)
    table, box = spline_table(simulator), box_of(simulator)
    own_maps = simulator.maps if isinstance(source, Simulator) else None
    chip = Chip.of(simulator.resolved, own_maps)
    reach = box // 4 if separation_nm is None else math.ceil(separation_nm / table.pixel_nm)
    heights, templates = start_heights_nm(table), _templates(table, box)
    found = [np.zeros(0, CANDIDATE_DTYPE)]
    for number, frame in enumerate(frames_of(images, simulator.resolved)):
        contrast, height = _contrast(chip.counts(frame[None])[0], templates)
        some = _maxima(contrast, max(reach, 2), threshold, table.pixel_nm)
        rows, columns = ((some[name] / table.pixel_nm).astype(int) for name in ("y_nm", "x_nm"))
        some["frame"], some["z_nm"] = number, heights[height[rows, columns]]
        found.append(some)
    return np.concatenate(found)


def _templates(table: SplineTable, box: int) -> Floats:
    """Images at all heights to start from, less their mean and of norm 1, (heights, box, box)."""
    z = start_heights_nm(table)
    middle = np.full(z.size, 0.5 * table.pixel_nm)
    psf = table.derivatives(middle, middle, z, box)[0]
    lifted = psf - psf.mean(axis=(1, 2), keepdims=True)
    return np.asarray(lifted / np.linalg.norm(lifted, axis=(1, 2), keepdims=True))


def _contrast(counts: npt.NDArray[Any], templates: Floats) -> tuple[Floats, npt.NDArray[np.intp]]:
    """Best correlation over its noise at every pixel, and the number of its template.

    Counts have their mean for variance; beyond the frame lies the median.
    """
    from scipy.signal import fftconvolve  # slow to import

    level = float(np.median(counts))
    lifted = (counts - level) / math.sqrt(max(level, 1e-6))
    best, number = np.full(counts.shape, -np.inf), np.zeros(counts.shape, np.intp)
    for k, template in enumerate(templates):
        answer = fftconvolve(lifted, template[::-1, ::-1], mode="full")
        edge = len(template) // 2
        answer = answer[edge : edge + counts.shape[0], edge : edge + counts.shape[1]]
        number[answer > best] = k
        np.maximum(best, answer, out=best)
    return best, number


def _maxima(contrast: Floats, reach: int, threshold: float, pixel_nm: float) -> npt.NDArray[Any]:
    """Centres of pixels above all others within ``reach`` along x and y."""
    from scipy.ndimage import maximum_filter  # slow to import

    highest = maximum_filter(contrast, 2 * reach + 1, mode="nearest")
    row, column = np.nonzero((contrast == highest) & (contrast > threshold))
    some = np.zeros(len(row), CANDIDATE_DTYPE)
    some["y_nm"], some["x_nm"] = (row + 0.5) * pixel_nm, (column + 0.5) * pixel_nm
    some["contrast"] = contrast[row, column]
    return some


def _one_each(found: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
    """Rows without a likelier one of the same frame within ``SAME_NM``."""
    from scipy.spatial import cKDTree  # slow to import

    kept = np.ones(len(found), np.bool_)
    if len(found) > 1:
        (places,) = places_apart((found,), SAME_NM)
        for a, b in sorted(cKDTree(places).query_pairs(SAME_NM)):
            likelier = found["log_likelihood"][a] >= found["log_likelihood"][b]
            kept[b if likelier else a] = False
    return kept
