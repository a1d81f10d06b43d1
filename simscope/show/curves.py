"""Figures of numbers: training curves, and precision against the Cramér-Rao bound."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullFormatter

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
    recall.legend(loc="lower right")
    error.set(xlabel="photons of the emitter", ylabel="lateral RMS error [nm]")
    error.set_ylim(0, 1.15 * error.get_ylim()[1])
    for axes in (recall, error):
        _photon_axis(axes, edges)
    bound = error.plot([], [], "--", color=style.SOFT, label="Cramér-Rao bound, emitter alone")
    error.legend(handles=bound, loc="upper right")
    spread.set(xlabel="lateral error of matched pairs [nm]", ylabel="share per nm")
    return figure


JUDGEMENTS = {
    "jaccard": "Jaccard index",
    "rmse_lateral_nm": "lateral RMSE [nm]",
    "rms_error_nm": "RMS wavefront error [nm]",
}
"""What a training record may say of validation samples, and how the axis reads."""


@style.styled
def training_figure(curves: Mapping[str, Sequence[float | None]]) -> Figure:
    """Loss and validation scores over training steps; ``curves`` is that entry of ``run.json``.

    Needs ``step``, ``train_loss`` and ``validation_loss``; draws a panel for each of Jaccard,
    lateral RMSE and wavefront error that is there.
    """
    judged = [name for name in JUDGEMENTS if name in curves]
    figure = style.new_figure(3.1 * (1 + len(judged)), 2.9)
    loss, *panels = np.atleast_1d(figure.subplots(1, 1 + len(judged)))
    step = np.asarray(curves["step"], float)
    for name, label, colour in (
        ("train_loss", "training", style.SERIES[0]),
        ("validation_loss", "validation", style.SERIES[1]),
    ):
        loss.plot(step, _floats(curves[name]), "o-", ms=3, color=colour, label=label)
    drawn = np.concatenate([line.get_ydata() for line in loss.lines])
    if np.nanmin(drawn) > 0 and np.nanmax(drawn) > 10 * np.nanmin(drawn):
        loss.set_yscale("log")
    loss.set(xlabel="training step", ylabel="loss")
    loss.legend()
    for axes, name in zip(panels, judged, strict=True):
        axes.plot(step, _floats(curves[name]), "o-", ms=3, color=style.SERIES[1])
        axes.set(xlabel="training step", ylabel=JUDGEMENTS[name])
        axes.set_ylim(bottom=0)
    return figure


def _floats(values: Sequence[float | None]) -> Floats:
    return np.array([np.nan if value is None else value for value in values], np.float64)


def _photon_axis(axes: Axes, edges: Floats) -> None:
    """Logarithmic axis with plain numbers at 1, 2, 3, 5 times powers of ten."""
    axes.set_xlim(edges[0], edges[-1])
    axes.set_xscale("log")
    round_numbers = [step * 10.0**power for power in range(8) for step in (1, 2, 3, 5)]
    axes.set_xticks([tick for tick in round_numbers if edges[0] <= tick <= edges[-1]])
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    axes.xaxis.set_minor_formatter(NullFormatter())


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
    errors = [np.sqrt(squared[members].mean()) for members in bins]
    axes.plot(middle, errors, "o-", ms=3.5, color=colour)
    axes.plot(middle, [np.sqrt(bound[members].mean()) for members in bins], "--", color=colour)


def _error_histogram(axes: Axes, trial: Trial, colour: str) -> None:
    errors = trial.score.matches.lateral_nm
    if not len(errors):
        return
    edges = np.linspace(0, max(float(np.percentile(errors, 99)), 1.0), 41)
    axes.hist(errors, edges.tolist(), density=True, histtype="step", color=colour, lw=1.4)
