"""Rendering: windows that may end inside the frame, and threads that change nothing."""

from __future__ import annotations

import warnings

import numba
import numpy as np
import pytest

from simscope import Simulator, load_recipe
from simscope.errors import OpticsError, RecipeError, SimscopeWarning
from simscope.optics import psf, taper
from simscope.recipe import FixedDipole, Recipe
from simscope.sample import Molecules, Shining

slow_without_jit = pytest.mark.skipif(
    numba.config.DISABLE_JIT, reason="builds a model or table of large windows, as plain Python"
)


def drawn_focus(window_px, *, focus_nm=300.0, accept=False) -> Recipe:
    """smlm-2d-dense with an objective that moves from sample to sample."""
    recipe = load_recipe("smlm-2d-dense")
    changes = {
        "acquisition.focus_nm": {"uniform": [-focus_nm, focus_nm]},
        "acquisition.shape": [24, 24],
        "rendering.window_px": window_px,
        "rendering.accept_energy_loss": accept,
    }
    for path, value in changes.items():
        recipe = recipe.replace(path, value)
    return recipe


def quiet(recipe: Recipe) -> Simulator:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SimscopeWarning)
        return Simulator(recipe, 3)


def lone_emitter(simulator: Simulator, row: float, column: float) -> np.ndarray:
    """Expected image of one emitter of 1 photon at (row, column) pixels, without background."""
    run = simulator._begin(np.array([0]))
    place = np.array([[row, column]], np.float32) * simulator.recipe.pixel_nm
    zero = np.zeros(1, np.int64)
    run.molecules = Molecules(zero, zero, place[:, 1], place[:, 0], np.zeros(1, np.float32))
    shining = Shining(zero, zero, np.ones(1), np.array([0, 1]))
    return simulator._renderer.render(run, shining, 0, 1)[0]


def test_light_left_out_of_an_exact_window_is_warned_of_and_refused():
    with pytest.raises(OpticsError, match=r"rendering.accept_energy_loss: true") as refused:
        Simulator(drawn_focus(9, focus_nm=600.0), 3)
    assert "rendering.max_window_px" in str(refused.value)
    simulator = quiet(drawn_focus(15))
    assert any("15 pixels" in text for text in simulator.warnings)
    assert 0.05 < simulator.report["energy_left_out_max"] <= 0.2
    assert simulator.report["covers_frame"] is False
    assert quiet(drawn_focus(9, focus_nm=600.0, accept=True)).report["energy_left_out_max"] > 0.2


def test_reported_loss_is_that_of_the_worst_focus():
    simulator = quiet(drawn_focus(15))
    held = min(
        (simulator._renderer.model.images(0.0, focus)[0] * taper_window(15)).sum()
        for focus in (-300.0, 0.0, 300.0)
    )
    assert simulator.report["energy_left_out_max"] == pytest.approx(1 - held, abs=1e-6)


