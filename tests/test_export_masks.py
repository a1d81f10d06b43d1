"""Exports of objects: label images beside their frames, and annotations COCO's own tools read."""

import json

import numba
import numpy as np
import pytest
import tifffile
from small_worlds import SMALL, snapshot

import simscope as ss
from simscope.dataset import export_dataset
from simscope.dataset.export import masks
from simscope.recipe import Recipe

pytestmark = pytest.mark.skipif(numba.config.DISABLE_JIT, reason="renders, too slow without JIT")

ROWS, COLUMNS = 12, 16


def objects(path, *, frames=1, turn=0):
    """An L of label 7 in the upper left corner and a bar of label 3 low on the right."""
    labels = np.zeros((ROWS, COLUMNS), np.uint16)
    labels[1:6, 2] = labels[5, 2:7] = 7
    labels[9:11, 10:14] = 3
    np.save(path, labels)
    return Recipe.from_dict(
        {name: value for name, value in SMALL.items() if name != "rendering"}
        | {
            "camera": {"kind": "ccd", "pixel_pitch_um": 20},
            "acquisition": {"shape": [ROWS, COLUMNS], "frames": frames},
            "structure": {
                "kind": "labels",
                "path": str(path),
                "voxel_nm": [200, 200, 200],
                "crop_x": 0,
                "crop_y": 0,
                "turn": turn,
                "margin_nm": 0,
            },
            "photophysics": {"kind": "steady", "photons_per_um3": 1e5},
        }
    )


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("objects")
    recipe = objects(folder / "labels.npy")
    return {
        "worked out": ss.generate(recipe, 3, 1, folder / "plain.h5"),
        "stored": ss.generate(recipe, 3, 1, folder / "stored.h5", targets=["labels"]),
        "movie": ss.generate(
            objects(folder / "more.npy", frames=2), 2, 1, folder / "movie.h5", targets=["labels"]
        ),
        "truth": np.load(folder / "labels.npy"),
    }


@pytest.mark.parametrize("source", ["worked out", "stored"])
def test_masks_bear_the_names_and_places_of_their_images(data, source, tmp_path):
    folder = export_dataset(data[source], "labels", tmp_path / "out")
    names = sorted(path.name for path in (folder / "images").iterdir())
    assert names == sorted(path.name for path in (folder / "masks").iterdir())
    assert names == ["00000.tif", "00001.tif", "00002.tif"]
    with ss.open_dataset(data[source]) as opened:
        for number, name in enumerate(names):
            image = tifffile.imread(folder / "images" / name)
            labels = tifffile.imread(folder / "masks" / name)
            np.testing.assert_array_equal(image, opened.image(number))
            np.testing.assert_array_equal(labels, data["truth"])
            assert image[labels > 0].mean() > 2 * image[labels == 0].mean()


def test_frames_of_a_movie_have_a_mask_each(data, tmp_path):
    folder = export_dataset(data["movie"], "labels", tmp_path / "out", samples="1:2")
    found = [tifffile.imread(folder / "masks" / f"{number:05d}.tif") for number in (0, 1)]
    np.testing.assert_array_equal(found, [data["truth"]] * 2)


def bodies(**acquisition):
    """Bodies that differ from sample to sample."""
    texture = {"kind": "texture", "voxel_nm": [200, 100, 100], "planes": 4, "scale_um": 0.5}
    light = {"kind": "steady", "photons_per_um3": 4000}
    changes = {"structure": texture | {"margin_nm": 300}, "photophysics": light}
    return Recipe.from_dict(SMALL | changes | {"acquisition": {"shape": [24, 20]} | acquisition})


