"""Localising anything: TIFF stacks, tiles without seams, movies in pieces, cameras of others."""

from importlib import import_module
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="PyTorch is not installed")
pytestmark = [
    pytest.mark.train,
    pytest.mark.filterwarnings("ignore::simscope.errors.SimscopeWarning"),
]

import tifffile  # noqa: E402

import simscope as ss  # noqa: E402
from simscope.errors import SimscopeWarning, TrainingError  # noqa: E402
from simscope.learn import movies  # noqa: E402
from simscope.learn.movies import Movies  # noqa: E402
from simscope.learn.networks.deepstorm_slim import DeepStormSlimTask  # noqa: E402
from simscope.learn.runs import TrainedModel, make_task, seeded_task  # noqa: E402
from simscope.learn.tiles import SEAM_PX, joined, tiles_of  # noqa: E402
from simscope.tiff import tiff_stack  # noqa: E402

localizing = import_module("simscope.learn.localize")  # the package's attribute is the function
RECIPE = ss.load_recipe("smlm-2d-dense").replace_all(
    {
        "acquisition.shape": [24, 32],
        "structure.density_per_um2": 1.0,
        "rendering.window_px": 9,
        "rendering.accept_energy_loss": True,
    }
)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A network trained just enough to find the brightest."""
    small = RECIPE.replace("acquisition.shape", [24, 24])
    return ss.learn.train(
        "deepstorm-slim", small, out=tmp_path_factory.mktemp("run"), seed=4, progress=False,
        config={"channels": 16, "dilations": [1, 2]}, steps=60, batch_size=8,
        validation_samples=16, threads=1, learning_rate=1e-2,
    )  # fmt: skip


def frames_of(count=6, seed=9, recipe=RECIPE):
    return ss.Simulator(recipe, seed).batch(0, count).images


def assert_same(found, expected, atol_nm=0.01):
    """The same emitters in any order within a frame; convolutions add up in another order."""
    assert len(found) == len(expected) > 0
    for table in (found, expected):
        table.sort(order=["frame", "x_nm", "y_nm"])
    np.testing.assert_array_equal(found["frame"], expected["frame"])
    for name, atol in (("x_nm", atol_nm), ("y_nm", atol_nm), ("photons", 1), ("probability", 1e-3)):
        np.testing.assert_allclose(found[name], expected[name], atol=atol)


@pytest.mark.parametrize("side_px", [7, 16])
def test_tiles_give_the_table_of_the_whole_frame(trained, monkeypatch, side_px):
    frames = frames_of()
    whole = ss.learn.localize(trained, frames, threshold=0.1)
    monkeypatch.setattr(DeepStormSlimTask, "pixels_at_once", side_px**2)
    assert len(tiles_of((24, 32), side_px, 5)) > 1
    assert_same(ss.learn.localize(trained, frames, threshold=0.1), whole)


@pytest.mark.parametrize(("length", "stride"), [(40, 1), (40, 4), (41, 4), (8, 8), (3, 1)])
def test_every_place_is_the_own_of_one_tile_that_sees_its_surroundings(length, stride):
    rows = [tile.y for tile in tiles_of((length, 5), 16, 6, stride)]
    assert rows[0].low == -np.inf
    assert rows[-1].high == np.inf
    for above, below in pairwise(rows):
        assert above.high == below.low
        assert above.last >= min(length, above.high + 6)
        assert below.first <= max(0, below.low - 6)
    assert all(row.first % stride == 0 and row.last <= length for row in rows)


def test_an_emitter_on_a_seam_counts_once_and_neighbours_twice():
    first, second = tiles_of((8, 16), 8, 4)
    ends_px = [7.999, 8.001]  # where rounding put one emitter in either tile

    def table(tile, x_px):
        rows = np.zeros(len(x_px), [("frame", int), ("x_nm", float), ("y_nm", float)])
        rows["x_nm"] = (np.asarray(x_px) - tile.x.first) * 100
        return tile.own(rows, 100.0)

    for seen_by_first, seen_by_second in (ends_px, ends_px[::-1]):
        both = [table(first, [seen_by_first, 3.0]), table(second, [seen_by_second, 3.0])]
        np.testing.assert_allclose(joined(both, 100.0)["x_nm"] / 100, [seen_by_first, 3.0])
    apart = [table(first, [8 - 3 * SEAM_PX]), table(second, [8 + 3 * SEAM_PX])]
    assert len(joined(apart, 100.0)) == 2
    assert len(joined([table(first, [3.0, 3.0 + SEAM_PX]), table(second, [9.0])], 100.0)) == 3
    again = table(first, [3.0])
    again["frame"] = 1
    assert len(joined([table(first, [3.0]), again], 100.0)) == 2


class Averaging(DeepStormSlimTask):
    """A network that sees three frames: their mean."""

    @property
    def context(self):
        return 1

    def inputs(self, images):
        counts = images if images.ndim == 4 else images[None]
        padded = np.pad(counts.astype(float), ((0, 0), (1, 1), (0, 0), (0, 0)), mode="edge")
        return super().inputs((padded[:, :-2] + padded[:, 1:-1] + padded[:, 2:]) / 3)


@pytest.mark.parametrize("shape", [(8, 24, 32), (2, 4, 24, 32)])
@pytest.mark.parametrize("frames_at_once", [1, 3])
def test_frames_see_their_neighbours_across_pieces(trained, monkeypatch, shape, frames_at_once):
    task = Averaging(trained.recipe, trained.task.config)
    task.network = trained.task.network
    seeing = TrainedModel(task, trained.record, trained.folder)
    images = frames_of(8).reshape(shape)
    whole = ss.learn.localize(seeing, images, threshold=0.05)
    alone = ss.learn.localize(trained, images, threshold=0.05)
    monkeypatch.setattr(Averaging, "pixels_at_once", frames_at_once * 24 * 32)
    monkeypatch.setattr(movies, "FRAMES_WITH_CONTEXT", frames_at_once)
    assert_same(ss.learn.localize(seeing, images, threshold=0.05), whole)
    assert len(alone) != len(whole)


class ReadsCounted:
    """Images that note how many pixels each reading asks for."""

    def __init__(self, images):
        self.images, self.shape, self.dtype, self.largest = images, images.shape, images.dtype, 0

    def __getitem__(self, index):
        part = self.images[index]
        self.largest = max(self.largest, part.size)
        return part


@pytest.mark.parametrize("frames_at_once", [1, 3, 7, 15, 100])
def test_movies_are_read_in_bounded_pieces_that_make_up_the_whole(frames_at_once):
    limit = frames_at_once * 8 * 6
    images = ReadsCounted(np.arange(4 * 7 * 8 * 6).reshape(4, 7, 8, 6))
    pieces = list(Movies(images).pieces(limit))
    read = np.concatenate([piece.counts.reshape(-1, 8, 6) for piece in pieces])
    np.testing.assert_array_equal(read, images.images.reshape(28, 8, 6))
    assert [piece.first for piece in pieces] == np.cumsum(
        [0, *(piece.frames for piece in pieces[:-1])]
    ).tolist()
    assert images.largest <= limit


def test_sampled_frames_are_spread_over_all_movies():
    images = np.arange(4 * 5)[:, None, None].repeat(6, 1).repeat(8, 2).reshape(4, 5, 6, 8)
    assert Movies(images).sampled(7 * 48)[:, 0, 0].tolist() == [0, 3, 6, 10, 13, 16, 19]
    assert len(Movies(images).sampled(10**9)) == 20


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    """One movie in every kind of TIFF file."""
    folder, frames = tmp_path_factory.mktemp("tiff"), frames_of(5)
    tifffile.imwrite(folder / "plain.tif", frames, photometric="minisblack")
    tifffile.imwrite(folder / "pages.tif", frames, contiguous=False, photometric="minisblack",
                     metadata=None)  # fmt: skip
    with tifffile.TiffWriter(folder / "appended.tif") as file:
        for frame in frames:
            file.write(frame, contiguous=False, photometric="minisblack")
    tifffile.imwrite(folder / "big.tif", frames, bigtiff=True, photometric="minisblack")
    tifffile.imwrite(folder / "packed.tif", frames, compression="zlib", photometric="minisblack")
    tifffile.imwrite(
        folder / "imagej.tif", frames, imagej=True, resolution=(10, 10),
        metadata={"axes": "TYX", "unit": "um"},
    )  # fmt: skip
    tifffile.imwrite(folder / "slices.tif", frames, imagej=True, metadata={"axes": "ZYX"})
    tifffile.imwrite(
        folder / "stack.ome.tif", frames,
        metadata={"axes": "TYX", "PhysicalSizeX": 100, "PhysicalSizeXUnit": "nm"},
    )  # fmt: skip
    return folder, frames


KINDS = ("plain", "pages", "appended", "big", "packed", "imagej", "slices", "stack.ome")


@pytest.mark.parametrize("kind", KINDS)
def test_tiff_files_of_every_kind_hold_the_frames_that_went_in(stored, kind):
    folder, frames = stored
    with tiff_stack(folder / f"{kind}.tif", kind, TrainingError) as stack:
        assert stack.shape == frames.shape
        assert stack.dtype == frames.dtype
        np.testing.assert_array_equal(stack[0:5], frames)
        np.testing.assert_array_equal(stack[3:4], frames[3:4])
        assert len(stack[5:9]) == 0
        stated = {"imagej": 100.0, "stack.ome": 100.0}.get(kind)
        assert stack.pixel_nm == (None if stated is None else pytest.approx(stated))


@pytest.mark.parametrize("kind", ["plain", "imagej", "pages"])
def test_a_tiff_stack_gives_the_table_of_its_frames(trained, stored, kind, monkeypatch):
    folder, frames = stored
    expected = ss.learn.localize(trained, frames, threshold=0.1)
    monkeypatch.setattr(DeepStormSlimTask, "pixels_at_once", 2 * 24 * 32)
    done = []
    found = ss.learn.localize(
        trained, folder / f"{kind}.tif", threshold=0.1, progress=lambda *now: done.append(now)
    )
    assert_same(found, expected)
    assert done == [(2, 5), (4, 5), (5, 5)]


def test_tiff_files_of_no_single_movie_are_refused(trained, tmp_path):
    frames = frames_of(6)
    odd = {
        "channels": (frames.reshape(3, 2, 24, 32), {"imagej": True, "metadata": {"axes": "TCYX"}}),
        "hyper": (frames.reshape(3, 2, 24, 32), {"imagej": True, "metadata": {"axes": "TZYX"}}),
        "colour": (np.zeros((24, 32, 3), np.uint8), {"photometric": "rgb"}),
        "complex": (frames.astype(np.complex64), {}),
    }
    for name, (values, how) in odd.items():
        path = tmp_path / f"{name}.tif"
        tifffile.imwrite(path, values, **how)
        with pytest.raises(TrainingError, match=r"export"):
            ss.learn.localize(trained, path)
    with tifffile.TiffWriter(tmp_path / "pair.tif") as file:
        file.write(frames[0])
        file.write(frames[0, :10])
    with pytest.raises(TrainingError, match="images of their own"):
        ss.learn.localize(trained, tmp_path / "pair.tif")
    cut = tmp_path / "cut.tif"
    tifffile.imwrite(cut, frames, photometric="minisblack")
    cut.write_bytes(cut.read_bytes()[:-3000])
    with pytest.raises(TrainingError, match=r"cut\.tif"):
        ss.learn.localize(trained, cut)
    holes = frames.astype(np.float32)
    holes[4, 3, 3] = np.nan
    tifffile.imwrite(tmp_path / "holes.tif", holes, photometric="minisblack")
    with pytest.raises(TrainingError, match="NaN"):
        ss.learn.localize(trained, tmp_path / "holes.tif")
    with pytest.raises(TrainingError, match=r"none\.tif"):
        ss.learn.localize(trained, tmp_path / "none.tif")


def of_camera(**camera):
    """The same molecules seen through another camera."""
    return RECIPE.replace_all({f"camera.{name}": value for name, value in camera.items()})


def test_the_camera_that_took_the_frames_is_allowed_for(trained):
    """Known counts, the same photo-electrons: 400 ADU of offset and a quarter of the counts."""
    expected = ss.learn.localize(trained, frames_of(), threshold=0.1)
    other = (frames_of().astype(float) - 100) * (0.5 / 2.0) + 400
    for camera in (
        {"baseline_adu": 400, "e_per_adu": 2.0},
        of_camera(baseline_adu=400, e_per_adu=2.0),
    ):
        assert_same(ss.learn.localize(trained, other, threshold=0.1, camera=camera), expected)
    with pytest.warns(SimscopeWarning, match="camera settings or background differ"):
        ss.learn.localize(trained, other * 4, threshold=0.1)


def test_quantum_efficiency_changes_nothing_that_was_counted(trained):
    expected = ss.learn.localize(trained, frames_of(), threshold=0.1)
    found = ss.learn.localize(trained, frames_of(), threshold=0.1, camera={"qe": 0.5})
    assert_same(found, expected)


def test_a_dataset_brings_its_own_camera(trained, tmp_path):
    other = of_camera(baseline_adu=400, e_per_adu=0.25)
    path = ss.generate(other, 6, 9, tmp_path / "other.h5")
    found = ss.learn.localize(trained, path, threshold=0.1)
    expected = ss.learn.localize(trained, frames_of(), threshold=0.1)
    ratio = len(found) / len(expected)
    assert ratio == pytest.approx(1, abs=0.1)  # the noise of rounding to counts is another
    assert found["photons"].mean() == pytest.approx(expected["photons"].mean(), rel=0.05)


def test_a_camera_estimated_from_the_frames_is_near_the_true_one(trained, tmp_path):
    other = of_camera(baseline_adu=300, e_per_adu=1.2)
    frames = ss.Simulator(other, 5).batch(0, 60).images
    with pytest.warns(SimscopeWarning, match=r"estimated.*e_per_adu=1\.[1-3].*cannot be told"):
        ss.learn.localize(trained, frames, camera="estimate")
    with pytest.raises(TrainingError, match="cannot be estimated"):
        ss.learn.localize(trained, frames[:1, :20, :20], camera="estimate")


def test_frames_of_another_kind_of_camera_are_warned_of(trained):
    with pytest.warns(SimscopeWarning, match="EM|emccd"):
        ss.learn.localize(trained, frames_of(1), camera={"kind": "emccd", "e_per_adu": 150})


@pytest.mark.parametrize(
    ("how", "says"),
    [
        ({"camera": {"e_per_adus": 2}}, "e_per_adu"),
        ({"camera": {"e_per_adu": -2}}, "e_per_adu"),
        ({"camera": "guess"}, "estimate"),
        ({"pixel_nm": 110.0}, "110 nm"),
        ({"pixel_nm": float("nan")}, "nan nm"),
    ],
)
def test_impossible_cameras_and_pixels_are_refused(trained, how, says):
    with pytest.raises(TrainingError, match=says):
        ss.learn.localize(trained, frames_of(1), **how)


def test_the_pixel_a_file_states_is_held_against_the_model_s(trained, tmp_path):
    path = tmp_path / "fine.tif"
    tifffile.imwrite(path, frames_of(2), imagej=True, resolution=(20, 20),
                     metadata={"axes": "TYX", "unit": "um"})  # fmt: skip
    with pytest.raises(TrainingError, match=r"50 nm.*pixel_nm if the file is wrong"):
        ss.learn.localize(trained, path)
    ss.learn.localize(trained, path, pixel_nm=100.0)


def test_the_command_reads_a_tiff_and_writes_a_table(trained, stored, tmp_path):
    from typer.testing import CliRunner

    from simscope.cli import app

    out = tmp_path / "found.csv"
    outcome = CliRunner().invoke(
        app,
        ["localize", str(trained.folder), str(stored[0] / "imagej.tif"), "--out", str(out),
         "--camera", "baseline_adu=100", "--camera", "e_per_adu=0.5", "--threshold", "0.1"],
    )  # fmt: skip
    assert outcome.exit_code == 0, outcome.output
    expected = ss.learn.localize(trained, stored[1], threshold=0.1)
    found = ss.dataset.read_localizations(out)
    np.testing.assert_allclose(found["x_nm"], expected["x_nm"], atol=0.01)
    np.testing.assert_array_equal(found["frame"], expected["frame"])
    bad = CliRunner().invoke(
        app, ["localize", str(trained.folder), str(stored[0] / "imagej.tif"), "--out",
              str(tmp_path / "b.csv"), "--camera", "e_per_adu=-1"],
    )  # fmt: skip
    assert bad.exit_code == 2
    assert not Path(tmp_path / "b.csv").exists()


def test_uncertainties_go_into_tables_of_others(tmp_path):
    table = localizing.empty_table(3)
    for name, value in {"x_nm": 50.0, "y_nm": 60.0, "photons": 900.0, "uncertainty_x_nm": 3.0,
                        "uncertainty_y_nm": 4.0, "probability": 0.9}.items():  # fmt: skip
        table[name] = value
    for name in ("found.csv", "found.npy"):
        ss.dataset.write_localizations(tmp_path / name, table)
        read = ss.dataset.read_localizations(tmp_path / name)
        np.testing.assert_allclose(read["uncertainty_nm"], np.sqrt(12.5), atol=1e-3)
    assert make_task("deepstorm-slim", RECIPE).halo_px > 2


@pytest.mark.parametrize(
    ("kind", "config"),
    [
        ("deepstorm", {"widths": [8, 16, 16, 32]}),
        ("decode", {}),
        ("deepstorm3d", {"matched_filters": 0}),
    ],
)
def test_tiles_of_every_network_give_the_table_of_the_whole_frame(kind, config, monkeypatch):
    """Whatever the weights: halo, stride and context of each network are as they should be."""
    recipe = RECIPE.replace_all(
        {"acquisition.shape": [40, 48], "acquisition.frames": 3, "structure.z_nm": 0}
    )
    if kind == "deepstorm3d":
        recipe = recipe.replace("structure.z_nm", {"uniform": [0, 300]})
    task, batch = seeded_task(kind, recipe, config, 3), ss.Simulator(recipe, 1).batch(0, 1)
    task.fit_scales(batch)
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(1)
        for weights in task.network.parameters():
            weights += 0.2 * torch.randn_like(weights) * weights.abs().mean().clamp(min=0.05)
    model = TrainedModel(task, {}, Path())
    whole = ss.learn.localize(model, batch.images, threshold=0.02)
    monkeypatch.setattr(type(task), "pixels_at_once", 20**2)
    assert_same(ss.learn.localize(model, batch.images, threshold=0.02), whole)


def test_planes_of_a_focus_stack_are_said_to_be_read_as_frames(trained, tmp_path):
    stack = RECIPE.replace("acquisition.focus_nm", {"start_nm": -200, "stop_nm": 200, "planes": 3})
    path = ss.generate(stack, 2, 5, tmp_path / "stacks.h5")
    with pytest.warns(SimscopeWarning, match="every plane of a focus stack"):
        found = ss.learn.localize(trained, path, threshold=0.1)
    assert set(found["frame"]) <= set(range(6))
