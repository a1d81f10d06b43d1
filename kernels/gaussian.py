"""Add Gaussian spots, integrated over pixels, to frames.

A pixel's share of a spot is a product of two integrals, one along each axis, each half the
difference of two error functions. They are evaluated in float64, once for every edge between
pixels, and rounded to float32: in float32 alone the differences of a wide spot would lose digits.
A spot's window ends where the share outside, both axes together, is below ``LEFT_OUT``.

Sources: Smith, Joseph, Rieger and Lidke, Nature Methods 7, 373 (2010), eq. 4 (shares); Moshier,
Cephes, ``ndtr.c`` (error function).
"""

import numpy as np
from numba import prange

from simscope.kernels.canvas import canvas_of, lanes_seen, lay_down, padded, take_up
from simscope.kernels.compiled import compiled, inlined, threaded
from simscope.kernels.lanes import LANES, load, store
from simscope.kernels.numeric import exp64, floor, fma, polynomial, select
from simscope.kernels.tiles import emitters_of_tiles, first_pixel, share_out

REACH = 5.1
"""Half the window in standard deviations: beyond it lies a share of 3.4e-7 along an axis."""

LEFT_OUT = 6.8e-7
SQRT_2 = 1.4142135623730951
ERF_NUMERATOR = (
    9.60497373987051638749e0,
    9.00260197203842689217e1,
    2.23200534594684319226e3,
    7.00332514112805075473e3,
    5.55923013010394962768e4,
)
ERF_DENOMINATOR = (
    1.0,
    3.35617141647503099647e1,
    5.21357949780152679795e2,
    4.59432382970980127987e3,
    2.26290000613890934246e4,
    4.92673942608635921086e4,
)
ERFC_NUMERATOR = (
    2.46196981473530512524e-10,
    5.64189564831068821977e-1,
    7.46321056442269912687e0,
    4.86371970985681366614e1,
    1.96520832956077098242e2,
    5.26445194995477358631e2,
    9.34528527171957607540e2,
    1.02755188689515710272e3,
    5.57535335369399327526e2,
)
ERFC_DENOMINATOR = (
    1.0,
    1.32281951154744992508e1,
    8.67072140885989742329e1,
    3.54937778887819891062e2,
    9.75708501743205489753e2,
    1.82390916687909736289e3,
    2.24633760818710981792e3,
    1.65666309194161350182e3,
    5.57535340817727675546e2,
)
ERFC_END = 8.0  # the complement is below 1e-28 from there on


@inlined
def erf64(x):
    """Error function of a float64, error below 4e-16 (Cephes)."""
    size = min(abs(x), ERFC_END)
    z = size * size
    near = size * (polynomial(z, ERF_NUMERATOR) / polynomial(z, ERF_DENOMINATOR))
    ratio = polynomial(size, ERFC_NUMERATOR) / polynomial(size, ERFC_DENOMINATOR)
    value = select(size < 1.0, near, fma(-exp64(-z), ratio, 1.0))
    return select(x < 0.0, -value, value)


@inlined
def share_below(edge, centre, sigma):
    """Half the error function at a pixel's edge: shares of light are differences of it [1]."""
    return 0.5 * erf64((edge - centre) / (SQRT_2 * sigma))


@inlined
def pixel_share(pixel, centre, sigma):
    """Share of a spot's light between the edges of a pixel along one axis [1]; lengths in px."""
    edge = np.float64(pixel)
    return share_below(edge + 1.0, centre, sigma) - share_below(edge, centre, sigma)


@inlined
def window_of(sigma_y, sigma_x):
    """Side of a spot's window [px], odd."""
    return 2 * (np.int64(floor(REACH * max(sigma_y, sigma_x))) + 1) + 1


@inlined
def with_spot(value, share_x, share_y, photons):
    """``value`` plus the light of a spot in a pixel, given its shares along both axes."""
    return fma(share_x, share_y * photons, value)


@compiled
def windows_of(sigma_y, sigma_x):
    """Sides of the windows of spots [px], int64."""
    windows = np.empty(sigma_y.size, np.int64)
    for e in range(sigma_y.size):
        windows[e] = window_of(sigma_y[e], sigma_x[e])
    return windows


