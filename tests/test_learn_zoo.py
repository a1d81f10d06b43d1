"""Exported models give the same output in other people's software, from raw counts."""

import zipfile

import numpy as np
import pytest
import yaml

torch = pytest.importorskip("torch", reason="PyTorch is not installed")
pytestmark = [
    pytest.mark.train,
    pytest.mark.filterwarnings("ignore::simscope.errors.SimscopeWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]

import simscope as ss  # noqa: E402
from simscope.errors import TrainingError  # noqa: E402
from simscope.learn import bioimageio  # noqa: E402
from simscope.learn.compute import run_network  # noqa: E402
from simscope.learn.networks import NETWORKS  # noqa: E402
from simscope.learn.portable import any_size, planes_of, portable  # noqa: E402
from simscope.learn.runs import TrainedModel, make_task  # noqa: E402

PLAN = {"steps": 2, "batch_size": 4, "validation_samples": 4, "threads": 1, "progress": False}
TINY = {
    "deepstorm-slim": {"channels": 8, "dilations": [1, 2]},
    "unet": {"channels": 8, "levels": 2},
    "zernike": {"channels": 8},
}


@pytest.fixture(scope="module")
def frames():
    recipe = ss.load_recipe("smlm-2d-dense").replace("acquisition.shape", [40, 48])
    recipe = recipe.replace("rendering.window_px", 9)
    return recipe.replace("rendering.accept_energy_loss", True)


@pytest.fixture(scope="module")
def stacks():
    recipe = ss.load_recipe("psf-zernike").replace("acquisition.shape", [16, 16])
    return recipe.replace("acquisition.focus_nm", {"start_nm": -500, "stop_nm": 500, "planes": 3})


@pytest.fixture(scope="module")
def models(frames, stacks, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    return {
        kind: ss.learn.train(
            kind, stacks if kind == "zernike" else frames, out=folder / kind, config=config, **PLAN
        )
        for kind, config in TINY.items()
    }


def own_output(model, counts):
    """The network's output by the way that localize and regress go."""
    task = model.task
    stacks = planes_of(task) > 1
    return run_network(task, counts if stacks else counts[:, 0]).numpy()


def other_counts(model, count=3):
    """Counts of other samples, of another size where the network takes any."""
    recipe = model.recipe
    if any_size(model.task):
        recipe = recipe.replace("acquisition.shape", [56, 44])
    images = ss.Simulator(recipe, 99).batch(0, count).images
    return images.reshape(count, -1, *images.shape[-2:]).astype(np.float32)


@pytest.fixture(scope="module")
def packages(models, tmp_path_factory):
    folder = tmp_path_factory.mktemp("packages")
    about = {"authors": ("A. Person",), "title": "A title"}
    return {
        kind: ss.learn.export_model(model, folder / f"{kind}.zip", "bioimageio", **about)
        for kind, model in models.items()
    }


@pytest.mark.parametrize("kind", TINY)
def test_onnx_gives_the_same_output_from_counts(models, packages, kind):
    runtime = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    with zipfile.ZipFile(packages[kind]) as package:
        session = runtime.InferenceSession(package.read("weights.onnx"))
    counts = other_counts(models[kind])
    (output,) = session.run(None, {"counts": counts})
    own = own_output(models[kind], counts)
    np.testing.assert_allclose(output, own, atol=1e-4 * np.abs(own).max(), rtol=0)


@pytest.mark.parametrize("kind", NETWORKS)
def test_every_network_can_be_made_part_of_a_portable_one(kind, frames, stacks, tmp_path):
    blind = ss.load_recipe("psf-blind").replace("acquisition.shape", [64, 64])
    recipe = {"zernike": stacks, "psf-blind": blind}.get(kind, frames)
    small = {"deepstorm": {}, "deepstorm3d": {"channels": 8, "matched_filters": 0}}
    task = make_task(kind, recipe, small.get(kind, {"channels": 8}))
    task.fit_scales(ss.Simulator(recipe, 1).batch(0, 4))
    _, counts, output = portable(TrainedModel(task, {}, tmp_path))  # compares both ways itself
    assert len(output) == len(counts) == 1


@pytest.mark.parametrize("kind", TINY)
def test_torch_export_gives_the_same_output_from_counts(models, kind, tmp_path):
    path = ss.learn.export_model(models[kind], tmp_path / "model.pt2", "torch-export")
    counts = other_counts(models[kind])
    with torch.inference_mode():
        output = torch.export.load(path).module()(torch.from_numpy(counts)).numpy()
    own = own_output(models[kind], counts)
    np.testing.assert_allclose(output, own, atol=1e-4 * np.abs(own).max(), rtol=0)


@pytest.mark.parametrize("kind", TINY)
def test_bioimageio_package_is_valid_and_gives_the_same_output(models, packages, kind):
    spec = pytest.importorskip("bioimageio.spec", reason="bioimageio.spec is not installed")
    core = pytest.importorskip("bioimageio.core", reason="bioimageio.core is not installed")
    pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    described = spec.load_description(packages[kind], perform_io_checks=True)
    assert not isinstance(described, spec.InvalidDescr), described.validation_summary.format()
    assert described.name == "A title"
    assert described.authors[0].name == "A. Person"
    assert core.test_model(described).status == "passed"
    counts = other_counts(models[kind])
    sample = core.digest_spec.create_sample_for_model(described, inputs={"counts": counts})
    predicted = core.predict(model=described, inputs=sample)
    output = predicted.members["output"].data.values
    own = own_output(models[kind], counts)
    np.testing.assert_allclose(output, own, atol=1e-4 * np.abs(own).max(), rtol=0)


def test_a_package_carries_the_run_and_plain_onnx(models, packages):
    folder = models["deepstorm-slim"].folder
    with zipfile.ZipFile(packages["deepstorm-slim"]) as package:
        assert package.read("run.json") == (folder / "run.json").read_bytes()
        assert package.read("config.json") == (folder / "config.json").read_bytes()
        described = yaml.safe_load(package.read("bioimageio.yaml"))
    assert described["weights"].keys() == {"onnx"}
    assert described["inputs"][0]["axes"][2]["size"] == {"min": 32, "step": 1}


def test_a_package_says_how_fine_the_output_is(models):
    small, fine = torch.zeros(1, 1, 8, 10), torch.zeros(1, 1, 64, 80)
    described = bioimageio._output(models["deepstorm-slim"], {"output.npy": b""}, small, fine)
    assert [axis["scale"] for axis in described["axes"][2:]] == [12.5, 12.5]  # nm, of pixels of 100
    assert [axis["size"]["axis_id"] for axis in described["axes"][2:]] == ["y", "x"]


def test_a_network_with_inputs_of_its_own_is_not_exported_wrong(models, monkeypatch):
    task = models["deepstorm-slim"].task
    own = type(task).inputs
    monkeypatch.setattr(type(task), "inputs", lambda self, images: 2 * own(self, images))
    with pytest.raises(TrainingError, match="a way of its own"):
        portable(models["deepstorm-slim"])


def test_wishes_that_cannot_be_met_are_refused(models, tmp_path):
    model = models["deepstorm-slim"]
    with pytest.raises(TrainingError, match="did you mean 'bioimageio'"):
        ss.learn.export_model(model, tmp_path / "a", "bioimage")
    with pytest.raises(TrainingError, match="license is for bioimageio"):
        ss.learn.export_model(model, tmp_path / "a", "onnx", license="MIT")
    (tmp_path / "there.onnx").write_text("mine")
    with pytest.raises(ss.SimscopeError, match="exists"):
        ss.learn.export_model(model, tmp_path / "there.onnx")
    with pytest.raises(TrainingError, match="5 to 128"):
        ss.learn.export_model(model, tmp_path / "a.zip", "bioimageio", title="Mine")
    assert (tmp_path / "there.onnx").read_text() == "mine"
