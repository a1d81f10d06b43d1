"""Batches of exact images: as the double-precision model and its slow twin, each by itself."""

from __future__ import annotations

import numba
import numpy as np
import pytest
from reference_pupil import aberrated_pixels
from test_optics_pupil import MATCHED, OIL_WATER, stack_of

from simscope.device import CPU, Device
from simscope.errors import DeviceError, OpticsError
from simscope.kernels.lanes import LANES
from simscope.kernels.pupil_batch import multiply
from simscope.kernels.trig import cosine_sine_of_turns
from simscope.optics import PupilModel, image_weights, moments
from simscope.optics.field import mode_values
from simscope.optics.pupil_batch import mode_parity
from simscope.optics.zernike import osa_to_nm, zernike
from simscope.recipe import Optics, TetrapodMask, VortexMask

ARRAYS = Device("cuda", np)
"""A GPU whose arrays are NumPy's: the array code, without a GPU."""

compiled_only = pytest.mark.skipif(
    numba.config.DISABLE_JIT, reason="lanes are vector registers, which only compiled code has"
)
SITUATIONS = {
    "evanescent light": (OIL_WATER, (0.0, 800.0), (17, 16)),
    "astigmatic mask, evanescent light": (
        OIL_WATER.model_copy(update={"mask": TetrapodMask()}), (0.0, 800.0), (16, 19),
    ),
    "far out of focus": (MATCHED, (-6000.0, 6000.0), (30, 31)),
    "vortex": (MATCHED.model_copy(update={"mask": VortexMask()}), (-300.0, 300.0), (9, 9)),
    "scalar": (Optics(model="gibson_lanni", na=1.2, method="pupil"), (0.0, 500.0), (12, 13)),
    "one pixel": (MATCHED, (-300.0, 300.0), (1, 1)),
}  # fmt: skip
LIMITS_NM = {3: 40.0, 5: 40.0, 7: 40.0, 10: 30.0}


def model_of(name="evanescent light", accuracy=1e-6):
    optics, z_nm, shape = SITUATIONS[name]
    return PupilModel(
        optics, shape=shape, pixel_nm=100.0, z_nm=z_nm, focus_nm=(-500.0, 500.0), reach_nm=60.0,
        wavefront_limit_nm=LIMITS_NM, accuracy=accuracy,
    )  # fmt: skip


def emitters_of(model, count, seed=1):
    """z, focus, x, y of some emitters, and a wavefront for each."""
    rng = np.random.default_rng(seed)
    (z, focus), reach = model.corners_nm, 60.0
    ranges = (z, focus, (-reach, reach), (-reach, reach))
    places = np.array([rng.uniform(*limits, count) for limits in ranges])
    return places, rng.uniform(-0.5, 0.5, (count, 4)) * [*LIMITS_NM.values()]


def worst_share(images, exact):
    """Largest error of an image as a share of its peak."""
    return float((np.abs(images - exact).max(axis=(1, 2)) / exact.max(axis=(1, 2))).max())


@pytest.mark.parametrize("device", [CPU, ARRAYS], ids=["kernel", "array code"])
@pytest.mark.parametrize("name", SITUATIONS)
def test_batches_agree_with_double_precision_to_2e6_of_the_peak(name, device):
    # red for a wrong sign or parity of any term, part, wave or pixel filter
    model = model_of(name, accuracy=1e-3)
    places, drawn = emitters_of(model, 5)
    images = model.batch(*places, coefficients_nm=drawn, device=device)
    assert images.dtype == np.float32
    exact = np.concatenate([
        model.images(*place, wavefront_nm=dict(zip(model.modes, own, strict=True)))
        for place, own in zip(places.T, drawn, strict=True)
    ])  # fmt: skip
    assert worst_share(images, exact) < 2e-6


