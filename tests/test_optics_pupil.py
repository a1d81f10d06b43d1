"""The vectorial pupil model against radial quadrature and the laws it must obey."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from reference import pixel_mean, radial_psf
from scipy.special import jn_zeros

from simscope.errors import OpticsError
from simscope.optics import PupilModel, Reach, Window, image_model, psf, pupil_phase
from simscope.optics.pixels import pixel_filter, pixel_spacing_nm
from simscope.recipe import (
    FileMask,
    Optics,
    TetrapodMask,
    VortexMask,
    ZernikeWavefront,
    load_recipe,
)

OIL_WATER = Optics(na=1.4, wavelength_nm=600, n_sample=1.33, method="pupil")
MATCHED = Optics(na=1.4, wavelength_nm=600, n_sample=1.518, n_coverslip=1.518, method="pupil")
SITUATIONS = {
    "matched": (MATCHED, 400.0, 150.0),
    "oil-water at the coverslip": (OIL_WATER, 0.0, 0.0),
    "oil-water 1 um deep": (OIL_WATER, 1000.0, 600.0),
    "oil-water 3 um deep": (OIL_WATER, 3000.0, 2000.0),
    "TIRF objective": (Optics(na=1.49, n_coverslip=1.52, n_sample=1.36), 100.0, 0.0),
    "thick coverslip": (
        Optics(na=1.2, n_immersion=1.33, coverslip_um=175.0, coverslip_design_um=170.0),
        500.0,
        0.0,
    ),
    "air": (Optics(na=0.3, n_immersion=1.0), 0.0, 3000.0),
}


def stack_of(optics):
    resolved = optics.resolved()
    return {
        "na": resolved.na,
        "wavelength_nm": resolved.wavelength_nm,
        "ns": resolved.n_sample,
        "ng": resolved.n_coverslip,
        "ng0": resolved.n_coverslip_design,
        "ni": resolved.n_immersion,
        "ni0": resolved.n_immersion_design,
        "tg": 1e3 * resolved.coverslip_um,
        "tg0": 1e3 * resolved.coverslip_design_um,
        "ti0": 1e3 * resolved.working_distance_um,
    }


@pytest.mark.parametrize("name", SITUATIONS)
def test_psf_agrees_with_radial_quadrature_to_1e6_of_the_peak(name):
    # red if any Fresnel factor, path term, apodisation or normalisation is off
    optics, z_nm, focus_nm = SITUATIONS[name]
    image = psf(optics, z_nm, focus_nm, shape=(21, 24), pixel_nm=100.0)[0]
    rows, columns = np.array([10, 0, 20]), np.array([12, 3, 16])
    y_nm, x_nm = (rows - 10) * 100.0, (columns - 11.5) * 100.0
    expected = pixel_mean(stack_of(optics), x_nm, y_nm, 100.0, z_nm, focus_nm, order=5)
    assert np.abs(image[rows, columns] - expected).max() < 1e-6 * image.max()


def test_small_pixels_sample_the_intensity_itself():
    pixel_nm = 5.0
    image = psf(OIL_WATER, 200.0, 0.0, shape=(1, 9), pixel_nm=pixel_nm)[0, 0]
    expected = radial_psf(stack_of(OIL_WATER), np.abs(np.arange(9) - 4) * pixel_nm, 200.0, 0.0)
    # a 5 nm pixel differs from a point by (5 nm)^2/24 times the curvature, about 1e-4
    np.testing.assert_allclose(image / pixel_nm**2, expected, rtol=3e-4)


@pytest.mark.parametrize("focus_nm", [0.0, 600.0])
def test_psf_sums_to_one_over_a_large_camera(focus_nm):
    # low NA: little light in the tails; 2/(pi^2 r NA/lambda) of it lies beyond radius r
    optics = Optics(na=0.6, wavelength_nm=600, n_sample=1.0, n_immersion=1.0)
    total = psf(optics, 0.0, focus_nm, shape=(121, 121), pixel_nm=200.0)[0].sum()
    tail = 2 / (np.pi**2 * 12_000 * optics.na / 600)
    assert 1 - 2 * tail < total < 1.0


def test_low_na_tends_to_the_airy_disc_with_its_zero_at_061_wavelengths_over_na():
    optics = Optics(na=0.1, wavelength_nm=600, n_sample=1.0, n_immersion=1.0)
    radius_nm = jn_zeros(1, 1)[0] / (2 * np.pi) * 600 / 0.1
    assert radius_nm == pytest.approx(0.61 * 6000, rel=1e-3)
    pixel_nm = 20.0
    line = psf(optics, shape=(1, 401), pixel_nm=pixel_nm)[0, 0, 200:]
    dark = np.argmin(line[100:250]) + 100
    assert dark * pixel_nm == pytest.approx(radius_nm, abs=pixel_nm)
    # axial dipoles give an image of their own, of order NA^2, which is not dark there
    assert line[dark] < 0.05 * optics.na**2 * line[0]


@settings(max_examples=6, deadline=None)
@given(st.floats(50.0, 1500.0), st.floats(0.5, 1.4))
def test_matched_media_make_the_psf_symmetric_in_defocus(depth_nm, na):
    optics = MATCHED.model_copy(update={"na": na})
    above, below = psf(optics, [depth_nm, -depth_nm], shape=(9, 9))
    np.testing.assert_allclose(above, below, rtol=1e-9, atol=1e-15)


@settings(max_examples=6, deadline=None)
@given(st.floats(-700.0, 700.0), st.floats(0.0, 900.0))
def test_in_matched_media_height_and_focus_are_one(focus_nm, z_nm):
    a = psf(MATCHED, z_nm, z_nm + focus_nm, shape=(9, 9))
    b = psf(MATCHED, 0.0, focus_nm, shape=(9, 9))
    # two quadratures, each with its own error below 1e-6 of the peak
    np.testing.assert_allclose(a, b, atol=2e-6 * a.max())


@settings(max_examples=5, deadline=None)
@given(st.floats(-300.0, 300.0), st.floats(-300.0, 300.0))
def test_an_emitter_moved_by_whole_pixels_moves_its_image_by_as_many(x_nm, y_nm):
    still = psf(OIL_WATER, 300.0, 0.0, shape=(15, 15), x_nm=x_nm, y_nm=y_nm)[0]
    moved = psf(OIL_WATER, 300.0, 0.0, shape=(15, 15), x_nm=x_nm + 200, y_nm=y_nm - 100)[0]
    np.testing.assert_allclose(moved[:-1, 2:], still[1:, :-2], atol=2e-6 * still.max())


def test_even_and_odd_windows_are_centred_alike():
    odd = psf(OIL_WATER, shape=(9, 9))[0]
    even = psf(OIL_WATER, shape=(10, 10), x_nm=50.0, y_nm=50.0)[0]
    np.testing.assert_allclose(even[1:, 1:], odd, atol=2e-6 * odd.max())


def tilt_mask(tmp_path, na_per_pixel, shift_x_nm, shift_y_nm, size=129):
    k = 2 * np.pi / 600.0
    line = (np.arange(size) - size // 2) * na_per_pixel
    phase = k * (shift_x_nm * line[None, :] + shift_y_nm * line[:, None])
    path = tmp_path / "tilt.npy"
    np.save(path, np.angle(np.exp(1j * phase)))
    return FileMask(path=str(path), na_per_pixel=na_per_pixel)


def test_a_tilt_mask_moves_the_image_by_its_slope_towards_positive_kx_and_ky(tmp_path):
    mask = tilt_mask(tmp_path, 0.023, 200.0, -100.0)
    straight = psf(OIL_WATER, 300.0, 0.0, shape=(15, 15))[0]
    tilted = psf(OIL_WATER.model_copy(update={"mask": mask}), 300.0, 0.0, shape=(15, 15))[0]
    # masks from files are good to 1e-3 of the peak
    np.testing.assert_allclose(tilted[:-1, 2:], straight[1:, :-2], atol=1e-3 * straight.max())


def test_tilt_as_zernike_mode_moves_the_image_by_the_gradient_of_the_wavefront():
    # unit-RMS tilt is 2 rho cos(theta): a slope of 2 c / NA per unit of kx
    c_nm = 70.0
    straight = psf(OIL_WATER, shape=(11, 11), x_nm=2 * c_nm / 1.4)
    tilted = psf(OIL_WATER, shape=(11, 11), wavefront_nm={2: c_nm})
    np.testing.assert_allclose(tilted, straight, atol=2e-6 * straight.max())


def test_a_transposed_mask_transposes_the_image(tmp_path):
    values = np.random.default_rng(3).normal(size=(9, 9))
    images = []
    for name, array in (("a", values), ("b", values.T)):
        np.save(tmp_path / f"{name}.npy", array)
        mask = FileMask(path=str(tmp_path / f"{name}.npy"), na_per_pixel=0.4)
        optics = OIL_WATER.model_copy(update={"mask": mask})
        images.append(psf(optics, 200.0, 0.0, shape=(15, 15))[0])
    # the quadrature treats rows and columns differently: masks from files are good to 1e-3
    np.testing.assert_allclose(images[0], images[1].T, atol=1e-3 * images[0].max())
    assert np.abs(images[0] - images[0].T).max() > 0.01 * images[0].max()


def test_small_aberrations_dim_the_peak_by_marechals_square():
    optics = Optics(na=0.5, n_sample=1.0, n_immersion=1.0, wavelength_nm=600)
    rms_nm = 10.0
    plain = psf(optics, shape=(1, 1), pixel_nm=10.0)[0, 0, 0]
    for mode in (3, 5, 9, 12):
        bent = psf(optics, shape=(1, 1), pixel_nm=10.0, wavefront_nm={mode: rms_nm})[0, 0, 0]
        loss = (2 * np.pi * rms_nm / 600.0) ** 2
        # next order is loss^2 / 4; NA 0.5 light is uneven over the pupil by a few percent
        assert bent / plain == pytest.approx(1 - loss, abs=0.1 * loss)


def test_vortex_makes_a_dark_centre_in_a_ring():
    air = Optics(na=0.4, n_sample=1.0, n_immersion=1.0, mask=VortexMask(charge=1))
    image = psf(air, shape=(31, 31), pixel_nm=100.0)[0]
    # axial dipoles, which the vortex leaves bright in the middle, give NA^2/2 of the light
    assert image[15, 15] < 0.15 * image.max()
    np.testing.assert_allclose(image, image[::-1, ::-1], atol=2e-6 * image.max())


def test_astigmatism_of_the_optics_and_of_the_call_are_one():
    wavefront = ZernikeWavefront(coefficients_nm={5: 40.0})
    own = psf(OIL_WATER.model_copy(update={"wavefront": wavefront}), 300.0, 0.0, shape=(9, 9))
    called = psf(OIL_WATER, 300.0, 0.0, shape=(9, 9), wavefront_nm={5: 40.0})
    np.testing.assert_allclose(own, called, atol=2e-6 * own.max())


def test_single_precision_stacks_match_the_images_of_the_same_model():
    model = PupilModel(
        OIL_WATER, shape=(8, 9), pixel_nm=100.0, z_nm=(0.0, 200.0), focus_nm=(-300.0, 300.0),
        reach_nm=60.0, wavefront_limit_nm={3: 40.0, 5: 40.0, 7: 40.0}, accuracy=1e-3,
    )  # fmt: skip
    focus = np.array([-300.0, 0.0, 250.0])
    drawn = np.array([[10.0, -20.0, 5.0], [0.0, 30.0, 30.0]])
    stacks = model.stacks(
        [[0.0], [200.0]], focus, [10.0, -60.0], [0.0, 33.0], coefficients_nm=drawn
    )
    for i, (z, x, y) in enumerate(((0.0, 10.0, 0.0), (200.0, -60.0, 33.0))):
        coefficients = dict(zip(model.modes, drawn[i], strict=True))
        exact = model.images(z, focus, x, y, wavefront_nm=coefficients)
        np.testing.assert_allclose(stacks[i], exact, atol=2e-6 * exact.max())
    alone = model.stacks(200.0, focus, -60.0, 33.0, coefficients_nm=drawn[1:])
    assert (alone[0] == stacks[1]).all()


@pytest.mark.parametrize("mode", [3, 9, 10, 14])
def test_a_wavefront_all_in_one_mode_meets_the_accuracy_too(mode):
    # psf-zernike, whose limit of 100 nm may fall on any direction of twelve modes
    limits = {index: 100.0 / np.sqrt(12.0) for index in range(3, 15)}
    setup = {
        "shape": (16, 16), "pixel_nm": 100.0, "focus_nm": (-1000.0, 1000.0),
        "wavefront_limit_nm": limits,
    }  # fmt: skip
    optics = Optics(na=1.4, n_sample=1.518, n_immersion=1.518, n_coverslip=1.518)
    focus = np.array([-1000.0, 0.0, 1000.0])
    drawn, finer = (
        PupilModel(optics, accuracy=accuracy, **setup).images(0.0, focus, wavefront_nm={mode: 99.9})
        for accuracy in (1e-3, 1e-7)
    )
    assert (np.abs(drawn - finer).max(axis=(1, 2)) < 1e-3 * finer.max(axis=(1, 2))).all()


def test_more_accuracy_never_gives_a_larger_error():
    exact = psf(OIL_WATER.model_copy(update={"accuracy": 1e-10}), 500.0, 0.0, shape=(15, 15))
    errors = []
    for accuracy in (1e-2, 1e-4, 1e-6, 1e-8):
        rough = psf(OIL_WATER.model_copy(update={"accuracy": accuracy}), 500.0, 0.0, shape=(15, 15))
        errors.append(np.abs(rough - exact).max() / exact.max())
        assert errors[-1] < accuracy
    assert errors == sorted(errors, reverse=True)


def test_wide_windows_of_aberrated_pupils_hold_the_small_ones():
    coma = OIL_WATER.model_copy(update={"wavefront": ZernikeWavefront(coefficients_nm={8: 60.0})})
    wide, small = (psf(coma, 200.0, shape=(n, 15))[0] for n in (801, 15))
    np.testing.assert_allclose(wide[393:408], small, atol=2e-6 * small.max())
    assert wide.sum() > small.sum()


def test_pupil_phase_shows_the_mask_inside_the_pupil_only():
    phase, extent = pupil_phase(OIL_WATER.model_copy(update={"mask": TetrapodMask()}), 64)
    assert extent == 1.4
    assert np.isnan(phase[0, 0])
    assert np.isfinite(phase[32, 32])


BAD = {
    "exceeds n_immersion": {"na": 1.52, "n_coverslip": 1.6},
    "exceeds n_coverslip": {"na": 1.45, "n_coverslip": 1.44},
    "not finite": {"wavelength_nm": float("nan")},
    "must be above 0": {"wavelength_nm": -5.0},
    "um of immersion": {"coverslip_um": 4000.0, "coverslip_design_um": 170.0},
}


@pytest.mark.parametrize("words", BAD)
def test_impossible_optics_are_refused_in_words(words):
    # model_copy goes round the recipe's own checks, as a drawn value would
    with pytest.raises(OpticsError, match=words):
        psf(OIL_WATER.model_copy(update=BAD[words]))


def test_emitters_inside_the_coverslip_are_refused_only_where_there_is_an_interface():
    with pytest.raises(OpticsError, match="below the coverslip"):
        psf(OIL_WATER, -1.0)
    assert psf(MATCHED, -1.0, shape=(5, 5)).shape == (1, 5, 5)


@pytest.mark.parametrize(
    "call",
    [
        lambda: psf(OIL_WATER, np.nan),
        lambda: psf(OIL_WATER, 0.0, np.inf),
        lambda: psf(OIL_WATER, x_nm=np.nan),
        lambda: psf(OIL_WATER, shape=(0, 5)),
        lambda: psf(OIL_WATER, pixel_nm=0.0),
        lambda: psf(OIL_WATER, [[0.0]]),
        lambda: psf(OIL_WATER, []),
        lambda: psf(OIL_WATER, wavefront_nm={5: np.nan}),
        lambda: psf(OIL_WATER, wavefront_nm={999: 1.0}),
        lambda: psf(OIL_WATER, wavefront_nm=[1.0]),
        lambda: psf(OIL_WATER, shape=11),
        lambda: psf(OIL_WATER, shape=(11.5, 11)),
        lambda: psf(OIL_WATER, shape=(True, 11)),
        lambda: psf(OIL_WATER, shape="ab"),
        lambda: psf(OIL_WATER, pixel_nm="a"),
        lambda: psf(OIL_WATER, pixel_nm=np.nan),
        lambda: psf(OIL_WATER, "a"),
        lambda: psf(OIL_WATER, [0.0, 1.0, 2.0], [0.0, 1.0]),
        lambda: psf(OIL_WATER, y_nm=[1.0, 2.0]),
        lambda: psf(
            OIL_WATER.model_copy(
                update={"wavefront": ZernikeWavefront(random_modes=(5,), rms_nm=10)}
            )
        ),
    ],
)
def test_arguments_that_mean_nothing_are_refused(call):
    with pytest.raises(OpticsError):
        call()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"z_nm": 1e7}, "z_nm=1e.07 lies beyond 1e.06"),
        ({"focus_nm": [0.0, -1e7]}, "focus_nm=-?1e.07 lies beyond"),
        ({"x_nm": 1e7}, "reaches 1e.07 nm from the emitter, more than 500000"),
        ({"pixel_nm": 1e5}, "pixel_nm=100000.* more than 500000"),
        ({"shape": (10**9, 10**9)}, "8e.09 GB, more than 16: give a smaller shape"),
        ({"shape": (10**30, 1)}, "GB"),
        ({"shape": (100_000, 100_000)}, "80 GB"),
        ({"shape": (3000, 3000), "z_nm": np.zeros(400)}, "400 image.* 28.8 GB.* fewer heights"),
    ],
)
def test_what_would_take_forever_is_refused_with_number_limit_and_remedy(arguments, words):
    with pytest.raises(OpticsError, match=words):
        psf(OIL_WATER, **arguments)


@pytest.mark.parametrize("method", ["radial", "pupil"])
def test_models_refuse_ranges_no_objective_spans(method):
    optics = OIL_WATER.model_copy(update={"method": method})
    for reach in (Reach(z_nm=(0.0, 1e7)), Reach(focus_nm=(0.0, 1e7)), Reach(lateral_nm=1e7)):
        with pytest.raises(OpticsError, match=r"1e.07"):
            image_model(optics, Window((5, 5), 100.0), reach)


def test_a_recipe_in_place_of_its_optics_is_told_apart():
    with pytest.raises(OpticsError, match=r"pass recipe\.optics"):
        psf(load_recipe("smlm-2d-dense"))
    with pytest.raises(OpticsError, match=r"pass ss\.Optics"):
        psf(None)


def test_a_model_refuses_what_it_was_not_sampled_for():
    model = PupilModel(OIL_WATER, shape=(5, 5), pixel_nm=100.0, wavefront_limit_nm={5: 10.0})
    with pytest.raises(OpticsError, match="z_nm"):
        model.images(100.0)
    with pytest.raises(OpticsError, match="not announced"):
        model.images(wavefront_nm={6: 1.0})
    with pytest.raises(OpticsError, match="exceeds"):
        model.images(wavefront_nm={5: 11.0})
    with pytest.raises(OpticsError, match="one column"):
        model.stacks(coefficients_nm=[[1.0, 2.0]])


@pytest.mark.parametrize("blur_nm", [0.0, 60.0])
@pytest.mark.parametrize("accuracy", [1e-2, 1e-5, 1e-9])
@pytest.mark.parametrize("pixel_nm", [10.0, 65.0, 400.0])
def test_pixel_filters_never_blow_up_what_lies_beyond_the_band(pixel_nm, accuracy, blur_nm):
    band_per_nm = 2 * 1.4 / 600
    spacing_nm = pixel_spacing_nm(pixel_nm, band_per_nm)
    # a pixel on a sample and one between two, and samples far finer than the band asks for
    for spacing, offset in ((spacing_nm, 0.0), (spacing_nm, 0.5), (spacing_nm / 4, 0.0)):
        taps = pixel_filter(pixel_nm, spacing, band_per_nm, accuracy, blur_nm, offset) / pixel_nm
        turns = np.outer(np.linspace(0.0, np.pi, 300), np.arange(taps.size))
        # a constant's is 1; without a limit the shortest filters on fine samples reach hundreds
        assert np.abs(np.exp(1j * turns) @ taps).max() < 2.0
