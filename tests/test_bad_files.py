"""Bad files of every kind: one clear error and exit code 2, never a traceback, hang or wrong data.

Mutations at random are fuzzing.py's; here stand the crafted ones, and what may go wrong around a
file. What opening a single file checks is in test_dataset_safety.py and test_hostile_files.py.
"""

import json
import os
import shutil
import struct
import warnings
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import fuzzing
import fuzzing_worlds
import h5py
import numpy as np
import pytest
from fuzzing_worlds import command
from small_worlds import SMALL, movie, snapshot
from typer.testing import CliRunner

import simscope as ss
from simscope import tables
from simscope.cli import app
from simscope.dataset import array_tree, describe, describing, verify
from simscope.dataset.columns import set_text, sha256_of
from simscope.dataset.folder import signed_entry, signed_text
from simscope.errors import DatasetError, OpticsError, RecipeError, TableError
from simscope.optics.measured_files import load_calibration
from simscope.recipe.measured import MeasuredPsf

pytestmark = pytest.mark.filterwarnings("ignore::simscope.errors.SimscopeWarning")

CLI = CliRunner()
SEED = 7


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A folder with a single file, a bare one, and a run in shards."""
    folder = tmp_path_factory.mktemp("made")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ss.generate(snapshot(), 4, SEED, folder / "single.h5")
        ss.generate(movie(3), 2, SEED, folder / "bare.h5", codec="none")
        ss.generate(snapshot(), 6, SEED, folder / "run.h5", samples_per_shard=2)
    return folder


@pytest.fixture
def copy(made, tmp_path):
    return Path(shutil.copytree(made, tmp_path / "copy"))


def refused(path, words):
    """Assert that Python and commands refuse a dataset, each in one sentence."""
    with pytest.raises(DatasetError, match=words):
        fuzzing_worlds.read_all(path)
    assert command("info", path) == 2
    assert command("verify", path) in (1, 2)


def test_every_command_refuses_a_damaged_file(copy):
    path = copy / "single.h5"
    path.write_bytes(path.read_bytes()[:-100])
    for name, *more in (
        ("info",), ("verify",), ("diff", path), ("show", "--out", copy / "a.png"),
        ("export", "--to", "npz", "--out", copy / "exported"),
    ):  # fmt: skip
        assert command(name, path, *more) == 2, name


def test_a_chunk_longer_than_its_memory_is_not_read(copy):
    path = copy / "bare.h5"
    content = bytearray(path.read_bytes())
    with h5py.File(path) as file:
        chunk = file["images"].id.get_chunk_info(0)
    key = struct.pack("<II", chunk.size, 0)  # of a leaf of the tree of chunks: bytes, filters left
    leaves = [at + 24 for at in fuzzing.places(content, b"TREE") if content[at + 4] == 1]
    (key_at,) = [at for at in leaves if content[at : at + 8] == key]
    content[key_at : key_at + 4] = struct.pack("<I", chunk.size + 4096)
    path.write_bytes(content)
    refused(path, "not stored in full")


def manifest_column(path, name, values):
    """Put other values in a column of the manifest, and the sum that fits them beside it."""
    with h5py.File(path, "r+") as file:
        column = f"manifest/{name}"
        kept = dict(file[column].attrs)
        del file[column]
        file[column] = np.array(values)
        for key, text in kept.items():
            set_text(file[column], key, text.decode())
        sums = json.loads(file.attrs["arrays_sha256"])
        sums[column] = sha256_of(file[column][()])
        set_text(file, "arrays_sha256", json.dumps(sums))


MANIFESTS = {
    "a way up": ("file", [b"../run/shard-00000.h5", b"shard-00001.h5", b"shard-00002.h5"], "odd"),
    "an absolute way": ("file", [b"/etc/passwd", b"shard-00001.h5", b"shard-00002.h5"], "odd"),
    "the same twice": ("file", [b"shard-00000.h5"] * 3, "odd"),
    "another order": ("file", [b"shard-00001.h5", b"shard-00000.h5", b"shard-00002.h5"], "odd"),
    "no text": ("file", [b"\xff\xfe", b"shard-00001.h5", b"shard-00002.h5"], "ascii"),
    "one too few": ("file", [b"shard-00000.h5", b"shard-00001.h5"], "another length"),
    "one too many": ("file", [b"shard-%05d.h5" % k for k in range(4)], "another length"),
    "overlapping frames": ("first_frame", [0, 1, 4], "odd"),
    "negative frames": ("frames", [-2, 4, 4], "whole number"),
    "frames beyond all": ("frames", [2**62, 2, 2], "odd"),
    "other frames": ("frames", [2, 2, 3], "add up"),
    "other rows": ("rows", [1, 1, 1], "add up"),
    "negative rows": ("rows", [-5, 1, 1], "whole number"),
    "another length": ("bytes", [1, 2, 3], "bytes"),
    "no sums": ("arrays_sha256", [b"{}", b"{}", b"{}"], "is not shard"),
    "sums that are a list": ("arrays_sha256", [b"[]", b"[]", b"[]"], "damaged"),
    "sums without end": ("arrays_sha256", [b"[" * 90_000] * 3, "damaged"),
    "a short sum": ("file_sha256", [b"00"] * 3, "checksum"),
    "numbers for texts": ("file", [1, 2, 3], "no column"),
    "a table": ("frames", np.zeros((3, 2), int), "no column"),
}


@pytest.mark.parametrize("case", MANIFESTS)
def test_a_manifest_that_contradicts_itself_is_refused(copy, case):
    name, values, words = MANIFESTS[case]
    manifest_column(copy / "run.h5", name, values)
    refused(copy / "run.h5", words)


def other_file_sum(path):
    manifest_column(path, "file_sha256", [b"0" * 64] * 3)


def flipped_bit_of_a_shard(path):
    shard = path.parent / "run" / "shard-00001.h5"
    with h5py.File(shard) as file:
        chunk = file["images"].id.get_chunk_info(0)
    content = bytearray(shard.read_bytes())
    content[chunk.byte_offset + chunk.size // 2] ^= 4
    shard.write_bytes(content)


@pytest.mark.parametrize("spoil", [other_file_sum, flipped_bit_of_a_shard])
def test_verify_tells_of_a_shard_that_is_not_the_one_noted(copy, spoil):
    spoil(copy / "run.h5")
    verdict = verify(copy / "run.h5", samples=1)
    assert verdict.damage
    assert command("verify", copy / "run.h5") == 1


def test_without_checksums_of_chunks_a_flipped_bit_is_told_by_verify(copy):
    with h5py.File(copy / "bare.h5") as file:
        chunk = file["images"].id.get_chunk_info(1)
    content = bytearray((copy / "bare.h5").read_bytes())
    content[chunk.byte_offset + 7] ^= 1
    (copy / "bare.h5").write_bytes(content)
    ss.open_dataset(copy / "bare.h5").close()
    assert "images" in verify(copy / "bare.h5").damage[0]


def absent(folder):
    (folder / "run" / "shard-00001.h5").unlink()


def longer(folder):
    with (folder / "run" / "shard-00001.h5").open("ab") as file:
        file.write(b"more")


def empty(folder):
    (folder / "run" / "shard-00001.h5").write_bytes(b"")


def a_folder(folder):
    absent(folder)
    (folder / "run" / "shard-00001.h5").mkdir()


def a_loop(folder):
    absent(folder)
    (folder / "run" / "shard-00001.h5").symlink_to("shard-00001.h5")


def another_shard(folder):
    run = folder / "run"
    other = (run / "shard-00002.h5").read_bytes()
    (run / "shard-00001.h5").write_bytes(other)
    content = (run / "shard-00001.h5").stat().st_size
    sizes = [(run / f"shard-0000{k}.h5").stat().st_size for k in (0, 1, 2)]
    assert content == sizes[1]
    manifest_column(folder / "run.h5", "bytes", sizes)


def no_folder(folder):
    shutil.rmtree(folder / "run")


@pytest.mark.parametrize(
    "spoil", [absent, longer, empty, a_folder, a_loop, another_shard, no_folder],
    ids=lambda spoil: spoil.__name__,
)  # fmt: skip
def test_a_shard_that_is_not_there_is_never_zeros(copy, spoil):
    spoil(copy)
    refused(copy / "run.h5", "shard")


def test_a_shard_by_itself_names_the_file_to_open(copy):
    refused(copy / "run" / "shard-00001.h5", "is shard 1 of a run: open")


def test_a_parameter_that_one_shard_lacks_is_an_error(copy):
    with h5py.File(copy / "run" / "shard-00001.h5", "r+") as file:
        del file["parameters/structure.density_per_um2"]
    sizes = [(copy / "run" / f"shard-0000{k}.h5").stat().st_size for k in range(3)]
    manifest_column(copy / "run.h5", "bytes", sizes)
    with (
        ss.open_dataset(copy / "run.h5") as data,
        pytest.raises(DatasetError, match="density_per_um2 and its checksum: one is missing"),
    ):
        _ = data.parameters
    assert command("verify", copy / "run.h5") == 1


def test_axes_in_the_place_of_others_are_told(copy):
    with h5py.File(copy / "single.h5", "r+") as file:
        file.move("axes/y", "kept")
        file.move("axes/x", "axes/y")
        file.move("kept", "axes/x")
    assert command("info", copy / "single.h5") == 2
    assert command("verify", copy / "single.h5") == 1


def test_verify_tells_of_other_units(copy):
    with h5py.File(copy / "single.h5", "r+") as file:
        set_text(file["parameters/structure.density_per_um2"], "unit", "1/mm^2")
    (found,) = verify(copy / "single.h5", samples=1).differences
    assert found.array == "units of parameters"


def test_groups_in_groups_are_not_followed_to_the_bottom(copy):
    path = copy / "single.h5"
    with h5py.File(path, "r+") as file:
        group = file.id
        for _ in range(3000):
            group = h5py.h5g.create(group, b"a")
        file["emitters/again"] = file["/"]
        file["circle"] = h5py.SoftLink("/circle")
        file["outside"] = h5py.ExternalLink("/etc/passwd", "/")
    assert not any("circle" in one["name"] for one in array_tree(path))
    assert command("info", path, "--tree") == 0
    assert command("verify", path, "--samples", 1) == 0


def test_a_heap_without_end_is_not_searched(copy, monkeypatch):
    content = bytearray((copy / "run.h5").read_bytes())
    first = content.index(b"GCOL\x01") + 16
    content[first : first + 2] = (1).to_bytes(2, "little")
    content[first + 8 : first + 16] = (1 << 40).to_bytes(8, "little")
    (copy / "run.h5").write_bytes(content)
    monkeypatch.setattr(describing, "_arrays", None)  # would never come back
    with pytest.raises(DatasetError, match="texts are damaged"):
        array_tree(copy / "run.h5")


@pytest.mark.parametrize("name", ["info", "verify"])
def test_hostile_texts_are_printed_without_control_characters(copy, name):
    path = copy / "single.h5"
    with h5py.File(path, "r+") as file:
        set_text(file, "warnings", json.dumps(["\x1b[2Jgone\u202e"]))
    result = CLI.invoke(app, [name, str(path)])
    assert result.exit_code == 0
    assert "\x1b[2J" not in result.output
    assert "\u202e" not in result.output


def recipe_of(path, values):
    """Put another recipe in a dataset, with the hash that fits it."""
    import hashlib

    text = values if isinstance(values, str) else json.dumps(values)
    with h5py.File(path, "r+") as file:
        set_text(file, "recipe_json", text)
        set_text(file, "recipe_sha256", hashlib.sha256(text.encode()).hexdigest())


EMBEDDED = {
    "nothing": ("{}", "needs|missing|required|unknown"),
    "a list": ("[]", "recipe_json"),
    "no JSON": ("{", "recipe_json"),
    "depth": ("[" * 100_000, "recipe_json"),
    "a number without end": ('{"name": 1e999}', "name"),
    "python": ('{"name": "!!python/object/apply:os.system [true]"}', ""),
    "a key twice": ('{"name": "a", "name": "b"}', ""),
}


@pytest.mark.parametrize("case", EMBEDDED)
def test_a_hostile_recipe_inside_is_one_clear_error(copy, case):
    recipe_of(copy / "single.h5", EMBEDDED[case][0])
    with pytest.raises((DatasetError, RecipeError)):
        verify(copy / "single.h5")
    assert command("verify", copy / "single.h5") == 2
    assert command("info", copy / "single.h5") == 2


@pytest.mark.parametrize("where", ["/etc/passwd", "../secret.npy", "~/secret.npy", "\0", "x" * 5000,
                                   "~nobody-of-this-name/x", "\ud800"])  # fmt: skip
def test_a_recipe_inside_reads_no_file_elsewhere(copy, where):
    np.save(copy.parent / "secret.npy", np.zeros((8, 8)))
    mask = {"kind": "file", "path": where, "na_per_pixel": 0.3}
    recipe_of(copy / "single.h5", SMALL | {"optics": SMALL["optics"] | {"mask": mask}})
    with h5py.File(copy / "single.h5", "r+") as file:
        set_text(file, "inputs", json.dumps({"optics.mask.path": {"sha256": "0" * 64}}))
    result = CLI.invoke(app, ["verify", str(copy / "single.h5")])
    assert result.exit_code == 2, result.output
    assert result.exception is None or isinstance(result.exception, SystemExit)


def test_a_recipe_inside_that_asks_for_the_moon_is_refused(copy):
    huge = SMALL | {"acquisition": {"shape": [2**20, 2**20], "frames": 2**31}}
    recipe_of(copy / "single.h5", huge)
    assert command("verify", copy / "single.h5") in (1, 2)
    dense = SMALL | {"structure": SMALL["structure"] | {"density_per_um2": 1e300}}
    recipe_of(copy / "single.h5", dense)
    assert command("verify", copy / "single.h5") in (1, 2)


TEXTS = {
    "python objects": "name: !!python/object/apply:os.system ['touch {0}/ran']",
    "a module": "!!python/module:os",
    "laughter": "a: &a [x, x]\nb: &b [*a, *a]\nc: [*b, *b]",
    "depth": "a: " + "[" * 50_000,
    "mappings without end": "{a: " * 50_000,
    "a merge": "<<: {name: x}",
    "a key that is a list": "? [a]\n: b",
    "no text": "\x00\x01\x02",
    "many numbers": "name: x\noptics: {na: " + "9" * 10_000 + "}",
    "infinity": "name: x\noptics: {na: .inf}",
    "two documents": "name: a\n---\nname: b",
    "a megabyte": "x" * 1_500_000,
    "a tag": "!include /etc/passwd",
    "another encoding": b"\xff\xfen\x00a\x00",
    "nothing": "",
}


@pytest.mark.parametrize("case", TEXTS)
def test_hostile_recipe_texts_end_with_one_message(tmp_path, case):
    text = TEXTS[case]
    content = text if isinstance(text, bytes) else text.replace("{0}", str(tmp_path)).encode()
    (tmp_path / "bad.yaml").write_bytes(content)
    assert command("check", tmp_path / "bad.yaml") == 2
    assert (
        command("generate", tmp_path / "bad.yaml", "--samples", 1, "--out", tmp_path / "a.h5") == 2
    )
    assert [one.name for one in tmp_path.iterdir()] == ["bad.yaml"]


def calibration(folder):
    """A result of uiPSF, and what a recipe says of it."""
    path = folder / "psf.h5"
    with h5py.File(path, "w") as file:
        file["res/I_model"] = np.ones((5, 5, 5), np.float32)
        file.attrs["params"] = json.dumps({"pixel_size": {"x": 0.1, "y": 0.1, "z": 0.05}})
    return path, MeasuredPsf(path=str(path), z_axis="focus")


def test_a_calibration_that_claims_terabytes_is_refused(tmp_path):
    path, measured = calibration(tmp_path)
    with h5py.File(path, "r+") as file:
        del file["res/I_model"]
        file.create_dataset("res/I_model", (10_000,) * 3, "f4", chunks=(1, 100, 100))
    with pytest.raises(OpticsError, match="declares"):
        load_calibration(measured)


def test_texts_of_a_calibration_that_have_no_end_are_not_searched(tmp_path, monkeypatch):
    path, measured = calibration(tmp_path)
    content = bytearray(path.read_bytes())
    first = content.index(b"GCOL") + 16
    content[first + 8 : first + 16] = (1 << 40).to_bytes(8, "little")
    path.write_bytes(content)
    monkeypatch.setattr(h5py, "File", None)  # would never come back
    with pytest.raises(OpticsError, match="texts are damaged"):
        load_calibration(measured)


SIDECARS = {
    "depth": "[" * 50_000,
    "merges": "a: &a {x: 1}\n"
    + "\n".join(
        f"{b}: &{b} {{<<: [{', '.join([f'*{a}'] * 9)}]}}"
        for a, b in zip("abcdefghij", "bcdefghijk", strict=True)
    ),
    "python": "!!python/object/apply:os.system ['true']",
    "length": "x" * (1 << 21),
    "no number": "Pixelsize: [1]",
    "no pixel": "Pixelsize: -1",
    "not a number": "Pixelsize: .nan",
}


@pytest.mark.parametrize("case", SIDECARS)
def test_a_hostile_sidecar_of_a_table_is_one_clear_error(tmp_path, case):
    row = np.zeros(3, [("frame", "u4"), ("x", "f4"), ("y", "f4"), ("photons", "f4")])
    with h5py.File(tmp_path / "locs.hdf5", "w") as file:
        file["locs"] = row
    (tmp_path / "locs.yaml").write_text(SIDECARS[case])
    with pytest.raises(TableError):
        tables.read(tmp_path / "locs.hdf5")


HOSTILE_RUNS = {
    "no JSON": "{",
    "a list": "[]",
    "depth": "[" * 100_000,
    "nothing": "",
    "other": '{"format": "simscope-run"}',
    "no format": '{"format": null, "shards": 1}',
    "shards beyond all": json.dumps({"format": "simscope-run", "shards": 10**30}),
    "a recipe of text": json.dumps({"format": "simscope-run", "shards": 3, "recipe": "\x1b[2J"}),
    "no utf8": b"\xff\xfe\x00",
}


@pytest.mark.parametrize("case", HOSTILE_RUNS)
def test_a_hostile_run_file_is_one_message_and_nothing_is_lost(copy, case):
    run = copy / "run"
    (copy / "run.h5").unlink()
    text = HOSTILE_RUNS[case]
    (run / "run.json").write_bytes(text if isinstance(text, bytes) else text.encode())
    before = {one.name for one in run.iterdir()}
    result = CLI.invoke(app, ["info", str(run)])
    assert result.exception is None or isinstance(result.exception, SystemExit)
    assert "\x1b[2J" not in result.output
    with pytest.raises(DatasetError):
        ss.generate(snapshot(), 6, SEED, copy / "run.h5", samples_per_shard=2)
    assert {one.name for one in run.iterdir()} == before


def test_one_changed_letter_of_an_entry_is_seen(copy):
    path = copy / "run" / "shard-00001.json"
    entry = signed_entry(path.read_text(), source="it")
    assert signed_text(entry) == path.read_text()
    whole = (copy / "run.h5").read_bytes()
    spoilt = path.read_text().replace(f'"rows": {entry.rows}', f'"rows": {entry.rows + 1}')
    assert spoilt != path.read_text()
    path.write_text(spoilt)
    (copy / "run.h5").unlink()
    ss.generate(snapshot(), 6, SEED, copy / "run.h5", samples_per_shard=2)
    assert (copy / "run.h5").read_bytes() == whole


def test_a_folder_that_may_not_be_written_is_one_message(tmp_path, monkeypatch):
    (tmp_path / "locked").mkdir(mode=0o500)

    def deny(self, *args, **kwargs):
        raise PermissionError(13, "Permission denied", str(self))

    if os.geteuid() == 0:  # whom no mode bits stop
        monkeypatch.setattr(Path, "mkdir", deny)
        monkeypatch.setattr(h5py, "File", deny)
    out = tmp_path / "locked" / "data.h5"
    for more in ({}, {"samples_per_shard": 1}):
        with pytest.raises(DatasetError, match="ermission"):
            ss.generate(snapshot(), 2, SEED, out, **more)
    (tmp_path / "recipe.yaml").write_text(snapshot().to_yaml())
    assert command("generate", tmp_path / "recipe.yaml", "--samples", 1, "--out", out) == 2
    assert not list((tmp_path / "locked").iterdir())


def test_a_file_that_may_not_be_read_is_one_message(copy, monkeypatch):
    path = copy / "single.h5"
    path.chmod(0)
    if os.geteuid() == 0:  # whom no mode bits stop
        usual = Path.open

        def deny(self, *args, **kwargs):
            if self == path:
                raise PermissionError(13, "Permission denied", str(self))
            return usual(self, *args, **kwargs)

        monkeypatch.setattr(Path, "open", deny)
    with pytest.raises(DatasetError, match="no permission to read"):
        describe(path)
    assert command("info", path) == 2
    assert command("verify", path) == 2


@pytest.mark.parametrize("name", ["data.h5.part", "run/shard-00001.h5.elsewhere-1-abcd.part"])
def test_what_grows_or_was_left_behind_is_no_dataset(copy, name):
    path = copy / name
    path.write_bytes((copy / "single.h5").read_bytes()[:20_000])
    assert command("info", path) in (0, 2)  # of a run: how far it is
    assert command("verify", path) == 2


def test_mutated_files_are_refused_or_the_same(tmp_path):
    good = {world: fuzzing_worlds.make(world, tmp_path) for world in FEW}
    with ThreadPoolExecutor(2) as pool:
        each = list(pool.map(lambda one: fuzzing.outcomes(one, good[one], 0, FEW[one]), FEW))
    for found in each:
        assert not fuzzing.bugs(found)
        assert len({one["outcome"] for one in found.values()}) > 1


FEW = {"single": 20, "shards": 20, "plain": 20, "fast": 10, "run": 10, "recipe": 20, "tables": 30,
       "inputs": 30}  # fmt: skip
MANY = {"single": 1000, "shards": 1000, "plain": 800, "fast": 400, "recipe": 700, "tables": 800,
        "inputs": 800, "run": 300}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("world", fuzzing_worlds.WORLDS)
def test_thousands_of_mutated_files_are_refused_or_the_same(tmp_path, world):
    good = fuzzing_worlds.make(world, tmp_path)
    found = fuzzing.outcomes(world, good, 1000, 1000 + MANY[world])
    print(world, Counter(one["outcome"].split(":")[0] for one in found.values()))
    assert len(found) == MANY[world]
    assert not fuzzing.bugs(found)


def test_the_slow_mutations_are_five_thousand_or_more():
    assert sum(MANY.values()) >= 5000
