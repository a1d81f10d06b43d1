"""Radial models against brute-force quadrature, the pupil model and the laws they must obey."""

from __future__ import annotations

import os
from functools import partial

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from reference import gaussian_share, gibson_lanni_psf, pixel_mean, radial_psf
from scipy.ndimage import gaussian_filter
from scipy.special import j0, j1, jn_zeros, jv

from simscope.errors import OpticsError
from simscope.kernels.radial import (
    PLANES,
    bessel_functions,
    gauss_legendre,
    spline_coefficients,
)
from simscope.optics import PupilModel, RadialModel, Reach, Window, image_model, psf
from simscope.optics.interfaces import objective_of
from simscope.optics.radial_grid import FreeDipoleImages
from simscope.optics.radial_integrals import TAYLOR_STEP, bessel_taylor, pieces
from simscope.optics.radial_profiles import RadialProfiles, spline_pieces, spline_poles
from simscope.recipe import Optics, VortexMask, ZernikeWavefront

COMPILED = os.environ.get("NUMBA_DISABLE_JIT") != "1"
needs_compiler = pytest.mark.skipif(not COMPILED, reason="minutes long without compiled kernels")

OIL_WATER = Optics(na=1.4, wavelength_nm=600, n_sample=1.33)
MATCHED = Optics(na=1.4, wavelength_nm=600, n_sample=1.518, n_coverslip=1.518)
AIR = Optics(na=0.3, n_immersion=1.0, n_sample=1.0, n_coverslip=1.0, wavelength_nm=600)
# name: optics, z_nm, focus_nm
SITUATIONS = {
    "matched": (MATCHED, 400.0, 150.0),
    "oil-water at the coverslip": (OIL_WATER, 0.0, 0.0),
    "oil-water 1 um deep": (OIL_WATER, 1000.0, 1300.0),
    "oil-water 3 um deep": (OIL_WATER, 3000.0, 3700.0),
    "far out of focus": (OIL_WATER, 500.0, -6000.0),
    "TIRF objective": (Optics(na=1.49, n_coverslip=1.52, n_sample=1.36), 100.0, 0.0),
    "NA close below the coverslip's index": (Optics(na=1.5, n_coverslip=1.502), 200.0, 100.0),
    "thick coverslip": (
        Optics(na=1.2, n_immersion=1.33, coverslip_um=175.0, coverslip_design_um=170.0),
        500.0,
        0.0,
    ),
    "oil of the wrong index": (
        Optics(na=1.3, n_immersion=1.512, n_immersion_design=1.518, n_coverslip_design=1.515),
        800.0,
        900.0,
    ),
    "water dipping": (
        Optics(na=1.0, n_immersion=1.33, n_coverslip=1.33, coverslip_um=0.0), -300.0, 200.0,
    ),
    "air": (Optics(na=0.3, n_immersion=1.0), 0.0, 3000.0),
}  # fmt: skip
PROFILES = {"vectorial": radial_psf, "gibson_lanni": gibson_lanni_psf}


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


def with_model(optics, model):
    return optics.model_copy(update={"model": model})


def radial(optics, shape=(11, 11), z=(0.0, 0.0), focus=(0.0, 0.0), lateral=0.0, **window):
    return RadialModel(optics, Window(shape, 100.0, **window), Reach(z, focus, lateral))


@pytest.mark.parametrize("model", PROFILES)
@pytest.mark.parametrize("name", SITUATIONS)
def test_images_agree_with_brute_force_quadrature_to_1e6_of_the_peak(name, model):
    # red if a Fresnel factor, path term, apodisation, normalisation or pixel weight is off
    optics, z_nm, focus_nm = SITUATIONS[name]
    optics = with_model(optics, model)
    image = psf(optics, z_nm, focus_nm, shape=(21, 24), pixel_nm=100.0)[0]
    rows, columns = np.array([10, 0, 15]), np.array([12, 0, 3])
    y_nm, x_nm = (rows - 10) * 100.0, (columns - 11.5) * 100.0
    # midpoint sums err by 1 / panels^2: below 1e-7 of the peak near focus, 2e-7 far out of it
    profile = partial(PROFILES[model], panels=12_000 if name == "far out of focus" else 4000)
    expected = pixel_mean(
        stack_of(optics), x_nm, y_nm, 100.0, z_nm, focus_nm, order=5, profile=profile
    )
    assert np.abs(image[rows, columns] - expected).max() < 1e-6 * image.max()


