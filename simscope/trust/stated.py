"""Errors over the standard deviations that a network stated for them."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from simscope.evaluate import Calibration, bootstrap
from simscope.evaluate.calibration import NOMINAL
from simscope.trust.bench import Bench
from simscope.trust.figures import Floats, number, of_intervals

HISTOGRAM = np.linspace(-5, 5, 41)


def stated_errors(bench: Bench, told: Calibration, sample: npt.NDArray[np.int64]) -> dict[str, Any]:
    """Mean and RMS of errors over stated ones, their histogram, and coverage of intervals.

    ``sample`` ``(errors,)`` tells which test sample each is of. Errors of one sample are not
    independent, so whole samples are drawn for the intervals.
    """
    z_scores = told.z_scores
    _, unit = np.unique(sample, return_inverse=True)
    sums = [np.bincount(unit, z_scores**power) for power in range(3)]
    intervals = bootstrap(np.column_stack(sums), _moments, **bench.resampling)
    density = [number(value) for value in told.histogram(HISTOGRAM)]
    return {
        "count": len(z_scores),
        **of_intervals(intervals),
        "coverage": {f"{level:g}": number(told.coverage(level)) for level in NOMINAL},
        "histogram": {"edges": HISTOGRAM.tolist(), "density": density},
    }


def _moments(means: Floats) -> dict[str, Floats]:
    """Mean and RMS from mean counts, sums and sums of squares of units."""
    count, total, squares = np.moveaxis(means, -1, 0)
    return {"mean": total / count, "rms": np.sqrt(squares / count)}
