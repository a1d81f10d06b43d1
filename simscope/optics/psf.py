"""Images of one emitter for anybody's use: checked input, the right model, plain arrays out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from simscope.errors import OpticsError
from simscope.optics.checks import (
    check_heights,
    check_numbers,
    check_supported,
    check_wavefront,
    check_window,
    is_number,
)
from simscope.optics.collection import relative_collection
from simscope.optics.dipoles import channels, dipole_moments
from simscope.optics.field import static_phasor
from simscope.optics.field_dependence import optics_at
from simscope.optics.interfaces import objective_of
from simscope.optics.model import Reach, image_model
from simscope.optics.pixels import Window
from simscope.optics.threads import single_blas_thread

FloatArray = NDArray[np.float64]


def psf(
    optics: Any,
    z_nm: ArrayLike = 0.0,
    focus_nm: ArrayLike = 0.0,
    shape: tuple[int, int] = (33, 33),
    pixel_nm: float = 100.0,
    *,
    x_nm: float = 0.0,
    y_nm: float = 0.0,
    wavefront_nm: Mapping[int, float] | None = None,
    dipole: Any = None,
    field_nm: tuple[float, float] = (0.0, 0.0),
) -> FloatArray:
    """Probability that a detected photon lands in each pixel, float64 (z, y, x).

    The window is centred on the emitter, then the emitter moved by (``x_nm``, ``y_nm``). Values
    sum to 1 over an infinite camera. ``z_nm`` (height above the coverslip) and ``focus_nm``
    (objective displacement towards the sample, 0 where the paraxial focus lies on the coverslip)
    broadcast against each other. ``wavefront_nm``: OSA index -> RMS nm on top of the optics' own.
    ``dipole``: FreeDipole (None), FixedDipole or ConeDipole with plain angles. Where the analyser
    has both channels they come first, (channel, z, y, x), and add to the image without analyser; a
    channel alone sums to the share of the light it passes. ``optics.collection='relative'``
    multiplies each plane by what is collected from its height and orientation, relative to a freely
    rotating dipole far from the coverslip.
    ``field_nm``: place (x, y) from the field's centre, where ``optics.field_dependence`` matters.
    Error below ``optics.accuracy`` of each plane's peak (1e-4 at best on a pixelated modulator).
    Raises OpticsError for impossible optics, heights below the coverslip, unresolvable masks.
    """
    check_supported(optics)
    check_window(shape, pixel_nm)
    z, focus = check_numbers(z_nm=z_nm, focus_nm=focus_nm)
    check_heights(objective_of(optics), z, 0.5 * optics.bead_diameter_nm)
    for name, value in (("x_nm", x_nm), ("y_nm", y_nm)):
        if not is_number(value):
            raise OpticsError(f"{name}={value!r} is no finite number: give one shift in nm")
    check_wavefront(wavefront_nm)
    optics = optics_at(optics, *field_nm)
    moment = dipole_moments(dipole)
    with single_blas_thread():
        images = [
            image_model(
                seen,
                Window(shape, pixel_nm, blur_nm=optics.blur_nm),
                Reach.over(z, focus, x_nm, y_nm),
                wavefront_nm=wavefront_nm,
                moment=moment,
            ).images(z, focus, x_nm, y_nm)
            for seen in channels(optics)
        ]
    out = images[0] if len(images) == 1 else np.stack(images)
    if optics.collection == "relative":
        out *= relative_collection(optics, z, moment)[:, None, None]
    return out


def pupil_phase(optics: Any, n: int = 256) -> tuple[FloatArray, float]:
    """Phase of mask and wavefront [rad] on an (n, n) grid, and the NA the grid spans each way.

    Rows grow with ky, columns with kx; NaN outside the pupil, for plotting.
    """
    objective = objective_of(optics)
    na = objective.na
    line = (np.arange(n) - 0.5 * (n - 1)) * (2.0 * na / n)
    kx, ky = np.meshgrid(line, line)
    inside = np.hypot(kx, ky) <= na
    phase = np.full((n, n), np.nan)
    phase[inside] = np.angle(static_phasor(optics, objective, kx[inside], ky[inside]))
    return phase, na