@pytest.mark.parametrize("model", PROFILES)
@pytest.mark.parametrize("name", SITUATIONS)
def test_radial_and_pupil_models_agree(name, model):
    optics, z_nm, focus_nm = SITUATIONS[name]
    a, b = (
        psf(
            optics.model_copy(update={"model": model, "method": method}),
            z_nm, focus_nm, shape=(12, 15), x_nm=30.0, y_nm=-70.0,
        )
        for method in ("radial", "pupil")
    )  # fmt: skip
    # each is within 1e-6 of the peak of the truth
    np.testing.assert_allclose(a, b, rtol=0, atol=2e-6 * b.max())


def test_auto_takes_the_radial_model_where_the_optics_are_symmetric():
    window, reach = Window((5, 5), 100.0), Reach()
    assert isinstance(image_model(OIL_WATER, window, reach), RadialModel)
    bent = image_model(OIL_WATER, window, reach, wavefront_nm={5: 10.0})
    assert isinstance(bent, PupilModel)
    on_pupil = OIL_WATER.model_copy(update={"method": "pupil"})
    assert isinstance(image_model(on_pupil, window, reach), PupilModel)


@pytest.mark.parametrize(
    "settings", [{"mask": VortexMask()}, {"wavefront": ZernikeWavefront(coefficients_nm={5: 1.0})}]
)
def test_radial_method_refuses_optics_without_symmetry(settings):
    optics = OIL_WATER.model_copy(update={"method": "radial", **settings})
    with pytest.raises(OpticsError, match=f"symmetry, but {next(iter(settings))}"):
        psf(optics)


@pytest.mark.parametrize("shape", [(1, 1), (2, 2), (9, 9), (10, 10), (7, 12), (12, 7), (1, 8)])
def test_windows_of_any_shape_are_centred_on_the_emitter(shape):
    # red if mirroring or the quadrant's origin is off for some parity
    centred = radial(OIL_WATER, shape, focus=(200.0, 200.0)).images(0.0, 200.0)[0]
    grid = radial(OIL_WATER, shape, focus=(200.0, 200.0), lateral=1.0)
    general = grid._gridded.images(FreeDipoleImages(), *np.array([[0.0], [200.0], [0.0], [0.0]]))[
        0, 0
    ]
    peak = psf(OIL_WATER, 0.0, 200.0, shape=(3, 3)).max()
    np.testing.assert_allclose(centred, general, rtol=0, atol=1e-6 * peak)
    np.testing.assert_array_equal(centred, centred[::-1, ::-1])


@settings(max_examples=5, deadline=None)
@given(st.floats(-300.0, 300.0), st.floats(-300.0, 300.0))
def test_an_emitter_moved_by_whole_pixels_moves_its_image_by_as_many(x_nm, y_nm):
    model = radial(OIL_WATER, (15, 15), z=(300.0, 300.0), lateral=600.0)
    still, moved = model.images(300.0, 0.0, [x_nm, x_nm + 200.0], [y_nm, y_nm - 100.0])
    np.testing.assert_allclose(moved[:-1, 2:], still[1:, :-2], rtol=0, atol=1e-6 * still.max())


def test_many_emitters_in_one_call_equal_each_alone():
    rng = np.random.default_rng(1)
    z, focus = rng.choice([0.0, 200.0, 500.0], 12), rng.choice([0.0, 300.0], 12)
    x, y = rng.choice([0.0, 40.0, -90.0], (2, 12))
    model = radial(OIL_WATER, (9, 8), z=(0.0, 500.0), focus=(0.0, 300.0), lateral=90.0)
    together = model.images(z, focus, x, y)
    for i in range(12):
        alone = model.images(z[i], focus[i], x[i], y[i])[0]
        # centred emitters alone go by the pixels' own weights: two roundings of one truth
        np.testing.assert_allclose(together[i], alone, rtol=0, atol=1e-6 * alone.max())


