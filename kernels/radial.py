"""Radial PSFs: Bessel tables, B-spline coefficients of profiles, and profiles to pixels.

J0 and J1 come from Taylor polynomials of J0 about equidistant points (J1 = -J0'), J2 from their
recurrence; B-spline coefficients from the recursive filter of Unser, Aldroubi and Eden, IEEE Trans.
Signal Process. 41, 834 (1993).
"""

import math

import numpy as np

from simscope.kernels.compiled import compiled, inlined

PLANES = 8
"""Planes worked on side by side: one vector of float64 on the widest processors."""

DEGREE = 7
"""Degree of the B-splines along the radius; known to the compiler, which unrolls their loops."""

SPLINES = DEGREE + 1


@compiled
def gauss_legendre(node, weight):
    """Write the Gauss-Legendre rule on [-1, 1], ascending, to two arrays of one length.

    Newton's method on the three-term recurrence from Tricomi's asymptotic zeros (Abramowitz and
    Stegun, eqs. 22.7.10, 22.8.5, 22.16.6, 25.4.29).
    """
    n = node.size
    for i in range((n + 1) // 2):
        x = math.cos(math.pi * (i + 0.75) / (n + 0.5)) * (1.0 - (n - 1.0) / (8.0 * n**3))
        slope = 1.0
        for _ in range(100):
            before, value = 0.0, 1.0
            for k in range(n):
                before, value = value, ((2.0 * k + 1.0) * x * value - k * before) / (k + 1.0)
            slope = n * (before - x * value) / ((1.0 - x) * (1.0 + x))
            step = value / slope
            x -= step
            if abs(step) < 1e-15:
                break
        node[i], node[n - 1 - i] = -x, x
        weight[i] = weight[n - 1 - i] = 2.0 / ((1.0 - x) * (1.0 + x) * slope * slope)


@compiled
def bessel_functions(scaled_radius, q, taylor, step, j0, j1, j2):
    """Write J0, J1, J2 of ``scaled_radius[r] * q[i]`` to (radii, nodes) arrays.

    ``taylor``: (points, terms), Taylor coefficients of J0 about multiples of ``step``, up to half a
    step beyond the largest argument. Orders whose array is empty are left out.
    """
    terms = taylor.shape[1]
    wants_j1, wants_j2 = j1.shape[0] > 0, j2.shape[0] > 0
    for r in range(scaled_radius.size):
        for i in range(q.size):
            x = scaled_radius[r] * q[i]
            point = int(x / step + 0.5)
            d = x - point * step
            value, slope = taylor[point, terms - 1], 0.0
            for k in range(terms - 2, -1, -1):
                slope = slope * d + value
                value = value * d + taylor[point, k]
            j0[r, i] = value
            if wants_j1:
                j1[r, i] = -slope
            if wants_j2:
                j2[r, i] = 0.125 * x * x if x < 1e-6 else -2.0 * slope / x - value


@compiled
def spline_coefficients(values, parity, pad, poles, out):
    """Write B-spline coefficients of profiles to ``out`` (planes / PLANES, pad + radii, PLANES).

    ``values``: (radii, planes) from r = 0 outwards; ``parity``: +1 or -1, how profiles continue
    to r < 0, where ``pad`` samples are mirrored; ``poles``: of the recursive filter. The last
    ``pad`` radii are only there to let the edge's influence die out; missing planes are zeros.
    """
    radii, planes = values.shape
    gain = 1.0
    for pole in poles:
        gain *= (1.0 - pole) * (1.0 - 1.0 / pole)
    for block in range(out.shape[0]):
        c = out[block]
        first = block * PLANES
        count = min(PLANES, planes - first)
        c[:] = 0.0
        for r in range(radii):
            for p in range(count):
                c[pad + r, p] = gain * values[r, first + p]
        for r in range(1, pad + 1):
            for p in range(count):
                c[pad - r, p] = parity * c[pad + r, p]
        for pole in poles:
            for r in range(1, pad + radii):
                for p in range(PLANES):
                    c[r, p] += pole * c[r - 1, p]
            for p in range(PLANES):
                c[pad + radii - 1, p] *= -pole / (1.0 - pole)
            for r in range(pad + radii - 2, -1, -1):
                for p in range(PLANES):
                    c[r, p] = pole * (c[r + 1, p] - c[r, p])


@inlined
def basis_splines(share, pieces, out):
    """Write the B-splines that do not vanish at ``share`` in [0, 1) of a knot interval to ``out``.

    ``pieces``: (powers, SPLINES), coefficients of their polynomials there, lowest power first.
    """
    for t in range(SPLINES):
        out[t] = pieces[DEGREE, t]
    for k in range(DEGREE - 1, -1, -1):
        for t in range(SPLINES):
            out[t] = out[t] * share + pieces[k, t]


@compiled
def pixel_weights(x, y, offset, area, per_radius, pad, pieces, start, weights):
    """Write what each coefficient gives to each pixel, to ``start`` and ``weights``.

    ``x``, ``y``: (pixels,) centres >= 0 [nm]; ``offset``: (points,) quadrature points along a
    pixel's side [nm], ascending, and ``area``: (points, points) their weights [nm^2];
    ``per_radius``: coefficients per nm; ``start``: (pixels,) first coefficient that counts;
    ``weights``: (pixels, taps), with degree + 1 taps more than the pixel spans coefficients;
    ``pieces`` as in ``basis_splines``.
    """
    before = pad - (DEGREE - 1) // 2
    basis = np.empty(SPLINES)
    for pixel in range(x.size):
        row = weights[pixel]
        row[:] = 0.0
        near_x = max(x[pixel] + offset[0], 0.0)
        near_y = max(y[pixel] + offset[0], 0.0)
        nearest = math.sqrt(near_x * near_x + near_y * near_y)
        first = int(nearest * per_radius) + before
        start[pixel] = first
        for i in range(offset.size):
            dy = y[pixel] + offset[i]
            for j in range(offset.size):
                dx = x[pixel] + offset[j]
                at = math.sqrt(dx * dx + dy * dy) * per_radius
                knot = int(at)
                basis_splines(at - knot, pieces, basis)
                lead = knot + before - first
                for t in range(SPLINES):
                    row[lead + t] += area[i, j] * basis[t]


@compiled
def mirrored_images(coefficients, which, start, weights, out):
    """Write images of centred emitters to ``out`` (planes, y, x), at most PLANES of them.

    ``coefficients``: (coefficients, PLANES); ``which``: (half y, half x), the row of ``start`` and
    ``weights`` for each pixel of the quadrant x, y >= 0.
    """
    half_y, half_x = which.shape
    planes, rows, columns = out.shape
    taps = weights.shape[1]
    line = np.empty((PLANES, half_x))
    total = np.empty(PLANES)
    for y in range(half_y):
        for x in range(half_x):
            pixel = which[y, x]
            lead = start[pixel]
            for p in range(PLANES):
                total[p] = 0.0
            for t in range(taps):
                w = weights[pixel, t]
                for p in range(PLANES):
                    total[p] += w * coefficients[lead + t, p]
            for p in range(PLANES):
                # the exact value is never negative; the spline's error can be where it is dark
                line[p, x] = max(total[p], 0.0)
        below, above = rows - half_y + y, half_y - 1 - y
        for p in range(planes):
            lower = out[p, below]
            for x in range(half_x):
                lower[columns - half_x + x] = line[p, x]
                lower[half_x - 1 - x] = line[p, x]
            if above != below:
                upper = out[p, above]
                for x in range(columns):
                    upper[x] = lower[x]


@compiled
def profiles_at(coefficients, x, y, per_radius, pad, pieces, out):
    """Write profiles on the grid of ``y`` and ``x`` [nm] to ``out`` (planes, y, x).

    ``coefficients``: (blocks, coefficients, PLANES), ``per_radius`` of them per nm; ``pieces`` as
    in ``basis_splines``: of the splines for values, of their derivatives for slopes.
    """
    planes = out.shape[0]
    basis, total = np.empty(SPLINES), np.empty(PLANES)
    for i in range(y.size):
        for j in range(x.size):
            at = math.sqrt(x[j] * x[j] + y[i] * y[i]) * per_radius
            knot = int(at)
            lead = knot + pad - (DEGREE - 1) // 2
            basis_splines(at - knot, pieces, basis)
            for block in range(coefficients.shape[0]):
                c = coefficients[block]
                for p in range(PLANES):
                    total[p] = 0.0
                for t in range(SPLINES):
                    for p in range(PLANES):
                        total[p] += basis[t] * c[lead + t, p]
                for p in range(min(PLANES, planes - block * PLANES)):
                    out[block * PLANES + p, i, j] = total[p]


@compiled
def integrate_pixels(samples, start_y, weight_y, start_x, weight_x, out):
    """Write pixel integrals to ``out`` (y, x) from ``samples`` (samples y, samples x).

    ``start``: (pixels,) first sample that counts along an axis; ``weight``: (pixels, taps).
    """
    line = np.empty(samples.shape[1])
    for i in range(out.shape[0]):
        line[:] = 0.0
        for t in range(weight_y.shape[1]):
            w = weight_y[i, t]
            source = samples[start_y[i] + t]
            for j in range(line.size):
                line[j] += w * source[j]
        for j in range(out.shape[1]):
            total = 0.0
            for t in range(weight_x.shape[1]):
                total += weight_x[j, t] * line[start_x[j] + t]
            out[i, j] = total
