"""One emitter at a place that no mistake maps onto itself, in every software's convention.

Expected numbers are worked out by hand from each software's documents: pixels of 100 nm, emitter
at x = 1234.5 nm, y = 678.9 nm from the outer corner of the first pixel, z = -321 nm, fifth frame.
"""

import json
import struct
import warnings

import h5py
import numpy as np
import pytest
import yaml
from scipy.io import loadmat, savemat

from simscope import tables
from simscope.errors import SimscopeError, SimscopeWarning, TableError
from simscope.tables import deepstorm3d
from simscope.tables.heaps import require_sound_heaps

X, Y, Z, FRAME, PHOTONS = 1234.5, 678.9, -321.0, 4, 1500.0
ONE = {
    "frame": np.array([FRAME]),
    "x_nm": np.array([X]),
    "y_nm": np.array([Y]),
    "z_nm": np.array([Z]),
    "photons": np.array([PHOTONS]),
}
FLAT = {name: values for name, values in ONE.items() if name != "z_nm"}
MOVIE = {"pixel_nm": 100.0, "shape": (48, 64), "frames": 10}


def assert_here(found, *, z=True, tolerance=1e-3):
    """The emitter stands where it does in simscope's convention."""
    assert found["frame"].tolist() == [FRAME]
    assert found["x_nm"] == pytest.approx([X], abs=tolerance)
    assert found["y_nm"] == pytest.approx([Y], abs=tolerance)
    if z:
        assert found["z_nm"] == pytest.approx([Z], abs=tolerance)


ALL = [(name, suffix) for name, entry in tables.FORMATS.items() for suffix in entry.suffixes]


@pytest.mark.parametrize(("name", "suffix"), ALL)
def test_an_emitter_comes_back_to_its_place_and_the_format_is_told(tmp_path, name, suffix):
    path = tmp_path / f"table{suffix}"
    tables.write(path, ONE, format=name, **MOVIE)
    found = tables.read(path, pixel_nm=100.0)  # format by the content alone
    assert_here(found)
    assert found["photons"] == pytest.approx([PHOTONS])


@pytest.mark.parametrize(("name", "suffix"), ALL)
def test_a_table_without_rows_is_a_table_in_every_format(tmp_path, name, suffix):
    none = {key: values[:0] for key, values in ONE.items()}
    tables.write(tmp_path / f"none{suffix}", none, format=name, **MOVIE)
    found = tables.read(tmp_path / f"none{suffix}", pixel_nm=100.0)
    assert len(found["x_nm"]) == len(found["frame"]) == 0
    with pytest.raises(TableError, match="no rows"):
        tables.read_positions(tmp_path / f"none{suffix}", pixel_nm=100.0)


@pytest.mark.parametrize(("name", "suffix"), ALL)
def test_a_table_is_the_same_bytes_whenever_it_is_written(tmp_path, name, suffix):
    written = []
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        tables.write(tmp_path / folder / f"t{suffix}", ONE, format=name, **MOVIE)
        written.append((tmp_path / folder / f"t{suffix}").read_bytes())
    assert written[0] == written[1]


def test_thunderstorm_is_written_as_its_readers_look_for_it(tmp_path):
    known = FLAT | {"sigma_nm": np.array([130.0]), "background": np.array([20.0])}
    tables.write(tmp_path / "flat.csv", known, format="thunderstorm")
    assert (tmp_path / "flat.csv").read_bytes() == (
        b'"id","frame","x [nm]","y [nm]","sigma [nm]","intensity [photon]","offset [photon]",'
        b'"bkgstd [photon]"\n1,5,1234.500,678.900,130.000,1500.000,20.000,NaN\n'
    )
    tables.write(tmp_path / "deep.csv", ONE, format="thunderstorm")
    assert (tmp_path / "deep.csv").read_bytes() == (
        b'"id","frame","x [nm]","y [nm]","z [nm]","sigma1 [nm]","sigma2 [nm]","intensity [photon]",'
        b'"offset [photon]","bkgstd [photon]"\n1,5,1234.500,678.900,-321.000,NaN,NaN,1500.000,NaN,'
        b"NaN\n"
    )


def test_thunderstorm_has_the_width_along_x_first(tmp_path):
    wide = ONE | {"sigma_x_nm": np.array([120.0]), "sigma_y_nm": np.array([150.0])}
    tables.write(tmp_path / "a.csv", wide, format="thunderstorm")
    assert ",-321.000,120.000,150.000,1500.000," in (tmp_path / "a.csv").read_text()
    found = tables.read(tmp_path / "a.csv")
    assert (found["sigma_x_nm"], found["sigma_y_nm"]) == (120, 150)


def test_simscopes_own_text_keeps_every_bit(tmp_path):
    third = ONE | {"x_nm": np.array([10000 / 3])}
    tables.write(tmp_path / "a.csv", third, format="plain")
    assert tables.read(tmp_path / "a.csv")["x_nm"][0] == 10000 / 3


