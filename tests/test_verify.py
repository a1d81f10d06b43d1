"""Anybody can hold a dataset against its recipe, and is told exactly what differs."""

import dataclasses
import hashlib
import json
import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest
from small_worlds import SMALL, WORLDS, movie, snapshot
from stored_files import note_sum
from typer.testing import CliRunner

from simscope import cli
from simscope.acquire import Simulator
from simscope.dataset import describe, generate, open_dataset, verify
from simscope.dataset.columns import set_text
from simscope.dataset.parts import plain_attribute
from simscope.dataset.plan import Plan
from simscope.dataset.produce import produce
from simscope.dataset.schema import Layout
from simscope.dataset.verifying import blocks, spread
from simscope.errors import DatasetError
from simscope.recipe import Recipe

pytestmark = pytest.mark.filterwarnings("ignore::simscope.errors.SimscopeWarning")
SAMPLES = 7
MASTERS = {}
TARGETS = {"snapshot": ["density"], "movie": ["density"], "stack": ["wavefront"]}


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SIMSCOPE_CACHE", str(tmp_path_factory.mktemp("psf-tables")))
        MASTERS["folder"] = tmp_path_factory.mktemp("masters")
        yield
        MASTERS.clear()


def made(folder, kind="snapshot", per_shard=None, **options):
    """A dataset of its own in the folder, copied from one that is made once."""
    options = {"expected": True, "targets": TARGETS[kind], "samples_per_shard": per_shard} | options
    key = repr((kind, options))
    if key not in MASTERS:
        master = MASTERS["folder"] / str(len(MASTERS))
        master.mkdir()
        generate(WORLDS[kind](), SAMPLES, 7, master / "a.h5", **options)
        MASTERS[key] = master
    shutil.copytree(MASTERS[key], folder, dirs_exist_ok=True)
    return folder / "a.h5"


def change(path, array, at, value, *, honest=True):
    """Set one value of a stored array; with ``honest`` its checksum is noted anew."""
    with h5py.File(path, "r+") as file:
        values = file[array][()]
        values[at] = value
        attrs = {name: plain_attribute(file[array], name) for name in file[array].attrs}
        scales = [[scale.name for scale in dim.values()] for dim in file[array].dims]
        chunks = file[array].chunks
        del file[array]
        stored = file.create_dataset(
            array, data=values, chunks=chunks, compression="gzip", shuffle=True
        )
        for name in ("unit", "description", "per"):
            if name in attrs:
                set_text(stored, name, attrs[name])
        for dim, names in zip(stored.dims, scales, strict=True):
            for name in names:
                dim.attach_scale(file[name])
        if honest:
            note_sum(file, array)


def invoke(*words):
    result = CliRunner().invoke(cli.app, [str(word) for word in words])
    assert "Traceback" not in result.output
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


@pytest.mark.parametrize("per_shard", [None, 2])
@pytest.mark.parametrize("kind", WORLDS)
def test_a_dataset_is_what_its_recipe_gives(tmp_path, kind, per_shard):
    path = made(tmp_path, kind, per_shard)
    verdict = verify(path, samples=None)
    assert verdict.identical, verdict.lines()
    assert (verdict.verified, verdict.samples) == (SAMPLES, SAMPLES)
    expected = {"images", "expected_photons", f"targets/{TARGETS[kind][0]}", "emitters/x_nm",
                "axes/y", "camera/gain"}  # fmt: skip
    assert expected <= set(verdict.arrays)


def test_windows_of_a_long_movie_are_verified_shard_by_shard(tmp_path, monkeypatch):
    monkeypatch.setattr("simscope.dataset.plan.PIECE_BYTES", 5 * 2 * 24 * 20)
    path = generate(movie(), 2, 7, tmp_path / "movie.h5")
    with open_dataset(path) as data:
        assert len(data.shards) > 4
    verdict = verify(path)
    assert verdict.identical, verdict.lines()


