"""Information: what pixels and light tell, limits in closed form, bounds of PSFs as published."""

import math
import os

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from reference_information import (
    interface_quantum_bound,
    matched_quantum_bounds,
    mortensen_bound,
    read_noise_information,
    register_information,
)

import simscope as ss
from simscope.errors import CameraError, EvaluationError, OpticsError
from simscope.evaluate import (
    airy_limit_nm,
    bound_from_information,
    bound_or_infinity,
    exact_variance,
    gaussian_limit_nm,
    psf_crlb,
    quantum_limit,
    rieger_stallinga_limit_nm,
)
from simscope.optics import Window, image_model
from simscope.optics.slopes import broadcast_places, differenced, image_slopes, stencil
from simscope.recipe import (
    CCD,
    EMCCD,
    SCMOS,
    AstigmatismMask,
    ConeDipole,
    FixedDipole,
    Optics,
    TetrapodMask,
    VortexMask,
    ZernikeWavefront,
)

OIL = {"n_sample": 1.518, "n_coverslip": 1.518, "n_immersion": 1.518}
AIR = {"n_sample": 1.0, "n_coverslip": 1.0, "n_immersion": 1.0, "coverslip_um": 0.0}
SLOW = pytest.mark.skipif(
    os.environ.get("NUMBA_DISABLE_JIT") == "1", reason="kernels in plain Python take minutes here"
)


class TestBounds:
    """From information to bounds, also where there is none."""

    def test_agrees_with_the_inverse_where_there_is_one(self):
        half = np.random.default_rng(4).normal(size=(5, 4, 9)) * [[1e3], [1.0], [1e-2], [50.0]]
        information = half @ np.swapaxes(half, -1, -2)
        np.testing.assert_allclose(
            bound_or_infinity(information), bound_from_information(information), rtol=1e-9
        )

    def test_only_what_the_image_does_not_tell_is_unbounded(self):
        # b and c change the image alike, d not at all: a keeps the bound it has without them
        effects = np.array([[1.0, 0, 0], [0, 2.0, 1.0], [0, 4.0, 2.0], [0, 0, 0]])
        bounds = bound_or_infinity(effects @ effects.T)
        assert bounds[0] == pytest.approx(1.0)
        assert np.isinf(bounds[1:]).all()


class TestClosedForms:
    """Ober 2004, Mortensen 2010, Rieger and Stallinga 2014."""

    @pytest.mark.parametrize("background", [1e-4, 0.01, 1.0, 100.0])
    def test_gaussian_limit_is_the_integral_of_mortensen(self, background):
        limit = gaussian_limit_nm(110.0, 800.0, background, 90.0)
        assert limit == pytest.approx(mortensen_bound(800.0, background, 110.0, 90.0), rel=1e-7)

    def test_without_background_it_is_the_width_over_the_root_of_the_photons(self):
        expected = math.sqrt((130**2 + 100**2 / 12) / 2500)
        assert gaussian_limit_nm(130.0, 2500.0, 0.0, 100.0) == pytest.approx(expected)
        assert rieger_stallinga_limit_nm(130.0, 2500.0, 0.0, 100.0) == pytest.approx(expected)

    def test_rieger_and_stallinga_stand_in_for_the_integral(self):
        # the interpolation's own error, tau from 1e-6 to 100
        level = np.geomspace(1e-4, 1e4, 33)
        closed = rieger_stallinga_limit_nm(120.0, 1000.0, level, 100.0)
        exact = gaussian_limit_nm(120.0, 1000.0, level, 100.0)
        assert np.abs(closed / exact - 1).max() < 0.02

    @SLOW
    def test_airy_pattern_tends_to_ober_without_pixels_and_edges(self):
        # Dark rings that pixels fill cost information in proportion to the pixel, and light beyond
        # the window in proportion to 1/side: both extrapolated, to 1 % (second order in each).
        optics = Optics(model="gibson_lanni", na=0.5, wavelength_nm=600.0, **AIR)

        def information(pixel_nm, side):
            bound = psf_crlb(
                optics, photons=1.0, background_photons=0.0, pixel_nm=pixel_nm,
                shape=(side, side), parameters=("x_nm",),
            )  # fmt: skip
            return 1 / bound["x_nm"][0] ** 2

        coarse, fine = (
            2 * information(p, 2 * n + 1) - information(p, n) for p, n in ((50.0, 161), (25.0, 321))
        )
        limit = 1 / airy_limit_nm(0.5, 600.0, 1.0) ** 2
        assert 0.9 * limit < fine < limit
        assert 2 * fine - coarse == pytest.approx(limit, rel=0.01)

    @pytest.mark.parametrize(
        ("call", "message"),
        [
            (lambda: gaussian_limit_nm(0.0, 100.0), "sigma_nm"),
            (lambda: gaussian_limit_nm(100.0, 100.0, 5.0), "give pixel_nm"),
            (lambda: airy_limit_nm(1.4, 600.0, -1.0), "photons"),
            (lambda: rieger_stallinga_limit_nm(100.0, 10.0, math.nan, 100.0), "background"),
        ],
    )
    def test_impossible_numbers_are_refused(self, call, message):
        with pytest.raises(EvaluationError, match=message):
            call()


