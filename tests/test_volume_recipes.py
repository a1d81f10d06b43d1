"""Recipes with continuous structures: what is cut out and made up, and how bright it appears."""

import hashlib

import numpy as np
import pytest
from small_worlds import SMALL

import simscope as ss
from simscope.dataset.schema import inputs_of
from simscope.errors import RecipeError, SampleError, SimscopeError
from simscope.keys import Key
from simscope.optics import evanescent_depth_nm, image_volume
from simscope.recipe import Recipe
from simscope.sample.fields import MEAN_STEEPNESS, random_field

pytestmark = pytest.mark.filterwarnings("ignore::simscope.SimscopeWarning")

TEXTURE = {
    "kind": "texture", "voxel_nm": [200, 100, 100], "planes": 5, "scale_um": 0.6,
    "margin_nm": 300, "z_nm": 100,
}  # fmt: skip
STEADY = {"kind": "steady", "photons_per_um3": 4000}
VOLUME_WORLD = SMALL | {
    "structure": TEXTURE,
    "photophysics": STEADY,
    "background": {"photons_per_pixel": 0},
}


def world(**changes):
    return Recipe.from_dict(VOLUME_WORLD | changes)


def from_file(folder, values, **changes):
    np.save(folder / "volume.npy", values)
    structure = {
        "kind": "volume", "path": str(folder / "volume.npy"), "voxel_nm": [200, 100, 100],
        "margin_nm": 0, "crop_y": 0, "crop_x": 0, "turn": 0,
    }  # fmt: skip
    shape = {"shape": list(changes.pop("shape", (24, 20)))}
    acquisition = shape | changes.pop("acquisition", {})
    return world(structure=structure | changes, acquisition=acquisition)


def test_a_sample_is_the_same_alone_and_among_others():
    together = ss.Simulator(world(), 5).batch(0, 3, expected=True)
    alone = ss.Simulator(world(), 5, threads=1).batch(2, 3, expected=True)
    assert np.array_equal(together.images[2], alone.images[0])
    assert np.array_equal(together.expected_photons[2], alone.expected_photons[0])
    assert not np.array_equal(together.expected_photons[1], together.expected_photons[2])


def test_files_hold_images_clean_twins_and_no_emitters(tmp_path):
    out = ss.generate(world(), 3, 5, tmp_path / "v.h5", expected=True)
    simulator = ss.Simulator(world(), 5)
    with ss.open_dataset(out) as data:
        assert len(data.emitters) == 0
        assert not data.emitter_offsets.any()
        assert np.array_equal(data.image(1), simulator[1].image)
        clean = simulator.batch(1, 2, expected=True).expected_photons[0]
        assert np.array_equal(data.expected_photons[1], clean)


def test_light_is_counted_per_volume(tmp_path):
    """A slab of 1 um shines 4000 photons/um^3 * 1 um * 0.01 um^2 into a pixel of 0.1 um."""
    values = np.full((5, 120, 120), 7, np.uint16)
    recipe = from_file(tmp_path, values, shape=(120, 120)).replace("rendering.window_px", 101)
    clean = ss.Simulator(recipe, 1).batch(0, 1, expected=True).expected_photons[0]
    middle = clean[58:62, 58:62]
    assert middle.mean() == pytest.approx(40.0, rel=0.02)
    half = recipe.replace("photophysics.photons_per_um3", 2000)
    dimmer = ss.Simulator(half, 1).batch(0, 1, expected=True).expected_photons[0]
    assert np.allclose(2.0 * dimmer, clean, rtol=1e-5)


@pytest.mark.parametrize("finer", [1, 2])
def test_noiseless_image_is_that_of_the_volume_told_as_truth(finer):
    pitch = 100.0 / finer
    texture = TEXTURE | {"margin_nm": 0, "voxel_nm": [200, pitch, pitch]}
    simulator = ss.Simulator(world(structure=texture), 5)
    volume = simulator.volume(1)
    assert volume.shape == (5, 24 * finer, 20 * finer)
    expected = image_volume(
        volume, simulator.recipe.optics, voxel_nm=(200.0, pitch, pitch), z0_nm=100.0,
        pixel_nm=100.0, window_px=(17 * finer) | 1, accuracy=1e-3, accept_energy_loss=True,
    )  # fmt: skip
    seen = simulator.batch(1, 2, expected=True).expected_photons[0]
    assert np.abs(seen - expected).max() < 1e-6 * expected.max()


