"""Gaussian spots: shares of pixels against scipy's error function, recipes, labels and bounds."""

from __future__ import annotations

import numpy as np
import pytest
from gpu_stand_in import under_simulator
from numba import njit
from scipy.special import erf

import simscope as ss
from simscope.errors import OpticsError, RecipeError
from simscope.kernels.gaussian import LEFT_OUT, erf64, window_of
from simscope.optics.gaussian import GaussianSpots, SpotWidths
from simscope.optics.pixels import Window
from simscope.optics.slopes import image_slopes

WIDTHS = SpotWidths(sigma_nm=130.0, depth_nm=400.0, focus_x_nm=150.0, focus_y_nm=-150.0)
SPOTS = GaussianSpots(WIDTHS, 100.0, -500.0, 500.0, 0.0)


def slow_spot(shape, x, y, sigma_x, sigma_y):
    """Light in every pixel of a frame, straight from the integral (Smith et al. 2010, eq. 4)."""
    along = [
        0.5 * np.diff(erf((np.arange(n + 1) * 100.0 - place) / (np.sqrt(2) * sigma)))
        for n, place, sigma in ((shape[0], y, sigma_y), (shape[1], x, sigma_x))
    ]
    return np.multiply.outer(*along)


def slow_sigma(z, focus):
    return 130.0 * np.sqrt(1 + ((z - focus) / 400.0) ** 2)


@njit
def error_functions(x):
    out = np.empty_like(x)
    for i in range(x.size):
        out[i] = erf64(x[i])
    return out


def test_our_error_function_is_scipys():
    # red if a coefficient is mistyped; both round a few times, 1.1e-16 each
    x = np.concatenate((np.linspace(-9, 9, 200_001), [0.0, 1.0, -1.0, 1e-300, 50.0, -1e300]))
    assert np.abs(error_functions(x) - erf(x)).max() < 4e-16


@pytest.mark.parametrize("z", [-500.0, -150.0, 20.0, 480.0])
def test_a_spot_is_the_integral_of_its_gaussian_over_pixels(z):
    # red if the widths of x and y, or their foci, are exchanged
    x, y = 2130.0, 1890.0
    image = SPOTS.render([x], [y], [z], [1000.0], [0, 1], (40, 45))[0]
    expected = 1000 * slow_spot((40, 45), x, y, slow_sigma(z, 150.0), slow_sigma(z, -150.0))
    # float32: two shares and two sums, 6e-8 each; beyond the window pixels hold 1e-8 of the light
    assert np.abs(image - expected).max() < 2.4e-7 * expected.max() + 1e-8 * 1000
    assert abs(image.sum(dtype=float) - expected.sum()) < LEFT_OUT * 1000


def test_the_window_holds_all_but_the_share_stated():
    for sigma in (0.05, 0.4, 1.0, 3.3, 17.0):
        half = window_of(sigma, 0.1 * sigma) // 2  # at least so many pixels on either side
        outside = 1 - erf(half / (np.sqrt(2) * sigma))
        assert 2 * outside < LEFT_OUT


def a_scene(emitters=40):
    rng = np.random.default_rng(3)
    x, y = rng.uniform(-600, 5000, emitters), rng.uniform(-600, 4300, emitters)
    z, light = rng.uniform(-500, 500, emitters), rng.uniform(1, 9, emitters)
    return x, y, z, light, np.array([0, 15, 15, emitters])


def test_many_spots_on_and_beyond_the_frames_add_up():
    x, y, z, light, offsets = a_scene()
    images = SPOTS.render(x, y, z, light, offsets, (37, 44))
    expected = np.zeros((3, 37, 44))
    for e in range(40):
        spot = slow_spot((37, 44), x[e], y[e], slow_sigma(z[e], 150.0), slow_sigma(z[e], -150.0))
        expected[np.searchsorted(offsets, e, side="right") - 1] += light[e] * spot
    # float32 sums of values up to 3, and 4e-7 of each spot's light cut off far out
    np.testing.assert_allclose(images, expected, atol=2e-6)


def test_spots_depend_neither_on_threads_nor_on_bands():
    x, y, z, light, offsets = a_scene(200)
    offsets = np.array([0, 200])
    images = [
        SPOTS.render(x, y, z, light, offsets, (300, 44), threads=threads) for threads in (1, 2, 5)
    ]
    assert (images[0] == images[1]).all()
    assert (images[0] == images[2]).all()


def test_spots_have_the_same_bits_on_a_gpu():
    code = """
import numpy as np
from simscope.device import CPU, device
from test_gaussian import SPOTS
from simscope.optics.gaussian import GaussianSpots, SpotWidths
from simscope.optics.pixels import Window
from simscope.optics.slopes import image_slopes
spots = GaussianSpots(SpotWidths(60.0, 400.0, 150.0, -150.0, 30.0), 100.0, -500.0, 500.0, 0.0)
rng = np.random.default_rng(3)
x, y = rng.uniform(-300, 3800, 12), rng.uniform(-300, 1500, 12)
scene = x, y, rng.uniform(-500, 500, 12), rng.uniform(1, 9, 12), np.array([0, 5, 5, 12])
begin = rng.uniform(0, 1, (3, 11, 35)).astype(np.float32)
here, there = (
    spots.render(*scene, (11, 35), begin.copy(), device=where) for where in (CPU, device("cuda"))
)
print((here == there).all(), (here != begin).mean() > 0.2)
"""
    assert under_simulator(code).split() == ["True", "True"]


def differences(function, step):
    """Central differences of fourth order."""
    near, far = function(step) - function(-step), function(2 * step) - function(-2 * step)
    return (8 * near - far) / (12 * step)