class TestQuantumLimit:
    """Backlund, Shechtman and Walsworth 2018."""

    def test_scalar_aperture_has_the_published_values(self):
        na, n, wavelength = 1.4, 1.518, 600.0
        bound = quantum_limit(
            Optics(model="gibson_lanni", na=na, wavelength_nm=wavelength, **OIL), 400
        )
        assert bound["x_nm"][0] == pytest.approx(airy_limit_nm(na, wavelength, 400), rel=1e-10)
        mean = 2 / 3 * (n**3 - (n**2 - na**2) ** 1.5) / na**2
        spread = n**2 - na**2 / 2 - mean**2
        expected = wavelength / (2 * math.pi * 2 * math.sqrt(400 * spread))
        assert bound["z_nm"][0] == pytest.approx(expected, rel=1e-10)

    def test_free_dipole_has_the_limit_of_its_states_overlap(self):
        # square grid over a round pupil: 1/1200 of the edge
        optics = Optics(na=1.35, wavelength_nm=640.0, **OIL)
        bound = quantum_limit(optics, 1.0)
        x_nm, z_nm = matched_quantum_bounds(1.35, 1.518, 640.0)
        assert bound["x_nm"][0] == pytest.approx(x_nm, rel=2e-3)
        assert bound["z_nm"][0] == pytest.approx(z_nm, rel=2e-3)

    @pytest.mark.parametrize("z_nm", [0.0, 120.0])
    def test_evanescent_light_enters_as_the_overlap_of_states_says(self, z_nm):
        # states a nanometre apart, midpoint sums over a square root: 1e-3 together
        optics = Optics(na=1.46, wavelength_nm=600.0, n_coverslip=1.518, n_immersion=1.518)
        expected = interface_quantum_bound(1.46, 1.518, 1.33, 600.0, z_nm - 0.5)
        assert quantum_limit(optics, 1.0, z_nm)["z_nm"][0] == pytest.approx(expected, rel=2e-3)

    def test_evanescent_light_tells_the_height_near_the_coverslip_only(self):
        near, mid, far, farther = quantum_limit(Optics(), 1.0, [0.0, 300.0, 3000.0, 6000.0])["z_nm"]
        assert near < mid < far
        assert far == pytest.approx(farther, rel=0.01)

    @SLOW
    @settings(max_examples=12, deadline=None)
    @given(
        modes=st.dictionaries(st.integers(3, 14), st.floats(-60, 60), max_size=4),
        z_nm=st.floats(0, 800),
        scalar=st.booleans(),
        na=st.floats(0.8, 1.45),
    )
    def test_no_psf_beats_it(self, modes, z_nm, scalar, na):
        optics = Optics(
            model="gibson_lanni" if scalar else "vectorial", na=na,
            wavefront=ZernikeWavefront(coefficients_nm=modes),
        )  # fmt: skip
        bound = psf_crlb(
            optics, z_nm, 400.0, background_photons=0.0, pixel_nm=60.0, shape=(61, 61),
            parameters=("x_nm", "y_nm", "z_nm"),
        )  # fmt: skip
        limit = quantum_limit(optics, 5000.0, z_nm)
        for name in ("x_nm", "y_nm", "z_nm"):
            assert bound[name][0] >= limit[name][0]

    def test_light_it_does_not_describe_is_refused(self):
        with pytest.raises(EvaluationError, match="confocal"):
            quantum_limit(
                Optics(modality={"kind": "confocal", "excitation_wavelength_nm": 500}), 1.0
            )


