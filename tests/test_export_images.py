"""Exports of images: physical places of pixels, every value kept, nothing half written."""

import json
import os
import sys
import xml.etree.ElementTree as ElementTree

import numba
import numpy as np
import pytest
import tifffile
from small_worlds import SMALL, movie, snapshot, stack
from stored_files import sums

import simscope as ss
from simscope.cli import app
from simscope.dataset import export_dataset
from simscope.dataset.export import STACKS, frames, ome_zarr, tiff
from simscope.dataset.export.frames import Frames
from simscope.recipe import Recipe

pytestmark = pytest.mark.skipif(numba.config.DISABLE_JIT, reason="renders, too slow without JIT")

OME = "{http://www.openmicroscopy.org/Schemas/OME/2016-06}"
MOLECULES = [name for name, entry in STACKS.items() if entry.molecules]


def lonely():
    """One bright molecule in pixel (2, 5), where x = 570 and y = 240 nm."""
    place = {"kind": "bead", "x_nm": 570 - 1050, "y_nm": 240 - 1250, "z_nm": 50}
    return Recipe.from_dict(
        SMALL
        | {"acquisition": {"shape": [25, 21]}, "structure": place}
        | {"photophysics": {"kind": "snapshot", "photons": 30000}}
    )


WORLDS = {"snapshot": (lonely, 5), "movie": (movie, 3), "stack": (stack, 2)}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    return {
        name: ss.generate(world(), samples, 3, folder / f"{name}.h5", expected=name == "movie")
        for name, (world, samples) in WORLDS.items()
    }


def ome(path):
    with tifffile.TiffFile(path) as file:
        assert file.is_ome
        pixels = ElementTree.fromstring(file.ome_metadata).find(f"{OME}Image/{OME}Pixels")
        return file.asarray(), pixels.attrib


@pytest.mark.parametrize("world", ["snapshot", "stack"])
def test_an_ome_tiff_has_samples_along_t_and_the_pixel_in_micrometres(data, world, tmp_path):
    folder = export_dataset(data[world], "ome-tiff", tmp_path / "out")
    images, said = ome(folder / "images.ome.tif")
    with ss.open_dataset(data[world]) as opened:
        np.testing.assert_array_equal(images, opened.images[:])
        pixel_um = opened.pixel_nm / 1000
    assert float(said["PhysicalSizeX"]) == float(said["PhysicalSizeY"]) == pytest.approx(pixel_um)
    assert said["PhysicalSizeXUnit"] == "µm"
    assert said["DimensionOrder"].startswith("XY")
    if world == "stack":
        focus = opened.recipe.acquisition.focus_nm
        assert (said["SizeT"], said["SizeZ"]) == ("2", "3")
        step = (focus.stop_nm - focus.start_nm) / 2
        assert float(said["PhysicalSizeZ"]) == pytest.approx(step / 1000)
    else:
        assert [said[f"Size{axis}"] for axis in "TZYX"] == ["5", "1", "25", "21"]


def test_an_ome_tiff_of_a_movie_has_its_interval(data, tmp_path):
    folder = export_dataset(data["movie"], "ome-tiff", tmp_path / "out")
    with ss.open_dataset(data["movie"]) as opened:
        for sample in range(3):
            images, said = ome(folder / f"sample-{sample:05d}.ome.tif")
            np.testing.assert_array_equal(images, opened.image(sample))
            assert (float(said["TimeIncrement"]), said["TimeIncrementUnit"]) == (12, "ms")


def test_more_than_four_gigabytes_become_bigtiff(tmp_path):
    assert not tiff.needs_bigtiff((7000, 512, 512), 2)
    assert tiff.needs_bigtiff((8000, 512, 512), 2)
    assert tiff.needs_bigtiff((10_000_000, 4, 4), 2)  # headers of so many pages count as well


