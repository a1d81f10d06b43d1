"""The command line: results on stdout, one clear message on stderr when something is wrong."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
from types import SimpleNamespace

import numba
import pytest
from small_worlds import snapshot, stack
from stored_files import note_sum
from typer.testing import CliRunner

from simscope import cli
from simscope.recipe import packaged_recipes

COMMANDS = (
    "recipes", "schema", "check", "psf", "generate", "show", "train", "localize", "score",
    "demo", "warmup", "export", "verify", "info", "diff", "study", "report", "regress", "restore",
    "export-model", "design-mask",
)  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SIMSCOPE_CACHE", str(tmp_path_factory.mktemp("psf-tables")))
        yield


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with a recipe and a dataset, its name not plain ASCII."""
    folder = tmp_path_factory.mktemp("Größe µ")
    (folder / "small.yaml").write_text(snapshot().to_yaml(), "utf8")
    (folder / "stack.yaml").write_text(stack().to_yaml(), "utf8")
    assert run("generate", folder / "small.yaml", "--samples", 3, "--out", folder / "a.h5") == ""
    return folder


def invoke(*words):
    return CliRunner().invoke(cli.app, [str(word) for word in words])


def run(*words):
    """Stderr of a command that succeeds, without notes and progress."""
    result = invoke(*words)
    assert result.exit_code == 0, result.output
    lines = result.stderr.splitlines()
    return "\n".join(line for line in lines if not line.startswith(("note:", "small", "psf")))


def answer(*words):
    """JSON a command prints."""
    result = invoke(*words, "--json")
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def complaint(*words, code=2):
    """The one message of a command that fails."""
    result = invoke(*words)
    assert result.exit_code == code, result.output
    assert "Traceback" not in result.output
    message = [line for line in result.stderr.splitlines() if line.startswith("simscope: ")]
    assert len(message) == 1
    return message[0]


def test_version_is_printed():
    from simscope import __version__

    assert invoke("--version").stdout == f"simscope {__version__}\n"


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_helps_with_examples(name):
    result = invoke(name, "--help")
    assert result.exit_code == 0
    assert "Examples" in result.stdout
    assert f"simscope {name}" in result.stdout


