"""Files that declare what they do not hold, or lead elsewhere: one clear error each."""

import json
import random
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import h5py
import numpy as np
import pytest
from small_worlds import snapshot

import simscope as ss
from simscope.dataset.columns import set_text
from simscope.dataset.manifest import open_whole
from simscope.errors import DatasetError, SimscopeError

pytestmark = pytest.mark.filterwarnings("ignore::simscope.errors.SimscopeWarning")

FILTERS = {"compression": "gzip", "compression_opts": 1, "shuffle": True}


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    folder = tmp_path_factory.mktemp("good")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SIMSCOPE_CACHE", str(folder / "psf-tables"))
        return ss.generate(snapshot(), 4, 7, folder / "good.h5", expected=True)


@pytest.fixture
def copy(good, tmp_path):
    return shutil.copy(good, tmp_path / "copy.h5")


def replaced(file, name, *args, **kwargs):
    del file[name]
    return file.create_dataset(name, *args, **kwargs)


def more_frames_than_are_stored(file):
    for name in ("samples", "frames"):
        file.attrs[name] = 2**32
    replaced(file, "images", (2**32, 24, 20), "<u2", chunks=(1, 24, 20), **FILTERS)


def one_frame_of_a_terabyte(file):
    replaced(file, "images", (4, 2**19, 2**19), "<u2", chunks=(1, 1024, 1024), **FILTERS)


def chunks_that_unpack_to_gigabytes(file):
    wide = (1, 2**14, 2**14)
    images = replaced(file, "images", (4, *wide[1:]), "<u2", chunks=wide, **FILTERS)
    for sample in range(4):
        images.id.write_direct_chunk((sample, 0, 0), b"few bytes")


def a_chunk_that_is_not_there(file):
    images = file["images"][:3]
    stored = replaced(file, "images", (4, 24, 20), "<u2", chunks=(1, 24, 20), **FILTERS)
    stored[:3] = images


def a_plain_array_without_bytes(file):
    replaced(file, "images", (4, 24, 20), "<u2")


def a_link_in_a_circle(file):
    del file["images"]
    file["images"] = h5py.SoftLink("/images")


def a_link_within_the_file(file):
    file["kept"] = file["emitters/x_nm"]
    del file["emitters/x_nm"]
    file["emitters/x_nm"] = h5py.SoftLink("/kept")


def a_group_that_is_a_link(file):
    file.move("parameters", "kept")
    file["parameters"] = h5py.SoftLink("/kept")


def a_group_in_the_place_of_an_array(file):
    del file["images"]
    file["images"] = file["/"]


def an_array_in_the_place_of_a_group(file):
    del file["parameters"]
    file["parameters"] = np.zeros(4)


def a_view_of_another_file(file):
    del file["images"]
    layout = h5py.VirtualLayout((4, 24, 20), "<u2")
    layout[:] = h5py.VirtualSource("other.h5", "images", (4, 24, 20))
    file.create_virtual_dataset("images", layout)


def texts_for_numbers(file):
    replaced(file, "emitters/photons", data=["a"] * file["emitters/x_nm"].shape[0])


def a_table_for_an_array(file):
    replaced(file, "images", (4, 24, 20), [("a", "u1"), ("b", "u1")])


def big_endian_counts(file):
    replaced(file, "images", data=np.zeros((4, 24, 20), ">u2"))


def an_attribute_of_variable_length(file):
    file.attrs["recipe_json"] = file.attrs["recipe_json"].decode()


def an_attribute_with_many_values(file):
    file.attrs["seed"] = np.arange(1000)


def a_nested_attribute(file):
    set_text(file, "report", "[" * 200_000)


def no_json_in_an_attribute(file):
    set_text(file, "inputs", json.dumps([1]))


def more_samples_than_there_are(file):
    file.attrs["samples"] = 2**32


def one_of_many_shards(file):
    file.attrs["shards"] = 3


SPOILERS = {
    more_frames_than_are_stored: "not stored in full",
    one_frame_of_a_terabyte: "not stored in full",
    chunks_that_unpack_to_gigabytes: "not stored in full",
    a_chunk_that_is_not_there: "not stored in full",
    a_plain_array_without_bytes: "not stored in full",
    a_link_in_a_circle: "points elsewhere",
    a_link_within_the_file: "points elsewhere",
    a_group_that_is_a_link: "points elsewhere",
    a_group_in_the_place_of_an_array: "is missing",
    an_array_in_the_place_of_a_group: "parameters",
    a_view_of_another_file: "another file",
    texts_for_numbers: "photons",
    a_table_for_an_array: "images",
    big_endian_counts: "holds >u2",
    an_attribute_of_variable_length: "recipe_json",
    an_attribute_with_many_values: "seed",
    a_nested_attribute: "report",
    no_json_in_an_attribute: "inputs",
    more_samples_than_there_are: "disagree",
    one_of_many_shards: "is shard 0 of a run",
}


