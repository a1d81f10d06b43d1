"""Standing waves to light, in double precision: what the transform's array code says, in one sweep.

The matrix products between pupil and image are the library's (``optics/transform.py``); this is the
rest of the work, with no array in between. The order of every sum is fixed.
"""

from simscope.kernels.compiled import compiled


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
