"""Training and use of networks: what cannot work is refused whole, in one sentence."""

import os
import re
import subprocess
import sys

import numpy as np
import pytest
import typer
from typer.testing import CliRunner

torch = pytest.importorskip("torch", reason="PyTorch is not installed")
pytestmark = [
    pytest.mark.train,
    pytest.mark.filterwarnings("ignore::simscope.errors.SimscopeWarning"),
]

from safetensors import SafetensorError  # noqa: E402
from safetensors.numpy import load_file, save_file  # noqa: E402
from small_worlds import snapshot  # noqa: E402

import simscope as ss  # noqa: E402
from simscope import cli  # noqa: E402
from simscope.errors import SimscopeWarning, TrainingError  # noqa: E402
from simscope.learn.runs import TrainedModel, make_task  # noqa: E402
from simscope.tiff import read_tiff, tiff_stack  # noqa: E402

TINY = {"channels": 8, "dilations": [1]}
SHORT = {"steps": 2, "batch_size": 2, "validation_samples": 4, "validations": 1, "threads": 1}


def train(out, network="deepstorm-slim", recipe=None, config=TINY, **others):
    return ss.learn.train(
        network, recipe or snapshot(), out=out, config=config, progress=False, **SHORT | others
    )


def refused(*words):
    """The message a command refuses with."""
    result = CliRunner().invoke(cli.app, list(map(str, words)))
    assert result.exit_code == 2, result.output
    assert isinstance(result.exception, SystemExit)
    return result.stderr


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--minutes", "0"], "minutes.*greater than 0"),
        (["--steps", "3", "--plan", "steps=5"], "--plan steps is given as an option"),
    ],
)
def test_budgets_of_nothing_or_given_twice_are_refused(tmp_path, words, says):
    (tmp_path / "small.yaml").write_text(snapshot().to_yaml())
    said = refused(
        "train", "deepstorm-slim", tmp_path / "small.yaml", "--out", tmp_path / "run", *words
    )
    assert re.search(says, said)


@pytest.mark.parametrize(
    ("config", "others"),
    [
        (TINY, {"seed": -1}),
        (TINY, {"learning_rate": 1e30}),
        (TINY, {"recipe": snapshot().replace("structure.density_per_um2", 0)}),
        (TINY | {"channels": 10**10}, {}),
        (TINY | {"dilations": [10**6]}, {}),
    ],
)
def test_training_that_fails_leaves_no_folder(tmp_path, config, others):
    with pytest.raises(ss.SimscopeError):
        train(tmp_path / "a" / "run", config=config, **others)
    assert not (tmp_path / "a" / "run").exists()


def test_a_refused_request_takes_nothing_from_a_stopped_run(tmp_path):
    (tmp_path / "checkpoint.safetensors").write_bytes(b"hours of work")
    with pytest.raises(TrainingError):
        train(tmp_path, config=TINY | {"channels": 0}, force=True)
    assert (tmp_path / "checkpoint.safetensors").read_bytes() == b"hours of work"


