"""Standing-wave transforms from pupil nodes to intensity samples, in single precision.

The same two matrix products as the pupil model's array code, for many small images: every product
stays in the first cache, and the order of every sum is fixed, so that an image does not depend on
the threads around it.
"""

import numpy as np

from simscope.kernels.compiled import compiled

f32 = np.float32


@compiled
def multiply(a, b, out):
    """Write the matrix product ``a @ b`` to ``out``; inner dimension first padded by fours."""
    inner = a.shape[1]
    columns = b.shape[1]
    for row in range(a.shape[0]):
        line = out[row]
        for c in range(columns):
            line[c] = f32(0.0)
        for k in range(0, inner - 3, 4):
            a0, a1, a2, a3 = a[row, k], a[row, k + 1], a[row, k + 2], a[row, k + 3]
            b0, b1, b2, b3 = b[k], b[k + 1], b[k + 2], b[k + 3]
            for c in range(columns):
                line[c] += (a0 * b0[c] + a1 * b1[c]) + (a2 * b2[c] + a3 * b3[c])
        for k in range(inner // 4 * 4, inner):
            a0, b0 = a[row, k], b[k]
            for c in range(columns):
                line[c] += a0 * b0[c]


@compiled
def weighted_sources(source, part, out):
    """Write pupil field times one parity part to ``out`` (rows, 2 planes, columns).

    ``source``: (2 (re, im), planes, rows, columns); ``part``: (2, rows, columns).
    """
    _, planes, rows, columns = source.shape
    for plane in range(planes):
        for row in range(rows):
            s_re, s_im = source[0, plane, row], source[1, plane, row]
            p_re, p_im = part[0, row], part[1, row]
            o_re, o_im = out[row, plane], out[row, planes + plane]
            for c in range(columns):
                o_re[c] = s_re[c] * p_re[c] - s_im[c] * p_im[c]
                o_im[c] = s_re[c] * p_im[c] + s_im[c] * p_re[c]


@compiled
def standing_waves(weighted, waves_x, waves_y, along, across):
    """Write the transform of one parity to ``across`` (2 planes, half y, half x).

    ``weighted``: (rows, 2 planes, columns); ``waves_x``: (rows, columns, half x); ``waves_y``:
    (half y, rows); ``along``: scratch (2 planes, rows, half x).
    """
    for row in range(weighted.shape[0]):
        multiply(weighted[row], waves_x[row], along[:, row, :])
    for image in range(along.shape[0]):
        multiply(waves_y, along[image], across[image])


@compiled
def add_quadrants(ee, eo, oe, oo, out):
    """Add one component's intensity to ``out`` (planes, 2, 2, half y, half x).

    The field at (sy y, sx x) is ``ee - i sx eo - i sy oe - sx sy oo``; each part is (2 planes,
    half y, half x), real parts first.
    """
    planes, _, _, half_y, half_x = out.shape
    for plane in range(planes):
        im = planes + plane
        for y in range(half_y):
            pp, pm, mp, mm = (
                out[plane, 0, 0, y], out[plane, 0, 1, y], out[plane, 1, 0, y], out[plane, 1, 1, y],
            )  # fmt: skip
            a_re, b_re, c_re, d_re = ee[plane, y], eo[plane, y], oe[plane, y], oo[plane, y]
            a_im, b_im, c_im, d_im = ee[im, y], eo[im, y], oe[im, y], oo[im, y]
            for x in range(half_x):
                same_re, same_im = a_re[x] - d_re[x], a_im[x] - d_im[x]
                other_re, other_im = a_re[x] + d_re[x], a_im[x] + d_im[x]
                sum_re, sum_im = b_im[x] + c_im[x], -(b_re[x] + c_re[x])
                gap_re, gap_im = b_im[x] - c_im[x], -(b_re[x] - c_re[x])
                pp[x] += (same_re + sum_re) ** 2 + (same_im + sum_im) ** 2
                mm[x] += (same_re - sum_re) ** 2 + (same_im - sum_im) ** 2
                mp[x] += (other_re + gap_re) ** 2 + (other_im + gap_im) ** 2
                pm[x] += (other_re - gap_re) ** 2 + (other_im - gap_im) ** 2


@compiled
def stack_intensity(source, parity, parts, waves_x, waves_y, out):
    """Write intensity samples of a stack to ``out`` (planes, 2, 2, half y, half x).

    ``source``: (components, 2 (re, im), planes, rows, columns), pupil fields with their weights;
    ``parity``: (components, 2), oddness in (y, x); ``parts``: (2, 2, 2 (re, im), rows, columns),
    even and odd parts of the sample's own phasor; ``waves_x``: (2, rows, columns, half x);
    ``waves_y``: (2, half y, rows). All float32; out[:, 1, 0] is the quadrant y < 0, x > 0.
    """
    components, _, planes, rows, columns = source.shape
    half_y, half_x = waves_y.shape[1], waves_x.shape[3]
    weighted = np.empty((rows, 2 * planes, columns), np.float32)
    along = np.empty((2 * planes, rows, half_x), np.float32)
    across = np.empty((2, 2, 2 * planes, half_y, half_x), np.float32)
    out[:] = f32(0.0)
    for component in range(components):
        for py in range(2):
            for px in range(2):
                odd_y, odd_x = py ^ parity[component, 0], px ^ parity[component, 1]
                weighted_sources(source[component], parts[py, px], weighted)
                standing_waves(
                    weighted, waves_x[odd_x], waves_y[odd_y], along, across[odd_y, odd_x]
                )
        add_quadrants(across[0, 0], across[0, 1], across[1, 0], across[1, 1], out)


@compiled
def spread(weighted_re, weighted_im, factor, part, out):
    """Write pupil field times a factor to ``out[:, part]``.

    ``out``: (rows, parts, 2 (re, im), planes, columns);
    ``weighted_re``, ``weighted_im``: (planes, rows, columns); ``factor``: (2, rows, columns).
    """
    planes, rows, columns = weighted_re.shape
    for row in range(rows):
        f_re, f_im = factor[0, row], factor[1, row]
        for plane in range(planes):
            w_re, w_im = weighted_re[plane, row], weighted_im[plane, row]
            o_re, o_im = out[row, part, 0, plane], out[row, part, 1, plane]
            for c in range(columns):
                o_re[c] = w_re[c] * f_re[c] - w_im[c] * f_im[c]
            for c in range(columns):
                o_im[c] = w_re[c] * f_im[c] + w_im[c] * f_re[c]


@compiled
def add_real_product(a, b, share, out):
    """Add ``share`` times Re(a * conj(b)) to ``out`` (n,); ``a`` and ``b``: (2 (re, im), n)."""
    a_re, a_im, b_re, b_im = a[0], a[1], b[0], b[1]
    for i in range(out.size):
        out[i] += share * (a_re[i] * b_re[i] + a_im[i] * b_im[i])


@compiled
def add_imaginary_product(a, b, share, out):
    """Add ``share`` times Im(a * conj(b)) to ``out`` (n,); ``a`` and ``b``: (2 (re, im), n)."""
    a_re, a_im, b_re, b_im = a[0], a[1], b[0], b[1]
    for i in range(out.size):
        out[i] += share * (a_im[i] * b_re[i] - a_re[i] * b_im[i])


@compiled
def add_interference(first, second, same, share, out):
    """Add ``share`` times Re(first * conj(second)) to ``out`` (4, half y, planes * half x).

    ``first``, ``second`` (the ``same``?): standing waves of fields in order of parity (ee, eo, oe,
    oo), each (half y, 2 (re, im), planes * half x) or empty. A wave of m odd directions bears the
    factor (-i)^m, so the product of waves of m and m' has (-i)^(m - m'). Its parity, the index in
    ``out``, is theirs added modulo 2 in each direction.
    """
    for y in range(out.shape[1]):
        for i in range(4):
            for j in range(i + 1 if same else 4):
                if first[i].size == 0 or second[j].size == 0:
                    continue
                both = share if i == j or not same else 2.0 * share
                turns = (i + 1) // 2 - (j + 1) // 2
                if turns % 2 == 0:
                    sign = 1.0 if turns == 0 else -1.0
                    add_real_product(first[i][y], second[j][y], sign * both, out[i ^ j, y])
                else:
                    sign = float(turns)
                    add_imaginary_product(first[i][y], second[j][y], sign * both, out[i ^ j, y])


@compiled
def unfold_light(total, out):
    """Write whole sample grids to ``out`` (planes, y, x) from light by parity.

    ``total``: (4 (ee, eo, oe, oo), half y, planes, half x), for y, x > 0.
    """
    _, half_y, _, half_x = total.shape
    planes, samples_y, samples_x = out.shape
    right, left = samples_x - half_x, half_x - 1
    for plane in range(planes):
        for y in range(half_y):
            below, above = out[plane, samples_y - half_y + y], out[plane, half_y - 1 - y]
            ee, eo = total[0, y, plane], total[1, y, plane]
            oe, oo = total[2, y, plane], total[3, y, plane]
            for x in range(half_x):
                above[left - x] = (ee[x] - oe[x]) - (eo[x] - oo[x])
                above[right + x] = (ee[x] - oe[x]) + (eo[x] - oo[x])
            for x in range(half_x):
                below[left - x] = (ee[x] + oe[x]) - (eo[x] + oo[x])
                below[right + x] = (ee[x] + oe[x]) + (eo[x] + oo[x])