@pytest.mark.parametrize(
    ("kind", "array", "at", "sample", "frame", "index"),
    [
        ("snapshot", "images", (5, 3, 11), 5, 0, (3, 11)),
        ("movie", "images", (4, 9, 3, 11), 4, 9, (3, 11)),
        ("movie", "expected_photons", (4, 9, 3, 11), 4, 9, (3, 11)),
        ("movie", "targets/density", (4, 9, 30, 11), 4, 9, (30, 11)),
        ("stack", "targets/wavefront", (2, 30, 11), 2, None, (30, 11)),
        ("snapshot", "parameters/background.photons_per_pixel", (6,), 6, None, ()),
    ],
)
def test_one_changed_value_is_found_and_named(tmp_path, kind, array, at, sample, frame, index):
    path = made(tmp_path, kind)
    with open_dataset(path) as data:
        was = data._part(0).file[array][at].item()
    change(path, array, at, was + 1)
    verdict = verify(path, samples=None)
    assert not verdict.damage
    (found,) = verdict.differences
    assert (found.array, found.values, found.samples) == (array, 1, 1)
    assert (found.sample, found.frame, found.index) == (sample, frame, index)
    assert found.largest == pytest.approx(1, rel=1e-3)
    assert (found.was, found.now) == (pytest.approx(was + 1), pytest.approx(was))


def test_a_moved_emitter_is_found_by_its_row(tmp_path):
    path = made(tmp_path)
    with open_dataset(path) as data:
        row = int(data.emitter_offsets[3]) + 2
        was = float(data.emitters["x_nm"][row])
    change(path, "emitters/x_nm", (row,), was + 8)
    (found,) = verify(path, samples=None).differences
    assert (found.array, found.sample, found.frame, found.row) == ("emitters/x_nm", 3, 0, 2)
    assert found.largest == pytest.approx(8, rel=1e-3)


def test_the_last_bit_of_a_float_is_a_difference(tmp_path):
    path = made(tmp_path)
    with open_dataset(path) as data:
        was = data.expected_photons[2, 4, 5]
    change(path, "expected_photons", (2, 4, 5), np.nextafter(was, np.float32(np.inf)))
    verdict = verify(path, samples=None)
    assert [one.array for one in verdict.differences] == ["expected_photons"]
    assert "another processor" in verdict.explanation


def test_a_file_that_names_another_seed_differs_in_all_samples(tmp_path):
    path = made(tmp_path, targets=[])
    with h5py.File(path, "r+") as file:
        file.attrs["seed"] = 8
    verdict = verify(path, samples=None)
    found = {one.array: one for one in verdict.differences}
    assert found["images"].samples == SAMPLES
    assert not verdict.identical
    assert "no matter of rounding" in verdict.explanation


def test_values_that_do_not_have_their_checksum_are_damage(tmp_path):
    path = made(tmp_path)
    change(path, "images", (0, 0, 0), 7, honest=False)
    verdict = verify(path)
    assert any("/images has the SHA-256" in line for line in verdict.damage)
    assert "not as it was written" in verdict.explanation


@pytest.mark.parametrize("place", [0.3, 0.6, 0.9])
def test_a_flipped_bit_in_a_shard_is_noticed(tmp_path, place):
    path = made(tmp_path, per_shard=3)
    shard = tmp_path / "a" / "shard-00001.h5"
    content = bytearray(shard.read_bytes())
    content[int(place * len(content))] ^= 0x10
    shard.write_bytes(content)
    verdict = verify(path)
    assert any("shard-00001.h5" in line for line in verdict.damage)


def test_a_checksum_that_is_left_out_is_noticed(tmp_path):
    path = made(tmp_path)
    with h5py.File(path, "r+") as file:
        sums = json.loads(file.attrs["arrays_sha256"])
        del sums["images"]
        set_text(file, "arrays_sha256", json.dumps(sums))
    assert any("no checksum of /images" in line for line in verify(path).damage)


def test_other_versions_of_software_are_named(tmp_path):
    path = made(tmp_path)
    with h5py.File(path, "r+") as file:
        versions = json.loads(file.attrs["software"]) | {"numpy": "0.1"}
        set_text(file, "software", json.dumps(versions))
    assert verify(path).identical
    change(path, "images", (0, 0, 0), 7)
    assert "numpy 0.1 there" in verify(path).explanation


def test_samples_are_spread_from_the_first_to_the_last():
    assert spread(1000, 3).tolist() == [0, 500, 999]
    assert spread(5, 100).tolist() == [0, 1, 2, 3, 4]
    assert spread(4, None).tolist() == [0, 1, 2, 3]
    assert spread(10**9, 100)[-1] == 10**9 - 1
    with pytest.raises(DatasetError, match="samples=0"):
        spread(10, 0)


