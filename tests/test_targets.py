"""What networks learn lies where the truth says, weighs what it should, and is a frame's own."""

from types import SimpleNamespace

import numba
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from reference_targets import counted, zernike_polynomial
from small_worlds import SMALL, WORLDS, movie, snapshot, stack

from simscope.acquire import EMITTER_DTYPE, Simulator
from simscope.dataset import generate, open_dataset
from simscope.errors import DatasetError, SimscopeError
from simscope.keys import Key
from simscope.recipe import Recipe
from simscope.recipe.draws import draw_dataset
from simscope.recipe.zernike_names import osa_to_nm
from simscope.sample import height_range_nm
from simscope.targets import (
    DensityTarget,
    VoxelTarget,
    WavefrontTarget,
    density_map,
    lit_in_frame,
    parse_targets,
    split_clean,
    voxel_map,
)

pytestmark = pytest.mark.filterwarnings("ignore::simscope.SimscopeWarning")
needs_speed = pytest.mark.skipif(numba.config.DISABLE_JIT, reason="renders from tables")
SHAPE, PIXEL_NM = (24, 20), 100.0


def world(**changes):
    return SimpleNamespace(recipe=Recipe.from_dict(SMALL | changes), seed=1)


def chunk(places, frames=1, photons=1000.0):
    """A chunk of one sample with emitters at (frame, x, y, z) in nm."""
    rows = np.zeros(len(places), EMITTER_DTYPE)
    for name, values in zip(("frame", "x_nm", "y_nm", "z_nm"), np.transpose(places), strict=True):
        rows[name] = values
    rows["photons"] = photons
    offsets = np.searchsorted(rows["frame"], np.arange(frames + 1))
    return SimpleNamespace(
        images=np.zeros((1, frames, *SHAPE), np.uint16), emitters=rows, emitter_offsets=offsets,
        parameters={}, start=0,
    )  # fmt: skip


def crowd(count, frames, size, seed=0):
    """Frames in order and places on a grid and beyond its edges, in cells."""
    rng = np.random.default_rng(seed)
    frame = np.sort(rng.integers(0, frames, count))
    return frame, *(rng.uniform(-3, side + 3, count) for side in size)


# ---- against the definition ---------------------------------------------------------------------


@pytest.mark.parametrize("blur", [0.0, 0.3, 1.0, 2.2])
def test_voxel_map_is_the_sum_of_normalised_gaussians(blur):
    frame, z, y, x = crowd(60, 3, (5, 12, 9))
    fast = voxel_map(frame, z, y, x, (3, 5, 12, 9), blur)
    np.testing.assert_allclose(fast, counted(frame, z, y, x, (3, 5, 12, 9), blur), atol=1e-6)


def test_density_map_is_a_voxel_map_of_one_plane():
    frame, _, y, x = crowd(60, 2, (1, 24, 20))
    twin = counted(frame, np.full(60, 0.5), y, x, (2, 1, 24, 20), 1.1)[:, 0]
    np.testing.assert_allclose(density_map(frame, x, y, (2, 24, 20), 1.1), twin, atol=1e-6)


@pytest.mark.parametrize("blur", [1e-9, 0.01])
def test_a_gaussian_narrower_than_any_number_falls_into_its_cell(blur):
    sharp = density_map(np.zeros(1, int), np.array([3.9]), np.array([2.4]), (1, 8, 8), blur)
    assert sharp[0, 2, 3] == pytest.approx(1.0)


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.tuples(st.floats(-500, 2500), st.floats(-500, 2900)), max_size=30),
    st.sampled_from([1, 3, 4]), st.sampled_from([0.0, 0.7, 1.0, 3.0]),
)  # fmt: skip
def test_a_frame_sums_to_its_emitters_in_the_field_of_view(places, upsampling, blur):
    source, given_chunk = world(), chunk([(0, x, y, 0) for x, y in places] or np.empty((0, 4)))
    target = DensityTarget(upsampling=upsampling, blur_cells=blur)
    inside = lit_in_frame(given_chunk.emitters, source.recipe).sum()
    assert target.of(source, given_chunk).sum() == pytest.approx(inside, rel=1e-5)


# ---- where things are ---------------------------------------------------------------------------


@pytest.mark.parametrize("upsampling", [1, 2, 5])
def test_one_emitter_lies_in_the_cell_that_holds_its_place(upsampling):
    target = DensityTarget(upsampling=upsampling, blur_cells=0)
    made = target.of(world(), chunk([(0, 530.0, 1270.0, 0)]))[0, 0]
    assert made.shape == (24 * upsampling, 20 * upsampling)
    row, column = np.argwhere(made)[0]
    assert row == int(12.7 * upsampling)
    assert column == int(5.3 * upsampling)
    assert made[row, column] == 1.0


