"""Gain and noise of a camera can be read off its frames."""

import numpy as np
import pytest

from simscope.acquire import Simulator
from simscope.camera import camera_maps, detect, photon_transfer
from simscope.errors import CameraError
from simscope.keys import Key
from simscope.recipe import CCD, EMCCD, load_recipe


def frames_of(camera, seed=1, light=(40, 60, 30), *, frames=8):
    y, x = np.mgrid[:128, :128] / 128
    photons = np.stack([light[0] + light[1] * x + light[2] * y] * frames).astype(np.float32)
    key = Key(seed)
    maps = camera_maps(camera, photons.shape[1:], key)
    adu, _ = detect(
        photons, camera, maps, key, sample_index=0, frame_index=np.arange(frames), exposure_s=0.01
    )
    return adu


def test_gain_and_offset_are_recovered_from_uneven_frames():
    camera = CCD(qe=1.0, e_per_adu=0.6, baseline_adu=30.0, read_noise_e=4.0)
    found = photon_transfer(frames_of(camera))
    # 24 points of about 1,090 blocks: each variance good to 4.3 %, the slope to about 4 %
    assert found.e_per_adu == pytest.approx(0.6, rel=0.12)
    assert found.baseline_adu(read_noise_e=4.0) == pytest.approx(30.0, abs=20)
    assert found.read_noise_e(found.baseline_adu(4.0)) == pytest.approx(4.0)


def test_noise_of_the_means_does_not_flatten_the_line():
    """Grouped by their own mean, blocks this evenly lit give 0.66 e/ADU."""
    camera = CCD(qe=1.0, e_per_adu=0.6, baseline_adu=30.0, read_noise_e=4.0)
    gains = [
        photon_transfer(frames_of(camera, seed, (50, 20, 10), frames=32)).e_per_adu
        for seed in range(8)
    ]
    # a single estimate is good to 0.06, as their scatter shows; so their mean to 0.02
    assert np.mean(gains) == pytest.approx(0.6, abs=0.05)


def test_frames_without_shot_noise_are_refused():
    flat = np.random.default_rng(1).normal(100, 3, (8, 128, 128)) - 0.1 * np.arange(128)
    flat *= np.linspace(1.0, 0.2, 128)
    with pytest.raises(CameraError, match="frames"):
        photon_transfer(np.full((1, 10, 10), 5.0))
    with pytest.raises(CameraError, match="shot"):
        photon_transfer(np.abs(200 - flat))


def test_too_high_an_offset_is_refused():
    found = photon_transfer(frames_of(CCD(qe=1.0, baseline_adu=30.0, read_noise_e=0.5)))
    with pytest.raises(CameraError, match="raise baseline_adu"):
        found.read_noise_e(baseline_adu=-100.0)


@pytest.mark.parametrize("density_per_um2", [0.3, 4.0])
def test_gain_is_read_off_frames_full_of_spots(density_per_um2):
    """Blocks take spots for noise: 0.13 e/ADU instead of 0.5 where molecules are dense."""
    recipe = load_recipe("smlm-2d-dense").replace("structure.density_per_um2", density_per_um2)
    frames = Simulator(recipe, 1).batch(0, 20).images
    found = photon_transfer(frames, spots=True)
    # 24 points of 2,700 pixels, neighbours alike through the filter: 10 % is two deviations
    assert found.e_per_adu == pytest.approx(0.5, rel=0.1)
    assert found.baseline_adu(read_noise_e=1.3) == pytest.approx(100, abs=6)


def test_an_em_register_halves_the_electrons_per_count():
    camera = EMCCD(qe=1.0, em_gain=100, e_per_adu=60, baseline_adu=30.0, read_noise_e=0)
    found = photon_transfer(frames_of(camera, frames=32))
    assert 2 * found.e_per_adu == pytest.approx(60 / 100, rel=0.12)
