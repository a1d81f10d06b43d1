"""The command `generate`: runs in shards, gone on with, by processes, told in plain words."""

import hashlib
import json
import signal
import subprocess
import sys
import time

import numba
import pytest
from small_worlds import snapshot
from typer.testing import CliRunner

import simscope as ss
from simscope import cli

pytestmark = pytest.mark.filterwarnings("ignore::simscope.errors.SimscopeWarning")
needs_speed = pytest.mark.skipif(numba.config.DISABLE_JIT, reason="too slow without JIT")


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SIMSCOPE_CACHE", str(tmp_path_factory.mktemp("psf-tables")))
        yield


@pytest.fixture
def recipe(tmp_path):
    (tmp_path / "small.yaml").write_text(snapshot().to_yaml(), "utf8")
    return tmp_path / "small.yaml"


def words(recipe, *others):
    out = recipe.parent / "run.h5"
    return ["generate", str(recipe), "--samples", "6", "--seed", "7", "--out", str(out), *others]


def run(recipe, *others):
    """What the command answers, as JSON."""
    result = CliRunner().invoke(cli.app, words(recipe, *others, "--json"))
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def complaint(recipe, *others, code=2):
    result = CliRunner().invoke(cli.app, words(recipe, *others))
    assert result.exit_code == code, result.output
    assert "Traceback" not in result.output
    return " ".join(result.stderr.split())


def sums(folder):
    files = sorted(folder.glob("run*/*.h5")) + sorted(folder.glob("run.h5"))
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_shards_are_made_by_choice_and_joined_by_whoever_makes_the_last(recipe):
    for shards, made, finished in (("1:3", 2, 2), ("0:2", 1, 3)):
        told = run(recipe, "--samples-per-shard", "2", "--shards", shards)
        assert (told["shards"], told["made"], told["finished"]) == (3, made, finished)
        assert told["complete"] == (finished == 3)
    with ss.open_dataset(recipe.parent / "run.h5") as data:
        assert (data[5].image == ss.Simulator(snapshot(), 7)[5].image).all()
    by_shards = sums(recipe.parent)
    (recipe.parent / "run" / "shard-00001.h5").unlink()
    told = run(recipe, "--samples-per-shard", "2")  # the same command goes on
    assert (told["made"], told["complete"]) == (1, True)
    assert sums(recipe.parent) == by_shards
    plain = CliRunner().invoke(cli.app, words(recipe, "--samples-per-shard", "2"))
    assert "is complete already: 6 samples" in " ".join(plain.output.split())


@needs_speed
def test_processes_make_the_same_files(recipe, tmp_path):
    run(recipe, "--samples-per-shard", "2")
    one = sums(tmp_path)
    told = run(recipe, "--samples-per-shard", "2", "--workers", "2", "--force")
    assert told["made"] == 3
    assert sums(tmp_path) == one


def test_codec_and_targets_reach_the_file(recipe):
    targets = ("--target", "density:upsampling=2", "--target", "clean")
    run(recipe, "--codec", "none", *targets)
    with ss.open_dataset(recipe.parent / "run.h5") as data:
        assert data.codec == "none"
        assert data.target_settings["density"]["upsampling"] == 2
        assert data.expected_photons is not None


@pytest.mark.parametrize(
    ("others", "said"),
    [
        (["--seed", "8"], "seed: 7 -> 8"),
        (["--set", "camera.qe=0.5"], "recipe.camera.qe"),
        (["--samples", "5"], "samples: 6 -> 5"),
        (["--shards", "0:9"], "0:3 is all"),
        (["--shards", "1:2", "--force"], "leave out one of them"),
        (["--workers", "2", "--dask", "tcp://127.0.0.1:1"], "give one"),
        (["--codec", "defualt"], "did you mean 'default'"),
        (["--target", "densty"], "did you mean 'density'"),
        (["--samples-per-shard", "0"], "whole number from 1"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_what_does_not_go_together_is_one_sentence(recipe, others, said):
    run(recipe, "--samples-per-shard", "2")
    before = sums(recipe.parent)
    given = [] if "--samples-per-shard" in others else ["--samples-per-shard", "2"]
    assert said in complaint(recipe, *given, *others)
    assert sums(recipe.parent) == before


@needs_speed
def test_ctrl_c_tells_how_to_go_on_and_the_same_command_does(recipe, tmp_path):
    others = ["--samples", "600000", "--samples-per-shard", "1500"]
    command = [sys.executable, "-W", "ignore", "-m", "simscope.cli", *words(recipe, *others)]
    process = subprocess.Popen(
        command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )  # fmt: skip
    deadline = time.monotonic() + 60
    while len(list((tmp_path / "run").glob("*.json"))) < 3 and process.poll() is None:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 130, stderr
    said = " ".join(stderr.split())
    assert "of 400 shards are finished in" in said
    assert "the same command goes on from there" in said
    assert "Traceback" not in said
    assert not list((tmp_path / "run").glob("*.part"))
    entries = len(list((tmp_path / "run").glob("shard-*.json")))
    told = run(recipe, *others, "--shards", f"0:{entries + 1}")
    assert told["finished"] == entries + 1
    assert told["made"] == 1
