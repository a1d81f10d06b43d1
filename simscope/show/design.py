"""A designed mask in one picture: its phase, how the bound fell, and the bound it ends at."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from simscope.optics import pupil_phase
from simscope.recipe import Optics
from simscope.show import style
from simscope.show.crlb import AXES, BoundCurve, plain_logarithmic


@style.styled
def design_figure(
    optics: Optics,
    curve: Sequence[float],
    bound: BoundCurve,
    before: BoundCurve | None = None,
    *,
    what: str = "mean bound [nm]",
) -> Figure:
    """Phase of the pupil, ``curve`` of ``what`` was made small, and bounds of x, y, z by height.

    ``before``: bounds of another mask, dotted.
    """
    figure = style.new_figure(9.4, 3.1)
    left, middle, right = figure.subplots(1, 3, gridspec_kw={"width_ratios": (1.0, 1.1, 1.5)})
    _pupil(left, optics)
    middle.plot(np.arange(1, len(curve) + 1), curve, color=style.SERIES[0])
    middle.set(xlabel="steps", ylabel=what)
    if min(curve) > 0:
        plain_logarithmic(middle)
    for axis, colour in zip(AXES, style.SERIES, strict=False):
        for given, dashes in ((bound, "-"), (before, ":")):
            if given is None:
                continue
            values: Any = given.bounds[f"{axis}_nm"]
            shown = np.where(np.isfinite(values), values, np.nan)
            label = f"$\\sigma_{axis}$" if given is bound else None
            right.plot(given.place_nm, shown, dashes, color=colour, label=label)
    right.set(xlabel=f"{bound.label} [nm]", ylabel="smallest standard deviation [nm]")
    plain_logarithmic(right)
    title = "solid: this mask" + ("" if before is None else ", dotted: the recipe's own")
    right.set_title(title)
    right.legend(ncols=3)
    figure.suptitle(bound.note, fontsize=8.5, color=style.SOFT)
    return figure


def _pupil(axes: Axes, optics: Optics) -> None:
    """Phase of the pupil [rad], a turn from -pi to pi."""
    phase, na = pupil_phase(optics)
    image = axes.imshow(
        phase, cmap=style.CYCLIC, vmin=-np.pi, vmax=np.pi, extent=(-na, na, na, -na)
    )
    style.bare(axes)
    axes.set_title(f"phase, NA {na:g}")
    style.note_range(image, axes, "phase [rad]")
