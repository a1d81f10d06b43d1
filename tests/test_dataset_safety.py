"""No file ever opens as if complete when it is not, and nothing is overwritten unasked."""

import errno
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import h5py
import numba
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from small_worlds import movie, snapshot

import simscope as ss
from simscope import acquire
from simscope.dataset import forecast, generation, produce, write, write_localizations
from simscope.dataset.plan import Plan
from simscope.dataset.schema import Layout
from simscope.dataset.write import DatasetWriter, part_path, reason
from simscope.errors import DatasetError
from simscope.show.style import write_new

pytestmark = pytest.mark.filterwarnings("ignore::simscope.errors.SimscopeWarning")


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SIMSCOPE_CACHE", str(tmp_path_factory.mktemp("psf-tables")))
        yield


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    return ss.generate(snapshot(), 4, 7, tmp_path_factory.mktemp("good") / "good.h5")


@pytest.fixture
def copy(good, tmp_path):
    return shutil.copy(good, tmp_path / "copy.h5")


TABLE = np.zeros(1, [("frame", "i8"), ("x_nm", "f8"), ("y_nm", "f8")])

RUN = """
import resource, signal, sys
sys.path.insert(0, sys.argv[1])
import simscope as ss
from simscope.errors import SimscopeError
from small_worlds import snapshot

if int(sys.argv[4]):
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[4]),) * 2)
try:
    ss.generate(snapshot(), int(sys.argv[3]), 7, sys.argv[2])
except SimscopeError as error:
    print(type(error).__name__, error)
    sys.exit(2)
"""


ONE_FILE = 60_000
"""As many samples as a single file takes, of those below: seconds of work."""


def start(out, samples, limit_bytes=0):
    command = [sys.executable, "-c", RUN, os.path.dirname(__file__), str(out)]
    return subprocess.Popen(
        [*command, str(samples), str(limit_bytes)],
        stdout=subprocess.PIPE, text=True, cwd=os.path.dirname(os.path.dirname(__file__)),
    )  # fmt: skip


def wait_for(condition, seconds=60):
    for _ in range(int(seconds / 0.02)):
        if condition():
            return
        time.sleep(0.02)
    pytest.fail("the run never got going")


@pytest.mark.skipif(numba.config.DISABLE_JIT, reason="thousands of samples, too slow without JIT")
def test_a_killed_run_leaves_nothing_that_opens_and_the_next_run_succeeds(tmp_path):
    out = tmp_path / "run.h5"
    part = part_path(out)
    run = start(out, ONE_FILE)
    wait_for(lambda: part.exists() and part.stat().st_size > 200_000)
    with pytest.raises(DatasetError, match="another run is writing"):
        ss.generate(snapshot(), 2, 7, out)
    run.send_signal(signal.SIGKILL)
    run.wait()
    assert not out.exists()
    with pytest.raises(DatasetError):
        ss.open_dataset(part)
    ss.generate(snapshot(), 2, 7, out)
    assert not part.exists()
    with ss.open_dataset(out) as data:
        assert len(data) == 2


@pytest.mark.skipif(numba.config.DISABLE_JIT, reason="thousands of samples, too slow without JIT")
def test_a_full_disk_is_one_clear_error_and_leaves_nothing(tmp_path):
    run = start(tmp_path / "run.h5", ONE_FILE, limit_bytes=500_000)
    said, _ = run.communicate()
    assert run.returncode == 2
    assert said.startswith("DatasetError cannot write")
    assert "large" in said
    assert not list(tmp_path.iterdir())


def test_full_disk_and_quota_are_named():
    assert "free some space" in reason(OSError(errno.ENOSPC, "x"))
    assert "quota" in reason(OSError(errno.EDQUOT, "x"))
    assert reason(RuntimeError("odd\n thing")) == "odd thing"


def test_ctrl_c_leaves_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(produce, "CHUNK_BYTES", 4 * 24 * 20)

    def interrupt(done, total):
        if done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        ss.generate(snapshot(), 10, 7, tmp_path / "run.h5", progress=interrupt)
    assert not list(tmp_path.iterdir())


def test_an_error_while_writing_reaches_the_caller_and_leaves_nothing(tmp_path, monkeypatch):
    def fail(*args):
        raise OSError(errno.EIO, "broken")

    monkeypatch.setattr(write.codec, "write_chunks", fail)
    with pytest.raises(DatasetError, match="cannot write"):
        ss.generate(snapshot(), 10, 7, tmp_path / "run.h5")
    assert not list(tmp_path.iterdir())


