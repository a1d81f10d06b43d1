"""Figures of merit as a report states them: a value, its interval, how it reads.

Intervals over frames or samples and over seeds are those of :mod:`simscope.evaluate.bootstrap`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from simscope.evaluate import Interval, seed_interval

Floats = npt.NDArray[np.float64]
Figures = dict[str, dict[str, Any]]


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
    "efficiency_lateral": Metric("lateral efficiency", "%", True, 1),
    "efficiency_3d": Metric("3-D efficiency", "%", True, 1),
    "rms_error": Metric("RMS error", "", False, 2),
    "r2": Metric("R²", "", True, 3),
}
"""Figures of merit of localisers and regressors, in the order of tables."""


def figure(value: Any, low: Any = None, high: Any = None, **more: Any) -> dict[str, Any]:
    """A figure of the report: value and ends of its 95 % interval, None where there is none."""
    ends = {"value": value, "low": low, "high": high}
    return {name: number(end) for name, end in ends.items()} | more


def of_intervals(intervals: Mapping[str, Interval]) -> Figures:
    """Figures of intervals by name."""
    return {name: figure(one.value, one.low, one.high) for name, one in intervals.items()}


def number(value: Any) -> float | int | None:
    """A plain number for JSON; None for NaN, infinity and nothing."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int | np.integer):
        return int(value)
    return float(value) if math.isfinite(value) else None


SHARES = ("jaccard", "precision", "recall")
"""Metrics that are between 0 and 1, which Student's interval does not know."""


def over_seeds(metric: str, values: Sequence[float | None]) -> dict[str, Any]:
    """Mean over seeds with Student's 95 % interval, and the values of all seeds."""
    known = [value for value in values if value is not None]
    if not known:
        return figure(None, seeds=list(values))
    interval = seed_interval(known)
    low, high = interval.low, interval.high
    if metric in SHARES:
        low, high = max(low, 0.0), min(high, 1.0)
    return figure(interval.value, low, high, seeds=list(values))


def gap(first: dict[str, Any], second: dict[str, Any]) -> dict[str, Any]:
    """Difference of two independent figures, its interval out of theirs.

    By the method of variance estimates recovery (Zou and Donner 2008, *Stat. Med.* 27:1693), which
    keeps intervals that are not symmetric as they are.
    """
    numbers = [one[end] for one in (first, second) for end in ("value", "low", "high")]
    if any(value is None for value in numbers):
        known = first["value"] is not None and second["value"] is not None
        return figure(first["value"] - second["value"] if known else None)
    a, a_low, a_high, b, b_low, b_high = numbers
    difference = a - b
    return figure(
        difference,
        difference - math.hypot(a - a_low, b_high - b),
        difference + math.hypot(a_high - a, b - b_low),
    )
