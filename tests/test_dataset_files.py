"""The file is a cache of the simulator: the same arrays, readable by anybody."""

import hashlib
import json
import subprocess
import sys
import tracemalloc

import h5py
import numba
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from small_worlds import WORLDS, movie, snapshot, stack

import simscope as ss
from simscope.dataset import codec, produce, schema
from simscope.dataset.schema import inputs_of
from simscope.errors import DatasetError

pytestmark = pytest.mark.filterwarnings("ignore::simscope.errors.SimscopeWarning")

SAMPLES = 5


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SIMSCOPE_CACHE", str(tmp_path_factory.mktemp("psf-tables")))
        yield


@pytest.fixture(scope="module", params=list(WORLDS))
def world(request, tmp_path_factory):
    recipe = WORLDS[request.param]()
    path = tmp_path_factory.mktemp("files") / f"{request.param} µ.h5"
    ss.generate(recipe, SAMPLES, 7, path, expected=True)
    return recipe, path


def test_the_file_holds_the_samples_of_the_simulator(world):
    recipe, path = world
    sim = ss.Simulator(recipe, 7)
    with ss.open_dataset(path) as data:
        assert len(data) == SAMPLES
        for index in range(SAMPLES):
            stored, fresh = data[index], sim[index]
            assert np.array_equal(stored.image, fresh.image)
            assert np.array_equal(stored.emitters, fresh.emitters)
            assert stored.parameters == fresh.parameters


def test_the_whole_table_and_its_offsets_equal_the_batch(world):
    recipe, path = world
    batch = ss.Simulator(recipe, 7).batch(0, SAMPLES, expected=True)
    with ss.open_dataset(path) as data:
        assert np.array_equal(data.images[:], batch.images)
        assert np.array_equal(data.expected_photons[:], batch.expected_photons)
        assert np.array_equal(data.emitters, batch.emitters)
        assert np.array_equal(data.emitter_offsets, batch.emitter_offsets)
        for frame in range(SAMPLES * data.frames_per_sample):
            rows = slice(*data.emitter_offsets[frame : frame + 2])
            assert np.all(data.emitters["frame"][rows] == frame)


def test_recipe_seed_axes_and_units_come_back(world):
    recipe, path = world
    sim = ss.Simulator(recipe, 7)
    with ss.open_dataset(path) as data:
        assert data.recipe == recipe
        assert data.seed == 7
        assert data.sample_axes == sim.sample_axes
        assert data.sample_shape == tuple(sim.sample_shape)
        assert data.parameter_units == sim.parameter_names
        assert data.pixel_nm == recipe.pixel_nm
        assert data.saturated_pixels == 0
        assert "numba" in data.software


def test_everything_drawn_for_the_chip_comes_back(world):
    recipe, path = world
    sim = ss.Simulator(recipe, 7)
    with ss.open_dataset(path) as data:
        for name in ("gain", "offset_adu", "read_noise"):
            assert np.array_equal(getattr(data.camera_maps, name), getattr(sim.maps, name))
        known = {name: value for name, value in sim.report.items() if name != "device"}
        assert data.report == known  # which device it ran on leaves no trace
        assert data.software["simscope"] == ss.__version__


def test_files_the_recipe_reads_are_noted_with_their_hash(tmp_path):
    np.save(tmp_path / "points.npy", np.full((3, 2), 500.0))
    recipe = snapshot().replace(
        "structure", {"kind": "table", "path": str(tmp_path / "points.npy")}
    )
    ss.generate(recipe, 1, 7, tmp_path / "a.h5")
    digest = hashlib.sha256((tmp_path / "points.npy").read_bytes()).hexdigest()
    with ss.open_dataset(tmp_path / "a.h5") as data:
        assert data.inputs == {
            "structure.path": {"file": "points.npy", "sha256": digest, "licence": "not stated"}
        }


def test_the_licence_beside_an_input_is_noted(tmp_path):
    np.save(tmp_path / "points.npy", np.full((3, 2), 500.0))
    (tmp_path / "points.npy.license").write_text(
        "SPDX-FileCopyrightText: 2024 A. Person\nSPDX-License-Identifier: CC-BY-4.0\n"
    )
    recipe = snapshot().replace(
        "structure", {"kind": "table", "path": str(tmp_path / "points.npy")}
    )
    assert inputs_of(recipe)["structure.path"]["licence"] == "CC-BY-4.0"


