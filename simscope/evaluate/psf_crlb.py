"""Cramér-Rao bound of one emitter seen through any optics and any camera, without a recipe.

The expected image is ``mu = N psf(x, y, z, orientation) + b`` photons per pixel, detected with the
camera's quantum efficiency and noise. Derivatives by position come from the model itself or from
differences with a checked error (:mod:`simscope.optics.slopes`). An oriented dipole has the image
``p = sum m_k B_k / sum m_k E_k`` of its second moments m, basis images B and their energies E, so

    dp/da = sum m'_k (B_k - p E_k) / sum m_k E_k ,   m' = dm/da ,

with ``M = gamma n n^T + (1 - gamma)/3`` for an axis n and rotational constraint gamma (Backer and
Moerner 2014). N counts detected photons: how much light an orientation sends into the objective
tells nothing here, since the brightness of a molecule is not known.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from simscope.blas import single_blas_thread
from simscope.camera import noise_model
from simscope.camera.settings import Camera, em_gain, setting
from simscope.errors import EvaluationError, OpticsError, did_you_mean
from simscope.evaluate.information import bound_or_infinity, fisher_information
from simscope.evaluate.pixel_noise import exact_variance
from simscope.evaluate.tables import Floats
from simscope.optics import Reach, Window, image_model, objective_of
from simscope.optics.checks import (
    check_distance,
    check_heights,
    check_numbers,
    check_supported,
    check_window,
)
from simscope.optics.dipoles import (
    FREE_MOMENTS,
    DipoleModel,
    channels,
    dipole_moments,
    is_free,
    moments,
    orientation_rad,
)
from simscope.optics.slopes import image_slopes
from simscope.recipe.camera import CCD, EMCCD, SCMOS
from simscope.recipe.dipoles import ConeDipole, FixedDipole, constraint_of_half_angle

POSITION = ("x_nm", "y_nm", "z_nm")
ORIENTATION_RANGES = {
    "polar_deg": 90.0,
    "azimuth_deg": 90.0,
    "half_angle_deg": 90.0,
    "rotational_constraint": 1.0,
}
ORIENTATION = tuple(ORIENTATION_RANGES)
PARAMETERS = (*POSITION, "photons", "background", *ORIENTATION)
STANDARD = (*POSITION, "photons", "background")

MOST_PHOTONS = 1e15
"""Photons beyond which a number is taken for a mistake."""


def psf_crlb(
    optics: Any,
    z_nm: npt.ArrayLike = 0.0,
    focus_nm: npt.ArrayLike = 0.0,
    *,
    photons: npt.ArrayLike = 5000.0,
    background_photons: npt.ArrayLike = 10.0,
    camera: Camera | None = None,
    exposure_ms: float = 0.0,
    pixel_nm: float = 100.0,
    shape: tuple[int, int] = (33, 33),
    x_nm: npt.ArrayLike = 0.0,
    y_nm: npt.ArrayLike = 0.0,
    dipole: FixedDipole | ConeDipole | None = None,
    parameters: Sequence[str] = STANDARD,
    noise: Literal["moments", "exact"] = "moments",
) -> npt.NDArray[Any]:
    """Smallest standard deviations of ``parameters``, structured ``(n,)`` with these names.

    Units are nm, photons, photons per pixel (``background``), degrees, and 1 for the rotational
    constraint. All parameters named are estimated together; the others are taken as known. A value
    is inf where the image does not say: z of a PSF that is symmetric about a focus it stands in,
    the azimuth of an upright dipole, the half angle of a cone that is closed (its image changes
    with the square of the angle; ask for ``rotational_constraint``).

    Parameters
    ----------
    z_nm, focus_nm, x_nm, y_nm, photons, background_photons
        Numbers or arrays that broadcast to n. Photons arrive at the camera; x and y count from the
        middle of the ``shape`` (y, x) pixels, all that inform.
    optics
        With an analyser of both channels the information of the two images adds up, each with its
        own background. Aberrations that change over the field are taken at its centre;
        ``collection`` plays no part, since photons count what arrives.
    camera
        Its quantum efficiency, dark current over ``exposure_ms`` and noise; None counts photons.
    dipole
        A fixed or wobbling dipole; None rotates freely.
    noise
        "moments": variance ``m + read^2``, twice the m for an EMCCD; "exact": the information of
        the counts' whole distribution (:mod:`simscope.evaluate.pixel_noise`), which is larger
        where pixels expect few electrons.

    Raises
    ------
    EvaluationError
        For unknown parameters, an orientation without ``dipole``, impossible photons.
    OpticsError
        For impossible optics or heights, and dipoles with numbers still to be drawn.
    CameraError
        For a camera with numbers still to be drawn.
    """
    _check_parameters(parameters, dipole)
    check_supported(optics)
    *places, light, level = check_numbers(
        z_nm=z_nm, focus_nm=focus_nm, x_nm=x_nm, y_nm=y_nm,
        photons=photons, background_photons=background_photons,
    )  # fmt: skip
    check_heights(objective_of(optics), places[0], 0.5 * optics.bead_diameter_nm)
    check_distance("focus_nm", places[1])
    farthest_nm = float(np.hypot(places[2], places[3]).max())
    check_window(shape, pixel_nm, farthest_nm, images=4 * len(light))
    _check_light(light, level)
    window = Window(shape, pixel_nm)
    information: Floats = np.zeros((len(light), len(parameters), len(parameters)))
    for channel in channels(optics):
        image, effects = _image_and_effects(channel, window, places, dipole, parameters, light)
        mean = light[:, None, None] * image + level[:, None, None]
        efficiency, variance = _detection(camera, mean, exposure_ms * 1e-3, noise)
        # without background, pixels darker than the model's error would weigh it by 1/mean
        darkest = np.where(level == 0, optics.accuracy * variance.max(axis=(1, 2)), 0.0)
        information += _seen_information(efficiency * effects, variance, darkest)
    bounds = np.zeros(len(light), [(name, np.float64) for name in parameters])
    for name, bound in zip(parameters, bound_or_infinity(information).T, strict=True):
        bounds[name] = bound
    return bounds


def _seen_information(effects: Floats, variance: Floats, darkest: Floats) -> Floats:
    """Fisher information (n, p, p) of the pixels whose variance [e^2] exceeds ``darkest`` (n,)."""
    seen = variance > darkest[:, None, None]
    return fisher_information(
        (effects * seen[:, None]).reshape(*effects.shape[:2], -1),
        np.where(seen, variance, 1.0).reshape(len(variance), -1),
    )


def _check_light(photons: Floats, background: Floats) -> None:
    for name, low, high in (
        ("photons", photons.min(), photons.max()),
        ("background_photons", background.min(), background.max()),
    ):
        if low < 0 or (name == "photons" and low == 0):
            least = "above 0" if name == "photons" else "0 or more"
            raise EvaluationError(f"{name}={low:g} is no light: give expected photons, {least}")
        if high > MOST_PHOTONS:
            raise EvaluationError(
                f"{name}={high:g} is above {MOST_PHOTONS:g}, more than a pixel can count: give "
                "expected photons of one image"
            )


def _check_parameters(parameters: Sequence[str], dipole: Any) -> None:
    for name in parameters:
        if name not in PARAMETERS:
            guess = did_you_mean(name, PARAMETERS)
            raise EvaluationError(
                f"parameter {name!r} is unknown{', ' + guess if guess else ''}: choose from "
                f"{', '.join(PARAMETERS)}"
            )
    if len(set(parameters)) != len(parameters) or not parameters:
        raise EvaluationError(f"parameters={list(parameters)}: name at least one, each once")
    turned = [name for name in parameters if name in ORIENTATION]
    if turned and is_free(dipole_moments(dipole)):
        raise EvaluationError(
            f"{', '.join(turned)} of a freely rotating dipole: it has no orientation; give dipole="
            "FixedDipole(polar_deg=..., azimuth_deg=...) or a ConeDipole"
        )


def _image_and_effects(
    optics: Any,
    window: Window,
    places: list[Floats],
    dipole: Any,
    parameters: Sequence[str],
    light: Floats,
) -> tuple[Floats, Floats]:
    """Image per photon (n, y, x), and what each parameter does to the mean (n, parameters, y, x).

    An effect that would stay below the model's error over a wavelength, a right angle or the whole
    range of the rotational constraint counts as none.
    """
    moment = dipole_moments(dipole)
    with single_blas_thread():
        image, *slopes = np.moveaxis(image_slopes(optics, window, *places, moment=moment), 1, 0)
        per_photon = dict(zip(POSITION, slopes, strict=True))
        if set(parameters) & set(ORIENTATION):
            per_photon |= _orientation_slopes(optics, window, places, dipole)
    ranges = ORIENTATION_RANGES | dict.fromkeys(POSITION, objective_of(optics).wavelength_nm)
    least = optics.accuracy * image.max(axis=(1, 2))
    effects = {"photons": image, "background": np.ones_like(image)}
    for name, slope in per_photon.items():
        acts = np.abs(slope).max(axis=(1, 2)) > least / ranges[name]
        effects[name] = (light * acts)[:, None, None] * slope
    return image, np.stack([effects[name] for name in parameters], axis=1)


def _orientation_slopes(
    optics: Any, window: Window, places: list[Floats], dipole: Any
) -> dict[str, Floats]:
    """Derivatives of a dipole's image by its orientation, name -> (n, y, x) [1/deg, 1]."""
    moment = dipole_moments(dipole)
    model = image_model(optics, window, Reach.over(*places), moment=moment)
    if not isinstance(model, DipoleModel):
        raise OpticsError(
            f"the image of a {type(model).__name__} gives no derivatives by orientation: use a "
            "computed widefield PSF of one wavelength, or leave the orientation parameters out"
        )
    z, focus, x, y = places
    basis = model.model.basis_images(z, focus, x, y, analyser_deg=model.analyser_deg)
    energies = model.model.basis_energies(z)
    total = energies @ moment
    image = np.einsum("k,nkyx->nyx", moment, basis) / total[:, None, None]
    slopes = {}
    for name, change in moment_slopes(dipole).items():
        turned = np.einsum("k,nkyx->nyx", change, basis)
        brighter = (energies @ change)[:, None, None]
        slopes[name] = (turned - image * brighter) / total[:, None, None]
    return slopes


