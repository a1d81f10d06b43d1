"""DeepSTORM3D: its filters are the optics', its grid holds the truth, its table gives it back."""

from itertools import pairwise

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="PyTorch is not installed")
pytestmark = [
    pytest.mark.train,
    pytest.mark.filterwarnings("ignore::simscope.errors.SimscopeWarning"),
]

import simscope as ss  # noqa: E402
from simscope.errors import TrainingError  # noqa: E402
from simscope.learn.matched_filters import MatchedFilters, psf_basis  # noqa: E402
from simscope.learn.networks.deepstorm3d import (  # noqa: E402
    DeepStorm3dConfig,
    DeepStorm3dTask,
    grid_of,
    volume_peaks,
)

TINY = {"channels": 16, "dilations": (1, 2), "filter_px": 24, "matched_filters": 6}
PLAN = {"steps": 8, "batch_size": 4, "validation_samples": 6, "validations": 2, "threads": 1}


@pytest.fixture(scope="module")
def astigmatic():
    recipe = ss.load_recipe("smlm-3d-astigmatism").replace("acquisition.shape", [36, 44])
    return recipe.replace("structure.density_per_um2", 0.4)


@pytest.fixture(scope="module")
def batch(astigmatic):
    return ss.Simulator(astigmatic, seed=3).batch(0, 6)


@pytest.fixture(scope="module")
def task(astigmatic, batch):
    torch.manual_seed(0)
    made = DeepStorm3dTask(astigmatic, DeepStorm3dConfig(**TINY))
    made.fit_scales(batch)
    made.network.eval()
    return made


def perfect_output(task, batch):
    """What a network would say that knows the truth to a tenth of a voxel."""
    target = task.targets(batch)
    planes = task.grid.planes
    log_map = torch.log(target[:, :planes] + 1e-9)
    places = torch.nan_to_num(target[:, planes:])
    places[:, 2] = 0.0
    return torch.cat([log_map, places, torch.full_like(places, np.log(0.1))], dim=1)


def correlations(frame, image, stride):
    """Sum of frame times image around the middle of every block, by plain loops."""
    side = len(image)
    padded = np.pad(frame, side)
    start = side + (stride - side) // 2
    return np.array(
        [
            [
                np.sum(padded[start + y : start + y + side, start + x : start + x + side] * image)
                for x in range(0, frame.shape[1], stride)
            ]
            for y in range(0, frame.shape[0], stride)
        ]
    )


@pytest.mark.parametrize(("stride", "side"), [(1, 8), (1, 33), (2, 8), (2, 23), (4, 30)])
def test_matched_filters_are_plain_correlations_at_the_middles_of_blocks(stride, side):
    random = np.random.default_rng(5)
    filters = MatchedFilters(3, side, stride)
    images = random.normal(size=filters.images.shape)
    assert (filters.side_px - stride) % 2 == 0  # else no pixel of the image is in the middle
    filters.images.copy_(torch.from_numpy(images))
    frame = random.normal(size=(24, 32))
    with torch.inference_mode():
        fast = filters(torch.from_numpy(frame[None, None].astype(np.float32)))[0].numpy()
    plain = [correlations(frame, image, stride) for image in images]
    np.testing.assert_allclose(fast, plain, atol=1e-3 * np.std(plain))


def test_filters_follow_their_images_and_the_precision_asked_for():
    random = np.random.default_rng(7)
    filters = MatchedFilters(2, 8, 2)
    frame = torch.from_numpy(random.normal(size=(1, 1, 16, 16)).astype(np.float32))
    assert not filters(frame).any()  # images begin at zero
    filters.images.copy_(torch.from_numpy(random.normal(size=(2, 8, 8))))
    whole = filters(frame)
    assert whole.any()
    assert torch.equal(filters(frame), whole)
    with torch.autocast("cpu", torch.bfloat16):
        rough = filters(frame)
    assert rough.dtype == torch.bfloat16
    torch.testing.assert_close(rough.float(), whole, rtol=0.05, atol=0.05)
    for factor in (2, 4):  # twice without use between
        filters.load_state_dict({"images": factor * filters.images}, assign=True)
    torch.testing.assert_close(filters(frame), 8 * whole)


