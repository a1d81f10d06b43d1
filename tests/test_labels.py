"""Label images as samples: what shines, which pixel shows what, and files that are none."""

import itertools
import re
from pathlib import Path

import numpy as np
import pytest
import tifffile
from reference_targets import on_pixels, seen_from_above
from scipy import ndimage
from small_worlds import SMALL, snapshot

from simscope.acquire import Simulator
from simscope.dataset import generate, open_dataset
from simscope.errors import RecipeError, SampleError, SimscopeError
from simscope.recipe import LabelsStructure, Recipe
from simscope.sample.volume_files import voxel_pitch_nm
from simscope.targets import LabelTarget

pytestmark = pytest.mark.filterwarnings("ignore::simscope.SimscopeWarning")
LIGHT = {
    "photophysics": {"kind": "steady", "photons_per_um3": 4000},
    "background": {"photons_per_pixel": 0},
}
STILL = {"crop_y": 0, "crop_x": 0, "turn": 0, "margin_nm": 0}
TEXTURE = {
    "kind": "texture", "voxel_nm": [200, 100, 100], "planes": 4, "scale_um": 0.5, "margin_nm": 300,
}  # fmt: skip


def recipe_of(structure, **acquisition):
    shape = {"shape": [24, 20]} | acquisition
    return Recipe.from_dict(SMALL | LIGHT | {"structure": structure, "acquisition": shape})


def labels_in(folder, values, *, acquisition=None, **structure):
    np.save(folder / "labels.npy", values)
    named = {"kind": "labels", "path": str(folder / "labels.npy"), "voxel_nm": [300, 100, 100]}
    return recipe_of(named | STILL | structure, **(acquisition or {}))


def cells(shape=(24, 20)):
    """Two objects far from symmetric, labelled 3 and 9."""
    values = np.zeros(shape, np.int32)
    values[3:7, 2:12], values[15:22, 11:14] = 3, 9
    return values


# ---- what shines --------------------------------------------------------------------------------


def test_an_object_shines_by_its_own_brightness_fresh_in_every_sample(tmp_path):
    simulator = Simulator(labels_in(tmp_path, cells(), brightness={"uniform": [0.5, 2]}), 1)
    levels = []
    for index in range(30):
        volume = simulator.volume(index)[0] / (4000 * 0.3 * 0.1 * 0.1)
        assert not volume[cells() == 0].any()
        three, nine = (np.unique(volume[cells() == label]) for label in (3, 9))
        assert len(three) == len(nine) == 1
        levels.append((three[0], nine[0]))
    levels = np.array(levels)
    assert 0.5 <= levels.min() < levels.max() <= 2.0
    # 30 draws of two independent numbers: correlations beyond 0.5 have p < 0.005
    assert abs(np.corrcoef(levels.T)[0, 1]) < 0.5
    assert len(np.unique(levels)) == 60


def test_the_table_of_objects_tells_what_was_drawn_and_seen(tmp_path):
    simulator = Simulator(labels_in(tmp_path, cells(), brightness={"uniform": [0.5, 2]}), 1)
    table = simulator.objects(4)
    assert table["label"].tolist() == [3, 9]
    assert table["pixels"].tolist() == [40, 21]
    volume = simulator.volume(4)[0] / np.float32(4000 * 0.3 * 0.1 * 0.1)
    for row in table:
        np.testing.assert_allclose(volume[cells() == row["label"]], row["brightness"], rtol=1e-6)
    bodies = Simulator(recipe_of(TEXTURE), 4)
    assert set(bodies.objects(1)["label"]) == set(np.unique(bodies.labels(1))) - {0}
    assert set(bodies.objects(1)["brightness"]) == {1.0}


def test_texture_inside_objects_keeps_their_mean(tmp_path):
    values = np.ones((200, 200), np.uint8)
    rough = labels_in(
        tmp_path, values, contrast=0.5, scale_um=0.3, acquisition={"shape": [200, 200]}
    )
    volume = Simulator(rough.replace("rendering.window_px", 17), 1).volume(0)
    relative = volume / (4000 * 0.3 * 0.1 * 0.1)
    # about (20 / 0.3)^2 independent patches: the mean is good to a percent or so
    assert relative.mean() == pytest.approx(1.0, abs=0.04)
    assert np.log(relative).std() == pytest.approx(0.5, rel=0.1)


