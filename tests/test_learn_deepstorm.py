"""Deep-STORM, as published and slim: layers, loss and reading are those of the paper."""

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
from simscope.learn.compute import run_network  # noqa: E402
from simscope.learn.runs import make_task  # noqa: E402

RECIPE = ss.load_recipe("smlm-2d-dense").replace_all(
    {
        "acquisition.shape": [20, 24],
        "structure.density_per_um2": 0.5,
        "rendering.window_px": 9,
        "rendering.accept_energy_loss": True,
    }
)
KINDS = ("deepstorm", "deepstorm-slim")
SMALL = {"deepstorm": {"widths": [8, 16, 16, 32]}, "deepstorm-slim": {"channels": 8}}


def small(kind, recipe=RECIPE):
    task = make_task(kind, recipe, SMALL[kind])
    batch = ss.Simulator(recipe, 3).batch(0, 6)
    task.fit_scales(batch)
    return task, batch


def test_the_published_network_has_the_published_weights():
    network = make_task("deepstorm", RECIPE).network
    widths = (1, 32, 64, 128, 512, 128, 64, 32)
    filters = sum(9 * before * after for before, after in pairwise(widths))
    normalised = 2 * sum(widths[1:])
    assert sum(w.numel() for w in network.parameters()) == filters + normalised + 32
    assert network(torch.zeros(1, 1, 5, 7)).shape == (1, 1, 40, 56)
    stages = [part for part in network.modules() if isinstance(part, torch.nn.BatchNorm2d)]
    assert {part.eps for part in stages} == {1e-3}  # that of Keras


def test_the_slim_network_has_about_66_000_weights():
    network = make_task("deepstorm-slim", RECIPE).network
    assert 60_000 <= sum(w.numel() for w in network.parameters()) <= 72_000


def plain_blur(image, total):
    """Gaussian of one cell on 7x7 cells, summing to ``total``, by plain sums."""
    cells = np.arange(7) - 3
    kernel = np.exp(-(cells[:, None] ** 2 + cells**2) / 2)
    kernel *= total / kernel.sum()
    padded, blurred = np.pad(image, 3), np.zeros_like(image)
    for y in range(7):
        for x in range(7):
            blurred += kernel[y, x] * padded[y : y + image.shape[0], x : x + image.shape[1]]
    return blurred


def test_the_published_loss_is_that_of_the_paper():
    """Against sums written out: squared error of spikes * g (sum 2) to 100 spots, plus |spikes|."""
    task, batch = small("deepstorm")
    spikes = torch.from_numpy(np.random.default_rng(1).normal(0, 20, (6, 1, 160, 192))).float()
    loss = task.loss(spikes, task.targets(batch))
    expected, truth = 0.0, task.truth(batch)
    for frame in range(6):
        true = np.zeros((160, 192))
        for row in np.flatnonzero(truth["frame"] == frame):
            true[int(truth["y_nm"][row] // 12.5), int(truth["x_nm"][row] // 12.5)] += 1
        guess = spikes[frame, 0].numpy().astype(float)
        squared = (plain_blur(guess, 2.0) - plain_blur(true, 100.0)) ** 2
        expected += (squared.mean() + np.abs(guess).mean()) / 6
    assert float(loss) == pytest.approx(expected, rel=1e-4)


def test_spikes_of_fifty_in_the_true_cells_are_read_as_the_emitters():
    task, batch = small("deepstorm")
    spikes = 50 * torch.from_numpy(task.true_map(batch, 0.0))[:, None]
    figures = task.judge(spikes, batch)
    assert figures["jaccard"] > 0.9
    # uniform within cells of 12.5 nm; those that share a peak with a neighbour add a little
    assert figures["rmse_lateral_nm"] == pytest.approx(12.5 / np.sqrt(6), rel=0.4)
    probability = task.found(spikes)["probability"]
    assert np.median(probability) == pytest.approx(1, abs=0.01)


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_beyond_the_halo_matters(kind):
    """Tiles rest on it; and the halo is no more than a few pixels too wide."""
    wide = RECIPE.replace("acquisition.shape", [64, 24])
    task = make_task(kind, wide, SMALL[kind] | ({"dilations": [1, 2]} if "slim" in kind else {}))
    task.fit_scales(ss.Simulator(wide, 3).batch(0, 4))
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(1)
        for weights in task.network.parameters():
            weights.uniform_(-0.5, 0.5)
    images = ss.Simulator(wide, 4).batch(0, 1).images.astype(np.float32)
    changed = images.copy()
    changed[:, 40:] += 1000
    difference = (run_network(task, images) != run_network(task, changed)).any(dim=(0, 1, 3))
    fine = difference.shape[0] // 64
    first_px = int(difference.nonzero()[0]) // fine
    reached = 40 - first_px
    radius = task.halo_px - task.reach_px - (kind == "deepstorm")  # a pixel is for the blur
    assert radius - 2 <= reached <= radius


@pytest.mark.parametrize("kind", KINDS)
def test_a_few_steps_on_small_frames_lower_the_loss(kind, tmp_path):
    recipe = RECIPE.replace_all({"acquisition.shape": [16, 16], "structure.density_per_um2": 2.0})
    model = ss.learn.train(
        kind, recipe, out=tmp_path / "run", config=SMALL[kind], steps=40, batch_size=4,
        validation_samples=8, validations=4, threads=1, progress=False,
    )  # fmt: skip
    losses = model.record["curves"]["validation_loss"]
    assert losses[-1] < losses[0]
    for part in model.task.network.modules():  # levels are learned after looks, too
        if isinstance(part, torch.nn.BatchNorm2d):
            assert part.num_batches_tracked == model.record["curves"]["step"][np.argmin(losses)]
    frames = ss.Simulator(recipe, 9).batch(0, 2).images
    found = ss.learn.localize(tmp_path / "run", frames, threshold=0.1)
    assert set(found["frame"]) <= {0, 1}


@pytest.mark.parametrize("kind", KINDS)
def test_recipes_without_molecules_are_refused(kind):
    task = make_task(kind, RECIPE, SMALL[kind])
    dark = RECIPE.replace("structure.density_per_um2", 0.0)
    with pytest.raises(TrainingError, match="raise the density"):
        task.fit_scales(ss.Simulator(dark, 1).batch(0, 2))


def test_the_published_network_tells_no_photons_and_its_table_is_written(tmp_path):
    task, batch = small("deepstorm")
    found = task.found(50 * torch.from_numpy(task.true_map(batch, 0.0))[:, None])
    assert np.isnan(found["photons"]).all()
    ss.dataset.write_localizations(tmp_path / "found.csv", found)
    assert len(ss.dataset.read_localizations(tmp_path / "found.csv")) == len(found)
