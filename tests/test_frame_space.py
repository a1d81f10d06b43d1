"""Frames whose memory is used again: what was handed out stays as it was."""

import numpy as np
import pytest
from small_worlds import snapshot, stack

import simscope as ss
from simscope.acquire import FrameSpace


@pytest.mark.parametrize("world", [snapshot, stack], ids=["table", "exact"])
def test_chunks_kept_by_a_user_outlive_the_next_ones(world, tmp_path):
    simulator = ss.Simulator(world(), 5, cache=tmp_path)
    whole = simulator.batch(0, 6, expected=True)
    frame_bytes = 4 * whole.images[0].size
    for expected in (False, True):
        kept = list(simulator.chunks(0, 6, max_bytes=2 * frame_bytes, expected=expected))
        assert len(kept) > 2
        images = np.concatenate([chunk.images.reshape(-1) for chunk in kept])
        np.testing.assert_array_equal(images, whole.images.reshape(-1))
        if expected:
            light = np.concatenate([chunk.expected_photons.reshape(-1) for chunk in kept])
            np.testing.assert_array_equal(light, whole.expected_photons.reshape(-1))


def test_space_is_kept_for_frames_that_fit_and_grows_for_others():
    space = FrameSpace()
    first = space.array(np, (3, 4, 5))
    assert np.shares_memory(first, space.array(np, (2, 4, 5)))
    larger = space.array(np, (4, 4, 5))
    assert larger.shape == (4, 4, 5)
    assert not np.shares_memory(first, larger)
