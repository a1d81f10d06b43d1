"""Counts back to photons, and the noise a perfect estimator has to live with.

The formulas are the moments of the chain in :mod:`simscope.camera.detector`; quantisation
(variance 1/12 ADU^2), saturation and the full well are left out.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from simscope.camera.maps import CameraMaps
from simscope.camera.settings import (
    Camera,
    Parameters,
    check_names,
    dark_electrons,
    em_gain,
    setting,
)
from simscope.errors import CameraError

Floats = npt.NDArray[np.float64]


class NoiseModel(NamedTuple):
    """First two moments of a pixel, in photo-electrons at the register's input, float64.

    ``mean_e`` electrons, ``variance_e2`` electrons squared, ``adu_per_e`` counts per electron.
    """

    mean_e: Floats
    variance_e2: Floats
    adu_per_e: Floats


def noise_model(
    camera: Camera,
    maps: CameraMaps | None,
    mean_photons: npt.ArrayLike,
    *,
    exposure_s: float = 0.0,
    parameters: Parameters | None = None,
) -> NoiseModel:
    """Mean [e], variance [e^2] and gain [ADU/e] of pixels that expect ``mean_photons``.

    With mean m = qe photons + dark: variance ``m + read^2`` for CCD and sCMOS (Huang et al. 2013),
    and ``2 m + (read / em_gain)^2`` for an EMCCD, whose register doubles the shot noise (excess
    noise factor sqrt 2, Robbins & Hadwen 2003, IEEE Trans. Electron Devices 50, 1227).

    ``mean_photons`` must broadcast against the maps (y, x); ``maps=None`` is a flat chip.
    ``exposure_s`` adds the dark current of that time; 0 leaves it out.

    Raises
    ------
    CameraError
        If photons are negative or not finite, or a drawn field has no value in ``parameters``.
    """
    check_names(camera, parameters)
    photons = np.asarray(mean_photons, dtype=np.float64)
    if not (np.all(np.isfinite(photons)) and np.all(photons >= 0)):
        raise CameraError("mean_photons holds values below 0 or not finite: give expected photons")
    mean_e = photons * setting(camera, "qe", parameters) + dark_electrons(
        camera, exposure_s, parameters
    )
    gain = em_gain(camera, parameters).astype(np.float64)
    read_e = setting(camera, "read_noise_e", parameters).astype(np.float64)
    adu_per_e = gain / setting(camera, "e_per_adu", parameters)
    if maps is not None:
        read_e = read_e * maps.read_noise
        adu_per_e = adu_per_e * maps.gain
    variance_e2 = excess_noise(camera) * mean_e + (read_e / gain) ** 2
    return NoiseModel(mean_e, variance_e2, np.asarray(adu_per_e))


def excess_noise(camera: Camera) -> float:
    """Variance over shot noise before read noise: 2 behind an EM register, which Robbins & Hadwen
    2003 show for large gains, else 1."""
    return 2.0 if camera.kind == "emccd" else 1.0


def adu_to_photons(
    adu: npt.ArrayLike,
    camera: Camera,
    maps: CameraMaps | None = None,
    *,
    parameters: Parameters | None = None,
) -> npt.NDArray[np.float32]:
    """Photons that would give these counts on average, float32 of the same shape.

    ``(adu - baseline - o) * e_per_adu / (g em_gain qe)``: unbiased but for dark current, which
    stays in, and saturation. Noise may make it negative. ``parameters`` hold scalars or arrays
    that broadcast against ``adu``.

    Raises
    ------
    CameraError
        If a drawn field has no value in ``parameters``.
    """
    check_names(camera, parameters)
    offset = setting(camera, "baseline_adu", parameters)
    gain = em_gain(camera, parameters) * setting(camera, "qe", parameters)
    scale = setting(camera, "e_per_adu", parameters) / gain
    if maps is not None:
        offset = offset + maps.offset_adu
        scale = scale / maps.gain
    return np.asarray((np.asarray(adu, dtype=np.float32) - offset) * scale, dtype=np.float32)