def test_a_flat_image_is_one_plane_of_its_voxels_height(tmp_path):
    flat = Simulator(labels_in(tmp_path, cells()), 1)
    stack = Simulator(labels_in(tmp_path, cells()[None]), 1)
    assert np.array_equal(flat[0].image, stack[0].image)
    assert flat.volume(0).shape == (1, 24, 20)


def test_light_falls_where_the_labels_say(tmp_path):
    simulator = Simulator(labels_in(tmp_path, cells() // 9), 1)
    clean = simulator.batch(0, 1, expected=True).expected_photons[0]
    seen = np.indices(clean.shape).reshape(2, -1) @ clean.ravel() / clean.sum()
    meant = [axis.mean() for axis in np.nonzero(simulator.labels(0))]
    # light beyond the frame pulls the centroid by less than a fifth of a pixel
    np.testing.assert_allclose(seen, meant, atol=0.2)


# ---- which pixel shows what ---------------------------------------------------------------------


@pytest.mark.parametrize("turn", range(8))
def test_labels_turn_with_the_image(tmp_path, turn):
    recipe = labels_in(tmp_path, cells((30, 30)), turn=turn, crop_y=0.6, crop_x=0.2, margin_nm=300)
    simulator = Simulator(recipe, 1)
    labels = simulator.labels(0)
    assert labels.dtype == np.uint16
    assert set(np.unique(labels)) <= {0, 3, 9}
    assert np.array_equal(labels > 0, simulator.volume(0)[0] > 0)
    assert labels.any()


@pytest.mark.parametrize("finer", [1, 2, 3])
def test_a_pixel_bears_the_label_that_covers_most_of_it(tmp_path, finer):
    values = np.random.default_rng(3).integers(0, 4, (5, 24 * finer, 20 * finer)).astype(np.uint16)
    values[values == 2] = 0
    recipe = labels_in(tmp_path, values, voxel_nm=[100, 100 / finer, 100 / finer])
    expected = on_pixels(seen_from_above(values), finer)
    assert np.array_equal(Simulator(recipe, 1).labels(0), expected)


def test_labels_in_focus_are_those_of_the_plane_there(tmp_path):
    values = np.random.default_rng(3).integers(0, 4, (5, 24, 20)).astype(np.uint16)
    focus = {"start_nm": -100, "stop_nm": 600, "planes": 8}
    recipe = labels_in(tmp_path, values, voxel_nm=[100, 100, 100])
    for nm, plane in ((0, 0), (49, 0), (51, 1), (400, 4)):
        here = Simulator(recipe.replace("acquisition.focus_nm", nm), 1)
        assert np.array_equal(here.labels(0, section="focus"), values[plane])
    for nm in (-51, 451):
        assert (
            not Simulator(recipe.replace("acquisition.focus_nm", nm), 1)
            .labels(0, section="focus")
            .any()
        )
    stack = Simulator(recipe.replace("acquisition.focus_nm", focus), 1)
    planes = stack.labels(0, section="focus")
    assert planes.shape == (8, 24, 20)
    assert np.array_equal(planes[1:6], values)
    assert not planes[[0, 6, 7]].any()


def test_the_focus_drawn_for_a_sample_cuts_its_labels(tmp_path):
    values = np.arange(1, 6, dtype=np.uint8)[:, None, None] * np.ones((5, 24, 20), np.uint8)
    recipe = labels_in(
        tmp_path, values, voxel_nm=[100, 100, 100], z_nm={"uniform": [-50, 50]},
        acquisition={"focus_nm": {"uniform": [0, 400]}},
    )  # fmt: skip
    simulator = Simulator(recipe, 1)
    drawn = simulator.parameters(0, 20)
    above = (drawn["acquisition.focus_nm"] - drawn["structure.z_nm"]) / 100
    expected = np.where(above < 4.5, np.floor(above + 0.5) + 1, 0)
    found = [simulator.labels(index, section="focus")[0, 0] for index in range(20)]
    assert found == expected.tolist()


def test_bodies_of_textures_are_objects_where_they_are_half_bright():
    simulator = Simulator(recipe_of(TEXTURE | {"edge_nm": 100}), 4)
    inside = simulator.volume(1) >= 0.5 * 4000 * 0.2 * 0.1 * 0.1 * (1 - 1e-6)
    labels = simulator.labels(1)
    assert np.array_equal(labels > 0, inside.any(axis=0))
    assert len(np.unique(labels)) > 2
    for plane, cut in zip(inside, _planes_in_focus(simulator), strict=True):
        assert np.array_equal(plane, cut > 0)
        for piece in range(1, ndimage.label(plane)[1] + 1):
            assert len(np.unique(cut[ndimage.label(plane)[0] == piece])) == 1


def _planes_in_focus(simulator):
    """Labels of each plane of voxels of sample 1."""
    focus = {"start_nm": 0, "stop_nm": 600, "planes": 4}
    stack = Simulator(simulator.recipe.replace("acquisition.focus_nm", focus), 4)
    return stack.labels(1, section="focus")


@pytest.mark.parametrize("section", ["projection", "focus"])
def test_labels_are_targets_of_every_frame_in_any_window(tmp_path, section):
    recipe = recipe_of(TEXTURE, frames=6)
    simulator = Simulator(recipe, 4)
    target = LabelTarget(section=section)
    whole = target.of(simulator, simulator.batch(0, 2))
    assert whole.shape == (2, 6, 24, 20)
    parts = [target.of(simulator, part) for part in simulator.chunks(0, 2, max_bytes=2 * 4 * 480)]
    assert len(parts) == 6
    assert np.array_equal(np.concatenate(parts, axis=1).reshape(whole.shape), whole)
    for index in range(2):
        assert np.array_equal(whole[index, 5], simulator.labels(index, section=section))


def test_picked_samples_have_their_own_labels(tmp_path):
    simulator = Simulator(recipe_of(TEXTURE), 4)
    out = generate(simulator.recipe, 6, 4, tmp_path / "a.h5", targets=["labels"])
    with open_dataset(out) as data:
        made = LabelTarget().of(data, data.pick([4, 0, 3]))
        stored = np.asarray(data.target("labels")[:])
    assert np.array_equal(made[:, 0], stored[[4, 0, 3]])
    assert np.array_equal(made[0, 0], simulator.labels(4))
    assert not np.array_equal(made[0], made[1])


def test_planes_of_a_stack_have_labels_of_their_own(tmp_path):
    focus = {"start_nm": 0, "stop_nm": 600, "planes": 4}
    simulator = Simulator(recipe_of(TEXTURE, focus_nm=focus), 4)
    cut = LabelTarget(section="focus").of(simulator, simulator.batch(0, 2))
    assert cut.shape == (2, 4, 24, 20)
    assert np.array_equal(cut[1], simulator.labels(1, section="focus"))
    assert not np.array_equal(cut[1, 0], cut[1, 3])


@pytest.mark.parametrize("structure", ["molecules", "membranes"])
def test_what_has_no_objects_has_no_labels(structure):
    recipe = snapshot() if structure == "molecules" else recipe_of(TEXTURE | {"form": "membranes"})
    simulator = Simulator(recipe, 1)
    with pytest.raises(SampleError, match="no objects to label"):
        simulator.labels(0)
    with pytest.raises(SampleError, match="no objects to label"):
        LabelTarget().shape(simulator)


# ---- files --------------------------------------------------------------------------------------


def ome(folder, values, **metadata):
    axes = {"axes": "ZYX"[-values.ndim :]} | metadata
    path = folder / "image.ome.tif"
    tifffile.imwrite(path, values, ome=True, photometric="minisblack", metadata=axes)
    return str(path)


def pitch(z, y, x, unit):
    sizes = {f"PhysicalSize{axis}": size for axis, size in zip("ZYX", (z, y, x), strict=True)}
    return sizes | {f"PhysicalSize{axis}Unit": unit for axis in "ZYX"}


@pytest.mark.parametrize(("unit", "scale"), [("nm", 1.0), ("µm", 1e-3), ("mm", 1e-6), ("Å", 10.0)])
@pytest.mark.parametrize("kind", ["labels", "volume"])
def test_voxel_sizes_come_from_ome_metadata(tmp_path, kind, unit, scale):
    values = np.random.default_rng(1).integers(0, 5, (4, 48, 40)).astype(np.uint16)
    path = ome(tmp_path, values, **pitch(250 * scale, 50 * scale, 50 * scale, unit))
    stated = recipe_of({"kind": kind, "path": path} | STILL)
    given = recipe_of({"kind": kind, "path": path, "voxel_nm": [250, 50, 50]} | STILL)
    a, b = Simulator(stated, 1), Simulator(given, 1)
    assert a.volume(0).shape == (4, 48, 40)
    assert np.array_equal(a.volume(0), b.volume(0))
    assert np.array_equal(a[0].image, b[0].image)
    np.save(tmp_path / "same.npy", values)
    array = {"kind": kind, "path": str(tmp_path / "same.npy"), "voxel_nm": [250, 50, 50]} | STILL
    assert np.array_equal(Simulator(recipe_of(array), 1)[0].image, b[0].image)


@pytest.mark.parametrize(
    "metadata",
    [
        {},
        {"PhysicalSizeX": 0.1, "PhysicalSizeY": 0.1},
        pitch(1.0, 1.0, 1.0, "pixel"),
    ],
)
def test_voxels_without_a_stated_size_need_one(tmp_path, metadata):
    path = ome(tmp_path, np.ones((4, 24, 20), np.uint16), **metadata)
    with pytest.raises(SampleError, match=r"give structure\.voxel_nm"):
        Simulator(recipe_of({"kind": "labels", "path": path}), 1)


def test_stated_sizes_beyond_reason_are_refused(tmp_path):
    path = ome(tmp_path, np.ones((4, 24, 20), np.uint16), **pitch(1, 1, 1, "mm"))
    with pytest.raises(SampleError, match="lies outside 1 to 1e5 nm"):
        Simulator(recipe_of({"kind": "labels", "path": path}), 1)


def test_axes_of_length_one_are_no_obstacle(tmp_path):
    path = ome(tmp_path, np.ones((1, 4, 1, 24, 20), np.uint16), axes="TZCYX")
    named = {"kind": "labels", "path": path, "voxel_nm": [100, 100, 100]} | STILL
    assert Simulator(recipe_of(named), 1).volume(0).shape == (4, 24, 20)


@pytest.mark.parametrize(
    ("shape", "axes", "said"),
    [
        ((3, 24, 20), "CYX", "3 channels"),
        ((3, 24, 20), "TYX", "3 times"),
        ((2, 4, 24, 20), "CZYX", "2 channels"),
        ((2, 4, 24, 20), "TZYX", "2 times"),
    ],
)
@pytest.mark.parametrize("kind", ["labels", "volume"])
def test_channels_and_times_are_never_taken_for_planes(tmp_path, kind, shape, axes, said):
    path = ome(tmp_path, np.ones(shape, np.uint16), axes=axes)
    with pytest.raises(SampleError, match=said):
        Simulator(recipe_of({"kind": kind, "path": path, "voxel_nm": [100, 100, 100]}), 1)


def test_several_images_in_a_file_are_refused(tmp_path):
    with tifffile.TiffWriter(tmp_path / "two.tif") as file:
        for side in (24, 30):
            file.write(np.ones((side, 20), np.uint16), contiguous=False)
    named = {"kind": "labels", "path": str(tmp_path / "two.tif"), "voxel_nm": [100, 100, 100]}
    with pytest.raises(SampleError, match="holds 2 images"):
        Simulator(recipe_of(named), 1)


def with_ome(folder, change):
    """The path of an OME-TIFF of 4 planes whose metadata were changed."""
    path = ome(folder, np.ones((4, 24, 20), np.uint16), **pitch(300, 100, 100, "nm"))
    text = tifffile.tiffcomment(path)
    assert change(text) != text
    tifffile.tiffcomment(path, change(text).encode())
    return path


def elsewhere(name, uuid="urn:uuid:5", own=None):
    """A change of metadata that says planes lie in a file of that name."""
    data = f'<TiffData IFD="0" PlaneCount="4"><UUID FileName="{name}">{uuid}</UUID></TiffData>'

    def change(text):
        pointed = re.sub("<TiffData.*?/>|<TiffData.*</TiffData>", data, text, flags=re.DOTALL)
        anonymous = re.sub(' UUID="[^"]*"', "", pointed)
        return anonymous.replace("<OME ", f'<OME UUID="{own}" ' if own else "<OME ", 1)

    return change


def test_no_image_leads_to_another_file(tmp_path):
    tifffile.imwrite(tmp_path / "secret.tif", cells().astype(np.uint16))
    (tmp_path / "recipe").mkdir()
    path = with_ome(tmp_path / "recipe", elsewhere("../secret.tif"))
    with pytest.raises(SampleError, match="planes in another file"):
        Simulator(recipe_of({"kind": "labels", "path": path}), 1)


def test_an_image_that_was_renamed_is_still_itself(tmp_path):
    path = with_ome(tmp_path, elsewhere("before.ome.tif", "urn:uuid:5", own="urn:uuid:5"))
    assert Simulator(recipe_of({"kind": "labels", "path": path} | STILL), 1).labels(0).all()


def test_planes_that_are_missing_are_not_taken_for_dark(tmp_path):
    path = with_ome(tmp_path, lambda text: text.replace('SizeZ="4"', 'SizeZ="9"'))
    with pytest.raises(SampleError, match="lacks planes"):
        Simulator(recipe_of({"kind": "labels", "path": path}), 1)


def test_metadata_that_blow_up_are_refused(tmp_path):
    entities = '<!ENTITY a "xxxxxxxxxxxxxxxxxxxx">'
    for one, next_one in itertools.pairwise("abcdefghij"):
        entities += f'<!ENTITY {next_one} "{f"&{one};" * 9}">'
    bomb = f'<?xml version="1.0"?><!DOCTYPE OME [{entities}]><OME>&j;</OME>'
    path = with_ome(tmp_path, lambda _: bomb)
    with pytest.raises(SampleError, match="cannot be read"):
        Simulator(recipe_of({"kind": "labels", "path": path}), 1)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        (np.ones((24, 20)), "whole numbers"),
        (np.ones(24, int), "whole numbers"),
        (np.ones((1, 4, 24, 20), int), "whole numbers"),
        (np.zeros((24, 20), int), "background only"),
        (np.full((24, 20), -1), "labels from -1"),
        (np.full((24, 20), 65536), "1 to 65535"),
        (np.zeros((0, 20), int), "whole numbers"),
        (np.ones((10, 20), int), "10 x 20 voxels across"),
    ],
)
def test_arrays_that_are_no_labels_are_refused(tmp_path, values, said):
    with pytest.raises(SampleError, match=said):
        Simulator(labels_in(tmp_path, values), 1)


