"""Smooth background by its definition: a sum of cubic B-splines at every pixel, slowly."""

import math

import numpy as np
from scipy import special
from scipy.interpolate import BSpline

BUMP = BSpline.basis_element([-2, -1, 0, 1, 2], extrapolate=False)


def smooth_light(key, sample, shape, pixel_nm, scale_nm, level, contrast):
    """Light of every pixel, (y, x): log-normal around ``level``.

    Nodes stand ``scale_nm`` apart, the second over the frame's corner; node (i, j) has the normal
    variate of element ``i * columns + j``. A pixel's field is the sum of the B-splines around it,
    over the root of the sum of their squares, so that its variance is 1.
    """
    rows, columns = (math.floor((pixels - 0.5) * pixel_nm / scale_nm) + 4 for pixels in shape)
    numbers = np.arange(rows * columns).reshape(rows, columns)
    nodes = special.ndtri(key.child("background/field").uniform(numbers, sample=sample))
    light = np.empty(shape)
    for y in range(shape[0]):
        for x in range(shape[1]):
            bumps = np.outer(
                *(
                    np.nan_to_num(BUMP((k + 0.5) * pixel_nm / scale_nm + 1.0 - np.arange(count)))
                    for k, count in ((y, rows), (x, columns))
                )
            )
            field = (bumps * nodes).sum() / math.sqrt((bumps**2).sum())
            light[y, x] = level * math.exp(contrast * field - 0.5 * contrast**2)
    return light