def test_only_the_chosen_samples_are_made(tmp_path, monkeypatch):
    path = made(tmp_path, per_shard=3)
    asked = []
    chunks = Simulator.chunks
    monkeypatch.setattr(
        Simulator, "chunks",
        lambda self, start, stop, **rest: asked.append((start, stop))
        or chunks(self, start, stop, **rest),
    )  # fmt: skip
    assert verify(path, samples=3).verified == 3
    assert asked == [(0, 1), (3, 4), (6, 7)]


def test_arrays_are_read_in_blocks_that_make_up_the_whole(tmp_path, monkeypatch):
    path = made(tmp_path, "movie")
    monkeypatch.setattr("simscope.dataset.verifying.BLOCK_BYTES", 3 * 2 * 24 * 20)
    with open_dataset(path) as data:
        part = data._part(0)
        for name in ("images", "emitters/x_nm", "emitters/offsets", "camera/gain"):
            parts = list(blocks(part.array(name)))
            joined = np.concatenate([values.reshape(-1) for values in parts])
            assert np.array_equal(joined, part.file[name][()].reshape(-1))
    assert verify(path, samples=None).identical


# files that a recipe reads


def with_table(folder, name="molecules.csv"):
    """A recipe that reads a table."""
    table = folder / name
    table.write_text("x_nm,y_nm,z_nm\n500,600,0\n900,1200,50\n", "utf8")
    structure = {"kind": "table", "path": str(table)}
    return Recipe.from_dict(SMALL | {"structure": structure}), table


@pytest.fixture
def shared(tmp_path):
    """A dataset made from a table elsewhere: the dataset's path and the table's."""
    here, there = tmp_path / "here", tmp_path / "there"
    here.mkdir()
    there.mkdir()
    recipe, table = with_table(there)
    return generate(recipe, 3, 7, here / "a.h5"), table


def test_a_file_elsewhere_is_not_read_unless_allowed(shared):
    path, table = shared
    with pytest.raises(DatasetError, match=r"structure.path.*lies outside"):
        verify(path)
    assert verify(path, allow_files=True).identical
    assert verify(path, files=table.parent).identical


def test_a_file_beside_the_dataset_serves_a_file_that_is_gone(shared):
    path, table = shared
    shutil.move(table, path.parent / table.name)
    assert verify(path).identical


def test_another_file_of_the_same_name_is_refused_with_the_reason(shared):
    path, table = shared
    table.write_text(table.read_text("utf8") + "10,10,0\n", "utf8")
    with pytest.raises(DatasetError, match="has another content"):
        verify(path, files=table.parent)


def test_a_link_does_not_lead_out_of_the_folder(shared):
    path, table = shared
    (path.parent / table.name).symlink_to(table)
    with pytest.raises(DatasetError, match="lies outside"):
        verify(path)


def tell_otherwise(path, recipe=None, **texts):
    """Let a dataset's own file say something else of itself, its hash of the recipe fitting."""
    if recipe is not None:
        text = recipe if isinstance(recipe, str) else json.dumps(recipe)
        digest = hashlib.sha256(text.encode()).hexdigest()
        texts |= {"recipe_json": text, "recipe_sha256": digest}
    with h5py.File(path, "r+") as file:
        for name, text in texts.items():
            set_text(file, name, text)


def test_a_strangers_recipe_opens_no_file_by_naming_it_with_its_checksum(tmp_path, monkeypatch):
    path, secret = made(tmp_path), tmp_path.parent / f"{tmp_path.name}-secret.csv"
    secret.write_text("x_nm,y_nm\n1,2\n", "utf8")
    written = snapshot().written() | {"structure": {"kind": "table", "path": str(secret)}}
    digest = hashlib.sha256(secret.read_bytes()).hexdigest()
    known = {"structure.path": {"file": "secret.csv", "sha256": digest, "licence": "none"}}
    tell_otherwise(path, written, inputs=json.dumps(known))
    opened = []
    usual = Path.open
    monkeypatch.setattr(
        Path, "open", lambda self, *rest, **more: opened.append(self) or usual(self, *rest, **more)
    )
    with pytest.raises(DatasetError, match="lies outside"):
        verify(path)
    assert secret not in opened