@pytest.mark.parametrize("world", WORLDS)
def test_ome_zarr_places_pixels_where_emitters_are(data, world, tmp_path):
    zarr = pytest.importorskip("zarr")
    folder = export_dataset(data[world], "ome-zarr", tmp_path / "out")
    name = "sample-00001.ome.zarr" if world == "movie" else "images.ome.zarr"
    group = zarr.open_group(str(folder / name), mode="r")
    (image,) = group.attrs["multiscales"]
    level = image["datasets"][0]
    pixels = group[level["path"]][:]
    with ss.open_dataset(data[world]) as opened:
        expected = opened.image(1) if world == "movie" else opened.images[:]
        acquisition, pixel_um = opened.recipe.acquisition, opened.pixel_nm / 1000
    np.testing.assert_array_equal(pixels, expected)
    assert image["version"] == "0.4"
    assert [axis["name"] for axis in image["axes"]] == list("tzyx" if world == "stack" else "tyx")
    scale, translation = level["coordinateTransformations"]
    assert scale["scale"][-2:] == pytest.approx([pixel_um, pixel_um])
    assert translation["translation"][-2:] == pytest.approx([pixel_um / 2, pixel_um / 2])
    if world == "movie":
        assert (scale["scale"][0], image["axes"][0]["unit"]) == (12, "millisecond")
    if world == "stack":
        assert translation["translation"][1] == pytest.approx(acquisition.focus_nm.start_nm / 1000)
    if world == "snapshot":
        row, column = np.unravel_index(np.argmax(pixels[0]), pixels[0].shape)
        place = np.array([row, column]) * scale["scale"][-2:] + translation["translation"][-2:]
        np.testing.assert_allclose(place, [0.240, 0.570], atol=pixel_um / 2)


def test_ome_zarr_steps_along_z_as_the_objective_does(data, tmp_path):
    zarr = pytest.importorskip("zarr")
    folder = export_dataset(data["stack"], "ome-zarr", tmp_path / "out")
    group = zarr.open_group(str(folder / "images.ome.zarr"), mode="r")
    level = group.attrs["multiscales"][0]["datasets"][0]
    with ss.open_dataset(data["stack"]) as opened:
        z_um = opened.recipe.acquisition.focus_nm.positions_nm / 1000
    scale, start = (step[step["type"]] for step in level["coordinateTransformations"])
    np.testing.assert_allclose(np.arange(3) * scale[1] + start[1], z_um)


@pytest.mark.parametrize(("world", "chunk"), [("snapshot", 3), ("movie", 5)])
def test_a_last_chunk_of_ome_zarr_that_is_not_full_is_kept(
    data, world, chunk, tmp_path, monkeypatch
):
    zarr = pytest.importorskip("zarr")
    with ss.open_dataset(data[world]) as opened:
        images = opened.images[1:]
    monkeypatch.setattr(ome_zarr, "CHUNK_BYTES", chunk * 2 * np.prod(images.shape[-2:]))
    told = []
    folder = export_dataset(
        data[world], "ome-zarr", tmp_path / "out", samples="1:",
        progress=lambda *counts: told.append(counts),
    )  # fmt: skip
    names = sorted(path.name for path in folder.glob("*.ome.zarr"))
    found = [zarr.open_group(str(folder / name), mode="r")["0"] for name in names]
    assert {array.chunks[0] for array in found} == {chunk}
    np.testing.assert_array_equal(
        np.concatenate([array[:] for array in found]), images.reshape(-1, *images.shape[-2:])
    )
    frames = images.size // np.prod(images.shape[-2:])
    assert told == sorted(told)
    assert told[-1] == (frames, frames)
    assert told[0][0] <= chunk


