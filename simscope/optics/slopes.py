"""Derivatives of images by the emitter's position, for any model.

Models that know them in closed form answer ``slopes``; the others are differenced. An image is
band-limited laterally (2 NA / wavelength, and sums of such bands beyond widefield) and varies
axially no faster than a wave in the sample, so central differences over nine points converge
as (step * frequency)^8 / 630: with steps of a fifth of a radian of the fastest wave 4e-9. Of every
derivative the eighth order is kept and the sixth, from the same images, says how good it is: the
difference of the two overestimates the error. Steps shrink until that is below the tolerance. Next
to an interface the differences by z are one-sided, so that no height falls below the coverslip.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from simscope.errors import OpticsError
from simscope.optics.interfaces import objective_of
from simscope.optics.model import Reach, image_model
from simscope.optics.pixels import Window

FloatArray = NDArray[np.float64]
Images = Callable[[FloatArray, FloatArray, FloatArray, FloatArray], FloatArray]

HALF_WIDTH = 4
"""Steps of the difference stencil on either side."""

STEP_RAD = 0.2
"""First step, in radians of the fastest wave in a widefield image."""

SMALLEST_STEP_SHARE = 1 / 16
"""Share of the first step below which differencing counts as failed: a kink, or a noisy image."""

FLAT = 1e-6
"""Slopes over one step below this share of the peak are errors of the images, not slopes."""

TOLERANCE = 1e-4
"""Largest difference between the orders, as a share of the largest slope."""


def image_slopes(
    optics: Any,
    window: Window,
    z_nm: ArrayLike = 0.0,
    focus_nm: ArrayLike = 0.0,
    x_nm: ArrayLike = 0.0,
    y_nm: ArrayLike = 0.0,
    *,
    accuracy: float | None = None,
    moment: ArrayLike | None = None,
) -> FloatArray:
    """Images [1] and their derivatives by x, y, z [1/nm], float64 (n, 4, y, x).

    ``moment``: second moments (6,) of an oriented dipole, None for a free one. Analytic where the
    model offers ``slopes``, otherwise by differences whose error is below 1e-4 of the largest
    slope (1e-7 in widefield). Raises OpticsError as the models do, and if differences do not
    converge.
    """
    places = broadcast_places(z_nm, focus_nm, x_nm, y_nm)

    def model_over(reach: Reach) -> Any:
        return image_model(optics, window, reach, accuracy=accuracy, moment=moment)

    model = model_over(Reach.over(*places))
    if hasattr(model, "slopes"):
        return np.asarray(model.slopes(*places))
    return differenced(lambda reach: model_over(reach).images, optics, *places)


def broadcast_places(*columns: ArrayLike) -> tuple[FloatArray, ...]:
    """Float64 arrays (n,) of values that broadcast against each other."""
    arrays = [np.atleast_1d(np.asarray(column, np.float64)) for column in columns]
    return tuple(np.array(column) for column in np.broadcast_arrays(*arrays))


def differenced(
    images_over: Callable[[Reach], Images],
    optics: Any,
    z_nm: FloatArray,
    focus_nm: FloatArray,
    x_nm: FloatArray,
    y_nm: FloatArray,
) -> FloatArray:
    """Images and their derivatives by x, y, z from images alone, float64 (n, 4, ...).

    ``images_over``: the function (z, focus, x, y) -> (n, ...) that serves a reach. Raises
    OpticsError if the sixth and the eighth order do not come to agree.
    """
    objective = objective_of(optics)
    k = objective.wavenumber_per_nm
    lateral_nm, axial_nm = STEP_RAD / (2.0 * k * objective.na), STEP_RAD / (k * objective.n_sample)
    lowest_nm = 0.0 if objective.has_interface else -math.inf
    share, error = 1.0, math.inf
    while share >= SMALLEST_STEP_SHARE:
        steps = (share * lateral_nm, share * lateral_nm, share * axial_nm)
        slopes, error = _differences(images_over, (z_nm, focus_nm, x_nm, y_nm), steps, lowest_nm)
        if error <= TOLERANCE:
            return slopes
        share *= 0.5
    raise OpticsError(
        f"derivatives of the image by differences agree to {error:.1e} of the largest only, "
        f"{TOLERANCE:g} is needed: ask the optics for a better accuracy (a smaller number)"
    )


def _differences(
    images_over: Callable[[Reach], Images],
    places: tuple[FloatArray, ...],
    steps_nm: tuple[float, float, float],
    lowest_nm: float,
) -> tuple[FloatArray, float]:
    """Images and derivatives (n, 4, ...) for one choice of steps, and their error's estimate."""
    z, focus, x, y = places
    centred = np.full(z.shape, HALF_WIDTH)
    below = np.floor(np.minimum((z - lowest_nm) / steps_nm[2], HALF_WIDTH)).astype(int)
    far = HALF_WIDTH * steps_nm[0]
    images = images_over(
        Reach(
            (
                float((z - below * steps_nm[2]).min()),
                float((z + (2 * HALF_WIDTH - below) * steps_nm[2]).max()),
            ),
            (float(focus.min()), float(focus.max())),
            float(np.abs((x, y)).max()) + far,
        )
    )
    middle = images(*places)
    out, errors = [middle], []
    for column, step_nm, left in zip((2, 3, 0), steps_nm, (centred, centred, below), strict=True):
        eighth, sixth = _derivative(images, middle, places, column, step_nm, left)
        largest = max(np.abs(eighth).max(), FLAT * np.abs(middle).max() / step_nm)
        errors.append(float(np.abs(eighth - sixth).max() / largest))
        out.append(eighth)
    return np.stack(out, axis=1), max(errors)


def _derivative(
    images: Images,
    middle: FloatArray,
    places: tuple[FloatArray, ...],
    column: int,
    step_nm: float,
    left: NDArray[np.int64],
) -> tuple[FloatArray, FloatArray]:
    """Derivatives of order 8 and 6 by one of the places [1/nm], each of the shape of ``middle``.

    ``left``: (n,) points of the stencil below each place; ``middle``: images at the places.
    """
    weights = np.array([stencil(int(count)) for count in left]) / step_nm
    spread = (-1,) + (1,) * (middle.ndim - 1)
    eighth, sixth = np.zeros_like(middle), np.zeros_like(middle)
    for number in range(2 * HALF_WIDTH + 1):
        offsets = number - left
        moved = [*places]
        moved[column] = places[column] + offsets * step_nm
        there = images(*moved) if offsets.any() else middle
        eighth += weights[:, 0, number].reshape(spread) * there
        sixth += weights[:, 1, number].reshape(spread) * there
    return eighth, sixth


@lru_cache(maxsize=2 * HALF_WIDTH + 1)
def stencil(left: int) -> FloatArray:
    """Weights of first differences over nine points, ``left`` of them below, (2, 9).

    Of order 8, and of order 6 without the two points farthest away; from the conditions that
    powers of the offset up to the order are differentiated exactly.
    """
    offsets = np.arange(2 * HALF_WIDTH + 1) - left
    near = np.sort(np.argsort(np.abs(offsets), kind="stable")[:-2])
    sixth = np.zeros(offsets.size)
    sixth[near] = _first_difference(offsets[near])
    return np.array((_first_difference(offsets), sixth))


def _first_difference(offsets: NDArray[np.int64]) -> FloatArray:
    """Weights that differentiate polynomials through points at whole ``offsets``, (points,)."""
    powers = np.vander(offsets.astype(np.float64), increasing=True).T
    wanted = np.zeros(offsets.size)
    wanted[1] = 1.0
    return np.asarray(np.linalg.solve(powers, wanted), np.float64)