@pytest.mark.parametrize("device", [CPU, ARRAYS], ids=["kernel", "array code"])
def test_oriented_dipoles_agree_with_their_basis_images(device):
    model = model_of("astigmatic mask, evanescent light", accuracy=1e-3)
    places, drawn = emitters_of(model, LANES + 2)
    polar, azimuth = np.linspace(0.0, 1.5, LANES + 2), np.linspace(-3.0, 3.0, LANES + 2)
    # fixed dipoles, one free to turn within a cone, and one turning freely
    half_angle = np.zeros(LANES + 2)
    half_angle[3], half_angle[4] = 0.7, 0.5 * np.pi
    weights = image_weights(
        moments(polar, azimuth, half_angle), model.basis_energies(places[0])
    )  # fmt: skip
    images = model.batch(*places, coefficients_nm=drawn, weights=weights, device=device)
    for k in range(LANES + 2):
        wavefront_nm = dict(zip(model.modes, drawn[k], strict=True))
        (basis,) = model.basis_images(*places[:, k], wavefront_nm=wavefront_nm)
        exact = np.tensordot(weights[k], basis, axes=1)
        assert np.abs(images[k] - exact).max() < 2e-6 * exact.max()
    alone = model.batch(
        *places[:, 5], coefficients_nm=drawn[5:6], weights=weights[5:6], device=device
    )  # fmt: skip
    assert (alone[0] == images[5]).all()
    # fields whose weights are those of a free dipole, by the other way
    free = model.batch(*places[:, 4], coefficients_nm=drawn[4:5], device=device)
    assert np.abs(free[0] - images[4]).max() < 2e-6 * free.max()


@pytest.mark.parametrize("device", [CPU, ARRAYS], ids=["kernel", "array code"])
@pytest.mark.parametrize("z_nm", [(400.0, 400.0, 400.0), (0.0, 700.0, 30.0)])
def test_stacks_of_close_planes_agree_with_their_images_and_stand_alone(z_nm, device):
    model = model_of(accuracy=1e-3)
    focus_nm = np.linspace(-500.0, 500.0, 41)
    _, drawn = emitters_of(model, 3)
    assert model._stack_nodes(np.full(41, z_nm[0]), focus_nm).z_nm.size < 41
    heights = np.array(z_nm)[:, None]
    stacks = model.stacks(heights, focus_nm, 20.0, coefficients_nm=drawn, device=device)
    assert stacks.shape == (3, 41, 17, 16)
    for k, own in enumerate(drawn):
        wavefront_nm = dict(zip(model.modes, own, strict=True))
        exact = model.images(z_nm[k], focus_nm, 20.0, wavefront_nm=wavefront_nm)
        assert np.abs(stacks[k] - exact).max() < 3e-6 * exact.max()
    alone = model.stacks(z_nm[1], focus_nm, 20.0, coefficients_nm=drawn[1:2], device=device)
    assert (alone[0] == stacks[1]).all()


def test_aberrated_emitters_agree_with_the_sum_over_rays():
    model = model_of()
    places, drawn = emitters_of(model, 3)
    images = model.batch(*places, coefficients_nm=drawn)
    rows, columns = np.array([8, 2, 12]), np.array([7, 10, 15])
    for image, (z, focus, x, y), own in zip(images, places.T, drawn, strict=True):

        def path_nm(rho, phi, own=own):
            terms = zip(model.modes, own, strict=True)
            return sum(c * zernike(*osa_to_nm(index), rho, phi) for index, c in terms)

        x_nm, y_nm = (columns - 7.5) * 100.0 - x, (rows - 8) * 100.0 - y
        expected = aberrated_pixels(stack_of(OIL_WATER), path_nm, x_nm, y_nm, 100.0, z, focus)
        assert np.abs(image[rows, columns] - expected).max() < 3e-6 * image.max()


@pytest.mark.parametrize("device", [CPU, ARRAYS], ids=["kernel", "array code"])
def test_an_image_is_the_same_alone_in_any_batch_and_on_any_threads(device):
    # red if a sum's order, or a vector's neighbours, could reach an image
    model = model_of(accuracy=1e-3)
    places, drawn = emitters_of(model, 2 * LANES + 5)
    together = model.batch(*places, coefficients_nm=drawn, device=device)
    for chosen in ([0], [LANES - 1], [2 * LANES + 4, 3], [*range(7, 30)]):
        apart = model.batch(*places[:, chosen], coefficients_nm=drawn[chosen], device=device)
        assert (apart == together[chosen]).all()


