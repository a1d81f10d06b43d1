"""Counts of another camera as the camera that a network knows would have given them.

The two agree in photo-electrons: what a network can see is how many were counted, not how many
photons they came from. Noise that the network never met (another read noise, an EM register) stays.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from simscope.camera import PhotonTransfer, adu_to_photons, excess_noise, photon_transfer
from simscope.errors import CameraError, RecipeError, SimscopeWarning, TrainingError
from simscope.learn.inputs import Scales, mean_settings, photons_from_counts
from simscope.learn.movies import Movies
from simscope.recipe import Recipe

ESTIMATE = "estimate"
PIXEL_TOLERANCE = 1e-3
STATED_TOLERANCE = 1e-2
"""Files round the pixel they state."""
PIXELS_TO_ESTIMATE = 1 << 23


class Exchange:
    """Counts [ADU] of the ``given`` recipe's camera to those of the ``known`` one's.

    Warns
    -----
    SimscopeWarning
        If one camera has an EM register and the other has not.
    """

    def __init__(self, given: Recipe, known: Recipe) -> None:
        self._given, (self._zero, self._slope) = given, _response(known)
        self._same = _response(given) == (self._zero, self._slope)
        kinds = given.camera.kind, known.camera.kind
        if ("emccd" in kinds) and kinds[0] != kinds[1]:
            warnings.warn(
                f"the frames are of a camera of kind {kinds[0]!r}, the network was trained on "
                f"{kinds[1]!r}, whose noise is another: it will be less precise and less sure than "
                "it says; train on a recipe with this camera",
                SimscopeWarning,
                stacklevel=3,
            )

    def __call__(self, counts: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Counts of the same shape; the same array where the cameras respond alike."""
        if self._same:
            return counts
        return (_photons(counts, self._given) - np.float32(self._zero)) / np.float32(self._slope)


def _response(recipe: Recipe) -> tuple[float, float]:
    """Photo-electrons at 0 ADU and per ADU: all that the mean counts of a camera depend on."""
    zero, one = _photons(np.array([0.0, 1.0]), recipe)
    return float(zero), float(one - zero)


def _photons(counts: npt.NDArray[Any], recipe: Recipe) -> npt.NDArray[np.float32]:
    """Detected photons (photo-electrons) behind counts [ADU], drawn settings by their mean."""
    settings = mean_settings(recipe) | {"qe": 1.0}
    return adu_to_photons(counts, recipe.camera, parameters=settings)


def recipe_with(known: Recipe, camera: Any) -> Recipe:
    """The known recipe with another camera: a recipe's, or settings by name that differ.

    Raises
    ------
    TrainingError
        If a setting is unknown or impossible.
    """
    if isinstance(camera, Recipe):
        return known.replace("camera", camera.written()["camera"])
    if not isinstance(camera, Mapping):
        raise TrainingError(
            f"camera={camera!r} is no camera: give a recipe, settings such as "
            f"{{'baseline_adu': 100}}, or {ESTIMATE!r}"
        )
    own = known.written()["camera"]
    if camera.get("kind", own["kind"]) != own["kind"]:
        own = {"pixel_pitch_um": own.get("pixel_pitch_um", 10.0)}
    try:
        return known.replace("camera", own | dict(camera))
    except RecipeError as error:
        problems = "; ".join(str(error).splitlines())
        raise TrainingError(f"camera of the frames: {problems}") from None


def require_pixel(
    known_nm: float, pixel_nm: float | None, tolerance: float, remedy: str = ""
) -> None:
    """Return nothing; raise TrainingError unless images' pixel [nm], if known, is the model's."""
    if pixel_nm is not None and not abs(pixel_nm - known_nm) <= tolerance * known_nm:
        raise TrainingError(
            f"data has pixels of {pixel_nm:g} nm, the model was trained on {known_nm:g} nm: "
            f"train on a recipe with the pixels of the data{remedy}"
        )


def estimated(known: Recipe, movies: Movies) -> Recipe:
    """The known recipe with gain and offset read off the frames (photon transfer).

    Raises
    ------
    TrainingError
        If the frames do not tell.

    Warns
    -----
    SimscopeWarning
        With what was estimated, and what no frames can tell.
    """
    try:
        line = photon_transfer(movies.sampled(PIXELS_TO_ESTIMATE), spots=True)
    except CameraError as error:
        raise TrainingError(
            f"the camera cannot be estimated: {error}; or give its settings"
        ) from None
    found = _settings_of(line, known)
    found["baseline_adu"] = max(found["baseline_adu"], 0.0)
    told = ", ".join(f"{name}={number:.4g}" for name, number in found.items())
    warnings.warn(
        f"camera estimated from the frames: {told}; read noise, quantum efficiency and EM gain "
        "cannot be told from frames and are the model's; settings of the data sheet are better",
        SimscopeWarning,
        stacklevel=3,
    )
    return recipe_with(known, found)


def _settings_of(line: PhotonTransfer, known: Recipe) -> dict[str, float]:
    """Offset [ADU] and electrons per count of a photon-transfer line, the known camera's kind.

    Its read noise is the known camera's: in electrons, or behind an EM register in counts.
    """
    camera, drawn = known.camera, mean_settings(known)
    fields = {name: getattr(camera, name) for name in type(camera).model_fields} | drawn
    if camera.kind != "emccd":
        baseline_adu = line.baseline_adu(fields["read_noise_e"])
        return {"baseline_adu": baseline_adu, "e_per_adu": line.e_per_adu}
    read_adu = fields["read_noise_e"] / fields["e_per_adu"]
    e_per_adu = excess_noise(camera) * line.e_per_adu * fields["em_gain"]
    return {
        "baseline_adu": line.baseline_adu(read_adu * line.e_per_adu),
        "e_per_adu": e_per_adu,
        "read_noise_e": read_adu * e_per_adu,
    }


def warn_if_unlike(known: Recipe, scales: Any, counts: npt.NDArray[Any]) -> None:
    """Warn if frames are much brighter or dimmer than all the network was trained on.

    Warns
    -----
    SimscopeWarning
        If the median of counts [ADU] of the known camera is far from the level in training.
    """
    if not isinstance(scales, Scales):
        return
    level = float(np.median(photons_from_counts(counts, known)))
    typical, spread = scales.background_photons, scales.spread_photons
    if abs(level - typical) > 3 * spread + 0.5 * abs(typical):
        warnings.warn(
            f"the frames' median is {level:.3g} photons/px, in training it was {typical:.3g}: "
            "camera settings or background differ and results may be wrong; give the camera of "
            "these frames, or train on a recipe with their background",
            SimscopeWarning,
            stacklevel=3,
        )