def test_thunderstorm_tables_with_uncertainties_and_other_units_are_read(tmp_path):
    (tmp_path / "real.csv").write_text(
        '"id","frame","x [nm]","y [nm]","sigma [nm]","intensity [photon]","offset [photon]",'
        '"bkgstd [photon]","chi2","uncertainty [nm]"\n'
        "1.0,5.0,1234.5,678.9,107.22,1500.0,14.4,3.8,92.1,10.93\n"
    )
    found = tables.read(tmp_path / "real.csv")
    assert_here(found, z=False)
    assert found["uncertainty_nm"].tolist() == [10.93]
    assert found["background"].tolist() == [14.4]
    assert found["chi2"].tolist() == [92.1]
    (tmp_path / "px.csv").write_text('"frame","x [px]","y [\u00b5m]"\n5,12.345,0.6789\n', "utf-8")
    assert_here(tables.read(tmp_path / "px.csv", pixel_nm=100), z=False)
    with pytest.raises(TableError, match="give pixel_nm"):
        tables.read(tmp_path / "px.csv")
    (tmp_path / "au.csv").write_text("frame,x [nm],y [nm],z [nm],intensity [au]\n5,1,2,3,0.9\n")
    assert "photons" not in tables.read(tmp_path / "au.csv")  # DeepSTORM3D's confidence
    (tmp_path / "inch.csv").write_text("frame,x [inch],y [nm]\n5,1,2\n")
    with pytest.raises(TableError, match="give nm, um or px"):
        tables.read(tmp_path / "inch.csv")


def test_challenge_is_written_with_the_blank_at_the_end_of_its_header(tmp_path):
    tables.write(tmp_path / "truth.csv", ONE, format="challenge")
    assert (tmp_path / "truth.csv").read_bytes() == (
        b"Ground-truth,frame,xnano,ynano,znano,intensity \n1,5,1234.500,678.900,-321.000,1500.000\n"
    )


def test_challenge_truth_of_the_organisers_is_read(tmp_path):
    (tmp_path / "activations.csv").write_text(
        "Ground-truth,frame,xnano,ynano,znano,intensity \n"
        "    1,     5, 1234.500, 678.900, -321.000, 1500.000 \n"
    )
    assert_here(tables.read(tmp_path / "activations.csv"))


def picasso_file(path, *, sidecar=None, metadata=None):
    rows = np.array([(FRAME, 11.845, 6.289, 1500, 1.2, 1.3, 20, 0.1, 0.2, 0.08, 9e3, Z)], dtype=[
        ("frame", "u4"), *((name, "f4") for name in (
            "x", "y", "photons", "sx", "sy", "bg", "lpx", "lpy", "ellipticity", "net_gradient", "z"
        ))])  # fmt: skip
    with h5py.File(path, "w") as file:
        file["locs"] = rows
        if metadata is not None:
            file["metadata"] = json.dumps(metadata)
    if sidecar is not None:
        path.with_suffix(".yaml").write_text(sidecar)
    return path


def test_picasso_counts_pixels_from_the_centre_of_the_first(tmp_path):
    path = tmp_path / "locs.hdf5"
    tables.write(path, ONE | {"sigma_nm": np.array([130.0])}, format="picasso", **MOVIE)
    with h5py.File(path) as file:
        locs = file["locs"][:]
        embedded = json.loads(file["metadata"][()])
    assert locs.dtype.names == (
        "frame", "x", "y", "z", "photons", "sx", "sy", "bg", "lpx", "lpy", "ellipticity",
        "net_gradient",
    )  # fmt: skip
    assert locs.dtype["frame"] == np.uint32
    assert {locs.dtype[name] for name in locs.dtype.names[1:]} == {np.dtype("f4")}
    assert locs["frame"].tolist() == [4]
    assert locs["x"] == pytest.approx([11.845])  # 12.345 pixels from the corner
    assert locs["y"] == pytest.approx([6.289])
    assert locs["z"] == pytest.approx([-321])
    assert locs["sx"] == pytest.approx([1.3])
    assert not any(np.isnan(locs[name]).any() for name in locs.dtype.names)  # picasso drops these
    stated = {"Width": 64, "Height": 48, "Frames": 10, "Pixelsize": 100.0}
    sidecar = list(yaml.safe_load_all((tmp_path / "locs.yaml").read_text()))
    for documents in (sidecar, embedded):
        assert {name: documents[0][name] for name in stated} == stated