def test_levels_of_a_pyramid_keep_places_and_light(tmp_path, monkeypatch):
    zarr = pytest.importorskip("zarr")
    monkeypatch.setattr(ome_zarr, "SMALLEST", 8)
    path = ss.generate(lonely(), 2, 1, tmp_path / "data.h5")
    folder = export_dataset(path, "ome-zarr", tmp_path / "out")
    group = zarr.open_group(str(folder / "images.ome.zarr"), mode="r")
    levels = group.attrs["multiscales"][0]["datasets"]
    assert [group[level["path"]].shape for level in levels] == [(2, 25, 21), (2, 12, 10), (2, 6, 5)]
    fine, coarse = group["0"][:].astype(float), group["1"][:]
    means = fine[:, :24, :20].reshape(2, 12, 2, 10, 2).mean(axis=(2, 4))
    np.testing.assert_allclose(coarse, means, atol=0.5)
    for number, level in enumerate(levels):
        scale, translation = (step[step["type"]] for step in level["coordinateTransformations"])
        # the outer corner of the first pixel stays where it is
        corner = np.array(translation[-2:]) - 0.5 * np.array(scale[-2:])
        np.testing.assert_allclose(corner, 0, atol=1e-12)
        assert scale[-1] == pytest.approx(0.1 * 2**number)


def test_ome_zarr_opens_in_its_own_reader(data, tmp_path):
    pytest.importorskip("ome_zarr", reason="ome-zarr is not installed")
    from ome_zarr.io import parse_url
    from ome_zarr.reader import Reader

    folder = export_dataset(data["stack"], "ome-zarr", tmp_path / "out")
    (node,) = Reader(parse_url(folder / "images.ome.zarr"))()
    with ss.open_dataset(data["stack"]) as opened:
        np.testing.assert_array_equal(np.asarray(node.data[0]), opened.images[:])
    assert [axis["name"] for axis in node.metadata["axes"]] == list("tzyx")


@pytest.mark.parametrize("world", WORLDS)
def test_npz_holds_every_value_without_a_pickle(data, world, tmp_path, monkeypatch):
    monkeypatch.setattr("simscope.dataset.export.npz.FILE_BYTES", 2000)
    folder = export_dataset(data[world], "npz", tmp_path / "out")
    files = sorted(folder.glob("*.npz"))
    assert len(files) > 1
    with ss.open_dataset(data[world]) as opened:
        images, rows = [], 0
        for path in files:
            with np.load(path, allow_pickle=False) as held:
                images.append(held["images"])
                first, count = int(held["first_sample"]), len(held["images"])
                table, offsets = opened.emitters_of(first, first + count)
                for name in set(table.dtype.names) - {"frame"}:
                    np.testing.assert_array_equal(held[f"emitters_{name}"], table[name])
                frame = table["frame"] - first * opened.frames_per_sample
                np.testing.assert_array_equal(held["emitters_frame"], frame)
                np.testing.assert_array_equal(held["emitter_offsets"], offsets)
                for column, name in enumerate(held["parameter_names"]):
                    drawn = opened.parameters[name.split(" ")[0]][first : first + count]
                    np.testing.assert_array_equal(held["parameters"][:, column], drawn)
                assert Recipe.from_dict(json.loads(str(held["recipe_json"]))) == opened.recipe
                assert ("expected_photons" in held) == (world == "movie")
                rows += len(frame)
        np.testing.assert_array_equal(np.concatenate(images), opened.images[:])
        assert rows == len(opened.emitters)


def test_truth_goes_with_images(data, tmp_path):
    folder = export_dataset(data["snapshot"], "ome-tiff", tmp_path / "out")
    found = ss.dataset.read_localizations(folder / "emitters.csv")
    with ss.open_dataset(data["snapshot"]) as opened:
        for name in ("frame", "x_nm", "y_nm", "z_nm", "photons"):
            np.testing.assert_allclose(found[name], opened.emitters_in_frame[name], rtol=1e-7)
        drawn = opened.parameters["background.photons_per_pixel"]
    table = np.genfromtxt(folder / "parameters.csv", delimiter=",", names=True, deletechars="")
    (column,) = (name for name in table.dtype.names if name.startswith("background"))
    np.testing.assert_array_equal(table[column], drawn)
    assert ss.load_recipe(folder / "recipe.yaml") == lonely()


def applicable():
    for to, entry in STACKS.items():
        for world in WORLDS:
            if to in ("coco", "labels") or (entry.molecules and world == "stack"):
                continue
            if to == "deepstorm3d" and world != "snapshot":
                continue
            yield to, world