def test_slopes_are_those_of_the_image():
    optics = ss.Optics(model="gaussian", n_sample=1.5, gaussian={"astigmatism_nm": 300})
    x, y, z = 30.0, -20.0, 250.0

    def image(dx=0.0, dy=0.0, dz=0.0):
        return ss.psf(optics, [z + dz], shape=(11, 13), x_nm=x + dx, y_nm=y + dy)[0]

    model = image_slopes(optics, Window((11, 13), 100.0), z, 0.0, x, y)[0]
    np.testing.assert_allclose(model[0], image(), atol=1e-15)
    for slope, name in zip(model[1:], ("dx", "dy", "dz"), strict=True):
        by_steps = differences(lambda h, name=name: image(**{name: h}), 0.5)
        np.testing.assert_allclose(slope, by_steps, atol=1e-9 * np.abs(by_steps).max() + 1e-13)


def test_derivatives_of_rendered_spots_are_their_slopes():
    found = SPOTS.derivatives([2130.0], [1890.0], [77.0], 9)

    def image(x=2130.0, y=1890.0, z=77.0):
        whole = slow_spot((40, 45), x, y, slow_sigma(z, 150.0), slow_sigma(z, -150.0))
        return whole[14:23, 17:26]

    np.testing.assert_allclose(found[0][0], image(), atol=1e-15)
    for k, (name, at) in enumerate((("x", 2130.0), ("y", 1890.0), ("z", 77.0))):
        by_steps = differences(lambda h, name=name, at=at: image(**{name: at + h}), 2.0)
        np.testing.assert_allclose(found[k + 1][0], by_steps, atol=1e-13)


def test_widths_follow_from_the_objective_where_none_are_given():
    optics = ss.Optics(model="gaussian", na=1.2, wavelength_nm=640, n_sample=1.33)
    widths = SpotWidths.of(optics)
    assert widths.sigma_nm == pytest.approx(0.21 * 640 / 1.2)
    assert widths.depth_nm == pytest.approx(4 * np.pi * 1.33 * widths.sigma_nm**2 / 640)
    assert widths.sigmas_nm(np.array([widths.depth_nm]))[0] == pytest.approx(
        np.sqrt(2) * widths.sigma_nm
    )


def test_the_default_width_is_that_of_a_paraxial_airy_disc():
    # Zhang et al. 2007: 0.21 wavelength / NA is the least-squares Gaussian; peaks agree to 15 %
    low = {"na": 0.3, "n_sample": 1.0, "n_immersion": 1.0, "n_coverslip": 1.0}
    spot, exact = (
        ss.psf(ss.Optics(model=model, **low), shape=(31, 31))[0]
        for model in ("gaussian", "gibson_lanni")
    )
    assert spot.max() == pytest.approx(exact.max(), rel=0.15)
    middle = np.abs(np.arange(31) - 15) < 6
    ratio = spot[15, middle] / exact[15, middle]
    assert np.abs(ratio - 1).max() < 0.25


@pytest.fixture(scope="module")
def recipe():
    return (
        ss.load_recipe("smlm-2d-dense")
        .replace("optics.model", "gaussian")
        .replace("optics.gaussian", {"sigma_nm": {"uniform": [110, 150]}, "astigmatism_nm": 500})
        .replace("structure.z_nm", {"uniform": [0, 300]})
        .replace("acquisition.shape", [32, 40])
    )


def test_a_recipe_renders_spots_of_its_drawn_width_and_labels_it(recipe):
    simulator = ss.Simulator(recipe, 3)
    batch = simulator.batch(0, 3, expected=True)
    table = simulator.table
    assert isinstance(table, GaussianSpots)
    assert simulator.report["rendering"] == "gaussian"
    assert 110 <= table.widths.sigma_nm <= 150
    first = batch.emitters[: batch.emitter_offsets[1]]
    light = np.zeros((32, 40))
    for row in first:
        x, y, z = (float(row[name]) for name in ("x_nm", "y_nm", "z_nm"))
        sigma_x, sigma_y = (float(s[0]) for s in table.widths.sigmas_nm(np.array([z])))
        light += row["photons"] * slow_spot((32, 40), x, y, sigma_x, sigma_y)
    background = np.asarray(batch.expected_photons[0]).min()
    np.testing.assert_allclose(
        batch.expected_photons[0].reshape(32, 40), light + 10.0, atol=2e-6 * light.max() + 5e-3
    )
    assert background >= 10.0


def test_bounds_of_spots_are_those_of_bare_optics(recipe):
    plain = recipe.replace("optics.gaussian.sigma_nm", 130.0)
    emitters = np.zeros(1, ss.Simulator(plain, 1).batch(0, 1).emitters.dtype)
    emitters["x_nm"], emitters["y_nm"], emitters["z_nm"] = 2050.0, 1650.0, 120.0
    emitters["photons"] = 1500.0
    bound = ss.evaluate.crlb(plain, emitters)[0]
    assert 2 < bound["x_nm"] < 15
    assert bound["z_nm"] > bound["x_nm"]


def test_what_a_spot_cannot_heed_is_refused():
    with pytest.raises(RecipeError, match="mask given beside model 'gaussian'"):
        ss.Optics(model="gaussian", mask={"kind": "tetrapod"})
    with pytest.raises(RecipeError, match="gaussian given beside model 'vectorial'"):
        ss.Optics(gaussian={"sigma_nm": 100})
    with pytest.raises(RecipeError, match="knows no dipole orientations"):
        ss.Simulator(
            ss.load_recipe("smlm-2d-dense")
            .replace("optics.model", "gaussian")
            .replace("dipoles", {"kind": "fixed"}),
            1,
        )
    with pytest.raises(OpticsError, match="leaves the range"):
        SPOTS.render([0.0], [0.0], [900.0], [1.0], [0, 1], (5, 5))