@settings(max_examples=6, deadline=None)
@given(st.floats(50.0, 1500.0), st.floats(0.3, 1.45), st.sampled_from(list(PROFILES)))
def test_matched_media_make_the_psf_symmetric_in_defocus(depth_nm, na, model):
    optics = MATCHED.model_copy(update={"na": na, "model": model})
    above, below = psf(optics, [depth_nm, -depth_nm], shape=(9, 9))
    np.testing.assert_allclose(above, below, rtol=1e-7, atol=1e-12)


@pytest.mark.parametrize("model", PROFILES)
def test_low_na_tends_to_the_airy_disc(model):
    optics = AIR.model_copy(update={"na": 0.05, "model": model})
    rho = np.linspace(0.0, 8.0, 60)
    radius_nm = rho / (2 * np.pi * 0.05 / 600)
    assert jn_zeros(1, 1)[0] / (2 * np.pi) == pytest.approx(0.61, rel=1e-3)
    profiles = RadialProfiles(objective_of(optics), model, [(0.0, 0.0)], radius_nm.max(), 1e-6)
    line = profiles.at(profiles.free(np.zeros(1), np.zeros(1)), radius_nm, np.zeros(1))[0, 0]
    airy = np.where(rho > 0, 2 * j1(np.maximum(rho, 1e-9)) / np.maximum(rho, 1e-9), 1.0) ** 2
    # axial dipoles and the cosines of the angle enter with NA^2
    np.testing.assert_allclose(line / line[0], airy, rtol=0, atol=2 * 0.05**2)
    # unit energy: the peak of the Airy disc is pi NA^2 / wavelength^2
    assert line[0] == pytest.approx(np.pi * (0.05 / 600) ** 2, rel=2 * 0.05**2)


@needs_compiler
@pytest.mark.parametrize("model", PROFILES)
def test_sum_over_a_very_large_window_is_one(model):
    optics = with_model(MATCHED, model)
    total = psf(optics, 0.0, shape=(501, 501), pixel_nm=400.0)[0].sum()
    # beyond 100 um lies 2 / (pi k NA r) of an even pupil's light, 4e-4
    assert total == pytest.approx(1.0, abs=1e-3)


@pytest.mark.parametrize("model", PROFILES)
@pytest.mark.parametrize(("z_nm", "focus_nm"), [(0.0, 0.0), (700.0, 300.0)])
def test_light_in_a_gaussian_window_obeys_parseval_to_1e6(model, z_nm, focus_nm):
    # no window of pixels holds all light to 1e-6; under a Gaussian, sums and pupil are both exact
    optics, spacing_nm, width_nm = with_model(OIL_WATER, model), 70.0, 400.0
    window = Window((81, 81), spacing_nm, points=True)
    image = RadialModel(
        optics, window, Reach((z_nm, z_nm), (focus_nm, focus_nm)), accuracy=1e-8
    ).images(z_nm, focus_nm)[0]
    bell = np.exp(-(((np.arange(81) - 40) * spacing_nm / width_nm) ** 2) / 2)
    light = bell @ image @ bell * spacing_nm**2
    expected = gaussian_share(stack_of(optics), width_nm, z_nm, focus_nm, model == "vectorial")
    assert light == pytest.approx(expected, rel=1e-6)


def test_more_accuracy_never_gives_a_larger_error():
    setup = {"window": Window((15, 15), 100.0), "reach": Reach((500.0, 500.0))}
    exact = RadialModel(OIL_WATER, accuracy=1e-11, **setup).images(500.0)[0]
    errors = []
    for accuracy in (1e-2, 1e-4, 1e-6, 1e-8):
        model = RadialModel(OIL_WATER, accuracy=accuracy, **setup)
        errors.append(np.abs(model.images(500.0)[0] - exact).max() / exact.max())
        assert errors[-1] < accuracy
        assert model.error_estimate < 0.5 * accuracy
    assert errors == sorted(errors, reverse=True)


