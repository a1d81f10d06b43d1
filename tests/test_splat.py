"""The rendering kernel against a slow sum of B-splines, and what must not depend on threads."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.interpolate import BSpline

from simscope.kernels.canvas import padded as whole_lanes
from simscope.kernels.splat import in_lanes
from simscope.kernels.splat import splat as splat_images

CUBIC = BSpline.basis_element([-2, -1, 0, 1, 2], extrapolate=False)


ALONE = np.zeros((1, 1), np.int64), np.ones((1, 1), np.float32)


def splat(table, per_pixel, window, offsets, x, y, height, photons, out, threads, band=None):
    """A table of one image, (planes, ...), of which every emitter is one."""
    splat_images(
        in_lanes(table[None]), per_pixel, window, offsets, x, y, height, photons, *ALONE, out,
        out.shape[1] if band is None else band, threads,
    )  # fmt: skip


def beta(t):
    """Centred cubic B-spline, 0 outside [-2, 2]."""
    return np.nan_to_num(CUBIC(t))


def nodes_table(rng, planes, per_pixel, window):
    """Random coefficients on the lateral nodes allowed, plain (planes, nodes, nodes) and packed."""
    inner = per_pixel * window - 3
    return pack(rng.normal(1, 1, (planes, inner, inner)), per_pixel, window)


def pack(inner, per_pixel, window):
    """Coefficients of nodes 3 to per_pixel * window - 1, plain with all nodes and packed."""
    planes, rows, width = len(inner), per_pixel * window + 4, int(whole_lanes(window))
    plain = np.zeros((planes, rows, max(rows, width * per_pixel)), np.float32)
    plain[:, 3 : rows - 4, 3 : rows - 4] = inner
    phases = plain[:, :, : width * per_pixel].reshape(planes, rows, width, per_pixel)
    return plain.astype(float), np.ascontiguousarray(phases.swapaxes(2, 3))


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


@pytest.mark.parametrize("planes", [1, 6])
@pytest.mark.parametrize(("threads", "band"), [(2, 37), (3, 5), (8, 16), (1, 1), (5, 100)])
def test_frames_depend_neither_on_threads_nor_on_bands(planes, threads, band):
    # red if an emitter is lost or doubled at the edge of a band, or pixels change their order
    rng = np.random.default_rng(1)
    _, packed = nodes_table(rng, planes, 2, 9)
    offsets, x, y, height, photons = scene(rng, 3, 60, (37, 41))
    images = []
    for blocks, rows in ((1, 37), (threads, band)):
        out = np.full((3, 37, 41), 0.25, np.float32)
        splat(packed, 2, 9, offsets, x, y, height, photons, out, blocks, rows)
        images.append(out)
    assert (images[0] == images[1]).all()


def test_a_single_frame_of_many_emitters_is_their_sum():
    # one frame in bands on two threads, against every emitter's own sum of splines
    rng = np.random.default_rng(4)
    plain, packed = nodes_table(rng, 6, 2, 7)
    _, x, y, height, photons = scene(rng, 1, 150, (40, 30))
    out = np.zeros((1, 40, 30), np.float32)
    splat(packed, 2, 7, np.array([0, 150]), x, y, height, photons, out, 2, 14)
    expected = np.zeros((40, 30))
    for e in range(150):
        image = slow_image(plain, 2, 7, (40, 30), x[e], y[e], height[e])
        inside = np.abs(np.arange(40) - np.floor(y[e])) <= 3
        across = np.abs(np.arange(30) - np.floor(x[e])) <= 3
        expected += photons[e] * image * (inside[:, None] & across)
    # float32: a few times 6e-8 of sums up to about 300
    np.testing.assert_allclose(out[0], np.maximum(expected, 0), atol=2e-4)


def test_a_table_of_one_plane_ignores_height():
    rng = np.random.default_rng(2)
    plain, packed = nodes_table(rng, 1, 2, 7)
    out = np.zeros((1, 12, 12), np.float32)
    one = np.ones(1)
    splat(packed, 2, 7, np.array([0, 1]), 6.2 * one, 5.5 * one, 99 * one, one.astype("f4"), out, 1)
    expected = slow_image(plain, 2, 7, (12, 12), 6.2, 5.5, 0.0)
    np.testing.assert_allclose(out[0], np.maximum(expected, 0), atol=1e-5)


@pytest.mark.parametrize(
    ("planes", "bits"), [(6, "c808a744304ebc63"), (1, "efff05b46cadd58d")], ids=["deep", "flat"]
)
def test_a_lone_image_keeps_its_bits(planes, bits):
    # datasets made earlier, or elsewhere, verify only if not one rounding moves
    shape = (planes, 11, 11)
    words = np.arange(np.prod(shape), dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    inner = (words >> np.uint64(40)).astype(np.float32) / np.float32(2**24)
    _, packed = pack(inner.reshape(shape), 2, 7)
    k = np.arange(40)
    out = np.zeros((3, 16, 18), np.float32)
    splat(
        packed, 2, 7, np.array([0, 11, 25, 40]), -4.0 + 0.6180339887 * k,
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
        in_lanes(np.stack(packed)), 2, 7, np.arange(3), x, y, height, np.full(2, 2.0, "f4"), which,
        weights, out, 12, 1,
    )  # fmt: skip
    for e in range(2):
        parts = [
            w * slow_image(plains[i], 2, 7, (12, 12), x[e], y[e], height[e])
            for i, w in zip(which[e], weights[e], strict=True)
        ]
        # float32: a few times 6e-8 of values up to about 10
        np.testing.assert_allclose(out[e], np.maximum(2.0 * sum(parts), 0), atol=2e-5)


@pytest.mark.parametrize("planes", [1, 6])
def test_windows_wider_than_a_strip_and_several_registers_are_whole(planes):
    # red if rows are lost between strips, or columns left out reach into the frame
    rng = np.random.default_rng(6)
    window, shape, m = 47, (50, 40), 2
    plain, packed = nodes_table(rng, planes, m, window)
    x, y = np.array([20.3, -19.6, 60.1, 38.0, -3.2]), np.array([25.9, 12.0, 47.5, -20.7, 69.1])
    height = rng.uniform(0, 3, 5)
    out = np.zeros((1, *shape), np.float32)
    splat(packed, m, window, np.array([0, 5]), x, y, height, np.ones(5, "f4"), out, 1)
    expected = np.zeros(shape)
    for e in range(5):
        image = slow_image(plain, m, window, shape, x[e], y[e], height[e])
        inside = np.abs(np.arange(shape[0]) - np.floor(y[e])) <= window // 2
        across = np.abs(np.arange(shape[1]) - np.floor(x[e])) <= window // 2
        expected += image * (inside[:, None] & across)
    # float32: a few times 6e-8 of sums up to about 10
    np.testing.assert_allclose(out[0], np.maximum(expected, 0), atol=2e-5)
