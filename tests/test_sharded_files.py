"""Many files seen as one: the same arrays as in a single file, and no shard silently missing."""

import json
import os
import pickle
import shutil
import subprocess
import sys
import threading

import h5py
import numpy as np
import pytest
from small_worlds import movie, snapshot, stack

import simscope as ss
from simscope.dataset import plan as plans
from simscope.dataset import read
from simscope.dataset.assemble import assemble
from simscope.dataset.folder import folder_of, shard_name, unique_part
from simscope.dataset.plan import Plan
from simscope.dataset.produce import produce
from simscope.dataset.schema import Layout
from simscope.errors import DatasetError
from simscope.targets import parse_targets

pytestmark = pytest.mark.filterwarnings("ignore::simscope.errors.SimscopeWarning")

SAMPLES = 5


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SIMSCOPE_CACHE", str(tmp_path_factory.mktemp("psf-tables")))
        yield


def make(out, recipe, *, samples_per_piece=None, targets=()):
    """A run in shards, the last of them made first."""
    sim = ss.Simulator(recipe, 7)
    layout = Layout.of(sim, samples=SAMPLES, expected=True, targets=parse_targets(targets))
    plan = Plan.of(layout, samples_per_piece=samples_per_piece)
    folder = folder_of(out)
    folder.mkdir()
    entries = {}
    for piece in reversed(list(plan)):
        shard = folder / shard_name(piece.number)
        entries[piece.number] = produce(sim, plan, piece, shard, part=unique_part(shard))
    assert len(plan) > 1
    ordered = [entries[number] for number in range(len(plan))]
    assemble(out, plan, ordered, folder)
    return plan, ordered


CASES = {
    "whole samples": (snapshot, 2, ["density"]),
    "whole movies": (movie, 2, ["density:upsampling=2"]),
    "whole stacks": (stack, 2, []),
    "windows of movies": (movie, None, ["density:upsampling=1"]),
    "50%b µ %%": (snapshot, 3, []),
}


@pytest.fixture(scope="module", params=CASES)
def world(request, tmp_path_factory):
    recipe, per_piece, targets = CASES[request.param]
    out = tmp_path_factory.mktemp("shards") / f"{request.param}.h5"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plans, "PIECE_BYTES", 5 * 10 * 24 * 20)
        plan, entries = make(out, recipe(), samples_per_piece=per_piece, targets=targets)
    return recipe(), out, plan, entries, targets


def test_shards_together_are_the_batch(world):
    recipe, out, plan, _, targets = world
    sim = ss.Simulator(recipe, 7)
    batch = sim.batch(0, SAMPLES, expected=True)
    with ss.open_dataset(out) as data:
        assert len(data.shards) == len(plan)
        assert np.array_equal(data.images[:], batch.images)
        assert np.array_equal(data.expected_photons[1:4], batch.expected_photons[1:4])
        assert np.array_equal(data.emitters, batch.emitters)
        assert np.array_equal(data.emitter_offsets, batch.emitter_offsets)
        for name, values in batch.parameters.items():
            assert np.array_equal(data.parameters[name], values)
        for target in parse_targets(targets):
            assert np.array_equal(data.target(target.kind)[:], target.of(sim, batch).reshape(
                data.target(target.kind).shape))  # fmt: skip
        for name in ("gain", "offset_adu", "read_noise"):
            assert np.array_equal(getattr(data.camera_maps, name), getattr(sim.maps, name))


