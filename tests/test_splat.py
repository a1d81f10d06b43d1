"""The rendering kernel against a slow sum of B-splines, and what must not depend on threads."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.interpolate import BSpline

from simscope.kernels.splat import padded_window
from simscope.kernels.splat import splat as splat_images

CUBIC = BSpline.basis_element([-2, -1, 0, 1, 2], extrapolate=False)


ALONE = np.zeros((1, 1), np.int64), np.ones((1, 1), np.float32)


def splat(table, per_pixel, window, offsets, x, y, height, photons, out, threads):
    """A table of one image, (planes, ...), of which every emitter is one."""
    splat_images(
        table[None], per_pixel, window, offsets, x, y, height, photons, *ALONE, out, threads
    )


def beta(t):
    """Centred cubic B-spline, 0 outside [-2, 2]."""
    return np.nan_to_num(CUBIC(t))


def nodes_table(rng, planes, per_pixel, window):
    """Random coefficients on the lateral nodes allowed, plain (planes, nodes, nodes) and packed."""
    count = per_pixel * window + 1
    plain = np.zeros((planes, count + 3, count + 3))
    plain[:, 3 : count - 1, 3 : count - 1] = rng.normal(1, 1, (planes, count - 4, count - 4))
    places, width = window + -(-4 // per_pixel), int(padded_window(window)) + 4
    padded = np.zeros((planes, places * per_pixel, width * per_pixel), np.float32)
    rows = min(places * per_pixel, plain.shape[1])
    padded[:, :rows, : plain.shape[2]] = plain[:, :rows]
    packed = padded.reshape(planes, places, per_pixel, width, per_pixel).transpose(0, 2, 4, 1, 3)
    return padded.astype(float), np.ascontiguousarray(packed)


def slow_image(plain, per_pixel, window, shape, x, y, height):
    """Sum over every node of its B-spline at every pixel centre, straight from the definition."""
    node_y = (np.arange(plain.shape[1]) - 1) / per_pixel - window / 2
    node_x = (np.arange(plain.shape[2]) - 1) / per_pixel - window / 2
    over_y = beta((np.arange(shape[0])[:, None] + 0.5 - y - node_y) * per_pixel)
    over_x = beta((np.arange(shape[1])[:, None] + 0.5 - x - node_x) * per_pixel)
    over_z = beta(height + 1 - np.arange(plain.shape[0])) if plain.shape[0] > 1 else [1.0]
    return over_y @ np.tensordot(over_z, plain, 1) @ over_x.T


@settings(max_examples=12, deadline=None)
@given(
    st.integers(0, 2**32 - 1),
    st.sampled_from([1, 2, 3, 4]),
    st.sampled_from([7, 9]),
    st.floats(-6.0, 20.0),
    st.floats(-6.0, 17.0),
    st.floats(0.0, 3.0),
)
def test_an_emitter_is_the_sum_of_its_splines_wherever_it_lies(seed, m, window, x, y, height):
    # red if a phase, an edge or a clip is off by one; negative pixels are cleared by contract
    rng = np.random.default_rng(seed)
    plain, packed = nodes_table(rng, 6, m, window)
    out = np.zeros((1, 11, 14), np.float32)
    one = np.ones(1)
    splat(
        packed, m, window, np.array([0, 1]), x * one, y * one, height * one,
        np.array([2.5], np.float32), out, 1,
    )  # fmt: skip
    expected = 2.5 * slow_image(plain, m, window, (11, 14), x, y, height)
    inside = np.abs(np.arange(11) - np.floor(y)) <= window // 2
    across = np.abs(np.arange(14) - np.floor(x)) <= window // 2
    expected *= inside[:, None] & across
    # float32: a few times 6e-8 of values up to about 10
    np.testing.assert_allclose(out[0], np.maximum(expected, 0), atol=1e-5)


def test_splines_vanish_before_the_window_ends_so_that_no_step_is_left():
    plain, _ = nodes_table(np.random.default_rng(0), 1, 2, 7)
    beyond = slow_image(plain, 2, 7, (15, 15), 7.4, 7.9, 0.0)
    outside = np.abs(np.arange(15) - 7) > 3
    assert np.abs(beyond[outside]).max() == 0
    assert np.abs(beyond[:, outside]).max() == 0


def scene(rng, frames, emitters, shape):
    offsets = np.sort(rng.integers(0, emitters + 1, frames + 1))
    offsets[0], offsets[-1] = 0, emitters
    x, y = rng.uniform(-5, shape[1] + 5, emitters), rng.uniform(-5, shape[0] + 5, emitters)
    return offsets, x, y, rng.uniform(0, 3, emitters), rng.uniform(1, 9, emitters).astype("f4")


@pytest.mark.parametrize("threads", [2, 3, 8])
def test_frames_do_not_depend_on_the_number_of_threads(threads):
    rng = np.random.default_rng(1)
    _, packed = nodes_table(rng, 6, 2, 7)
    offsets, x, y, height, photons = scene(rng, 7, 40, (16, 18))
    images = []
    for blocks in (1, threads):
        out = np.zeros((7, 16, 18), np.float32)
        splat(packed, 2, 7, offsets, x, y, height, photons, out, blocks)
        images.append(out)
    assert (images[0] == images[1]).all()


def test_a_table_of_one_plane_ignores_height():
    rng = np.random.default_rng(2)
    plain, packed = nodes_table(rng, 1, 2, 7)
    out = np.zeros((1, 12, 12), np.float32)
    one = np.ones(1)
    splat(packed, 2, 7, np.array([0, 1]), 6.2 * one, 5.5 * one, 99 * one, one.astype("f4"), out, 1)
    expected = slow_image(plain, 2, 7, (12, 12), 6.2, 5.5, 0.0)
    np.testing.assert_allclose(out[0], np.maximum(expected, 0), atol=1e-5)


@pytest.mark.parametrize(
    ("planes", "bits"), [(6, "0b73b2edd42f4e8a"), (1, "bc1aecc926bd7753")], ids=["deep", "flat"]
)
def test_a_lone_image_keeps_its_bits(planes, bits):
    # datasets made by earlier versions verify only if not one rounding moves
    shape = (planes, 2, 2, 9, 12)
    words = np.arange(np.prod(shape), dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    packed = (words >> np.uint64(40)).astype(np.float32) / np.float32(2**24)
    k = np.arange(40)
    out = np.zeros((3, 16, 18), np.float32)
    splat(
        packed.reshape(shape), 2, 7, np.array([0, 11, 25, 40]), -4.0 + 0.6180339887 * k,
        19.0 - 0.5545497 * k, (0.0765 * k) % 3.0, (1 + k % 7).astype("f4"), out, 1,
    )  # fmt: skip
    assert hashlib.blake2b(out.tobytes(), digest_size=8).hexdigest() == bits


@pytest.mark.parametrize("planes", [1, 6])
def test_weighted_images_add_up_to_the_image_of_their_sum(planes):
    # red if a weight meets another image, or an image's planes are blended at the wrong height
    rng = np.random.default_rng(3)
    plains, packed = zip(*(nodes_table(rng, planes, 2, 7) for _ in range(5)), strict=True)
    which = np.array([[4, 0, 2], [1, 1, 3]])
    weights = rng.normal(0, 1, (2, 3)).astype("f4")
    weights[1, 1] = 0.0
    x, y, height = np.array([6.2, 7.7]), np.array([5.5, 8.1]), np.array([1.3, 2.8])
    out = np.zeros((2, 12, 12), np.float32)
    splat_images(
        np.stack(packed), 2, 7, np.arange(3), x, y, height, np.full(2, 2.0, "f4"), which, weights,
        out, 1,
    )  # fmt: skip
    for e in range(2):
        parts = [
            w * slow_image(plains[i], 2, 7, (12, 12), x[e], y[e], height[e])
            for i, w in zip(which[e], weights[e], strict=True)
        ]
        # float32: a few times 6e-8 of values up to about 10
        np.testing.assert_allclose(out[e], np.maximum(2.0 * sum(parts), 0), atol=2e-5)
