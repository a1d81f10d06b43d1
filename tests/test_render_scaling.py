"""The work of rendering grows with emitters and pixels, never with their product."""

import itertools

import numpy as np
import pytest

from simscope.device import CPU
from simscope.kernels.tiles import emitters_of_tiles, share_out
from simscope.optics.scene import scene


def slow_tiles(offsets, x, y, window, shape, tile):
    """Emitters whose window holds a pixel of each tile, by asking every pixel."""
    found = []
    for frame in range(len(offsets) - 1):
        for top in range(0, shape[0], tile[0]):
            for left in range(0, shape[1], tile[1]):
                rows = np.arange(top, min(top + tile[0], shape[0]))
                columns = np.arange(left, min(left + tile[1], shape[1]))
                found.append(
                    [
                        e
                        for e in range(offsets[frame], offsets[frame + 1])
                        if (np.abs(rows - np.floor(y[e])) <= window // 2).any()
                        and (np.abs(columns - np.floor(x[e])) <= window // 2).any()
                    ]
                )
    return found


@pytest.mark.parametrize("tile", [(4, 23), (3, 5), (100, 100), (1, 1)])
def test_tiles_list_the_emitters_that_touch_them_in_table_order(tile):
    rng = np.random.default_rng(0)
    offsets = np.array([0, 17, 17, 40])
    x, y = rng.uniform(-9, 32, 40), rng.uniform(-9, 26, 40)
    starts, emitters = emitters_of_tiles(offsets, x, y, np.array([7]), (17, 23), tile)
    expected = slow_tiles(offsets, x, y, 7, (17, 23), tile)
    assert starts[0] == 0
    assert len(starts) == len(expected) + 1
    assert [list(emitters[a:b]) for a, b in itertools.pairwise(starts)] == expected


def a_scene(emitters, side, window=31):
    rng = np.random.default_rng(1)
    x, y = rng.uniform(0, side, (2, emitters))
    found = scene(x, y, x * 0, x * 0, [0, emitters], (side, side), None, CPU)
    return x, y, found.band_rows(window, 2)


@pytest.mark.parametrize("side", [32, 64, 256, 2048])
@pytest.mark.parametrize("emitters", [1, 10_000])
def test_every_emitter_is_met_once_or_twice_whatever_the_frame(emitters, side):
    # red if bands become thinner than windows, or if all emitters are offered to every band
    x, y, band = a_scene(emitters, side)
    starts, found = emitters_of_tiles(
        np.array([0, emitters]), x, y, np.array([31]), (side, side), (band, side)
    )
    assert emitters <= found.size <= 2 * emitters
    assert starts.size - 1 <= max(1, side // 31)


def test_the_bands_of_one_large_frame_keep_two_threads_equally_busy():
    x, y, band = a_scene(10_000, 2048)
    starts, _ = emitters_of_tiles(
        np.array([0, 10_000]), x, y, np.array([31]), (2048, 2048), (band, 2048)
    )
    edges = share_out(starts, band * 2048, 31, 2)
    assert edges[0] == 0
    assert edges[-1] == starts.size - 1
    assert 0.4 < starts[edges[1]] / starts[-1] < 0.6


def test_threads_share_frames_of_very_unequal_numbers_of_emitters_by_work():
    starts = np.array([0, 900, 910, 920, 930, 1800])
    assert list(share_out(starts, 64 * 64, 31, 2)) == [0, 2, 5]
