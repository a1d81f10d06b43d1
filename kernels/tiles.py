"""Which emitters touch which part of a frame: sorted once, so that nobody looks at all of them.

Frames are cut into tiles of ``tile_rows`` x ``tile_columns`` pixels (the last ones of a row or
column may be smaller), numbered frame by frame, row by row. A tile lists the emitters whose windows
touch it in the order of the table, so that every pixel adds its emitters in that order whatever the
size of the tiles.
"""

import numpy as np

from simscope.kernels.compiled import compiled, inlined
from simscope.kernels.numeric import floor


@inlined
def first_pixel(place, window):
    """Number of the first pixel of the window around ``place`` [px], along one axis."""
    return np.int64(floor(place)) - window // 2


@inlined
def tile_range(place, window, pixels, tile):
    """First tile touched along an axis of ``pixels``, and the one after the last; none if equal."""
    first = first_pixel(place, window)
    low, high = max(first, 0), min(first + window, pixels)
    if low >= high:
        return 0, 0
    return low // tile, (high - 1) // tile + 1


@inlined
def tiles_along(pixels, tile):
    """Number of tiles along an axis."""
    return (pixels + tile - 1) // tile


@inlined
def tile_of(frame, row, column, rows, columns, tile_rows, tile_columns):
    """Number of the tile that holds a pixel of a frame of ``rows`` x ``columns``."""
    down, across = tiles_along(rows, tile_rows), tiles_along(columns, tile_columns)
    return (frame * down + row // tile_rows) * across + column // tile_columns


@inlined
def pixel_and_tile(i, rows, columns, tile_rows, tile_columns):
    """Frame, row, column and tile of pixel ``i`` of all frames, counted row by row."""
    frame, row, column = i // (rows * columns), i // columns % rows, i % columns
    tile = tile_of(frame, row, column, rows, columns, tile_rows, tile_columns)
    return frame, row, column, tile


@compiled
def emitters_of_tiles(offsets, x, y, windows, shape, tile_shape):
    """Emitters of every tile, as (starts, emitters): tile t has those from starts[t] on.

    ``offsets``: emitters of frame f are those from ``offsets[f]`` on; ``x``, ``y`` in pixels;
    ``windows``: side of each emitter's window [px], or (1,) for all. A counting sort.
    """
    down, across = tiles_along(shape[0], tile_shape[0]), tiles_along(shape[1], tile_shape[1])
    starts = np.zeros((offsets.size - 1) * down * across + 2, np.int64)
    for count in (True, False):
        if not count:
            found = np.empty(accumulate(starts), np.int64)
        for frame in range(offsets.size - 1):
            for e in range(offsets[frame], offsets[frame + 1]):
                window = windows[min(e, windows.size - 1)]
                top, bottom = tile_range(y[e], window, shape[0], tile_shape[0])
                left, right = tile_range(x[e], window, shape[1], tile_shape[1])
                for row in range(top, bottom):
                    for column in range(left, right):
                        tile = (frame * down + row) * across + column
                        if not count:
                            found[starts[tile + 1]] = e
                        starts[tile + (2 if count else 1)] += 1
    return starts[:-1], found


@compiled
def accumulate(starts):
    """Sum of counts; turns the counts at 2, 3, ... into starts at 1, 2, ..., in place."""
    total = 0
    for tile in range(starts.size):
        total += starts[tile]
        starts[tile] = total
    return total


@compiled
def share_out(starts, pixels, window, threads):
    """First tile of each of ``threads`` shares of about equal work, and the number of tiles.

    Work of a tile: ``pixels`` once, and a window of pixels, read from four to eight times, for
    each of its emitters.
    """
    tiles = starts.size - 1
    each = 8 * window * window
    total = starts[tiles] * each + tiles * pixels
    edges = np.full(threads + 1, tiles, np.int64)
    tile = 0
    for share in range(threads):
        while tile < tiles and (starts[tile] * each + tile * pixels) * threads < share * total:
            tile += 1
        edges[share] = tile
    return edges