def test_what_exists_is_kept_unless_forced(copy):
    before = Path(copy).read_bytes()
    with pytest.raises(DatasetError, match=r"exists.*--force"):
        ss.generate(snapshot(), 2, 8, copy)
    assert Path(copy).read_bytes() == before
    ss.generate(snapshot(), 2, 8, copy, force=True)
    with ss.open_dataset(copy) as data:
        assert (len(data), data.seed) == (2, 8)


@pytest.fixture
def pipe(tmp_path):
    os.mkfifo(tmp_path / "pipe.h5")
    return tmp_path / "pipe.h5"


@pytest.mark.parametrize("write_to", ["generate", "picture", "table"])
def test_pipes_and_devices_are_never_replaced(pipe, write_to):
    writers = {
        "generate": lambda: ss.generate(snapshot(), 1, 7, pipe, force=True),
        "picture": lambda: write_new(pipe, b"x", force=True),
        "table": lambda: write_localizations(pipe, TABLE, force=True),
    }
    with pytest.raises(DatasetError, match="device or pipe"):
        writers[write_to]()
    assert pipe.is_fifo()
    assert os.listdir(pipe.parent) == [pipe.name]


def test_an_input_is_never_its_own_output(copy, tmp_path):
    recipe = tmp_path / "r.yaml"
    recipe.write_text(snapshot().to_yaml())
    (tmp_path / "alias.yaml").hardlink_to(recipe)
    np.save(tmp_path / "points.npy", np.full((3, 2), 500.0))
    table = {"kind": "table", "path": str(tmp_path / "points.npy")}
    points = snapshot().replace("structure", table)
    for out, source in (
        (recipe, recipe), (tmp_path / "alias.yaml", recipe), (tmp_path / "points.npy", points)
    ):  # fmt: skip
        before = out.read_bytes()
        with pytest.raises(DatasetError, match="read by this command"):
            ss.generate(source, 1, 7, out, force=True)
        assert out.read_bytes() == before
    with pytest.raises(DatasetError, match="read by this command"):
        write_new(copy, b"picture", force=True, inputs=[copy])
    with pytest.raises(DatasetError, match="read by this command"):
        write_localizations(copy, TABLE, force=True, inputs=[copy])
    assert len(ss.open_dataset(copy)) == 4


def test_a_link_stays_and_its_target_is_written(tmp_path):
    (tmp_path / "far").mkdir()
    for name, write_to in {
        "a.h5": lambda link: ss.generate(snapshot(), 1, 7, link, force=True),
        "a.png": lambda link: write_new(link, b"x", force=True),
        "a.csv": lambda link: write_localizations(link, TABLE, force=True),
    }.items():
        link, target = tmp_path / name, tmp_path / "far" / name
        target.write_text("old")
        link.symlink_to(target)
        write_to(link)
        assert link.is_symlink()
        assert target.read_bytes() != b"old"
        assert os.listdir(tmp_path / "far") == [name]
        target.unlink()


@pytest.mark.parametrize("force", [False, True])
def test_a_part_file_of_somebody_else_is_kept(tmp_path, force):
    part = part_path(tmp_path / "run.h5")
    for content in (b"my notes", b"\x89HDF\r\n\x1a\n somebody's"):
        part.write_bytes(content)
        with pytest.raises(DatasetError, match="not simscope's"):
            ss.generate(snapshot(), 1, 7, tmp_path / "run.h5", force=force)
        assert part.read_bytes() == content
    for out in (tmp_path / "run.csv", tmp_path / "run.png"):
        part_path(out).write_bytes(b"my notes")
    write_localizations(tmp_path / "run.csv", TABLE)
    write_new(tmp_path / "run.png", b"x")
    assert part_path(tmp_path / "run.csv").read_bytes() == b"my notes"
    assert part_path(tmp_path / "run.png").read_bytes() == b"my notes"


@pytest.mark.parametrize("samples", [0, -5, 2**32 + 1, 10**400, 1.0, True, "5", None])
def test_impossible_numbers_of_samples_are_refused(tmp_path, samples):
    with pytest.raises(DatasetError, match="whole number from 1 to 4294967296"):
        ss.generate(snapshot(), samples, 7, tmp_path / "run.h5")
    with pytest.raises(DatasetError, match="whole number from 1 to 4294967296"):
        forecast(ss.Simulator(snapshot(), 7), samples)
    assert not list(tmp_path.iterdir())


def test_a_disk_too_small_is_refused_before_anything_is_written(tmp_path, monkeypatch):
    class Usage:
        free = 100_000

    monkeypatch.setattr(generation.shutil, "disk_usage", lambda folder: Usage)
    monkeypatch.setattr(produce, "DatasetWriter", None)
    with pytest.raises(DatasetError, match=r"2000 samples need about .*MB.*100 kB free"):
        ss.generate(snapshot(), 2000, 7, tmp_path / "run.h5")


