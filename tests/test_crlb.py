"""Cramér-Rao bound: known limits of a Gaussian spot, and of the noise models."""

import json
import math

import numpy as np
import pytest
from reference_information import mortensen_bound
from scipy.special import ndtr
from small_worlds import snapshot
from typer.testing import CliRunner

import simscope as ss
from simscope import cli
from simscope.errors import EvaluationError
from simscope.evaluate import (
    bound_from_information,
    crlb,
    fisher_information,
    psf_crlb,
    rieger_stallinga_limit_nm,
)
from simscope.optics.dipoles import moments


def gaussian_spot(x_nm, y_nm, sigma_nm, pixel_nm, side):
    """Pixel-integrated Gaussian and its derivatives in x and y, each ``(side * side,)``."""
    edges = (np.arange(side + 1) - side / 2) * pixel_nm

    def axis(centre):
        t = (edges - centre) / sigma_nm
        density = np.exp(-0.5 * t**2) / (math.sqrt(2 * math.pi) * sigma_nm)
        return np.diff(ndtr(t)), -np.diff(density)

    (gx, dx), (gy, dy) = axis(x_nm), axis(y_nm)
    return np.outer(gy, gx).ravel(), np.outer(gy, dx).ravel(), np.outer(dy, gx).ravel()


def gaussian_bound(photons, background, sigma_nm, pixel_nm, side, read_e=0.0):
    """Bounds of x, y, photons, background for a Gaussian spot in the middle of the window."""
    spot, dx, dy = gaussian_spot(0.13 * pixel_nm, -0.2 * pixel_nm, sigma_nm, pixel_nm, side)
    derivatives = np.stack([photons * dx, photons * dy, spot, np.ones_like(spot)])
    information = fisher_information(derivatives, photons * spot + background + read_e**2)
    return bound_from_information(information)


def test_without_background_the_bound_is_sigma_over_root_photons():
    # Ober et al. 2004; pixels of a tenth of sigma lose 0.04 % of the information.
    spot, dx, _ = gaussian_spot(3.0, -2.0, 100.0, 10.0, 160)
    keep = spot > 1e-14
    information = fisher_information(400.0 * dx[None, keep], 400.0 * spot[keep])
    assert bound_from_information(information)[0] == pytest.approx(100 / math.sqrt(400), rel=1e-3)


@pytest.mark.parametrize("background", [0.01, 0.1, 1.0, 10.0])
def test_bound_of_a_gaussian_follows_mortensen(background):
    # Pixels of 0.4 sigma: Mortensen's sigma_a stands for pixelation to second order, within 1 %.
    bound = gaussian_bound(1000.0, background, 100.0, 40.0, 41)
    expected = mortensen_bound(1000.0, background, 100.0, 40.0)
    assert bound[0] == pytest.approx(expected, rel=0.01)
    assert bound[1] == pytest.approx(expected, rel=0.01)


def test_bound_follows_the_closed_form_of_rieger_and_stallinga():
    # Rieger and Stallinga 2014, ChemPhysChem 15:664, an interpolation good to about 2 %.
    photons, background, sigma, pixel = 2000.0, 10.0, 120.0, 100.0
    closed = rieger_stallinga_limit_nm(sigma, photons, background, pixel)
    assert gaussian_bound(photons, background, sigma, pixel, 21)[0] == pytest.approx(
        float(closed), rel=0.03
    )


def test_read_noise_acts_as_background_light_of_the_same_variance():
    with_read = gaussian_bound(500.0, 5.0, 120.0, 100.0, 15, read_e=2.0)
    with_light = gaussian_bound(500.0, 9.0, 120.0, 100.0, 15)
    assert with_read == pytest.approx(with_light, rel=1e-12)


def test_four_times_the_light_halves_the_bound_of_position():
    once = gaussian_bound(500.0, 5.0, 120.0, 100.0, 15)
    more = gaussian_bound(2000.0, 20.0, 120.0, 100.0, 15)
    assert more[:2] == pytest.approx(once[:2] / 2, rel=1e-12)


def test_knowing_less_never_lowers_the_bound():
    spot, dx, dy = gaussian_spot(20.0, 10.0, 120.0, 100.0, 15)
    full = np.stack([800 * dx, 800 * dy, spot, np.ones_like(spot)])
    variance = 800 * spot + 4
    one = bound_from_information(fisher_information(full[:1], variance))
    assert bound_from_information(fisher_information(full, variance))[0] >= one[0]