@pytest.mark.parametrize("targets", [[], ["labels"]], ids=["worked out", "stored"])
@pytest.mark.parametrize("to", ["labels", "coco"])
def test_some_samples_have_masks_of_their_own(to, targets, tmp_path):
    path = ss.generate(bodies(), 4, 4, tmp_path / "data.h5", targets=targets)
    simulator = ss.Simulator(bodies(), 4)
    meant = [simulator.labels(sample) for sample in (1, 2)]
    assert not np.array_equal(*meant)
    folder = export_dataset(path, to, tmp_path / "out", samples="1:3")
    if to == "labels":
        found = [tifffile.imread(folder / "masks" / f"{number:05d}.tif") for number in (0, 1)]
        np.testing.assert_array_equal(found, meant)
    else:
        told = json.loads((folder / "annotations.json").read_text("utf8"))["annotations"]
        areas = [
            {one["label"]: one["area"] for one in told if one["image_id"] == k} for k in (0, 1)
        ]
        assert areas == [
            {int(label): int((labels == label).sum()) for label in np.unique(labels[labels > 0])}
            for labels in meant
        ]


def test_planes_of_a_stack_have_the_masks_stored_of_each(tmp_path):
    recipe = bodies(focus_nm={"start_nm": 0, "stop_nm": 600, "planes": 4})
    path = ss.generate(recipe, 3, 4, tmp_path / "data.h5", targets=["labels:section=focus"])
    folder = export_dataset(path, "labels", tmp_path / "out", samples="1:3")
    found = [tifffile.imread(folder / "masks" / f"{number:05d}.tif") for number in range(8)]
    simulator = ss.Simulator(recipe, 4)
    meant = [simulator.labels(sample, section="focus") for sample in (1, 2)]
    assert not np.array_equal(meant[0][0], meant[0][3])
    np.testing.assert_array_equal(found, np.concatenate(meant))


def test_coco_boxes_and_areas_are_those_of_the_objects(data, tmp_path):
    folder = export_dataset(data["stored"], "coco", tmp_path / "out")
    told = json.loads((folder / "annotations.json").read_text("utf8"))
    assert [image["file_name"] for image in told["images"]] == [
        "00000.tif", "00001.tif", "00002.tif",
    ]  # fmt: skip
    assert {(image["width"], image["height"]) for image in told["images"]} == {(COLUMNS, ROWS)}
    first = [entry for entry in told["annotations"] if entry["image_id"] == 0]
    assert [(entry["label"], entry["area"], entry["bbox"]) for entry in first] == [
        (3, 8, [10, 9, 4, 2]),
        (7, 9, [2, 1, 5, 5]),
    ]
    serials = [entry["id"] for entry in told["annotations"]]
    assert serials == [1, 2, 3, 4, 5, 6]  # 0 means none to COCO's evaluation


def test_pycocotools_loads_the_masks_as_they_were(data, tmp_path):
    coco = pytest.importorskip("pycocotools.coco")
    folder = export_dataset(data["stored"], "coco", tmp_path / "out")
    opened = coco.COCO(str(folder / "annotations.json"))
    for number in opened.getImgIds():
        labels = np.zeros((ROWS, COLUMNS), np.uint16)
        for entry in opened.loadAnns(opened.getAnnIds(imgIds=[number])):
            labels[opened.annToMask(entry) > 0] = entry["label"]
        np.testing.assert_array_equal(labels, data["truth"])


@pytest.mark.parametrize("share", [0.0, 0.02, 0.5, 0.98, 1.0])
@pytest.mark.parametrize("shape", [(1, 1), (7, 300), (211, 90)])
def test_masks_are_packed_as_pycocotools_packs_them(share, shape):
    api = pytest.importorskip("pycocotools.mask")
    mask = np.random.default_rng(5).random(shape) < share
    packed = api.encode(np.asfortranarray(mask.astype(np.uint8)))
    assert masks.rle_text(mask) == packed["counts"].decode()


def test_runs_begin_outside_and_go_down_the_columns():
    mask = np.array([[1, 0, 1], [1, 1, 0]], bool)
    assert masks.run_lengths(mask) == [0, 2, 1, 2, 1]


@pytest.mark.parametrize("to", ["coco", "labels"])
def test_molecules_have_no_objects(to, tmp_path):
    path = ss.generate(snapshot(), 1, 1, tmp_path / "data.h5")
    with pytest.raises(ss.SimscopeError, match="no objects to label"):
        export_dataset(path, to, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_objects_are_no_molecules(data, tmp_path):
    with pytest.raises(ss.SimscopeError, match="coco or labels"):
        export_dataset(data["stored"], "picasso", tmp_path / "out")
