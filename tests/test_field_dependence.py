"""Aberrations over the field: conventions, files, tables over field nodes, exact rendering."""

from __future__ import annotations

import warnings

import numba
import numpy as np
import pytest
import scipy.io
from hypothesis import given, settings
from hypothesis import strategies as st

from simscope import Simulator, load_recipe
from simscope.errors import OpticsError, RecipeError, SimscopeWarning
from simscope.optics import build_table, field_coefficients, optics_at, osa_to_nm, psf
from simscope.optics.field_dependence import FD_DEEPLOC_MODES, frame_to_field, from_fd_deeploc
from simscope.optics.table import NodeAxis, taper
from simscope.optics.table_field import spline_through
from simscope.recipe import MapsField, Optics, PolynomialField, Recipe, ZernikeWavefront
from simscope.sample import Molecules, Shining

WATER = Optics(na=1.1, wavelength_nm=600, n_sample=1.33, n_immersion=1.33, n_coverslip=1.33)
TILT_X, TILT_Y, ASTIGMATISM, COMA = 2, 1, 5, 8
SCENE = {
    "focus_nm": 0.0, "z_min_nm": 0.0, "z_max_nm": 0.0, "pixel_nm": 100.0, "window_px": 15,
    "cache": None, "accept_energy_loss": True, "frame_shape": (40, 60), "accuracy": 2e-3,
}  # fmt: skip

slow_without_jit = pytest.mark.skipif(
    numba.config.DISABLE_JIT, reason="renders many emitters, minutes as plain Python"
)


def polynomial(coefficients_nm, half_width_nm=3000.0, **more) -> PolynomialField:
    return PolynomialField(coefficients_nm=coefficients_nm, half_width_nm=half_width_nm, **more)


def with_field(dependence, optics=WATER) -> Optics:
    return optics.model_copy(update={"field_dependence": dependence})


def quiet_table(optics, **changes):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SimscopeWarning)
        return build_table(optics, **(SCENE | changes))


def centroid(image):
    """Mean (x, y) in pixels from the outer corner of the first."""
    rows, columns = (np.arange(n) + 0.5 for n in image.shape)
    total = image.sum()
    return (image.sum(axis=0) @ columns) / total, (image.sum(axis=1) @ rows) / total


def test_coefficients_grow_rightwards_with_x_and_downwards_with_y():
    field = polynomial({ASTIGMATISM: [[1, 0, 40.0]], COMA: [[0, 1, 30.0], [0, 0, 5.0]]})
    at = field_coefficients(field, 600.0).at([-3000.0, 0.0, 1500.0], [0.0, 3000.0, -3000.0])
    np.testing.assert_allclose(at, [[-40.0, 5.0], [0.0, 35.0], [20.0, -25.0]])


def test_coefficients_stay_beyond_the_field_and_are_bounded():
    coefficients = field_coefficients(polynomial({5: [[2, 1, 40.0], [0, 1, -7.0]]}), 600.0)
    np.testing.assert_allclose(coefficients.at(9000.0, 9000.0), coefficients.at(3000.0, 3000.0))
    assert (coefficients.limits_nm() == [47.0]).all()


def test_optics_at_a_place_add_the_fields_wavefront_to_their_own():
    own = ZernikeWavefront(coefficients_nm={5: 10.0, 12: 3.0})
    plain = WATER.model_copy(update={"wavefront": own})
    here = optics_at(with_field(polynomial({5: [[1, 0, 40.0]]}), plain), 1500.0, 0.0)
    assert here.wavefront.coefficients_nm == {5: 30.0, 12: 3.0}
    assert here.field_dependence is None
    assert optics_at(WATER, 5.0, 5.0) is WATER


def test_a_psf_is_that_of_its_place_in_the_field():
    optics = with_field(polynomial({TILT_X: [[1, 0, 50.0]]}))
    middle, right = (psf(optics, field_nm=place)[0] for place in ((0.0, 0.0), (3000.0, 0.0)))
    np.testing.assert_array_equal(middle, psf(WATER)[0])
    # a tilt of c nm RMS is a phase 2 c k rho cos(theta): it moves the image by 2 c / NA
    moved = psf(WATER, x_nm=2 * 50.0 / 1.1)[0]
    np.testing.assert_allclose(right, moved, atol=2e-6 * moved.max())


