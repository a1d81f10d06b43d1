"""The PSF in one picture: planes through focus, xy and xz cuts, and the pupil's phase."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from simscope.acquire import MAX_SAMPLES
from simscope.errors import OpticsError, SimscopeError, WindowWarning
from simscope.keys import Key
from simscope.optics import psf, pupil_phase
from simscope.recipe import FocusStack, Optics, Recipe, ZernikeWavefront
from simscope.recipe.draws import COEFFICIENT, draw_dataset, draw_samples
from simscope.sample import height_range_nm
from simscope.show import style

PLANES = 7
XZ_PLANES = 81
TRAVEL_NM = 1000.0
MOST_SIDE_UM = 40.0
FLAT_PUPIL = "pupil phase: flat, no mask"

Floats = npt.NDArray[np.float64]


@style.styled
def psf_figure(
    optics: Optics,
    *,
    z_nm: tuple[float, float] = (0.0, 0.0),
    focus_nm: tuple[float, float] = (-1000.0, 1000.0),
    pixel_nm: float = 100.0,
    side_um: float = 4.0,
) -> Figure:
    """Montage of seven planes, an xz cut and an xy cut, and the pupil phase [rad].

    Emitter height ``z_nm`` and objective position ``focus_nm`` run from the first to the second
    value of each pair, together; one of the two must vary. Every montage panel has its own scale,
    with the peak (share of the photons in the brightest pixel) noted.

    Raises
    ------
    OpticsError
        If neither height nor focus varies, or the optics are impossible.
    """
    _check_view(side_um, pixel_nm)
    varies, label = varying(z_nm, focus_nm)
    planes = _stack(optics, z_nm, focus_nm, PLANES, pixel_nm, side_um)
    # a measured PSF has no detail finer than its pixels
    fine_nm = pixel_nm if optics.measured is not None else min(pixel_nm / 2.0, 50.0)
    cut = _stack(optics, z_nm, focus_nm, XZ_PLANES, fine_nm, side_um)
    figure = style.new_figure(9.4, 4.6)
    halves: Any = figure.subfigures(2, 1, height_ratios=(1.0, 1.8), hspace=0.0)
    top, bottom = halves
    _montage(top.subplots(1, PLANES), planes, np.linspace(*varies, PLANES), label, side_um)
    left, middle, right = bottom.subplots(1, 3, gridspec_kw={"wspace": 0.08})
    _xy_cut(left, cut, np.linspace(*varies, XZ_PLANES), label, side_um, fine_nm)
    _xz_cut(middle, cut, varies, label, side_um)
    _phase(right, optics)
    return figure


def recipe_psf_figure(
    recipe: Recipe,
    *,
    sample: int = 0,
    seed: int = 0,
    z_nm: tuple[float, float] | None = None,
    focus_nm: tuple[float, float] | None = None,
    side_um: float | None = None,
) -> Figure:
    """:func:`psf_figure` of a recipe, as sample number ``sample`` has drawn its optics.

    By default the heights are those the recipe's emitters take, or the objective positions of its
    stack, or, where neither varies, 1 um of objective travel to each side of focus.
    """
    if side_um is None:
        side_um = 4.0 if recipe.optics.mask is None else 7.0
    _check_view(side_um, recipe.pixel_nm)
    optics, focus = drawn_optics(recipe, sample, seed)
    heights, positions = view_ranges(recipe, focus, z_nm, focus_nm)
    return psf_figure(
        optics,
        z_nm=heights,
        focus_nm=positions,
        pixel_nm=recipe.pixel_nm,
        side_um=side_um,
    )


def drawn_optics(recipe: Recipe, sample: int, seed: int) -> tuple[Optics, float]:
    """Optics and focus [nm] of one sample: distributions replaced by their draws."""
    if isinstance(sample, bool) or not isinstance(sample, int | np.integer):
        raise SimscopeError(f"sample={sample!r} is no whole number: count samples from 0")
    if not 0 <= sample < MAX_SAMPLES:
        raise SimscopeError(f"sample={sample} lies outside [0, {MAX_SAMPLES}): choose one in it")
    key = Key(seed)
    resolved, _ = draw_dataset(recipe, key)
    drawn = draw_samples(resolved, key, np.array([sample]))
    optics, focus = resolved.optics, drawn.get("acquisition.focus_nm", np.zeros(1))[0]
    if optics.wavefront is not None and optics.wavefront.drawn:
        values: dict[int, Any] = dict(optics.wavefront.coefficients_nm)
        for path, value in drawn.items():
            if path.startswith(COEFFICIENT):
                values[int(path.removeprefix(COEFFICIENT))] = float(value[0])
        wavefront = ZernikeWavefront(coefficients_nm=values)
        optics = optics.model_copy(update={"wavefront": wavefront})
    return optics, float(focus)


def view_ranges(
    recipe: Recipe,
    focus: float,
    z_nm: tuple[float, float] | None,
    focus_nm: tuple[float, float] | None,
) -> tuple[tuple[float, float], tuple[float, float]]:
    """Emitter heights and objective positions [nm] to show: those asked for, else the recipe's."""
    heights, positions = _ranges(recipe, focus)
    if z_nm is None and focus_nm is None:
        return heights, positions
    return z_nm or 2 * (heights[0],), focus_nm or 2 * (sum(positions) / 2,)