@settings(max_examples=12, deadline=None)
@example(0.5, 1.0, 4094.0, 0.0, 20.0, 165.0, "gibson_lanni")
@given(
    na=st.floats(0.2, 1.48),
    n_sample=st.floats(1.0, 1.56),
    z_nm=st.floats(0.0, 8000.0),
    focus_nm=st.floats(-8000.0, 8000.0),
    pixel_nm=st.floats(20.0, 400.0),
    coverslip_um=st.floats(165.0, 175.0),
    model=st.sampled_from(list(PROFILES)),
)
def test_any_optics_meet_their_accuracy(
    na, n_sample, z_nm, focus_nm, pixel_nm, coverslip_um, model
):
    # red if the nodes' count misses a steep phase, a decay or a branch point next to the NA
    optics = Optics(
        na=na, n_sample=n_sample, coverslip_um=coverslip_um, coverslip_design_um=170.0, model=model
    )
    setup = (Window((9, 9), pixel_nm), Reach((z_nm, z_nm), (focus_nm, focus_nm)))
    rough = RadialModel(optics, *setup, accuracy=1e-5).images(z_nm, focus_nm)
    finer = RadialModel(optics, *setup, accuracy=1e-9).images(z_nm, focus_nm)
    assert np.isfinite(finer).all()
    assert finer.min() >= 0.0
    # the peak of the pixels may be dimmer than the profile's, to which accuracy refers
    assert np.abs(rough - finer).max() < 2e-5 * finer.max()


BASIS_PLACE = {"x_nm": 30.0, "y_nm": -40.0}


@pytest.mark.parametrize("analyser_deg", [None, 0.0, 25.0, 90.0])
@pytest.mark.parametrize("name", ["matched", "oil-water at the coverslip", "thick coverslip"])
def test_basis_images_agree_with_the_pupil_model(name, analyser_deg):
    optics, z_nm, focus_nm = SITUATIONS[name]
    z, focus = (z_nm, z_nm), (focus_nm, focus_nm)
    ours = radial(optics, (11, 10), z, focus, lateral=50.0)
    theirs = PupilModel(
        optics, shape=(11, 10), pixel_nm=100.0, z_nm=z, focus_nm=focus, reach_nm=50.0
    )
    a, b = (
        model.basis_images(z_nm, focus_nm, **BASIS_PLACE, analyser_deg=analyser_deg)
        for model in (ours, theirs)
    )
    # each is within 1e-6 of the free dipole's peak, thrice in these units
    np.testing.assert_allclose(a, b, rtol=0, atol=4e-6 * b[:, :3].mean(axis=1).max())


def test_mean_of_the_axial_basis_images_is_the_free_dipole():
    model = radial(OIL_WATER, (11, 11), z=(200.0, 200.0), lateral=50.0)
    basis = model.basis_images(200.0, **BASIS_PLACE)[0]
    free = model.images(200.0, **BASIS_PLACE)[0]
    np.testing.assert_allclose(basis[:3].mean(axis=0), free, rtol=0, atol=1e-12)


def test_crossed_analysers_share_the_light_of_none():
    model = radial(OIL_WATER, (9, 9), lateral=50.0)
    whole = model.basis_images(**BASIS_PLACE)
    parts = (model.basis_images(**BASIS_PLACE, analyser_deg=angle) for angle in (33.0, 123.0))
    np.testing.assert_allclose(sum(parts), whole, rtol=0, atol=1e-12)


@settings(max_examples=4, deadline=None)
@given(st.floats(0.0, 180.0), st.floats(0.0, 90.0))
def test_an_analyser_never_passes_negative_light_of_a_fixed_dipole(azimuth_deg, tilt_deg):
    model = radial(OIL_WATER, (11, 11), focus=(300.0, 300.0))
    a, t = np.radians(azimuth_deg), np.radians(tilt_deg)
    x, y, z = np.sin(t) * np.cos(a), np.sin(t) * np.sin(a), np.cos(t)
    moments = np.array([x * x, y * y, z * z, x * y, x * z, y * z])
    basis = model.basis_images(0.0, 300.0, analyser_deg=40.0)[0]
    image = np.tensordot(moments, basis, axes=1)
    # the error of the six images, below 1e-6 of the peak each, may go either way in the dark
    assert image.min() > -4e-6 * basis.max()