@slow_without_jit
def test_rendered_emitters_are_moved_by_the_tilt_of_their_place():
    # red if x and y, left and right, or node order and place are confused
    field = polynomial({TILT_X: [[1, 0, 20.0]], TILT_Y: [[0, 1, -20.0]]})
    table = quiet_table(with_field(field), window_px=31)
    x, y = np.array([1750.0, 4250.0, 3000.0]), np.array([2000.0, 2000.0, 2350.0])
    frames = table.render(x, y, 0 * x, np.ones(3), np.arange(4), (40, 60))
    for k, frame in enumerate(frames):
        u, v = (x[k] - 3000.0) / 3000.0, (y[k] - 2000.0) / 3000.0
        shift = 2 / 1.1 * np.array([20.0 * u, -20.0 * v])
        # the table's error, and the taper's of tails cut off unevenly: a nanometre
        np.testing.assert_allclose(
            100.0 * np.array(centroid(frame)), np.array([x[k], y[k]]) + shift, atol=1.0
        )


@slow_without_jit
def test_tables_over_the_field_agree_with_exact_images_at_random_places():
    field = polynomial(
        {ASTIGMATISM: [[1, 0, 40.0], [2, 0, 12.0]], COMA: [[1, 1, 25.0], [0, 1, 20.0]]}
    )
    optics = with_field(field)
    table = quiet_table(optics, z_max_nm=400.0, focus_nm=200.0)
    assert table.error <= SCENE["accuracy"]
    rng = np.random.default_rng(4)
    x, y, z = rng.uniform(0, 6000, 8), rng.uniform(0, 4000, 8), rng.uniform(0, 400, 8)
    frames = table.render(x, y, z, np.ones(8), np.arange(9), (40, 60))
    for k in range(8):
        shift = np.array([x[k], y[k]]) % 100.0 - 50.0
        place = (x[k] - 3000.0, y[k] - 2000.0)
        exact = psf(optics, z[k], 200.0, (15, 15), x_nm=shift[0], y_nm=shift[1], field_nm=place)[0]
        pixel = np.arange(15) - 7
        exact *= taper(pixel - shift[1] / 100, 15)[:, None] * taper(pixel - shift[0] / 100, 15)
        column, row = int(x[k] // 100), int(y[k] // 100)
        canvas = np.zeros((40 + 14, 60 + 14))
        canvas[row : row + 15, column : column + 15] = exact
        worst = np.abs(frames[k] - canvas[7:-7, 7:-7]).max() / table.peak
        # the table's own bound at 48 other points, and half as much again
        assert worst < 1.5 * SCENE["accuracy"]


def test_frames_without_an_emitter_stay_as_they_are():
    table = quiet_table(with_field(polynomial({COMA: [[1, 0, 30.0]]})))
    nobody, frames = np.zeros(0), np.ones((2, 40, 60), np.float32)
    table.render(nobody, nobody, nobody, nobody, [0, 0, 0], (40, 60), frames)
    assert (frames == 1.0).all()


def test_a_field_that_does_not_change_is_one_node_and_the_plain_table():
    field = with_field(polynomial({ASTIGMATISM: [[0, 0, 20.0]]}))
    table = quiet_table(field)
    plain = quiet_table(optics_at(field, 0.0, 0.0))
    assert [axis.count for axis in table.nodes] == [1, 1]
    assert (table.coefficients == plain.coefficients).all()


@slow_without_jit
def test_emitters_beyond_the_frame_get_the_aberrations_of_its_edge():
    table = quiet_table(with_field(polynomial({TILT_X: [[1, 0, 20.0]]})))
    along_y, along_x = table.nodes
    assert along_y.count == 1 < along_x.count
    inside, beyond = (table.derivatives(x, 2050.0, 0.0)[0] for x in (5950.0, 6450.0))
    edge = table.derivatives(5999.999, 2050.0, 0.0)[0]
    np.testing.assert_allclose(
        beyond, table.derivatives(6050.0, 2050.0, 0.0)[0], atol=1e-9 * table.peak
    )
    assert np.abs(edge - inside).max() > 1e-4 * table.peak


@slow_without_jit
def test_derivatives_follow_the_image_through_the_field():
    table = quiet_table(with_field(polynomial({ASTIGMATISM: [[1, 1, 80.0]]})))
    _, by_x, by_y, _ = table.derivatives(4433.0, 2820.0, 0.0)
    for slope, step in ((by_x, (1.0, 0.0)), (by_y, (0.0, 1.0))):
        ahead, behind = (
            table.derivatives(4433.0 + s * step[0], 2820.0 + s * step[1], 0.0)[0] for s in (1, -1)
        )
        # central differences over 1 nm are off by (1 nm)^2/6 times the third derivative
        np.testing.assert_allclose(slope, (ahead - behind) / 2, atol=1e-3 * np.abs(slope).max())


@slow_without_jit
def test_exact_rendering_takes_the_field_too(tmp_path):
    recipe = field_recipe().replace("acquisition.focus_nm", {"uniform": [-100, 100]})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SimscopeWarning)
        simulator = Simulator(recipe, 3, cache=tmp_path)
    assert simulator.report["rendering"] == "exact"
    run = simulator._begin(np.array([0]))
    zero = np.zeros(1, np.int64)
    place = np.array([[1750.0], [650.0], [0.0]], np.float32)
    run.molecules = Molecules(zero, zero, *place)
    image = simulator._renderer.render(run, Shining(zero, zero, np.ones(1), np.array([0, 1])), 0, 1)
    focus = run.drawn["acquisition.focus_nm"][0]
    optics, size = simulator.resolved.optics, 100.0 * 24
    # the middle of the frame lies 500 nm to the right in the field
    field_nm = (1750.0 - size / 2 + 500.0, 650.0 - size / 2)
    exact = psf(optics, 0.0, focus, (49, 49), field_nm=field_nm)[0]
    # float32 patches, and the rendering accuracy of 1e-3
    np.testing.assert_allclose(
        image[0], exact[24 - 6 : 48 - 6, 24 - 17 : 48 - 17], atol=2e-3 * exact.max()
    )


