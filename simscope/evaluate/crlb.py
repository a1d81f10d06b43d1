"""The Cramér-Rao lower bound for the emitters of a recipe, from its PSF table.

Each emitter is taken alone on a uniform background, of expected image ``mu = N psf(x, y, z) + b``
per pixel [photons], turned to photo-electrons by the camera. The information is that of
:mod:`simscope.evaluate.information`, with the camera's moments for the noise: read noise as an
extra Poisson-like variance, ``v = mu + read^2`` (Huang et al. 2013, *Nat. Methods* 10:653), good
while ``mu`` or ``read`` is above about one electron; an electron-multiplying register doubles the
shot noise, ``v = 2 mu + (read / gain)^2`` (Mortensen et al. 2010, *Nat. Methods* 7:377).
:func:`simscope.evaluate.psf_crlb` serves bare optics, orientations and exact noise.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from simscope.acquire import Simulator
from simscope.camera import noise_model
from simscope.errors import EvaluationError
from simscope.evaluate.information import (
    bound_from_information,
    fisher_information,
    is_invertible,
)
from simscope.evaluate.tables import Floats, read_columns
from simscope.optics import GaussianSpots, SplineTable
from simscope.optics.dipoles import moments
from simscope.recipe import Recipe, load_recipe

CRLB_DTYPE = np.dtype(
    [(name, np.float64) for name in ("x_nm", "y_nm", "z_nm", "photons", "background")]
)
PLACE_AND_LIGHT = ("x_nm", "y_nm", "z_nm", "photons")
ORIENTATION = ("polar_deg", "azimuth_deg", "half_angle_deg")
EMITTERS_AT_ONCE = 128
WEIGHT_STEP_NM = 1.0
"""Height step over which weights of basis images are differenced; they change over 100 nm."""


def crlb(
    source: Simulator | Recipe | str | Path,
    emitters: Any,
    *,
    background_photons: npt.ArrayLike | None = None,
) -> npt.NDArray[Any]:
    """Smallest standard deviations [nm, photons, photons/px] of each emitter, ``(emitters,)``.

    Structured with ``x_nm, y_nm, z_nm, photons, background``, all estimated together; where all
    molecules share one height, z is known and ``z_nm`` is NaN. ``emitters`` has columns
    ``x_nm, y_nm, z_nm, photons``, and ``polar_deg, azimuth_deg, half_angle_deg`` where the recipe's
    dipoles do not rotate freely; these are taken as known. The background is the recipe's unless
    ``background_photons`` [photons/px] is given, for all emitters or one each. It is flat over the
    PSF: a smooth background enters by its mean. The pixels are alike, with the camera's typical
    read noise.

    Only pixels of the frame inform, so the bound of an emitter at the border is larger than in the
    middle; one with too little light on the frame to tell its parameters apart has no bound, and
    all its values are NaN. Leave such rows out with :func:`in_frame`.

    Raises
    ------
    EvaluationError
        If a recipe draws numbers per dataset (give its ``Simulator``, which has drawn them), the
        optics or the camera differ from sample to sample, an emitter has no photons, or the
        background is drawn and not given.
    OpticsError
        If an emitter lies outside the heights of the recipe.
    """
    simulator = source if isinstance(source, Simulator) else simulator_without_draws(source)
    table, recipe = the_only_psf(simulator), simulator.resolved
    names = (*PLACE_AND_LIGHT, *ORIENTATION) if table.for_dipoles else PLACE_AND_LIGHT
    columns = read_columns(emitters, names, "emitters")
    if np.any(columns["photons"] <= 0):
        raise EvaluationError("photons of 0 or fewer: leave dark emitters out of the table")
    level = _background(recipe, background_photons, len(columns["photons"]))
    bounds = [np.zeros(0, CRLB_DTYPE)]
    for first in range(0, len(level), EMITTERS_AT_ONCE):
        part = slice(first, first + EMITTERS_AT_ONCE)
        some = {name: column[part] for name, column in columns.items()}
        bounds.append(_bounds(table, recipe, some, level[part]))
    return np.concatenate(bounds)


def the_only_psf(simulator: Simulator) -> SplineTable | GaussianSpots:
    """The PSF of all samples of a simulator; EvaluationError if optics or camera change."""
    table, recipe = simulator.table, simulator.resolved
    if recipe.optics.analyser is not None:
        raise EvaluationError(
            f"recipe {recipe.name!r} has an analyser, whose channels this bound does not know: "
            "leave optics.analyser out"
        )
    if table is None:
        raise EvaluationError(
            f"recipe {recipe.name!r} draws its optics or focus per sample, so there is no one PSF: "
            "fix them with recipe.replace"
        )
    drawn = [path for path in recipe.drawn("sample") if path.startswith("camera.")]
    if drawn:
        raise EvaluationError(f"{', '.join(drawn)} drawn per sample: fix with recipe.replace")
    return table


def simulator_without_draws(source: Recipe | str | Path) -> Simulator:
    """The simulator of a recipe that is the same experiment whatever the seed."""
    recipe = load_recipe(source)
    drawn = recipe.drawn("dataset")
    if drawn:
        raise EvaluationError(
            f"{', '.join(drawn)} drawn per dataset, so the bound depends on the seed: pass "
            "Simulator(recipe, seed)"
        )
    return Simulator(recipe, seed=0)


def _background(recipe: Recipe, given: npt.ArrayLike | None, emitters: int) -> Floats:
    """Background [photons/px] around each emitter, ``(emitters,)``."""
    value: Any = recipe.background.photons_per_pixel if given is None else given
    try:
        level = np.broadcast_to(np.asarray(value, dtype=np.float64), (emitters,))
    except (TypeError, ValueError):
        raise EvaluationError(
            f"background_photons={value} is not one number, or one for each of {emitters} "
            "emitters: give background_photons (a recipe that draws it has no single value)"
        ) from None
    if not np.all(np.isfinite(level) & (level >= 0)):
        raise EvaluationError("background_photons below 0 or not finite: give photons per pixel")
    return level


def _bounds(
    table: SplineTable | GaussianSpots,
    recipe: Recipe,
    emitters: dict[str, Floats],
    background: Floats,
) -> npt.NDArray[Any]:
    """Bounds of a handful of emitters, ``(emitters,)`` of ``CRLB_DTYPE``."""
    psf, *slopes = _image_and_slopes(table, emitters)
    light, names = emitters["photons"][:, None, None], list(CRLB_DTYPE.names or ())
    by_parameter = [*(light * slope for slope in slopes), psf, np.ones_like(psf)]
    if table.z_max_nm == table.z0_nm:
        del names[2], by_parameter[2]
    mean_photons = np.maximum(light * psf + background[:, None, None], 0.0)
    noise = noise_model(
        recipe.camera, None, mean_photons, exposure_s=recipe.acquisition.exposure_ms * 1e-3
    )
    electrons_per_photon = float(recipe.camera.qe)  # type: ignore[arg-type]
    on_frame = _pixels_on_frame(emitters, len(psf[0]), recipe)
    derivatives = electrons_per_photon * np.stack(by_parameter, axis=1) * on_frame[:, None]
    information = fisher_information(
        derivatives.reshape(*derivatives.shape[:2], -1), noise.variance_e2.reshape(len(psf), -1)
    )
    bounded = on_frame.all(axis=(1, 2)) | is_invertible(information)
    bounds = np.full(len(psf), np.nan, CRLB_DTYPE)
    for name, bound in zip(names, bound_from_information(information[bounded]).T, strict=True):
        bounds[name][bounded] = bound
    return bounds


def _image_and_slopes(
    table: SplineTable | GaussianSpots, emitters: dict[str, Floats]
) -> list[Floats]:
    """Images per photon and their derivatives by x, y, z [1/nm], each ``(emitters, w, w)``.

    An oriented dipole's weights change with height too, as more or less of its light is collected:
    ``d/dz (w_k B_k) = w_k B_k' + w_k' B_k``.
    """
    x, y, z = (emitters[name] for name in ("x_nm", "y_nm", "z_nm"))
    if not isinstance(table, SplineTable) or not table.for_dipoles:
        return list(table.derivatives(x, y, z))
    moment = moments(*(np.radians(emitters[name]) for name in ORIENTATION))
    low, high = (
        np.clip(z + side * WEIGHT_STEP_NM, table.z0_nm, table.z_max_nm) for side in (-1, 1)
    )
    weights, below, above = (table.orientation_weights(moment, height) for height in (z, low, high))
    psf, dx, dy, dz = table.derivatives(x, y, z, weights=weights)
    if table.z_max_nm > table.z0_nm:
        change = (above - below) / (high - low)[:, None]
        dz = dz + table.derivatives(x, y, z, weights=change)[0]
    return [psf, dx, dy, dz]


def _pixels_on_frame(
    emitters: dict[str, Floats], window_px: int, recipe: Recipe
) -> npt.NDArray[np.bool_]:
    """Which pixels of each emitter's window the camera has, bool ``(emitters, w, w)``.

    The window is that of :meth:`SplineTable.derivatives`, centred on the emitter's pixel.
    """
    steps = np.arange(window_px) - window_px // 2
    rows, columns = (
        np.floor(emitters[axis] / recipe.pixel_nm)[:, None] + steps for axis in ("y_nm", "x_nm")
    )
    height, width = recipe.acquisition.shape
    on_rows, on_columns = (rows >= 0) & (rows < height), (columns >= 0) & (columns < width)
    on_frame: npt.NDArray[np.bool_] = on_rows[:, :, None] & on_columns[:, None, :]
    return on_frame
