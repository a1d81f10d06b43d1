"""Images of single emitters added to frames: against NumPy, slice by slice, to the last bit."""

import numpy as np
import pytest

from simscope.kernels import patches as kernels

SIDE, SHAPE = 7, (16, 12)


def emitters():
    """Patches, and rows of light over three frames, some off the frame, one frame dark."""
    random = np.random.default_rng(5)
    count = 60
    return (
        random.random((9, SIDE, SIDE), dtype=np.float32),
        random.integers(0, 9, count),
        random.gamma(2.0, 300.0, count).astype(np.float32),
        random.uniform(-6, SHAPE[1] + 6, count),
        random.uniform(-6, SHAPE[0] + 6, count),
        np.array([0, 25, 25, count]),
    )


def frames():
    """What glows behind them."""
    return np.random.default_rng(6).random((3, *SHAPE), dtype=np.float32)


def added_by_slices(patches, which, photons, x, y, offsets):
    """Every row alone on a padded frame, one after another."""
    pad = 3 * SIDE
    out = np.pad(frames(), ((0, 0), (pad, pad), (pad, pad)))
    for frame in range(3):
        for k in range(offsets[frame], offsets[frame + 1]):
            top = int(np.floor(y[k])) - SIDE // 2 + pad
            left = int(np.floor(x[k])) - SIDE // 2 + pad
            out[frame, top : top + SIDE, left : left + SIDE] += photons[k] * patches[which[k]]
    return out[:, pad:-pad, pad:-pad]


def test_patches_are_added_in_order_and_cut_at_the_edges():
    out = frames()
    kernels.add_to_frames(*emitters(), out, 0, 3)
    expected = added_by_slices(*emitters())
    assert np.array_equal(out, expected)
    assert not np.array_equal(expected[0], frames()[0])
    assert np.array_equal(expected[1], frames()[1])


def test_threads_change_no_bit():
    alone, shared = frames(), frames()
    kernels.add_to_frames(*emitters(), alone, 0, 3)
    kernels.add_patches(*emitters(), shared)
    assert np.array_equal(alone, shared)


@pytest.mark.parametrize("planes", [1, 3])
def test_every_plane_fades_by_the_weights_of_its_emitter(planes):
    random = np.random.default_rng(7)
    patches = random.random((4, planes, SIDE, SIDE), dtype=np.float32)
    down, across = random.random((2, 4, SIDE))
    expected = patches * (down[:, None, :, None] * across[:, None, None, :]).astype(np.float32)
    kernels.fade_patches(patches, down, across)
    assert np.array_equal(patches, expected)