@needs_compiler
@pytest.mark.parametrize("z_nm", [0.0, 900.0])
def test_basis_energies_are_the_plane_sums_of_the_basis_images(z_nm):
    model = radial(OIL_WATER, (151, 151), z=(z_nm, z_nm), focus=(z_nm, z_nm))
    energies = model.basis_energies(z_nm)
    assert energies[0, :3].mean() == pytest.approx(1.0, abs=1e-12)
    sums = model.basis_images(z_nm, z_nm).sum(axis=(2, 3))
    # 4 % or so of the light lies outside 15 um; signs cancel in the mixed images
    np.testing.assert_allclose(sums, energies, rtol=0.06, atol=1e-6)


@pytest.mark.parametrize("model", PROFILES)
def test_slopes_are_the_limits_of_differences(model):
    optics = with_model(OIL_WATER, model)
    setup = Window((9, 9), 100.0), Reach((300.0, 320.0), (400.0, 400.0), 60.0)
    ours = RadialModel(optics, *setup, accuracy=1e-9)
    place = (310.0, 400.0, 20.0, -30.0)
    image, *slopes = ours.slopes(*place)[0]
    np.testing.assert_allclose(image, ours.images(*place)[0], rtol=0, atol=1e-15)
    for slope, axis in zip(slopes, (2, 3, 0), strict=True):
        step = 2.0
        ends = [
            ours.images(*(v + side * step * (i == axis) for i, v in enumerate(place)))[0]
            for side in (-1, 1)
        ]
        difference = (ends[1] - ends[0]) / (2 * step)
        # central differences err by step^2 / 6 times the third derivative, (2 pi NA/lambda)^2
        error = step**2 / 6 * (4 * np.pi * 1.4 / 600) ** 2
        assert np.abs(slope - difference).max() < error * np.abs(difference).max()


def test_points_and_blur_follow_from_the_same_profile():
    z, focus = 100.0, 300.0
    stack = stack_of(OIL_WATER)
    points = RadialModel(
        OIL_WATER, Window((1, 9), 70.0, points=True), Reach((z, z), (focus, focus))
    ).images(z, focus)[0, 0]
    expected = radial_psf(stack, np.abs(np.arange(9) - 4) * 70.0, z, focus)
    np.testing.assert_allclose(points, expected, rtol=0, atol=1e-6 * expected.max())
    sharp, blurred = (
        RadialModel(OIL_WATER, Window((91, 91), 25.0, blur_nm=blur), Reach((z, z), (focus, focus)))
        .images(z, focus)[0]
        for blur in (0.0, 80.0)
    )  # fmt: skip
    # exact for images without frequencies beyond a pixel's, away from the window's edge
    expected = gaussian_filter(sharp, 80.0 / 25.0, truncate=7.0)[25:-25, 25:-25]
    np.testing.assert_allclose(blurred[25:-25, 25:-25], expected, atol=2e-6 * expected.max())


def test_threads_do_not_change_a_bit():
    import numba

    before = numba.get_num_threads()
    images = []
    try:
        for threads in (1, before):
            numba.set_num_threads(threads)
            images.append(psf(OIL_WATER, np.linspace(0, 900, 20), shape=(70, 70)))
    finally:
        numba.set_num_threads(before)
    assert (images[0] == images[1]).all()


def test_the_scalar_model_knows_no_dipoles():
    model = radial(with_model(OIL_WATER, "gibson_lanni"))
    for ask in (model.basis_images, model.basis_energies):
        with pytest.raises(OpticsError, match="knows no dipole"):
            ask()