def test_labels_of_booleans_and_the_highest_number_are_fine(tmp_path):
    values = np.where(cells() > 0, 65535, 0)
    assert Simulator(labels_in(tmp_path, values), 1).labels(0).max() == 65535
    assert Simulator(labels_in(tmp_path, values > 0), 1).labels(0).max() == 1


def test_a_damaged_image_is_refused_in_words(tmp_path):
    path = ome(tmp_path, np.ones((4, 24, 20), np.uint16))
    whole = (tmp_path / "image.ome.tif").read_bytes()
    named = {"kind": "labels", "path": path, "voxel_nm": [100, 100, 100]}
    for cut in (0, 4, 100, len(whole) // 2):
        (tmp_path / "image.ome.tif").write_bytes(whole[:cut])
        with pytest.raises(SimscopeError):
            Simulator(recipe_of(named), 1)


def test_a_mutated_file_is_refused_in_words_or_read(tmp_path):
    """Damage in headers ends in a SampleError, whatever the reader stumbles over."""
    rng = np.random.default_rng(5)
    image = ome(tmp_path, np.ones((4, 24, 20), np.uint16), **pitch(300, 100, 100, "nm"))
    np.save(tmp_path / "labels.npy", cells())
    for source, header in ((Path(image), 1200), (tmp_path / "labels.npy", 128)):
        whole, refused = source.read_bytes(), 0
        for _ in range(150):
            damaged = bytearray(whole)
            for place in rng.integers(0, header, 3):
                damaged[place] = rng.integers(0, 256)
            source.write_bytes(bytes(damaged))
            try:
                voxel_pitch_nm(LabelsStructure(path=str(source)))
            except SampleError:
                refused += 1
        assert refused > 20


def test_a_changed_file_is_read_anew(tmp_path):
    recipe = labels_in(tmp_path, cells())
    assert Simulator(recipe, 1).labels(0).max() == 9
    np.save(tmp_path / "labels.npy", np.where(cells() == 9, 11, cells()).astype(np.int64))
    assert Simulator(recipe, 1).labels(0).max() == 11


def test_molecules_do_not_sit_in_label_images(tmp_path):
    np.save(tmp_path / "labels.npy", cells())
    named = {"kind": "labels", "path": str(tmp_path / "labels.npy"), "voxel_nm": [300, 100, 100]}
    with pytest.raises(RecipeError, match="steady"):
        Recipe.from_dict(SMALL | {"structure": named})
