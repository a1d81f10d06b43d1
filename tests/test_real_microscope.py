"""The walk of docs/real-microscope.md on the published mask and frames, where they are present."""

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[1]
DATA = ROOT.parent / "shared" / "data" / "deepstorm3d"
pytestmark = [
    pytest.mark.skipif(not DATA.is_dir(), reason="the published frames are not on this machine"),
    pytest.mark.filterwarnings("ignore:.*falls outside the rendering window"),
]


@pytest.fixture(scope="module")
def walk():
    spec = importlib.util.spec_from_file_location(
        "real_microscope", ROOT / "docs/real_microscope.py"
    )
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def twin(walk):
    return walk.twin(DATA, densities=(0.1,), brightness=(0.5,))


def test_gain_and_noise_read_off_the_frames_are_those_of_a_camera(twin):
    assert 0.45 < twin.transfer.e_per_adu < 0.6
    assert 2 < twin.recipe.camera.read_noise_e < 6


def test_simulated_frame_counts_like_the_real_ones(walk, twin):
    real, simulated = twin.real_adu, twin.simulated_adu
    assert simulated.shape == real.shape[1:]
    assert twin.overlap > 0.9
    assert twin.gap_adu < 3
    # the same noise at the same mean, so the same slope; eight frames give it to 5 %, both times
    again = walk.photon_transfer(walk.ss.Simulator(twin.recipe, 3).batch(0, len(real)).images)
    assert again.e_per_adu == pytest.approx(twin.transfer.e_per_adu, rel=0.15)


def test_lobes_tilt_as_in_the_real_frames(twin):
    """The printed mask is turned: correlation of neighbours is stronger along one diagonal."""

    def diagonal_excess(image):
        blurred = image - np.median(image)
        along = (blurred[8:, 4:] * blurred[:-8, :-4]).mean()
        across = (blurred[8:, :-4] * blurred[:-8, 4:]).mean()
        return along - across

    real = np.mean([diagonal_excess(frame.astype(float)) for frame in twin.real_adu])
    assert np.sign(diagonal_excess(twin.simulated_adu.astype(float))) == np.sign(real)


def test_the_picture_is_drawn(walk, twin, tmp_path):
    walk.draw(twin, tmp_path / "twin.png")
    assert (tmp_path / "twin.png").stat().st_size > 100_000
