"""The Cramér-Rao bound of position against height, beside the limit of the light itself."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullFormatter

from simscope.camera.settings import Camera
from simscope.evaluate import psf_crlb, quantum_limit
from simscope.evaluate.limits import beyond_quantum_limit
from simscope.keys import Key
from simscope.optics import objective_of
from simscope.recipe import Recipe
from simscope.recipe.draws import draw_dataset, draw_samples
from simscope.show import style
from simscope.show.optics import drawn_optics, varying, view_ranges

Floats = npt.NDArray[np.float64]

PLANES = 41
LARGEST_WINDOW_PX = 121
CAMERAS = {"ccd": "CCD", "emccd": "EMCCD", "scmos": "sCMOS"}
AXES = ("x", "y", "z")


@dataclass(frozen=True)
class BoundCurve:
    """Bounds along heights or objective positions.

    ``place_nm``: (n,), named by ``label``; ``bounds``: structured (n,) as
    :func:`simscope.evaluate.psf_crlb` gives it; ``limits``: those of
    :func:`simscope.evaluate.quantum_limit` for the photons that become electrons, None where it
    does not describe the light; ``note``: the conditions.
    """

    place_nm: Floats
    label: str
    bounds: npt.NDArray[Any]
    limits: npt.NDArray[Any] | None
    note: str

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers for JSON: lists of one number per place, None where there is no bound."""
        names = self.bounds.dtype.names or ()
        columns = {"place_nm": self.place_nm, **{name: self.bounds[name] for name in names}}
        if self.limits is not None:
            columns |= {f"quantum_{name}": self.limits[name] for name in ("x_nm", "z_nm")}
        numbers = {name: [_finite(value) for value in column] for name, column in columns.items()}
        return {"along": self.label, "conditions": self.note, **numbers}

    def rows(self) -> list[str]:
        """A table of the bounds as lines of text, at every fourth place."""
        names = ["sigma_x", "sigma_y", "sigma_z", "photons", "background"]
        names = [f"{name:>10}" for name in names]
        lines = [self.note, f"{self.label} [nm], bounds in nm, photons, photons per pixel"]
        lines.append("  ".join((f"{'at':>10}", *names)))
        for place, bound in list(zip(self.place_nm, self.bounds, strict=True))[::4]:
            lines.append("  ".join(f"{value:>10.4g}" for value in (place, *bound)))
        return lines


def recipe_bound_curve(
    recipe: Recipe,
    *,
    photons: float = 5000.0,
    background_photons: float = 10.0,
    sample: int = 0,
    seed: int = 0,
    z_nm: tuple[float, float] | None = None,
    focus_nm: tuple[float, float] | None = None,
) -> BoundCurve:
    """Bounds for one emitter of a recipe's optics and camera, in the middle of the frame.

    Heights, objective positions and drawn numbers as in :func:`recipe_psf_figure`; dipoles whose
    orientation is drawn per molecule are taken as freely rotating, and the note says so. Pixels of
    the frame inform, at most 121 x 121. Raises OpticsError, CameraError or EvaluationError as
    :func:`simscope.evaluate.psf_crlb`.
    """
    optics, focus = drawn_optics(recipe, sample, seed)
    heights, positions = view_ranges(recipe, focus, z_nm, focus_nm)
    ends, label = varying(heights, positions)
    camera, dipole = _drawn_camera(recipe, sample, seed), _stated_dipole(recipe)
    z, stage = np.linspace(*heights, PLANES), np.linspace(*positions, PLANES)
    height_px, width_px = recipe.acquisition.shape
    bounds = psf_crlb(
        optics,
        z,
        stage,
        photons=photons,
        background_photons=background_photons,
        camera=camera,
        exposure_ms=recipe.acquisition.exposure_ms,
        pixel_nm=recipe.pixel_nm,
        dipole=dipole,
        shape=(min(height_px, LARGEST_WINDOW_PX), min(width_px, LARGEST_WINDOW_PX)),
    )
    detected = photons * float(camera.qe)  # type: ignore[arg-type]
    return BoundCurve(
        np.linspace(*ends, PLANES),
        label,
        bounds,
        quantum_limit(optics, detected, z) if not beyond_quantum_limit(optics) else None,
        f"{photons:,.0f} photons, background {background_photons:g} per {recipe.pixel_nm:.4g} nm "
        f"pixel, {CAMERAS[camera.kind]}, NA {objective_of(optics).na:g}, "
        f"{'freely rotating' if dipole is None else dipole.kind} dipole",
    )


