"""Whether predicted uncertainties and probabilities can be believed.

A predicted standard deviation s is right if the z-score, error / s, is standard normal: as wide as
1 and centred on 0, and inside the central interval of probability p in a share p of all cases.
A probability is right if, of all emitters announced with probability p, a share p is there: the
reliability diagram, and its mean distance from the diagonal weighted by counts, the expected
calibration error (Naeini et al. 2015, AAAI; Guo et al. 2017, ICML).

Errors are known of matched emitters alone, and none of them exceeds the radius of the match. Where
the radius is not several times the uncertainty, z-scores look narrower than they are.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.special import ndtri

from simscope.errors import EvaluationError
from simscope.evaluate.score import Score
from simscope.evaluate.tables import Floats, has_column, read_columns

NOMINAL = (0.5, 0.68, 0.9, 0.95)
LEVELS = tuple(k / 20 for k in range(1, 20))
"""Probabilities over which the expected calibration error of a standard deviation is averaged."""
UNCERTAINTIES: Mapping[str, tuple[str, ...]] = {
    "x_nm": ("uncertainty_x_nm", "uncertainty_nm"),
    "y_nm": ("uncertainty_y_nm", "uncertainty_nm"),
    "z_nm": ("uncertainty_z_nm",),
    "photons": ("uncertainty_photons",),
}
"""Columns that may hold the predicted standard deviation of each, the first that is there."""


@dataclass(frozen=True)
class Calibration:
    """Errors over their predicted standard deviations, ``z_scores`` ``(errors,)``.

    ``places`` ``(errors,)`` are where they stood among the errors, or matches, that were given;
    ``left_out`` of those had no prediction, or none that is a number above 0.
    """

    z_scores: Floats = field(repr=False)
    places: npt.NDArray[np.int64] = field(repr=False)
    left_out: int = 0

    @property
    def mean(self) -> float:
        """Mean z-score, 0 without bias; NaN of nothing."""
        return float(np.mean(self.z_scores)) if len(self.z_scores) else float("nan")

    @property
    def spread(self) -> float:
        """RMS z-score: 1 if right, above where predictions are too sure; NaN of nothing."""
        return float(np.sqrt(np.mean(self.z_scores**2))) if len(self.z_scores) else float("nan")

    def coverage(self, nominal: float) -> float:
        """Share of errors inside the central interval of probability ``nominal``.

        Raises
        ------
        EvaluationError
            If ``nominal`` is not between 0 and 1.
        """
        if not 0 < nominal < 1:
            raise EvaluationError(f"nominal={nominal} is not in (0, 1): give a probability")
        if not len(self.z_scores):
            return float("nan")
        return float(np.mean(np.abs(self.z_scores) <= ndtri((1 + nominal) / 2)))

    @property
    def expected_error(self) -> float:
        """Mean distance of the coverage from 5, 10, ... 95 %, itself a share; 0 if right."""
        return float(np.mean([abs(self.coverage(level) - level) for level in LEVELS]))

    def histogram(self, edges: npt.ArrayLike) -> Floats:
        """Density of z-scores between ``edges`` ``(bins + 1,)``, to lay over a normal curve.

        Those beyond the edges count in the whole, so the area may be below 1.
        """
        edges = np.asarray(edges, np.float64)
        counts = np.histogram(self.z_scores, edges)[0]
        density: Floats = counts / (np.diff(edges) * max(len(self.z_scores), 1))
        return density

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers for JSON, None where there is no number."""
        numbers: dict[str, Any] = {
            "pairs": len(self.z_scores),
            "left_out": self.left_out,
            "mean": _number(self.mean),
            "spread": _number(self.spread),
            "expected_error": _number(self.expected_error),
        }
        return numbers | {"coverage": {f"{p:g}": _number(self.coverage(p)) for p in NOMINAL}}


def calibrated(errors: npt.ArrayLike, uncertainties: npt.ArrayLike) -> Calibration:
    """Calibration of errors with their predicted standard deviations, both ``(n,)`` in one unit.

    Raises
    ------
    EvaluationError
        If the lengths differ, a value is not finite, or an uncertainty not above 0.
    """
    columns = {"errors": errors, "uncertainties": uncertainties}
    numbers = read_columns(columns, tuple(columns), "calibration")
    spread = numbers["uncertainties"]
    if np.any(spread <= 0):
        raise EvaluationError(
            f"an uncertainty of {spread.min():g} is not above 0: leave out what is not predicted"
        )
    return Calibration(numbers["errors"] / spread, np.arange(len(spread)))