@pytest.mark.parametrize("spoil", SPOILERS, ids=lambda spoil: spoil.__name__)
def test_hostile_files_do_not_open(copy, spoil):
    with h5py.File(copy, "r+") as file:
        spoil(file)
    with pytest.raises(DatasetError, match=SPOILERS[spoil]):
        ss.open_dataset(copy)


@pytest.mark.parametrize("name", ["emitters/z_nm", "parameters/structure.density_per_um2",
                                  "emitters/id", "camera/gain"])  # fmt: skip
def test_one_changed_number_in_the_truth_is_an_error_when_it_is_read(copy, name):
    with h5py.File(copy, "r+") as file:
        values = file[name][()]
        values.flat[1] += 1
        file[name][...] = values
    look = (lambda data: data.camera_maps) if "camera" in name else (lambda data: data[0])
    with ss.open_dataset(copy) as data, pytest.raises(DatasetError, match="SHA-256"):
        look(data)


def test_files_of_version_1_say_so(copy):
    with h5py.File(copy, "r+") as file:
        file.attrs["format"] = "simscope-dataset"
        file.attrs["format_version"] = 1
    with pytest.raises(DatasetError, match="format version 1, this simscope reads 2"):
        ss.open_dataset(copy)


def test_a_single_file_has_no_manifest_to_look_at(copy):
    with open_whole(copy) as part:
        assert part.names("manifest") == []


def read_all(path):
    """Everything simscope reads of a dataset."""
    with ss.open_dataset(path) as data:
        batch = data.batch(0, len(data))
        drawn = [batch.parameters[name].tobytes() for name in sorted(batch.parameters)]
        arrays = (batch.images, batch.emitters, batch.emitter_offsets, batch.expected_photons)
        maps = data.camera_maps
        _ = data.recipe, data.report, data.warnings, data.inputs, data.software
        _ = data[1], data.frame(2)
        return data.seed, drawn, [array.tobytes() for array in (*arrays, maps.gain)]


def mutated(good, chance):
    """Bytes of a file with a flipped bit, other bytes, a piece of zeros, cut off or shifted."""
    data = bytearray(good)
    where = chance.randrange(len(data))
    match chance.choice(["flip", "byte", "zeros", "cut", "shift", "header"]):
        case "flip":
            data[where] ^= 1 << chance.randrange(8)
        case "byte":
            data[where] = chance.randrange(256)
        case "zeros":
            data[where : where + 64] = bytes(len(data[where : where + 64]))
        case "cut":
            del data[where:]
        case "shift":
            data[where:where] = bytes(chance.randrange(1, 9))
        case "header":
            for _ in range(chance.choice([1, 4])):
                data[chance.randrange(min(len(data), 20_000))] = chance.choice([0, 1, 255])
    return data


def mutate(good, count, seed):
    """Read so many mutations of a file: each is an error, or nothing else than the file."""
    good, chance = Path(good), random.Random(seed)
    meant, whole = read_all(good), good.read_bytes()
    with tempfile.TemporaryDirectory() as folder:
        spoilt = Path(folder) / "spoilt.h5"
        for number in range(count):
            spoilt.write_bytes(mutated(whole, chance))
            try:
                found = read_all(spoilt)
            except SimscopeError:
                continue
            assert found == meant, f"mutation {number} of seed {seed} reads as another sample"


@pytest.mark.parametrize(
    "count", [150, pytest.param(5000, marks=[pytest.mark.slow])], ids=["few", "many"]
)
def test_no_mutated_file_reads_as_another_dataset_crashes_or_hangs(good, count):
    script = (
        "import sys; from test_hostile_files import mutate\n"
        "mutate(sys.argv[1], *map(int, sys.argv[2:]))"
    )
    subprocess.run(
        [sys.executable, "-W", "ignore", "-c", script, str(good), str(count), "7"],
        check=True, timeout=60 + count / 5, cwd=Path(__file__).parent,
    )  # fmt: skip