def test_picasso_files_state_their_pixel_beside_or_within(tmp_path):
    several = "Width: 64\nHeight: 48\n---\nGenerated by: Picasso Localize\nPixelsize: 100\n"
    assert_here(tables.read(picasso_file(tmp_path / "a.hdf5", sidecar=several)))
    assert_here(tables.read(picasso_file(tmp_path / "b.hdf5", metadata=[{"Pixelsize": 100}])))
    bare = picasso_file(tmp_path / "c.hdf5")
    assert_here(tables.read(bare, pixel_nm=100))
    with pytest.raises(TableError, match="give pixel_nm"):
        tables.read(bare)
    with pytest.raises(TableError, match="states a pixel of 100 nm, pixel_nm=110"):
        tables.read(tmp_path / "a.hdf5", pixel_nm=110)
    with pytest.raises(TableError, match="give pixel_nm"):
        tables.read(tmp_path / "a.hdf5", sidecar=False)
    for text in ("Pixelsize: wide", "a: [", "!!python/object/apply:os.system ['touch owned']"):
        with pytest.raises(TableError):
            tables.read(picasso_file(tmp_path / "d.hdf5", sidecar=text))


def test_emitters_picasso_would_drop_are_told(tmp_path):
    edge = {name: np.repeat(values, 2) for name, values in FLAT.items()} | {
        "x_nm": np.array([49.0, 51.0])
    }
    with pytest.warns(SimscopeWarning, match="drop 1 of 2"):
        tables.write(tmp_path / "edge.hdf5", edge, format="picasso", **MOVIE)
    beyond = edge | {"x_nm": np.array([6449.0, 6451.0])}  # 64 columns, but 48 rows
    with pytest.warns(SimscopeWarning, match="drop 1 of 2"):
        tables.write(tmp_path / "beyond.hdf5", beyond, format="picasso", **MOVIE)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        tables.write(tmp_path / "inside.hdf5", FLAT, format="picasso", **MOVIE)


def test_no_release_of_picasso_drops_what_lies_in_the_frame(tmp_path):
    """By the stricter rule of ``lib.ensure_sanity`` up to release 0.8: x, y, lpx, lpy above 0."""
    tables.write(tmp_path / "a.hdf5", ONE, format="picasso", **MOVIE)
    with h5py.File(tmp_path / "a.hdf5") as file:
        (row,) = file["locs"][:]
    assert min(row[name] for name in ("x", "y", "lpx", "lpy")) > 0
    corner = ONE | {"x_nm": np.array([50.0])}
    with pytest.warns(SimscopeWarning, match="drop 1 of 1"):
        tables.write(tmp_path / "b.hdf5", corner, format="picasso", **MOVIE)


def test_widths_and_precisions_of_picasso_are_pixels_each_along_its_axis(tmp_path):
    found = tables.read(picasso_file(tmp_path / "a.hdf5", metadata=[{"Pixelsize": 100}]))
    assert found["sigma_x_nm"] == pytest.approx([120])
    assert found["sigma_y_nm"] == pytest.approx([130])
    assert found["uncertainty_nm"] == pytest.approx([15])  # of lpx 0.1 and lpy 0.2 the mean
    known = {name: found[name] for name in found if name != "frame"} | {"frame": ONE["frame"]}
    tables.write(tmp_path / "b.hdf5", known, format="picasso", **MOVIE)
    with h5py.File(tmp_path / "b.hdf5") as file:
        (row,) = file["locs"][:]
    assert (row["sx"], row["sy"]) == pytest.approx((1.2, 1.3))
    assert (row["lpx"], row["lpy"]) == pytest.approx((0.15, 0.15))
    assert row["ellipticity"] == pytest.approx(0.1 / 1.3)


def test_picasso_itself_finds_the_emitter(tmp_path):
    io = pytest.importorskip("picasso.io", reason="picassosr is not installed: extra `readers`")
    tables.write(tmp_path / "ours.hdf5", ONE, format="picasso", **MOVIE)
    locs, info = io.load_locs(str(tmp_path / "ours.hdf5"))
    assert len(locs) == 1
    assert locs["x"].to_numpy() == pytest.approx([11.845])
    io.save_locs(str(tmp_path / "theirs.hdf5"), locs, info)
    assert_here(tables.read(tmp_path / "theirs.hdf5"))


def test_decode_counts_pixels_from_the_centre_of_the_first(tmp_path):
    known = ONE | {"x_crlb_nm": np.array([5.0]), "y_crlb_nm": np.array([7.0])}
    tables.write(tmp_path / "em.h5", known, format="decode", **MOVIE)
    with h5py.File(tmp_path / "em.h5") as file:
        data = file["data"]
        assert data["xyz"][:] == pytest.approx(np.array([[11.845, 6.289, -321]]), abs=1e-5)
        assert data["xyz"].dtype == data["phot"].dtype == np.float32
        assert data["frame_ix"][:].tolist() == [4]
        assert data["frame_ix"].dtype == data["id"].dtype == np.int64
        assert data["prob"][:].tolist() == [1]
        assert data["xyz_cr"][0, :2] == pytest.approx([0.05**2, 0.07**2])
        for name in ("xyz_sig", "phot_cr", "phot_sig", "bg_cr", "bg_sig"):
            assert data[name].shape is None  # DECODE's sign for nothing known
        assert np.isnan(data["bg"][:]).all()
        assert list(file["meta"].attrs) == ["xy_unit", "px_size"]  # SMAP's loader counts on it
        assert file["meta"].attrs["xy_unit"] == "px"
        assert file["meta"].attrs["px_size"].tolist() == [100, 100]
        assert "version" in file["decode"].attrs


