"""What is foretold comes true: pixel, photons, noise, file size."""

import json

import numba
import numpy as np
import pytest
from small_worlds import SMALL, movie, snapshot, stack

import simscope as ss
from simscope.camera import adu_to_photons
from simscope.dataset import forecast, forecast_rows, forecasting, readable_bytes
from simscope.dataset.forecasting import nyquist_pixel_nm, timed_trial, undrawn
from simscope.dataset.schema import Layout
from simscope.recipe import Optics, Recipe

pytestmark = pytest.mark.filterwarnings("ignore::simscope.errors.SimscopeWarning")


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SIMSCOPE_CACHE", str(tmp_path_factory.mktemp("psf-tables")))
        yield


def test_nyquist_pixel_is_a_quarter_of_wavelength_over_na():
    assert nyquist_pixel_nm(Optics(na=1.25, wavelength_nm=500)) == 100.0


def test_sample_pixel_is_the_camera_pixel_demagnified():
    recipe = snapshot().replace("camera.pixel_pitch_um", 6.5).replace("optics.magnification", 65)
    assert forecast(ss.Simulator(recipe, 7)).pixel_nm == pytest.approx(100.0)


def bead(photons):
    recipe = snapshot().replace("structure", {"kind": "bead"})
    recipe = recipe.replace("photophysics", {"kind": "snapshot", "photons": photons})
    recipe = recipe.replace("camera", {"kind": "ccd", "read_noise_e": 3.0, "qe": 0.8})
    return recipe.replace("background", {"photons_per_pixel": 6.0})


def test_photons_and_counts_of_a_certain_recipe_are_exact():
    outlook = forecast(ss.Simulator(bead(1234.0), 7))
    assert outlook.photons_per_emitter == pytest.approx(1234.0)
    assert outlook.emitters_per_frame == 1.0
    assert outlook.background_photons == 6.0
    assert outlook.drawn == {}


@pytest.mark.skipif(numba.config.DISABLE_JIT, reason="thousands of frames, too slow without JIT")
def test_peak_snr_is_what_repeated_exposures_show():
    sim = ss.Simulator(bead(900.0), 7)
    frames = adu_to_photons(sim.batch(0, 4000).images, sim.resolved.camera, sim.maps)
    mean, std = frames.mean(axis=0), frames.std(axis=0)
    peak = np.unravel_index(mean.argmax(), mean.shape)
    seen = (mean[peak] - 6.0) / std[peak]
    # the spread of 4000 exposures is known to 1.1 %, rounding to counts adds 0.3 %: 4 sigma
    assert forecast(sim).peak_snr == pytest.approx(seen, rel=0.05)


@pytest.mark.skipif(numba.config.DISABLE_JIT, reason="1.4 million pixels, too slow without JIT")
def test_file_size_is_foretold(tmp_path):
    recipe = snapshot().replace("acquisition.shape", [96, 96])
    outlook = forecast(ss.Simulator(recipe, 7), samples=150)
    written = ss.generate(recipe, 150, 7, tmp_path / "a.h5").stat().st_size
    assert outlook.file_bytes == pytest.approx(written, rel=0.25)  # indexes and attributes extra


def test_seconds_scale_with_samples():
    sim = ss.Simulator(snapshot(), 7)
    outlook = forecast(sim, samples=5000)
    assert outlook.seconds == pytest.approx(5000 / outlook.samples_per_s)


def test_dark_samples_have_no_signal_to_speak_of():
    sim = ss.Simulator(snapshot().replace("structure.density_per_um2", 0.0), 7)
    outlook = forecast(sim)
    assert (outlook.photons_per_emitter, outlook.peak_snr) == (None, None)
    assert any("no emitter" in value for _, value in forecast_rows(outlook))


def glowing_slab(folder, background):
    """A structure that fills everything 400 nm thick, 8 photons of each 100 nm x 100 nm column."""
    np.save(folder / "slab.npy", np.ones((2, 90, 90), np.float32))
    volume = {"kind": "volume", "path": str(folder / "slab.npy"), "voxel_nm": [200, 100, 100]}
    return Recipe.from_dict(
        SMALL | {
            "structure": volume | {"margin_nm": 2500},
            "photophysics": {"kind": "steady", "photons_per_um3": 2000},
            "background": {"photons_per_pixel": background},
            "rendering": {"window_px": 49, "accept_energy_loss": True},
        }
    )  # fmt: skip


def test_continuous_structures_are_judged_by_their_light(tmp_path):
    outlook = forecast(ss.Simulator(glowing_slab(tmp_path, 5.0), 7))
    held = 1.0 - outlook.energy_left_out
    assert 8.0 * held * 0.999 < outlook.structure_photons < 8.0
    assert outlook.brightest_photons == pytest.approx(outlook.structure_photons, rel=0.02)
    rows = dict(forecast_rows(outlook))
    assert rows["structure"].startswith("7.")
    assert not any("emitter" in text for row in rows.items() for text in row)
    camera = ss.Simulator(glowing_slab(tmp_path, 5.0), 7).resolved.camera
    mean = camera.qe * outlook.brightest_photons
    rest = camera.qe * 5.0 + camera.read_noise_e**2
    assert outlook.peak_snr == pytest.approx(mean / np.sqrt(mean + rest), rel=0.05)


@pytest.mark.parametrize("recipe", [snapshot(), movie(), stack()], ids=lambda recipe: recipe.name)
def test_every_forecast_is_json_and_text(recipe):
    outlook = forecast(ss.Simulator(recipe, 7), samples=10)
    assert json.loads(json.dumps(outlook.to_dict(), allow_nan=False))["samples"] == 10
    assert dict(forecast_rows(outlook))["recipe"] == recipe.name
    assert outlook.peak_share > 0


def test_drawn_aberrations_are_left_out_of_the_typical_peak():
    optics = stack().optics
    assert optics.wavefront.drawn
    assert not undrawn(optics).wavefront.drawn
    assert undrawn(Optics()) == Optics()


def test_bytes_read_well():
    assert readable_bytes(12) == "12 bytes"
    assert readable_bytes(7_340_000) == "7.34 MB"
    assert readable_bytes(2e15) == "2e+03 TB"


def test_a_long_movie_is_judged_by_its_first_frames(monkeypatch):
    monkeypatch.setattr(forecasting, "TRIAL_BYTES", 30 * 4 * 24 * 20)
    sim = ss.Simulator(movie(frames=100_000), 7)
    trial = timed_trial(sim, Layout.of(sim, samples=1, expected=False))
    frames = len(trial.images)
    assert 1 <= frames <= 30
    assert trial.samples == frames / 100_000
    outlook = forecast(sim, samples=10)
    assert outlook.samples_per_s < 1000  # 1e8 frames a second are out of reach
    assert outlook.emitters_per_frame == pytest.approx(len(trial.emitters) / frames)


def test_a_large_stack_is_judged_by_whole_samples(monkeypatch):
    monkeypatch.setattr(forecasting, "TRIAL_BYTES", 1)
    sim = ss.Simulator(stack(), 7)
    trial = timed_trial(sim, Layout.of(sim, samples=5, expected=False))
    assert (len(trial.images), trial.samples) == (sim.frames_per_sample, 1)


def test_windowed_renderers_say_how_much_light_they_leave_out():
    rows = dict(forecast_rows(forecast(ss.Simulator(snapshot(), 7))))
    assert rows["light left out"].startswith("at most")