class TestPixels:
    """Exact information of one reading."""

    @pytest.mark.parametrize("read_e", [0.3, 1.0, 3.0])
    @pytest.mark.parametrize("mean_e", [0.02, 0.7, 9.0])
    def test_read_noise_agrees_with_quadrature(self, mean_e, read_e):
        # 32 interpolation nodes: 1e-5
        mean = np.array([mean_e, 0.01, 100.0])
        expected = 1 / read_noise_information(mean_e, read_e)
        assert exact_variance(mean, read_e)[0] == pytest.approx(expected, rel=2e-5)

    @pytest.mark.parametrize("mean_e", [0.05, 1.0, 6.0])
    def test_register_agrees_with_sums_of_gammas(self, mean_e):
        # the twin's midpoint sums: 2e-3
        variance = exact_variance(np.array([mean_e]), 0.2, multiplied=True)[0]
        assert variance == pytest.approx(1 / register_information(mean_e, 0.2), rel=3e-3)

    @settings(max_examples=15, deadline=None)
    @given(read_e=st.floats(0.2, 20.0), mean_e=st.floats(0.01, 1e4))
    def test_the_usual_variance_is_never_too_small(self, read_e, mean_e):
        # Of all densities with one variance the Gaussian holds the least information about its
        # mean, so 1/J <= m + r^2; 2e-5 for the interpolation.
        assert exact_variance(np.array([mean_e]), read_e)[0] <= (mean_e + read_e**2) * (1 + 2e-5)

    def test_the_usual_variances_hold_for_plenty_of_light(self):
        mean = np.array([200.0, 2000.0])
        np.testing.assert_allclose(exact_variance(mean, 1.6), mean + 1.6**2, rtol=1e-3)
        np.testing.assert_allclose(exact_variance(mean, 0.2, multiplied=True), 2 * mean, rtol=2e-3)

    def test_a_register_that_is_almost_dark_counts_single_electrons(self):
        # no excess noise: an electron stands out of a read noise of 1 % of the gain
        variance = exact_variance(np.array([0.01]), 0.01, multiplied=True)
        assert variance[0] == pytest.approx(0.01, rel=0.06)

    def test_dark_pixels_without_noise_are_refused(self):
        with pytest.raises(EvaluationError, match="give background_photons"):
            exact_variance(np.zeros(2), 0.0)