def test_decode_is_told_all_that_is_known_and_rows_first_where_asked(tmp_path):
    known = ONE | {
        "x_crlb_nm": np.array([5.0]), "y_crlb_nm": np.array([7.0]), "z_crlb_nm": np.array([30.0]),
        "photons_crlb": np.array([40.0]), "background_crlb": np.array([3.0]),
        "probability": np.array([0.75]), "background": np.array([20.0]),
    }  # fmt: skip
    tables.write(tmp_path / "em.h5", known, format="decode", axes="yx", **MOVIE)
    with h5py.File(tmp_path / "em.h5") as file:
        data = {name: values[0] for name, values in file["data"].items() if values.shape}
    assert data["xyz"] == pytest.approx([6.289, 11.845, Z], abs=1e-5)
    assert data["xyz_cr"] == pytest.approx([0.07**2, 0.05**2, 30**2])
    assert (data["phot_cr"], data["bg_cr"]) == (40**2, 3**2)
    assert (data["prob"], data["bg"]) == (0.75, 20)
    assert_here(tables.read(tmp_path / "em.h5", axes="yx"))


def test_rows_may_come_first_in_any_format(tmp_path):
    (tmp_path / "rows.csv").write_text(f"frame,x_nm,y_nm,z_nm\n4,{Y},{X},{Z}\n")
    assert_here(tables.read(tmp_path / "rows.csv", axes="yx"))


def test_pixels_that_differ_by_more_than_a_thousandth_are_refused(tmp_path):
    path = picasso_file(tmp_path / "a.hdf5", metadata=[{"Pixelsize": 100}])
    assert_here(tables.read(path, pixel_nm=100.05))  # what the file states is taken
    with pytest.raises(TableError, match=r"100 nm, pixel_nm=100\.2"):
        tables.read(path, pixel_nm=100.2)


def decode_file(path, xyz, unit, size=(100.0, 100.0)):
    """As ``emitter_io.save_h5`` writes one."""
    with h5py.File(path, "w") as file:
        meta = {"xy_unit": unit, "px_size": np.array(size, np.float32)}
        file.create_group("meta").attrs.update(meta)
        file.create_group("decode").attrs["version"] = "v0.10.0"
        data = file.create_group("data")
        data["xyz"] = np.array([xyz], np.float32)
        data["frame_ix"], data["id"] = np.array([FRAME]), np.array([-1])
        for name in ("phot", "prob", "bg"):
            data[name] = np.ones(1, np.float32)
        for name in ("xyz_sig", "xyz_cr", "phot_cr", "phot_sig", "bg_cr", "bg_sig"):
            data[name] = h5py.Empty("f")
    return path


def test_decode_tables_are_read_in_pixels_and_nm_and_from_unturned_frames(tmp_path):
    assert_here(tables.read(decode_file(tmp_path / "px.h5", (11.845, 6.289, Z), "px")))
    assert_here(tables.read(decode_file(tmp_path / "nm.h5", (1184.5, 628.9, Z), "nm")))
    rows_first = decode_file(tmp_path / "yx.h5", (6.289, 11.845, Z), "px")
    assert_here(tables.read(rows_first, axes="yx"))
    oblong = decode_file(tmp_path / "oblong.h5", (11.845, 2.8945, Z), "px", (100.0, 200.0))
    assert_here(tables.read(oblong))
    with pytest.raises(TableError, match="xy_unit"):
        tables.read(decode_file(tmp_path / "um.h5", (1, 2, 3), "um"))


def test_decode_csv_is_read_by_the_units_in_its_comment(tmp_path):
    (tmp_path / "em.csv").write_text(
        '# DECODE EmitterSet\n# {"version": "v0.10.0"}\n'
        '# {"xy_unit": "px", "px_size": [100.0, 100.0]}\n'
        "x,y,z,phot,frame_ix,id,prob,bg,x_sig,y_sig,z_sig\n"
        f"11.845,6.289,{Z},1500,4,0,0.9,20,0.1,0.1,30\n"
    )
    found = tables.read(tmp_path / "em.csv")
    assert_here(found)
    assert found["uncertainty_nm"] == pytest.approx([10])