@pytest.mark.parametrize(
    "texts",
    [
        {"recipe": "[" * 5000},
        {"recipe": "3"},
        {"recipe": {}},
        {"recipe": {"acquisition": {"shape": [10**9, 10**9]}}},
        {"inputs": '{"structure.path": "x"}'},
        {"inputs": "[1]"},
        {"targets": '{"density": {"upsampling": 1e9}}'},
        {"software": "7"},
        {"arrays_sha256": '{"../../etc/passwd": "x", "images": 7}'},
    ],
)
@pytest.mark.parametrize("command", ["verify", "info", "diff"])
def test_hostile_texts_end_in_words(tmp_path, texts, command):
    path = made(tmp_path)
    tell_otherwise(path, **texts)
    assert invoke(command, path, *([path] if command == "diff" else [])).exit_code in (0, 1, 2)


# the command line


def test_verify_ends_with_0_1_or_2(tmp_path):
    path = made(tmp_path)
    result = invoke("verify", path, "--all", "--json")
    assert result.exit_code == 0
    assert json.loads(result.stdout)["identical"] is True
    change(path, "images", (5, 3, 11), 9)
    result = invoke("verify", path)
    assert result.exit_code == 1
    assert "sample 5, frame 0, pixel (y=3, x=11): file 9, recipe" in result.stdout
    assert json.loads(invoke("verify", path, "--json").stdout)["differences"][0]["sample"] == 5
    (tmp_path / "bad.h5").write_bytes(path.read_bytes()[:5000])
    assert invoke("verify", tmp_path / "bad.h5").exit_code == 2


def test_info_tells_what_a_dataset_is(tmp_path):
    path = made(tmp_path, per_shard=3)
    told = json.loads(invoke("info", path, "--json", "--tree").stdout)
    assert (told["samples"], told["seed"], told["shards"]) == (SAMPLES, 7, 3)
    drawn = told["parameters"]["background.photons_per_pixel"]
    assert 2 <= drawn["min"] < drawn["max"] <= 20
    assert drawn["distribution"].startswith("uniform")
    assert {one["name"] for one in told["arrays"]} >= {"/images", "/emitters/x_nm", "/axes/y"}
    assert all(one["unit"] and one["description"] for one in told["arrays"])
    lines = invoke("info", path).stdout
    assert "small" in lines
    assert "background.photons_per_pixel" in lines


def test_info_prints_no_control_characters_of_a_stranger(tmp_path):
    recipe = snapshot().replace("description", "red \x1b[31m alert")
    path = generate(recipe, 1, 7, tmp_path / "a.h5")
    assert "\x1b" not in invoke("info", path).stdout


def test_info_of_an_unfinished_run_says_how_far_it_is(tmp_path):
    made(tmp_path, per_shard=2, shards="0:3")
    about = describe(tmp_path / "a.h5")
    assert (about.finished, about.shards) == (3, 4)
    assert describe(tmp_path / "a") == about
    result = invoke("info", tmp_path / "a")
    assert result.exit_code == 0
    assert "3 of 4 are finished" in result.stdout


def test_info_of_something_else_is_refused(tmp_path):
    assert "no run of simscope" in invoke("info", tmp_path).stderr
    (tmp_path / "a.h5.part").write_bytes(b"half")
    assert "unfinished dataset" in invoke("info", tmp_path / "a.h5.part").stderr
    (tmp_path / "run.json").write_text("{}", "utf8")
    assert "run.json is not simscope's" in invoke("info", tmp_path).stderr


def test_a_dataset_made_on_one_thread_is_that_of_two(tmp_path):
    path = made(tmp_path, threads=2)
    assert verify(path, samples=None, threads=1).identical


def test_a_whole_file_of_another_cut_verifies(tmp_path):
    sim = Simulator(movie(), 7)
    layout = Layout.of(sim, samples=1)
    plan = dataclasses.replace(Plan.of(layout), samples_per_piece=1)
    produce(sim, plan, plan[0], tmp_path / "one.h5")
    assert verify(tmp_path / "one.h5").identical
