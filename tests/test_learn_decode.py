"""DECODE: its loss is the paper's, truth is its least, and its table says what its pixels say."""

import math

import numpy as np
import pytest
from reference_learn import decode_loss

torch = pytest.importorskip("torch", reason="PyTorch is not installed")
pytestmark = [
    pytest.mark.train,
    pytest.mark.filterwarnings("ignore::simscope.errors.SimscopeWarning"),
]

from small_worlds import movie, snapshot  # noqa: E402

import simscope as ss  # noqa: E402
from simscope.learn.networks.decode import (  # noqa: E402
    CHANNELS,
    LARGEST_WIDTH,
    LEAST_WIDTH,
    Z_ROOM,
    DecodeConfig,
    DecodeTask,
    count_loss,
    predictions,
)
from simscope.learn.portable import planes_of  # noqa: E402

TINY = {"channels": 8, "dilations": (1, 2)}
TINY_UNET = {"trunk": "unet", "channels": 4}
PLAN = {"steps": 60, "batch_size": 8, "validation_samples": 8, "validations": 3, "threads": 1}


def task_for(recipe, **config):
    torch.manual_seed(0)
    task = DecodeTask(recipe, DecodeConfig(**(TINY | config)))
    task.fit_scales(ss.Simulator(recipe, 1).batch(0, 8))
    task.network.eval()
    return task


@pytest.fixture(scope="module")
def deep():
    """A task over heights, and a batch of well-separated emitters."""
    return task_for(snapshot()), ss.Simulator(snapshot(), 2).batch(0, 8)


@pytest.fixture(scope="module")
def flat():
    return task_for(snapshot().replace("structure.z_nm", 40.0))


def raw_output(shape, emitters, width=0.05, probability=0.999):
    """Raw output (1, CHANNELS, y, x) that says these emitters, each in the pixel it lies in."""
    output = torch.full((1, CHANNELS, *shape), -12.0)
    output[:, 1:] = 0.0
    output[:, 5:] = math.log((width - LEAST_WIDTH) / (LARGEST_WIDTH - width + LEAST_WIDTH))
    for x, y, z, photons in np.asarray(emitters, float):
        row, column = int(y), int(x)
        output[0, 0, row, column] = math.log(probability / (1 - probability))
        output[0, 1, row, column] = math.atanh(x - column - 0.5)
        output[0, 2, row, column] = math.atanh(y - row - 0.5)
        output[0, 3, row, column] = math.atanh(z / Z_ROOM)
        output[0, 4, row, column] = math.log(math.expm1(photons))
    return output


def random_output(frames, shape, seed=5):
    generator = torch.Generator().manual_seed(seed)
    output = torch.randn(frames, CHANNELS, *shape, generator=generator)
    output[:, 0] -= 1.0
    return output


EMITTERS = [(2.2, 3.7, 0.5, 1.2), (6.9, 1.1, -0.8, 0.4), (0.05, 6.98, 0.1, 2.0)]


def padded(*lists):
    longest = max(map(len, lists))
    target = torch.full((len(lists), max(longest, 1), 4), math.nan)
    for row, emitters in enumerate(lists):
        if emitters:
            target[row, : len(emitters)] = torch.tensor(emitters)
    return target


@pytest.mark.parametrize("with_height", [True, False])
def test_the_loss_is_that_of_the_paper(deep, flat, with_height):
    task = task_for(deep[0].recipe if with_height else flat.recipe, reach_px=9)
    output, lists = random_output(3, (7, 9)), [EMITTERS, [], EMITTERS[1:2]]
    said, use = predictions(output), [0, 1, 2, 3] if with_height else [0, 1, 3]
    expected = sum(
        decode_loss(
            torch.sigmoid(said.log_odds[k]).double().numpy(),
            said.values[k, use].numpy(),
            said.widths[k, use].numpy(),
            [[emitter[i] for i in use] for emitter in emitters],
        )
        for k, emitters in enumerate(lists)
    )
    loss = task.loss(output, padded(*lists))
    assert float(loss) == pytest.approx(expected / 4, rel=1e-5)