def test_smap_puts_the_first_pixels_centre_at_one_pixel(tmp_path):
    tables.write(tmp_path / "one_sml.mat", ONE, format="smap", **MOVIE)
    saveloc = loadmat(tmp_path / "one_sml.mat", simplify_cells=True)["saveloc"]
    loc, info = saveloc["loc"], saveloc["file"]["info"]
    assert (loc["xnm"], loc["ynm"], loc["znm"]) == (1284.5, 728.9, -321.0)
    assert (loc["frame"], loc["phot"], loc["filenumber"]) == (5, 1500, 1)
    assert loc["locprecnm"] == 0  # a row without would be dropped
    assert info["cam_pixelsize_um"].tolist() == [0.1, 0.1]
    assert info["roi"].tolist() == [0, 0, 64, 48]
    tables.write(tmp_path / "one.csv", ONE, format="smap", **MOVIE)
    assert (tmp_path / "one.csv").read_bytes() == (
        b"xnm,ynm,znm,frame,locprecnm,phot,bg\n1284.500,728.900,-321.000,5,0.000,1500.000,0.000\n"
    )


@pytest.mark.parametrize("packed", [False, True])
def test_smap_files_of_older_matlab_are_read_among_other_variables(tmp_path, packed):
    loc = {"xnm": 1284.5, "ynm": 728.9, "znm": Z, "frame": 5, "comment": "text", "cell": {}}
    loc["frame"] = np.array([[5]], np.uint8)  # MATLAB stores whole numbers short
    info = {"cam_pixelsize_um": np.array([[0.1, 0.1]]), "roi": np.array([[0, 0, 64, 48]])}
    movies = np.zeros((1, 1), [("name", "O"), ("info", "O")])
    movies[0, 0] = ("a.tif", info)
    content = {"before": np.ones((300, 7)), "saveloc": {"loc": loc, "file": movies}, "after": 1.0}
    savemat(tmp_path / "old_sml.mat", content, do_compression=packed)
    assert_here(tables.read(tmp_path / "old_sml.mat"))


def test_smap_pixels_may_be_oblong(tmp_path):
    loc = {"xnm": X + 0.5 * 100 + 3 * 100, "ynm": Y + 0.5 * 200 + 7 * 200, "znm": Z, "frame": 5}
    info = {"cam_pixelsize_um": np.array([[0.1, 0.2]]), "roi": np.array([[3, 7, 64, 48]])}
    savemat(tmp_path / "a_sml.mat", {"saveloc": {"loc": loc, "file": {"info": info}}})
    assert_here(tables.read(tmp_path / "a_sml.mat"))


