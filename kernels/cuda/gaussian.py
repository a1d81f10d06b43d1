"""Add Gaussian spots to frames on a GPU: one thread a spot's share, then one a pixel."""

import numpy as np
from numba import cuda

from simscope.kernels import gaussian as bodies
from simscope.kernels.canvas import no_light_taken
from simscope.kernels.cuda.launch import on_grid
from simscope.kernels.tiles import first_pixel, pixel_and_tile


@on_grid("(float64[::1], float64[::1], int64[::1])")
def windows_of(sigma_y, sigma_x, windows):
    """Sides of the windows of spots [px]."""
    e = cuda.grid(1)
    if e < windows.size:
        windows[e] = bodies.window_of(sigma_y[e], sigma_x[e])


@on_grid("(float64[::1], float64[::1], int64[::1], float32[:, ::1])")
def pixel_shares(centre, sigma, windows, shares):
    """Fill ``shares`` (emitters, widest window) with those along one axis."""
    i = cuda.grid(1)
    if i < shares.size:
        e, k = i // shares.shape[1], i % shares.shape[1]
        if k < windows[e]:
            pixel = first_pixel(centre[e], windows[e]) + k
            shares[e, k] = np.float32(bodies.pixel_share(pixel, centre[e], sigma[e]))


@on_grid(
    "(int64[::1], int64[::1], float64[::1], float64[::1], float32[:, ::1], float32[:, ::1], "
    "float32[::1], int64[::1], float32[:, :, ::1], int64, int64)"
)
def spots(
    starts, emitters, x, y, shares_x, shares_y, photons, windows, out, tile_rows, tile_columns
):
    """As ``kernels/gaussian.py``; every pixel gathers the spots of its tile, in table order."""
    i = cuda.grid(1)
    if i < out.size:
        rows, columns = out.shape[1], out.shape[2]
        frame, row, column, tile = pixel_and_tile(i, rows, columns, tile_rows, tile_columns)
        value = out[frame, row, column]
        for k in range(starts[tile], starts[tile + 1]):
            e = emitters[k]
            window = windows[e]
            r, c = row - first_pixel(y[e], window), column - first_pixel(x[e], window)
            if 0 <= r < window and 0 <= c < window:
                value = np.float32(
                    bodies.with_spot(value, shares_x[e, c], shares_y[e, r], photons[e])
                )
        out[frame, row, column] = no_light_taken(value)