def test_the_margin_blurs_into_the_frame():
    wide = ss.Simulator(world(structure=TEXTURE | {"margin_nm": 700}), 5)
    volume = wide.volume(0)
    alone = image_volume(
        volume, wide.recipe.optics, voxel_nm=(200.0, 100.0, 100.0), z0_nm=100.0, window_px=17,
        accept_energy_loss=True,
    )  # fmt: skip
    seen = wide.batch(0, 1, expected=True).expected_photons[0]
    assert np.abs(seen - alone)[9:-9, 9:-9].max() < 2e-3 * seen.max()
    assert (seen - alone)[0].mean() > 0.05 * seen.mean()


TURNED = {  # where voxel (y, x) of a frame of 16 x 16 comes to lie, by hand
    0: lambda y, x: (y, x),
    1: lambda y, x: (x, 15 - y),
    2: lambda y, x: (15 - y, 15 - x),
    3: lambda y, x: (15 - x, y),
    4: lambda y, x: (y, 15 - x),
    5: lambda y, x: (15 - x, 15 - y),
    6: lambda y, x: (15 - y, x),
    7: lambda y, x: (x, y),
}


@pytest.mark.parametrize("turn", range(8))
def test_turns_are_those_of_the_square(tmp_path, turn):
    values = np.zeros((2, 16, 16), np.float32)
    values[1, 3, 5] = 2.0
    recipe = from_file(tmp_path, values, shape=(16, 16), turn=turn)
    volume = ss.Simulator(recipe, 1).volume(0)
    assert np.unravel_index(volume.argmax(), volume.shape) == (1, *TURNED[turn](3, 5))
    assert volume.max() == pytest.approx(4000 * 0.2 * 0.1 * 0.1)


def test_crops_reach_every_corner_and_no_further(tmp_path):
    values = np.arange(1.0, 1 + 2 * 30 * 33).reshape(2, 30, 33)
    for crop_y, crop_x, corner in ((0, 0, (0, 0)), (1, 1, (6, 13)), (0.5, 0, (3, 0))):
        recipe = from_file(tmp_path, values, crop_y=crop_y, crop_x=crop_x)
        volume = ss.Simulator(recipe, 1).volume(0)
        top, left = corner
        piece = values[:, top : top + 24, left : left + 20]
        assert np.allclose(volume / volume.max(), piece / piece.max(), rtol=1e-5)


def test_what_was_cut_out_is_a_label_and_every_place_is_taken_alike(tmp_path):
    values = np.random.default_rng(1).random((2, 40, 40))
    recipe = from_file(tmp_path, values)
    data = recipe.written()
    for name in ("crop_y", "crop_x", "turn"):
        del data["structure"][name]
    simulator = ss.Simulator(Recipe.from_dict(data), 1)
    drawn = simulator.parameters(0, 400)
    assert {"structure.crop_y", "structure.crop_x", "structure.turn"} <= set(drawn)
    assert set(drawn["structure.turn"]) == set(range(8))
    # counts of 400 / 8 have a standard deviation of 6.6
    assert np.bincount(drawn["structure.turn"].astype(int)).min() > 20
    assert not np.array_equal(simulator[0].image, simulator[1].image)


def test_tiff_stacks_give_what_npy_stacks_do(tmp_path):
    import tifffile

    values = np.random.default_rng(2).integers(0, 200, (3, 24, 20)).astype(np.uint8)
    recipe = from_file(tmp_path, values)
    tifffile.imwrite(tmp_path / "volume.tif", values, photometric="minisblack")
    other = recipe.replace("structure.path", str(tmp_path / "volume.tif"))
    assert np.array_equal(ss.Simulator(recipe, 1)[0].image, ss.Simulator(other, 1)[0].image)


