"""Blind PSF regression: patches, spectra, maps; regressors' doubts, tables and refusals."""

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="PyTorch is not installed")
pytestmark = [
    pytest.mark.train,
    pytest.mark.filterwarnings("ignore::simscope.errors.SimscopeWarning"),
]

import simscope as ss  # noqa: E402
from simscope.errors import TrainingError  # noqa: E402
from simscope.learn.networks.psf_blind import (  # noqa: E402
    DECADES,
    PsfBlindConfig,
    PsfBlindTask,
    cut_patches,
    log_spectra,
    psf_parameters,
)
from simscope.learn.regressor import pooled  # noqa: E402
from simscope.learn.runs import make_task  # noqa: E402

FOCUS = "acquisition.focus_nm"
TINY = {"channels": 4, "patch_px": 16}
PLAN = {"steps": 8, "batch_size": 4, "validation_samples": 8, "validations": 2, "threads": 1}


@pytest.fixture(scope="module")
def recipe():
    return ss.load_recipe("psf-blind").replace_all(
        {"acquisition.shape": [34, 48], "structure.margin_nm": 500, "rendering.window_px": 9}
    )


@pytest.fixture(scope="module")
def model(recipe, tmp_path_factory):
    out = tmp_path_factory.mktemp("run")
    return ss.learn.train("psf-blind", recipe, out=out, progress=False, config=TINY, **PLAN)


@pytest.fixture(scope="module")
def batch(recipe):
    return ss.Simulator(recipe, 9).batch(0, 5)


def test_patches_lie_side_by_side_about_the_middle():
    frames = np.arange(2 * 7 * 9).reshape(2, 7, 9)
    patches = cut_patches(frames, 3)
    assert patches.shape == (2, 2, 3, 3, 3)
    assert np.array_equal(patches[1, 1, 2], frames[1, 3:6, 6:9])
    assert np.array_equal(patches[0, 0, 0], frames[0, 0:3, 0:3])


def test_noise_alone_has_the_spectrum_it_is_compared_with():
    photons = torch.from_numpy(np.random.default_rng(1).poisson(40.0, (64, 32, 32)).astype("f4"))
    spectra = log_spectra(photons, photons.mean(dim=(1, 2)))
    power = 10.0 ** (DECADES * spectra) - 0.1
    away = power[:, :12].mean()  # from zero frequency, whose level is taken off
    assert float(away) == pytest.approx(1.0, abs=0.05)  # some 5,000 free exponential variates


def test_spectra_are_those_of_a_fourier_transform():
    rng, side = np.random.default_rng(2), 16
    photons, variance = rng.normal(30, 5, (3, side, side)), np.array([4.0, 30.0, 100.0])
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(side) / (side - 1))
    across = np.outer(window, window)
    level = np.sum(photons * across, axis=(1, 2), keepdims=True) / across.sum()
    power = np.abs(np.fft.fftshift(np.fft.fft2((photons - level) * across), axes=(1, 2))) ** 2
    floor = variance[:, None, None] * np.sum(across**2)
    said = log_spectra(torch.from_numpy(photons).float(), torch.from_numpy(variance).float())
    np.testing.assert_allclose(said.numpy(), np.log10(power / floor + 0.1) / DECADES, atol=2e-3)


def test_an_input_does_not_change_with_the_brightness_of_a_noiseless_structure(recipe):
    task = PsfBlindTask(recipe, PsfBlindConfig(**TINY))
    noiseless = recipe.replace("background.photons_per_pixel", 0)
    clean = ss.Simulator(noiseless, 1).batch(0, 2, expected=True).expected_photons
    baseline, per_photon = 100.0, 0.8 / 0.5
    dim, bright = (task.inputs(clean * scale * per_photon + baseline)[:, 0] for scale in (50, 500))
    assert torch.allclose(dim, bright, atol=1e-3)