def test_a_kernel_kept_without_gradients_serves_with_them():
    filters, frame = MatchedFilters(2, 8, 2), torch.ones(1, 1, 16, 16)
    filters.images.fill_(1.0)
    with torch.inference_mode():
        filters(frame)
        inside = MatchedFilters(2, 8, 2)
        inside.images.fill_(1.0)
        assert torch.equal(inside(frame), filters(frame))
    frame.requires_grad_()
    filters(frame).sum().backward()
    assert frame.grad is not None
    assert frame.grad.any()


def test_a_few_images_span_the_tetrapod_at_heights_between_those_they_were_made_from():
    recipe = ss.load_recipe("smlm-3d-tetrapod")
    basis = psf_basis(recipe, 16, 88).reshape(16, -1)
    np.testing.assert_allclose(basis @ basis.T, np.eye(16), atol=1e-5)
    z_nm = np.array([130.0, 1310.0, 2777.0, 3911.0])
    spots = ss.psf(recipe.optics, z_nm, 1500, (88, 88), 110)
    spots = (spots - spots.mean(axis=(1, 2), keepdims=True)).reshape(4, -1)
    left = spots - (spots @ basis.T) @ basis
    assert np.all(np.sum(left**2, axis=1) < 0.01 * np.sum(spots**2, axis=1))


def test_filters_answer_most_where_the_molecule_is(astigmatic):
    recipe = astigmatic.replace("structure.density_per_um2", 0.02)
    basis = psf_basis(recipe, 8, 24)
    filters = MatchedFilters(8, 24, 2)
    filters.images.copy_(torch.from_numpy(basis))
    spot = ss.psf(recipe.optics, 200.0, recipe.acquisition.focus_nm, (32, 32), recipe.pixel_nm,
                  x_nm=3 * recipe.pixel_nm)  # fmt: skip
    energy = filters(torch.from_numpy(spot[:, None].astype(np.float32)))[0].square().sum(0)
    row, column = np.unravel_index(int(energy.argmax()), energy.shape)
    assert row in (7, 8)  # the window's middle, 16 px, is between blocks 7 and 8
    assert column == 9  # 19 px


def test_a_network_that_knows_the_truth_finds_it(task, batch):
    found, truth = task.found(perfect_output(task, batch)), task.truth(batch)
    score = ss.evaluate.score(found, truth, 100, 100)
    assert score.recall > 0.95  # the rest: closer together than two voxels
    assert score.precision == 1.0
    pairs = score.matches
    assert score.rmse_lateral_nm < 1.0
    middle_nm = task.grid.lowest_nm + 0.5 * task.grid.planes * task.grid.plane_nm
    off_nm = np.abs(truth["z_nm"][pairs.truth_rows] - middle_nm)
    uncut = off_nm < 0.5 * task.grid.planes * task.grid.plane_nm - 3 * task.grid.plane_nm
    assert np.all(pairs.axial_nm[uncut] < 5.0)  # a Gaussian cut by the grid's end has another mean
    np.testing.assert_allclose(
        found["photons"][pairs.found_rows], truth["photons"][pairs.truth_rows], rtol=1e-3
    )


def test_uncertainties_are_in_nm_and_photons(task, batch):
    found = task.found(perfect_output(task, batch))
    np.testing.assert_allclose(found["uncertainty_x_nm"], 0.1 * task.recipe.pixel_nm, rtol=1e-5)
    np.testing.assert_allclose(found["uncertainty_z_nm"], 0.1 * task.config.plane_nm, rtol=1e-5)
    np.testing.assert_allclose(found["uncertainty_photons"], 0.1 * found["photons"], rtol=1e-5)


def test_the_truth_has_a_lower_loss_than_any_shift_or_scale_of_it(task, batch):
    target, best = task.targets(batch), perfect_output(task, batch)
    loss = task.loss(best, target)
    planes = task.grid.planes
    for channel, change in ((0, 0.3), (planes, 0.3), (planes + 2, 0.3), (planes + 3, 0.3)):
        for sign in (-1, 1):
            worse = best.clone()
            part = slice(0, planes) if channel == 0 else slice(channel, channel + 1)
            worse[:, part] += sign * change
            assert task.loss(worse, target) > loss
    shifted = best.clone()
    shifted[:, :planes] = torch.roll(best[:, :planes], 1, dims=1)
    assert task.loss(shifted, target) > loss


