"""Figures of numbers: training curves, and precision against the Cramér-Rao bound."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from simscope.evaluate import Score
from simscope.show import style

Floats = npt.NDArray[np.float64]
MIN_PER_BIN = 30


@dataclass(frozen=True)
class Trial:
    """One held-out test: what was found, the truth, its score and the bound on its errors.

    ``bound_nm`` is the smallest lateral standard deviation ``sqrt(var_x + var_y)`` of each true
    emitter, ``(emitters,)`` [nm].
    """

    name: str
    truth: npt.NDArray[Any]
    score: Score
    bound_nm: Floats


@style.styled
def precision_figure(trials: Sequence[Trial]) -> Figure:
    """Three panels over photons: share found, RMS error beside the bound, and error histogram."""
    figure = style.new_figure(9.2, 3.0)
    recall, error, spread = figure.subplots(1, 3)
    edges = _photon_edges(np.concatenate([trial.truth["photons"] for trial in trials]))
    for trial, colour in zip(trials, style.SERIES, strict=False):
        _recall_curve(recall, trial, edges, colour)
        _error_curve(error, trial, edges, colour)
        _error_histogram(spread, trial, colour)
    recall.set(xlabel="photons of the emitter", ylabel="share found", ylim=(0, 1.03))
    recall.set_xscale("log")
    recall.legend(loc="lower right")
    error.set(xlabel="photons of the emitter", ylabel="lateral RMS error [nm]")
    error.set_xscale("log")
    error.set_ylim(bottom=0)
    error.plot([], [], "--", color=style.SOFT, label="Cramér-Rao bound, emitter alone")
    error.legend(loc="upper right")
    spread.set(xlabel="lateral error of matched pairs [nm]", ylabel="share per nm")
    return figure


@style.styled
def training_figure(curves: Mapping[str, Sequence[float]], *, title: str = "") -> Figure:
    """Loss over training steps: ``step`` and ``loss``, ``validation_step`` and ``validation_loss``.

    A validation curve is drawn if both its lists are given.
    """
    figure = style.new_figure(6.2, 3.0)
    axes = figure.subplots()
    step, loss = np.asarray(curves["step"], float), np.asarray(curves["loss"], float)
    axes.plot(step, loss, color=style.SERIES[0], alpha=0.25, lw=0.8)
    axes.plot(*_smooth(step, loss), color=style.SERIES[0], label="training")
    if len(curves.get("validation_step", ())):
        axes.plot(
            curves["validation_step"], curves["validation_loss"], "o-",
            color=style.SERIES[1], ms=3.5, lw=1.2, label="validation",
        )  # fmt: skip
    if np.all(loss > 0):
        axes.set_yscale("log")
    axes.set(xlabel="training step", ylabel="loss", title=title)
    axes.legend()
    return figure


def _smooth(step: Floats, loss: Floats) -> tuple[Floats, Floats]:
    """Running mean over about a fortieth of the curve."""
    width = max(1, len(loss) // 40)
    kernel = np.full(width, 1.0 / width)
    middle = np.convolve(step, kernel, mode="valid")
    return middle, np.convolve(loss, kernel, mode="valid")


def _photon_edges(photons: Floats) -> Floats:
    low, high = np.percentile(photons[photons > 0], (2, 98))
    return np.geomspace(low, max(high, 1.01 * low), 11)


def _bins(photons: Floats, edges: Floats) -> list[npt.NDArray[np.intp]]:
    member = np.digitize(photons, edges) - 1
    return [np.flatnonzero(member == number) for number in range(len(edges) - 1)]


def _recall_curve(axes: Axes, trial: Trial, edges: Floats, colour: str) -> None:
    photons = np.asarray(trial.truth["photons"], np.float64)
    found = np.zeros(len(photons))
    found[trial.score.matches.truth_rows] = 1.0
    bins = [rows for rows in _bins(photons, edges) if len(rows) >= MIN_PER_BIN]
    middle = [np.exp(np.mean(np.log(photons[rows]))) for rows in bins]
    share = [found[rows].mean() for rows in bins]
    axes.plot(middle, share, "o-", ms=3.5, color=colour, label=trial.name)


def _error_curve(axes: Axes, trial: Trial, edges: Floats, colour: str) -> None:
    rows = trial.score.matches.truth_rows
    photons = np.asarray(trial.truth["photons"], np.float64)[rows]
    squared = trial.score.matches.lateral_nm**2
    bound = trial.bound_nm[rows] ** 2
    bins = [members for members in _bins(photons, edges) if len(members) >= MIN_PER_BIN]
    middle = [np.exp(np.mean(np.log(photons[members]))) for members in bins]
    axes.plot(
        middle, [np.sqrt(squared[members].mean()) for members in bins], "o-",
        ms=3.5, color=colour, label=trial.name,
    )  # fmt: skip
    axes.plot(middle, [np.sqrt(bound[members].mean()) for members in bins], "--", color=colour)


def _error_histogram(axes: Axes, trial: Trial, colour: str) -> None:
    errors = trial.score.matches.lateral_nm
    if not len(errors):
        return
    edges = np.linspace(0, max(float(np.percentile(errors, 99)), 1.0), 41)
    axes.hist(errors, edges.tolist(), density=True, histtype="step", color=colour, lw=1.4)