@pytest.mark.parametrize(("to", "world"), list(applicable()))
def test_an_export_is_the_same_bytes_whatever_is_read_at_a_time(
    to, world, data, tmp_path, monkeypatch
):
    whole = export_dataset(data[world], to, tmp_path / "whole")
    monkeypatch.setattr(frames, "BLOCK_BYTES", 2000)  # windows of a movie, single samples
    pieces = export_dataset(data[world], to, tmp_path / "pieces")
    assert sums(whole) == sums(pieces)


@pytest.mark.parametrize("to", ["decode", "npz", "ome-tiff", "picasso"])
def test_shards_are_exported_as_one_file_would_be(to, tmp_path):
    one = ss.generate(snapshot(), 7, 1, tmp_path / "one.h5")
    many = ss.generate(snapshot(), 7, 1, tmp_path / "many.h5", samples_per_shard=2)
    assert (tmp_path / "many").is_dir()
    first = export_dataset(one, to, tmp_path / "a", samples="1:6")
    second = export_dataset(many, to, tmp_path / "b", samples="1:6")
    assert sums(first) == sums(second)


def test_blocks_are_small_and_leave_no_frame_out(data, monkeypatch):
    monkeypatch.setattr(frames, "BLOCK_BYTES", 5 * 24 * 20 * 2)
    with ss.open_dataset(data["movie"]) as opened:
        blocks = list(Frames.of(opened, "1:3").blocks())
        assert [first for first, _ in blocks] == [0, 5, 10, 12, 17, 22]
        assert max(images.nbytes for _, images in blocks) <= frames.BLOCK_BYTES
        joined = np.concatenate([images for _, images in blocks])
        np.testing.assert_array_equal(joined, opened.images[1:3].reshape(joined.shape))


@pytest.mark.parametrize("to", [*MOLECULES, "ome-tiff", "ome-zarr", "npz"])
def test_progress_ends_with_all_frames_and_never_goes_back(to, data, tmp_path):
    told = []
    out = tmp_path / "out"
    export_dataset(data["snapshot"], to, out, progress=lambda *counts: told.append(counts))
    done = [one for one, _ in told]
    assert done == sorted(done)
    assert told[-1] == (5, 5)


def test_what_fails_leaves_nothing_and_keeps_what_was_there(data, tmp_path, monkeypatch):
    def full(*args, **options):
        raise OSError(28, "No space left on device")

    before = sums(export_dataset(data["snapshot"], "ome-tiff", tmp_path / "out"))
    monkeypatch.setattr(tifffile, "imwrite", full)
    with pytest.raises(ss.SimscopeError, match="No space left"):
        export_dataset(data["snapshot"], "decode", tmp_path / "out", force=True)
    with pytest.raises(ss.SimscopeError, match="No space left"):
        export_dataset(data["snapshot"], "decode", tmp_path / "new")
    assert [item.name for item in tmp_path.iterdir()] == ["out"]
    assert sums(tmp_path / "out") == before


def test_an_export_that_cannot_take_its_name_leaves_the_earlier_one(data, tmp_path, monkeypatch):
    before = sums(export_dataset(data["snapshot"], "ome-tiff", tmp_path / "out"))
    rename, calls = os.rename, []

    def second_fails(source, target):
        calls.append(source)
        if len(calls) == 2:
            raise OSError(5, "Input/output error")
        rename(source, target)

    monkeypatch.setattr(os, "rename", second_fails)
    with pytest.raises(ss.SimscopeError, match="Input/output error"):
        export_dataset(data["snapshot"], "decode", tmp_path / "out", force=True)
    assert [item.name for item in tmp_path.iterdir()] == ["out"]
    assert sums(tmp_path / "out") == before