def test_widths_are_learned_to_be_the_size_of_the_errors(task, batch):
    target, output = task.targets(batch), perfect_output(task, batch)
    planes = task.grid.planes
    output[:, planes] += 0.3
    losses = []
    for width in (0.1, 0.2, 0.3, 0.45, 0.8):
        output[:, planes + 4] = np.log(width)
        losses.append(float(task.loss(output, target)))
    assert int(np.argmin(losses)) == 2


def test_every_emitter_of_a_frame_is_on_its_grid_once(task, batch):
    voxels = task.targets(batch)[:, : task.grid.planes].sum(dim=(1, 2, 3)).numpy()
    counts = np.bincount(task.truth(batch)["frame"], minlength=len(voxels))
    np.testing.assert_allclose(voxels, counts, rtol=1e-4)


def test_a_grid_holds_all_heights_in_its_middle(astigmatic):
    recipe = astigmatic.replace("structure.z_nm", {"uniform": [-30.0, 220.0]})
    grid = grid_of(recipe, DeepStorm3dConfig(plane_nm=100, upsampling=2))
    assert (grid.planes, grid.lowest_nm) == (3, pytest.approx(-55.0))
    assert grid.voxel_nm == recipe.pixel_nm / 2


def test_columns_learn_of_the_nearest_emitter(task):
    crowd = ss.Simulator(task.recipe.replace("structure.density_per_um2", 5.0), seed=4).batch(0, 1)
    target, truth = task.targets(crowd).numpy(), task.truth(crowd)
    pixel, planes = task.recipe.pixel_nm, task.grid.planes
    frame, y, x = np.nonzero(~np.isnan(target[:, planes]))
    assert len(frame) > 2 * len(truth["frame"])
    for f, row, column in zip(frame, y, x, strict=True):
        mine = truth["frame"] == f
        dx = truth["x_nm"][mine] / pixel - column - 0.5
        dy = truth["y_nm"][mine] / pixel - row - 0.5
        nearest = np.argmin(np.hypot(dx, dy))
        place = target[f, planes : planes + 3, row, column]
        z = (truth["z_nm"][mine][nearest] - task.grid.lowest_nm) / task.grid.plane_nm
        np.testing.assert_allclose(place, [dx[nearest], dy[nearest], z], atol=1e-4)


def test_volume_peaks_are_those_of_a_search_by_hand():
    random = np.random.default_rng(1)
    density = random.random((2, 7, 20, 22)).astype(np.float32) ** 6
    peaks = volume_peaks(torch.from_numpy(density), 1.0)
    by_hand = {}
    for place in np.ndindex(density.shape):
        box = (place[0], *(slice(max(k - 2, 0), k + 3) for k in place[1:]))
        if density[place] == density[box].max() and density[box].sum() >= 1.0:
            by_hand[place] = density[box].sum()
    found = zip(zip(*(part.tolist() for part in peaks.places), strict=True), peaks.weight,
                strict=True)  # fmt: skip
    found = {place: float(weight) for place, weight in found}
    assert found.keys() == by_hand.keys()
    assert all(found[place] == pytest.approx(by_hand[place], rel=1e-4) for place in found)


@pytest.mark.parametrize("stride", [1, 2, 4])
def test_pixels_beyond_the_halo_change_nothing(astigmatic, batch, stride):
    made = DeepStorm3dTask(astigmatic, DeepStorm3dConfig(**TINY | {"stride": stride}))
    made.fit_scales(batch)
    images = np.zeros((1, 96, 96), batch.images.dtype) + batch.images[0, :1, :1]
    other = images.copy()
    other[0, 80:, :] += 300
    with torch.inference_mode():
        one, two = (made.network(made.inputs(image)) for image in (images, other))
    differs = torch.nonzero((one != two).any(dim=1))[:, 1]
    assert len(differs)
    assert 80 - int(differs.min()) <= made.halo_px