def test_every_patch_is_labelled_with_its_frame(recipe, batch):
    task = PsfBlindTask(recipe, PsfBlindConfig(**TINY))
    assert task.inputs(batch.images).shape == (5 * 6, 2, 16, 16)
    truth = task.truth(batch)[:, 0].reshape(5, 6)
    assert np.array_equal(truth, np.repeat(batch.parameters[FOCUS][:, None], 6, axis=1))


def test_doubts_are_fitted_by_likelihood_and_do_not_pull_on_values(recipe):
    task = PsfBlindTask(recipe, PsfBlindConfig(**TINY))
    target = torch.tensor([[0.3], [-0.2], [0.5], [0.1]])
    values = torch.tensor([[0.1], [0.1], [0.1], [0.1]], requires_grad=True)
    doubts = torch.zeros(4, 1, requires_grad=True)
    task.loss(torch.cat([values, doubts], dim=1), target).backward()
    assert torch.allclose(values.grad, 2 * (values.detach() - target) / 4)
    best = torch.log((values.detach() - target) ** 2).requires_grad_()
    task.loss(torch.cat([values.detach(), best], dim=1), target).backward()
    assert best.grad.abs().max() < 1e-6


def test_read_numbers_are_in_the_units_of_the_recipe(recipe, batch):
    task = PsfBlindTask(recipe, PsfBlindConfig(**TINY))
    task.fit_scales(batch)
    output = torch.cat([task.targets(batch), torch.full((30, 1), float(np.log(4)))], dim=1)
    assert np.allclose(task.read(output), task.truth(batch), rtol=1e-5)
    assert np.allclose(task.uncertainty(output), 2 * batch.parameters[FOCUS].std())
    assert task.judge(output, batch)["r2"] == pytest.approx(1)
    assert task.units == ("nm",)


def test_pooled_values_lean_to_the_surer_and_are_no_surer_than_their_members():
    values, doubts = np.array([[10.0], [40.0]]), np.array([[1.0], [2.0]])
    mean, doubt = pooled(values, doubts, 2)
    assert mean.item() == pytest.approx((10 + 40 / 4) / 1.25)
    assert doubt.item() == pytest.approx(np.sqrt(1 / 0.625))
    assert np.array_equal(pooled(values, doubts, 1)[0], values)


def test_a_run_comes_back_from_its_folder_and_reads_the_same(model, batch):
    again = ss.learn.load(model.folder)
    values, doubts = ss.learn.regress(model, batch.images, uncertainty=True)
    assert list(values) == [FOCUS]
    assert values[FOCUS].shape == doubts[FOCUS].shape == (5,)
    assert np.all(doubts[FOCUS] > 0)
    assert np.array_equal(ss.learn.regress(again, batch.images)[FOCUS], values[FOCUS])


def test_a_map_holds_at_each_place_what_its_patch_says(model, batch):
    field = ss.learn.regress_map(model, batch.images[0], stride_px=6)
    assert field.values[FOCUS].shape == (4, 6)
    assert np.array_equal(field.y_nm, (np.arange(0, 19, 6) + 8) * 100.0)
    alone = ss.learn.regress(model, batch.images[:1, 12:28, 30:46])[FOCUS]
    assert field.values[FOCUS][2, 5] == pytest.approx(alone.item(), rel=1e-3)
    table = field.table()
    assert list(table) == ["x_nm", "y_nm", FOCUS, f"{FOCUS} uncertainty"]
    assert table["x_nm"][1] - table["x_nm"][0] == pytest.approx(600)
    assert table["y_nm"][0] == table["y_nm"][1]


def test_frames_of_one_field_are_pooled_into_one_map(model, batch):
    several = ss.learn.regress_map(model, batch.images[:3])
    singles = [ss.learn.regress_map(model, image).values[FOCUS] for image in batch.images[:3]]
    assert several.values[FOCUS].shape == singles[0].shape
    assert np.all(several.values[FOCUS] >= np.min(singles, axis=0) - 1e-3)
    assert np.all(several.values[FOCUS] <= np.max(singles, axis=0) + 1e-3)