def test_any_sample_frame_and_run_is_that_of_the_simulator(world):
    recipe, out, *_ = world
    sim = ss.Simulator(recipe, 7)
    with ss.open_dataset(out) as data:
        for index in (3, 0, 4, 1):
            stored, fresh = data[index], sim[index]
            assert np.array_equal(stored.image, fresh.image)
            assert np.array_equal(stored.emitters, fresh.emitters)
            assert stored.parameters == fresh.parameters
            last = data.frame((index + 1) * data.frames_per_sample - 1)
            assert np.array_equal(last, fresh.image.reshape(-1, *last.shape)[-1])
        for start, stop in ((0, 1), (1, 4), (2, 5)):
            stored, fresh = data.batch(start, stop), sim.batch(start, stop, expected=True)
            for name in ("images", "emitters", "emitter_offsets", "expected_photons"):
                assert np.array_equal(getattr(stored, name), getattr(fresh, name)), name
            assert set(stored.parameters) == set(fresh.parameters)
            for name, values in fresh.parameters.items():
                assert np.array_equal(stored.parameters[name], values), name


PLAIN = """
import sys
sys.modules["simscope"] = None
import h5py, json, numpy as np
with h5py.File(sys.argv[1]) as f:
    sums = {name: repr(float(np.asarray(f[name][()], float).sum()))
            for name in ("images", "expected_photons", "emitters/x_nm", "emitters/frame",
                         "emitters/offsets")}
    sums["last"] = repr(float(f["images"][-1].sum()))
    sums["manifest"] = f["manifest/file"][:].tolist()[-1].decode()
    sums |= {name: values[()].tolist() for name, values in f["parameters"].items()}
print(json.dumps(sums))
"""


@pytest.mark.parametrize("moved", [False, True])
def test_plain_h5py_follows_the_shards_from_anywhere(world, tmp_path, moved):
    recipe, out, plan, *_ = world
    if moved:
        shutil.copytree(folder_of(out), tmp_path / folder_of(out).name)
        out = shutil.copy(out, tmp_path)
    run = subprocess.run(
        [sys.executable, "-c", PLAIN, str(out)],
        capture_output=True, text=True, check=True, cwd="/", timeout=60,
    )  # fmt: skip
    seen, batch = json.loads(run.stdout), ss.Simulator(recipe, 7).batch(0, SAMPLES, expected=True)
    meant = {
        "images": batch.images, "expected_photons": batch.expected_photons,
        "emitters/x_nm": batch.emitters["x_nm"], "emitters/frame": batch.emitters["frame"],
        "emitters/offsets": batch.emitter_offsets, "last": batch.images[-1],
    }  # fmt: skip
    for name, values in meant.items():
        assert seen[name] == repr(float(np.asarray(values, float).sum())), name
    assert seen["manifest"] == shard_name(len(plan) - 1)
    for name, values in batch.parameters.items():
        assert seen[name] == values.tolist()


def test_the_joining_file_depends_on_the_shards_alone(world, tmp_path):
    _, out, plan, entries, _ = world
    shutil.copytree(folder_of(out), tmp_path / folder_of(out).name)
    again = tmp_path / out.name
    assemble(again, plan, entries, folder_of(again))
    assert again.read_bytes() == out.read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(
        [folder_of(out).name, out.name]
    )


def test_camera_maps_are_in_the_first_shard_only(world):
    _, out, plan, *_ = world
    held = []
    for number in range(len(plan)):
        with h5py.File(folder_of(out) / shard_name(number)) as file:
            held.append("camera" in file)
    with h5py.File(out) as file:
        assert held == ["camera" in file] + [False] * (len(plan) - 1)


def test_the_manifest_says_what_is_known_of_each_shard(world):
    _, out, plan, entries, _ = world
    with ss.open_dataset(out) as data:
        assert list(data.shards) == entries
    with h5py.File(out) as file:
        assert [name.decode() for name in file["manifest/file"]] == [
            shard_name(number) for number in range(len(plan))
        ]
        for values in file["manifest"].values():
            assert values.attrs["unit"]
            assert values.attrs["description"]
        assert file["manifest/frames"][()].sum() == file.attrs["frames"]
        sums = json.loads(file["manifest/arrays_sha256"][0])
    assert sums == entries[0].arrays_sha256