class TestSlopes:
    """Derivatives of images by position."""

    @pytest.mark.parametrize("left", range(5))
    def test_stencils_differentiate_polynomials(self, left):
        offsets = np.arange(9) - left
        for order, weights in zip((8, 6), stencil(left), strict=True):
            powers = [weights @ offsets.astype(float) ** power for power in range(order + 1)]
            np.testing.assert_allclose(powers, np.eye(order + 1)[1], atol=1e-9)

    @SLOW
    @pytest.mark.parametrize("wavefront", [{}, {7: 40.0, 5: 30.0}])
    def test_differences_agree_with_the_models_own(self, wavefront):
        # z = 0 and 20 nm: one-sided above the coverslip
        optics = Optics(
            wavefront=ZernikeWavefront(coefficients_nm=wavefront) if wavefront else None
        )
        window, places = (
            Window((15, 17), 100.0),
            broadcast_places([0.0, 20.0, 700.0], 300.0, 13, -40),
        )
        own = image_slopes(optics, window, *places)
        found = differenced(
            lambda reach: image_model(optics, window, reach).images, optics, *places
        )
        largest = np.abs(own).max(axis=(0, 2, 3), keepdims=True)
        assert (np.abs(found - own) / largest).max() < 1e-5

    def test_slopes_are_those_of_the_image(self):
        optics, shape = Optics(mask=TetrapodMask(z_range_nm=2000)), (15, 15)
        slopes = image_slopes(optics, Window(shape, 100.0), 500.0, 300.0, 20.0, 30.0)[0]
        step = 2.0  # second order: (2 k NA step)^2 / 6 = 6e-4

        def image(dx=0.0, dy=0.0, dz=0.0):
            return ss.psf(optics, 500.0 + dz, 300.0, shape, x_nm=20.0 + dx, y_nm=30.0 + dy)[0]

        for number, name in enumerate(("dx", "dy", "dz"), start=1):
            central = (image(**{name: step}) - image(**{name: -step})) / (2 * step)
            np.testing.assert_allclose(slopes[number], central, atol=2e-3 * np.abs(central).max())

    @pytest.mark.parametrize(("optics", "below"), [(Optics(), False), (Optics(**OIL), True)])
    def test_no_height_falls_below_a_coverslip_that_is_there(self, optics, below):
        heights = []

        def images_over(reach):
            def images(z, focus, x, y):
                heights.extend([*z, reach.z_nm[0]])
                return (1.0 + 1e-3 * (x + y + z))[:, None, None] * np.ones((1, 2, 2))

            return images

        slopes = differenced(images_over, optics, *broadcast_places([0.0, 9.0], 0.0, 0.0, 0.0))
        np.testing.assert_allclose(slopes[:, 1:], 1e-3, rtol=1e-9)
        assert (min(heights) < 0.0) == below

    def test_images_with_a_kink_are_refused(self):
        def kinked(z, focus, x, y):
            return np.abs(x - 0.3)[:, None, None] * np.ones((1, 2, 2))

        with pytest.raises(OpticsError, match="agree to"):
            differenced(lambda reach: kinked, Optics(), *broadcast_places(0.0, 0.0, 0.0, 0.0))