@pytest.mark.parametrize("stride", [1, 2, 4])
def test_a_tile_that_begins_at_a_multiple_of_the_stride_says_the_same(astigmatic, batch, stride):
    made = DeepStorm3dTask(astigmatic, DeepStorm3dConfig(**TINY | {"stride": stride}))
    made.fit_scales(batch)
    images = np.random.default_rng(2).poisson(120, (1, 104, 104)).astype(np.uint16)
    first, halo = 3 * made.stride_px, made.halo_px
    with torch.inference_mode():
        whole = made.network(made.inputs(images))[..., first:, first:]
        tile = made.network(made.inputs(images[:, first:, first:]))
    inner = (..., slice(halo, None), slice(halo, None))
    torch.testing.assert_close(tile[inner], whole[inner], rtol=1e-4, atol=1e-4)
    assert not torch.allclose(tile, whole, rtol=1e-4, atol=1e-4)


def test_frames_of_any_size_come_out_at_their_own_size(task):
    for shape in ((36, 44), (8, 8), (41, 57)):
        with torch.inference_mode():
            output = task.network(task.inputs(np.full((1, *shape), 150, np.uint16)))
        assert output.shape == (1, task.grid.planes + 8, *shape)


def test_training_lowers_the_loss_and_a_stored_network_answers_the_same(astigmatic, tmp_path):
    model = ss.learn.train(
        "deepstorm3d", astigmatic, out=tmp_path / "run", config=TINY, progress=False, **PLAN
    )
    losses = model.record["curves"]["validation_loss"]
    assert all(after < before for before, after in pairwise(losses))
    images = ss.Simulator(astigmatic, seed=9).batch(0, 2).images
    again = ss.learn.load(tmp_path / "run")
    np.testing.assert_array_equal(
        ss.learn.localize(model, images, threshold=0.01),
        ss.learn.localize(again, images, threshold=0.01),
    )


def test_one_seed_gives_one_network(astigmatic, tmp_path):
    first, second = (
        ss.learn.train(
            "deepstorm3d", astigmatic, out=tmp_path / name, config=TINY, progress=False, seed=2,
            **PLAN | {"steps": 3},
        ).task.network.state_dict()
        for name in ("a", "b")
    )  # fmt: skip
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_molecules_in_one_plane_make_a_grid_of_one_plane(batch):
    recipe = ss.load_recipe("smlm-2d-dense").replace("acquisition.shape", [32, 32])
    made = DeepStorm3dTask(recipe, DeepStorm3dConfig(**TINY | {"upsampling": 2}))
    flat = ss.Simulator(recipe, seed=1).batch(0, 2)
    made.fit_scales(flat)
    assert made.grid.planes == 1
    assert made.targets(flat).shape == (2, 5, 64, 64)
    found = made.found(perfect_output(made, flat))
    np.testing.assert_allclose(found["z_nm"], made.grid.lowest_nm + 0.5 * made.grid.plane_nm)


def test_optics_drawn_per_sample_have_no_filters_and_the_error_says_what_to_do(astigmatic):
    recipe = astigmatic.replace(
        "optics.wavefront", {"coefficients_nm": {7: {"uniform": [-20, 20]}}}
    )
    drawn = ss.Simulator(recipe, seed=1).batch(0, 2)
    with pytest.raises(TrainingError, match="matched_filters=0"):
        DeepStorm3dTask(recipe, DeepStorm3dConfig(**TINY)).fit_scales(drawn)
    without = DeepStorm3dTask(recipe, DeepStorm3dConfig(**TINY | {"matched_filters": 0}))
    without.fit_scales(drawn)
    output = without.network(without.inputs(drawn.images))
    assert torch.isfinite(without.loss(output, without.targets(drawn)))


def test_frames_without_light_hold_nothing_to_learn_from(astigmatic):
    made = DeepStorm3dTask(astigmatic, DeepStorm3dConfig(**TINY))
    empty = ss.Simulator(astigmatic.replace("structure.density_per_um2", 1e-6), seed=1)
    nothing = empty.batch(0, 2)
    with pytest.raises(TrainingError, match="raise the density"):
        made.fit_scales(nothing)
