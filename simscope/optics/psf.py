"""Images of one emitter for anybody's use: checked input, the right model, plain arrays out."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from simscope.blas import single_blas_thread
from simscope.errors import OpticsError, WindowWarning
from simscope.optics.checks import (
    check_distance,
    check_heights,
    check_numbers,
    check_place,
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

FloatArray = NDArray[np.float64]

WARN_LEFT_OUT = 0.2
"""Share of the light outside the window from which a warning tells of it."""


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
    Warns where more than 20 % of the light falls outside the window at either end of the range.
    Error below ``optics.accuracy`` of each plane's peak (1e-4 at best on a pixelated modulator).
    Raises OpticsError for impossible optics, heights below the coverslip, unresolvable masks.
    """
    check_supported(optics)
    z, focus = check_numbers(z_nm=z_nm, focus_nm=focus_nm)
    check_heights(objective_of(optics), z, 0.5 * optics.bead_diameter_nm)
    check_distance("focus_nm", focus)
    for name, value in (("x_nm", x_nm), ("y_nm", y_nm)):
        if not is_number(value):
            raise OpticsError(f"{name}={value!r} is no finite number: give one shift in nm")
    check_window(shape, pixel_nm, math.hypot(x_nm, y_nm), images=z.size)
    check_wavefront(wavefront_nm)
    check_place("field_nm", field_nm)
    optics = optics_at(optics, *field_nm)
    moment = dipole_moments(dipole)
    with single_blas_thread():
        models = [
            image_model(
                seen,
                Window(shape, pixel_nm, blur_nm=optics.blur_nm),
                Reach.over(z, focus, x_nm, y_nm),
                wavefront_nm=wavefront_nm,
                moment=moment,
            )
            for seen in channels(optics)
        ]
        images = [model.images(z, focus, x_nm, y_nm) for model in models]
        if optics.analyser is None or len(models) == 2:
            _warn_of_light_left_out(models[0], images, z, focus)
    out = images[0] if len(images) == 1 else np.stack(images)
    if optics.collection == "relative":
        out *= relative_collection(optics, z, moment)[:, None, None]
    return out


def _warn_of_light_left_out(
    model: Any, channels: list[FloatArray], z: FloatArray, focus: FloatArray
) -> None:
    """Record a warning if the window misses much of the light least or most out of focus."""
    ends = [int(np.argmin(z - focus)), int(np.argmax(z - focus))]
    held = np.array([sum(float(channel[k].sum()) for channel in channels) for k in ends])
    given = model.energies(z[ends], focus[ends]) if hasattr(model, "energies") else np.ones(2)
    lost = 1.0 - held / np.maximum(given, np.finfo(np.float64).tiny)
    worst = int(np.argmax(lost))
    if lost[worst] > WARN_LEFT_OUT:
        height, width = channels[0].shape[1:]
        warnings.warn(
            f"{100 * lost[worst]:.0f} % of the light at z_nm={z[ends[worst]]:g}, "
            f"focus_nm={focus[ends[worst]]:g} falls outside the window of {height}x{width} "
            "pixels: give a larger shape if it matters",
            WindowWarning,
            stacklevel=3,
        )


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