class TestPsfBounds:
    """Bounds of one emitter for bare optics and any camera."""

    def test_score_of_simulated_images_has_the_variance_the_information_says(self):
        # 4,000 Poisson images: a variance is known to sqrt(2/4000) = 2.2 %; 10 % is 4.5 of them
        # (false alarm 3e-5 for the four parameters). Derivatives by differences of ss.psf.
        optics, shape, photons, level = Optics(**OIL), (15, 15), 800.0, 4.0
        place = {"x_nm": 30.0, "y_nm": -20.0}
        spot = ss.psf(optics, 300.0, 0.0, shape, **place)[0]
        up, down = ss.psf(optics, [302.0, 298.0], 0.0, shape, **place)
        left = ss.psf(optics, 300.0, 0.0, shape, x_nm=28.0, y_nm=-20.0)[0]
        right = ss.psf(optics, 300.0, 0.0, shape, x_nm=32.0, y_nm=-20.0)[0]
        effects = {
            "x_nm": photons * (right - left) / 4, "z_nm": photons * (up - down) / 4,
            "photons": spot, "background": np.ones(shape),
        }  # fmt: skip
        mean = photons * spot + level
        images = np.random.default_rng(11).poisson(mean, (4000, *shape))
        for name, effect in effects.items():
            score = ((images - mean) / mean * effect).sum(axis=(1, 2))
            bound = psf_crlb(
                optics, 300.0, photons=photons, background_photons=level, shape=shape,
                parameters=(name,), **place,
            )[name][0]  # fmt: skip
            assert score.var() == pytest.approx(1 / bound**2, rel=0.10)

    @SLOW
    def test_tetrapod_beats_astigmatism_over_three_micrometres(self):
        # Shechtman et al. 2014: mean of the three bounds over the range, high background. Against
        # astigmatism of any strength, and with all bounds finite.
        base = {"na": 1.4, "wavelength_nm": 670.0, **OIL}
        z = np.linspace(-1500.0, 1500.0, 11)

        def mean_bound(optics):
            bound = psf_crlb(
                optics, z, photons=3500.0, background_photons=50.0, pixel_nm=160.0, shape=(41, 41)
            )
            return np.mean([bound[name] for name in ("x_nm", "y_nm", "z_nm")])

        tetrapod = mean_bound(Optics(**base, mask=TetrapodMask(z_range_nm=3000)))
        astigmatic = min(
            mean_bound(Optics(**base, wavefront=ZernikeWavefront(coefficients_nm={5: rms})))
            for rms in (60.0, 100.0, 200.0, 400.0)
        )
        assert tetrapod < 0.55 * astigmatic

    @pytest.mark.parametrize("changes", [{}, {"method": "pupil"}, {"bead_diameter_nm": 50.0}])
    def test_height_of_a_symmetric_psf_has_no_bound_in_focus(self, changes):
        bound = psf_crlb(Optics(**OIL, **changes), [-300.0, 0.0, 300.0])
        assert np.isinf(bound["z_nm"]).tolist() == [False, True, False]
        assert bound["z_nm"][0] == pytest.approx(bound["z_nm"][2], rel=1e-4)
        assert np.isfinite(bound["x_nm"]).all()

    def test_astigmatism_gives_the_focus_a_height(self):
        bound = psf_crlb(Optics(**OIL, mask=AstigmatismMask(z_range_nm=600)), 0.0)
        assert 1 < bound["z_nm"][0] < 50

    def test_ccd_without_read_noise_counts_electrons(self):
        camera = CCD(qe=0.5, read_noise_e=0.0)
        through = psf_crlb(Optics(), 200.0, photons=2000, background_photons=8, camera=camera)
        ideal = psf_crlb(Optics(), 200.0, photons=1000, background_photons=4)
        assert through["x_nm"] == pytest.approx(ideal["x_nm"], rel=1e-12)
        assert through["photons"] == pytest.approx(2 * ideal["photons"], rel=1e-12)

    def test_multiplication_costs_root_two_and_less_in_the_dark(self):
        optics, camera = Optics(), EMCCD(qe=1.0, read_noise_e=30.0, em_gain=300.0)
        quiet = {"photons": 200.0, "background_photons": 0.02, "camera": camera}
        ideal = psf_crlb(optics, 0.0, photons=200.0, background_photons=0.02)["x_nm"][0]
        usual = psf_crlb(optics, 0.0, **quiet)["x_nm"][0]
        exact = psf_crlb(optics, 0.0, noise="exact", **quiet)["x_nm"][0]
        bright = psf_crlb(optics, 0.0, photons=1e5, background_photons=20.0, camera=camera)
        best = psf_crlb(optics, 0.0, photons=1e5, background_photons=20.0)
        assert bright["x_nm"] / best["x_nm"] == pytest.approx(math.sqrt(2), rel=1e-3)
        assert ideal < exact < usual

    def test_usual_read_noise_costs_the_background_where_light_is_scarce(self):
        # where 0.05 photons meet a read noise of 1 e the exact information is 66 % larger (the twin
        # above); the spot's own pixels are brighter, so the position hardly notices
        optics, camera = Optics(), SCMOS(qe=1.0, read_noise_e=1.0)
        few = {"photons": 200.0, "background_photons": 0.05, "camera": camera}
        usual, exact = (psf_crlb(optics, 0.0, noise=n, **few)[0] for n in ("moments", "exact"))
        assert 1.1 < usual["background"] / exact["background"] < math.sqrt(1.66)
        assert 1.0 < usual["x_nm"] / exact["x_nm"] < 1.02

    def test_knowing_a_parameter_never_raises_the_bound_of_another(self):
        optics = Optics(mask=VortexMask(charge=1))
        joint = psf_crlb(optics, 400.0)
        alone = psf_crlb(optics, 400.0, parameters=("z_nm", "photons"))
        assert alone["z_nm"] <= joint["z_nm"]
        assert alone["photons"] <= joint["photons"]

    def test_many_emitters_are_as_many_single_ones(self):
        together = psf_crlb(Optics(), [0.0, 250.0], photons=[900.0, 4000.0], x_nm=[0.0, 31.0])
        single = psf_crlb(Optics(), 250.0, photons=4000.0, x_nm=31.0)
        assert [*together[1]] == pytest.approx([*single[0]], rel=1e-4)

    @pytest.mark.parametrize(
        ("arguments", "error", "message"),
        [
            ({"parameters": ("x_n",)}, EvaluationError, "did you mean 'x_nm'"),
            ({"parameters": ()}, EvaluationError, "at least one"),
            ({"parameters": ("polar_deg",)}, EvaluationError, "no orientation"),
            ({"noise": "none"}, EvaluationError, "moments or exact"),
            ({"z_nm": -5.0}, OpticsError, "below the coverslip"),
            ({"z_nm": math.nan}, OpticsError, "not finite"),
            ({"camera": CCD(qe={"uniform": [0.4, 0.6]})}, CameraError, "qe"),
            ({"dipole": FixedDipole()}, OpticsError, "still to be drawn"),
            ({"camera": "scmos"}, EvaluationError, "camera='scmos' is no camera"),
            ({"photons": 0}, EvaluationError, "photons=0 is no light"),
            ({"photons": 1e300}, EvaluationError, "photons=1e.300 is above 1e.15"),
            ({"background_photons": -1}, EvaluationError, "background_photons=-1 is no light"),
        ],
    )
    def test_what_has_no_bound_is_refused(self, arguments, error, message):
        with pytest.raises(error, match=message):
            psf_crlb(Optics(), **arguments)


