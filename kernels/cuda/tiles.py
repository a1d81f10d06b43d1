"""Which emitters touch which tile of a frame, on a GPU: one thread an emitter.

Tiles are counted, then listed emitter by emitter; sorting the list by tile, stably, is array code.
"""

from numba import cuda

from simscope.kernels import tiles
from simscope.kernels.cuda.launch import on_grid


@on_grid("(float64[::1], float64[::1], int64[::1], int64, int64, int64, int64, int64[::1])")
def count_tiles(x, y, windows, rows, columns, tile_rows, tile_columns, counts):
    """Number of tiles each emitter touches in its frame; arguments as in ``kernels/tiles.py``."""
    e = cuda.grid(1)
    if e < x.size:
        window = windows[min(e, windows.size - 1)]
        top, bottom = tiles.tile_range(y[e], window, rows, tile_rows)
        left, right = tiles.tile_range(x[e], window, columns, tile_columns)
        counts[e] = (bottom - top) * (right - left)


@on_grid(
    "(float64[::1], float64[::1], int64[::1], int64, int64, int64, int64, int64[::1], int64[::1], "
    "int64[::1], int64[::1])"
)
def list_tiles(x, y, windows, rows, columns, tile_rows, tile_columns, frame, starts, tile, emitter):
    """Numbers of the tiles each emitter touches, written from ``starts`` on, beside its own."""
    e = cuda.grid(1)
    if e < x.size:
        window = windows[min(e, windows.size - 1)]
        top, bottom = tiles.tile_range(y[e], window, rows, tile_rows)
        left, right = tiles.tile_range(x[e], window, columns, tile_columns)
        down = tiles.tiles_along(rows, tile_rows)
        across = tiles.tiles_along(columns, tile_columns)
        at = starts[e]
        for row in range(top, bottom):
            for column in range(left, right):
                tile[at] = (frame[e] * down + row) * across + column
                emitter[at] = e
                at += 1
