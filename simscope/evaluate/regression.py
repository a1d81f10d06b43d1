"""How well numbers are predicted: RMS errors, bias, and the share of variance explained.

R^2 compares with the predictor that always says the mean of the truth it is judged on: 1 is
perfect, 0 no better than that, below 0 worse. Zernike coefficients are in nm RMS of orthonormal
modes, so the root of their summed squared errors is the RMS wavefront error.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from simscope.errors import EvaluationError
from simscope.evaluate.bootstrap import BOOTSTRAP, Interval, bootstrap
from simscope.evaluate.score import numbers_or_none
from simscope.evaluate.tables import Floats
from simscope.keys import Key


@dataclass(frozen=True)
class ParameterScore:
    """Errors of one parameter over ``samples``, in its unit.

    ``rmse`` is the RMS error, ``bias`` the mean error, ``drawn`` the standard deviation of the
    truth (the RMS error of its mean), ``r2`` the share of variance explained, NaN where the truth
    does not vary.
    """

    samples: int
    rmse: float
    bias: float
    drawn: float
    r2: float

    def to_dict(self) -> dict[str, float | int | None]:
        """Plain numbers for JSON, None where there is no number."""
        return numbers_or_none(vars(self))


def regression_scores(
    predicted: npt.ArrayLike, truth: npt.ArrayLike, names: Sequence[str]
) -> dict[str, ParameterScore]:
    """Score of each parameter: columns ``names`` of two tables ``(samples, parameters)``.

    Raises
    ------
    EvaluationError
        If the tables differ in shape, are empty or hold values that are not finite, or names are
        not one for each column.
    """
    said, true = _tables(predicted, truth)
    if len(set(names)) != true.shape[1] or len(names) != true.shape[1]:
        raise EvaluationError(
            f"{len(names)} names for {true.shape[1]} parameters: give a name of its own to each"
        )
    errors = said - true
    rmse, bias, drawn = np.sqrt(np.mean(errors**2, axis=0)), errors.mean(axis=0), true.std(axis=0)
    return {
        name: ParameterScore(
            len(true), float(rmse[k]), float(bias[k]), float(drawn[k]), _r2(rmse[k], drawn[k])
        )
        for k, name in enumerate(names)
    }


def wavefront_errors(predicted_nm: npt.ArrayLike, truth_nm: npt.ArrayLike) -> dict[str, float]:
    """RMS wavefront error and drawn RMS [nm] over samples, their ratio, and R^2 over all modes.

    Coefficients are ``(samples, modes)`` [nm].

    Raises
    ------
    EvaluationError
        As :func:`regression_scores`.
    """
    said, true = _tables(predicted_nm, truth_nm)
    figures = _figures(_sums(said, true).mean(axis=0))
    drawn = float(np.sqrt(np.mean(np.sum(true**2, axis=1))))
    error = float(figures["rms_error"])
    return {
        "rms_error_nm": error,
        "rms_drawn_nm": drawn,
        "relative_error": error / drawn if drawn > 0 else float("nan"),
        "r2": float(figures["r2"]),
    }


def regression_intervals(
    predicted: npt.ArrayLike,
    truth: npt.ArrayLike,
    *,
    key: Key = BOOTSTRAP,
    resamples: int = 1000,
    level: float = 0.95,
) -> dict[str, Interval]:
    """Intervals of ``rms_error`` (over all parameters) and ``r2``, by samples drawn.

    Raises
    ------
    EvaluationError
        As :func:`regression_scores` and :func:`simscope.evaluate.bootstrap`.
    """
    said, true = _tables(predicted, truth)
    return bootstrap(_sums(said, true), _figures, key=key, resamples=resamples, level=level)


def _sums(said: Floats, true: Floats) -> Floats:
    """Summed squared error, then each parameter and its square, ``(samples, 1 + 2 parameters)``.

    Values are counted from their mean, so that no digits are lost.
    """
    centred = true - true.mean(axis=0)
    return np.column_stack([np.sum((said - true) ** 2, axis=1), centred, centred**2])


def _figures(means: Floats) -> dict[str, Floats]:
    """RMS error over all parameters, and R^2 over all, of mean sums ``(..., 1 + 2 parameters)``."""
    squared, parameters = means[..., 0], (means.shape[-1] - 1) // 2
    first, second = means[..., 1 : 1 + parameters], means[..., 1 + parameters :]
    variance = np.sum(second - first**2, axis=-1)
    lost = np.divide(squared, variance, out=np.full_like(variance, np.nan), where=variance > 0)
    return {"rms_error": np.sqrt(squared), "r2": 1 - lost}


def _r2(rmse: float, drawn: float) -> float:
    return float(1 - (rmse / drawn) ** 2) if drawn > 0 else float("nan")


def _tables(predicted: npt.ArrayLike, truth: npt.ArrayLike) -> tuple[Floats, Floats]:
    """Both tables as float64 ``(samples, parameters)``, once they can be compared."""
    said, true = np.asarray(predicted, np.float64), np.asarray(truth, np.float64)
    if said.shape != true.shape or said.ndim != 2 or not said.size:
        raise EvaluationError(
            f"predicted {said.shape} and true {true.shape} values cannot be compared: give both as "
            "(samples, parameters)"
        )
    if not (np.all(np.isfinite(said)) and np.all(np.isfinite(true))):
        raise EvaluationError("values that are not finite have no error: leave these samples out")
    return said, true
