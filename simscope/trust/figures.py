"""Figures of merit with their uncertainty: pooled sums, bootstrap over samples, spread over seeds.

Every figure here is a function of sums over frames or samples (hits, errors squared), so one
resampling of the data is one product of weights and columns (Efron and Tibshirani 1993, *An
Introduction to the Bootstrap*). Frames, not molecules, are resampled: errors within a frame share
their light. Over seeds, the interval is Student's, as three to ten values allow no other.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.special import stdtrit

from simscope.keys import Key

Floats = npt.NDArray[np.float64]
Sums = Mapping[str, Any]
Formula = Callable[[Sums], Any]
LEVEL = 0.95


class Metric(NamedTuple):
    """How a figure reads: its words, its unit, whether more is better, digits after the point."""

    words: str
    unit: str
    more_is_better: bool
    digits: int


METRICS = {
    "jaccard": Metric("Jaccard index", "", True, 3),
    "precision": Metric("precision", "", True, 3),
    "recall": Metric("recall", "", True, 3),
    "rmse_lateral_nm": Metric("lateral RMSE", "nm", False, 1),
    "rmse_axial_nm": Metric("axial RMSE", "nm", False, 1),
    "efficiency": Metric("efficiency", "%", True, 1),
    "rms_error": Metric("RMS error", "", False, 2),
    "r_squared": Metric("R²", "", True, 3),
}
"""Figures of merit of localisers and regressors, in the order of tables."""


def figure(value: Any, low: Any = None, high: Any = None, **more: Any) -> dict[str, Any]:
    """A figure of the report: value and ends of its interval, None where there is none."""
    ends = {"value": value, "low": low, "high": high}
    return {name: number(end) for name, end in ends.items()} | more


def number(value: Any) -> float | int | None:
    """A plain number for JSON; None for NaN, infinity and nothing."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int | np.integer):
        return int(value)
    return float(value) if math.isfinite(value) else None


@dataclass(frozen=True)
class Pooled:
    """Sums of every frame or sample by name, each ``(items,)``: what figures are made of."""

    columns: dict[str, Floats]

    def __len__(self) -> int:
        """Number of frames or samples."""
        return len(next(iter(self.columns.values())))

    def total(self) -> dict[str, float]:
        """Sums over all items."""
        return {name: float(column.sum()) for name, column in self.columns.items()}

    def resampled(self, draws: int, key: Key) -> dict[str, Floats]:
        """Sums over ``draws`` resamplings of the items, each ``(draws,)``."""
        count = len(self)
        chosen = np.minimum((key.uniform32((draws, count)) * count).astype(np.int64), count - 1)
        weights = np.apply_along_axis(np.bincount, 1, chosen, None, count).astype(np.float64)
        return {name: weights @ column for name, column in self.columns.items()}


def bootstrapped(
    pooled: Pooled, formulas: Mapping[str, Formula], draws: int, key: Key
) -> dict[str, dict[str, Any]]:
    """Every formula's value with its 95 % interval over resampled frames or samples."""
    total, again = pooled.total(), pooled.resampled(draws, key)
    return {name: _with_ends(formula(total), formula(again)) for name, formula in formulas.items()}


def bootstrapped_gap(
    first: Pooled, second: Pooled, formulas: Mapping[str, Formula], draws: int, key: Key
) -> dict[str, dict[str, Any]]:
    """Every formula's value on ``first`` less that on ``second``, both resampled on their own."""
    gaps = {}
    one, two = first.resampled(draws, key.child("first")), second.resampled(
        draws, key.child("second")
    )
    for name, formula in formulas.items():
        value = formula(first.total()) - formula(second.total())
        gaps[name] = _with_ends(value, formula(one) - formula(two))
    return gaps


def _with_ends(value: Any, drawn: Any) -> dict[str, Any]:
    drawn = np.asarray(drawn, np.float64)
    drawn = drawn[np.isfinite(drawn)]
    if len(drawn) < 2:
        return figure(value)
    tail = 50 * (1 - LEVEL)
    low, high = np.percentile(drawn, (tail, 100 - tail))
    return figure(value, low, high)


def over_seeds(values: Sequence[float | None]) -> dict[str, Any]:
    """Mean with Student's 95 % interval, standard deviation, and the values of all seeds."""
    known = np.array([value for value in values if value is not None], np.float64)
    if not len(known):
        return figure(None, spread=None, seeds=list(values))
    mean = float(known.mean())
    if len(known) < 2:
        return figure(mean, spread=None, seeds=list(values))
    spread = float(known.std(ddof=1))
    reach = float(stdtrit(len(known) - 1, 0.5 + LEVEL / 2)) * spread / math.sqrt(len(known))
    return figure(mean, mean - reach, mean + reach, spread=spread, seeds=list(values))


def share(part: Any, whole: Any) -> Any:
    """``part / whole``, 1 where both are nothing, as :func:`simscope.evaluate.score` has it."""
    part, whole = np.asarray(part, np.float64), np.asarray(whole, np.float64)
    return np.divide(part, whole, out=np.ones_like(part), where=whole > 0)


def root_mean(total: Any, count: Any) -> Any:
    """``sqrt(total / count)``, NaN over nothing."""
    total, count = np.asarray(total, np.float64), np.asarray(count, np.float64)
    mean = np.divide(total, count, out=np.full_like(total, np.nan), where=count > 0)
    return np.sqrt(mean)