def moment_slopes(dipole: FixedDipole | ConeDipole) -> dict[str, Floats]:
    """Derivatives of a dipole's second moments by its orientation, name -> (6,) [1/deg, 1].

    With ``n n^T`` the moments of the fixed dipole and ``M = gamma n n^T + (1 - gamma)/3``, and
    gamma = cos(alpha) (1 + cos(alpha)) / 2 for a cone of half angle alpha. Source: Backer and
    Moerner, J. Phys. Chem. B 118, 8313 (2014).
    """
    polar, azimuth, half_angle = orientation_rad(dipole)
    (sine_p, sine_a), (cosine_p, cosine_a) = (f((polar, azimuth)) for f in (np.sin, np.cos))
    axis = np.array((sine_p * cosine_a, sine_p * sine_a, cosine_p))
    along = np.array((cosine_p * cosine_a, cosine_p * sine_a, -sine_p))
    around = np.array((-sine_p * sine_a, sine_p * cosine_a, 0.0))
    constraint = float(constraint_of_half_angle(half_angle))
    from_free = moments(polar, azimuth)[0] - np.array(FREE_MOMENTS)
    closing = -0.5 * np.sin(half_angle) * (1.0 + 2.0 * np.cos(half_angle))
    degree = np.pi / 180.0
    return {
        "polar_deg": degree * constraint * _symmetric_product(axis, along),
        "azimuth_deg": degree * constraint * _symmetric_product(axis, around),
        "half_angle_deg": degree * closing * from_free,
        "rotational_constraint": from_free,
    }