def calibration(found: Any, truth: Any, result: Score) -> dict[str, Calibration]:
    """Calibration of each of ``x_nm, y_nm, z_nm, photons`` that ``found`` has uncertainties for.

    ``result`` is the score of the two tables. An uncertainty that is NaN all over is none; pairs
    where it is no number above 0 are left out and counted.

    Raises
    ------
    EvaluationError
        As :func:`matched_errors`.
    """
    calibrations = {}
    for name, candidates in UNCERTAINTIES.items():
        spread = next((column for column in candidates if has_column(found, column)), None)
        if spread is None or not (has_column(found, name) and has_column(truth, name)):
            continue
        errors = matched_errors(found, truth, result, name)
        said = np.asarray(found[spread], np.float64)[result.matches.found_rows]
        usable = np.isfinite(said) & (said > 0)
        calibrations[name] = replace(
            calibrated(errors[usable], said[usable]),
            places=np.flatnonzero(usable),
            left_out=int((~usable).sum()),
        )
    return calibrations


def matched_errors(found: Any, truth: Any, result: Score, name: str) -> Floats:
    """Found minus true values of column ``name`` for each match, ``(matches,)`` in its unit.

    Raises
    ------
    EvaluationError
        If a table lacks the column or is not the one that was scored.
    """
    matches = result.matches
    left, right = (
        read_columns(table, (name,), what)[name]
        for table, what in ((found, "found"), (truth, "truth"))
    )
    if (len(left), len(right)) != (matches.found_count, matches.truth_count):
        raise EvaluationError(
            f"tables of {len(left)} and {len(right)} rows were not scored, those had "
            f"{matches.found_count} and {matches.truth_count}: give the tables of the score"
        )
    return left[matches.found_rows] - right[matches.truth_rows]


def mean_errors(found: Any, truth: Any, result: Score) -> dict[str, float | None]:
    """Mean of found minus true ``x``, ``y`` and, where matched by it, ``z`` [nm]; None of nothing.

    Far from 0 where conventions differ: half a pixel laterally, the sign or focus axially.
    """
    names = ["x_nm", "y_nm"] + (["z_nm"] if result.matches.axial_nm is not None else [])
    return {
        f"bias_{name}": _number(float(np.mean(errors))) if len(errors) else None
        for name in names
        for errors in [matched_errors(found, truth, result, name)]
    }


@dataclass(frozen=True)
class Reliability:
    """Announced probabilities against what came true, in bins; all arrays ``(bins,)``.

    ``probability`` and ``share`` are the mean announced and the share that came true, NaN in empty
    bins; ``edges`` ``(bins + 1,)``.
    """

    edges: Floats
    count: npt.NDArray[np.int64]
    probability: Floats
    share: Floats

    @property
    def expected_error(self) -> float:
        """Expected calibration error: mean distance of the two, weighted by counts; NaN of none."""
        if not self.count.any():
            return float("nan")
        distance = np.abs(self.probability - self.share)
        return float(np.nansum(self.count * distance) / self.count.sum())

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers for JSON, None where there is no number."""
        return {
            "expected_error": _number(self.expected_error),
            "edges": self.edges.tolist(),
            "count": self.count.tolist(),
            "probability": [_number(value) for value in self.probability],
            "share": [_number(value) for value in self.share],
        }


def reliability(
    probability: npt.ArrayLike, came_true: npt.ArrayLike, bins: int = 10
) -> Reliability:
    """Reliability of announced probabilities ``(n,)`` given what came true, bool ``(n,)``.

    Raises
    ------
    EvaluationError
        If lengths differ, a probability is not in [0, 1], or there is no bin.
    """
    columns = read_columns(
        {"probability": probability, "came_true": came_true},
        ("probability", "came_true"), "reliability",
    )  # fmt: skip
    announced, right = columns["probability"], columns["came_true"]
    outside = (announced < 0) | (announced > 1)
    if outside.any():
        raise EvaluationError(f"probability={announced[outside][0]:g} is not in [0, 1]: correct it")
    if bins < 1:
        raise EvaluationError(f"bins={bins} is below 1: give the number of bins")
    member = np.minimum((announced * bins).astype(np.int64), bins - 1)
    count = np.bincount(member, minlength=bins)
    means = []
    for values in (announced, right):
        total = np.bincount(member, values, minlength=bins)
        means.append(np.divide(total, count, out=np.full(bins, np.nan), where=count > 0))
    return Reliability(np.linspace(0, 1, bins + 1), count, *means)


def probability_calibration(found: Any, result: Score, bins: int = 10) -> Reliability | None:
    """Reliability of the ``probability`` of what was found; None if the table announces none.

    Emitters that count neither way are left out, and what was below the threshold is not known.

    Raises
    ------
    EvaluationError
        As :func:`reliability`.
    """
    if not has_column(found, "probability"):
        return None
    announced = read_columns(found, ("probability",), "found")["probability"]
    right = np.zeros(len(announced), np.bool_)
    right[result.matches.found_rows] = True
    counted = result.counted_found
    return reliability(announced[counted], right[counted], bins)


def _number(value: float) -> float | None:
    return None if np.isnan(value) else float(value)
