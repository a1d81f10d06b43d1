"""Exports for localisation programs: a single emitter lies where its image is, as each counts.

The emitter stands at x = 570 nm, y = 240 nm, z = 150 nm over pixels of 100 nm: column 5, row 2.
"""

import json
import pickle
import re
import runpy
from pathlib import Path

import h5py
import numba
import numpy as np
import pytest
import tifffile
import yaml
from small_worlds import SMALL, movie, snapshot

import simscope as ss
from simscope.dataset import export_dataset
from simscope.recipe import Recipe

pytestmark = pytest.mark.skipif(numba.config.DISABLE_JIT, reason="renders, too slow without JIT")

ROWS, COLUMNS = 25, 21
X_NM, Y_NM, Z_NM = 570.0, 240.0, 150.0
COLUMN, ROW = 5, 2
PHOTONS = 50_000.0


def single():
    return Recipe.from_dict(
        SMALL
        | {
            "acquisition": {"shape": [ROWS, COLUMNS]},
            "structure": {
                "kind": "bead",
                "x_nm": X_NM - 50 * COLUMNS,
                "y_nm": Y_NM - 50 * ROWS,
                "z_nm": Z_NM,
            },
            "photophysics": {"kind": "snapshot", "photons": PHOTONS},
            "camera": {
                "kind": "emccd",
                "pixel_pitch_um": 10,
                "em_gain": 20,
                "e_per_adu": {"uniform": [20, 30]},
                "qe": 0.9,
                "baseline_adu": 110,
                "read_noise_e": 40,
                "clock_induced_charge_e": 0.01,
                "dark_e_per_s": 2,
            },
        }
    )


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    path = tmp_path_factory.mktemp("data") / "single.h5"
    return ss.generate(single(), 4, 3, path)


@pytest.fixture
def export(data, tmp_path):
    return lambda to, **options: export_dataset(data, to, tmp_path / to, **options)


def peak(image):
    return tuple(int(place) for place in np.unravel_index(np.argmax(image), image.shape))


def csv_row(path, row=1):
    lines = path.read_text("utf8").splitlines()
    return lines[0], [float(value) for value in lines[row].split(",")]


def test_decode_finds_x_on_the_first_axis_of_a_frame_and_pixel_0_centred_at_0(export):
    folder = export("decode")
    frames = tifffile.imread(folder / "frames.tif")
    assert frames.shape == (4, COLUMNS, ROWS)
    assert frames.dtype == np.uint16
    with h5py.File(folder / "emitters.h5") as file:
        xyz, frame = file["data/xyz"][:], file["data/frame_ix"][:]
        np.testing.assert_allclose(xyz, [[X_NM / 100 - 0.5, Y_NM / 100 - 0.5, Z_NM]] * 4, rtol=1e-6)
        np.testing.assert_array_equal(frame, range(4))
        assert file["meta"].attrs["xy_unit"] == "px"
        assert list(file["meta"].attrs["px_size"]) == [100, 100]
        assert "version" in file["decode"].attrs
    for image, place in zip(frames, xyz, strict=True):
        assert peak(image) == (COLUMN, ROW) == (round(place[0]), round(place[1]))


def test_decode_gets_the_camera_and_simulation_of_the_recipe(export, data):
    parameters = yaml.safe_load((export("decode") / "param.yaml").read_text("utf8"))
    with ss.open_dataset(data) as opened:
        drawn = opened.parameters["camera.e_per_adu"]
        background = opened.parameters["background.photons_per_pixel"]
    camera = parameters["Camera"]
    assert camera.pop("e_per_adu") == pytest.approx(drawn.mean())
    assert camera.pop("spur_noise") == pytest.approx(0.01 + 2 * 0.01)  # dark current in 10 ms
    assert camera == {
        "baseline": 110.0,
        "convert2photons": True,
        "em_gain": 20.0,
        "px_size": [100.0, 100.0],
        "qe": 0.9,
        "read_sigma": 40.0,
    }
    simulation = parameters["Simulation"]
    assert simulation["img_size"] == [COLUMNS, ROWS]
    assert simulation["psf_extent"] == [[-0.5, COLUMNS - 0.5], [-0.5, ROWS - 0.5], None]
    assert simulation["emitter_extent"][2] == [Z_NM, Z_NM]
    assert simulation["emitter_av"] == 1
    assert simulation["intensity_mu_sig"] == pytest.approx([PHOTONS, 0], abs=0.01)
    assert simulation["bg_uniform"] == pytest.approx([background.min(), background.max()])
    assert simulation["lifetime_avg"] == 1
    assert simulation["xy_unit"] == "px"