@SLOW
class TestOrientation:
    """Bounds of polar angle, azimuth and wobble."""

    def test_effects_are_those_of_turned_dipoles(self):
        # derivatives by central differences of ss.psf over a degree: 1e-4 of their own size
        optics, shape, light, level = Optics(), (15, 15), 3000.0, 5.0
        middle = {"polar_deg": 55.0, "azimuth_deg": 25.0, "half_angle_deg": 20.0}

        def image(**changes):
            return ss.psf(optics, 100.0, 0.0, shape, dipole=ConeDipole(**(middle | changes)))[0]

        effects = [
            light * (image(**{name: value + 0.5}) - image(**{name: value - 0.5}))
            for name, value in middle.items()
        ]
        mean = light * image() + level
        expected = bound_from_information(
            np.einsum("ayx,byx->ab", np.array(effects) / mean, np.array(effects))
        )
        found = psf_crlb(
            optics, 100.0, photons=light, background_photons=level, shape=shape,
            dipole=ConeDipole(**middle), parameters=tuple(middle),
        )[0]  # fmt: skip
        assert [*found] == pytest.approx(expected, rel=1e-3)

    def test_an_upright_dipole_has_no_azimuth_and_a_closed_cone_no_half_angle(self):
        upright = psf_crlb(
            Optics(), dipole=FixedDipole(polar_deg=0, azimuth_deg=40),
            parameters=("x_nm", "polar_deg", "azimuth_deg", "half_angle_deg"),
        )  # fmt: skip
        assert np.isinf(upright["azimuth_deg"][0])
        assert np.isinf(upright["half_angle_deg"][0])
        assert np.isfinite(upright["x_nm"][0])
        wobble = psf_crlb(
            Optics(), dipole=FixedDipole(polar_deg=60, azimuth_deg=40),
            parameters=("polar_deg", "rotational_constraint"),
        )  # fmt: skip
        assert 0 < wobble["rotational_constraint"][0] < 1

    def test_a_quarter_turn_of_the_dipole_swaps_x_and_y(self):
        along, across = (
            psf_crlb(Optics(), 100.0, dipole=FixedDipole(polar_deg=70, azimuth_deg=azimuth))[0]
            for azimuth in (0.0, 90.0)
        )
        assert along["x_nm"] == pytest.approx(across["y_nm"], rel=1e-6)
        assert along["z_nm"] == pytest.approx(across["z_nm"], rel=1e-6)

    def test_two_polarisation_channels_tell_more_of_the_azimuth_than_half_the_background_costs(
        self,
    ):
        dipole, names = FixedDipole(polar_deg=80, azimuth_deg=20), ("azimuth_deg",)
        light = {"photons": 5000.0, "background_photons": 0.1}
        split = Optics(analyser={"angle_deg": 0.0, "channels": "both"})
        both = psf_crlb(split, dipole=dipole, parameters=names, **light)
        whole = psf_crlb(Optics(), dipole=dipole, parameters=names, **light)
        assert both["azimuth_deg"][0] < whole["azimuth_deg"][0]