def taper_window(window_px):
    weight = taper(np.arange(window_px) - window_px // 2, window_px)
    return weight[:, None] * weight


def test_exact_windows_end_without_a_step():
    image = lone_emitter(quiet(drawn_focus(15)), 12.3, 12.7)
    # the window covers pixels 5 to 19; its outermost light must be no step against what is within
    inside = image[5:20, 5:20]
    beyond = np.pad(np.zeros_like(inside, bool), ((5, 4), (5, 4)), constant_values=True)
    assert (image[beyond] == 0).all()
    edge = np.concatenate([inside[[0, -1]].ravel(), inside[:, [0, -1]].ravel()])
    ring = np.concatenate([inside[3].ravel(), inside[:, 3].ravel()])
    assert edge.max() < 0.02 * ring.max()


def test_a_window_over_the_whole_frame_is_left_as_it_is():
    simulator = Simulator(drawn_focus("auto").replace("rendering.max_window_px", 101), 3)
    assert simulator.report["covers_frame"] is True
    assert simulator.report["energy_left_out_max"] == 0.0
    assert simulator.warnings == []
    focus = simulator.parameters(0, 1)["acquisition.focus_nm"][0]
    image = lone_emitter(simulator, 0.5, 0.5)
    exact = simulator._renderer.model.images(0.0, focus)[0]
    half = exact.shape[0] // 2
    np.testing.assert_allclose(image, exact[half : half + 24, half : half + 24], rtol=1e-6)


def test_emitters_beyond_the_frame_need_a_wider_window_to_cover_it():
    recipe = drawn_focus("auto").replace("rendering.max_window_px", 101)
    wide = Simulator(recipe.replace("structure.margin_nm", 500.0), 3).report
    assert (wide["covers_frame"], wide["window_px"]) == (True, 2 * (24 + 5) + 1)
    assert quiet(recipe.replace("structure.margin_nm", 3000.0)).report["covers_frame"] is False


@slow_without_jit
def test_bytes_of_a_table_rendering_do_not_depend_on_threads():
    one, two = (Simulator("smlm-2d-dense", 3, threads=n).batch(0, 7).images for n in (1, 2))
    np.testing.assert_array_equal(one, two)


# exact rendering through other models


def rendered(simulator: Simulator, molecules: Molecules) -> tuple[np.ndarray, dict]:
    """Expected image of one molecule of 1 photon, without background, and the drawn numbers."""
    run = simulator._begin(np.array([0]))
    run.molecules = molecules
    zero = np.zeros(1, np.int64)
    shining = Shining(zero, zero, np.ones(1), np.array([0, 1]))
    return simulator._renderer.render(run, shining, 0, 1)[0], run.drawn


def at(row: float, column: float, recipe: Recipe, **angles: float) -> Molecules:
    zero = np.zeros(1, np.int64)
    place = np.array([[column], [row], [0.0]], np.float32) * recipe.pixel_nm
    return Molecules(
        zero, zero, *place, **{name: np.array([v], np.float32) for name, v in angles.items()}
    )


def wide(recipe: Recipe) -> Recipe:
    return recipe.replace_all({"rendering.max_window_px": 101, "rendering.window_px": 49})


@slow_without_jit
def test_drawn_wavefronts_are_rendered_through_any_model():
    # red if the model of one sample's wavefront is used for another's
    recipe = wide(drawn_focus(49)).replace("optics.spectrum", {"kind": "gaussian", "fwhm_nm": 30.0})
    recipe = recipe.replace("optics.wavefront", {"coefficients_nm": {"5": {"uniform": [20, 40]}}})
    simulator = quiet(recipe)
    image, drawn = rendered(simulator, at(12.5, 12.5, recipe))
    (astigmatism,) = (v[0] for k, v in drawn.items() if k.endswith(".5"))
    optics = recipe.optics.model_copy(update={"wavefront": None})
    exact = psf(
        optics, 0.0, drawn["acquisition.focus_nm"][0], (49, 49), recipe.pixel_nm,
        wavefront_nm={5: astigmatism},
    )[0]  # fmt: skip
    # float32 patches of the rendering accuracy, 1e-3
    np.testing.assert_allclose(image, exact[12:36, 12:36], atol=1e-3 * exact.max())
    assert simulator.report["pupil_nodes_across"] is None


@slow_without_jit
def test_oriented_molecules_are_rendered_exactly_where_the_focus_is_drawn():
    recipe = wide(drawn_focus(49)).replace("dipoles", {"kind": "fixed"})
    angles = {"polar_deg": 50.0, "azimuth_deg": 20.0, "half_angle_deg": 0.0}
    image, drawn = rendered(quiet(recipe), at(12.5, 12.5, recipe, **angles))
    exact = psf(
        recipe.optics, 0.0, drawn["acquisition.focus_nm"][0], (49, 49), recipe.pixel_nm,
        dipole=FixedDipole(polar_deg=50.0, azimuth_deg=20.0),
    )[0]  # fmt: skip
    np.testing.assert_allclose(image, exact[12:36, 12:36], atol=1e-3 * exact.max())


@slow_without_jit
def test_oriented_molecules_are_rendered_from_a_table_too(tmp_path):
    recipe = load_recipe("smlm-2d-dense").replace_all(
        {"dipoles": {"kind": "fixed"}, "acquisition.shape": [24, 24]}
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SimscopeWarning)
        simulator = Simulator(recipe, 3, cache=tmp_path)
    assert simulator.report["table_images"] == 6
    angles = {"polar_deg": 70.0, "azimuth_deg": 130.0, "half_angle_deg": 0.0}
    image, _ = rendered(simulator, at(12.5, 12.5, recipe, **angles))
    window = simulator.table.window_px
    exact = psf(
        recipe.optics, 0.0, simulator.table.focus_nm, (window, window), recipe.pixel_nm,
        dipole=FixedDipole(polar_deg=70.0, azimuth_deg=130.0),
    )[0]  # fmt: skip
    exact *= taper_window(window)
    half = window // 2
    seen = exact[half - 12 : half + 12, half - 12 : half + 12]
    low = max(0, 12 - half)
    part = image[low : low + seen.shape[0], low : low + seen.shape[1]]
    bound = 1.5 * simulator.resolved.rendering.accuracy * simulator.table.peak
    np.testing.assert_allclose(part, seen[: part.shape[0], : part.shape[1]], atol=bound)


def test_oriented_molecules_in_other_models_are_refused_with_a_remedy():
    recipe = drawn_focus(49).replace_all(
        {"dipoles": {"kind": "fixed"}, "optics.spectrum": {"kind": "gaussian", "fwhm_nm": 30.0}}
    )
    with pytest.raises(RecipeError, match="leave out spectrum"):
        Simulator(recipe, 3)


@slow_without_jit
@pytest.mark.parametrize("name", ["smlm-3d-astigmatism", "smlm-2d-oriented", "smlm-2d-field"])
def test_packaged_recipes_put_every_photon_on_the_camera_but_five_percent(name, tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("error", SimscopeWarning)
        simulator = Simulator(load_recipe(name), 3, cache=tmp_path)
        chunk = next(simulator.chunks(0, 1, expected=True))
    recipe = simulator.resolved
    light = chunk.emitters["photons"].sum()
    background = simulator[0].parameters.get("background.photons_per_pixel")
    level = recipe.background.photons_per_pixel if background is None else background
    on_camera = chunk.expected_photons.sum() - level * chunk.expected_photons.size
    # light of emitters near the frame's edge falls beside it
    inner = np.all(
        [
            (chunk.emitters[axis] > 1500.0)
            & (chunk.emitters[axis] < pixels * recipe.pixel_nm - 1500.0)
            for axis, pixels in zip(("y_nm", "x_nm"), recipe.acquisition.shape, strict=True)
        ],
        axis=0,
    )
    assert on_camera < 1.001 * light
    assert on_camera > 0.93 * chunk.emitters["photons"][inner].sum()