def test_maximum_likelihood_reaches_the_bound():
    # Gauss-Newton fit of 4,000 Poisson images; the standard error of a standard deviation is
    # 1 / sqrt(2 * 4000) = 1.1 %, so 4 % is 3.5 of them (false alarm 5e-4).
    photons, background, sigma, pixel, side = 3000.0, 5.0, 130.0, 100.0, 13
    spot, _, _ = gaussian_spot(0.0, 0.0, sigma, pixel, side)
    images = np.random.default_rng(3).poisson(photons * spot + background, (4000, side**2))
    estimates = np.tile([0.0, 0.0, photons, background], (4000, 1))
    for _ in range(4):
        for image, estimate in zip(images, estimates, strict=True):
            spot, dx, dy = gaussian_spot(estimate[0], estimate[1], sigma, pixel, side)
            mean = estimate[2] * spot + estimate[3]
            derivatives = np.stack([estimate[2] * dx, estimate[2] * dy, spot, np.ones_like(spot)])
            information = fisher_information(derivatives, mean)
            estimate += np.linalg.solve(information, derivatives @ ((image - mean) / mean))
    spot, dx, dy = gaussian_spot(0.0, 0.0, sigma, pixel, side)
    truth = np.stack([photons * dx, photons * dy, spot, np.ones_like(spot)])
    bound = bound_from_information(fisher_information(truth, photons * spot + background))
    assert estimates[:, :2].std(axis=0) == pytest.approx(bound[:2], rel=0.04)


def test_a_pixel_that_cannot_vary_is_refused():
    with pytest.raises(EvaluationError, match="not above 0"):
        fisher_information(np.ones((1, 3)), np.array([1.0, 0.0, 1.0]))


def test_parameters_that_act_alike_are_refused():
    with pytest.raises(EvaluationError, match="alike"):
        bound_from_information(fisher_information(np.ones((2, 5)), np.ones(5)))
    with pytest.raises(EvaluationError, match="unchanged"):
        bound_from_information(fisher_information(np.zeros((1, 5)), np.ones(5)))


def small(name, **values):
    recipe = ss.load_recipe(name)
    values |= {"rendering__window_px": 15, "rendering__accept_energy_loss": True}
    for path, value in values.items():
        recipe = recipe.replace(path.replace("__", "."), value)
    return recipe


def emitters(photons, z_nm=0.0):
    photons = np.atleast_1d(np.asarray(photons, float))
    flat = np.full(len(photons), 1.0)
    return {"x_nm": 1234 * flat, "y_nm": 987 * flat, "z_nm": z_nm * flat, "photons": photons}