def test_every_array_that_joins_shards_states_unit_and_meaning(world):
    def look(name, item):
        if isinstance(item, h5py.Dataset):
            assert item.attrs["unit"], name
            assert item.attrs["description"], name

    with h5py.File(world[1]) as file:
        file.visititems(look)
        assert file["images"].is_virtual
        assert not file["emitters/offsets"].is_virtual


@pytest.fixture
def run(tmp_path):
    """A run of three shards of its own."""
    make(tmp_path / "run.h5", snapshot(), samples_per_piece=2)
    return tmp_path / "run.h5"


def shard(run, number):
    return folder_of(run) / shard_name(number)


def test_a_missing_shard_is_an_error_that_names_it(run):
    shard(run, 1).unlink()
    with pytest.raises(DatasetError, match=r"shard-00001\.h5.*cannot be found.*generate again"):
        ss.open_dataset(run)


def test_a_missing_shard_never_reads_as_zeros_by_plain_h5py(run):
    shard(run, 1).unlink()
    with h5py.File(run) as file:
        assert np.all(file["images"][2:4] == 65535)
        assert np.all(np.isnan(file["expected_photons"][2:4]))
        assert np.any(file["emitters/frame"][()] == -1)


def test_a_shard_cut_short_is_an_error_that_names_it(run):
    os.truncate(shard(run, 2), shard(run, 2).stat().st_size - 1)
    with pytest.raises(DatasetError, match=r"shard-00002\.h5 has .* bytes.*are noted"):
        ss.open_dataset(run)


def test_a_missing_folder_is_an_error(run):
    folder_of(run).rename(run.parent / "elsewhere")
    with pytest.raises(DatasetError, match="cannot be found"):
        ss.open_dataset(run)


def test_a_shard_in_the_place_of_another_is_refused(run):
    entries = [shard(run, number).read_bytes() for number in (0, 1)]
    size = max(map(len, entries))
    if len(entries[0]) != len(entries[1]):  # make room: bytes behind the end of HDF5's data
        with h5py.File(run, "r+") as file:
            file["manifest/bytes"][:2] = size
        entries = [data + bytes(size - len(data)) for data in entries]
    shard(run, 0).write_bytes(entries[1])
    shard(run, 1).write_bytes(entries[1])
    with pytest.raises(DatasetError, match="is not shard 0"):
        ss.open_dataset(run)


def test_a_kept_error_keeps_no_file_open(run):
    first = shard(run, 0)
    first.write_bytes(bytes(first.stat().st_size))
    before = h5py.h5f.get_obj_count(types=h5py.h5f.OBJ_FILE)
    with pytest.raises(DatasetError, match="not an HDF5 file") as kept:
        ss.open_dataset(run)
    assert h5py.h5f.get_obj_count(types=h5py.h5f.OBJ_FILE) == before
    assert kept.value.__traceback__ is not None  # and with it all that was opened on the way


def test_a_shard_of_another_seed_is_refused(run, tmp_path):
    sim = ss.Simulator(snapshot(), 8)
    plan = Plan.of(Layout.of(sim, samples=SAMPLES, expected=True), samples_per_piece=2)
    produce(sim, plan, plan[1], shard(run, 1), part=unique_part(shard(run, 1)))
    with h5py.File(run, "r+") as file:
        file["manifest/bytes"][1] = shard(run, 1).stat().st_size
    with ss.open_dataset(run) as data:
        data[0]
        with pytest.raises(DatasetError, match="is not shard 1"):
            data[2]


def test_a_shard_alone_names_the_file_to_open(run):
    with pytest.raises(DatasetError, match=r"is shard 1 of a run: open .*run\.h5"):
        ss.open_dataset(shard(run, 1))


