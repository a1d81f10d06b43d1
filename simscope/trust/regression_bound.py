"""The Cramér-Rao bound of numbers read off focus stacks of single beads.

Plane k of a stack expects ``N psf_k + b`` photons a pixel. Unknown are the numbers asked for and
whatever else the recipe draws (where the bead is, its light, the background), all estimated
together; what the recipe fixes is known, as it is to a network trained on it. Derivatives by
wavefront and place are central differences of exact images.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np

from simscope.camera import noise_model
from simscope.errors import SimscopeWarning, StudyError
from simscope.evaluate import bound_from_information, fisher_information
from simscope.optics import psf
from simscope.recipe import BeadStructure, Distribution, FocusStack, Recipe
from simscope.recipe.draws import COEFFICIENT
from simscope.trust.exams import Exam
from simscope.trust.figures import Floats

PLACE = ("structure.x_nm", "structure.y_nm", "structure.z_nm")
LIGHT = ("photophysics.photons", "background.photons_per_pixel")
STEP_NM = 0.5
"""Of the differences; images change over tens of nm."""


def regression_bounds(exam: Exam, paths: tuple[str, ...], samples: int) -> Floats:
    """Smallest standard deviations (samples, paths), in the paths' units, of the first samples.

    Raises
    ------
    StudyError
        If the samples are not focus stacks of one bead, or a path is neither a wavefront's
        coefficient, a place, photons or background.
    """
    recipe = exam.simulator.resolved
    require_beads(recipe, paths)
    drawn = exam.batch.parameters
    others = [path for path in (*PLACE, *LIGHT) if path in drawn and path not in paths]
    bounds = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SimscopeWarning)
        for row in range(min(samples, len(exam.images))):
            values = {path: float(column[row]) for path, column in drawn.items()}
            bounds.append(_bound(recipe, fixed(recipe) | values, [*paths, *others])[: len(paths)])
    return np.array(bounds)


def require_beads(recipe: Recipe, paths: tuple[str, ...]) -> None:
    """Return nothing; StudyError where this bound is not known."""
    focus = recipe.acquisition.focus_nm
    if not isinstance(recipe.structure, BeadStructure) or not isinstance(focus, FocusStack):
        raise StudyError(
            "the bound is known for focus stacks of one bead: what an unknown object hides has none"
        )
    unknown = [p for p in paths if not p.startswith(COEFFICIENT) and p not in (*PLACE, *LIGHT)]
    if unknown:
        raise StudyError(f"no derivative of the images by {', '.join(unknown)} is known")


def fixed(recipe: Recipe) -> dict[str, float]:
    """Numbers of the model that the recipe fixes, by path."""
    wavefront: Any = recipe.optics.wavefront
    modes = dict(getattr(wavefront, "coefficients_nm", {}) or {})
    structure, light = recipe.structure, recipe.photophysics
    values = {f"{COEFFICIENT}{mode}": value for mode, value in modes.items()}
    values |= {path: getattr(structure, path.rsplit(".", 1)[-1]) for path in PLACE}
    values |= {
        LIGHT[0]: getattr(light, "photons", None), LIGHT[1]: recipe.background.photons_per_pixel
    }  # fmt: skip
    return {
        path: float(value) for path, value in values.items()
        if value is not None and not isinstance(value, Distribution)
    }  # fmt: skip


def _bound(recipe: Recipe, values: Mapping[str, float], unknown: list[str]) -> Floats:
    """Smallest standard deviations of the unknown numbers of one sample."""
    image = _image(recipe, values)
    photons, background = (values[path] for path in LIGHT)
    slopes = []
    for path in unknown:
        if path in LIGHT:
            slopes.append(image if path == LIGHT[0] else np.ones_like(image))
            continue
        above, below = (
            _image(recipe, {**values, path: values[path] + side * STEP_NM}) for side in (1, -1)
        )
        slopes.append(photons * (above - below) / (2 * STEP_NM))
    mean = np.maximum(photons * image + background, 0.0)
    exposure_s = recipe.acquisition.exposure_ms * 1e-3
    noise = noise_model(recipe.camera, None, mean, exposure_s=exposure_s)
    qe = float(recipe.camera.qe)  # type: ignore[arg-type]
    derivatives = qe * np.stack([slope.ravel() for slope in slopes])
    return bound_from_information(fisher_information(derivatives, noise.variance_e2.ravel()))


def _image(recipe: Recipe, values: Mapping[str, float]) -> Floats:
    """Stack of the bead per photon (planes, y, x)."""
    focus: Any = recipe.acquisition.focus_nm
    modes = {
        int(path.removeprefix(COEFFICIENT)): value
        for path, value in values.items()
        if path.startswith(COEFFICIENT)
    }
    optics = recipe.optics.model_copy(update={"wavefront": None})
    x_nm, y_nm, z_nm = (values[path] for path in PLACE)
    return psf(
        optics, z_nm, focus.positions_nm, recipe.acquisition.shape, recipe.pixel_nm,
        x_nm=x_nm, y_nm=y_nm, wavefront_nm=modes,
    )  # fmt: skip