def _symmetric_product(a: Floats, b: Floats) -> Floats:
    """Tensor ``a b^T + b a^T`` in the order xx, yy, zz, xy, xz, yz."""
    first, second = np.array((0, 1, 2, 0, 0, 1)), np.array((0, 1, 2, 1, 2, 2))
    return np.asarray(a[first] * b[second] + b[first] * a[second])


def _detection(
    camera: Camera | None, mean_photons: Floats, exposure_s: float, noise: str
) -> tuple[float, Floats]:
    """Electrons per photon [1], and the variance of every pixel in electrons [e^2]."""
    if noise not in ("moments", "exact"):
        raise EvaluationError(f"noise={noise!r} is unknown: choose moments or exact")
    if camera is None:
        return 1.0, mean_photons
    if not isinstance(camera, CCD | EMCCD | SCMOS):
        raise EvaluationError(
            f"camera={camera!r} is no camera: give CCD(), EMCCD() or SCMOS() of simscope.recipe "
            "with its numbers, or None"
        )
    detected = noise_model(camera, None, mean_photons, exposure_s=exposure_s)
    efficiency = float(setting(camera, "qe"))
    if noise == "moments":
        return efficiency, detected.variance_e2
    read_e = float(setting(camera, "read_noise_e") / em_gain(camera))
    multiplied = camera.kind == "emccd"
    return efficiency, exact_variance(detected.mean_e, read_e, multiplied=multiplied)