def test_decode_backward_camera_gives_the_photons_of_the_truth(export, data):
    """As its ``Photon2Camera.backward`` does, but for the halo that leaves frame and window."""
    folder = export("decode")
    camera = yaml.safe_load((folder / "param.yaml").read_text("utf8"))["Camera"]
    with ss.open_dataset(data) as opened:
        e_per_adu = opened.parameters["camera.e_per_adu"]
        background = opened.parameters["background.photons_per_pixel"]
    frames = tifffile.imread(folder / "frames.tif").astype(float)
    for image, own, bg in zip(frames, e_per_adu, background, strict=True):
        electrons = (image - camera["baseline"]) * own / camera["em_gain"] - camera["spur_noise"]
        light = (electrons / camera["qe"]).sum() - bg * image.size
        assert 0.75 * PHOTONS < light < PHOTONS


def test_lifetime_counts_runs_of_frames_of_a_molecule(tmp_path):
    path = ss.generate(movie(12), 2, 1, tmp_path / "movie.h5")
    folder = export_dataset(path, "decode", tmp_path / "out")
    with h5py.File(folder / "emitters.h5") as file:
        frame, number = file["data/frame_ix"][:], file["data/id"][:]
    runs = 0
    for sample in range(2):
        of_sample = (frame // 12) == sample
        for one in np.unique(number[of_sample]):
            on = np.sort(frame[of_sample & (number == one)])
            runs += 1 + int(np.count_nonzero(np.diff(on) > 1))
    lifetime = yaml.safe_load((folder / "param.yaml").read_text("utf8"))["Simulation"]
    assert lifetime["lifetime_avg"] == pytest.approx(len(frame) / runs)


def test_molecules_of_different_samples_have_different_numbers(tmp_path):
    path = ss.generate(movie(12), 3, 1, tmp_path / "movie.h5")
    folder = export_dataset(path, "decode", tmp_path / "out")
    with h5py.File(folder / "emitters.h5") as file:
        sample, number = file["data/frame_ix"][:] // 12, file["data/id"][:]
    with ss.open_dataset(path) as data:
        rows = data.emitters_in_frame
    shared = set(zip(number, sample, strict=True))
    assert len({one for one, _ in shared}) == len(shared)
    assert len(shared) == len(set(zip(rows["frame"] // 12, rows["id"], strict=True)))


@pytest.mark.parametrize("z_nm", [-99_100, -700.0, -100, 0, 150, 300])
def test_deepstorm3d_keeps_labels_at_the_ends_of_the_heights(z_nm, tmp_path):
    recipe = single().replace("structure.z_nm", z_nm)
    if abs(z_nm) > 1000:
        recipe = recipe.replace("acquisition.focus_nm", z_nm)
    path = ss.generate(recipe, 2, 1, tmp_path / "data.h5")
    folder = export_dataset(path, "deepstorm3d", tmp_path / "out")
    setup = json.loads((folder / "setup_params.json").read_text("utf8"))
    with np.load(folder / "labels.npz", allow_pickle=False) as labels:
        assert labels["0"].shape == (1, 1, 3)
        voxel = (labels["0"][0, 0, 2] - setup["zmin"]) / setup["pixel_size_axial"]
    assert 0 <= voxel < setup["D"]


def test_deepstorm3d_labels_count_micrometres_from_the_middle_pixel(export):
    folder = export("deepstorm3d")
    image = tifffile.imread(folder / "im0.tiff")
    assert image.dtype == np.float32
    assert peak(image) == (ROW, COLUMN)
    with np.load(folder / "labels.npz", allow_pickle=False) as labels:
        assert sorted(labels) == ["0", "1", "2", "3"]
        xyz = labels["0"]
    assert xyz.shape == (1, 1, 3)
    np.testing.assert_allclose(xyz[0, 0], [-0.48, -1.01, 0.15], rtol=1e-6)
    # where its Fourier transform puts such an emitter: whole pixels from floor(n / 2)
    assert round(xyz[0, 0, 0] / 0.1) + COLUMNS // 2 == COLUMN
    assert round(xyz[0, 0, 1] / 0.1) + ROWS // 2 == ROW


def test_the_lines_of_the_page_make_the_pickles_deepstorm3d_opens(export, monkeypatch):
    folder = export("deepstorm3d")
    monkeypatch.chdir(folder)
    page = Path("ABOUT.txt").read_text("utf8")
    lines = "\n".join(re.findall(r"^    (.*)$", page, re.MULTILINE))
    Path("lines.py").write_text(lines, "utf8")
    runpy.run_path("lines.py")
    labels, setup = (
        pickle.loads(Path(f"{name}.pickle").read_bytes())  # noqa: S301  made by the lines above
        for name in ("labels", "setup_params")
    )
    images = [tifffile.imread(f"im{number}.tiff") for number in range(4)]
    assert setup["partition"] == {"train": ["0", "1", "2"], "valid": ["3"]}
    assert setup["train_stats"] == pytest.approx([np.mean(images), np.std(images)], rel=1e-5)
    # batch_xyz_to_boolean_grid of its data_utils.py
    for number in setup["partition"]["train"]:
        xyz, fine = labels[number], setup["pixel_size_rec"]
        x = np.floor(xyz[0, :, 0] / fine) + np.floor(setup["W"] / 2) * 4
        y = np.floor(xyz[0, :, 1] / fine) + np.floor(setup["H"] / 2) * 4
        z = np.floor((xyz[0, :, 2] - setup["zmin"]) / setup["pixel_size_axial"])
        # half a camera pixel, two voxels, before the emitter, as for its own images
        assert (x[0], y[0]) == (X_NM // 25 - 2, Y_NM // 25 - 2)
        assert 0 <= z[0] < setup["D"]


def test_deepstorm3d_gets_optics_in_micrometres(export):
    setup = json.loads((export("deepstorm3d") / "setup_params.json").read_text("utf8"))
    told = {name: setup[name] for name in ("H", "W", "lamda", "NA", "noil", "nwater", "M")}
    assert told == {
        "H": ROWS, "W": COLUMNS, "lamda": 0.6, "NA": 1.2, "noil": 1.33, "nwater": 1.33, "M": 100.0,
    }  # fmt: skip
    assert setup["pixel_size_FOV"] == pytest.approx(0.1)
    assert setup["pixel_size_rec"] == pytest.approx(0.025)
    assert setup["zmin"] <= 0.15 < setup["zmax"]


def scattered(**changes):
    """Frames of odd sides with several molecules at many places, some near the edges."""
    return Recipe.from_dict(SMALL | {"acquisition": {"shape": [ROWS, COLUMNS]}} | changes)


def test_deepstorm3d_has_the_labels_of_each_frame_that_its_grid_takes(tmp_path):
    recipe = scattered().replace("acquisition.focus_nm", 250.0)
    path = ss.generate(recipe, 6, 1, tmp_path / "data.h5")
    folder = export_dataset(path, "deepstorm3d", tmp_path / "out", samples="2:6")
    setup = json.loads((folder / "setup_params.json").read_text("utf8"))
    assert setup["NFP"] == 0.25
    lost = 0
    with ss.open_dataset(path) as data, np.load(folder / "labels.npz") as labels:
        rows = data.emitters_in_frame
        for number in range(4):
            own = rows[rows["frame"] == number + 2]
            near = (own["x_nm"] < 50) | (own["y_nm"] < 50)
            lost += int(near.sum())
            x_um = (own["x_nm"][~near] - 50 * COLUMNS) / 1000
            np.testing.assert_allclose(labels[str(number)][0, :, 0], x_um, atol=1e-6)
    assert lost
    assert f"{lost} emitters within half a pixel" in (folder / "ABOUT.txt").read_text("utf8")


def test_numbers_drawn_are_those_of_the_samples_exported(tmp_path):
    camera = single().camera.model_dump(exclude_unset=True)
    path = ss.generate(scattered(camera=camera), 6, 1, tmp_path / "data.h5")
    with ss.open_dataset(path) as data:
        e_per_adu = data.parameters["camera.e_per_adu"][2:5]
        light = data.parameters["background.photons_per_pixel"]
        frame = data.emitters_in_frame["frame"]
    folder = export_dataset(path, "picasso", tmp_path / "picasso", samples="2:5")
    info = yaml.safe_load((folder / "movie.yaml").read_text("utf8"))
    assert info["Sensitivity"] == pytest.approx(e_per_adu.mean())
    with h5py.File(folder / "movie_locs.hdf5") as file:
        background = file["locs"]["bg"]
    own = frame[(frame >= 2) & (frame < 5)]
    np.testing.assert_allclose(background, light[own], rtol=1e-6)
    folder = export_dataset(path, "ome-tiff", tmp_path / "ome-tiff", samples="2:5")
    lines = (folder / "parameters.csv").read_text("utf8").splitlines()
    rows = [dict(zip(lines[0].split(","), line.split(","), strict=True)) for line in lines[1:]]
    assert [row["sample"] for row in rows] == ["0", "1", "2"]
    assert [float(row["camera.e_per_adu [e/ADU]"]) for row in rows] == e_per_adu.tolist()


def test_decode_counts_molecules_per_frame_of_a_movie(tmp_path):
    path = ss.generate(movie(12), 2, 1, tmp_path / "movie.h5")
    folder = export_dataset(path, "decode", tmp_path / "out")
    with ss.open_dataset(path) as data:
        each = len(data.emitters_in_frame) / 24
    simulation = yaml.safe_load((folder / "param.yaml").read_text("utf8"))["Simulation"]
    assert simulation["emitter_av"] == pytest.approx(each)


def test_deepstorm3d_refuses_even_frames(tmp_path):
    path = ss.generate(snapshot(), 2, 1, tmp_path / "even.h5")
    with pytest.raises(ss.SimscopeError, match="25 x 21"):
        export_dataset(path, "deepstorm3d", tmp_path / "out")
    assert sorted(item.name for item in tmp_path.iterdir()) == ["even.h5"]


def test_deepstorm_gets_a_stack_and_the_exact_header_of_thunderstorm(export):
    folder = export("deepstorm")
    stack = tifffile.imread(folder / "stack.tif")
    assert stack.shape == (4, ROWS, COLUMNS)
    head, values = csv_row(folder / "localizations.csv")
    assert head == (
        '"id","frame","x [nm]","y [nm]","sigma [nm]","intensity [photon]","offset [photon]",'
        '"bkgstd [photon]"'
    )
    assert values[1:4] == pytest.approx([1, X_NM, Y_NM])
    assert values[5] == pytest.approx(PHOTONS)
    assert peak(stack[0]) == (int(values[3] // 100), int(values[2] // 100)) == (ROW, COLUMN)


def test_the_notebook_of_deepstorm_finds_every_emitter_of_every_frame(tmp_path):
    """As its cells 3.1 and 3.2 do: pixel from the TIFF, rows of a frame by their ids."""
    pandas = pytest.importorskip("pandas")
    path = ss.generate(movie(12), 3, 1, tmp_path / "movie.h5")
    folder = export_dataset(path, "deepstorm", tmp_path / "out")
    with tifffile.TiffFile(folder / "stack.tif") as file:
        tags = file.pages[0].tags
        assert tags["ResolutionUnit"].value == 3
        per_cm = tags["XResolution"].value
        pixel = 0.01 * 1e9 / (per_cm[0] / per_cm[1])
        assert pixel == pytest.approx(100)
        images = file.asarray()
    table = pandas.read_csv(folder / "localizations.csv", index_col=0)
    with ss.open_dataset(path) as data:
        rows = data.emitters_in_frame
    start = 0
    for number in range(len(images)):
        of_frame = table[table["frame"] == number + 1]
        order = range(start + 1, start + 1 + len(of_frame))
        x, y = ([of_frame[f"{axis} [nm]"][i] for i in order] for axis in "xy")
        start += len(of_frame)
        own = rows[rows["frame"] == number]
        np.testing.assert_allclose(x, own["x_nm"], atol=6e-4)
        np.testing.assert_allclose(y, own["y_nm"], atol=6e-4)
    assert start == len(rows)


def test_picasso_opens_the_movie_and_its_localisations(export):
    folder = export("picasso")
    info = yaml.safe_load((folder / "movie.yaml").read_text("utf8"))
    # as its io.load_raw does
    shape = (info["Frames"], info["Height"], info["Width"])
    film = np.memmap(folder / "movie.raw", np.dtype(info["Data Type"]), "r", shape=shape)
    assert info["Byte Order"] == "<"
    with h5py.File(folder / "movie_locs.hdf5") as file:
        locs = file["locs"][:]
    assert locs["frame"].tolist() == [0, 1, 2, 3]
    assert (locs["x"][0], locs["y"][0]) == pytest.approx((5.2, 1.9))
    assert locs["z"][0] == pytest.approx(Z_NM)
    for image, loc in zip(film, locs, strict=True):
        assert peak(image) == (round(float(loc["y"])), round(float(loc["x"]))) == (ROW, COLUMN)
    beside = yaml.safe_load((folder / "movie_locs.yaml").read_text("utf8"))
    assert (beside["Frames"], beside["Height"], beside["Width"]) == shape
    assert beside["Pixelsize"] == info["Pixelsize"] == 100
    assert (info["Baseline"], info["Gain"], info["Qe"]) == (110, 20, 0.9)


def test_picasso_opens_both_in_its_own_reader(export):
    io = pytest.importorskip("picasso.io", reason="picasso is not installed")
    folder = export("picasso")
    film, _ = io.load_movie(str(folder / "movie.raw"))
    locs, _ = io.load_locs(str(folder / "movie_locs.hdf5"))
    assert len(locs) == len(film) == 4
    for image, x, y in zip(film, locs["x"], locs["y"], strict=True):
        assert peak(image) == (round(y), round(x)) == (ROW, COLUMN)


def test_smap_counts_the_first_pixel_as_one(export):
    folder = export("smap")
    head, values = csv_row(folder / "localizations.csv")
    found = dict(zip(head.split(","), values, strict=True))
    assert found["frame"] == 1
    assert round(found["xnm"] / 100) - 1 == COLUMN
    assert round(found["ynm"] / 100) - 1 == ROW
    assert found["znm"] == pytest.approx(Z_NM)
    assert peak(tifffile.imread(folder / "stack.tif")[0]) == (ROW, COLUMN)


def test_the_challenge_gets_its_header_with_the_blank(export):
    folder = export("challenge")
    head, values = csv_row(folder / "activations.csv", row=4)
    assert head == "Ground-truth,frame,xnano,ynano,znano,intensity "
    assert values == pytest.approx([4, 4, X_NM, Y_NM, Z_NM, PHOTONS])
    assert peak(tifffile.imread(folder / "stack.tif")[3]) == (ROW, COLUMN)


def test_some_samples_come_with_their_own_truth(export):
    folder = export("challenge", samples="1:3")
    whole = tifffile.imread(export("smap") / "stack.tif")
    np.testing.assert_array_equal(tifffile.imread(folder / "stack.tif"), whole[1:3])
    assert csv_row(folder / "activations.csv", row=2)[1][:2] == [2, 2]
    mark = json.loads((folder / "simscope-export.json").read_text("utf8"))
    assert (mark["first_sample"], mark["samples"], mark["frames"]) == (1, 2, 2)


def test_frames_of_movies_follow_each_other_over_samples(tmp_path):
    path = ss.generate(movie(5), 3, 1, tmp_path / "movie.h5")
    folder = export_dataset(path, "challenge", tmp_path / "out", samples="1:3")
    with ss.open_dataset(path) as data:
        images = np.concatenate([data.image(1), data.image(2)])
        rows = data.emitters_in_frame
    rows = rows[rows["frame"] >= 5]
    np.testing.assert_array_equal(tifffile.imread(folder / "stack.tif"), images)
    table = np.genfromtxt(folder / "activations.csv", delimiter=",", skip_header=1)
    np.testing.assert_array_equal(table[:, 1], rows["frame"] - 5 + 1)
    np.testing.assert_allclose(table[:, 2], rows["x_nm"], atol=6e-4)


@pytest.mark.parametrize("to", ["decode", "picasso", "deepstorm3d", "challenge"])
def test_focus_stacks_and_volumes_are_refused_with_what_takes_them(to, tmp_path):
    from small_worlds import stack

    path = ss.generate(stack(), 1, 1, tmp_path / "stack.h5")
    with pytest.raises(ss.SimscopeError, match=r"focus stacks: export it to ome-tiff"):
        export_dataset(path, to, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_two_channels_side_by_side_are_refused(tmp_path):
    recipe = single().replace("optics.analyser", {"angle_deg": 0})
    path = ss.generate(recipe, 1, 1, tmp_path / "channels.h5")
    with pytest.raises(ss.SimscopeError, match="one channel"):
        export_dataset(path, "smap", tmp_path / "out")


def test_emitters_beside_the_frame_are_left_out(tmp_path):
    recipe = snapshot().replace("structure.margin_nm", 500)
    path = ss.generate(recipe, 20, 1, tmp_path / "data.h5")
    folder = export_dataset(path, "challenge", tmp_path / "out")
    table = np.genfromtxt(folder / "activations.csv", delimiter=",", skip_header=1)
    with ss.open_dataset(path) as data:
        assert len(data.emitters) > len(data.emitters_in_frame) == len(table)
    assert (table[:, 2] >= 0).all()
    assert (table[:, 2] <= 2000).all()