@compiled_only
def test_bytes_do_not_depend_on_threads():
    model = model_of("scalar")
    places, drawn = emitters_of(model, 40)
    before = numba.get_num_threads()
    try:
        images = []
        for threads in (1, before):
            numba.set_num_threads(threads)
            images.append(model.batch(*places, coefficients_nm=drawn))
    finally:
        numba.set_num_threads(before)
    assert (images[0] == images[1]).all()


def test_one_wavefront_serves_all_and_no_emitters_give_no_images():
    model = model_of()
    places, drawn = emitters_of(model, 3)
    shared = model.batch(*places, coefficients_nm=drawn[:1])
    repeated = model.batch(*places, coefficients_nm=drawn[[0, 0, 0]])
    assert (shared == repeated).all()
    assert model.batch([], coefficients_nm=drawn[:0]).shape == (0, 17, 16)


def test_batches_refuse_what_the_model_was_not_sampled_for():
    model = model_of()
    with pytest.raises(OpticsError, match="z_nm from 100 to 900"):
        model.batch([900.0, 100.0])
    with pytest.raises(OpticsError, match="one column"):
        model.batch(coefficients_nm=[[1.0, 2.0]])
    with pytest.raises(OpticsError, match="exceeds"):
        model.batch(coefficients_nm=[[70.0, 70.0, 0.0, 0.0]])
    with pytest.raises(OpticsError, match="of 2, 1, 1, 1, 3, 1 emitters"):
        model.batch([0.0, 1.0], coefficients_nm=np.zeros((3, 4)))
    with pytest.raises(OpticsError, match="six basis images"):
        model.batch(weights=[[1.0, 2.0]])
    with pytest.raises(DeviceError, match="device='gpu' is unknown"):
        model.batch(500.0, device="gpu")
    with pytest.raises(OpticsError, match="scalar"):
        model_of("scalar").batch(weights=np.ones((1, 6)))
    assert not model_of(accuracy=1e-7).serves_batches


def test_modes_are_odd_where_their_parity_says():
    rng = np.random.default_rng(2)
    kx, ky = rng.uniform(0.1, 0.6, (2, 50))
    for index in range(36):
        odd_y, odd_x = mode_parity(index)
        here = mode_values(index, kx, ky, 1.0)
        np.testing.assert_allclose(mode_values(index, -kx, ky, 1.0), (-1) ** odd_x * here)
        np.testing.assert_allclose(mode_values(index, kx, -ky, 1.0), (-1) ** odd_y * here)


def test_phasors_of_turns_are_good_to_single_precision():
    turns = np.linspace(-2.0, 2.0, 4001).astype(np.float32)
    found = np.array([cosine_sine_of_turns(t) for t in turns])
    angle = 2 * np.pi * turns.astype(float)
    assert np.abs(found - np.stack((np.cos(angle), np.sin(angle)), axis=1)).max() < 3e-7


@compiled_only
@pytest.mark.parametrize(("inner", "rows"), [(1, 4), (7, 8), (5, 12), (32, 20)])
def test_products_of_lanes_are_matrix_products(inner, rows):
    # red if a row of eight or four goes to the wrong place, or a gap is written
    rng = np.random.default_rng(3)
    a = rng.normal(size=(inner, rows)).astype(np.float32)
    b = rng.normal(size=(inner, 2 * LANES)).astype(np.float32)
    step = 2 * LANES + 3
    out = np.full(2 + rows * step, np.float32(99.0))
    multiply(a, b.ravel(), out, 2, step)
    found = out[2:].reshape(rows, step)
    expected = a.astype(float).T @ b
    np.testing.assert_allclose(found[:, : 2 * LANES], expected, atol=1e-6 * inner)
    assert (found[:, 2 * LANES :] == 99.0).all()
    assert (out[:2] == 99.0).all()