@compiled
def pixel_shares(first, centre, sigma, edges, shares):
    """Fill ``shares`` with those of pixels from ``first`` on; ``edges``: room for one more."""
    for k in range(shares.size + 1):
        edges[k] = share_below(np.float64(first + k), centre, sigma)
    for k in range(shares.size):
        shares[k] = edges[k + 1] - edges[k]


@compiled
def shares_between(low, high, centre, sigma, shares):
    """Fill float64 ``shares`` with those between edges, in any unit of length."""
    for k in range(shares.size):
        above = share_below(high[k], centre, sigma)
        shares[k] = above - share_below(low[k], centre, sigma)


@compiled
def add_spot(x, y, sigma_x, sigma_y, photons, window, canvas, low_row, high_row, columns, shares):
    """Add one spot to rows low to high - 1 of a frame, seen on a canvas (``kernels/canvas.py``)."""
    along_x, along_y, edges = shares
    left, top = first_pixel(x, window), first_pixel(y, window)
    first, last = max(0, low_row - top), min(window, high_row - top)
    low, high = lanes_seen(left, window, columns)
    pixel_shares(left, x, sigma_x, edges, along_x[:window])
    along_x[window : padded(window)] = 0.0
    pixel_shares(top + first, y, sigma_y, edges, along_y[first:last])
    for r in range(first, last):
        at = (top + r - low_row) * canvas.shape[1] + left + LANES
        share_y = along_y[r]
        for column in range(low, high, LANES):
            value = load(canvas, at + column)
            store(canvas, at + column, with_spot(value, load(along_x, column), share_y, photons))


@compiled
def add_to_bands(found, x, y, sigma_x, sigma_y, photons, windows, out, band, first, last):
    """Add to bands first to last - 1, of ``band`` rows each, the spots found to touch them."""
    starts, emitters = found
    rows, columns = out.shape[1:]
    canvas = canvas_of(band, columns)
    widest = padded(windows.max()) if windows.size else LANES
    shares = np.zeros(widest, np.float32), np.zeros(widest, np.float32), np.zeros(widest + 1)
    bands = (rows + band - 1) // band
    for unit in range(first, last):
        frame, low = unit // bands, unit % bands * band
        high = min(low + band, rows)
        take_up(out, frame, low, high, canvas)
        for k in range(starts[unit], starts[unit + 1]):
            e = emitters[k]
            add_spot(
                x[e], y[e], sigma_x[e], sigma_y[e], photons[e], windows[e],
                canvas, low, high, columns, shares,
            )  # fmt: skip
        lay_down(canvas, out, frame, low, high)


@threaded
def add_shares(found, x, y, sigma_x, sigma_y, photons, windows, out, band, edges):
    """:func:`add_to_bands` from each edge to the next, side by side."""
    for share in prange(edges.size - 1):
        add_to_bands(
            found, x, y, sigma_x, sigma_y, photons, windows, out, band,
            edges[share], edges[share + 1],
        )  # fmt: skip


def spots(offsets, x, y, sigma_x, sigma_y, photons, out, band, threads):
    """Add Gaussian spots to frames ``out`` (frames, y, x) [photons], on ``threads`` threads.

    Emitters of frame f are those from ``offsets[f]`` to ``offsets[f + 1] - 1``. Places and standard
    deviations float64 in pixels, ``photons`` float32. ``band``: rows worked on at a time. One
    thread is the calling one: no other needs to be free.
    """
    shape = (out.shape[1], out.shape[2])
    windows = windows_of(sigma_y, sigma_x)
    found = emitters_of_tiles(offsets, x, y, windows, shape, (band, shape[1]))
    work = (found, x, y, sigma_x, sigma_y, photons, windows, out, band)
    if threads == 1:
        add_to_bands(*work, 0, found[0].size - 1)
    else:
        widest = int(windows.max(initial=1))
        add_shares(*work, share_out(found[0], band * shape[1], widest, threads))
