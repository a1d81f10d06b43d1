"""A score as one picture: errors, what light does to them, and whether uncertainties hold."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from simscope.evaluate import (
    Calibration,
    Score,
    breakdown,
    calibration,
    has_column,
    matched_errors,
    probability_calibration,
)
from simscope.show import style

Z_EDGES = np.linspace(-5, 5, 51)
BINS = 8
AXES = {"x_nm": "x", "y_nm": "y", "z_nm": "z"}


@style.styled
def judging_figure(found: Any, truth: Any, result: Score) -> Figure:
    """Errors of matched emitters; recall and error by light or crowding; calibration if known.

    ``result`` is the score of the two tables.
    """
    calibrations = calibration(found, truth, result)
    announced = probability_calibration(found, result)
    panels = 3 + bool(calibrations) + (announced is not None)
    figure = style.new_figure(2.9 * panels, 2.7)
    axes = list(figure.subplots(1, panels))
    _draw_errors(axes[0], found, truth, result)
    _draw_breakdown(axes[1], axes[2], found, truth, result)
    if calibrations:
        _draw_z_scores(axes[3], calibrations)
    if announced is not None:
        axes[-1].plot([0, 1], [0, 1], "--", color=style.SOFT, lw=1)
        axes[-1].plot(announced.probability, announced.share, "o-", ms=3.5, color=style.SERIES[0])
        axes[-1].set(xlabel="announced probability", ylabel="share that is there")
        axes[-1].set_title(f"expected calibration error {announced.expected_error:.3f}")
    return figure


def _draw_errors(axes: Axes, found: Any, truth: Any, result: Score) -> None:
    """Histograms of the errors along each axis."""
    names = [name for name in AXES if name != "z_nm" or result.matches.axial_nm is not None]
    errors = {name: matched_errors(found, truth, result, name) for name in names}
    axes.set(xlabel="error [nm]", ylabel="matched emitters")
    axes.set_title(f"Jaccard {result.jaccard:.3f}, lateral RMSE {result.rmse_lateral_nm:.1f} nm")
    if not len(result.matches):
        return
    reach = max(float(np.percentile(np.abs(one), 99)) for one in errors.values()) or 1.0
    edges = np.linspace(-reach, reach, 61).tolist()
    for name, colour in zip(names, style.SERIES, strict=False):
        axes.hist(errors[name], edges, histtype="step", color=colour, label=AXES[name])
    axes.legend()


def _draw_breakdown(left: Axes, right: Axes, found: Any, truth: Any, result: Score) -> None:
    """Recall and lateral error by photons, or by density where photons are not known."""
    by = "photons" if has_column(truth, "photons") else "density"
    label = {"photons": "photons", "density": "true neighbours [1/µm²]"}[by]
    table = breakdown(found, truth, result, by, bins=BINS)
    middle = [(one.low + one.high) / 2 for one in table]
    if by == "photons" and all(one.low > 0 for one in table):
        middle = [math.sqrt(one.low * one.high) for one in table]
        left.set_xscale("log")
        right.set_xscale("log")
    left.plot(middle, [one.recall for one in table], "o-", ms=3.5, color=style.SERIES[0])
    left.set(xlabel=label, ylabel="recall", ylim=(0, 1.02))
    right.plot(middle, [one.rmse_lateral_nm for one in table], "o-", ms=3.5, color=style.SERIES[0])
    right.set(xlabel=label, ylabel="lateral RMSE [nm]")
    right.set_ylim(bottom=0)


def normal_density(z: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Density of z-scores that are right, of the shape of ``z``."""
    return np.asarray(np.exp(-(z**2) / 2) / np.sqrt(2 * np.pi))


def _draw_z_scores(axes: Axes, calibrations: Mapping[str, Calibration]) -> None:
    """Errors over their predicted standard deviations, beside the normal curve."""
    middle: npt.NDArray[np.float64] = (Z_EDGES[1:] + Z_EDGES[:-1]) / 2
    axes.plot(middle, normal_density(middle), "--", color=style.SOFT, lw=1, label="normal")
    for (name, one), colour in zip(calibrations.items(), style.SERIES, strict=False):
        label = f"{AXES.get(name, name)}: {one.spread:.2f}"
        axes.stairs(one.histogram(Z_EDGES), Z_EDGES, color=colour, label=label)
    axes.set(xlabel="error / predicted deviation", ylabel="density")
    axes.set_title("z-scores, RMS 1 if right")
    axes.legend()