def _ranges(recipe: Recipe, focus: float) -> tuple[tuple[float, float], tuple[float, float]]:
    """Emitter heights and objective positions [nm] worth showing; one of them varies."""
    stated = recipe.acquisition.focus_nm
    heights = height_range_nm(recipe)
    if isinstance(stated, FocusStack):
        middle = 0.5 * (heights[0] + heights[1])
        return (middle, middle), (stated.start_nm, stated.stop_nm)
    if isinstance(stated, int | float):
        focus = float(stated)
    if heights[0] != heights[1]:
        return heights, (focus, focus)
    return heights, (focus - TRAVEL_NM, focus + TRAVEL_NM)


def _check_view(side_um: float, pixel_nm: float) -> None:
    """Raise OpticsError unless pictures of this side hold a sensible number of pixels."""
    least_um = 3e-3 * pixel_nm
    if not least_um <= side_um <= MOST_SIDE_UM:
        raise OpticsError(
            f"side_um={side_um:g} lies outside [{least_um:g}, {MOST_SIDE_UM:g}]: pictures need at "
            "least three pixels"
        )


def varying(
    z_nm: tuple[float, float], focus_nm: tuple[float, float]
) -> tuple[tuple[float, float], str]:
    """First and last value [nm] of the one of the two that varies, and its name.

    Raises OpticsError if neither varies.
    """
    if z_nm[0] != z_nm[1]:
        return z_nm, "emitter height z"
    if focus_nm[0] != focus_nm[1]:
        return focus_nm, "objective position"
    raise OpticsError(
        f"z_nm={z_nm} and focus_nm={focus_nm} both stand still: give one of them a range"
    )


def _stack(
    optics: Optics,
    z_nm: tuple[float, float],
    focus_nm: tuple[float, float],
    planes: int,
    pixel_nm: float,
    side_um: float,
) -> Floats:
    side = 2 * int(side_um * 500.0 / pixel_nm) + 1
    heights, positions = np.linspace(*z_nm, planes), np.linspace(*focus_nm, planes)
    return cropped_psf(optics, heights, positions, side, pixel_nm)


def cropped_psf(
    optics: Optics, z_nm: npt.ArrayLike, focus_nm: npt.ArrayLike, side: int, pixel_nm: float
) -> Floats:
    """Images of ``side`` pixels, ``(z, y, x)``; a picture shows a part of the light by choice."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", WindowWarning)
        return psf(optics, z_nm, focus_nm, (side, side), pixel_nm)


def _montage(
    panels: npt.NDArray[np.object_], planes: Floats, values: Floats, label: str, side_um: float
) -> None:
    for axes, plane, value in zip(panels, planes, values, strict=True):
        style.bare(axes)
        axes.imshow(plane, cmap=style.LIGHT, vmin=0, extent=(0, side_um, side_um, 0))
        axes.set_title(f"{value:+.0f} nm", pad=3)
        axes.set_xlabel(f"peak {plane.max():.2g}", fontsize=7.5, color=style.SOFT)
    style.scale_bar(panels[0], side_um, side_um)
    panels[0].set_ylabel(label, fontsize=8)


def _xy_cut(
    axes: Axes, cut: Floats, values: Floats, label: str, side_um: float, pixel_nm: float
) -> None:
    brightest = int(np.argmax(cut.max(axis=(1, 2))))
    half = 0.5 * side_um
    shown = axes.imshow(cut[brightest], cmap=style.LIGHT, vmin=0, extent=(-half, half, half, -half))
    axes.set_title(f"xy at {label} {values[brightest]:+.0f} nm")
    axes.set_xlabel("x [µm]")
    axes.set_ylabel("y [µm]")
    style.note_range(shown, axes, f"share of photons per {pixel_nm:g} nm pixel")


def _xz_cut(
    axes: Axes, cut: Floats, varies: tuple[float, float], label: str, side_um: float
) -> None:
    half = 0.5 * side_um
    low, high = varies[0] / 1000.0, varies[1] / 1000.0
    middle = cut[:, cut.shape[1] // 2, :]
    axes.imshow(
        np.sqrt(np.maximum(middle, 0.0)), cmap=style.LIGHT, vmin=0, origin="lower",
        extent=(-half, half, low, high), aspect="auto",
    )  # fmt: skip
    axes.set_box_aspect(1.0)
    axes.set_title("xz at y = 0, square-root scale")
    axes.set_xlabel("x [µm]")
    axes.set_ylabel(f"{label} [µm]")


def _phase(axes: Axes, optics: Optics) -> None:
    """Pupil phase; on a cyclic scale where it goes around."""
    if optics.measured is not None:
        axes.set_axis_off()
        axes.set_title("measured PSF: its pupil is not known")
        return
    phase, na = pupil_phase(optics)
    largest = float(np.nanmax(np.abs(phase)))
    wrapped = largest > 0.95 * np.pi
    limit = np.pi if wrapped else max(largest, 0.1)
    shown = axes.imshow(
        np.angle(np.exp(1j * phase)),
        cmap=style.CYCLIC if wrapped else style.PHASE,
        vmin=-limit,
        vmax=limit,
        extent=(-na, na, na, -na),
    )
    axes.set_title("pupil phase of mask and wavefront" if largest > 0 else FLAT_PUPIL)
    axes.set_xlabel("$k_x$ / k  [NA]")
    axes.set_ylabel("$k_y$ / k  [NA]")
    style.note_range(shown, axes, "phase, wrapped [rad]" if wrapped else "phase [rad]")