def test_an_interrupted_run_begun_anew_goes_on_when_asked_for_without_force(tmp_path, monkeypatch):
    train(tmp_path, seed=1)

    def interrupted(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("simscope.learn.loop.Loop._update", interrupted)
        with pytest.raises(KeyboardInterrupt) as caught:
            train(tmp_path, seed=2, force=True)
    assert caught.value.__notes__[-1] == "leave --force out for that"
    assert train(tmp_path, seed=2).record["seed"] == 2


HOLDER = """
import sys, time
from pathlib import Path
from simscope.learn.runs import occupied
with occupied(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.mark.skipif(os.name != "posix", reason="locks folders as POSIX systems can")
def test_two_processes_never_train_in_one_folder(tmp_path):
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    try:
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(TrainingError, match="another process is training"):
            train(tmp_path)
    finally:
        holder.kill()
        holder.wait()
        holder.stdout.close()
    train(tmp_path)  # a killed process holds nothing


def test_frames_smaller_than_a_block_are_refused_by_name(tmp_path):
    recipe = snapshot().replace("acquisition.shape", [3, 40])
    with pytest.raises(
        TrainingError, match=r"frames of \(3, 40\) pixels are smaller than the blocks of 8"
    ):
        train(tmp_path / "run", "deepstorm3d", recipe, {"channels": 8})


@pytest.mark.parametrize("level", [65535, 1e12])
@pytest.mark.parametrize("kind", ["deepstorm-slim", "deepstorm3d"])
def test_frames_brighter_than_any_give_finite_tables_and_a_note(tmp_path, kind, level):
    task = make_task(kind, snapshot(), {"channels": 8})
    task.fit_scales(ss.Simulator(snapshot(), 1).batch(0, 4))
    with torch.no_grad():  # whatever was learned, logarithms grow with the light
        for name, weights in task.network.named_parameters():
            weights.abs_().add_(0.01) if name.endswith("weight") else None
    model = TrainedModel(task, {}, tmp_path)
    with pytest.warns(SimscopeWarning, match="median"):
        found = ss.learn.localize(model, np.full((2, 24, 20), level))
    assert len(found)
    for column in ("x_nm", "y_nm", "photons", "probability"):
        assert np.isfinite(found[column]).all()


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_counts_beyond_single_precision_are_refused(tmp_path):
    task = make_task("deepstorm-slim", snapshot(), TINY)
    model = TrainedModel(task, {}, tmp_path)
    with pytest.raises(TrainingError, match="is no number"):
        ss.learn.localize(model, np.full((24, 20), 1e300))


def stack_file(path, frames, **options):
    import tifffile

    with tifffile.TiffWriter(path) as writer:
        for frame in frames:
            writer.write(frame, contiguous=False, **options)
    return path


@pytest.mark.parametrize("lost", [1, 600, 1100])
def test_a_stack_cut_short_is_never_taken_for_a_shorter_one(tmp_path, lost):
    frames = np.random.default_rng(0).poisson(100, (4, 24, 20)).astype(np.uint16)
    file = stack_file(tmp_path / "a.tif", frames, compression="zlib")
    with tiff_stack(file, "a.tif", TrainingError) as stack:
        np.testing.assert_array_equal(stack[0:4], frames)
    file.write_bytes(file.read_bytes()[:-lost])
    with (
        pytest.raises(TrainingError, match=r"a\.tif"),
        tiff_stack(file, "a.tif", TrainingError) as stack,
    ):
        stack[0 : stack.shape[0]]
    if lost > 1:  # pages, not pixels alone, of which this reads the first image
        with pytest.raises(TrainingError, match=r"a\.tif"):
            read_tiff(file, "a.tif", TrainingError)


@pytest.fixture(scope="module")
def unet(tmp_path_factory):
    return train(tmp_path_factory.mktemp("unet"), "unet", config={"channels": 8, "levels": 1})


def test_only_frames_of_one_colour_and_the_models_pixel_are_restored(unet, tmp_path):
    import tifffile

    colours = np.zeros((24, 20, 3), np.uint8)
    tifffile.imwrite(tmp_path / "rgb.tif", colours, photometric="rgb")
    frames = np.full((2, 24, 20), 100, np.uint16)
    metadata = {"axes": "TYX", "unit": "um"}
    tifffile.imwrite(
        tmp_path / "fine.tif", frames, imagej=True, resolution=(20, 20), metadata=metadata
    )
    for name, says in {"rgb": "colours", "fine": "pixels of 50 nm", "none": "no file"}.items():
        with pytest.raises(TrainingError, match=says):
            ss.learn.restore(unet, tmp_path / f"{name}.tif")
    with pytest.raises(TrainingError, match="type bool"):
        ss.learn.restore(unet, frames > 1)
    pages = stack_file(tmp_path / "pages.tif", frames)
    np.testing.assert_array_equal(ss.learn.restore(unet, pages), ss.learn.restore(unet, frames))


def test_a_dataset_brings_its_own_camera_to_restoration(unet, tmp_path):
    data = ss.generate(snapshot(), 2, 3, tmp_path / "a.h5")
    with ss.open_dataset(data) as opened:
        counts, recipe = opened.images[:].astype(np.float64), opened.recipe
    own = ss.learn.restore(unet, counts)
    gain = 2 * recipe.camera.e_per_adu

    class Other:
        recipe_sha256, seed = "other", 0
        images = 100 + (counts - recipe.camera.baseline_adu) / 2

    Other.recipe = recipe.replace("camera.e_per_adu", gain).replace("camera.baseline_adu", 100)
    np.testing.assert_allclose(ss.learn.restore(unet, Other()), own, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(
    "words",
    [
        ["restore", "RUN", "DATA", "--out", "a.png"],
        ["regress", "RUN", "DATA", "--out", "a.npy"],
        ["export-model", "RUN", "--to", "onnx", "--out", "a.zip"],
    ],
)
def test_files_are_named_as_what_they_hold(unet, tmp_path, words):
    names = {"RUN": unet.folder, "DATA": tmp_path / "a.h5"}
    assert "give a name that ends in ." in refused(*(names.get(word, word) for word in words))


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("run.json", b"null", "run.json is no record"),
        ("run.json", b"{}", "run.json is no record"),
        ("config.json", "channels", "does not fit config.json, first at"),
        ("weights.safetensors", "nan", "not finite"),
        ("weights.safetensors", b"", "header too small"),
    ],
)
def test_edited_runs_are_refused_in_one_line(unet, tmp_path, name, content, says):
    for file in ("config.json", "run.json", "weights.safetensors"):
        (tmp_path / file).write_bytes((unet.folder / file).read_bytes())
    if content == "nan":
        weights = load_file(tmp_path / name)
        save_file({key: values * np.nan for key, values in weights.items()}, tmp_path / name)
    elif content == "channels":
        text = (tmp_path / name).read_text()
        (tmp_path / name).write_text(text.replace('"channels": 8', '"channels": 12'))
    else:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(TrainingError, match=f"damaged.*{says}.*train again") as caught:
        ss.learn.load(tmp_path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("package", ["torch", "safetensors", "onnx", "onnxscript"])
def test_packages_of_the_extra_are_named_with_it_when_missing(package):
    def missing():
        raise ModuleNotFoundError(f"No module named {package!r}", name=package)

    app = typer.Typer()
    app.command()(lambda: run_explained(missing))
    result = CliRunner().invoke(app, [])
    assert result.exit_code == 2
    assert f"{package} is not installed: pip install 'simscope[train]'" in result.stderr


def run_explained(function):
    with cli.frame.failures_explained():
        function()


def test_a_design_that_is_refused_leaves_no_folder(tmp_path):
    said = refused("design-mask", "smlm-2d-dense", "--out", tmp_path / "mask")
    assert "give a range of heights" in said
    assert not (tmp_path / "mask").exists()


@pytest.mark.parametrize("risk", [0.0, 1e9])
def test_a_full_disk_is_told_and_what_stood_there_stays(tmp_path, monkeypatch, risk):
    def full(tensors, path, *_):
        path.write_bytes(b"half")
        raise SafetensorError("Error while serializing: I/O error: No space left on device")

    (tmp_path / "notes.txt").write_text("mine")
    with monkeypatch.context() as patch:
        patch.setattr("simscope.learn.loop.SECONDS_AT_RISK", risk)
        patch.setattr("simscope.learn.checkpoint.save_file", full)
        with pytest.raises(TrainingError, match="No space left on device; make room and repeat"):
            train(tmp_path)
    assert [file.name for file in tmp_path.iterdir()] == ["notes.txt"]
    assert train(tmp_path).record["steps"] == 2