def test_what_a_model_was_not_set_up_for_is_refused():
    model = radial(OIL_WATER, z=(0.0, 100.0))
    for place in ((101.0,), (0.0, 1.0), (0.0, 0.0, 1.0), (0.0, 0.0, 0.0, -1.0), (np.nan,)):
        with pytest.raises(OpticsError, match="set it up for the wider range"):
            model.images(*place)
    for accuracy in (0.0, 1.0, np.nan):
        with pytest.raises(OpticsError, match="accuracy"):
            RadialModel(OIL_WATER, Window((5, 5), 100.0), Reach(), accuracy)
    with pytest.raises(OpticsError, match="not finite"):
        radial(OIL_WATER, z=(0.0, np.inf))


@given(st.integers(1, 60))
def test_gauss_legendre_rule_equals_numpys(count):
    node, weight = np.empty(count), np.empty(count)
    gauss_legendre(node, weight)
    expected = np.polynomial.legendre.leggauss(count)
    np.testing.assert_allclose(node, expected[0], rtol=0, atol=1e-13)
    np.testing.assert_allclose(weight, expected[1], rtol=0, atol=1e-13)


def test_bessel_functions_equal_scipys_to_1e12():
    x = np.concatenate(([0.0, 1e-9, 1e-4], np.linspace(0.01, 150.0, 400)))
    tables = [np.empty((x.size, 1)) for _ in range(3)]
    bessel_functions(x, np.ones(1), bessel_taylor(150.0), TAYLOR_STEP, *tables)
    for table, expected in zip(tables, (j0(x), j1(x), jv(2, x)), strict=True):
        np.testing.assert_allclose(table[:, 0], expected, rtol=0, atol=1e-12)


def test_spline_pieces_are_scipys_b_splines():
    from scipy.interpolate import BSpline

    degree = spline_pieces().shape[1] - 1
    element = BSpline.basis_element(np.arange(degree + 2), extrapolate=False)
    share = np.array([0.0, 0.3, 0.9])
    powers = share[:, None] ** np.arange(degree + 1)
    expected = np.array([[element(u + degree - t) for t in range(degree + 1)] for u in share])
    np.testing.assert_allclose(powers @ spline_pieces(), expected, rtol=0, atol=1e-14)


@pytest.mark.parametrize("parity", [1.0, -1.0])
def test_spline_coefficients_interpolate_profiles_of_either_parity(parity):
    pad, radii = 40, np.arange(90)
    profile = (np.cos if parity > 0 else np.sin)(0.4 * radii[:, None] * np.ones(3))
    out = np.empty((1, pad + radii.size, PLANES))
    spline_coefficients(profile, parity, pad, spline_poles(), out)
    at_knots = spline_pieces()[0, :-1]
    for r in (0, 1, 7, 30):
        lead = r + pad - (at_knots.size - 1) // 2
        values = at_knots @ out[0, lead : lead + at_knots.size, :3]
        np.testing.assert_allclose(values, profile[r], rtol=0, atol=1e-9)


@pytest.mark.parametrize("n_sample", [1.33, 1.5, 1.39999, 1.40001, 1.56])
def test_quadrature_integrates_square_roots_at_the_critical_circle(n_sample):
    # red if the substitution misses a branch point: Gauss nodes alone reach 1e-4 here
    objective = objective_of(OIL_WATER.model_copy(update={"n_sample": n_sample}))
    rules = [piece.nodes(24) for piece in pieces(objective)]
    q, area = (np.concatenate(column) for column in zip(*rules, strict=True))
    assert area.sum() == pytest.approx(1.4**2 / 2, rel=1e-13)
    inside = q < n_sample
    root = np.sqrt(np.abs(n_sample**2 - q**2))
    # integral of sqrt(n^2 - q^2) q dq = -(n^2 - q^2)^(3/2) / 3
    below = (n_sample**3 - max(n_sample**2 - 1.4**2, 0.0) ** 1.5) / 3
    above = max(1.4**2 - n_sample**2, 0.0) ** 1.5 / 3
    assert (area * root)[inside].sum() == pytest.approx(below, rel=1e-12)
    assert (area * root)[~inside].sum() == pytest.approx(above, rel=1e-10, abs=1e-16)
