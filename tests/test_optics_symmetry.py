"""Laws that every pupil image obeys, whatever the aberration, and its array module."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from reference import gaussian_share
from reference_pupil import aberrated_pixels
from threadpoolctl import threadpool_info

from simscope.blas import single_blas_thread
from simscope.errors import OpticsError
from simscope.optics import PupilModel
from simscope.recipe import Optics

OIL_WATER = Optics(na=1.4, wavelength_nm=600, n_sample=1.33)
MATCHED = Optics(na=1.4, wavelength_nm=600, n_sample=1.518, n_coverslip=1.518)
SCALAR = OIL_WATER.model_copy(update={"model": "gibson_lanni"})
MODES = (3, 5, 7, 8, 9, 12)
LIMIT = dict.fromkeys(MODES, 40.0)
PIXEL_NM = 100.0

few = settings(max_examples=4, deadline=None)
coefficients = st.lists(st.floats(-40.0, 40.0), min_size=len(MODES), max_size=len(MODES))
needs_compiler = pytest.mark.skipif(
    os.environ.get("NUMBA_DISABLE_JIT") == "1", reason="needs compiled kernels to be quick"
)


def model_of(optics, size=13, **changes):
    setup = {
        "shape": (size, size), "pixel_nm": PIXEL_NM, "z_nm": (-600.0, 600.0), "reach_nm": 100.0,
        "wavefront_limit_nm": LIMIT, "accuracy": 1e-6,
    }  # fmt: skip
    if optics.n_sample != optics.n_immersion:
        setup["z_nm"] = (0.0, 600.0)
    return PupilModel(optics, **(setup | changes))


@pytest.fixture(scope="module")
def matched():
    return model_of(MATCHED)


@pytest.fixture(scope="module")
def oil_water():
    return model_of(OIL_WATER)


def wavefront(values):
    return dict(zip(MODES, values, strict=True))


def stack_of(optics):
    resolved = optics.resolved()
    return {
        "na": resolved.na, "wavelength_nm": resolved.wavelength_nm, "ns": resolved.n_sample,
        "ng": resolved.n_coverslip, "ng0": resolved.n_coverslip_design,
        "ni": resolved.n_immersion, "ni0": resolved.n_immersion_design,
        "tg": 1e3 * resolved.coverslip_um, "tg0": 1e3 * resolved.coverslip_design_um,
        "ti0": 1e3 * resolved.working_distance_um,
    }  # fmt: skip


def astigmatism_and_coma(rho, phi):
    """OSA 5 at 30 nm and 8 at 40 nm RMS, from the table of Thibos et al. 2002."""
    astigmatism = np.sqrt(6) * rho**2 * np.cos(2 * phi)
    coma = np.sqrt(8) * (3 * rho**3 - 2 * rho) * np.cos(phi)
    return 30.0 * astigmatism + 40.0 * coma


@needs_compiler
@pytest.mark.parametrize("optics", [OIL_WATER, SCALAR, MATCHED], ids=["dipole", "scalar", "glass"])
def test_aberrated_images_agree_with_the_sum_over_all_rays_to_1e6_of_the_peak(optics):
    # red if a parity, a sign of a mode, a Fresnel factor or the pixel's area is off
    model = model_of(optics, size=14, wavefront_limit_nm={5: 30.0, 8: 40.0}, any_direction=False)
    image = model.images(400.0, 0.0, 30.0, -20.0, wavefront_nm={5: 30.0, 8: 40.0})[0]
    rows, columns = np.array([6, 7, 0, 13]), np.array([7, 5, 2, 13])
    x_nm, y_nm = (columns - 6.5) * PIXEL_NM - 30.0, (rows - 6.5) * PIXEL_NM + 20.0
    expected = aberrated_pixels(
        stack_of(optics), astigmatism_and_coma, x_nm, y_nm, PIXEL_NM, 400.0, 0.0,
        optics.model == "gibson_lanni",
    )  # fmt: skip
    assert np.abs(image[rows, columns] - expected).max() < 1e-6 * image.max()


@few
@given(coefficients, st.floats(0.0, 600.0))
def test_opposite_defocus_and_wavefront_turn_the_image_by_half(matched, values, z_nm):
    # the conjugate pupil has the conjugate field, seen from the other side
    image = matched.images(z_nm, wavefront_nm=wavefront(values))
    opposite = matched.images(-z_nm, wavefront_nm=wavefront([-value for value in values]))
    np.testing.assert_allclose(opposite, image[:, ::-1, ::-1], atol=1e-9 * image.max())


@few
@given(st.floats(-40.0, 40.0), st.floats(-40.0, 40.0), st.floats(0.0, 600.0))
def test_transposed_wavefronts_transpose_the_image(oil_water, defocus_nm, coma_nm, z_nm):
    # rows and columns are integrated by different rules, each to 1e-6 of the peak
    lying = oil_water.images(z_nm, wavefront_nm={3: defocus_nm, 8: coma_nm, 5: 30.0})
    standing = oil_water.images(z_nm, wavefront_nm={3: defocus_nm, 7: coma_nm, 5: -30.0})
    np.testing.assert_allclose(standing, lying.transpose(0, 2, 1), atol=2e-6 * lying.max())


@few
@given(coefficients, st.floats(0.0, 600.0))
def test_free_dipole_is_the_mean_of_the_three_axes(oil_water, values, z_nm):
    image = oil_water.images(z_nm, wavefront_nm=wavefront(values))
    basis = oil_water.basis_images(z_nm, wavefront_nm=wavefront(values))
    np.testing.assert_allclose(basis[:, :3].mean(axis=1), image, atol=1e-12 * image.max())


@few
@given(st.floats(0.0, 180.0), st.floats(0.0, 600.0))
def test_crossed_analysers_share_all_the_light(oil_water, angle_deg, z_nm):
    bent = {"wavefront_nm": {7: 35.0}}
    whole = oil_water.basis_images(z_nm, **bent)
    halves = [oil_water.basis_images(z_nm, analyser_deg=angle_deg + a, **bent) for a in (0, 90)]
    np.testing.assert_allclose(sum(halves), whole, atol=1e-12 * whole.max())


@few
@given(st.floats(0.0, np.pi), st.floats(0.0, 2 * np.pi), st.floats(0.0, 600.0))
def test_image_of_a_fixed_dipole_is_nowhere_negative(oil_water, polar, azimuth, z_nm):
    p = np.array([np.sin(polar) * np.cos(azimuth), np.sin(polar) * np.sin(azimuth), np.cos(polar)])
    moments = np.outer(p, p)[(0, 1, 2, 0, 0, 1), (0, 1, 2, 1, 2, 2)]
    image = np.tensordot(moments, oil_water.basis_images(z_nm, wavefront_nm={8: 35.0})[0], axes=1)
    # the pixel filter may miss by a share of the accuracy where it is dark
    assert image.min() > -1e-6 * image.max()


def test_turning_the_dipole_tensor_and_the_wavefront_turns_the_image(oil_water):
    # by a quarter turn: x -> y, y -> -x; vertical coma -> horizontal, astigmatism changes sign
    basis = oil_water.basis_images(300.0, wavefront_nm={5: 30.0, 8: 25.0})[0]
    turned = oil_water.basis_images(300.0, wavefront_nm={5: -30.0, 7: 25.0})[0]
    expected = np.stack((basis[1], basis[0], basis[2], -basis[3], -basis[5], basis[4]))
    # quarter turn from x to y: rows and columns change places, then x changes sign
    np.testing.assert_allclose(
        turned, expected.transpose(0, 2, 1)[:, :, ::-1], atol=3e-6 * basis.max()
    )


@few
@given(coefficients, st.floats(1.0, 599.0), st.floats(-99.0, 99.0), st.floats(-99.0, 99.0))
def test_slopes_are_the_limits_of_differences(oil_water, values, z_nm, x_nm, y_nm):
    bent = {"wavefront_nm": wavefront(values)}
    slopes = oil_water.slopes(z_nm, 0.0, x_nm, y_nm, **bent)[0]
    image = oil_water.images(z_nm, 0.0, x_nm, y_nm, **bent)[0]
    np.testing.assert_allclose(slopes[0], image, atol=1e-6 * image.max())
    step = 1.0
    for k, (dx, dy, dz) in enumerate(np.eye(3) * step, start=1):
        after, before = (
            oil_water.images(z_nm + s * dz, 0.0, x_nm + s * dx, y_nm + s * dy, **bent)[0]
            for s in (1, -1)
        )
        # central differences miss (2 k NA step)^2 / 6 of a slope, 1.4e-4
        np.testing.assert_allclose(
            slopes[k], (after - before) / (2 * step), atol=3e-4 * np.abs(slopes[k]).max()
        )


@needs_compiler
@pytest.mark.parametrize("analyser_deg", [None, 30.0])
def test_energies_are_the_plane_sums_of_the_basis_images(analyser_deg):
    # all but 2 / (pi k NA r), 5e-3, of an even pupil's light falls into 20 um around
    air = Optics(na=0.6, wavelength_nm=600, n_sample=1.0, n_immersion=1.0)
    model = PupilModel(air, shape=(161, 161), pixel_nm=250.0, accuracy=1e-4)
    sums = model.basis_images(analyser_deg=analyser_deg)[0].sum(axis=(1, 2))
    energies = model.basis_energies(analyser_deg=analyser_deg)[0]
    np.testing.assert_allclose(sums, energies, atol=5.5e-3 * energies.max())


def test_energies_of_the_axes_average_to_one_with_evanescent_light(oil_water):
    energies = oil_water.basis_energies([0.0, 50.0, 600.0])
    np.testing.assert_allclose(energies[:, :3].mean(axis=1), 1.0, rtol=1e-12)
    # an axial dipole lives on supercritical light: dimmer by height
    assert (np.diff(energies[:, 2]) < -0.03).all()


@pytest.mark.parametrize("optics", [OIL_WATER, SCALAR], ids=["vectorial", "scalar"])
def test_light_under_a_gaussian_obeys_parseval_to_1e6(optics):
    spacing_nm, width_nm, size = 70.0, 400.0, 81
    model = PupilModel(
        optics, shape=(size, size), pixel_nm=spacing_nm, points=True, z_nm=(400.0, 400.0)
    )
    bell = np.exp(-(((np.arange(size) - size // 2) * spacing_nm / width_nm) ** 2) / 2)
    light = bell @ model.images(400.0)[0] @ bell * spacing_nm**2
    expected = gaussian_share(
        stack_of(optics), width_nm, 400.0, 0.0, optics.model == "vectorial", panels=200
    )
    assert light == pytest.approx(expected, rel=1e-6)


@needs_compiler
@pytest.mark.parametrize("axis", ["height", "focus", "both"])
def test_planes_between_computed_ones_are_as_exact(axis):
    model = model_of(OIL_WATER, z_nm=(0.0, 2000.0), focus_nm=(0.0, 1500.0))
    z_nm = np.linspace(0.0, 2000.0, 41) if axis != "focus" else np.full(41, 300.0)
    focus_nm = np.linspace(0.0, 1500.0, 41) if axis != "height" else np.full(41, 800.0)
    stack = model.images(z_nm, focus_nm, wavefront_nm={7: 40.0})
    for plane in (0, 1, 7, 20, 39):
        alone = model.images(z_nm[plane], focus_nm[plane], wavefront_nm={7: 40.0})[0]
        assert np.abs(stack[plane] - alone).max() < 0.5e-6 * alone.max()


@needs_compiler
def test_single_precision_stacks_hold_the_accuracy_between_computed_planes():
    model = model_of(OIL_WATER, focus_nm=(-1000.0, 1000.0), accuracy=1e-4)
    finer = model_of(OIL_WATER, focus_nm=(-1000.0, 1000.0), accuracy=1e-7)
    focus_nm, drawn = (
        np.linspace(-1000.0, 1000.0, 31),
        wavefront([20.0, 0.0, -30.0, 0.0, 0.0, 15.0]),
    )
    (stack,) = model.stacks(300.0, focus_nm, coefficients_nm=[list(drawn.values())])
    expected = finer.images(300.0, focus_nm, wavefront_nm=drawn)
    worst = np.abs(stack - expected).max(axis=(1, 2)) / expected.max(axis=(1, 2))
    assert worst.max() < 1e-4


def test_more_accuracy_never_gives_a_larger_error():
    bent = {"wavefront_nm": wavefront([30.0, 20.0, 10.0, 30.0, 0.0, 20.0])}
    exact = model_of(OIL_WATER, accuracy=1e-10).images(500.0, **bent)
    errors = []
    for accuracy in (1e-2, 1e-4, 1e-6, 1e-8):
        model = model_of(OIL_WATER, accuracy=accuracy)
        errors.append(np.abs(model.images(500.0, **bent) - exact).max() / exact.max())
        assert errors[-1] < accuracy
        assert model.error_estimate < 0.25 * accuracy
    assert errors == sorted(errors, reverse=True)


def test_number_of_threads_does_not_change_a_bit(oil_water):
    from numba import get_num_threads, set_num_threads

    z_nm = np.linspace(0.0, 600.0, 24)
    threads = get_num_threads()
    together = oil_water.images(z_nm, wavefront_nm={7: 40.0})
    set_num_threads(1)
    try:
        alone = oil_water.images(z_nm, wavefront_nm={7: 40.0})
    finally:
        set_num_threads(threads)
    assert (together == alone).all()


def test_scalar_optics_know_neither_dipoles_nor_polarisation():
    model = model_of(SCALAR)
    for call in (model.basis_images, model.basis_energies):
        with pytest.raises(OpticsError, match="scalar"):
            call()


class ForwardingModule:
    """An array module that forwards to NumPy and notes what was asked of it."""

    def __init__(self):
        self.used = set()

    def __getattr__(self, name):
        self.used.add(name)
        return getattr(np, name)


def test_any_array_module_gives_the_images_of_numpy(oil_water):
    module = ForwardingModule()
    model = model_of(OIL_WATER, xp=module)
    z_nm, bent = np.linspace(0.0, 600.0, 3), {"wavefront_nm": {7: 40.0, 5: 10.0}}
    for name in ("images", "basis_images", "slopes"):
        expected = getattr(oil_water, name)(z_nm, **bent)
        got = getattr(model, name)(z_nm, **bent)
        np.testing.assert_allclose(got, expected, rtol=0, atol=1e-12 * np.abs(expected).max())
    known = {
        "abs", "asarray", "cos", "empty", "exp", "matmul", "maximum", "sin", "stack", "tensordot",
        "zeros",
    }  # fmt: skip
    assert module.used <= known


@pytest.mark.gpu
def test_cupy_gives_the_images_of_numpy(oil_water):
    cupy = pytest.importorskip("cupy", reason="needs CuPy and a GPU")
    if cupy.cuda.runtime.getDeviceCount() == 0:
        pytest.skip("CuPy found no GPU")
    expected = oil_water.images([0.0, 300.0], wavefront_nm={7: 40.0})
    got = model_of(OIL_WATER, xp=cupy).images([0.0, 300.0], wavefront_nm={7: 40.0})
    np.testing.assert_allclose(cupy.asnumpy(got), expected, atol=1e-12 * expected.max())


def test_blas_threads_come_back_after_the_last_of_several_threads():
    def used():
        return {pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"}

    before = used()
    first, second = single_blas_thread(), single_blas_thread()
    with ThreadPoolExecutor(2) as pool:
        pool.submit(first.__enter__).result()
        pool.submit(second.__enter__).result()
        pool.submit(first.__exit__, None, None, None).result()
        assert used() <= {1}
        pool.submit(second.__exit__, None, None, None).result()
    assert used() == before