def field_recipe() -> Recipe:
    recipe = load_recipe("smlm-2d-dense")
    return recipe.replace_all({
        "optics.field_dependence": {
            "kind": "polynomial", "half_width_nm": 2000.0, "frame_centre_nm": [500.0, 0.0],
            "coefficients_nm": {"5": [[1, 0, 30.0]], "8": [[0, 1, 20.0]]},
        },
        "acquisition.shape": [24, 24], "camera.pixel_pitch_um": 10.0,
        "optics.magnification": 100.0, "rendering.max_window_px": 101,
    })  # fmt: skip


def test_recipes_with_fields_survive_yaml_and_refuse_nonsense():
    recipe = field_recipe()
    assert Recipe.from_yaml(recipe.to_yaml()) == recipe
    for path, value, words in [
        ("coefficients_nm", {"500": [[0, 0, 1.0]]}, "OSA index 500"),
        ("coefficients_nm", {"5": [[99, 0, 1.0]]}, "lower degree"),
        ("half_width_nm", 0.0, "half_width_nm"),
    ]:
        with pytest.raises(RecipeError, match=words):
            recipe.replace(f"optics.field_dependence.{path}", value)


@slow_without_jit
def test_fields_need_a_frame_and_free_dipoles():
    optics = with_field(polynomial({5: [[1, 0, 30.0]]}))
    with pytest.raises(OpticsError, match="frame_shape"):
        quiet_table(optics, frame_shape=None)
    with pytest.raises(OpticsError, match="oriented dipoles and field dependence"):
        quiet_table(optics, dipoles=True)
    with pytest.raises(OpticsError, match="changes less over the frame"):
        quiet_table(with_field(polynomial({COMA: [[1, 0, 60.0]]}, half_width_nm=100.0)))


# maps


def saved(tmp_path, values, name="maps.npy"):
    np.save(tmp_path / name, values)
    return str(tmp_path / name)


