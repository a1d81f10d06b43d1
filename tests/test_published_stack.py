"""The published simulated stack: our recipe is its twin, and a network of ours reads it."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import simscope as ss
from simscope.camera import photon_transfer

ROOT = Path(__file__).resolve().parents[1]
DATA = ROOT.parent / "shared" / "data" / "deepstorm"
SCRIPT = ROOT / "benchmarks" / "published_stack.py"
needs_data = pytest.mark.skipif(
    not DATA.is_dir(), reason="the published stack is not on this machine"
)


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("published_stack", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def published(script):
    tifffile = pytest.importorskip("tifffile")
    return tifffile.imread(DATA / script.STACK), ss.dataset.read_localizations(
        DATA / script.POSITIONS
    )


@pytest.fixture(scope="module")
def twin(script, published):
    """The same molecules by our recipe, frame by frame, without noise [ADU]."""
    frames, truth = published
    recipe = script.recipe()
    y = x = (np.arange(frames.shape[1]) + 0.5) * recipe.pixel_nm
    sigma_nm, adu_per_photon = recipe.optics.gaussian.sigma_nm, 2.0
    # pixels are narrow: their mean is the Gaussian widened by a pixel's own variance
    width = np.sqrt(sigma_nm**2 + recipe.pixel_nm**2 / 12)
    images = []
    for number in range(len(frames)):
        rows = truth[truth["frame"] == number]
        across, down = (
            np.exp(-0.5 * ((place - rows[name][:, None]) / width) ** 2)
            for place, name in ((x, "x_nm"), (y, "y_nm"))
        )
        weight = rows["photons"] * recipe.pixel_nm**2 / (2 * np.pi * width**2)
        images.append(np.einsum("n,ny,nx->yx", weight, down, across))
    return 100 + adu_per_photon * (20 + np.array(images))


@needs_data
def test_the_recipe_says_what_the_published_frames_show(published, twin):
    """Place, gain, base and background: a mean that is off by 3 ADU of 400 would show."""
    frames, _ = published
    slope, _ = np.polyfit(twin.ravel(), frames.ravel(), 1)
    assert slope == pytest.approx(1, abs=0.02)
    assert (frames - twin).mean() == pytest.approx(0, abs=3)
    assert np.corrcoef(twin.ravel(), frames.ravel())[0, 1] > 0.985


@needs_data
def test_the_noise_of_the_published_frames_is_that_of_the_recipe(script, published):
    frames, _ = published
    ours = ss.Simulator(script.recipe().replace("structure.density_per_um2", 6), 1).batch(0, 20)
    theirs, same = (photon_transfer(images, spots=True) for images in (frames, ours.images))
    assert theirs.e_per_adu == pytest.approx(0.25, rel=0.05)  # half of 0.5 behind an EM register
    assert same.e_per_adu == pytest.approx(theirs.e_per_adu, rel=0.1)


@needs_data
def test_maxima_and_centroids_find_half_of_the_published_molecules(script, published):
    assert 0.4 < script.best_baseline(*published)["jaccard"] < 0.6


@needs_data
@pytest.mark.slow
@pytest.mark.train
def test_a_network_trained_on_our_data_alone_reads_the_published_stack(tmp_path):
    pytest.importorskip("torch", reason="PyTorch is not installed")
    done = subprocess.run(
        [sys.executable, SCRIPT, DATA, "--out", tmp_path / "run", "--cpu-minutes", "3"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    told = json.loads(done.stdout)
    assert told["found"]["jaccard"] >= 0.65
    assert told["jaccard_ratio"] >= 1.5


def test_the_script_skips_in_words_where_the_stack_is_not(tmp_path):
    done = subprocess.run(
        [sys.executable, SCRIPT, tmp_path], capture_output=True, text=True, check=False
    )
    assert "skipped" in done.stderr