def level_5(order, name, value):
    """A matrix of MathWorks' MAT-File Format, level 5, in either byte order."""

    def element(kind, data):
        return struct.pack(f"{order}II", kind, len(data)) + data.ljust(
            -(-len(data) // 8) * 8, b"\0"
        )

    def numbers(kind, *values):
        return element(kind, struct.pack(f"{order}{len(values)}i", *values))

    fields = isinstance(value, dict)
    start = numbers(6, 2 if fields else 6, 0) + numbers(5, 1, 1) + element(1, name.encode())
    if fields:
        names = b"".join(key.encode().ljust(32, b"\0") for key in value)
        body = numbers(5, 32) + element(1, names)
        body += b"".join(level_5(order, "", each) for each in value.values())
    else:
        body = element(9, struct.pack(f"{order}d", value))
    return element(14, start + body)


@pytest.mark.parametrize(("order", "mark"), [("<", b"IM"), (">", b"MI")])
def test_matlab_files_of_either_byte_order_are_read(tmp_path, order, mark):
    loc = {"xnm": X + 50.0, "ynm": Y + 50.0, "znm": Z, "frame": 5.0}
    head = b"MATLAB 5.0 MAT-file".ljust(124) + struct.pack(f"{order}H", 0x0100) + mark
    content = head + level_5(order, "before", 1.0) + level_5(order, "saveloc", {"loc": loc})
    (tmp_path / "a_sml.mat").write_bytes(content)
    assert_here(tables.read(tmp_path / "a_sml.mat", pixel_nm=100))
    if order == "<":
        assert loadmat(tmp_path / "a_sml.mat", simplify_cells=True)["saveloc"]["loc"] == loc


def smap_hdf5(path, *, info=True, roi=(0, 0, 64, 48), movies=1):
    """A MATLAB 7.3 file: HDF5 behind 512 bytes, every array turned round."""
    with h5py.File(path, "w", userblock_size=512) as file:
        loc = {"xnm": 1284.5 + 100 * roi[0], "ynm": 728.9 + 100 * roi[1], "znm": Z, "frame": 5}
        for name, value in (loc | {"phot": PHOTONS, "bg": 20}).items():
            file[f"saveloc/loc/{name}"] = np.full((1, movies), value)
        file["saveloc/loc/filenumber"] = np.arange(1, movies + 1)[None]
        if info:
            file["saveloc/file/info/cam_pixelsize_um"] = np.array([[0.1], [0.1]])
            file["saveloc/file/info/roi"] = np.array(roi, float)[:, None]
    return path


def test_smap_files_of_matlab_7_3_and_regions_of_the_chip_are_read(tmp_path):
    assert_here(tables.read(smap_hdf5(tmp_path / "a_sml.mat")))
    assert_here(tables.read(smap_hdf5(tmp_path / "b_sml.mat", roi=(30, 7, 64, 48))))
    bare = smap_hdf5(tmp_path / "c_sml.mat", info=False)
    assert_here(tables.read(bare, pixel_nm=100))
    with pytest.raises(TableError, match="give pixel_nm"):
        tables.read(bare)
    with pytest.raises(TableError, match="2 movies"):
        tables.read(smap_hdf5(tmp_path / "d_sml.mat", movies=2))


def test_smap_structs_in_arrays_of_references_are_followed(tmp_path):
    path = smap_hdf5(tmp_path / "refs_sml.mat", info=False)
    with h5py.File(path, "r+") as file:
        file["#refs#/info/cam_pixelsize_um"] = np.array([[0.1], [0.1]])
        file.create_dataset("#refs#/loop", (1, 1), h5py.ref_dtype)
        file["#refs#/loop"][0, 0] = file["#refs#/loop"].ref  # must not be followed for ever
        file.create_dataset("saveloc/file/info", (1, 1), h5py.ref_dtype)
        file["saveloc/file/info"][0, 0] = file["#refs#/info"].ref
    assert_here(tables.read(path))
    with h5py.File(path, "r+") as file:
        file["saveloc/file/info"][0, 0] = file["#refs#/loop"].ref
    assert_here(tables.read(path, pixel_nm=100))


def test_deepstorm3d_labels_are_micrometres_from_the_middle():
    labels = deepstorm3d.labels_um(ONE, (49, 65), 100.0)
    # the middle of 65 x 49 pixels lies at x = 3250, y = 2450 nm
    assert labels == pytest.approx(np.array([[[-2.0155, -1.7711, -0.321]]]))
    with pytest.raises(TableError, match="simulate 49 x 65"):
        deepstorm3d.labels_um(ONE, (48, 64), 100.0)


def test_labels_off_deepstorm3ds_grid_are_told():
    place = ONE | {
        "x_nm": np.array([49.0, 51.0, 6499.0, 3250, 3250]),
        "y_nm": np.full(5, 2450.0),
        "z_nm": np.array([100.0, 100, 100, 100, 1100]),
    }
    labels = deepstorm3d.labels_um(place, (49, 65), 100.0)
    inside = deepstorm3d.on_grid(labels, (49, 65), 100.0, (0.0, 1.0))
    assert inside.tolist() == [False, True, True, True, False]
    # 260 x 196 fine pixels, 0 in the middle of pixel 32, 24; heights up to, not including, 1 um
    ends = np.array([[[-3.2, -2.4, 0.0], [3.299, 2.499, 0.0], [0, 0, 1.0], [3.301, 0, 0],
                      [0, 2.501, 0]]])  # fmt: skip
    inside = deepstorm3d.on_grid(ends, (49, 65), 100.0, (0.0, 1.0))
    assert inside.tolist() == [True, True, False, False, False]


def test_a_file_of_several_marks_is_not_guessed(tmp_path):
    (tmp_path / "both.csv").write_text("frame,x [nm],y [nm],xnm,ynm\n5,1234.5,678.9,1,2\n")
    with pytest.raises(TableError, match="thunderstorm or smap: say which with format"):
        tables.read(tmp_path / "both.csv", pixel_nm=100)
    assert_here(tables.read(tmp_path / "both.csv", format="thunderstorm"), z=False)
    with pytest.raises(TableError, match="did you mean 'picasso'"):
        tables.read(tmp_path / "both.csv", format="picaso")
    with pytest.raises(TableError, match="kind text, which picasso never is"):
        tables.read(tmp_path / "both.csv", format="picasso")


def test_semicolons_tabs_decimal_commas_and_byte_order_marks_are_read(tmp_path):
    for number, text in enumerate((
        "\ufeffframe;x_nm;y_nm\n4;1234,5;678,9\n",
        "frame\tx_nm\ty_nm\r\n4\t1234,5\t678,9\r\n",
        "frame;x_nm;y_nm\n4;1234.5;678.9\n\n",
        '"frame", "x_nm", "y_nm", "gr\u00f6\u00dfe"\n4,1234.5,678.9,1\n',
    )):  # fmt: skip
        path = tmp_path / f"Tabelle \u00e4 {number}.csv"
        path.write_text(text, "utf-8")
        assert_here(tables.read(path), z=False)


HOSTILE = {
    "mixed signs": ("frame;x_nm;y_nm\n4;1.234,5;6\n", "commas and points"),
    "decimal commas between commas": ("frame,x_nm,y_nm\n4,1234,5,678,9\n", "3 headers but 5"),
    "unknown units": ("frame,x,y\n4,1,2\n", "columns of none"),
    "negative frame": ("frame,x_nm,y_nm\n-1,1,2\n", "frame -1 in row 1"),
    "no such frame": ('"frame","x [nm]","y [nm]"\n0,1,2\n', "from 1"),
    "half a frame": ("frame,x_nm,y_nm\n0.5,1,2\n", "frame 0.5"),
    "frames without end": ("frame,x_nm,y_nm\n1e300,1,2\n", "frame 1e"),
    "not a number": ("frame,x_nm,y_nm\n1,nan,2\n1,1,2\n", "x_nm is nan in row 1"),
    "nothing known": ("frame,x_nm,y_nm\n1,nan,2\n", "no position that is a number"),
    "infinite light": ("frame,x_nm,y_nm,photons\n1,1,2,inf\n", "photons is inf"),
    "another galaxy": ("frame,x_nm,y_nm\n1,1e20,2\n", "give nm"),
    "words": ("frame,x_nm,y_nm\n1,one,2\n", "cannot read"),
    "torn": ("frame,x_nm,y_nm\n1,1,2\n1,1\n", "cannot read"),
    "twice": ("frame,x_nm,y_nm,x_nm\n1,1,2,3\n", "more than once"),
    "twice in disguise": ("x [nm],x [um],y [nm]\n1,1,2\n", "gives x_nm twice"),
    "formula": ("frame,x_nm,y_nm\n1,=1+1,2\n", "cannot read"),
    "a quote without end": ('"frame,x_nm,y_nm\n1,1,2\n', "columns of none"),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_hostile_text_is_one_clear_error(tmp_path, case):
    text, message = HOSTILE[case]
    (tmp_path / "bad.csv").write_text(text)
    with pytest.raises(TableError, match=message):
        tables.read(tmp_path / "bad.csv")


def test_hostile_binary_files_are_one_clear_error(tmp_path):
    path = tmp_path / "bad"
    with h5py.File(path, "w") as file:
        file["locs"] = np.zeros((3, 3))
    with pytest.raises(TableError, match="lacks"):
        tables.read(path)
    with h5py.File(path, "w") as file:
        file["data/xyz"], file["data/frame_ix"] = np.zeros((3, 2)), np.zeros(3, int)
        file.create_group("meta").attrs["xy_unit"] = "nm"
    with pytest.raises(TableError, match=r"shape \(3, 2\)"):
        tables.read(path, pixel_nm=100)
    with h5py.File(path, "w") as file:
        file.create_dataset("localizations/x_nm", (1 << 40,), "f8", chunks=(1 << 16,))
    with pytest.raises(TableError, match="no table is so long"):
        tables.read(path)
    savemat(path, {"saveloc": {"loc": np.zeros(3)}})
    with pytest.raises(TableError, match="no saveloc"):
        tables.read(path)
    whole = path.read_bytes()
    for cut in range(130, len(whole), 7):
        path.write_bytes(whole[:cut])
        with pytest.raises(TableError):
            tables.read(path)


def test_rows_whose_fields_overlap_are_not_read_into_foreign_memory(tmp_path):
    odd = h5py.h5t.IEEE_F32LE.copy()
    odd.set_fields(31, 20, 11, 0, 20)  # four bytes in the file, eight in memory
    row = h5py.h5t.create(h5py.h5t.COMPOUND, 12)
    row.insert(b"frame", 0, h5py.h5t.STD_U32LE)
    row.insert(b"x", 4, odd)
    row.insert(b"y", 8, odd)
    with h5py.File(tmp_path / "bad.hdf5", "w") as file:
        space = h5py.h5s.create_simple((1000,))
        h5py.h5d.create(file.id, b"locs", row, space)
    with pytest.raises(TableError, match="overlap"):
        tables.read(tmp_path / "bad.hdf5", pixel_nm=100)


def test_a_text_that_claims_gigabytes_is_not_fetched(tmp_path):
    path = picasso_file(tmp_path / "bad.hdf5", metadata=[{"Pixelsize": 100}])
    with h5py.File(path) as file:
        length_at = file["metadata"].id.get_offset()
    with path.open("r+b") as file:
        file.seek(length_at)
        file.write((1 << 31).to_bytes(4, "little"))
    with pytest.raises(TableError, match="no text of at most"):
        tables.read(path)
    with h5py.File(path, "w") as file:
        file["locs"] = np.zeros(3, [("frame", "u4"), ("x", "f4"), ("y", "f4")])
        file["metadata"] = np.zeros(3)
    with pytest.raises(TableError, match="no text"):
        tables.read(path)


@pytest.mark.parametrize(("index", "length"), [(1, 1 << 40), (0, 0)])
def test_text_heaps_without_end_are_refused_before_hdf5_sees_them(
    tmp_path, monkeypatch, index, length
):
    path = picasso_file(tmp_path / "bad.hdf5", metadata=[{"Pixelsize": 100}])
    require_sound_heaps(path)
    content = bytearray(path.read_bytes())
    first = content.index(b"GCOL") + 16
    content[first : first + 2] = index.to_bytes(2, "little")
    content[first + 8 : first + 16] = length.to_bytes(8, "little")
    path.write_bytes(content)
    monkeypatch.setattr(h5py, "File", None)  # would never come back
    with pytest.raises(TableError, match="texts are damaged"):
        tables.read(path)


def mutated(content, rng):
    content = bytearray(content)
    for _ in range(rng.choice([1, 2, 5, 30])):
        place = int(rng.integers(len(content)))
        match rng.integers(4):
            case 0:
                content[place] = rng.integers(256)
            case 1:
                content[place] ^= 1 << int(rng.integers(8))
            case 2:
                content[place:place] = rng.bytes(int(rng.integers(1, 9)))
            case 3 if rng.random() < 0.2:
                del content[place + 1 :]
    return content


@pytest.mark.parametrize(
    "count", [300, pytest.param(5000, marks=pytest.mark.slow)], ids=["few", "many"]
)
def test_mutated_tables_are_tables_or_one_clear_error(tmp_path, count):
    rng = np.random.default_rng(count)
    rows = {name: np.repeat(values, 20) for name, values in ONE.items()}
    whole = []
    for number, (name, suffix) in enumerate(ALL):
        path = tmp_path / f"{number}{suffix}"
        tables.write(path, rows, format=name, **MOVIE)
        whole.append(path)
    for sidecar in tmp_path.glob("*.yaml"):
        sidecar.unlink()
    for number in range(count):
        source = whole[number % len(whole)]
        path = tmp_path / f"mutant{source.suffix}"
        path.write_bytes(mutated(source.read_bytes(), rng))
        try:
            found = tables.read(path, pixel_nm=100.0)
        except SimscopeError:
            continue
        assert {"x_nm", "y_nm"} <= set(found)
        assert np.isfinite(found["x_nm"]).all()


def test_columns_in_a_missing_file_are_not_read_as_zeros(tmp_path):
    with h5py.File(tmp_path / "shard.h5", "w") as file:
        file["x"] = np.ones(3)
    layout = h5py.VirtualLayout((3,), "f8")
    layout[:] = h5py.VirtualSource(tmp_path / "shard.h5", "x", (3,))
    with h5py.File(tmp_path / "whole.h5", "w") as file:
        for name in ("x_nm", "y_nm"):
            file.create_virtual_dataset(f"emitters/{name}", layout)
    assert tables.read(tmp_path / "whole.h5")["x_nm"].tolist() == [1, 1, 1]
    (tmp_path / "shard.h5").unlink()
    with pytest.raises(TableError, match="missing"):
        tables.read(tmp_path / "whole.h5")


def test_writing_says_what_it_lacks_and_overwrites_nothing(tmp_path):
    for name, suffix in (("picasso", ".hdf5"), ("decode", ".h5"), ("smap", ".mat")):
        with pytest.raises(TableError, match="give pixel_nm"):
            tables.write(tmp_path / f"t{suffix}", ONE, format=name, shape=(4, 4), frames=1)
    with pytest.raises(TableError, match="give shape and frames"):
        tables.write(tmp_path / "t.hdf5", ONE, format="picasso", pixel_nm=100)
    with pytest.raises(TableError, match="lacks"):
        tables.write(tmp_path / "t.csv", {"x_nm": np.ones(1), "y_nm": np.ones(1)})
    with pytest.raises(TableError, match=r"challenge is written to \.csv"):
        tables.write(tmp_path / "t.h5", ONE, format="challenge")
    late = ONE | {"frame": np.array([1 << 32])}
    with pytest.raises(TableError, match="beyond picasso's"):
        tables.write(tmp_path / "t.hdf5", late, format="picasso", **MOVIE)
    assert not list(tmp_path.iterdir())
    (tmp_path / "t.yaml").write_text("mine")
    with pytest.raises(TableError, match="exists"):
        tables.write(tmp_path / "t.hdf5", ONE, format="picasso", **MOVIE)
    assert [path.name for path in tmp_path.iterdir()] == ["t.yaml"]


def test_recipes_know_every_format():
    from typing import get_args

    from simscope.recipe.sample import TableFormat

    assert get_args(TableFormat) == ("auto", *tables.FORMATS)