def test_parameters_are_drawn_chunk_by_chunk(tmp_path, monkeypatch):
    monkeypatch.setattr(produce, "CHUNK_BYTES", 4 * 24 * 20)
    drawn, draw = [], acquire.draw_samples

    def recorded(recipe, key, indices):
        drawn.append(indices.tolist())
        return draw(recipe, key, indices)

    monkeypatch.setattr(acquire, "draw_samples", recorded)
    ss.generate(snapshot(), 3, 7, tmp_path / "run.h5")
    assert drawn == [[0], [1], [2]]


def test_what_appears_meanwhile_is_kept(tmp_path):
    out = tmp_path / "run.h5"

    def someone_else(done, total):
        out.write_text("precious")

    with pytest.raises(DatasetError, match="appeared meanwhile"):
        ss.generate(snapshot(), 2, 7, out, progress=someone_else)
    assert out.read_text() == "precious"
    with ss.open_dataset(part_path(out)) as data:
        assert len(data) == 2


def spoil_chunk(path, name, corner):
    """Change a byte in the middle of what is stored of an array."""
    with h5py.File(path) as file:
        info = file[name].id.get_chunk_info_by_coord(corner)
    with path.open("r+b") as file:
        file.seek(info.byte_offset + info.size // 2)
        byte = file.read(1)[0]
        file.seek(info.byte_offset + info.size // 2)
        file.write(bytes([byte ^ 255]))


@pytest.mark.parametrize(
    ("name", "corner"), [("images", (0, 0, 0)), ("images", (3, 0, 0)), ("emitters/offsets", (0,))]
)
def test_a_file_the_disk_did_not_keep_gets_no_name(tmp_path, monkeypatch, name, corner):
    def kept_otherwise(path):
        if path.name.endswith(".part"):
            spoil_chunk(path, name, corner)

    monkeypatch.setattr(write, "sync", kept_otherwise)
    with pytest.raises(DatasetError, match="damaged"):
        ss.generate(snapshot(), 4, 7, tmp_path / "run.h5")
    assert not (tmp_path / "run.h5").exists()


def test_a_file_that_says_something_else_than_was_written_gets_no_name(tmp_path, monkeypatch):
    def kept_otherwise(path):
        if path.name.endswith(".part"):
            with h5py.File(path, "r+") as file:
                file.attrs["seed"] = 8

    monkeypatch.setattr(write, "sync", kept_otherwise)
    with pytest.raises(DatasetError, match="write it again"):
        ss.generate(snapshot(), 4, 7, tmp_path / "run.h5")
    assert not (tmp_path / "run.h5").exists()


def test_a_writer_refuses_chunks_that_part_samples_or_go_too_far(tmp_path):
    sim = ss.Simulator(movie(6), 7)
    layout = Layout.of(sim, samples=4)
    plan = Plan.of(layout, samples_per_piece=2)
    (some,) = sim.frames(0, 0, 3)
    (three,) = sim.chunks(0, 3)
    with DatasetWriter(tmp_path / "a.h5", plan, plan[0]) as writer:
        with pytest.raises(DatasetError, match="3 frames do not fill chunks of 6"):
            writer.append(some)
        with pytest.raises(DatasetError, match="ends 18 frames on, the file has 12"):
            writer.append(three)
    assert not list(tmp_path.iterdir())


def test_impossible_places_are_refused_before_anything_is_computed(tmp_path, monkeypatch):
    monkeypatch.setattr(generation, "Simulator", None)
    with pytest.raises(DatasetError, match="does not exist"):
        ss.generate(snapshot(), 2, 7, tmp_path / "no" / "run.h5")
    with pytest.raises(DatasetError, match="is a folder"):
        ss.generate(snapshot(), 2, 7, tmp_path)
    monkeypatch.setattr(os, "access", lambda *args: False)
    with pytest.raises(DatasetError, match="not writable"):
        ss.generate(snapshot(), 2, 7, tmp_path / "run.h5")


def test_a_writer_takes_frames_in_order_and_all_of_them(tmp_path):
    sim = ss.Simulator(snapshot(), 7)
    plan = Plan.of(Layout.of(sim, samples=4))
    first, second = (next(sim.chunks(start, start + 2)) for start in (0, 2))
    with DatasetWriter(tmp_path / "a.h5", plan, plan[0]) as writer:
        with pytest.raises(DatasetError, match="frame 0 is next"):
            writer.append(second)
        writer.append(first)
        with pytest.raises(DatasetError, match="2 of 4 frames written"):
            writer.finish()
    assert not list(tmp_path.iterdir())


def test_files_that_are_no_datasets_say_why(tmp_path):
    with pytest.raises(DatasetError, match="check the path"):
        ss.open_dataset(tmp_path / "none.h5")
    with pytest.raises(DatasetError, match="is a folder"):
        ss.open_dataset(tmp_path)
    (tmp_path / "empty.h5").touch()
    with pytest.raises(DatasetError, match="is empty"):
        ss.open_dataset(tmp_path / "empty.h5")
    (tmp_path / "text.h5").write_text("x,y\n1,2\n")
    with pytest.raises(DatasetError, match="not an HDF5 file"):
        ss.open_dataset(tmp_path / "text.h5")
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["data"] = np.arange(3)
    with pytest.raises(DatasetError, match="no simscope dataset"):
        ss.open_dataset(tmp_path / "other.h5")


def spoil_version(file):
    file.attrs["format_version"] = 99


def spoil_marker(file):
    file.attrs["complete"] = False


def spoil_recipe(file):
    text = file.attrs["recipe_json"].replace(b"small", b"smell")
    file.attrs["recipe_json"] = np.bytes_(text)


def spoil_attribute(file):
    del file.attrs["seed"]


def spoil_array(file):
    del file["emitters/x_nm"]


def spoil_count(file):
    file.attrs["samples"] = 5


def spoil_column(file):
    file["emitters/z_nm"].resize((1,))


def spoil_parameter(file):
    file["parameters/more"] = np.zeros(9)


def spoil_group(file):
    del file["parameters"]


def spoil_by_link(file):
    del file["emitters/x_nm"]
    file["emitters/x_nm"] = h5py.ExternalLink("elsewhere.h5", "/x")


def spoil_by_outside_storage(file):
    count = file["emitters/x_nm"].shape[0]
    del file["emitters/x_nm"]
    file.create_dataset(
        "emitters/x_nm", (count,), np.float32, external=[("/etc/passwd", 0, h5py.h5f.UNLIMITED)]
    )


SPOILERS = {
    spoil_version: "format version 99",
    spoil_marker: "incomplete",
    spoil_recipe: "hash",
    spoil_attribute: "attributes .*seed",
    spoil_array: "x_nm is missing",
    spoil_count: "disagree",
    spoil_column: "disagree",
    spoil_parameter: "parameters/more and its checksum",
    spoil_group: "parameters",
    spoil_by_link: "x_nm",
    spoil_by_outside_storage: "another file",
}


@pytest.mark.parametrize("spoil", SPOILERS, ids=lambda spoil: spoil.__name__)
def test_spoilt_files_do_not_open(copy, spoil):
    with h5py.File(copy, "r+") as file:
        spoil(file)
    with pytest.raises(DatasetError, match=SPOILERS[spoil]):
        ss.open_dataset(copy)


@pytest.mark.parametrize(
    ("name", "value"),
    [("pixel_nm", -1.0), ("pixel_nm", np.nan), ("pixel_nm", "abc"), ("pixel_nm", 0.0),
     ("seed", "x"), ("seed", -1), ("samples", 4.0), ("sample_axes", "xy")],
)  # fmt: skip
def test_impossible_attributes_are_an_error(copy, name, value):
    with h5py.File(copy, "r+") as file:
        file.attrs[name] = value
    with pytest.raises(DatasetError, match=name):
        ss.open_dataset(copy)


@pytest.mark.parametrize(
    ("column", "value"), [("frame", -1), ("frame", 3), ("x_nm", np.nan), ("photons", -1.0)]
)
def test_impossible_emitters_are_an_error(copy, column, value):
    with h5py.File(copy, "r+") as file:
        file[f"emitters/{column}"][0] = value
    with ss.open_dataset(copy) as data, pytest.raises(DatasetError, match=column):
        data[0]


def test_offsets_that_point_nowhere_are_an_error(copy):
    with h5py.File(copy, "r+") as file:
        file["emitters/offsets"][1] = 10**9
    with ss.open_dataset(copy) as data, pytest.raises(DatasetError, match="offsets"):
        data[0]


def test_flipped_bits_in_an_image_are_an_error(copy):
    with h5py.File(copy) as file:
        where = file["images"].id.get_chunk_info(1)
    with Path(copy).open("r+b") as raw:
        raw.seek(where.byte_offset + where.size // 2)
        byte = raw.read(1)
        raw.seek(-1, os.SEEK_CUR)
        raw.write(bytes([byte[0] ^ 0xFF]))
    with ss.open_dataset(copy) as data:
        data[0]
        with pytest.raises(DatasetError, match="damaged at /images"):
            data[1]


@settings(
    max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(share=st.floats(0, 0.9999))
def test_no_truncated_file_opens(good, tmp_path, share):
    whole = good.read_bytes()
    short = tmp_path / "short.h5"
    short.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(DatasetError, match=r"empty|not an HDF5|truncated|damaged"):
        ss.open_dataset(short)