@pytest.mark.filterwarnings("ignore::simscope.errors.SimscopeWarning")
class TestRecipes:
    """The bound from a recipe's own optics and camera."""

    def test_a_plane_leaves_z_out_and_gives_nanometres_for_thousands_of_photons(self):
        bound = crlb(small("smlm-2d-dense"), emitters([500, 2000, 8000]))
        assert np.isnan(bound["z_nm"]).all()
        # sigma near 115 nm over the root of 1,800 electrons is 2.7 nm; background adds to it.
        assert 2.7 < bound["x_nm"][1] < 6
        assert (np.diff(bound["x_nm"]) < 0).all()

    def test_relative_bound_of_brightness_stays_above_shot_noise(self):
        bound = crlb(small("smlm-2d-dense"), emitters([1000, 10000]))
        electrons = 0.9 * np.array([1000, 10000])
        assert (bound["photons"] / [1000, 10000] > 1 / np.sqrt(electrons)).all()

    def test_multiplication_noise_costs_root_two_where_light_is_plenty(self):
        bright = emitters(5e4)
        scmos = crlb(small("smlm-2d-dense"), bright, background_photons=5.0)
        emccd = crlb(small("smlm-2d-dense-emccd"), bright, background_photons=5.0)
        # Read noise of 1.3 e beside 4.5 e of background leaves the ratio within 5 % of root 2.
        assert emccd["x_nm"][0] / scmos["x_nm"][0] == pytest.approx(math.sqrt(2), rel=0.05)

    def test_bound_is_that_of_derivatives_by_finite_differences(self):
        recipe = small("smlm-2d-dense").replace("structure.z_nm", {"uniform": [0, 400]})
        table = ss.Simulator(recipe, 0).table
        place, step = np.array([1234.0, 987.0, 200.0]), np.array([1.0, 1.0, 2.0])

        def image(shift):
            # The frame starts at the first pixel of the window that derivatives() looks at.
            x, y, z = place + shift - [500, 200, 0]
            return 3000 * table.render(x, y, z, 1.0, [0, 1], (15, 15))[0].astype(float)

        slopes = [(image(s) - image(-s)) / (2 * s.sum()) for s in np.diag(step)]
        mean = image(0)
        derivatives = np.stack([*slopes, mean / 3000, np.ones_like(mean)]).reshape(5, -1) * 0.9
        electrons = 0.9 * (mean + 10) + 0.5 * 0.02
        information = fisher_information(derivatives, electrons.ravel() + 1.3**2)
        bound = crlb(recipe, emitters(3000, 200.0))[0]
        # float32 images over steps of a nanometre: derivatives to about 1e-3.
        assert list(bound) == pytest.approx(bound_from_information(information), rel=0.01)

    def test_a_drawn_background_has_to_be_given(self):
        recipe = small("smlm-2d-dense").replace(
            "background.photons_per_pixel", {"uniform": [5, 30]}
        )
        with pytest.raises(EvaluationError, match="give background_photons"):
            crlb(recipe, emitters(1000))
        dark, light = crlb(recipe, emitters([1000, 1000]), background_photons=[5, 30])["x_nm"]
        assert dark < light
        with pytest.raises(EvaluationError, match="below 0"):
            crlb(recipe, emitters(1000), background_photons=-1.0)

    def test_experiments_without_one_psf_or_camera_are_refused(self):
        with pytest.raises(EvaluationError, match="no one PSF"):
            crlb("psf-zernike", emitters(1000))
        recipe = small("smlm-2d-dense").replace("camera.qe", {"uniform": [0.5, 0.9]})
        with pytest.raises(EvaluationError, match=r"camera\.qe"):
            crlb(recipe, emitters(1000))
        with pytest.raises(EvaluationError, match="dark emitters"):
            crlb(small("smlm-2d-dense"), emitters(0))

    def test_numbers_drawn_per_dataset_need_the_simulator_that_drew_them(self):
        recipe = small("smlm-2d-dense", optics__na={"uniform": [1.2, 1.45]})
        with pytest.raises(EvaluationError, match=r"optics\.na.*pass Simulator"):
            crlb(recipe, emitters(2000))
        simulator = ss.Simulator(recipe, 5)
        bound, fixed = (crlb(s, emitters(2000))["x_nm"] for s in (simulator, simulator.resolved))
        np.testing.assert_array_equal(bound, fixed)

    def test_half_a_spot_on_the_frame_has_the_bound_of_half_the_pixels(self):
        recipe = small("smlm-2d-dense")
        # From an emitter in the first column of pixels the frame holds window columns 7 to 14.
        place = {"x_nm": [0.0], "y_nm": [987.0], "z_nm": [0.0], "photons": [3000.0]}
        table = ss.Simulator(recipe, 0).table
        psf, dx, dy, _ = (part[0] for part in table.derivatives([0.0], [987.0], [0.0]))
        slopes = np.stack([3000 * dx, 3000 * dy, psf, np.ones_like(psf)])[:, :, 7:].reshape(4, -1)
        electrons = 0.9 * (3000 * psf[:, 7:] + 10) + 0.5 * 0.02 + 1.3**2
        expected = bound_from_information(fisher_information(0.9 * slopes, electrons.ravel()))
        bound = crlb(recipe, place)[0]
        found = [bound[name] for name in ("x_nm", "y_nm", "photons", "background")]
        assert found == pytest.approx(expected, rel=1e-6)
        middle = crlb(recipe, {**place, "x_nm": [1000.0]})[0]
        assert bound["y_nm"] > 1.3 * middle["y_nm"]

    def test_an_emitter_without_light_on_the_frame_has_no_bound(self):
        x_nm = np.array([-5000.0, 1234.0, 7050.0, 1e6])  # the third lights one pixel
        table = {"x_nm": x_nm, "y_nm": x_nm, "z_nm": 0 * x_nm, "photons": 0 * x_nm + 2000}
        bound = crlb(small("smlm-2d-dense"), table)
        assert np.isnan(bound["x_nm"]).tolist() == [True, False, True, True]
        assert np.isnan(bound["photons"]).tolist() == [True, False, True, True]

    def test_table_and_bare_optics_agree(self):
        recipe = small("smlm-2d-dense", structure__z_nm={"uniform": [0, 400]})
        recipe = recipe.replace("rendering.window_px", 27)
        z_nm, middle = np.array([60.0, 250.0]), 31.5 * recipe.pixel_nm
        place = {"x_nm": 0 * z_nm + middle + 20, "y_nm": 0 * z_nm + middle, "z_nm": z_nm}
        found = crlb(recipe, {**place, "photons": 0 * z_nm + 3000}, background_photons=10.0)
        expected = psf_crlb(
            recipe.optics, z_nm, x_nm=20.0, photons=3000.0, camera=recipe.camera, shape=(27, 27),
            exposure_ms=recipe.acquisition.exposure_ms, pixel_nm=recipe.pixel_nm,
        )  # fmt: skip
        # the table's error is 1e-3 of the peak, and it is tapered at the window's edge
        for name in ("x_nm", "y_nm", "z_nm", "photons"):
            np.testing.assert_allclose(found[name], expected[name], rtol=0.02)

    def test_oriented_molecules_change_with_height_as_their_light_is_collected(self):
        recipe = small(
            "smlm-2d-dense", structure__z_nm={"uniform": [0, 60]}, dipoles={"kind": "fixed"},
            optics__n_sample=1.33,
        )  # fmt: skip
        recipe = recipe.replace("rendering.window_px", 11)
        table, z_nm, step = ss.Simulator(recipe, 0).table, 40.0, 0.5
        moment = moments(math.radians(70), math.radians(30))

        def part(height, number=0):
            weights = table.orientation_weights(moment, [height])
            return table.derivatives([1234.0], [987.0], [height], weights=weights)[number][0]

        rise = (part(z_nm + step) - part(z_nm - step)) / (2 * step)
        slopes = [part(z_nm, 1), part(z_nm, 2), rise]
        effects = np.array([*(3000 * s for s in slopes), part(z_nm), np.ones((11, 11))])
        electrons = 0.9 * (3000 * part(z_nm) + 10) + 0.5 * 0.02 + 1.3**2
        expected = bound_from_information(
            fisher_information(0.9 * effects.reshape(5, -1), electrons.ravel())
        )
        angles = {"polar_deg": [70.0], "azimuth_deg": [30.0], "half_angle_deg": [0.0]}
        bound = crlb(recipe, emitters(3000, z_nm) | angles)[0]
        assert [*bound] == pytest.approx(expected, rel=2e-3)
        with pytest.raises(EvaluationError, match="polar_deg"):
            crlb(recipe, emitters(3000, z_nm))


