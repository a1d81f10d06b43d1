"""How well a table of localisations agrees with the truth, as the 2016 challenge judges it.

Sage et al. 2019, *Nat. Methods* 16:387: precision, recall, Jaccard index, root mean square errors
of the matched pairs, and the efficiency that weighs detection against localisation. Counts are
pooled over all frames.

A share of nothing counts as 1, since no mistake was made: the precision of an empty result, the
recall of an empty truth, the Jaccard index of two empty tables. Errors over no pair are NaN.

True emitters too dim to be seen count neither way, as in the challenge: they take part in the
matching, then each is dropped together with whatever was matched to it. So finding one is no
false positive, and missing one no false negative.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from simscope.errors import EvaluationError
from simscope.evaluate.matching import Matches, match
from simscope.evaluate.tables import Floats, read_columns

Mask = npt.NDArray[np.bool_]

LATERAL_WEIGHT_PER_NM = 1.0
AXIAL_WEIGHT_PER_NM = 0.5


@dataclass(frozen=True)
class Score:
    """Counts, shares and errors [nm] of one comparison; ``matches`` has the pairs that count.

    ``counted_found`` and ``counted_truth`` are bool, a row of each table: False where it counts
    neither way. How many those are say ``ignored_found`` and ``ignored_truth``.
    """

    true_positives: int
    false_positives: int
    false_negatives: int
    ignored_found: int
    ignored_truth: int
    precision: float
    recall: float
    jaccard: float
    rmse_lateral_nm: float
    rmse_axial_nm: float
    matches: Matches = field(repr=False, compare=False)
    counted_found: Mask = field(repr=False, compare=False)
    counted_truth: Mask = field(repr=False, compare=False)

    @property
    def f1(self) -> float:
        """Harmonic mean of precision and recall."""
        wrong = self.false_positives + self.false_negatives
        return share(2 * self.true_positives, 2 * self.true_positives + wrong)

    @property
    def efficiency_lateral(self) -> float:
        """Efficiency [%], 100 for a perfect result (Sage et al. 2019, Methods)."""
        return efficiency(self.jaccard, self.rmse_lateral_nm, LATERAL_WEIGHT_PER_NM)

    @property
    def efficiency_axial(self) -> float:
        """Efficiency [%] with the axial error; NaN without z."""
        return efficiency(self.jaccard, self.rmse_axial_nm, AXIAL_WEIGHT_PER_NM)

    @property
    def efficiency_3d(self) -> float:
        """Mean of lateral and axial efficiency [%]; NaN without z."""
        return (self.efficiency_lateral + self.efficiency_axial) / 2

    def to_dict(self) -> dict[str, float | int | None]:
        """Plain numbers for JSON: no pairs of rows, None where there is no number."""
        tables = ("matches", "counted_found", "counted_truth")
        numbers = {name: value for name, value in vars(self).items() if name not in tables}
        numbers |= {
            "f1": self.f1,
            "efficiency_lateral": self.efficiency_lateral,
            "efficiency_axial": self.efficiency_axial,
            "efficiency_3d": self.efficiency_3d,
        }
        return numbers_or_none(numbers)


def efficiency(jaccard: float, rmse_nm: float, weight_per_nm: float) -> float:
    """Efficiency [%]: ``100 - sqrt((100 - 100 J)^2 + (weight * rmse)^2)`` (Sage et al. 2019)."""
    return float(efficiencies(np.float64(jaccard), np.float64(rmse_nm), weight_per_nm))


def efficiencies(jaccard: Any, rmse_nm: Any, weight_per_nm: float) -> Any:
    """:func:`efficiency` [%] of arrays of Jaccard indices and RMS errors [nm]."""
    return 100.0 - np.hypot(100.0 - 100.0 * jaccard, weight_per_nm * rmse_nm)


def score(
    found: Any,
    truth: Any,
    radius_nm: float = 250.0,
    axial_radius_nm: float | None = None,
    *,
    ignore_below_photons: float | None = None,
    ignored: npt.ArrayLike | None = None,
) -> Score:
    """Agreement of ``found`` with ``truth``: shares in [0, 1], errors in nm.

    Tables (structured array, dict of arrays, data frame) have columns ``frame, x_nm, y_nm`` and
    ``z_nm`` if ``axial_radius_nm`` is given; without it z is not looked at. The lateral RMSE is
    ``sqrt(mean(dx^2 + dy^2))`` over matched pairs.

    True emitters with fewer than ``ignore_below_photons``, or where the mask ``ignored``
    ``(truth rows,)`` is True, count neither way (Sage et al. 2019).

    Raises
    ------
    EvaluationError
        As :func:`match`; if a limit is given and the truth has no photons, or is no number from 0;
        if the mask is not one truth value a row.
    """
    matches = match(found, truth, radius_nm, axial_radius_nm)
    counted_truth = ~_mask(ignored, matches.truth_count)
    if ignore_below_photons is not None:
        counted_truth &= _photons(truth, ignore_below_photons) >= ignore_below_photons
    counts = counted_truth[matches.truth_rows]
    counted_found = np.ones(matches.found_count, np.bool_)
    counted_found[matches.found_rows[~counts]] = False
    return _scored(matches.only(counts), counted_found, counted_truth)


def _scored(matches: Matches, counted_found: Mask, counted_truth: Mask) -> Score:
    hits = len(matches)
    extra, missed = int(counted_found.sum()) - hits, int(counted_truth.sum()) - hits
    return Score(
        true_positives=hits,
        false_positives=extra,
        false_negatives=missed,
        ignored_found=len(counted_found) - hits - extra,
        ignored_truth=len(counted_truth) - hits - missed,
        precision=share(hits, hits + extra),
        recall=share(hits, hits + missed),
        jaccard=share(hits, hits + extra + missed),
        rmse_lateral_nm=root_mean_square(matches.lateral_nm),
        rmse_axial_nm=math.nan if matches.axial_nm is None else root_mean_square(matches.axial_nm),
        matches=matches,
        counted_found=counted_found,
        counted_truth=counted_truth,
    )


def _photons(truth: Any, limit: float) -> Floats:
    """Photons of the truth, once the limit makes sense."""
    if not (math.isfinite(limit) and limit >= 0):
        raise EvaluationError(f"ignore_below_photons={limit} is no number from 0: give photons")
    return read_columns(truth, ("photons",), "truth")["photons"]


def _mask(ignored: npt.ArrayLike | None, rows: int) -> Mask:
    if ignored is None:
        return np.zeros(rows, np.bool_)
    mask = np.asarray(ignored)
    if mask.dtype != np.bool_ or mask.shape != (rows,):
        raise EvaluationError(
            f"ignored is {mask.dtype} of shape {mask.shape}: give {rows} booleans, one a true row"
        )
    return mask


def numbers_or_none(values: Mapping[str, float | int | None]) -> dict[str, float | int | None]:
    """The same numbers for JSON, None for NaN."""
    return {
        name: None if value is None or math.isnan(value) else value
        for name, value in values.items()
    }


def share(part: int, whole: int) -> float:
    """Share of a whole, 1 of nothing."""
    return part / whole if whole else 1.0


def root_mean_square(values: Floats) -> float:
    """Root of the mean square, in the unit of the values; NaN of none."""
    return float(np.sqrt(np.mean(values**2))) if len(values) else math.nan