def test_random_fields_are_standard_normal_and_as_steep_as_stated():
    fields = [random_field(Key(3), k, (40, 40, 40), (0.2, 0.2, 0.2)) for k in range(30)]
    values = np.stack(fields).astype(np.float64)
    # some 8^3 independent nodes a field: the mean is known to 0.01, the variance to 0.02
    assert abs(values.mean()) < 0.05
    assert values.var() == pytest.approx(1.0, abs=0.08)
    slopes = np.gradient(values, 0.2, axis=(1, 2, 3))
    steepness = np.sqrt(sum(slope**2 for slope in slopes)).mean()
    assert steepness == pytest.approx(MEAN_STEEPNESS, rel=0.05)


@pytest.mark.parametrize("fill", [0.15, 0.5])
def test_bodies_fill_the_share_of_space_asked_for(fill):
    texture = TEXTURE | {"fill": fill, "planes": 10, "edge_nm": 100}
    simulator = ss.Simulator(world(structure=texture), 2)
    full = 4000 * 0.2 * 0.1 * 0.1
    share = np.mean([simulator.volume(k).mean() / full for k in range(60)])
    # some 150 independent nodes a volume, 60 volumes: a standard deviation of 0.006
    assert share == pytest.approx(fill, abs=0.03)


def test_membranes_run_where_bodies_end():
    bodies, membranes = (
        ss.Simulator(world(structure=TEXTURE | {"form": form, "edge_nm": 150}), 2).volume(0)
        for form in ("bodies", "membranes")
    )
    full = bodies.max()
    at_surface = (bodies > 0.1 * full) & (bodies < 0.9 * full)
    assert membranes[at_surface].mean() > 0.5 * membranes.max()
    assert membranes[bodies == 0].mean() < 0.3 * membranes[at_surface].mean()


def test_drawn_height_focus_and_wavefront_are_those_of_the_labels():
    optics = SMALL["optics"] | {
        "wavefront": {"coefficients_nm": {"5": {"uniform": [-80, 80]}, "7": 30}}
    }
    recipe = world(
        optics=optics,
        structure=TEXTURE | {"z_nm": {"uniform": [0, 500]}, "margin_nm": 0},
        acquisition={"shape": [24, 20], "focus_nm": {"uniform": [0, 800]}},
    )
    simulator = ss.Simulator(recipe, 5)
    for index in (0, 3):
        drawn = simulator[index].parameters
        expected = image_volume(
            simulator.volume(index),
            ss.Optics(**SMALL["optics"]),
            voxel_nm=(200.0, 100.0, 100.0),
            z0_nm=drawn["structure.z_nm"],
            focus_nm=drawn["acquisition.focus_nm"],
            wavefront_nm={5: drawn["optics.wavefront.coefficients_nm.5"], 7: 30.0},
            window_px=17,
            accept_energy_loss=True,
            accuracy=1e-4,
        )
        seen = simulator.batch(index, index + 1, expected=True).expected_photons[0]
        assert np.abs(seen - expected).max() < 2e-3 * expected.max()


def test_focus_stacks_have_a_z_axis(tmp_path):
    stack = {"shape": [24, 20], "focus_nm": {"start_nm": 0, "stop_nm": 800, "planes": 3}}
    simulator = ss.Simulator(world(acquisition=stack), 5)
    assert (simulator.sample_axes, simulator.sample_shape) == ("zyx", (3, 24, 20))
    clean = simulator.batch(0, 1, expected=True).expected_photons[0]
    for k, focus_nm in enumerate((0, 400, 800)):
        single = world(acquisition={"shape": [24, 20], "focus_nm": focus_nm})
        alone = ss.Simulator(single, 5).batch(0, 1, expected=True).expected_photons[0]
        assert np.abs(clean[k] - alone).max() < 2e-3 * alone.max()
    # cut into windows its planes would share other modes, and have other last bits
    (whole,) = simulator.chunks(0, 1, max_bytes=1, expected=True)
    assert np.array_equal(whole.expected_photons[0], clean)


def test_movies_shine_steadily_with_fresh_noise():
    movie = world(acquisition={"shape": [24, 20], "frames": 3})
    batch = ss.Simulator(movie, 5).batch(0, 1, expected=True)
    clean = batch.expected_photons[0]
    assert np.array_equal(clean[0], clean[2])
    assert not np.array_equal(batch.images[0, 0], batch.images[0, 2])