@pytest.mark.parametrize(
    ("column", "row", "value", "message"),
    [("file", 1, b"../run/shard-00001.h5", "is odd"), ("file", 0, b"/etc/passwd", "is odd"),
     ("first_frame", 1, 3, "is odd"), ("frames", 2, 2, "add up"), ("rows", 0, 10**15, "add up"),
     ("rows", 0, -1, "whole number from 0"), ("bytes", 0, 2**60, "bytes"),
     ("arrays_sha256", 0, b"[[[", "damaged"), ("file_sha256", 0, b"x", "checksum")],
)  # fmt: skip
def test_a_manifest_that_contradicts_itself_or_leads_away_is_refused(
    run, column, row, value, message
):
    with h5py.File(run, "r+") as file:
        values = file[f"manifest/{column}"][()].tolist()
        kept = dict(file[f"manifest/{column}"].attrs)
        values[row] = value
        del file[f"manifest/{column}"]
        file[f"manifest/{column}"] = np.array(values)
        file[f"manifest/{column}"].attrs.update(kept)
    with pytest.raises(DatasetError, match=message):
        ss.open_dataset(run)


def test_a_link_to_the_joining_file_finds_the_shards(run, tmp_path):
    (tmp_path / "far").mkdir()
    (tmp_path / "far" / "link.h5").symlink_to(run)
    with ss.open_dataset(tmp_path / "far" / "link.h5") as data:
        assert np.array_equal(data[3].image, ss.Simulator(snapshot(), 7)[3].image)


def test_few_shards_are_open_and_few_tables_kept_at_a_time(run, monkeypatch):
    monkeypatch.setattr(read, "most_open", lambda: 2)
    monkeypatch.setattr(read, "MOST_TABLES", 1)
    fresh = ss.Simulator(snapshot(), 7)
    with ss.open_dataset(run) as data:
        for index in (0, 2, 4, 1, 3, 0):
            assert np.array_equal(data[index].emitters, fresh[index].emitters)
            assert len(data._parts) <= 2
            assert len(data._truths) <= 1


def test_a_shard_that_changes_is_looked_through_again(run, monkeypatch):
    monkeypatch.setattr(read, "most_open", lambda: 1)
    with ss.open_dataset(run) as data:
        data.image(2)
        data.image(0)  # closes shard 1
        with h5py.File(shard(run, 1), "r+") as file:
            file.attrs["seed"] = 8
        with pytest.raises(DatasetError, match="is not shard 1"):
            data.image(3)


def test_datasets_survive_pickling_and_threads(run, monkeypatch):
    monkeypatch.setattr(read, "most_open", lambda: 1)
    monkeypatch.setattr(read, "MOST_TABLES", 1)
    images = ss.Simulator(snapshot(), 7).batch(0, SAMPLES).images
    wrong = []

    def look(data, order):
        for index in order:
            if not np.array_equal(data[index].image, images[index]):
                wrong.append(index)

    with ss.open_dataset(run) as data:
        copy = pickle.loads(pickle.dumps(data))  # noqa: S301
        orders = ([0, 4, 2] * 20, [3, 1, 0] * 20, [4, 3, 2] * 20)
        threads = [threading.Thread(target=look, args=(data, order)) for order in orders]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert not wrong
        with copy:
            look(copy, range(SAMPLES))
        assert not wrong


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_process_opens_the_files_anew(run):
    image = ss.Simulator(snapshot(), 7)[4].image
    with ss.open_dataset(run) as data:
        data[4]
        child = os.fork()
        if not child:
            same = np.array_equal(data[4].image, image) and data._process == os.getpid()
            os._exit(0 if same else 1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert np.array_equal(data[4].image, image)


def test_fewer_shards_than_planned_are_not_joined(tmp_path):
    plan, entries = make(tmp_path / "run.h5", snapshot(), samples_per_piece=2)
    with pytest.raises(DatasetError, match="2 of 3 shards"):
        assemble(tmp_path / "other.h5", plan, entries[:2], folder_of(tmp_path / "run.h5"))
    with pytest.raises(DatasetError, match="is not shard 0"):
        assemble(
            tmp_path / "other.h5", plan, [entries[1], *entries[1:]], folder_of(tmp_path / "run.h5")
        )
    assert sorted(path.name for path in tmp_path.iterdir()) == ["run", "run.h5"]