def command(folder, *words):
    (folder / "small.yaml").write_text(snapshot().to_yaml(), "utf8")
    line = ["psf", folder / "small.yaml", "--crlb", "--out", folder / "crlb.png", *words]
    return CliRunner().invoke(cli.app, [str(word) for word in line])


class TestCommand:
    """``simscope psf --crlb``."""

    def test_draws_and_prints_the_bounds_against_height(self, tmp_path):
        pytest.importorskip("matplotlib", reason="pictures need simscope[view]")
        result = command(tmp_path, "--focus-nm", "-400", "400", "--photons", "800", "--json")
        assert result.exit_code == 0, result.output
        said = json.loads(result.stdout)
        assert (tmp_path / "crlb.png").read_bytes().startswith(b"\x89PNG")
        recipe = snapshot()
        expected = psf_crlb(
            recipe.optics, -200.0, -400.0,  # the lowest of the recipe's heights stands still
            photons=800.0, camera=recipe.camera, exposure_ms=recipe.acquisition.exposure_ms,
            pixel_nm=recipe.pixel_nm, shape=recipe.acquisition.shape,
        )  # fmt: skip
        assert len(said["x_nm"]) == len(said["place_nm"]) == 41
        assert said["x_nm"][0] == pytest.approx(expected["x_nm"][0], rel=1e-3)
        assert min(said["x_nm"]) > said["quantum_x_nm"][20]

    def test_prints_a_table_for_people(self, tmp_path):
        pytest.importorskip("matplotlib", reason="pictures need simscope[view]")
        result = command(tmp_path)
        assert result.exit_code == 0, result.output
        assert "5,000 photons, background 10 per" in result.stdout
        assert "sigma_z" in result.stdout

    def test_says_how_the_dipole_moves(self):
        pytest.importorskip("matplotlib", reason="pictures need simscope[view]")
        from simscope.show import recipe_bound_curve

        fixed = {"kind": "fixed", "polar_deg": 90.0, "azimuth_deg": 0.0}
        turned, drawn = (
            recipe_bound_curve(snapshot().replace("dipoles", dipoles))
            for dipoles in (fixed, {"kind": "fixed"})
        )
        assert "fixed dipole" in turned.note
        assert "freely rotating dipole" in drawn.note
        assert turned.bounds["x_nm"][20] != pytest.approx(turned.bounds["y_nm"][20], rel=0.02)
        assert drawn.bounds["x_nm"][20] == pytest.approx(drawn.bounds["y_nm"][20], rel=1e-4)

    def test_photons_below_zero_are_refused(self, tmp_path):
        pytest.importorskip("matplotlib", reason="pictures need simscope[view]")
        result = command(tmp_path, "--photons", "-5")
        assert result.exit_code == 2
        assert "photons=-5 is no light" in result.stderr
        assert not (tmp_path / "crlb.png").exists()