def test_pixels_beyond_reach_do_not_matter_once_widths_are_below_a_third_of_a_pixel(deep):
    output = random_output(1, (16, 16))
    output[:, 5:7] = -2.5
    target = padded([(5.3, 8.2, 0.5, 1.2), (9.6, 7.5, -0.2, 0.8)])
    near = deep[0].loss(output, target)
    everywhere = task_for(deep[0].recipe, reach_px=16).loss(output, target)
    assert float(near) == pytest.approx(float(everywhere), abs=1e-5)


def test_order_and_padding_of_emitters_change_nothing(deep):
    output = random_output(2, (8, 8))
    loss = deep[0].loss(output, padded(EMITTERS, EMITTERS[:1]))
    turned = deep[0].loss(output, padded(EMITTERS[::-1], EMITTERS[:1]))
    longer = torch.cat([padded(EMITTERS, EMITTERS[:1]), torch.full((2, 5, 4), math.nan)], dim=1)
    assert float(turned) == pytest.approx(float(loss), abs=1e-5)
    assert float(deep[0].loss(output, longer)) == pytest.approx(float(loss), abs=1e-6)


def test_the_loss_is_least_where_the_output_tells_the_truth(deep):
    task, target = deep[0], padded(EMITTERS)
    least = float(task.loss(raw_output((8, 8), EMITTERS), target))
    for axis, step in [(0, 0.03), (0, -0.03), (1, 0.03), (2, -0.1), (3, 0.2)]:
        moved = [list(emitter) for emitter in EMITTERS]
        moved[1][axis] += step
        assert float(task.loss(raw_output((8, 8), moved), target)) > least + 0.01
    assert float(task.loss(raw_output((8, 8), EMITTERS[:2]), target)) > least + 1
    one_more = [*EMITTERS, (4.5, 4.5, 0.0, 1.0)]
    assert float(task.loss(raw_output((8, 8), one_more), target)) > least + 1


def test_the_count_likelihood_is_best_at_the_true_probability():
    pixels, true = 40, 0.2
    counts = np.arange(pixels + 1)
    share = torch.tensor([math.comb(pixels, k) * true**k * (1 - true) ** (pixels - k)
                          for k in counts.tolist()])  # fmt: skip
    log_odds = torch.full((1, 5, 8), math.log(true / (1 - true)), requires_grad=True)
    repeated = log_odds.expand(len(counts), -1, -1)
    (share * count_loss(repeated, torch.from_numpy(counts))).sum().backward()
    assert float(log_odds.grad.abs().max()) < 1e-6
    with torch.no_grad():
        expected = [
            float((share * count_loss(repeated + shift, torch.from_numpy(counts))).sum())
            for shift in (-0.2, 0.0, 0.2)
        ]
    assert expected[1] < min(expected[0], expected[2])


def test_a_frame_of_certainties_is_counted_to_a_tenth_of_an_emitter():
    nothing = torch.full((2, 5, 8), -30.0)  # the variance is kept above 0.01
    told = count_loss(nothing, torch.tensor([0, 1])).tolist()
    sure = 0.5 * math.log(2 * math.pi * 0.01)
    assert told == pytest.approx([sure, sure + 0.5 / 0.01])


def test_a_frame_without_emitters_teaches_to_find_none(deep):
    raw = random_output(1, (8, 8)).requires_grad_()
    deep[0].loss(raw, padded([])).backward()
    assert torch.isfinite(raw.grad).all()
    assert (raw.grad[:, 0] > 0).all()


def test_training_begins_with_the_mean_density_and_widths_of_a_pixel(deep):
    task, batch = deep
    said = predictions(task.network(task.inputs(batch.images)))
    per_frame = task.config.emitters_per_pixel * 24 * 20
    assert torch.sigmoid(said.log_odds).sum().item() / 8 == pytest.approx(per_frame, rel=0.3)
    assert said.widths.mean().item() == pytest.approx(1.0, abs=0.1)
    assert said.values[:, 3].mean().item() == pytest.approx(1.0, abs=0.2)


