"""Slow, obvious twins for measured PSFs, written from the programs' own definitions."""

import math

import numpy as np
from scipy.interpolate import CubicSpline


def cspline_value(coeff, d1, d2, d3):
    """A fit3Dcspline calibration at one place, term by term; coeff (d1, d2, planes, 64).

    fit3Dcspline, simSplinePSF.c: term 16 a + 4 b + c multiplies d3^a d2^b d1^c of the fractions.
    """
    cells = [
        min(max(math.floor(d), 0), n - 1) for d, n in zip((d1, d2, d3), coeff.shape, strict=False)
    ]
    f1, f2, f3 = d1 - cells[0], d2 - cells[1], d3 - cells[2]
    total = 0.0
    for a in range(4):
        for b in range(4):
            for c in range(4):
                term = float(coeff[cells[0], cells[1], cells[2], 16 * a + 4 * b + c])
                total += term * f3**a * f2**b * f1**c
    return total


def decode_roi(coeff, x0, z0, dz_nm, xyz, size):
    """DECODE's image roi[x, y] of an emitter at (x, y) pixels and z [nm], pixel k centred on k.

    DECODE, psf_kernel.py: reference (x0 - 1, x0 - 1, z0); places are (pixel - emitter) + reference
    along x and y and z0 - z / dz along z. The emitter lies ``size // 2`` pixels into the roi.
    """
    x, y, z_nm = xyz
    roi = np.zeros((size, size))
    for i in range(size):
        for j in range(size):
            roi[i, j] = cspline_value(
                coeff,
                i - size // 2 - x + x0 - 1,
                j - size // 2 - y + x0 - 1,
                z0 - z_nm / dz_nm,
            )
    return roi


def cspline_coefficients(samples):
    """Coefficients (d1 - 1, d2 - 1, planes - 1, 64) of the spline through samples (d1, d2, planes).

    By scipy's one-dimensional splines, one axis after the other.
    """
    local = samples
    for axis in range(3):
        # c: (power, falling; cells; the other axes)
        c = CubicSpline(np.arange(local.shape[axis]), local, axis=axis).c[::-1]
        local = np.moveaxis(np.moveaxis(c, 1, 1 + axis), 0, -1)
    # powers were appended in the order d1, d2, d3; the file wants d3 slowest
    ordered = local.swapaxes(3, 5)
    return ordered.reshape(*local.shape[:3], 64)
