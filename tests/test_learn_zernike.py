"""PSF regression: mirrored pupils, coefficients in nanometres, errors of known predictions."""

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="PyTorch is not installed")
pytestmark = pytest.mark.train

import simscope as ss  # noqa: E402
from simscope.learn.feed import Feed, open_source  # noqa: E402
from simscope.learn.networks.zernike import (  # noqa: E402
    ZernikeTask,
    drawn_coefficients,
    mirror_signs,
    swap_axes,
)

MODES = tuple(range(3, 15))


@pytest.mark.parametrize(("mirror_x", "mirror_y"), [(True, False), (False, True), (True, True)])
def test_mirrored_image_is_that_of_the_mirrored_wavefront(mirror_x, mirror_y):
    optics = ss.Optics(na=1.3, n_sample=1.518, n_coverslip=1.518, n_immersion=1.518)
    coefficients = np.random.default_rng(3).normal(0, 25, len(MODES))
    signs = mirror_signs(MODES, mirror_x=mirror_x, mirror_y=mirror_y)
    image, mirrored = (
        ss.psf(
            optics, focus_nm=[-300.0, 300.0], shape=(16, 16),
            wavefront_nm=dict(zip(MODES, values, strict=True)),
        )
        for values in (coefficients, coefficients * signs)
    )  # fmt: skip
    axes = [axis for axis, yes in ((2, mirror_x), (1, mirror_y)) if yes]
    # Both images are quadratures good to 1e-6 of the peak.
    np.testing.assert_allclose(np.flip(image, axes), mirrored, atol=3e-6 * image.max())


def test_image_with_axes_swapped_is_that_of_the_swapped_wavefront():
    optics = ss.Optics(na=1.3, n_sample=1.518, n_coverslip=1.518, n_immersion=1.518)
    modes = tuple(range(3, 28))  # up to sixfold, every order of both parities
    coefficients = np.random.default_rng(4).normal(0, 15, len(modes))
    places, signs = swap_axes(modes)
    image, swapped = (
        ss.psf(
            optics, focus_nm=[-300.0, 300.0], shape=(16, 16),
            wavefront_nm=dict(zip(modes, values, strict=True)),
        )
        for values in (coefficients, coefficients[places] * signs)
    )  # fmt: skip
    assert np.abs(image - image.swapaxes(1, 2)).max() > 0.1 * image.max()
    np.testing.assert_allclose(image.swapaxes(1, 2), swapped, atol=3e-6 * image.max())


def test_axes_are_not_swapped_where_a_partner_is_missing_or_frames_are_oblong():
    assert swap_axes((3, 4, 5)) is not None
    assert swap_axes((4, 7)) is None  # vertical coma without horizontal
    task = ZernikeTask(ss.load_recipe("psf-zernike"))
    images, _ = task.augment(torch.rand(2, 4, 6, 8), torch.rand(2, len(task.modes)), 0.5)
    assert len(images) == 4 * 2


def test_a_batch_is_trained_on_with_its_eight_mirror_images():
    task = ZernikeTask(ss.load_recipe("psf-zernike"))
    inputs, targets = torch.rand(2, 4, 6, 6), torch.rand(2, len(task.modes))
    images, numbers = task.augment(inputs, targets, 0.5)
    assert torch.equal(images[:2], inputs)
    assert torch.equal(numbers[:2], targets)
    assert len(images) == len(numbers) == 8 * 2
    assert torch.equal(images[6:8], torch.flip(inputs, [2, 3]))
    below = mirror_signs(task.modes, mirror_x=False, mirror_y=True)
    assert torch.equal(images[2:4], torch.flip(inputs, [2]))  # rows are y
    assert torch.equal(numbers[2:4], targets * torch.from_numpy(below))
    signs = mirror_signs(task.modes, mirror_x=True, mirror_y=True)
    assert torch.equal(numbers[6:8], targets * torch.from_numpy(signs))
    places, swapped = swap_axes(task.modes)
    assert torch.equal(images[8:], images[:8].transpose(2, 3))
    assert torch.equal(numbers[8:], numbers[:8][:, places] * torch.from_numpy(swapped))


@pytest.mark.parametrize(
    ("change", "copies"),
    [
        ({"optics.wavefront": {"coefficients_nm": {3: {"uniform": [0, 9]}, 12: 60}}}, 8),
        ({"optics.wavefront": {"coefficients_nm": {3: {"uniform": [0, 9]}, 5: 60}}}, 1),
        ({"optics.mask": {"kind": "vortex"}}, 1),
        ({"optics.analyser": {"channels": "parallel"}}, 1),
        ({"dipoles": {"kind": "cone", "half_angle_deg": 30}}, 1),
    ],
)
def test_optics_lopsided_in_another_way_are_not_mirrored(change, copies):
    task = ZernikeTask(ss.load_recipe("psf-zernike").replace_all(change))
    images, _ = task.augment(torch.rand(2, 4, 6, 6), torch.rand(2, len(task.modes)), 0.5)
    assert len(images) == copies * 2


def test_samples_fresh_from_the_simulator_are_mirrored_too():
    recipe = ss.load_recipe("psf-zernike").replace("acquisition.shape", [8, 8])
    task, plan = ZernikeTask(recipe), ss.learn.Plan(steps=1, batch_size=3)
    with Feed(open_source(recipe, 1, 3, None), task, plan, 1) as feed:
        inputs, targets = next(feed)
    assert len(inputs) == len(targets) == 8 * 3
    assert torch.equal(inputs[9:12], torch.flip(inputs[:3], [2, 3]))


def test_mirroring_keeps_nanometres_where_modes_are_drawn_off_centre():
    recipe = ss.load_recipe("psf-zernike").replace(
        "optics.wavefront", {"coefficients_nm": {5: {"uniform": [20, 60]}, 7: {"uniform": [0, 9]}}}
    )
    task = ZernikeTask(recipe)
    batch = ss.Simulator(recipe.replace("acquisition.shape", [8, 8]), 1).batch(0, 4)
    task.fit_scales(batch)
    targets = task.targets(batch)
    numbers = task.augment(torch.rand(4, 42, 8, 8), targets, 0.5)[1]
    doubts = torch.zeros_like(numbers)
    read = task.read(torch.cat([numbers, doubts], dim=1))
    signs = mirror_signs((5, 7), mirror_x=True, mirror_y=False)
    assert np.allclose(read[8:12], task.truth(batch) * signs, atol=1e-4)


def test_modes_come_in_the_order_of_their_index():
    paths = drawn_coefficients(ss.load_recipe("psf-zernike"))
    assert [int(path.rsplit(".", 1)[1]) for path in paths] == list(MODES)
