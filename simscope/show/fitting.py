"""Errors of maximum-likelihood fits over the Cramér-Rao bound, against height."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from simscope.show import style

AXES = ("x", "y", "z")


@style.styled
def fit_study_figure(study: npt.NDArray[Any], title: str = "") -> Figure:
    """RMS errors and biases of fits over the bound, with their standard errors, against height.

    ``study``: of :func:`simscope.evaluate.fit_study`. Shaded: ratios of 1 to 1.05, biases below
    5 % of the bound.
    """
    figure = style.new_figure(6.4, 3.2)
    ratio, bias = figure.subplots(1, 2)
    fits = np.maximum(study["fits"] * study["converged"], 1.0)
    for number, axis in enumerate(AXES):
        if not np.isfinite(study[f"ratio_{axis}"]).any():
            continue
        look: dict[str, Any] = {
            "color": style.SERIES[number], "marker": "o", "ms": 3, "lw": 1, "capsize": 2,
        }  # fmt: skip
        values = study[f"ratio_{axis}"]
        ratio.errorbar(study["z_nm"], values, values / np.sqrt(2 * fits), label=axis, **look)
        bias.errorbar(study["z_nm"], study[f"bias_{axis}"], 1 / np.sqrt(fits), label=axis, **look)
    _finish(ratio, (1.0, 1.05), "RMS error over bound")
    _finish(bias, (-0.05, 0.05), "mean error over bound")
    ratio.legend(ncols=3, loc="upper right")
    figure.suptitle(title, fontsize=8.5, color=style.SOFT)
    return figure


def _finish(axes: Axes, asked: tuple[float, float], name: str) -> None:
    axes.axhspan(*asked, color=style.SOFT, alpha=0.15, lw=0)
    middle, half = 0.5 * sum(asked), 0.5 * (asked[1] - asked[0])
    low, high = axes.get_ylim()
    axes.set_ylim(min(low, middle - 4 * half), max(high, middle + 4 * half))
    axes.set(xlabel="height [nm]", ylabel=name)