def test_a_write_the_disk_takes_in_part_is_told_as_such(data, tmp_path, monkeypatch):
    def short(*args, **options):
        raise OSError("4096 requested and 384 written")  # as numpy.ndarray.tofile says it

    monkeypatch.setattr(tifffile, "imwrite", short)
    with pytest.raises(ss.SimscopeError, match=r"part of a write only.*free some space"):
        export_dataset(data["snapshot"], "decode", tmp_path / "out")
    assert not list(tmp_path.iterdir())


def test_ctrl_c_leaves_nothing(data, tmp_path):
    def interrupt(done, total):
        raise KeyboardInterrupt

    for to in ("picasso", "ome-zarr"):
        with pytest.raises(KeyboardInterrupt):
            export_dataset(data["movie"], to, tmp_path / "out", progress=interrupt)
    assert not list(tmp_path.iterdir())


def test_names_with_marks_of_xml_and_yaml_stay_whole(tmp_path):
    name = """a<b>&"c": 'µ'"""
    path = ss.generate(lonely().replace("name", name), 1, 1, tmp_path / "data.h5")
    folder = export_dataset(path, "ome-tiff", tmp_path / "out")
    with tifffile.TiffFile(folder / "images.ome.tif") as file:
        image = ElementTree.fromstring(file.ome_metadata).find(f"{OME}Image")
    assert image.attrib["Name"] == name
    assert ss.load_recipe(folder / "recipe.yaml").name == name


def test_only_an_earlier_export_is_ever_replaced(data, tmp_path):
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "thesis.txt").write_text("years")
    for force in (False, True):
        with pytest.raises(ss.SimscopeError, match="no export of simscope"):
            export_dataset(data["snapshot"], "npz", mine, force=force)
    assert (mine / "thesis.txt").read_text() == "years"
    out = export_dataset(data["snapshot"], "npz", tmp_path / "out")
    with pytest.raises(ss.SimscopeError, match="--force"):
        export_dataset(data["snapshot"], "ome-tiff", out)
    export_dataset(data["snapshot"], "ome-tiff", out, force=True)
    assert (out / "images.ome.tif").is_file()
    assert not list(out.glob("*.npz"))
    assert sorted(item.name for item in tmp_path.iterdir()) == ["mine", "out"]


def test_a_link_and_a_missing_folder_are_refused(data, tmp_path):
    (tmp_path / "there").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "there")
    for out in (tmp_path / "link", tmp_path / "no" / "out"):
        with pytest.raises(ss.SimscopeError):
            export_dataset(data["snapshot"], "npz", out, force=True)


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"to": "ome-tif"}, "ome-tiff"),
        ({"to": "xyz"}, "there are decode"),
        ({"samples": "2"}, "first:last"),
        ({"samples": "3:3"}, "0:5 is all"),
        ({"samples": "0:6"}, "0:5 is all"),
        ({"samples": "-1:2"}, "first:last"),
    ],
)
def test_a_wrong_request_is_told_what_there_is(data, tmp_path, options, match):
    asked = {"to": "npz"} | options
    with pytest.raises(ss.SimscopeError, match=match):
        export_dataset(data["snapshot"], out=tmp_path / "out", **asked)


def test_ome_zarr_without_zarr_says_what_to_install(data, tmp_path, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    monkeypatch.setitem(sys.modules, "zarr", None)
    with pytest.raises(ss.SimscopeError, match=r"simscope\[exchange\]"):
        export_dataset(data["snapshot"], "ome-zarr", tmp_path / "out")


def test_the_command_exports_and_explains_refusals(data, tmp_path):
    from typer.testing import CliRunner

    def call(*words):
        return CliRunner().invoke(app, ["export", str(data["snapshot"]), *map(str, words)])

    done = call("--to", "challenge", "--out", tmp_path / "out", "--samples", "0:2", "--json")
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["to"] == "challenge"
    assert (tmp_path / "out" / "activations.csv").is_file()
    again = call("--to", "challenge", "--out", tmp_path / "out")
    assert again.exit_code == 2
    assert "--force" in again.stderr
    wrong = call("--to", "decod", "--out", tmp_path / "other")
    assert wrong.exit_code == 2
    assert "decode" in wrong.stderr
