"""Restoration: the U-Net begins as the identity, learns to denoise, takes images of any size."""

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="PyTorch is not installed")
pytestmark = [
    pytest.mark.train,
    pytest.mark.filterwarnings("ignore::simscope.errors.SimscopeWarning"),
]

import simscope as ss  # noqa: E402
from simscope.errors import TrainingError  # noqa: E402
from simscope.learn.compute import run_network  # noqa: E402
from simscope.learn.inputs import Scales, photons_and_roots  # noqa: E402
from simscope.learn.runs import make_task  # noqa: E402

SMALL = {"channels": 8, "levels": 2}
PLAN = {"batch_size": 4, "validation_samples": 8, "validations": 3, "threads": 1, "progress": False}


@pytest.fixture(scope="module")
def dim():
    recipe = ss.load_recipe("smlm-2d-dense")
    for path, value in {
        "acquisition.shape": [30, 34],
        "structure.density_per_um2": 1.0,
        "rendering.window_px": 9,
        "rendering.accept_energy_loss": True,
    }.items():
        recipe = recipe.replace(path, value)
    return recipe


def test_an_untrained_network_returns_the_noisy_image(dim):
    task, batch = make_task("unet", dim, SMALL), ss.Simulator(dim, 3).batch(0, 3, expected=True)
    task.fit_scales(batch)
    output = run_network(task, batch.images)
    assert not output.any()
    noisy = task.photons(batch.images)
    np.testing.assert_allclose(task.read(output, noisy), np.maximum(noisy, 0), rtol=1e-4, atol=1e-3)


def test_the_exact_target_restores_the_exact_image(dim):
    task, batch = make_task("unet", dim, SMALL), ss.Simulator(dim, 3).batch(0, 3, expected=True)
    task.fit_scales(batch)
    restored = task.read(task.targets(batch), task.photons(batch.images))
    np.testing.assert_allclose(restored[:, 0], batch.expected_photons, rtol=1e-3)
    judged = task.judge(task.targets(batch), batch)
    assert judged["relative_error"] < 1e-3
    assert judged["psnr_db"] > judged["psnr_noisy_db"] + 40


def test_inputs_are_scaled_photons_and_their_roots():
    scales = Scales(background_photons=25.0, spread_photons=50.0)
    inputs = photons_and_roots(np.full((1, 1, 2, 2), 100.0, np.float32), scales)
    assert inputs[0, :, 0, 0].tolist() == [1.5, 1.0]


def test_figures_of_a_half_restored_image_are_those_worked_by_hand(dim):
    task, batch = make_task("unet", dim, SMALL), ss.Simulator(dim, 3).batch(0, 3, expected=True)
    task.fit_scales(batch)
    half, noisy = 0.5 * task.targets(batch), task.photons(batch.images)
    exact, level = batch.expected_photons[:, None], max(task.config.background_photons, 1.0)
    left, lost = task.read(half, noisy) - exact, noisy - exact
    judged = task.judge(half, batch)
    assert judged["relative_error"] == pytest.approx(np.sqrt(np.mean(left**2) / np.mean(lost**2)))
    decibels = 20 * np.log10(exact.max()) - 10 * np.log10(np.mean(left**2))
    assert judged["psnr_db"] == pytest.approx(decibels, rel=1e-5)
    # Roots of photons err by 1/4 of a photon in the square: a loss of 1 is all shot noise.
    spread = float(task.loss(torch.zeros_like(half), task.targets(batch)))
    assert spread == pytest.approx(4 * level * float(np.mean((2 * half.numpy()) ** 2)), rel=1e-5)


def test_training_removes_noise_from_images_of_another_size(dim, tmp_path):
    model = ss.learn.train(
        "unet", dim, out=tmp_path / "run", config=SMALL, steps=150, learning_rate=1e-2, **PLAN
    )
    assert model.record["held_out"]["relative_error"] < 0.8
    wide = dim.replace("acquisition.shape", [45, 61])
    batch = ss.Simulator(wide, 9).batch(0, 5, expected=True)
    restored = ss.learn.restore(tmp_path / "run", batch.images)
    assert restored.shape == batch.images.shape
    exact, noisy = batch.expected_photons, model.task.photons(batch.images)[:, 0]
    assert np.mean((restored - exact) ** 2) < 0.8**2 * np.mean((noisy - exact) ** 2)


def test_a_file_without_noiseless_images_is_refused(dim, tmp_path):
    path = ss.generate(dim, 24, 1, tmp_path / "noisy.h5")
    with pytest.raises((TrainingError, ss.SimscopeError), match="expected"):
        ss.learn.train("unet", path, out=tmp_path / "run", config=SMALL, steps=1, **PLAN)
    path = ss.generate(dim, 24, 1, tmp_path / "both.h5", expected=True)
    model = ss.learn.train("unet", path, out=tmp_path / "run", config=SMALL, steps=2, **PLAN)
    assert ss.learn.restore(model, path).shape == (24, 30, 34)


def test_stacks_are_restored_together_and_others_refused(tmp_path):
    recipe = ss.load_recipe("psf-zernike")
    recipe = recipe.replace("acquisition.shape", [16, 16])
    recipe = recipe.replace("acquisition.focus_nm", {"start_nm": -500, "stop_nm": 500, "planes": 3})
    model = ss.learn.train("unet", recipe, out=tmp_path / "run", config=SMALL, steps=2, **PLAN)
    images = ss.Simulator(recipe, 9).batch(0, 5).images
    assert ss.learn.restore(model, images).shape == (5, 3, 16, 16)
    with pytest.raises(TrainingError, match="stacks of 3 planes"):
        ss.learn.restore(model, images[:, :2])
    with pytest.raises(TrainingError, match="finite"):
        ss.learn.restore(model, np.full((1, 3, 16, 16), np.nan))
