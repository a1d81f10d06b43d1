"""A run that ends early, however it ends, goes on to the same bytes when asked for again."""

import errno
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numba
import pytest
from small_worlds import movie, snapshot
from stored_files import sums

import simscope as ss
from simscope.dataset import folder as folders
from simscope.dataset import generation, write
from simscope.dataset.folder import OURS, RunFolder, changes, is_orphan, unique_part
from simscope.dataset.generation import carry_out
from simscope.dataset.plan import Plan
from simscope.dataset.schema import Layout
from simscope.errors import DatasetError, RecipeError

pytestmark = pytest.mark.filterwarnings("ignore::simscope.errors.SimscopeWarning")
needs_speed = pytest.mark.skipif(numba.config.DISABLE_JIT, reason="too slow without JIT")

SAMPLES = 30
EACH = 4

RUN = """
import sys, warnings
warnings.simplefilter("ignore")
sys.path.insert(0, sys.argv[1])
import simscope as ss
from small_worlds import snapshot
ss.generate(snapshot(), int(sys.argv[3]), 7, sys.argv[2], samples_per_shard=int(sys.argv[4]))
"""


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SIMSCOPE_CACHE", str(tmp_path_factory.mktemp("psf-tables")))
        yield


def run(folder, **others):
    settings = {"samples": SAMPLES, "seed": 7, "samples_per_shard": EACH} | others
    recipe = settings.pop("recipe", None) or snapshot()
    return carry_out(recipe, settings.pop("samples"), settings.pop("seed"),
                     folder / "run.h5", **settings)  # fmt: skip


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Checksums of an uninterrupted run."""
    folder = tmp_path_factory.mktemp("whole")
    outcome = run(folder)
    assert (outcome.complete, outcome.shards, outcome.made) == (True, 8, 8)
    return sums(folder)


def test_a_run_in_shards_has_the_samples_of_the_simulator(tmp_path):
    run(tmp_path)
    sim = ss.Simulator(snapshot(), 7)
    with ss.open_dataset(tmp_path / "run.h5") as data:
        assert len(data) == SAMPLES
        for index in (0, 3, 4, 29):
            assert (data[index].image == sim[index].image).all()
            assert (data[index].emitters == sim[index].emitters).all()


class Killed(BaseException):
    """Stands for the end of the process."""


STEPS = {
    "the folder is made": (folders.RunFolder, "begin"),
    "a shard is put in its place": (write, "place"),
    "an entry is written": (folders.RunFolder, "enter"),
    "the shards are joined": (generation.Run, "_assemble"),
}


@needs_speed
@pytest.mark.parametrize("count", [1, 5])
@pytest.mark.parametrize("step", STEPS)
def test_a_run_killed_at_any_step_goes_on_to_the_same_bytes(
    tmp_path, monkeypatch, whole, step, count
):
    calls = []

    def killed(*args, **kwargs):
        calls.append(args)
        if len(calls) == min(count, 1 if "folder" in step or "joined" in step else count):
            raise Killed
        return usual(*args, **kwargs)

    place, name = STEPS[step]
    usual = getattr(place, name)
    with monkeypatch.context() as patch:
        patch.setattr(place, name, killed)
        with pytest.raises(Killed):
            run(tmp_path)
    assert not (tmp_path / "run.h5").exists()
    assert run(tmp_path).complete
    assert sums(tmp_path) == whole


def start(folder, samples, each):
    script = [sys.executable, "-c", RUN, os.path.dirname(__file__), str(folder / "run.h5")]
    return subprocess.Popen([*script, str(samples), str(each)], stderr=subprocess.PIPE)


@needs_speed
def test_kill_9_at_several_moments_of_one_run_ends_in_the_same_bytes(tmp_path):
    samples, each = 12_000, 1000
    shards = tmp_path / "killed" / "run"
    for folder in ("killed", "whole"):
        (tmp_path / folder).mkdir()
    for finished in (1, 4, 9):
        process = start(tmp_path / "killed", samples, each)
        deadline = time.monotonic() + 60
        while len(list(shards.glob("*.json"))) <= finished and process.poll() is None:
            assert time.monotonic() < deadline
            time.sleep(0.005)
        process.send_signal(signal.SIGKILL)
        process.communicate(timeout=30)
    assert process.returncode == -signal.SIGKILL
    assert not (tmp_path / "killed" / "run.h5").exists()
    for folder in ("killed", "whole"):
        run(tmp_path / folder, samples=samples, samples_per_shard=each)
    assert sums(tmp_path / "killed") == sums(tmp_path / "whole")


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="asks Linux for names of files")
@pytest.mark.parametrize("samples", [3, SAMPLES], ids=["one file", "shards"])
def test_nothing_has_its_name_before_it_is_on_the_disk(tmp_path, monkeypatch, samples):
    log, fsync, replace = [], os.fsync, os.replace

    def synced(descriptor):
        log.append(("on the disk", os.readlink(f"/proc/self/fd/{descriptor}")))
        fsync(descriptor)

    def moved(source, target):
        if tmp_path in Path(target).parents:  # not tables of point spread functions
            log.append(("named", str(source), str(target)))
        replace(source, target)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(os, "replace", moved)
    run(tmp_path, samples=samples)
    moves = [number for number, step in enumerate(log) if step[0] == "named"]
    for number, following in zip(moves, [*moves[1:], len(log)], strict=True):
        _, source, target = log[number]
        assert ("on the disk", source) in log[:number], target
        assert ("on the disk", os.path.dirname(target)) in log[number:following], target
    named = [os.path.basename(log[number][2]) for number in moves]
    if samples == SAMPLES:  # an entry promises its shard, the dataset all of them
        pairs = [(f"shard-{k:05d}.h5", f"shard-{k:05d}.json") for k in range(8)]
        assert named == ["run.json", *(name for pair in pairs for name in pair), "run.h5"]
    else:
        assert named == ["run.h5"]


@needs_speed
def test_a_finished_run_is_discarded_entries_first(tmp_path, monkeypatch):
    run(tmp_path)
    unlinked, unlink = [], Path.unlink

    def noted(path, *args, **kwargs):
        unlinked.append(path.name)
        unlink(path, *args, **kwargs)

    monkeypatch.setattr(Path, "unlink", noted)
    run(tmp_path, seed=8, force=True)
    files = [name for name in unlinked if name.endswith((".h5", ".json"))]
    ends = [[f"shard-{k:05d}.{end}" for k in range(8)] for end in ("json", "h5")]
    assert files[:17] == ["run.h5", *ends[0], *ends[1]]


def test_another_version_of_simscope_does_not_go_on_with_a_run(tmp_path, monkeypatch):
    run(tmp_path, shards="0:2")
    monkeypatch.setattr(folders, "__version__", "99.0")
    with pytest.raises(DatasetError, match=r'simscope: ".*" -> "99\.0"'):
        run(tmp_path)


@needs_speed
@pytest.mark.parametrize("number", [0, 3, 7])
def test_a_shard_that_fails_as_it_is_finished_is_told_whichever_it_is(
    tmp_path, monkeypatch, number
):
    usual = write.place

    def failing(part, path, *, force):
        if path.name == f"shard-{number:05d}.h5":
            raise OSError(errno.EIO, "broken")
        usual(part, path, force=force)

    monkeypatch.setattr(write, "place", failing)
    with pytest.raises(DatasetError, match=f"cannot write .*shard-{number:05d}.h5"):
        run(tmp_path)
    assert not list(tmp_path.rglob("*.part"))


def test_a_shard_that_reads_back_wrong_leaves_nothing(tmp_path, monkeypatch):
    def wrong(part, plan, entry):
        raise DatasetError(f"{part} reads back wrong")

    monkeypatch.setattr(write, "check_written", wrong)
    with pytest.raises(DatasetError, match=r"reads back wrong; 0 of 8 shards"):
        run(tmp_path)
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["run.json"]


def test_a_shard_tells_of_its_own_frames_and_the_dataset_of_all(tmp_path, monkeypatch):
    """Of saturated pixels and warnings, however shards follow one another."""
    monkeypatch.setattr("simscope.dataset.produce.CHUNK_BYTES", 1)  # two chunks a shard
    background = {"photons_per_pixel": {"uniform": [2, 60]}}
    camera = {"kind": "ccd", "pixel_pitch_um": 10, "bit_depth": 8, "baseline_adu": 150}
    recipe = snapshot().replace("camera", camera).replace("background", background)
    recipe = recipe.replace("structure.density_per_um2", 0.05)
    run(tmp_path, recipe=recipe, samples=12, samples_per_shard=2, seed=12)
    with ss.open_dataset(tmp_path / "run.h5") as data:
        sim = ss.Simulator(recipe, 12)
        full = [next(sim.chunks(2 * k, 2 * k + 2)).saturated_pixels for k in range(6)]
        limit = [int((data.images[2 * k : 2 * k + 2] == 255).sum()) for k in range(6)]
        assert all(cut <= there for cut, there in zip(full, limit, strict=True))
        assert [entry.saturated_pixels for entry in data.shards] == full
        assert full[0] == 0  # nothing is known of the others by the first
        assert data.saturated_pixels == sum(full) > max(full)
        told = [any("saturated" in line for line in entry.warnings) for entry in data.shards]
        assert told == [pixels > 0 for pixels in full]
        assert set(data.warnings) == {line for entry in data.shards for line in entry.warnings}


def test_what_is_finished_is_not_made_again(tmp_path, monkeypatch):
    run(tmp_path)
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "run").iterdir()}
    (tmp_path / "run" / "shard-00003.h5").unlink()
    outcome = run(tmp_path)
    assert (outcome.made, outcome.complete) == (1, True)
    after = {path: path.stat().st_mtime_ns for path in (tmp_path / "run").iterdir()}
    changed = {path.name for path in after if before[path] != after[path]}
    assert changed == {"shard-00003.h5", "shard-00003.json"}
    monkeypatch.setattr(generation, "Production", None)
    assert run(tmp_path).made == 0


def truncate(folder):
    with (folder / "shard-00002.h5").open("r+b") as file:
        file.truncate(10_000)


def cut_entry(folder):
    path = folder / "shard-00002.json"
    path.write_bytes(path.read_bytes()[:200])


def empty_entry(folder):
    (folder / "shard-00002.json").write_bytes(b"")


def nonsense_entry(folder):
    (folder / "shard-00002.json").write_text('[1, {"file": 3}]')


def entry_of_another(folder):
    (folder / "shard-00002.json").write_bytes((folder / "shard-00003.json").read_bytes())


def remove_entry(folder):
    (folder / "shard-00002.json").unlink()


DAMAGE = [truncate, cut_entry, empty_entry, nonsense_entry, entry_of_another, remove_entry]


@needs_speed
@pytest.mark.parametrize("joined", [True, False], ids=["joined", "unjoined"])
@pytest.mark.parametrize("damage", DAMAGE, ids=lambda damage: damage.__name__)
def test_a_shard_damaged_by_a_power_cut_is_made_again(tmp_path, whole, damage, joined):
    run(tmp_path)
    damage(tmp_path / "run")
    if not joined:
        (tmp_path / "run.h5").unlink()
    outcome = run(tmp_path)
    assert (outcome.made, outcome.complete) == (1, True)
    assert sums(tmp_path) == whole


OTHERS = {
    "seed: 7 -> 8": {"seed": 8},
    "samples: 30 -> 29": {"samples": 29},
    "samples per shard: 4 -> 5": {"samples_per_shard": 5},
    'codec: "default" -> "none"': {"codec": "none"},
    "expected: false -> true": {"expected": True},
    "targets.density.kind": {"targets": ["density"]},
    "recipe.optics.na: 1.2 -> 1.1": {"recipe": snapshot().replace("optics.na", 1.1)},
}


@needs_speed
@pytest.mark.parametrize("finished", [True, False], ids=["finished", "unfinished"])
@pytest.mark.parametrize("difference", OTHERS)
def test_another_run_of_the_same_name_is_refused_and_says_what_differs(
    tmp_path, finished, difference
):
    run(tmp_path, shards=None if finished else "0:2")
    before = sums(tmp_path)
    with pytest.raises(DatasetError, match=r"another run.*choose.*another name.*--force") as told:
        run(tmp_path, **OTHERS[difference])
    if difference != "samples per shard: 4 -> 5" or not finished:
        assert difference in str(told.value)
    assert sums(tmp_path) == before


@needs_speed
def test_force_discards_the_other_run_and_nothing_else(tmp_path, whole):
    run(tmp_path, seed=8)
    kept = tmp_path / "run" / "notes.txt"
    kept.write_text("mine")
    run(tmp_path, force=True)
    assert kept.read_text() == "mine"
    kept.unlink()
    assert sums(tmp_path) == whole
    run(tmp_path, force=True, samples=3)
    assert list(sums(tmp_path)) == ["run.h5"]
    run(tmp_path, force=True)
    assert sums(tmp_path) == whole


@needs_speed
def test_force_goes_on_with_an_unfinished_run_of_the_same_arguments(tmp_path, whole):
    run(tmp_path, shards="0:5")
    assert run(tmp_path, force=True).made == 3
    assert sums(tmp_path) == whole
    assert run(tmp_path, force=True).made == 8
    assert sums(tmp_path) == whole


def test_force_and_a_choice_of_shards_do_not_go_together(tmp_path):
    run(tmp_path, shards="0:2")
    before = sums(tmp_path)
    with pytest.raises(DatasetError, match="discard what others have made"):
        run(tmp_path, force=True, shards="2:4")
    assert sums(tmp_path) == before


@pytest.mark.parametrize("force", [True, False])
def test_a_folder_of_something_else_is_never_touched(tmp_path, force):
    (tmp_path / "run").mkdir()
    for name, text in {"photos.txt": "x", "run.json": '{"format": "jogging"}'}.items():
        (tmp_path / "run" / name).write_text(text)
        with pytest.raises(DatasetError, match="choose another name"):
            run(tmp_path, force=force)
        assert (tmp_path / "run" / name).read_text() == text
        assert not (tmp_path / "run.h5").exists()
    run(tmp_path, samples=3, force=force)
    assert (tmp_path / "run" / "photos.txt").read_text() == "x"


def test_a_file_in_place_of_the_folder_is_refused(tmp_path):
    (tmp_path / "run").write_text("mine")
    with pytest.raises(DatasetError, match="is no folder"):
        run(tmp_path)
    assert (tmp_path / "run").read_text() == "mine"


def test_a_single_file_asked_for_again_is_left_as_it_is(tmp_path):
    assert run(tmp_path, samples=3).made == 1
    before = (tmp_path / "run.h5").stat()
    assert run(tmp_path, samples=3).made == 0
    assert (tmp_path / "run.h5").stat().st_mtime_ns == before.st_mtime_ns
    with pytest.raises(DatasetError, match=r"recipe\.camera\.qe"):
        run(tmp_path, samples=3, recipe=snapshot().replace("camera.qe", 0.5))


def test_whoever_makes_the_last_shards_joins_them(tmp_path, whole):
    for shards, finished in {"5:8": 3, "0:2": 5, "1:4": 7}.items():
        outcome = run(tmp_path, shards=shards)
        assert (outcome.finished, outcome.complete) == (finished, False)
        assert outcome.path == tmp_path / "run"
        assert not (tmp_path / "run.h5").exists()
    outcome = run(tmp_path, shards="4:5")
    assert (outcome.complete, outcome.path) == (True, tmp_path / "run.h5")
    assert sums(tmp_path) == whole


@pytest.mark.parametrize("shards", ["8:9", "3:3", "a:b", "7", "-1:2", "4:2"])
def test_impossible_choices_of_shards_are_refused(tmp_path, shards):
    with pytest.raises(DatasetError, match="shards"):
        run(tmp_path, shards=shards)
    assert not list(tmp_path.iterdir())


def test_windows_of_one_movie_make_the_same_samples_as_the_whole(tmp_path, monkeypatch):
    monkeypatch.setattr("simscope.dataset.plan.PIECE_BYTES", 2 * 24 * 20 * 5)
    recipe = movie(frames=18)
    outcome = run(tmp_path, recipe=recipe, samples=2, samples_per_shard=None)
    assert outcome.shards == 8
    before = sums(tmp_path)
    for shard in ("00001", "00006"):
        (tmp_path / "run" / f"shard-{shard}.h5").unlink()
    assert run(tmp_path, recipe=recipe, samples=2, samples_per_shard=None).made == 2
    assert sums(tmp_path) == before
    sim = ss.Simulator(recipe, 7)
    with ss.open_dataset(tmp_path / "run.h5") as data:
        for index in range(2):
            assert (data[index].image == sim[index].image).all()
            assert (data[index].emitters == sim[index].emitters).all()


def test_ctrl_c_says_how_far_the_run_has_come_and_leaves_no_parts(tmp_path, whole):
    def interrupt(done, total):
        if done > 3 * EACH:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt) as told:
        run(tmp_path, progress=interrupt)
    (note,) = told.value.__notes__
    assert note.startswith("3 of 8 shards are finished in")
    assert "the same command goes on from there" in note
    assert not list(tmp_path.rglob("*.part"))
    run(tmp_path)
    assert sums(tmp_path) == whole


def test_a_full_disk_says_what_is_kept_and_the_run_goes_on(tmp_path, monkeypatch, whole):
    usual, calls = write.sync, []

    def full(path):
        calls.append(path)
        if len(calls) == 7:
            raise OSError(errno.ENOSPC, "full")
        return usual(path)

    with monkeypatch.context() as patch:
        patch.setattr(write, "sync", full)
        with pytest.raises(DatasetError, match=r"free some space.* of 8 shards are finished in"):
            run(tmp_path)
    assert not list(tmp_path.rglob("*.part"))
    run(tmp_path)
    assert sums(tmp_path) == whole


def test_room_is_asked_for_what_is_missing_only(tmp_path, monkeypatch):
    run(tmp_path, shards="0:7")

    class Usage:
        free = 20_000

    monkeypatch.setattr(generation.shutil, "disk_usage", lambda folder: Usage)
    assert run(tmp_path).complete
    with pytest.raises(DatasetError, match="free"):
        run(tmp_path, samples=31, force=True)


def test_parts_of_dead_processes_of_this_machine_are_removed(tmp_path, monkeypatch):
    run(tmp_path, shards="0:2")
    inside = tmp_path / "run"
    shard, entry = inside / "shard-00005.h5", inside / "shard-00005.json"
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait(timeout=30)
    with monkeypatch.context() as patch:
        patch.setattr(os, "getpid", lambda: process.pid)
        dead = [unique_part(path) for path in (shard, entry, tmp_path / "run.h5")]
    living = unique_part(shard)
    elsewhere = inside / f"shard-00005.h5.node_3-{process.pid}-0badcafe.part"
    foreign = inside / "draft.part"
    for path in (*dead, living, elsewhere, foreign):
        path.write_text("x")
    assert [is_orphan(path) for path in (*dead, living)] == [True, True, True, False]
    run(tmp_path)
    assert [path.exists() for path in dead] == [False] * 3
    assert living.exists()
    assert elsewhere.exists()
    assert foreign.exists()


@needs_speed
def test_two_runs_at_once_in_one_folder_end_well(tmp_path, whole):
    failures = []

    def one():
        try:
            run(tmp_path, threads=1)
        except Exception as error:
            failures.append(error)

    runs = [threading.Thread(target=one) for _ in range(2)]
    for thread in runs:
        thread.start()
    for thread in runs:
        thread.join(timeout=120)
    assert failures == []
    assert sums(tmp_path) == whole


def test_an_input_file_that_has_changed_is_another_run(tmp_path):
    table = tmp_path / "points.csv"
    table.write_text("x_nm,y_nm\n500,600\n")
    recipe = snapshot().replace("structure", {"kind": "table", "path": str(table)})
    run(tmp_path, recipe=recipe, shards="0:2")
    table.write_text("x_nm,y_nm\n600,500\n")
    with pytest.raises(DatasetError, match=r"inputs\.structure\.path\.sha256"):
        run(tmp_path, recipe=recipe)


def test_progress_counts_frames_and_begins_with_what_is_finished(tmp_path):
    told = []
    run(tmp_path, shards="0:2")
    run(tmp_path, progress=lambda done, total: told.append((done, total)))
    assert told[0] == (2 * EACH, SAMPLES)
    assert told[-1] == (SAMPLES, SAMPLES)
    assert told == sorted(told)


def test_names_of_files_that_are_ours_are_told_from_others():
    ours = ["run.json", "shard-00000.h5", "shard-00012.json", "shard-123456.h5",
            "shard-00001.h5.node7-12-0a1b.part", "run.json.h_1-3-ff.part"]  # fmt: skip
    others = ["shard-1.h5", "shard-00001.h5.part", "shard-00001.csv", "train.h5", "run.json.bak",
              "shard-00001.h5.part.txt", "xshard-00001.h5"]  # fmt: skip
    assert all(OURS.fullmatch(name) for name in ours)
    assert not any(OURS.fullmatch(name) for name in others)


def test_changes_name_paths_and_both_values():
    was = {"recipe": {"optics": {"na": 1.2}, "name": "a"}, "seed": 7}
    now = {"recipe": {"optics": {"na": 1.3}, "name": "a"}, "codec": "none"}
    assert changes(was, now) == ["recipe.optics.na: 1.2 -> 1.3", "seed: 7 -> none",
                                 'codec: none -> "none"']  # fmt: skip


def test_run_json_says_what_the_run_is(tmp_path):
    run(tmp_path, shards="0:1")
    written = json.loads((tmp_path / "run" / "run.json").read_text())
    assert (written["seed"], written["samples"], written["shards"]) == (7, SAMPLES, 8)
    plan = Plan.of(Layout.of(ss.Simulator(snapshot(), 7), samples=SAMPLES), samples_per_piece=EACH)
    assert RunFolder(tmp_path / "run.h5", plan).written_run() == written


@pytest.mark.parametrize("workers", [0, -1, 1.5, True, "2"])
def test_impossible_numbers_of_workers_are_refused(tmp_path, workers):
    with pytest.raises(DatasetError, match="workers"):
        run(tmp_path, workers=workers)


def test_an_error_of_the_recipe_keeps_its_class_and_says_how_far_the_run_has_come(
    tmp_path, monkeypatch
):
    def broken(*args, **kwargs):
        raise RecipeError("impossible")

    monkeypatch.setattr(generation, "make_shard", broken)
    with pytest.raises(RecipeError, match=r"^impossible; 0 of 8 shards are finished"):
        run(tmp_path)
