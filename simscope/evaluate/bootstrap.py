"""Confidence intervals: over frames by the bootstrap, over seeds by Student's t.

Emitters of one frame share its background, its crowding and perhaps its molecules, so whole frames
are drawn, with replacement (Efron and Tibshirani 1993, *An Introduction to the Bootstrap*,
chapters 8 and 13: percentile intervals). Molecules of a movie shine in many frames: draw whole
movies there (``frames_per_unit``). Draws come from a :class:`simscope.keys.Key`, so an interval is
the same every time. The bootstrap knows nothing of other training runs; for these repeat the
training with other seeds and ask :func:`seed_interval`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.special import stdtrit

from simscope.errors import EvaluationError
from simscope.evaluate.score import (
    AXIAL_WEIGHT_PER_NM,
    LATERAL_WEIGHT_PER_NM,
    Score,
    efficiencies,
    numbers_or_none,
)
from simscope.evaluate.tables import Floats, read_columns
from simscope.keys import Key

BOOTSTRAP = Key(0).child("bootstrap")
MOST_UNITS = 10_000
"""Beyond, neighbouring units are drawn together, so that time does not grow with the movie."""
Figures = Callable[[Floats], dict[str, Floats]]


@dataclass(frozen=True)
class Interval:
    """A figure, and limits that hold it with confidence ``level``; NaN where nothing is known."""

    value: float
    low: float
    high: float
    level: float = 0.95

    def to_dict(self) -> dict[str, float | int | None]:
        """Plain numbers for JSON, None where there is no number."""
        return numbers_or_none(vars(self))


def bootstrap(
    units: npt.ArrayLike,
    figures: Figures,
    *,
    key: Key = BOOTSTRAP,
    resamples: int = 1000,
    level: float = 0.95,
) -> dict[str, Interval]:
    """Percentile interval of every figure that follows from means over independent units.

    ``units`` is ``(units, quantities)``; ``figures`` turns means ``(..., quantities)`` into named
    arrays ``(...)``, such as an RMS error out of a mean square.

    Raises
    ------
    EvaluationError
        If there are no units, values are not finite, or ``resamples`` or ``level`` make no sense.
    """
    table = np.asarray(units, np.float64)
    if table.ndim != 2 or not len(table) or not np.all(np.isfinite(table)):
        raise EvaluationError(
            f"units of shape {table.shape} are no table of finite numbers: give (units, quantities)"
        )
    if resamples < 1:
        raise EvaluationError(f"resamples={resamples} is below 1: draw at least 1000")
    _require_level(level)
    values = figures(table.mean(axis=0))
    drawn = figures(_resampled_means(_merged(table), key, resamples))
    tail = 50 * (1 - level)
    return {
        name: Interval(float(values[name]), *_limits(drawn[name], tail), level) for name in values
    }


def _merged(table: Floats) -> Floats:
    """Sums over neighbours where units are too many to draw one by one."""
    if len(table) <= MOST_UNITS:
        return table
    first = np.arange(MOST_UNITS) * len(table) // MOST_UNITS
    sums: Floats = np.add.reduceat(table, first, axis=0)
    return sums * (MOST_UNITS / len(table))


def _resampled_means(table: Floats, key: Key, resamples: int) -> Floats:
    """Means over units drawn with replacement, ``(resamples, quantities)``."""
    count, means = len(table), np.empty((resamples, table.shape[1]))
    for number in range(resamples):
        rows = (key.uniform(np.arange(count), sample=number) * count).astype(np.int64)
        means[number] = np.bincount(rows, minlength=count) @ table / count
    return means


def _limits(drawn: Floats, tail: float) -> tuple[float, float]:
    known = drawn[~np.isnan(drawn)]
    if not len(known):
        return float("nan"), float("nan")
    low, high = np.percentile(known, (tail, 100 - tail))
    return float(low), float(high)


def score_intervals(
    found: Any,
    truth: Any,
    result: Score,
    *,
    frames_per_unit: int = 1,
    key: Key = BOOTSTRAP,
    resamples: int = 1000,
    level: float = 0.95,
) -> dict[str, Interval]:
    """Intervals of the shares, errors [nm] and efficiencies [%] of ``result``, by frames drawn.

    ``frames_per_unit`` consecutive frames, from 0, are drawn together: the frames of a movie.

    Raises
    ------
    EvaluationError
        As :func:`bootstrap`, or if there are no rows at all.
    """
    table = _tally(found, truth, result, frames_per_unit)
    with_z = result.matches.axial_nm is not None
    return bootstrap(
        table, lambda means: _figures(means, with_z), key=key, resamples=resamples, level=level
    )


def _tally(found: Any, truth: Any, result: Score, frames_per_unit: int) -> Floats:
    """Hits, extra, missed and summed squared errors of each unit of frames, ``(units, 5)``."""
    if frames_per_unit < 1:
        raise EvaluationError(f"frames_per_unit={frames_per_unit} is below 1: give whole frames")
    left, right = (
        read_columns(table, ("frame",), what)["frame"] // frames_per_unit
        for table, what in ((found, "found"), (truth, "truth"))
    )
    numbers, unit = np.unique(np.concatenate([left, right]), return_inverse=True)
    of_found, of_truth = unit[: len(left)], unit[len(left) :]
    matches = result.matches
    of_pair = of_truth[matches.truth_rows]
    axial_nm = np.zeros(len(matches)) if matches.axial_nm is None else matches.axial_nm
    count = len(numbers)
    hits = np.bincount(of_pair, minlength=count)
    found_there = np.bincount(of_found[result.counted_found], minlength=count)
    true_there = np.bincount(of_truth[result.counted_truth], minlength=count)
    squares = [np.bincount(of_pair, e**2, minlength=count) for e in (matches.lateral_nm, axial_nm)]
    return np.column_stack([hits, found_there - hits, true_there - hits, *squares])


def _figures(means: Floats, with_z: bool) -> dict[str, Floats]:
    """Shares, errors [nm] and efficiencies [%] from mean tallies ``(..., 5)``."""
    hits, extra, missed, lateral2, axial2 = np.moveaxis(means, -1, 0)
    figures = {
        "precision": _share(hits, hits + extra),
        "recall": _share(hits, hits + missed),
        "jaccard": _share(hits, hits + extra + missed),
        "f1": _share(2 * hits, 2 * hits + extra + missed),
        "rmse_lateral_nm": _root(lateral2, hits),
    }
    found, error = figures["jaccard"], figures["rmse_lateral_nm"]
    lateral = efficiencies(found, error, LATERAL_WEIGHT_PER_NM)
    figures["efficiency_lateral"] = lateral
    if with_z:
        error = figures["rmse_axial_nm"] = _root(axial2, hits)
        axial = efficiencies(found, error, AXIAL_WEIGHT_PER_NM)
        figures["efficiency_axial"] = axial
        figures["efficiency_3d"] = (lateral + axial) / 2
    return figures


def _share(part: Floats, whole: Floats) -> Floats:
    return np.divide(part, whole, out=np.ones_like(whole), where=whole > 0)


def _root(total: Floats, count: Floats) -> Floats:
    return np.sqrt(np.divide(total, count, out=np.full_like(count, np.nan), where=count > 0))


def seed_interval(values: Sequence[float] | Floats, level: float = 0.95) -> Interval:
    """Mean of a figure over independent runs, with limits by Student's t; none of a single run.

    Raises
    ------
    EvaluationError
        If there is no run, a value is not finite, or ``level`` is not in (0, 1).
    """
    runs = np.asarray(values, np.float64)
    if runs.ndim != 1 or not len(runs) or not np.all(np.isfinite(runs)):
        raise EvaluationError(f"{runs.tolist()} are no figures of runs: give finite numbers")
    _require_level(level)
    mean = float(runs.mean())
    if len(runs) == 1:
        return Interval(mean, float("nan"), float("nan"), level)
    reach = float(stdtrit(len(runs) - 1, (1 + level) / 2) * runs.std(ddof=1) / np.sqrt(len(runs)))
    return Interval(mean, mean - reach, mean + reach, level)


def _require_level(level: float) -> None:
    if not 0 < level < 1:
        raise EvaluationError(f"level={level} is not in (0, 1): give a confidence such as 0.95")