@pytest.mark.parametrize("index", ["a", 1.5, True, None])
def test_only_whole_numbers_index_samples(world, index):
    with ss.open_dataset(world[1]) as data, pytest.raises(DatasetError, match="whole number"):
        data[index]


def test_nothing_is_no_path():
    with pytest.raises(DatasetError, match="no path"):
        ss.open_dataset(None)


PLAIN_READER = """
import sys, json, hashlib, h5py, numpy as np
with h5py.File(sys.argv[1]) as f:
    assert f.attrs["format"] == b"simscope-dataset" and f.attrs["format_version"] == 2
    recipe = json.loads(f.attrs["recipe_json"])
    sample = int(f.attrs["samples"]) - 1
    per_sample = int(f.attrs["frames_per_sample"])
    image = f["images"][sample]
    offsets = f["emitters/offsets"][:]
    rows = slice(offsets[sample * per_sample], offsets[(sample + 1) * per_sample])
    x = f["emitters/x_nm"][rows]
    names = [name for name in f["parameters"]]
    y_axis = f["images"].dims[f["images"].ndim - 2][0][:]
print(json.dumps({"sum": int(image.sum()), "x": x.tolist(), "names": names, "y0": y_axis[0],
                  "recipe": recipe["name"], "simscope": "simscope" in sys.modules}))
"""


def test_plain_h5py_reads_the_file(world):
    recipe, path = world
    run = subprocess.run(
        [sys.executable, "-c", PLAIN_READER, str(path)], capture_output=True, text=True, check=True
    )
    read, sample = json.loads(run.stdout), ss.Simulator(recipe, 7)[SAMPLES - 1]
    assert not read["simscope"]
    assert read["sum"] == sample.image.sum(dtype=np.int64)
    assert read["x"] == sample.emitters["x_nm"].tolist()
    assert set(read["names"]) == set(sample.parameters)
    assert read["recipe"] == recipe.name
    assert read["y0"] == recipe.pixel_nm / 2


def test_every_array_states_its_unit_and_meaning(world):
    _, path = world
    arrays_seen = []

    def look(name, item):
        if isinstance(item, h5py.Dataset):
            arrays_seen.append(name)
            assert item.attrs["unit"], name
            assert item.attrs["description"], name

    with h5py.File(path) as file:
        file.visititems(look)
    assert {"images", "emitters/x_nm", "emitters/offsets", "axes/y"} <= set(arrays_seen)


def decoded(path):
    with h5py.File(path) as file:
        names = []
        file.visititems(lambda name, item: names.append(name))
        return {name: file[name][()] for name in names if isinstance(file[name], h5py.Dataset)}


def test_two_runs_hold_the_same_arrays_and_another_seed_does_not(tmp_path):
    for name, seed in (("a", 3), ("b", 3), ("c", 4)):
        ss.generate(snapshot(), SAMPLES, seed, tmp_path / f"{name}.h5")
    a, b, c = (decoded(tmp_path / f"{name}.h5") for name in "abc")
    assert a.keys() == b.keys()
    assert all(np.array_equal(a[name], b[name]) for name in a)
    assert not np.array_equal(a["images"], c["images"])


def test_the_pieces_a_file_is_written_in_leave_no_trace(tmp_path, monkeypatch):
    ss.generate(movie(), 3, 7, tmp_path / "whole.h5")
    monkeypatch.setattr(schema, "MAX_CHUNK_BYTES", 1000)
    monkeypatch.setattr(produce, "CHUNK_BYTES", 5 * 4 * 24 * 20)
    ss.generate(movie(), 3, 7, tmp_path / "pieces.h5")
    whole, pieces = decoded(tmp_path / "whole.h5"), decoded(tmp_path / "pieces.h5")
    assert all(np.array_equal(whole[name], pieces[name]) for name in whole)
    with h5py.File(tmp_path / "pieces.h5") as file:
        assert file["images"].chunks == (1, 1, 24, 20)


def test_a_sample_is_one_chunk_with_filters_every_library_has(world):
    _, path = world
    with h5py.File(path) as file:
        images = file["images"]
        assert images.chunks == (1, *images.shape[1:])
        assert (images.compression, images.compression_opts, images.shuffle) == ("gzip", 1, True)