def test_the_centroid_of_a_spot_is_the_place_of_its_emitter():
    target = DensityTarget(upsampling=4, blur_cells=1)
    rows, columns = target.axes(world())
    for x, y in np.random.default_rng(1).uniform(500, 1500, (20, 2)):
        made = target.of(world(), chunk([(0, x, y, 0)]))[0, 0]
        # a Gaussian of one cell cut at three, sampled once a cell, is off by less than 0.02 cells
        assert columns.values @ made.sum(axis=0) == pytest.approx(x, abs=0.02 * 25)
        assert rows.values @ made.sum(axis=1) == pytest.approx(y, abs=0.02 * 25)


def test_moving_by_a_pixel_moves_the_map_by_whole_cells():
    places = np.array([(0, 712.0, 933.0, 40), (0, 1003.0, 861.0, -90)])
    for target, by in ((DensityTarget(upsampling=3), 3), (VoxelTarget(upsampling=2), 2)):
        here = target.of(world(), chunk(places))
        moved = target.of(world(), chunk(places + np.array([0, PIXEL_NM, 2 * PIXEL_NM, 0])))
        np.testing.assert_allclose(np.roll(here, (2 * by, by), (-2, -1)), moved, atol=1e-6)


def test_planes_of_voxels_count_from_below():
    target = VoxelTarget(upsampling=1, plane_nm=50)
    source = world()
    planes = target.axes(source)[0].values
    for z in (-200.0, -160.0, 10.0, 199.0, 200.0):
        made = target.of(source, chunk([(0, 550, 550, z)]))[0, 0]
        plane = int(np.argwhere(made)[0][0])
        assert abs(planes[plane] - z) <= 25.0 + 1e-4
    assert made.sum() == 1
    assert np.all(np.diff(planes) == 50)


@needs_speed
def test_the_grid_of_voxels_covers_every_height_of_the_recipe():
    simulator = Simulator(snapshot(), 3)
    batch = simulator.batch(0, 40)
    target = VoxelTarget(upsampling=1, plane_nm=37)
    seen = lit_in_frame(batch.emitters, simulator.recipe).sum()
    assert target.of(simulator, batch).sum() == seen > 100
    low, high = height_range_nm(simulator.recipe)
    planes = target.axes(simulator)[0].values
    assert planes[0] - 37 / 2 <= low
    assert planes[-1] + 37 / 2 >= high


def test_molecules_of_one_height_make_one_plane():
    flat = world(structure=SMALL["structure"] | {"z_nm": 30})
    assert VoxelTarget(upsampling=1).shape(flat) == (1, *SHAPE)
    assert VoxelTarget(upsampling=1).of(flat, chunk([(0, 550, 550, 30)])).sum() == 1


def test_emitters_beyond_a_given_range_or_without_light_are_not_counted():
    source = world()
    narrow = VoxelTarget(z_min_nm=-50, z_max_nm=50)
    assert narrow.of(source, chunk([(0, 550, 550, 60), (0, 550, 550, 50)])).sum() == 1
    assert DensityTarget().of(source, chunk([(0, 550, 550, 0)], photons=0.0)).sum() == 0


# ---- a frame's target is its own ----------------------------------------------------------------


@needs_speed
@pytest.mark.parametrize("target", [DensityTarget(), VoxelTarget(blur_cells=0.8, plane_nm=100)])
@pytest.mark.parametrize("name", ["snapshot", "movie"])
def test_any_batch_or_window_gives_the_same_bytes(target, name):
    simulator = Simulator(WORLDS[name](), 5)
    whole = target.of(simulator, simulator.batch(0, 3))
    alone = np.concatenate([target.of(simulator, simulator.batch(i, i + 1)) for i in range(3)])
    few = 5 * 4 * 24 * 20
    parts = [target.of(simulator, part) for part in simulator.chunks(0, 3, max_bytes=few)]
    assert len(parts) > 1
    joined = np.concatenate([part.reshape(-1, *whole.shape[2:]) for part in parts])
    assert whole.any()
    assert np.array_equal(whole, alone)
    assert np.array_equal(whole.reshape(joined.shape), joined)


@needs_speed
def test_shapes_are_those_of_frames_and_samples():
    simulator = Simulator(movie(4), 5)
    batch = simulator.batch(0, 3)
    for target in parse_targets(["density:upsampling=2", "voxels:upsampling=1,plane_nm=100"]):
        made = target.of(simulator, batch)
        assert made.shape == (3, 4, *target.shape(simulator))
        assert made.dtype == target.dtype
    stacks = Simulator(stack(), 5)
    made = WavefrontTarget(pupil_px=8).of(stacks, stacks.batch(0, 2))
    assert made.shape == (2, 8, 8)


