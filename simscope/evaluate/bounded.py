"""Errors measured by each emitter's own Cramér-Rao bound.

A network that sits on the bound has a ratio of 1, whether emitters are bright or dim. Below 1 it
knows something the bound does not, such as where molecules tend to be, or the radius of the match
cuts its errors off.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from simscope.acquire import Simulator
from simscope.errors import EvaluationError
from simscope.evaluate.calibration import matched_errors
from simscope.evaluate.crlb import CRLB_DTYPE, ORIENTATION, PLACE_AND_LIGHT, crlb
from simscope.evaluate.score import Score, numbers_or_none, root_mean_square
from simscope.evaluate.tables import Floats, has_column
from simscope.recipe import Recipe

MOST_BOUNDS = 5000
PARAMETERS = ("x_nm", "y_nm", "z_nm", "photons")


@dataclass(frozen=True)
class BoundedErrors:
    """``errors`` and ``bounds`` of matched emitters in one unit, each ``(pairs,)``."""

    errors: Floats = field(repr=False)
    bounds: Floats = field(repr=False)
    signed: bool = True

    @property
    def normalised(self) -> Floats:
        """Each error over its own bound, ``(pairs,)``."""
        return self.errors / self.bounds

    @property
    def ratio(self) -> float:
        """RMS error over RMS bound, the figure of merit; NaN without pairs."""
        return root_mean_square(self.errors) / root_mean_square(self.bounds)

    @property
    def rms_normalised(self) -> float:
        """RMS of the errors each over its own bound, which weighs all emitters alike."""
        return root_mean_square(self.normalised)

    @property
    def bias(self) -> float:
        """Mean error over RMS bound; NaN without pairs, and of distances."""
        known = self.signed and len(self.errors) > 0
        mean = float(np.mean(self.errors)) if known else float("nan")
        return mean / root_mean_square(self.bounds)

    def to_dict(self) -> dict[str, float | int | None]:
        """Plain numbers for JSON, None where there is no number."""
        numbers = {
            "ratio": self.ratio,
            "rms_normalised": self.rms_normalised,
            "bias": self.bias,
            "rms_bound": root_mean_square(self.bounds),
        }
        return {"pairs": len(self.errors)} | numbers_or_none(numbers)


def normalised_errors(
    found: Any, truth: Any, result: Score, bound: Any
) -> dict[str, BoundedErrors]:
    """Errors and bounds of ``x_nm, y_nm, z_nm, photons``, as far as known, and ``lateral``.

    ``bound`` has a row for each true emitter and a column for each parameter, as
    :func:`simscope.evaluate.crlb` gives. Emitters without bound (NaN, infinite) are left out.
    ``lateral`` holds distances against ``sqrt(bound_x^2 + bound_y^2)``, so it has no bias.

    Raises
    ------
    EvaluationError
        If the rows of the bound are not those of the truth, or as :func:`matched_errors`.
    """
    names = [
        name
        for name in PARAMETERS
        if has_column(found, name) and has_column(truth, name) and has_column(bound, name)
    ]
    pairs = {}
    for name in names:
        limits = _bounds_of_rows(bound, name, result)
        errors = matched_errors(found, truth, result, name)
        pairs[name] = (errors, limits)
    if "x_nm" in pairs and "y_nm" in pairs:
        columns = zip(pairs["x_nm"], pairs["y_nm"], strict=True)
        pairs["lateral"] = tuple(np.hypot(x, y) for x, y in columns)  # type: ignore[assignment]
    return {name: _bounded(*columns, signed=name != "lateral") for name, columns in pairs.items()}


def matched_bounds(
    source: Simulator | Recipe,
    truth: Any,
    result: Score,
    *,
    background_photons: npt.ArrayLike | None = None,
    most: int = MOST_BOUNDS,
) -> npt.NDArray[Any]:
    """Cramér-Rao bounds (``CRLB_DTYPE``) of matched emitters, a row for each true one.

    Rows of emitters that were not matched are NaN; of more than ``most`` matches, so many are
    taken, evenly over the table. ``source`` is what made the images, and ``background_photons``
    [photons/px] one number or one for each true emitter, the recipe's own if None.

    Raises
    ------
    EvaluationError, OpticsError
        As :func:`simscope.evaluate.crlb`.
    """
    rows = np.sort(result.matches.truth_rows)
    if len(rows) > most:
        rows = rows[np.arange(most) * len(rows) // most]
    bounds = np.full(result.matches.truth_count, np.nan, CRLB_DTYPE)
    if len(rows):
        names = [name for name in (*PLACE_AND_LIGHT, *ORIENTATION) if has_column(truth, name)]
        emitters = {name: np.asarray(truth[name])[rows] for name in names}
        level = background_photons
        if level is not None and np.ndim(level):
            level = np.asarray(level)[rows]
        bounds[rows] = crlb(source, emitters, background_photons=level)
    return bounds


def ratio_figures(means: Floats) -> dict[str, Floats]:
    """RMS error, RMS bound and their ratio ``(...)``, of means of both squared ``(..., 2)``."""
    error, bound = np.sqrt(means[..., 0]), np.sqrt(means[..., 1])
    return {"rmse": error, "bound": bound, "ratio": error / bound}


def _bounds_of_rows(bound: Any, name: str, result: Score) -> Floats:
    """The bound of each matched emitter, ``(matches,)``."""
    column = np.asarray(bound[name], np.float64)
    if column.shape != (result.matches.truth_count,):
        raise EvaluationError(
            f"bound has shape {column.shape} where {result.matches.truth_count} true emitters were "
            "scored: give one row each"
        )
    return column[result.matches.truth_rows]


def _bounded(errors: Floats, bounds: Floats, *, signed: bool) -> BoundedErrors:
    known = np.isfinite(bounds) & (bounds > 0)
    return BoundedErrors(errors[known], bounds[known], signed)