@settings(max_examples=20, deadline=None)
@given(
    arrays(
        st.sampled_from([np.uint16, np.float32]),
        st.tuples(st.integers(1, 4), st.integers(1, 5), st.integers(1, 7)),
        elements=st.integers(0, 65535),
    )
)
def test_direct_chunks_decode_through_hdf5s_own_filters(images):
    with h5py.File("memory.h5", "w", driver="core", backing_store=False) as file:
        shape = images.shape
        kept = file.create_dataset(
            "images", shape, images.dtype, chunks=(1, *shape[1:]), **codec.named("default").filters
        )
        corners = np.zeros((shape[0], 3), np.int64)
        corners[:, 0] = np.arange(shape[0])
        codec.write_chunks(kept, corners, codec.named("default").pack(images))
        assert np.array_equal(kept[()], images)


def test_recipe_hash_covers_the_stored_recipe(world):
    recipe, path = world
    with h5py.File(path) as file:
        text = file.attrs["recipe_json"]
        assert file.attrs["recipe_sha256"].decode() == hashlib.sha256(text).hexdigest()
        assert ss.Recipe.from_yaml(file.attrs["recipe_yaml"].decode()) == recipe


def test_a_very_long_recipe_fits_in_the_file(tmp_path):
    recipe = snapshot().replace("description", "x" * 200_000)
    ss.generate(recipe, 1, 7, tmp_path / "long.h5")
    with ss.open_dataset(tmp_path / "long.h5") as data:
        assert data.recipe == recipe


def test_samples_without_emitters_are_kept(tmp_path):
    recipe = snapshot().replace("structure.density_per_um2", 0.0)
    ss.generate(recipe, 3, 7, tmp_path / "dark.h5")
    with ss.open_dataset(tmp_path / "dark.h5") as data:
        assert len(data.emitters) == 0
        assert np.array_equal(data.emitter_offsets, np.zeros(4))
        assert len(data[1].emitters) == 0


def test_indexing_counts_from_the_end_and_stops_at_the_ends(world):
    _, path = world
    with ss.open_dataset(path) as data:
        assert np.array_equal(data[-1].image, data[SAMPLES - 1].image)
        assert len(list(data)) == SAMPLES
        for index in (SAMPLES, -SAMPLES - 1):
            with pytest.raises(IndexError, match=f"sample {index} of {SAMPLES}"):
                data[index]


def test_stack_axis_holds_the_objective_positions(tmp_path):
    ss.generate(stack(), 1, 7, tmp_path / "stack.h5")
    with h5py.File(tmp_path / "stack.h5") as file:
        assert [dim.label for dim in file["images"].dims] == ["sample", "z", "y", "x"]
        assert file["images"].dims[1][0][()].tolist() == [-1000.0, 0.0, 1000.0]


def test_movie_axis_holds_the_start_of_each_exposure(tmp_path):
    ss.generate(movie(frames=3), 1, 7, tmp_path / "movie.h5")
    with h5py.File(tmp_path / "movie.h5") as file:
        assert file["images"].dims[1][0][()].tolist() == [0.0, 12.0, 24.0]
        assert file["axes/t"].attrs["unit"] == b"ms"


def test_progress_ends_at_the_total(tmp_path, monkeypatch):
    monkeypatch.setattr(produce, "CHUNK_BYTES", 2 * 4 * 24 * 20)
    seen = []
    ss.generate(snapshot(), 5, 7, tmp_path / "a.h5", progress=lambda *args: seen.append(args))
    assert seen == sorted(seen)
    assert len(seen) >= 3
    assert seen[-1] == (5, 5)


@pytest.mark.skipif(numba.config.DISABLE_JIT, reason="thousands of samples, too slow without JIT")
def test_memory_stays_flat(tmp_path, monkeypatch):
    monkeypatch.setattr(schema, "ROWS_PER_CHUNK", 256)  # what a column holds back
    monkeypatch.setattr(produce, "CHUNK_BYTES", 1 << 17)

    def peak_bytes(samples):
        tracemalloc.start()
        ss.generate(snapshot(), samples, 7, tmp_path / f"{samples}.h5")
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return peak

    peak_bytes(100)
    growth = peak_bytes(6000) - peak_bytes(500)
    images = 5500 * 24 * 20 * 2
    assert growth < 0.2 * images  # what waits to be written varies by a few chunks


@pytest.mark.parametrize("samples", [0, -3, True, 2.5])
def test_impossible_sample_counts_are_refused(tmp_path, samples):
    with pytest.raises(DatasetError, match="whole number from 1"):
        ss.generate(snapshot(), samples, 7, tmp_path / "a.h5")
    assert not list(tmp_path.iterdir())
