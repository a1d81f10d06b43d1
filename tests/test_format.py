"""The format as docs/format.md states it, read by plain h5py in a process without simscope."""

import hashlib
import json
import re
import subprocess
import sys
import time
from pathlib import Path

import h5py
import numpy as np
import pytest
from small_worlds import WORLDS, movie, snapshot

import simscope as ss
from simscope.dataset import schema
from simscope.dataset.columns import ColumnWriter
from simscope.dataset.plan import Plan
from simscope.dataset.schema import Layout
from simscope.dataset.write import DatasetWriter
from simscope.errors import DatasetError
from simscope.targets import parse_targets

pytestmark = pytest.mark.filterwarnings("ignore::simscope.errors.SimscopeWarning")

PAGE = Path(__file__).parents[1] / "docs" / "format.md"
WITHOUT_SIMSCOPE = "import sys\nsys.modules['simscope'] = None\n"


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SIMSCOPE_CACHE", str(tmp_path_factory.mktemp("psf-tables")))
        yield


def write(path, sim, layout, *, max_bytes=16 << 20, threads=1):
    """A whole run in one file, its frames handed over in chunks of that size."""
    plan = Plan.of(layout)
    with DatasetWriter(path, plan, plan[0], threads=threads) as writer:
        writer.write_camera_maps(sim.maps)
        for chunk in sim.chunks(0, layout.samples, max_bytes=max_bytes, expected=layout.expected):
            writer.write_parameters(chunk.sample_start, chunk.parameters)
            writer.append(chunk)
        writer.note([], sim.report)
        return writer.finish()


@pytest.fixture(scope="module")
def train(tmp_path_factory):
    folder = tmp_path_factory.mktemp("page")
    ss.generate(movie(), 4, 7, folder / "train.h5", expected=True, targets=["density"])
    return folder


@pytest.mark.parametrize("number", [0, 1])
def test_examples_of_the_page_run_where_simscope_cannot_be_imported(train, number):
    examples = re.findall(r"```python\n(.*?)```", PAGE.read_text("utf8"), re.DOTALL)
    assert len(examples) == 2
    subprocess.run(
        [sys.executable, "-c", WITHOUT_SIMSCOPE + examples[number]],
        cwd=train, check=True, timeout=60,
    )  # fmt: skip


def test_the_page_names_every_array_and_attribute_that_is_there(train):
    text = PAGE.read_text("utf8")
    with h5py.File(train / "train.h5") as file:
        for name in file.attrs:
            assert f"`{name}`" in text, name
        for group in file:
            assert f"/{group}" in text, group
        for name in file["emitters"]:
            assert name in text


@pytest.mark.parametrize("name", WORLDS)
def test_bytes_do_not_depend_on_how_frames_come_nor_when_nor_on_threads(
    tmp_path, monkeypatch, name
):
    monkeypatch.setattr(schema, "ROWS_PER_CHUNK", 8)  # columns fill up again and again
    sim = ss.Simulator(WORLDS[name](), 7)
    targets = parse_targets([] if name == "stack" else ["density:upsampling=2"])
    layout = Layout.of(sim, samples=7, expected=True, targets=targets)
    several = write(tmp_path / "a.h5", sim, layout)
    time.sleep(1.1)  # HDF5 counts time in seconds
    one_by_one = write(tmp_path / "b.h5", sim, layout, max_bytes=40_000, threads=2)
    assert several.file_sha256 == one_by_one.file_sha256
    assert several.arrays_sha256 == one_by_one.arrays_sha256
    assert hashlib.sha256((tmp_path / "b.h5").read_bytes()).hexdigest() == several.file_sha256


def test_bytes_are_the_same_from_another_process(tmp_path):
    script = (
        "import sys, simscope as ss\nfrom small_worlds import snapshot\n"
        "ss.generate(snapshot(), 5, 7, sys.argv[1])\n"
    )
    ss.generate(snapshot(), 5, 7, tmp_path / "here.h5")
    subprocess.run(
        [sys.executable, "-W", "ignore", "-c", script, str(tmp_path / "there.h5")],
        cwd=Path(__file__).parent, check=True, timeout=120,
    )  # fmt: skip
    assert (tmp_path / "here.h5").read_bytes() == (tmp_path / "there.h5").read_bytes()


def test_samples_of_one_frame_need_no_unit_of_time(tmp_path):
    with h5py.File(ss.generate(snapshot(), 2, 7, tmp_path / "a.h5")) as file:
        assert set(file["axes"]) == {"x", "y"}


@pytest.mark.parametrize("codec", ["default", "fast", "none"])
def test_every_codec_stores_the_same_values(tmp_path, codec):
    pytest.importorskip("hdf5plugin") if codec == "fast" else None
    path = ss.generate(movie(), 3, 7, tmp_path / "a.h5", codec=codec)
    batch = ss.Simulator(movie(), 7).batch(0, 3)
    with ss.open_dataset(path) as data, h5py.File(path) as file:
        assert data.codec == codec
        assert np.array_equal(data.images[:], batch.images)
        assert np.array_equal(file["images"][()], batch.images)
        assert np.array_equal(file["emitters/y_nm"][()], batch.emitters["y_nm"])
        sums = data.arrays_sha256
    assert sums["images"] == hashlib.sha256(batch.images.tobytes()).hexdigest()


