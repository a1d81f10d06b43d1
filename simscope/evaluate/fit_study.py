"""Do the fits sit on the Cramér-Rao bound? Isolated emitters, height by height.

Emitters anywhere on the frame's middle pixel are rendered, read by the recipe's camera and fitted
from positions half a pixel off; errors are held against the bound of the whole frame. Renderer,
noise, fit and bound agree only if all four are right.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from simscope.acquire import Simulator
from simscope.camera import detect
from simscope.errors import EvaluationError
from simscope.evaluate.crlb import crlb, simulator_without_draws
from simscope.evaluate.fitting import box_of, fit, spline_table
from simscope.evaluate.score import root_mean_square
from simscope.evaluate.tables import Floats
from simscope.recipe import Recipe

AXES = ("x", "y", "z")
FIT_STUDY_DTYPE = np.dtype(
    [("z_nm", np.float64), ("fits", np.int64), ("converged", np.float64)]
    + [(f"{what}_{axis}", np.float64) for axis in AXES for what in ("ratio", "bias", "bound_nm")]
)
"""A height: fits made, share converged; of x, y, z: RMS error over RMS bound, mean error over
RMS bound, RMS bound [nm]."""

HEIGHTS = 9
MARGIN = 0.05
"""Share of the heights left out at either end, where the limit of the fit shortens errors."""
BOUNDS = 200
"""Emitters whose bounds stand for all: over a pixel bounds change by a few percent."""
FRAMES_AT_ONCE = 500


def fit_study(
    source: Simulator | Recipe | str | Path,
    *,
    fits: int = 5000,
    photons: float = 3000.0,
    background_photons: float = 10.0,
    z_nm: npt.ArrayLike | None = None,
    box_px: int | None = None,
    threads: int | None = None,
) -> npt.NDArray[Any]:
    """Errors of ``fits`` fits over their bounds at every height (``FIT_STUDY_DTYPE``).

    ``z_nm``: heights, nine across the recipe's if None. Only fits that converged count. With n of
    them a ratio is known to ``1 / sqrt(2 n)`` and a bias to ``1 / sqrt(n)``.

    Raises
    ------
    EvaluationError
        If the recipe has no one spline table, or a number is out of its range.
    """
    simulator = source if isinstance(source, Simulator) else simulator_without_draws(source)
    table = spline_table(simulator)
    if fits < 2 or not photons > 0 or not background_photons >= 0:
        raise EvaluationError(
            f"fits={fits}, photons={photons:g}, background_photons={background_photons:g}: a study "
            "needs two fits, photons above 0 and a background of 0 or more"
        )
    span = table.z_max_nm - table.z0_nm
    ends = table.z0_nm + MARGIN * span, table.z_max_nm - MARGIN * span
    heights = np.linspace(*ends, HEIGHTS if span else 1) if z_nm is None else np.atleast_1d(z_nm)
    box = box_of(simulator) if box_px is None else box_px
    rows = np.zeros(len(heights), FIT_STUDY_DTYPE)
    for number, (row, z) in enumerate(zip(rows, heights, strict=True)):
        parts = [
            _some_fits(simulator, min(FRAMES_AT_ONCE, fits - first), (number, first), float(z),
                       photons, background_photons, box, threads)
            for first in range(0, fits, FRAMES_AT_ONCE)
        ]  # fmt: skip
        found, truth = (np.concatenate(tables) for tables in zip(*parts, strict=True))
        bound = crlb(simulator, truth[:BOUNDS], background_photons=background_photons)
        _summarise(row, found, truth, bound)
    return rows


def _some_fits(
    simulator: Simulator,
    count: int,
    place: tuple[int, int],
    z_nm: float,
    photons: float,
    background: float,
    box: int,
    threads: int | None,
) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """Fits and truth of ``count`` emitters, one a frame; ``place`` names their random numbers."""
    table, recipe = spline_table(simulator), simulator.resolved
    key = simulator.key.child("fit-study")
    number, first = place
    sub = np.stack([
        key.child(name).uniform(np.arange(first, first + count), sample=number)
        for name in ("y", "x", "y-start", "x-start")
    ])  # fmt: skip
    middle = np.array([side // 2 for side in recipe.camera_shape])[:, None]
    truth = np.zeros(
        count, [(name, np.float64) for name in ("frame", "x_nm", "y_nm", "z_nm", "photons")]
    )
    truth["frame"], truth["z_nm"], truth["photons"] = np.arange(count), z_nm, photons
    truth["y_nm"], truth["x_nm"] = table.pixel_nm * (middle + sub[:2])
    light = table.render(
        truth["x_nm"], truth["y_nm"], truth["z_nm"], np.full(count, photons, np.float32),
        np.arange(count + 1), recipe.camera_shape,
    )  # fmt: skip
    images, _ = detect(
        light + np.float32(background), recipe.camera, simulator.maps, key.child("camera"),
        sample_index=number, frame_index=np.arange(first, first + count),
        exposure_s=recipe.acquisition.exposure_ms * 1e-3,
    )  # fmt: skip
    starts = {"frame": truth["frame"]}
    for name, offset in zip(("y_nm", "x_nm"), sub[2:], strict=True):
        starts[name] = truth[name] + table.pixel_nm * (offset - 0.5)
    return fit(images, simulator, starts, box_px=box, threads=threads), truth


def _summarise(row: Any, found: Any, truth: Any, bound: Any) -> None:
    """Fill in one height."""
    good = found["converged"]
    row["z_nm"], row["fits"], row["converged"] = truth["z_nm"][0], len(found), good.mean()
    for axis in AXES:
        errors: Floats = (found[f"{axis}_nm"] - truth[f"{axis}_nm"])[good]
        scale = root_mean_square(bound[f"{axis}_nm"])
        row[f"bound_nm_{axis}"] = scale
        row[f"ratio_{axis}"] = root_mean_square(errors) / scale
        row[f"bias_{axis}"] = errors.mean() / scale if len(errors) else np.nan