def test_help_needs_neither_numpy_nor_anything_heavier():
    code = (
        "import sys, simscope.cli; "
        "print([m for m in ('numpy', 'numba', 'h5py', 'pydantic', 'torch') if m in sys.modules])"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"


def test_recipes_are_listed_and_printed_as_yaml_that_loads_again(tmp_path):
    assert set(answer("recipes")) == set(packaged_recipes())
    text = invoke("recipes", "smlm-2d-dense").stdout
    (tmp_path / "mine.yaml").write_text(text, "utf8")
    assert cli.load(str(tmp_path / "mine.yaml")) == cli.load("smlm-2d-dense")


def test_schema_is_a_json_schema():
    schema = json.loads(invoke("schema").stdout)
    assert schema["type"] == "object"
    assert "camera" in schema["properties"]


def test_check_prints_derived_numbers(folder):
    numbers = answer("check", folder / "small.yaml", "--samples", 10)
    assert numbers["pixel_nm"] == pytest.approx(100.0)
    assert numbers["nyquist_margin"] == pytest.approx(600 / (4 * 1.2) / 100)
    assert numbers["samples"] == 10
    shown = invoke("check", folder / "small.yaml").stdout
    for word in ("Nyquist", "photons", "SNR", "PSF window", "file", "time"):
        assert word in shown


def test_settings_change_the_recipe_and_are_read_as_yaml(folder):
    numbers = answer(
        "check", folder / "small.yaml",
        "--set", "camera.pixel_pitch_um=5", "--set", "structure.density_per_um2={uniform: [1, 2]}",
    )  # fmt: skip
    assert numbers["pixel_nm"] == pytest.approx(50.0)
    assert numbers["drawn"]["structure.density_per_um2"] == "uniform(low=1.0, high=2.0)"


def test_generate_says_what_it_wrote_and_show_draws_it(folder, tmp_path):
    out = tmp_path / "b.h5"
    said = answer(
        "generate", folder / "small.yaml", "--samples", 2, "--seed", 9, "--out", out, "--expected"
    )
    written = {"out": str(out), "samples": 2, "seed": 9, "bytes": out.stat().st_size}
    shards = {"complete": True, "shards": 1, "finished": 1, "made": 1}
    assert said == written | shards | {"device": {"name": "cpu", "on_cpu": []}}
    answer("show", out, "--out", tmp_path / "sheet.png", "--sample", 1, "--no-truth")
    assert (tmp_path / "sheet.png").read_bytes().startswith(b"\x89PNG")


def test_relative_paths_work(folder, monkeypatch):
    monkeypatch.chdir(folder)
    run("generate", "small.yaml", "--samples", 1, "--out", "relative.h5")
    assert (folder / "relative.h5").exists()


def test_masks_are_listed_with_their_papers():
    listed = answer("psf", "--list-masks")
    assert "Dowski" in listed["cubic"]["source"]
    assert all(entry["about"] for entry in listed.values())


def test_a_mask_is_shown_without_recipe_or_name_of_the_picture(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    mask = ("psf", "--mask", "astigmatism", "--z-range", 600, "--side-um", 1.0)
    run(*mask)
    assert (tmp_path / "psf.png").read_bytes().startswith(b"\x89PNG")
    assert "--force" in complaint(*mask)
    assert "did you mean 'tetrapod'" in complaint("psf", "--mask", "tetrapd", "--out", "a.png")
    assert "z_range_nm" in complaint("psf", "--mask", "vortex", "--z-range", 600, "--out", "a.png")


def test_psf_picture_of_recipe_options_and_drawn_sample(folder, tmp_path):
    run("psf", folder / "small.yaml", "--na", 1.1, "--out", tmp_path / "a.png")
    run("psf", folder / "stack.yaml", "--sample", 2, "--side-um", 1.5, "--out", tmp_path / "b.png")
    run(
        "psf", folder / "small.yaml", "--focus-nm", -300, 300, "--wavelength-nm", 500,
        "--side-um", 2, "--out", tmp_path / "c.png",
    )  # fmt: skip
    assert len(list(tmp_path.glob("*.png"))) == 3


def test_truth_scored_against_itself_is_perfect(folder, tmp_path):
    from simscope.dataset import read_emitters, write_localizations

    truth = read_emitters(folder / "a.h5")
    write_localizations(tmp_path / "found.csv", truth)
    numbers = answer("score", tmp_path / "found.csv", folder / "a.h5")
    assert numbers["jaccard"] == 1.0
    assert numbers["rmse_lateral_nm"] < 1e-3  # positions in CSV have three decimals
    assert numbers["rmse_axial_nm"] is None
    shown = invoke(
        "score", tmp_path / "found.csv", folder / "a.h5", "--axial-radius-nm", 500
    ).stdout
    assert "jaccard" in shown
    with (tmp_path / "found.csv").open() as file:
        assert len(list(csv.reader(file))) == len(truth) + 1


BAD_INPUT = {
    "a misspelt recipe": (("check", "smlm-2d-dens"), "did you mean 'smlm-2d-dense'"),
    "a misspelt key": (("check", "smlm-2d-dense", "--set", "camera.qu=1"), "did you mean 'qe'"),
    "a setting without value": (("check", "smlm-2d-dense", "--set", "camera.qe"), "path=value"),
    "na above the oil": (
        ("check", "smlm-2d-dense", "--set", "optics.na=1.6"), "simscope: optics: na=1.6 exceeds"
    ),
    "a negative seed": (("check", "smlm-2d-dense", "--seed", "-1"), "seed=-1"),
    "a missing dataset": (("show", "none.h5", "--out", "a.png"), "check the path"),
    "a missing table": (("score", "none.csv", "none.h5"), "check the path"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD_INPUT)
def test_bad_input_is_one_message_and_exit_code_2(case):
    words, message = BAD_INPUT[case]
    assert message in complaint(*words)


def test_existing_outputs_are_kept_without_force(folder, tmp_path):
    data, sheet = folder / "a.h5", tmp_path / "sheet.png"
    before = data.read_bytes()
    small = folder / "small.yaml"
    assert "--force" in complaint("generate", small, "--samples", 1, "--out", data)
    assert data.read_bytes() == before
    run("show", data, "--out", sheet)
    assert "--force" in complaint("show", data, "--out", sheet)
    run("show", data, "--out", sheet, "--force")
    assert "--force" in complaint("psf", small, "--out", sheet)
    assert "not empty" in complaint("demo", "--out", tmp_path)


def test_what_the_system_refuses_is_one_message(folder, monkeypatch):
    from simscope import dataset

    def refuse(*args, **kwargs):
        raise PermissionError(13, "Permission denied", "secret.h5")

    monkeypatch.setattr(dataset, "open_dataset", refuse)
    said = complaint("show", folder / "a.h5", "--out", "a.png")
    assert said == "simscope: the system refused secret.h5: Permission denied"


def test_ctrl_c_ends_with_130(folder, monkeypatch):
    from simscope.dataset import generation

    def interrupt(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr(generation, "carry_out", interrupt)
    words = ("generate", folder / "small.yaml", "--samples", 1, "--out", "a.h5")
    assert "interrupted" in complaint(*words, code=130)


def test_too_little_memory_is_one_message(folder, monkeypatch):
    from simscope.dataset import generation

    def exhaust(*args, **kwargs):
        raise MemoryError

    monkeypatch.setattr(generation, "carry_out", exhaust)
    words = ("generate", folder / "small.yaml", "--samples", 1, "--out", "a.h5")
    assert "memory" in complaint(*words)


@pytest.mark.parametrize(
    ("package", "extra", "words"),
    [
        ("matplotlib", "view", ("show", "a.h5", "--out", "a.png")),
        ("torch", "train", ("train", "deepstorm-slim", "smlm-2d-dense", "--out", "run")),
    ],
)
def test_missing_extras_name_the_remedy(package, extra, words):
    code = f"import sys; sys.modules[{package!r}] = None; from simscope.cli import main; main()"
    run = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True)
    assert run.returncode == 2
    assert run.stderr == (
        f"simscope: {package} is not installed: pip install 'simscope[{extra}]'\n"
    )


def test_a_broken_program_still_shows_its_traceback(folder, monkeypatch):
    from simscope.dataset import generation

    def break_down(*args, **kwargs):
        raise ImportError("unheard of", name="elsewhere")

    monkeypatch.setattr(generation, "carry_out", break_down)
    result = invoke("generate", folder / "small.yaml", "--samples", 1, "--out", "a.h5")
    assert isinstance(result.exception, ImportError)


def test_an_input_is_never_overwritten_even_by_force(folder, tmp_path):
    recipe, data = folder / "small.yaml", folder / "a.h5"
    picture = tmp_path / "a.png"
    picture.write_bytes(data.read_bytes())
    for path, words in {
        recipe: ("generate", recipe, "--samples", 1, "--out", recipe),
        picture: ("show", picture, "--out", picture),
    }.items():
        before = path.read_bytes()
        assert "read by this command" in complaint(*words, "--force")
        assert path.read_bytes() == before


def test_emitters_beside_the_frame_are_no_misses(folder, tmp_path):
    import h5py
    import numpy as np

    from simscope.dataset import open_dataset, write_localizations

    data = tmp_path / "a.h5"
    data.write_bytes((folder / "a.h5").read_bytes())
    with h5py.File(data, "r+") as file:
        file["emitters/x_nm"][0] = -50.0
        total = len(file["emitters/x_nm"])
        note_sum(file, "emitters/x_nm")
    with open_dataset(data) as opened:
        assert np.array_equal(opened.emitters_in_frame, opened.emitters[1:])
        write_localizations(tmp_path / "found.csv", opened.emitters_in_frame)
    result = invoke("score", tmp_path / "found.csv", data, "--json")
    assert json.loads(result.stdout)["jaccard"] == 1.0
    assert f"note: 1 of {total} emitter rows" in result.stderr


def test_a_network_that_found_nothing_has_no_error_to_print(monkeypatch, tmp_path):
    learn = pytest.importorskip("simscope.learn")
    held_out = {"jaccard": 0.0, "rmse_lateral_nm": None}
    found_nothing = SimpleNamespace(record={"held_out": held_out})
    monkeypatch.setattr(learn, "train", lambda *_, **__: found_nothing)
    words = ("train", "deepstorm-slim", "smlm-2d-dense", "--out", tmp_path / "run")
    assert answer(*words)["held_out"] == held_out
    assert "rmse lateral nm  -" in invoke(*words).stdout


REFUSED = {
    "the side of a bound": (("psf", "--crlb", "--side-um", "3"), "--side-um 3 goes with pictures"),
    "photons of a picture": (("psf", "--photons", "100"), "--photons 100 goes with --crlb"),
    "background of a picture": (("psf", "--background", "0"), "--background 0 goes with --crlb"),
    "an empty mask": (("psf", "--mask", ""), "--mask '' names no mask"),
    "a missing folder": (("psf", "--out", "none/psf.png"), "folder none does not exist"),
    "photons of nothing": (("psf", "--crlb", "--photons", "0"), "photons=0 "),
    "photons of a supernova": (("psf", "--crlb", "--photons", "1e300"), "photons=1e+300 "),
    "a missing training file": (
        ("train", "deepstorm-slim", "no.h5", "--out", "run"), "no dataset no.h5"
    ),
    "settings of a file": (
        ("train", "zernike", "no.h5", "--out", "run", "--set", "camera.qe=1"), "--set changes"
    ),
    "a strange picture": (("show", "no.h5", "--out", "a.xyz"), "ending in .png"),
    "no time to train": (("demo", "--minutes", "nan", "--out", "never"), "minutes=nan"),
    "no samples to forecast": (("check", "smlm-2d-dense", "--samples", "0"), "samples=0"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_what_makes_no_sense_is_refused_at_once(case, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words, message = REFUSED[case]
    assert message in complaint(*words)
    assert not list(tmp_path.iterdir())


def test_a_place_that_cannot_be_written_is_noticed_before_computing(folder, tmp_path, monkeypatch):
    from simscope import show

    def computed(*args, **kwargs):
        raise AssertionError("computed first")

    monkeypatch.setattr(show, "recipe_psf_figure", computed)
    monkeypatch.setattr(show, "contact_sheet", computed)
    assert "does not exist" in complaint("psf", "--out", tmp_path / "none" / "a.png")
    assert "does not exist" in complaint(
        "show", folder / "a.h5", "--out", tmp_path / "no" / "a.png"
    )


def test_a_refused_run_shows_no_progress_bar(folder, tmp_path):
    words = ("generate", folder / "small.yaml", "--samples", 0, "--out", tmp_path / "a.h5")
    lines = [line for line in invoke(*words).stderr.splitlines() if line.strip()]
    assert [line[:9] for line in lines] == ["simscope:"]


def test_a_pipe_is_no_dataset_and_nobody_waits_for_it(tmp_path):
    os.mkfifo(tmp_path / "pipe.h5")
    said = complaint("show", tmp_path / "pipe.h5", "--out", tmp_path / "a.png")
    assert "device or pipe" in said


@pytest.mark.skipif(numba.config.DISABLE_JIT, reason="many samples, too slow without JIT")
def test_a_request_to_end_leaves_nothing(folder, tmp_path):
    words = ["generate", folder / "small.yaml", "--samples", 60_000, "--out", tmp_path / "a.h5"]
    run = subprocess.Popen(
        [sys.executable, "-m", "simscope.cli", *map(str, words)], stderr=subprocess.PIPE, text=True
    )
    part = tmp_path / "a.h5.part"
    for _ in range(3000):
        if run.poll() is not None or (part.exists() and part.stat().st_size > 200_000):
            break
        time.sleep(0.02)
    run.send_signal(signal.SIGTERM)
    _, said = run.communicate(timeout=60)
    assert (run.returncode, "interrupted" in said) == (143, True)
    assert not list(tmp_path.iterdir())


def test_settings_apply_together_and_files_follow_the_working_folder(tmp_path, monkeypatch):
    from simscope.cli import load

    monkeypatch.chdir(tmp_path)
    recipe = load(
        "smlm-2d-dense",
        [
            "structure.density_per_um2=null",
            "structure.count=5",
            "optics.mask={kind: file, path: mask.npy, na_per_pixel: 0.05}",
        ],
    )
    assert recipe.structure.count == 5
    assert recipe.optics.mask.path == str(tmp_path / "mask.npy")


def test_the_device_is_told_and_does_not_change_samples(folder, tmp_path, monkeypatch):
    import simscope as ss
    from simscope import device as devices

    monkeypatch.setattr(devices, "_gpu", lambda: (None, "no CUDA GPU was found"))
    words = ("generate", folder / "small.yaml", "--samples", 3, "--out", tmp_path / "b.h5")
    told = answer(*words, "--device", "auto")
    assert told["device"] == {"name": "cpu", "on_cpu": []}
    with ss.open_dataset(tmp_path / "b.h5") as new, ss.open_dataset(folder / "a.h5") as old:
        assert (new.images[:] == old.images[:]).all()


@pytest.mark.parametrize("words", [("generate", "--out", "c.h5", "--samples", "2"), ("check",)])
@pytest.mark.parametrize(
    ("device", "reason"), [("cuda", "no CUDA GPU was found; use"), ("tpu", "'tpu' is unknown")]
)
def test_devices_that_are_not_there_are_refused(folder, monkeypatch, words, device, reason):
    from simscope import device as devices

    monkeypatch.setattr(devices, "_gpu", lambda: (None, "no CUDA GPU was found"))
    monkeypatch.chdir(folder)
    result = invoke(words[0], "small.yaml", *words[1:], "--device", device)
    assert result.exit_code == 2
    assert reason in result.stderr
    assert "Traceback" not in result.stderr
    assert not (folder / "c.h5").exists()