def test_an_output_that_tells_the_truth_is_read_back_as_the_truth(deep):
    task, batch = deep
    truth, targets = task.truth(batch), task.targets(batch)
    output = torch.cat(
        [raw_output((24, 20), emitters[~emitters[:, 0].isnan()]) for emitters in targets]
    )
    found = task.found(output)
    pairs = ss.evaluate.match(found, truth, 1.0)
    in_pixel = np.stack([truth["frame"], truth["y_nm"] // 100, truth["x_nm"] // 100])
    assert len(pairs) == len(found) == len(np.unique(in_pixel, axis=1).T)
    assert np.all(np.diff(found["frame"]) >= 0)
    for name, rms in (("x_nm", 0.01), ("y_nm", 0.01), ("z_nm", 0.1), ("photons", 1.0)):
        error = found[name][pairs.found_rows] - truth[name][pairs.truth_rows]
        np.testing.assert_allclose(error, 0, atol=rms)
    np.testing.assert_allclose(found["uncertainty_x_nm"], 5.0, rtol=1e-3)
    np.testing.assert_allclose(
        found["uncertainty_z_nm"], 0.05 * task.config.half_range_nm, rtol=1e-3
    )
    figures = task.judge(output, batch)
    assert figures["precision"] == 1
    assert figures["rms_z_score_x"] < 0.01


def test_judgement_tells_errors_in_stated_uncertainties(deep):
    task, batch = deep
    shifted = [target[~target[:, 0].isnan()] for target in task.targets(batch)]
    for target in shifted:
        target[:, 0] += 0.15  # three widths of 0.05
        target[:, 3] += 0.1  # two
    figures = task.judge(torch.cat([raw_output((24, 20), target) for target in shifted]), batch)
    assert figures["rms_z_score_x"] == pytest.approx(3, rel=0.05)
    assert figures["rms_z_score_photons"] == pytest.approx(2, rel=0.05)
    assert figures["rms_z_score_y"] < 0.5


def test_the_middle_of_the_heights_and_their_range_come_from_the_data(deep):
    config = deep[0].config
    assert config.middle_nm == pytest.approx(0, abs=30)
    assert config.half_range_nm == pytest.approx(190, abs=30)


def test_an_emitter_between_two_pixels_counts_once_with_the_sum_of_their_probabilities(deep):
    output = raw_output((8, 8), [(2.98, 3.5, 0.0, 1.0)], probability=0.4)
    beside = raw_output((8, 8), [(3.02, 3.5, 0.0, 2.0)], probability=0.5)
    output[0, :, 3, 3] = beside[0, :, 3, 3]
    found = deep[0].found(output, 0.7)
    assert len(found) == 1
    assert found["probability"][0] == pytest.approx(0.9, abs=1e-4)
    assert found["x_nm"][0] == pytest.approx(100 * (0.4 * 2.98 + 0.5 * 3.02) / 0.9, abs=0.01)
    spread = np.hypot(5.0, 100 * 0.04 * np.sqrt(0.4 * 0.5) / 0.9)
    assert found["uncertainty_x_nm"][0] == pytest.approx(spread, rel=1e-3)
    assert len(deep[0].found(output, 0.95)) == 0


def test_an_emitter_at_the_corner_of_four_pixels_counts_by_their_sum(deep):
    places = [(2.99, 2.99, 0.3), (3.01, 2.99, 0.2), (2.99, 3.01, 0.2), (3.01, 3.01, 0.2)]
    output = raw_output((8, 8), [])
    for x, y, probability in places:
        one = raw_output((8, 8), [(x, y, 0.0, 1.0)], probability=probability)
        output[0, :, int(y), int(x)] = one[0, :, int(y), int(x)]
    found = deep[0].found(output, 0.85)
    assert found["probability"].tolist() == pytest.approx([0.9], abs=1e-3)
    output[0, 0, 2, 2] = math.log(0.21 / 0.79)  # none of them has a third of what is asked
    assert len(deep[0].found(output, 0.8)) == 1


def test_sure_pixels_side_by_side_are_two_emitters_unless_they_speak_of_one_place(deep):
    apart = raw_output((8, 8), [(2.2, 3.5, 0.0, 1.0), (3.8, 3.5, 0.0, 1.0)])
    assert len(deep[0].found(apart)) == 2
    for probability, emitters in ((0.7, 2), (0.5, 1)):  # beside one that is surer
        beside = raw_output((8, 8), [(3.8, 3.5, 0.0, 1.0)], probability=probability)
        apart[0, :, 3, 3] = beside[0, :, 3, 3]
        assert len(deep[0].found(apart)) == emitters
    together = raw_output((8, 8), [(2.9, 3.5, 0.0, 1.0), (3.1, 3.5, 0.0, 1.0)])
    found = deep[0].found(together)
    assert len(found) == 1
    assert found["probability"][0] == 1


def test_molecules_of_one_height_get_it_without_uncertainty(flat):
    found = flat.found(raw_output((8, 8), EMITTERS))
    assert (found["z_nm"] == 40.0).all()
    assert np.isnan(found["uncertainty_z_nm"]).all()
    assert np.isfinite(found["uncertainty_photons"]).all()


def test_movies_are_seen_with_their_neighbours_and_single_frames_alone():
    assert task_for(snapshot()).context == 0
    assert task_for(movie()).context == 1
    assert planes_of(task_for(movie())) == 3
    assert task_for(movie(), context_frames=0).context == 0


@pytest.mark.parametrize("config", [TINY, TINY_UNET])
def test_a_frame_of_a_movie_sees_the_one_before_and_after_and_no_other_movie(config):
    task = task_for(movie(5), **config)
    images = ss.Simulator(movie(5), 2).batch(0, 3).images
    changed = images.copy()
    changed[1, 0] += 50
    changed[2, 3] += 50
    with torch.no_grad():
        before, after = (task.network(task.inputs(x)) for x in (images, changed))
    differs = (before != after).flatten(1).any(dim=1).reshape(3, 5)
    assert differs.tolist() == [[False] * 5, [True, True, False, False, False],
                                [False, False, True, True, True]]  # fmt: skip


def test_beyond_the_ends_of_a_movie_its_end_frames_come_again():
    task = task_for(movie(4))
    images = ss.Simulator(movie(4), 2).batch(0, 2).images
    inputs = task.inputs(images)
    assert inputs.shape == (8, 6, 24, 20)
    assert torch.equal(inputs[4, 0], inputs[4, 1])
    assert torch.equal(inputs[3, 1], inputs[3, 2])
    assert torch.equal(inputs[2, 2], inputs[3, 1])
    assert torch.equal(task.inputs(images[1]), inputs[4:])


@pytest.mark.parametrize("config", [TINY, TINY_UNET])
def test_no_pixel_beyond_the_halo_matters(config):
    task = task_for(snapshot(), **config)
    far, side = task.halo_px - 2, 2 * task.halo_px + 2
    images = torch.zeros(2, 2, side, side)
    images[1, :, 0, 0] = 100.0
    with torch.no_grad():
        plain, struck = task.network(images)
    reached = (plain != struck).any(dim=0).nonzero().max().item()
    assert reached <= far
    assert reached == far or config is TINY_UNET


def test_a_unet_takes_frames_of_any_size_and_is_as_large_as_published():
    task = task_for(snapshot().replace("acquisition.shape", [19, 23]), **TINY_UNET)
    images = ss.Simulator(task.recipe, 1).batch(0, 2).images
    assert task.network(task.inputs(images)).shape == (2, CHANNELS, 19, 23)
    published = DecodeTask(movie(), DecodeConfig(trunk="unet", channels=48))
    assert sum(w.numel() for w in published.network.parameters()) > 1_000_000
    assert published.stride_px == 4


def test_training_lowers_the_loss_and_a_loaded_run_finds_the_same(tmp_path):
    run = ss.learn.train(
        "decode", movie(3), out=tmp_path / "run", seed=3, config=TINY, progress=False, **PLAN
    )
    losses = run.record["curves"]["validation_loss"]
    assert losses[-1] < losses[0]
    images = ss.Simulator(movie(3), 9).batch(0, 3).images
    again = ss.learn.load(tmp_path / "run")
    assert again.task.context == 1
    found, same = (ss.learn.localize(model, images, threshold=0.05) for model in (run, again))
    assert len(found)
    np.testing.assert_array_equal(found, same)