def test_tables_hold_numbers_and_uncertainties_of_datasets_and_tiffs(
    model, recipe, batch, tmp_path
):
    import tifffile
    from test_cli import run as command

    ss.generate(recipe, 5, 9, tmp_path / "data.h5")
    tifffile.imwrite(tmp_path / "data.tif", batch.images, photometric="minisblack")
    for name in ("data.h5", "data.tif"):
        out = tmp_path / f"{name}.csv"
        command("regress", model.folder, tmp_path / name, "--out", out)
    texts = [(tmp_path / f"data.{kind}.csv").read_text() for kind in ("h5", "tif")]
    assert texts[0] == texts[1]
    assert texts[0].splitlines()[0] == f"{FOCUS},{FOCUS} uncertainty"
    read = np.loadtxt(tmp_path / "data.h5.csv", delimiter=",", skiprows=1)
    assert read[:, 0] == pytest.approx(ss.learn.regress(model, batch.images)[FOCUS], rel=1e-4)


def test_only_numbers_that_shape_the_psf_are_read(recipe):
    assert psf_parameters(recipe) == (FOCUS,)
    aberrated = recipe.replace(
        "optics.wavefront", {"random_modes": [5, 7], "rms_nm": {"uniform": [0, 60]}}
    )
    modes = tuple(f"optics.wavefront.coefficients_nm.{mode}" for mode in (5, 7))
    assert psf_parameters(aberrated) == (FOCUS, *modes)
    chosen = make_task("psf-blind", aberrated, TINY | {"parameters": [modes[1]]})
    assert chosen.paths == (modes[1],)


@pytest.mark.parametrize(
    ("changes", "config", "message"),
    [
        ({FOCUS: 0}, {}, "draws nothing of its PSF"),
        ({}, {"patch_px": 64}, "at least 64 x 64"),
        ({}, {"patch_px": 20}, "no multiple of 8"),
        ({}, {"parameters": ["structure.fill"]}, "is not drawn; choose of acquisition.focus_nm"),
        ({"acquisition.frames": 2}, {}, "stacks or movies"),
        ({}, {"centres": [1.0, 2.0], "spreads": [1.0, 1.0]}, "draws 1 numbers"),
    ],
)
def test_recipes_and_configs_that_do_not_fit_are_refused(recipe, changes, config, message):
    with pytest.raises(TrainingError, match=message):
        make_task("psf-blind", recipe.replace_all(changes), TINY | config)


def test_images_that_cannot_be_read_are_refused(model, batch, tmp_path):
    with pytest.raises(TrainingError, match="at least 16 x 16"):
        ss.learn.regress(model, batch.images[:, :12])
    with pytest.raises(TrainingError, match="NaN"):
        ss.learn.regress(model, np.full((1, 16, 16), np.nan))
    with pytest.raises(TrainingError, match="stride_px=0"):
        ss.learn.regress_map(model, batch.images[0], stride_px=0)
    finer = model.recipe.replace_all(
        {"optics.magnification": 130, "structure.voxel_nm": [200, 50, 50]}
    )
    path = ss.generate(finer, 1, 1, tmp_path / "finer.h5")
    with pytest.raises(TrainingError, match="pixels of 50 nm"):
        ss.learn.regress(model, path)


@pytest.mark.slow
def test_an_exported_network_reads_counts_of_a_patch(model, batch, tmp_path):
    path = ss.learn.export_model(model, tmp_path / "shared.pt2", "torch-export")
    exported = torch.export.load(path).module()
    counts = torch.from_numpy(batch.images[:2, None, :16, :16].astype(np.float32))
    read = model.task.read(exported(counts).detach())
    alone = ss.learn.regress(model, batch.images[:2, :16, :16])[FOCUS]
    assert read[:, 0] == pytest.approx(alone, abs=0.02 * model.task.config.spreads[0])  # bfloat16