def differenced_bound(optics, z_nm, shape, pixel_nm, **keywords):
    """Bounds of x, y, z, photons, background from central differences of ss.psf alone."""
    photons, level, step = 2000.0, 6.0, 1.5

    def image(dx=0.0, dy=0.0, dz=0.0):
        return ss.psf(optics, z_nm + dz, 0.0, shape, pixel_nm, x_nm=dx, y_nm=dy, **keywords)[0]

    moves = ({"dx": step}, {"dy": step}, {"dz": step})
    effects = [
        photons
        * (image(**move) - image(**{key: -value for key, value in move.items()}))
        / (2 * step)
        for move in moves
    ]
    effects = np.array([*effects, image(), np.ones(shape)])
    mean = photons * image() + level
    return bound_from_information(np.einsum("ayx,byx->ab", effects / mean, effects))


@SLOW
class TestEveryModel:
    """Whatever makes the image, its bounds follow from its derivatives."""

    @pytest.mark.parametrize(
        "changes",
        [
            {"model": "gibson_lanni"},
            {"wavefront": {"coefficients_nm": {7: 50.0}}},
            {"mask": {"kind": "vortex", "charge": 1}},
            {"spectrum": {"kind": "gaussian", "fwhm_nm": 40.0}},
            {"bead_diameter_nm": 120.0, "blur_nm": 30.0},
            {"modality": {"kind": "confocal", "excitation_wavelength_nm": 488.0}},
            {"modality": {"kind": "two_photon", "excitation_wavelength_nm": 900.0}},
            {
                "modality": {
                    "kind": "light_sheet", "excitation_wavelength_nm": 488.0, "waist_nm": 900.0
                }
            },
        ],
        ids=lambda changes: "-".join(changes) + str(changes.get("modality", {}).get("kind", "")),
    )  # fmt: skip
    def test_bound_is_that_of_differences_of_the_image(self, changes):
        # steps of 1.5 nm: second-order error (2 k NA step)^2 / 6 = 3e-4 of a slope
        optics = Optics(**changes)
        expected = differenced_bound(optics, 250.0, (13, 13), 100.0)
        found = psf_crlb(
            optics, 250.0, photons=2000.0, background_photons=6.0, pixel_nm=100.0, shape=(13, 13)
        )[0]
        assert [*found] == pytest.approx(expected, rel=2e-3)

    @pytest.mark.filterwarnings("ignore:.*outermost pixels:simscope.errors.SimscopeWarning")
    def test_measured_psf_tells_what_the_psf_it_was_measured_from_tells(self, tmp_path):
        # 1 % of the light fell beside the calibrated window; cubic splines through planes 40 nm
        # apart: 1 % of the slopes
        heights = np.arange(-800.0, 801.0, 40.0)
        np.save(tmp_path / "stack.npy", ss.psf(Optics(**OIL), heights, 0.0, (61, 61)))
        calibration = {
            "path": str(tmp_path / "stack.npy"), "format": "stack", "pixel_nm": 100.0,
            "dz_nm": 40.0, "z_axis": "height", "axes": "yx", "centre_px": "middle",
            "centre_plane": "middle", "background": 0.0,
        }  # fmt: skip
        found, expected = (
            psf_crlb(optics, [-310.0, 270.0], 0.0, shape=(15, 15))
            for optics in (Optics(**OIL, measured=calibration), Optics(**OIL))
        )
        for name in ("x_nm", "z_nm", "photons"):
            np.testing.assert_allclose(found[name], expected[name], rtol=0.02)

    def test_dipoles_under_a_scanned_beam_are_refused(self):
        confocal = Optics(modality={"kind": "confocal", "excitation_wavelength_nm": 488.0})
        with pytest.raises(OpticsError, match="dipoles"):
            psf_crlb(confocal, dipole=FixedDipole(polar_deg=60, azimuth_deg=0))