def test_maps_give_the_polynomial_they_were_made_from(tmp_path):
    v, u = np.meshgrid((np.arange(31) - 15) / 15, (np.arange(41) - 20) / 15, indexing="ij")
    path = saved(tmp_path, np.array([30.0 * u, 20.0 * v * u + 5.0]))
    maps = MapsField(path=path, modes=(5, 8), map_pixel_nm=200.0)
    polynomials = polynomial({5: [[1, 0, 30.0]], 8: [[1, 1, 20.0], [0, 0, 5.0]]})
    place = np.array([-2000.0, 130.0, 2500.0]), np.array([1700.0, -2900.0, 10.0])
    both = [field_coefficients(f, 600.0).at(*place) for f in (maps, polynomials)]
    # splines through linear functions are exact but for the mirrored ends, felt 0.27^k map pixels
    # away
    np.testing.assert_allclose(*both, atol=0.02)
    beyond = field_coefficients(maps, 600.0).at([9e5, 4000.0], [0.0, 0.0])
    assert (beyond[0] == beyond[1]).all()
    assert (np.abs(both[0]) <= field_coefficients(maps, 600.0).limits_nm()).all()


def test_changed_map_files_are_read_again(tmp_path):
    field = MapsField(path=str(tmp_path / "maps.npy"), modes=(5,), map_pixel_nm=200.0)
    values = []
    for level in (1.0, 2.5):
        saved(tmp_path, np.full((1, 4, 4 + int(level)), level))
        values.append(field_coefficients(field, 600.0).at(0.0, 0.0)[0, 0])
    np.testing.assert_allclose(values, [1.0, 2.5])