def test_targets_are_stored_with_axes_units_and_settings(train):
    sim = ss.Simulator(movie(), 7)
    (target,) = parse_targets(["density"])
    meant = target.of(sim, sim.batch(0, 4))
    with ss.open_dataset(train / "train.h5") as data, h5py.File(train / "train.h5") as file:
        assert data.target_names == ("density",)
        assert np.array_equal(data.target("density")[1:3], meant[1:3])
        assert np.array_equal(data.target("density")[2, 5:7], meant[2, 5:7])
        assert data.target_settings["density"] == target.model_dump(mode="json")
        with pytest.raises(DatasetError, match="did you mean 'density'"):
            data.target("densty")
        stored = file["targets/density"]
        assert stored.attrs["per"] == b"frame"
        assert [dim.label for dim in stored.dims][:2] == ["sample", "t"]
        assert len(stored.dims[2][0]) == stored.shape[2]


def test_headers_are_what_hdf5_1_8_reads(train):
    start = (train / "train.h5").read_bytes()[:9]
    assert start[8] == 2  # superblock of HDF5 1.8, with a checksum


@pytest.mark.parametrize("rows", [0, 1, 7, 8, 9, 24, 25])
@pytest.mark.parametrize("step", [1, 5, 100])
def test_columns_of_any_length_come_back_with_their_sum(tmp_path, monkeypatch, rows, step):
    monkeypatch.setattr(schema, "ROWS_PER_CHUNK", 8)
    values = np.arange(rows, dtype=np.int64) ** 3
    with h5py.File(tmp_path / "a.h5", "w") as file:
        from simscope.dataset import codec

        column = ColumnWriter(
            file, "a/b", "i8", codec.named("default"), unit="nm", description="cubes"
        )
        for first in range(0, rows, step):
            column.append(values[first : first + step])
            column.write(min(first + step, rows) - 3)
        assert column.finish() == hashlib.sha256(values.tobytes()).hexdigest()
        assert np.array_equal(file["a/b"][()], values)
        assert file["a/b"].attrs["unit"] == b"nm"


def test_recipes_beyond_the_size_of_an_hdf5_header_come_back_whole(tmp_path):
    recipe = snapshot().replace("description", "µ" * 300_000)
    path = ss.generate(recipe, 1, 7, tmp_path / "long.h5")
    with h5py.File(path) as file:
        assert json.loads(file.attrs["recipe_json"])["description"] == "µ" * 300_000
    with ss.open_dataset(path) as data:
        assert data.recipe == recipe


def test_batches_of_the_file_are_those_of_the_simulator(train):
    batch = ss.Simulator(movie(), 7).batch(1, 3, expected=True)
    with ss.open_dataset(train / "train.h5") as data:
        stored = data.batch(1, 3)
        for name in ("images", "emitters", "emitter_offsets", "expected_photons"):
            assert np.array_equal(getattr(stored, name), getattr(batch, name)), name
        assert stored.start == 1
        for name, values in batch.parameters.items():
            assert np.array_equal(stored.parameters[name], values)
        for start, stop in ((0, 5), (2, 2), (-1, 2), (0, 1.5)):
            with pytest.raises(DatasetError, match="do not lie in order"):
                data.batch(start, stop)


KEYS = [0, -1, slice(None), slice(1, 3), slice(3, 0, -2), slice(2, 2), [2, 0], [-1, 0, -3],
        np.array([1, 1, 3]), np.array([True, False, True, False]), (1, 3), (2, slice(2, 7)),
        (slice(0, 2), 5), (slice(None), slice(0, 12, 5), 3), (Ellipsis, 4), Ellipsis,
        (0, Ellipsis, slice(3, 9)), (3, -1), (1, slice(None), 2, 2), ([3, 1], 0),
        (2, slice(5, 2)), ()]  # fmt: skip


@pytest.mark.parametrize("key", KEYS, ids=str)
def test_stored_arrays_index_like_numpy(train, key):
    images = ss.Simulator(movie(), 7).batch(0, 4).images
    with ss.open_dataset(train / "train.h5") as data:
        assert np.array_equal(data.images[key], images[key])


@pytest.mark.parametrize(
    "key", [4, -5, (0, 12), "a", 1.0, True, None, (0, None), [[0]], [0.5], (0,) * 5, [9]], ids=str
)
def test_impossible_indices_of_stored_arrays_are_an_error(train, key):
    with ss.open_dataset(train / "train.h5") as data, pytest.raises(IndexError):
        data.images[key]


def test_stored_arrays_are_arrays_to_numpy(train):
    with ss.open_dataset(train / "train.h5") as data:
        images = data.images
        assert (images.ndim, images.dtype, len(images)) == (4, np.uint16, 4)
        assert images.nbytes == np.asarray(images).nbytes
        assert np.asarray(images, np.float32).dtype == np.float32
        assert float(np.mean(images)) == float(images[:].mean())
        assert len(list(images)) == 4


def test_a_closed_dataset_says_so(train):
    data = ss.open_dataset(train / "train.h5")
    data.close()
    data.close()
    with pytest.raises(DatasetError, match="closed: open it again"):
        data[0]
    assert "closed" in repr(data)
