"""Rendering: windows that may end inside the frame, and threads that change nothing."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

from simscope import Simulator, load_recipe
from simscope.errors import OpticsError, SimscopeWarning
from simscope.optics import taper
from simscope.recipe import Recipe
from simscope.sample import Molecules, Shining


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


def test_bytes_of_a_table_rendering_do_not_depend_on_threads():
    one, two = (Simulator("smlm-2d-dense", 3, threads=n).batch(0, 7).images for n in (1, 2))
    np.testing.assert_array_equal(one, two)