@pytest.mark.parametrize("target", [DensityTarget(blur_cells=0), VoxelTarget()])
def test_emitters_that_are_not_counted_leave_the_others_in_their_frames(target):
    places = [(0, -100, 550, 0), (0, 550, 550, 0), (1, 5000, 550, 0), (2, 650, 550, 0)]
    made = target.of(world(), chunk(places, frames=4))[0]
    assert made.reshape(4, -1).sum(axis=1).tolist() == [1, 0, 1, 0]


def test_the_ends_of_a_range_of_heights_are_on_the_grid_however_they_round():
    for low, planes, step in ((-0.3, 3, 0.1), (-650.0, 7, 1.1), (1e5 - 7, 10, 0.7)):
        high = low + planes * step
        target = VoxelTarget(z_min_nm=low, z_max_nm=high, plane_nm=step, upsampling=1)
        rows = chunk([(0, 550, 550, 0), (0, 550, 550, 0)])
        wide = rows.emitters.dtype.descr
        wide = [(name, "f8" if name == "z_nm" else kind) for name, kind in wide]
        rows.emitters = rows.emitters.astype(wide)
        rows.emitters["z_nm"] = low, high
        made = target.of(world(), rows)[0, 0]
        assert made.shape[0] == planes  # none more for a sum that rounds up
        assert made[0].sum() == made[-1].sum() == 1


# ---- wavefronts ---------------------------------------------------------------------------------


def test_wavefront_is_the_sum_of_fixed_and_drawn_modes():
    recipe = stack().replace(
        "optics.wavefront.coefficients_nm", {20: 40.0, 27: {"uniform": [5, 9]}}
    )
    simulator = Simulator(recipe, 2)
    batch = simulator.batch(4, 6)
    made = WavefrontTarget(pupil_px=24).of(simulator, batch)
    paths = {path.rsplit(".", 1)[1]: values for path, values in batch.parameters.items()}
    coefficients = {20: np.full(2, 40.0)} | {
        int(mode): values for mode, values in paths.items() if mode.isdecimal()
    }
    assert len(coefficients) > 3
    for row, column in ((3, 11), (12, 12), (20, 5), (10, 21)):
        ky, kx = ((2 * k + 1) / 24 - 1 for k in (row, column))
        at = np.hypot(kx, ky), np.arctan2(ky, kx)
        expected = sum(c * zernike_polynomial(*osa_to_nm(m), *at) for m, c in coefficients.items())
        np.testing.assert_allclose(made[:, row, column], expected, rtol=1e-5, atol=1e-4)
    assert made[0, 0, 0] == 0.0


def test_mean_square_of_a_wavefront_is_the_sum_of_squared_coefficients():
    simulator = Simulator(stack(), 2)
    batch = simulator.batch(0, 4)
    made = WavefrontTarget(pupil_px=256).of(simulator, batch).reshape(4, -1)
    inside = made[:, np.any(made != 0, axis=0)]
    drawn = [v for path, v in batch.parameters.items() if ".coefficients_nm." in path]
    rms = np.sqrt(np.sum(np.square(drawn), axis=0))
    # pixels at the edge follow it to half a pixel of 1/128
    np.testing.assert_allclose(np.sqrt((inside**2).mean(axis=1)), rms, rtol=0.01)


def test_a_wavefront_map_adds_in_nm_the_right_way_up():
    ky, kx = np.meshgrid(*2 * [np.linspace(-1.3, 1.3, 53)], indexing="ij")
    wavefront_map = {"values": (2.0 * ky + kx).tolist(), "na_per_pixel": 0.05, "unit": "waves"}
    source = world(optics=SMALL["optics"] | {"wavefront_map": wavefront_map})
    made = WavefrontTarget(pupil_px=12).of(source, chunk(np.empty((0, 4))))[0]
    k = 1.2 * ((2 * np.arange(12) + 1) / 12 - 1)
    assert made[9, 6] == pytest.approx(600 * (2 * k[9] + k[6]), rel=1e-4)
    assert made[6, 9] == pytest.approx(600 * (2 * k[6] + k[9]), rel=1e-4)


def test_a_wavefront_map_is_seen_through_the_aperture_that_was_drawn():
    ky, kx = np.meshgrid(*2 * [np.linspace(-1.3, 1.3, 53)], indexing="ij")
    wavefront_map = {"values": (2.0 * ky + kx).tolist(), "na_per_pixel": 0.05, "unit": "nm"}
    optics = SMALL["optics"] | {"wavefront_map": wavefront_map, "na": {"uniform": [1.0, 1.25]}}
    source = world(optics=optics)
    na = draw_dataset(source.recipe, Key(source.seed))[1]["optics.na"]
    made = WavefrontTarget(pupil_px=12).of(source, chunk(np.empty((0, 4))))[0]
    k = na * ((2 * np.arange(12) + 1) / 12 - 1)
    assert made[9, 6] == pytest.approx(2 * k[9] + k[6], rel=1e-4)