def their_image(aber_map_waves, points=31, pixel_waves=0.6, pupil=160):
    """Scalar image in FD-DeepLoc's conventions: pupil x' along rows, transform exp(+ik r).

    Straight from their ``FreeDipolePSF_torch``: orthonormal modes in waves, phase exp(2 pi i W).
    """
    line = (np.arange(pupil) + 0.5) * 2 / pupil - 1
    x, y = np.meshgrid(line, line, indexing="ij")
    rho, phi = np.hypot(x, y), np.arctan2(y, x)
    wave = np.zeros(x.shape)
    for (n, m), c in zip(FD_DEEPLOC_MODES, aber_map_waves, strict=True):
        norm = np.sqrt(2 * (n + 1) / (1 + (m == 0)))
        turn = np.cos(m * phi) if m >= 0 else np.sin(-m * phi)
        wave += c * norm * slow_radial(n, abs(m), rho) * turn
    light = np.where(rho < 1, np.exp(2j * np.pi * wave), 0)
    place = (np.arange(points) - points // 2) * pixel_waves
    waves = np.exp(2j * np.pi * np.outer(place, line))
    image = np.abs(waves @ light @ waves.T) ** 2
    return image / image.sum()


def slow_radial(n, m, rho):
    from math import factorial as f

    return sum(
        (-1) ** k * f(n - k) / (f(k) * f((n + m) // 2 - k) * f((n - m) // 2 - k))
        * rho ** (n - 2 * k)
        for k in range((n - m) // 2 + 1)
    )  # fmt: skip


@settings(max_examples=4, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_fd_deeploc_maps_make_the_images_they_make_there(tmp_path_factory, seed):
    # red if rows and columns, the pupil's direction, units or the order of modes are wrong
    waves = np.random.default_rng(seed).normal(0, 0.035, 21)
    folder = tmp_path_factory.mktemp("maps")
    maps = np.zeros((3, 4, 23))
    maps[:, :, :21] = waves
    scipy.io.savemat(folder / "aber_map.mat", {"aber_map": maps})
    low = Optics(na=0.3, wavelength_nm=600, n_sample=1.33, n_immersion=1.33, n_coverslip=1.33)
    field = MapsField(
        path=str(folder / "aber_map.mat"), layout="fd_deeploc", map_pixel_nm=100.0
    )  # fmt: skip
    # low NA, so that vectorial light is as good as scalar; points a fraction of a pixel apart
    ours = psf(with_field(field, low), shape=(31, 31), pixel_nm=1200.0 / 3)[0]
    theirs = their_image(waves, points=31 * 3, pixel_waves=0.3 * 400 / 600 / 3)
    theirs = theirs.reshape(31, 3, 31, 3).sum(axis=(1, 3))
    # the binary edge of their 160-point pupil, and 3 x 3 points a pixel: a percent or so
    np.testing.assert_allclose(
        ours / ours.sum(), theirs / theirs.sum(), atol=0.02 * theirs.max() / theirs.sum()
    )


def test_every_fd_deeploc_mode_becomes_one_of_the_same_order():
    with pytest.warns(SimscopeWarning, match="a blur of 1 and 1 pixels"):
        modes, maps = from_fd_deeploc(np.ones((2, 3, 23)), 600.0)
    assert maps.shape == (21, 2, 3)
    assert (np.abs(maps) == 600.0).all()
    assert len(set(modes)) == 21
    for index, (n, m) in zip(modes, FD_DEEPLOC_MODES, strict=True):
        radial, azimuthal = osa_to_nm(index)
        assert (radial, abs(azimuthal)) == (n, abs(m))


@pytest.mark.parametrize(
    ("write", "more", "words"),
    [
        (None, {}, "does not exist"),
        (np.zeros((3, 4, 4)), {}, "do not fit 1 modes"),
        (np.full((1, 4, 4), np.nan), {}, "not finite"),
        (np.zeros((1, 4, 4), complex), {}, "real numbers"),
        (np.zeros((4, 4, 5)), {"layout": "fd_deeploc", "modes": None}, "is not FD-DeepLoc's"),
    ],
)
def test_map_files_that_cannot_be_used_are_refused(tmp_path, write, more, words):
    path = str(tmp_path / "maps.npy") if write is None else saved(tmp_path, write)
    field = MapsField(**({"path": path, "modes": (5,), "map_pixel_nm": 100.0} | more))
    with pytest.raises(OpticsError, match=words):
        field_coefficients(field, 600.0)


def test_files_of_no_array_are_refused(tmp_path):
    (tmp_path / "a.txt").write_text("1")
    (tmp_path / "a.npy").write_text("1")
    (tmp_path / "a.mat").write_text("1")
    scipy.io.savemat(tmp_path / "b.mat", {"one": np.zeros(2), "two": np.zeros(2)})
    for name, words in [
        ("a.txt", "neither"), ("a.npy", "np.save"), ("a.mat", "MATLAB"), ("b.mat", "variable"),
    ]:  # fmt: skip
        field = MapsField(path=str(tmp_path / name), modes=(5,), map_pixel_nm=100.0)
        with pytest.raises(OpticsError, match=words):
            field_coefficients(field, 600.0)
    misspelt = field.model_copy(update={"variable": "on"})
    with pytest.raises(OpticsError, match=r"holds \['one', 'two'\]"):
        field_coefficients(misspelt, 600.0)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"layout": "fd_deeploc", "modes": [5]}, "leave modes out"),
        ({}, "modes are missing"),
        ({"modes": [5, 5]}, "twice"),
    ],
)
def test_map_recipes_that_contradict_themselves_are_refused(fields, words):
    with pytest.raises(ValueError, match=words):
        MapsField(path="x.npy", map_pixel_nm=100.0, **fields)


def test_places_in_the_frame_are_places_in_the_field():
    x, y = frame_to_field(np.array([0.0, 6000.0, 9e9]), 2000.0, (4000.0, 6000.0), (100.0, -50.0))
    np.testing.assert_allclose(x, [-2900.0, 3100.0, 3100.0])
    np.testing.assert_allclose(y, -50.0)


# the spline across nodes


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 9])
def test_splines_across_nodes_pass_through_them_and_keep_polynomials(count):
    # red if an end condition is wrong: cubics need four nodes, parabolas three, lines two
    degree = min(count - 1, 3)
    axis = NodeAxis(100.0, 50.0, count)
    places = 100.0 + 50.0 * np.linspace(0, count - 1, 23)
    scale = 50.0 * max(count - 1, 1)
    values = ((100.0 + 50.0 * np.arange(count) - 100.0) / scale) ** degree
    coefficients = spline_through(count) @ values
    numbers, weights, slopes = axis.mixture(places)
    expected = ((places - 100.0) / scale) ** degree
    np.testing.assert_allclose((weights * coefficients[numbers]).sum(axis=1), expected, atol=1e-12)
    rate = degree / scale * ((places - 100.0) / scale) ** max(degree - 1, 0)
    np.testing.assert_allclose((slopes * coefficients[numbers]).sum(axis=1), rate, atol=1e-12)
    np.testing.assert_allclose(weights.sum(axis=1), 1.0, atol=1e-12)