def test_evanescent_light_reaches_the_lowest_planes():
    optics = {"na": 1.45, "wavelength_nm": 600, "n_sample": 1.33, "n_immersion": 1.518}
    light = {"kind": "evanescent", "angle_deg": 66, "excitation_wavelength_nm": 561}
    structure = TEXTURE | {"margin_nm": 0}
    lit = ss.Simulator(world(optics=optics, illumination=light, structure=structure), 5)
    depth_nm = float(evanescent_depth_nm(np.array([66.0]), 561.0, 1.518, 1.33)[0])
    share = np.exp(-(100.0 + 200.0 * np.arange(5)) / depth_nm)
    expected = image_volume(
        lit.volume(0) * share[:, None, None], lit.recipe.optics, voxel_nm=(200.0, 100.0, 100.0),
        z0_nm=100.0, window_px=17, accuracy=1e-3, accept_energy_loss=True,
    )  # fmt: skip
    seen = lit.batch(0, 1, expected=True).expected_photons[0]
    assert np.abs(seen - expected).max() < 1e-5 * expected.max()


def test_a_dataset_knows_the_bytes_of_its_volume(tmp_path):
    recipe = from_file(tmp_path, np.ones((2, 24, 20)))
    digest = hashlib.sha256((tmp_path / "volume.npy").read_bytes()).hexdigest()
    assert inputs_of(recipe)["structure.path"]["sha256"] == digest


def test_recipes_with_molecules_have_no_volume():
    with pytest.raises(SimscopeError, match="has molecules, no volume"):
        ss.Simulator(Recipe.from_dict(SMALL), 1).volume(0)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"photophysics": SMALL["photophysics"]}, "no molecules for photophysics of kind snapshot"),
        ({"structure": SMALL["structure"]}, "photophysics of kind steady is for volumes"),
        ({"dipoles": {"kind": "fixed"}}, "dipoles of a texture rotate freely"),
        ({"structure": TEXTURE | {"fill": 1}}, "fill=1 is not below the limit 1"),
        ({"structure": TEXTURE | {"voxel_nm": [0, 100, 100]}}, "lies outside 1 to 1e5 nm"),
    ],
)
def test_what_does_not_fit_a_volume_is_refused(changes, message):
    with pytest.raises(RecipeError, match=message):
        world(**changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"structure": TEXTURE | {"voxel_nm": [200, 70, 70]}}, r"resample to voxel_nm \[200, 100"),
        ({"structure": TEXTURE | {"z_nm": {"normal": [0, 1]}}}, "has no bounds"),
        ({"structure": TEXTURE | {"margin_nm": 1e5, "planes": 1000}}, "larger than"),
    ],
)
def test_impossible_volumes_are_named(changes, message):
    with pytest.raises(SampleError, match=message):
        ss.Simulator(world(**changes), 1)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (np.ones((2, 20, 20)), "20 x 20 voxels across, a frame with its margin needs 24 x 20"),
        (-np.ones((2, 24, 20)), "holds -1: subtract the background"),
        (np.full((2, 24, 20), np.nan), "not finite"),
        (np.zeros((2, 24, 20)), "dark everywhere"),
        (np.ones((24, 20)), r"shape \(24, 20\): give a stack"),
        (np.ones((2, 24, 20), complex), "complex128"),
    ],
)
def test_files_that_hold_no_volume_are_named(tmp_path, values, message):
    with pytest.raises(SampleError, match=message):
        ss.Simulator(from_file(tmp_path, values), 1)


def test_turned_frames_must_fit_the_file(tmp_path):
    with pytest.raises(SampleError, match=r"choice: \[0, 2, 4, 6\]"):
        ss.Simulator(from_file(tmp_path, np.ones((2, 24, 20)), turn=1), 1)


@pytest.mark.parametrize("name", ["absent.npy", "text.npy", "volume.csv", "damaged.tif"])
def test_files_that_cannot_be_read_are_named(tmp_path, name):
    if name != "absent.npy":
        (tmp_path / name).write_text("no volume")
    recipe = from_file(tmp_path, np.ones((2, 24, 20)))
    with pytest.raises(SampleError, match=name.replace(".", r"\.")):
        ss.Simulator(recipe.replace("structure.path", str(tmp_path / name)), 1)