def test_recipes_without_a_wavefront_have_none_to_learn():
    with pytest.raises(DatasetError, match="no wavefront to learn"):
        WavefrontTarget().shape(world())


# ---- asking -------------------------------------------------------------------------------------


def test_targets_are_read_from_texts_and_mappings_alike():
    texts = parse_targets(["density:upsampling=8, blur_cells=0", "voxels"])
    mappings = parse_targets([{"kind": "density", "upsampling": 8, "blur_cells": 0}, VoxelTarget()])
    assert texts == mappings == (DensityTarget(upsampling=8, blur_cells=0), VoxelTarget())
    assert parse_targets("density") == (DensityTarget(),)
    assert split_clean(["clean", "density"]) == ((DensityTarget(),), True)
    assert split_clean(["density"], True) == ((DensityTarget(),), True)
    assert split_clean([]) == ((), False)
    for target in texts:
        assert parse_targets([target.model_dump(mode="json")]) == (target,)


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ("densty", "did you mean 'density'"),
        ("clena", "did you mean 'clean'"),
        ("", "there are density, voxels, labels, wavefront, clean"),
        ("clean", "expected=True"),
        ("density:upsampling", "write name=value"),
        ("density:upsampling=0", "upsampling"),
        ("density:upsampling=2.5", "upsampling"),
        ("density:upsampling=2,upsampling=3", "twice"),
        ("density:upsmpling=2", "did you mean 'upsampling'"),
        ("density:blur_cells=NaN", "finite|not a number"),
        ("density:blur_cells=-1", "below the limit 0"),
        ("voxels:z_min_nm=10,z_max_nm=-10", "swap"),
        ("labels:section=middle", "section"),
        ({"upsampling": 2}, "unknown target None"),
        ({1: 2, "kind": "density"}, "density"),
        (7, "no name"),
    ],
)
def test_a_wrong_target_is_refused_in_words(asked, said):
    with pytest.raises(DatasetError, match=said):
        parse_targets([asked])


@pytest.mark.parametrize("target", [DensityTarget(), VoxelTarget()])
def test_where_there_are_no_molecules_none_are_counted(target):
    texture = {"kind": "texture", "voxel_nm": [200, 100, 100], "planes": 5}
    light = {"kind": "steady", "photons_per_um3": 4000}
    with pytest.raises(DatasetError, match="no molecules to count"):
        target.shape(world(structure=texture, photophysics=light))


def test_a_kind_is_asked_for_once():
    with pytest.raises(DatasetError, match="twice"):
        parse_targets(["density", "density:upsampling=2"])


def test_targets_beyond_memory_are_refused_before_they_are_made():
    asked = VoxelTarget(upsampling=32, plane_nm=0.1, z_min_nm=-1e5, z_max_nm=1e5)
    with pytest.raises(SimscopeError, match="coarser grid"):
        asked.of(world(), chunk([(0, 550, 550, 0)]))


@needs_speed
def test_deepstorm_learns_this_density():
    pytest.importorskip("torch", reason="PyTorch is not installed")
    from torch.nn import functional

    from simscope.learn.networks.deepstorm_slim import DeepStormSlimTask

    simulator = Simulator(snapshot(), 9)
    batch = simulator.batch(0, 4)
    learned = DeepStormSlimTask(simulator.recipe).targets(batch)[:, :-1]
    learned = functional.pixel_shuffle(learned, 4)[:, 0].numpy()
    assert np.array_equal(learned, DensityTarget().of(simulator, batch)[:, 0])


@needs_speed
@pytest.mark.parametrize(
    ("name", "asked"),
    [
        ("snapshot", ["density:upsampling=2", "voxels:upsampling=1,plane_nm=100"]),
        ("movie", ["density:upsampling=2", "voxels:upsampling=1,plane_nm=100"]),
        ("stack", ["wavefront:pupil_px=16"]),
    ],
)
def test_a_file_holds_what_its_own_truth_gives(tmp_path, name, asked):
    out = generate(WORLDS[name](), 3, 5, tmp_path / "a.h5", targets=asked)
    with open_dataset(out) as data:
        for target in parse_targets(asked):
            stored = np.asarray(data.target(target.kind)[:])
            again = target.of(data, data.batch(1, 3))
            assert stored.any()
            assert np.array_equal(stored[1:3].ravel(), again.ravel())
