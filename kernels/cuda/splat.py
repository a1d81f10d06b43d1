"""Add emitters to frames from a table of B-spline coefficients, on a GPU: one thread a pixel."""

from numba import cuda

from simscope.kernels import splat as bodies
from simscope.kernels.canvas import no_light_taken
from simscope.kernels.cuda.launch import on_grid
from simscope.kernels.tiles import first_pixel, pixel_and_tile


@on_grid(
    "(float32[:, :, ::1], int64, int64, int64[::1], int64[::1], float64[::1], float64[::1], "
    "float64[::1], float32[::1], int64[:, ::1], float32[:, ::1], float32[:, :, ::1], int64, int64)"
)
def splat(
    table, per_pixel, window, starts, emitters, x, y, height, photons, images, weights, out,
    tile_rows, tile_columns,
):  # fmt: skip
    """As ``kernels/splat.py``; every pixel gathers the emitters of its tile, in table order.

    ``table``: (images, planes, nodes).
    """
    i = cuda.grid(1)
    if i < out.size:
        rows, columns = out.shape[1], out.shape[2]
        frame, row, column, tile = pixel_and_tile(i, rows, columns, tile_rows, tile_columns)
        value = out[frame, row, column]
        for k in range(starts[tile], starts[tile + 1]):
            e = emitters[k]
            r, c = row - first_pixel(y[e], window), column - first_pixel(x[e], window)
            if 0 <= r < window and 0 <= c < window:
                mixture = min(e, images.shape[0] - 1)
                value += bodies.pixel_of_emitter(
                    table, per_pixel, window, x[e], y[e], height[e], photons[e],
                    images[mixture], weights[mixture], r, c,
                )  # fmt: skip
        out[frame, row, column] = no_light_taken(value)