def _stated_dipole(recipe: Recipe) -> Any:
    """The recipe's dipole where its angles are plain numbers; None, free, where they are drawn."""
    dipole = recipe.dipoles
    angles = [value for name, value in dipole if name != "kind"]
    plain = all(value is None or isinstance(value, int | float) for value in angles)
    return dipole if angles and plain else None


def _drawn_camera(recipe: Recipe, sample: int, seed: int) -> Camera:
    """The camera with its drawn numbers as sample number ``sample`` has them."""
    key = Key(seed)
    resolved, _ = draw_dataset(recipe, key)
    drawn = draw_samples(resolved, key, np.array([sample]))
    chosen = {
        path.removeprefix("camera."): float(value[0])
        for path, value in drawn.items()
        if path.startswith("camera.")
    }
    camera: Camera = resolved.camera.model_copy(update=chosen)
    return camera


@style.styled
def crlb_figure(curve: BoundCurve) -> Figure:
    """Smallest standard deviations of x, y and z [nm] against height, on a logarithmic axis.

    Dashed: the limit that no phase mask and no camera can beat. Gaps where there is no bound.
    """
    figure = style.new_figure(6.0, 3.7)
    axes = figure.subplots()
    for axis, colour in zip(AXES, style.SERIES, strict=False):
        values = curve.bounds[f"{axis}_nm"]
        shown = np.where(np.isfinite(values), values, np.nan)
        dashes = (0, (4, 2)) if axis == "y" else "-"
        axes.plot(curve.place_nm, shown, color=colour, ls=dashes, label=f"$\\sigma_{axis}$")
    if curve.limits is not None:
        for axis, colour in (("x", style.SERIES[0]), ("z", style.SERIES[2])):
            limit = curve.limits[f"{axis}_nm"]
            axes.plot(curve.place_nm, limit, ":", color=colour, lw=1.2, label=_limit_name(axis))
    axes.set_xlim(curve.place_nm[0], curve.place_nm[-1])
    axes.set(xlabel=f"{curve.label} [nm]", ylabel="smallest standard deviation [nm]")
    plain_logarithmic(axes)
    axes.legend(ncols=5, loc="upper center", bbox_to_anchor=(0.5, 1.12), columnspacing=1.2)
    figure.suptitle(curve.note, fontsize=8.5, color=style.SOFT)
    return figure


def _limit_name(axis: str) -> str:
    return f"quantum limit of {'x, y' if axis == 'x' else axis}"


def plain_logarithmic(axes: Axes) -> None:
    """Logarithmic y axis with plain numbers at 1, 2 and 5 times powers of ten."""
    low, high = axes.get_ylim()
    lines = [np.asarray(line.get_ydata(), np.float64) for line in axes.lines]
    drawn = np.concatenate([values[np.isfinite(values)] for values in lines] or [np.ones(1)])
    low, high = 0.8 * float(drawn.min(initial=1e9)), 1.25 * float(drawn.max(initial=1e-9))
    axes.set_yscale("log")
    axes.set_ylim(low, min(high, 1e3 * low))
    steps = [step * 10.0**power for power in range(-3, 6) for step in (1, 2, 5)]
    axes.set_yticks([step for step in steps if low <= step <= axes.get_ylim()[1]])
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.grid(axis="y", color=style.SOFT, alpha=0.2, lw=0.6)


def _finite(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None
