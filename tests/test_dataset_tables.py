"""Tables of positions and localisations, in the layouts people have."""

import json

import h5py
import numpy as np
import pytest
from small_worlds import snapshot
from typer.testing import CliRunner

import simscope as ss
from simscope import tables
from simscope.cli import app
from simscope.dataset import read_emitters, read_localizations, write_localizations
from simscope.dataset.tables import movie_of
from simscope.errors import DatasetError, TableError
from simscope.keys import Key
from simscope.recipe import load_recipe
from simscope.sample.structures import place
from simscope.tables import read_positions

pytestmark = pytest.mark.filterwarnings("ignore::simscope.errors.SimscopeWarning")

POSITIONS = np.array([[100.5, 20.25, -3.0], [7.0, 8.0, 9.0]])
FOUND = np.array(
    [(0, 101.5, 202.25, np.nan, 1500.0, 0.9), (3, 12.125, 8.0, np.nan, 90.5, 0.4)],
    dtype=[("frame", "i8"), ("x_nm", "f8"), ("y_nm", "f8"), ("z_nm", "f8"), ("photons", "f8"),
           ("probability", "f8")],
)  # fmt: skip


def run(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def write_csv(path):
    rows = "\n".join(",".join(map(str, row)) for row in POSITIONS)
    path.write_text(f"x_nm,y_nm,z_nm\n{rows}\n")


def write_thunderstorm(path):
    rows = "\n".join(f"{k},1,{x},{y},{z},5" for k, (x, y, z) in enumerate(POSITIONS))
    path.write_text(f'"id","frame","x [nm]","y [nm]","z [nm]","intensity [photon]"\n{rows}\n')


def write_npy(path):
    np.save(path, POSITIONS.astype(np.float32))


def write_structured_npy(path):
    table = np.empty(2, [("z_nm", "f4"), ("y_nm", "f8"), ("x_nm", "f8")])
    for column, name in enumerate(("x_nm", "y_nm", "z_nm")):
        table[name] = POSITIONS[:, column]
    np.save(path, table)


def write_hdf5(path):
    with h5py.File(path, "w") as file:
        file["anything"] = POSITIONS


def write_hdf5_columns(path):
    with h5py.File(path, "w") as file:
        for column, name in enumerate(("x_nm", "y_nm", "z_nm")):
            file[f"points/{name}"] = POSITIONS[:, column]


WRITERS = {
    "plain.csv": write_csv,
    "thunderstorm.csv": write_thunderstorm,
    "array.npy": write_npy,
    "structured.npy": write_structured_npy,
    "array.h5": write_hdf5,
    "columns.hdf5": write_hdf5_columns,
}


@pytest.mark.parametrize("name", WRITERS)
def test_every_layout_gives_the_same_positions(tmp_path, name):
    WRITERS[name](tmp_path / name)
    assert np.array_equal(read_positions(tmp_path / name), POSITIONS)


def test_absent_heights_read_as_zero(tmp_path):
    np.save(tmp_path / "flat.npy", POSITIONS[:, :2])
    (tmp_path / "flat.csv").write_text("y_nm,x_nm\n20.25,100.5\n8,7\n")
    for name in ("flat.npy", "flat.csv"):
        read = read_positions(tmp_path / name)
        assert np.array_equal(read, POSITIONS * [1, 1, 0])


def test_the_array_in_a_file_of_several_is_named(tmp_path):
    with h5py.File(tmp_path / "two.h5", "w") as file:
        file["a"], file["b/c"] = POSITIONS, POSITIONS + 1
    assert np.array_equal(read_positions(tmp_path / "two.h5", dataset="b/c"), POSITIONS + 1)
    with pytest.raises(TableError, match="say which"):
        read_positions(tmp_path / "two.h5")
    with pytest.raises(TableError, match="has no 'd'"):
        read_positions(tmp_path / "two.h5", dataset="d")


BAD_CSV = {
    "no header": ("1,2,3\n4,5,6\n", "no header"),
    "no rows": ("x_nm,y_nm\n", "no rows"),
    "no y": ("x_nm,z_nm\n1,2\n", "lacks.*y_nm"),
    "not a number": ("x_nm,y_nm\n1,abc\n", "cannot read.*abc"),
    "nan": ("x_nm,y_nm\n1,2\n3,nan\n", "y_nm is nan in row 2"),
    "infinite": ("x_nm,y_nm\n1,inf\n", "y_nm is inf in row 1"),
    "short row": ("x_nm,y_nm\n1,2\n3\n", "cannot read"),
    "long rows": ("x_nm,y_nm\n1,2,3\n", "2 headers but 3 columns"),
    "empty": ("", "is empty"),
    "twice": ("x_nm,y_nm,x_nm\n1,2,3\n", "more than once"),
    "empty field": ("x_nm,y_nm\n1,\n", "cannot read"),
}


@pytest.mark.parametrize("case", BAD_CSV)
def test_bad_csv_is_one_clear_error(tmp_path, case):
    text, message = BAD_CSV[case]
    (tmp_path / "bad.csv").write_text(text)
    with pytest.raises(TableError, match=message):
        read_positions(tmp_path / "bad.csv")


def test_other_bad_tables_are_clear_errors(tmp_path):
    with pytest.raises(TableError, match="check the path"):
        read_positions(tmp_path / "none.csv")
    (tmp_path / "table.txt").write_text("x")
    with pytest.raises(TableError, match="columns of none of"):
        read_positions(tmp_path / "table.txt")
    for start, message in (
        (b"\x93NUMPY junk", "cannot read"),
        (b"\x89HDF\r\n\x1a\n junk", "as HDF5"),
        (b"x\x00junk", "no text"),
        (b"\xff\xfex\x00,\x00y\x00", "UTF-16"),
        (b"x_nm,y_nm\n\xff,2\n", "cannot read"),
        (b"PK\x03\x04 a torch pickle", "torch pickle"),
        (b"", "empty"),
    ):
        (tmp_path / "junk").write_bytes(start)
        with pytest.raises(TableError, match=message):
            read_positions(tmp_path / "junk")
    np.save(tmp_path / "shape.npy", np.zeros((3, 5)))
    with pytest.raises(TableError, match=r"shape \(3, 5\)"):
        read_positions(tmp_path / "shape.npy")
    np.save(tmp_path / "words.npy", np.array([["a", "b"]]))
    with pytest.raises(TableError, match="give a number a row"):
        read_positions(tmp_path / "words.npy")
    np.save(tmp_path / "none.npy", np.zeros((0, 3)))
    with pytest.raises(TableError, match="no rows"):
        read_positions(tmp_path / "none.npy")


def test_objects_in_npy_files_are_never_unpickled(tmp_path):
    np.save(tmp_path / "objects.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(TableError, match="cannot read"):
        read_positions(tmp_path / "objects.npy")


@pytest.mark.parametrize("name", ["found.csv", "found.h5"])
def test_localisations_come_back_with_frames_from_zero(tmp_path, name):
    write_localizations(tmp_path / name, FOUND)
    read = read_localizations(tmp_path / name)
    for column in ("frame", "x_nm", "y_nm", "photons"):
        assert np.allclose(read[column], FOUND[column], atol=5e-4)  # three decimals in CSV
    assert "z_nm" not in read.dtype.names  # unknown all over, so not written as a height of 0


def test_thunderstorm_header_is_exact_and_frames_start_at_one(tmp_path):
    table = FOUND.copy()
    table["z_nm"] = 4.0
    write_localizations(tmp_path / "found.csv", table)
    lines = (tmp_path / "found.csv").read_text().splitlines()
    assert lines[0] == (
        '"id","frame","x [nm]","y [nm]","z [nm]","sigma1 [nm]","sigma2 [nm]",'
        '"intensity [photon]","offset [photon]","bkgstd [photon]"'
    )
    assert lines[1] == "1,1,101.500,202.250,4.000,NaN,NaN,1500.000,NaN,NaN"
    assert lines[2].startswith("2,4,")


@pytest.mark.parametrize("name", ["found.csv", "found.h5"])
def test_nothing_found_is_a_table_too(tmp_path, name):
    write_localizations(tmp_path / name, FOUND[:0])
    read = read_localizations(tmp_path / name)
    assert len(read) == 0
    assert {"frame", "x_nm", "y_nm"} <= set(read.dtype.names)


def test_localisations_are_refused_with_reason(tmp_path):
    broken = FOUND.copy()
    broken["x_nm"][0] = np.nan
    with pytest.raises(DatasetError, match="x_nm is nan in row 1"):
        write_localizations(tmp_path / "a.csv", broken)
    with pytest.raises(DatasetError, match="lacks"):
        write_localizations(tmp_path / "a.csv", FOUND[["x_nm", "y_nm"]])
    with pytest.raises(DatasetError, match="unknown kind"):
        write_localizations(tmp_path / "a.txt", FOUND)
    with pytest.raises(DatasetError, match="does not exist"):
        write_localizations(tmp_path / "no" / "a.csv", FOUND)
    write_localizations(tmp_path / "a.csv", FOUND)
    with pytest.raises(DatasetError, match="--force"):
        write_localizations(tmp_path / "a.csv", FOUND)
    write_localizations(tmp_path / "a.csv", FOUND[:1], force=True)
    assert len(read_localizations(tmp_path / "a.csv")) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["a.csv"]


def test_tables_that_cannot_be_read_say_why(tmp_path):
    with pytest.raises(DatasetError, match="check the path"):
        read_localizations(tmp_path / "none.csv")
    (tmp_path / "zero.csv").write_text('"frame","x [nm]","y [nm]"\n0,1,2\n')
    with pytest.raises(DatasetError, match=r"frame 0 in row 1.*from 1"):
        read_localizations(tmp_path / "zero.csv")
    (tmp_path / "lacks.csv").write_text("x_nm,y_nm\n1,2\n")
    with pytest.raises(DatasetError, match="lacks"):
        read_localizations(tmp_path / "lacks.csv")
    (tmp_path / "a.txt").write_text("x")
    with pytest.raises(DatasetError, match="columns of none of"):
        read_localizations(tmp_path / "a.txt")
    (tmp_path / "junk.h5").write_text("x")
    with pytest.raises(DatasetError, match="columns of none of"):
        read_localizations(tmp_path / "junk.h5")
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["x"] = 1
    with pytest.raises(DatasetError, match="/x is no array of numbers"):
        read_localizations(tmp_path / "other.h5")
    with h5py.File(tmp_path / "uneven.h5", "w") as file:
        file["localizations/frame"], file["localizations/x_nm"] = [1, 2], [1.0]
        file["localizations/y_nm"] = [1.0]
    with pytest.raises(DatasetError, match="differ"):
        read_localizations(tmp_path / "uneven.h5")


def test_emitters_come_from_datasets_and_tables_alike(tmp_path, monkeypatch):
    monkeypatch.setenv("SIMSCOPE_CACHE", str(tmp_path / "cache"))
    ss.generate(snapshot(), 2, 7, tmp_path / "data.h5")
    truth = read_emitters(tmp_path / "data.h5")
    write_localizations(tmp_path / "table.h5", truth)
    again = read_emitters(tmp_path / "table.h5")
    assert np.array_equal(again["x_nm"], truth["x_nm"])
    positions = read_positions(tmp_path / "data.h5", dataset="emitters")
    assert np.array_equal(positions[:, 1], truth["y_nm"])
    with pytest.raises(DatasetError, match="check the path"):
        read_emitters(tmp_path / "none.h5")


def put(path, name, value):
    with h5py.File(path, "w") as file:
        file[name] = value
    return path


def test_hdf5_without_columns_of_numbers_is_refused(tmp_path):
    path = tmp_path / "a.h5"
    for name, value in (
        ("localizations", [1.0, 2.0]),
        ("localizations", "text"),
        ("localizations/frame/deeper", [1]),
        ("localizations/frame", ["a", "b"]),
        ("localizations/frame", [-1]),
    ):
        with pytest.raises(DatasetError):
            read_localizations(put(path, name, value))
    for name, value, dataset in (
        ("a", "text", "a"),
        ("a", 5.0, "a"),
        ("a/x_nm/deeper", [1.0], "a"),
        ("a", ["1", "2"], "a"),
    ):
        with pytest.raises(TableError):
            read_positions(put(path, name, value), dataset=dataset)


def test_numbers_no_microscope_has_are_refused(tmp_path):
    path = tmp_path / "a.csv"
    wrong = {
        "1e30,1,2": "frame 1e",
        "1,1e13,2": "x_nm=1e.13 lies beyond",
        "1.5,1,2": "frame 1.5 in row 1",
    }
    for row, message in wrong.items():
        path.write_text(f"frame,x_nm,y_nm\n{row}\n")
        with pytest.raises(DatasetError, match=message):
            read_localizations(path)


def test_tables_of_other_software_take_the_movie_from_the_dataset(tmp_path, monkeypatch):
    monkeypatch.setenv("SIMSCOPE_CACHE", str(tmp_path / "cache"))
    recipe = snapshot()
    ss.generate(recipe, 3, 7, tmp_path / "data.h5")
    movie = movie_of(tmp_path / "data.h5")
    height, width = recipe.acquisition.shape
    assert movie == {"pixel_nm": recipe.pixel_nm, "shape": (height, width), "frames": 3}
    truth = read_emitters(tmp_path / "data.h5")
    for name, suffix in (("picasso", "hdf5"), ("decode", "h5"), ("smap", "mat")):
        path = write_localizations(tmp_path / f"{name}.{suffix}", truth, format=name, **movie)
        again = read_localizations(path)  # states its pixel itself
        assert np.allclose(again["x_nm"], truth["x_nm"], atol=1e-2)
        assert np.array_equal(again["frame"], truth["frame"])
        assert again["photons"] == pytest.approx(truth["photons"])
        result = run("score", path, tmp_path / "data.h5", "--radius-nm", "1", "--json")
        assert json.loads(result.stdout)["jaccard"] == 1.0


def test_scoring_tells_what_a_table_lacks(tmp_path):
    write_localizations(tmp_path / "a.csv", FOUND, format="smap", pixel_nm=100)
    write_localizations(tmp_path / "b.csv", FOUND)
    arguments = ("score", tmp_path / "a.csv", tmp_path / "b.csv", "--json")
    result = run(*arguments)
    assert result.exit_code == 2
    assert "pixel_nm" in " ".join(result.output.split())
    result = run(*arguments, "--pixel-nm", "100")
    assert json.loads(result.stdout)["rmse_lateral_nm"] == pytest.approx(0, abs=2e-3)


def test_the_file_beside_a_table_is_guarded_as_the_table_is(tmp_path):
    movie = {"pixel_nm": 100.0, "shape": (8, 8), "frames": 4}
    (tmp_path / "a.yaml").write_text("my recipe")
    with pytest.raises(DatasetError, match="--force"):
        write_localizations(tmp_path / "a.hdf5", FOUND, format="picasso", **movie)
    assert [path.name for path in tmp_path.iterdir()] == ["a.yaml"]
    write_localizations(tmp_path / "a.hdf5", FOUND, format="picasso", force=True, **movie)
    assert "Pixelsize: 100" in (tmp_path / "a.yaml").read_text()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.hdf5", "a.yaml"]


@pytest.mark.parametrize("name", ["thunderstorm", "picasso", "smap", "decode", "challenge"])
def test_tables_of_other_software_are_imaged_where_their_molecules_are(tmp_path, name):
    height, width = 3, 5
    molecule = {"frame": 7, "x_nm": 330.0, "y_nm": 120.0, "z_nm": 0.0, "photons": 9.0}
    one = {key: np.array([value]) for key, value in molecule.items()}
    path = tmp_path / f"table{tables.FORMATS[name].suffixes[0]}"
    movie = {"pixel_nm": 100.0, "shape": (height, width), "frames": 8}
    tables.write(path, one, format=name, **movie)
    recipe = load_recipe("smlm-2d-dense").written()
    recipe["structure"] = {"kind": "table", "path": str(path)}
    placed = place(ss.Recipe.from_dict(recipe), Key(1), np.arange(2), {})
    assert placed.x_nm == pytest.approx([330, 330], abs=1e-3)
    assert placed.y_nm == pytest.approx([120, 120], abs=1e-3)


def test_a_recipe_reads_no_file_beside_its_table(tmp_path):
    write_localizations(
        tmp_path / "a.hdf5", FOUND, format="picasso", pixel_nm=100.0, shape=(8, 8), frames=4
    )
    with h5py.File(tmp_path / "a.hdf5", "r+") as file:
        del file["metadata"]  # as before picasso 0.11: the pixel stands in the YAML file alone
    assert read_positions(tmp_path / "a.hdf5")[0, 0] == pytest.approx(101.5, abs=1e-3)
    recipe = load_recipe("smlm-2d-dense").written()
    recipe["structure"] = {"kind": "table", "path": str(tmp_path / "a.hdf5")}
    with pytest.raises(TableError, match="give pixel_nm"):
        place(ss.Recipe.from_dict(recipe), Key(1), np.arange(1), {})
    recipe["structure"]["pixel_nm"] = 100
    placed = place(ss.Recipe.from_dict(recipe), Key(1), np.arange(1), {})
    assert placed.x_nm[0] == pytest.approx(101.5, abs=1e-3)


def test_localize_writes_the_format_asked_for_with_the_movie_of_the_data(tmp_path, monkeypatch):
    pytest.importorskip("torch", reason="localising needs PyTorch")
    from simscope import learn

    monkeypatch.setenv("SIMSCOPE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(learn, "load", lambda run: run)
    monkeypatch.setattr(learn, "localize", lambda *_, **__: FOUND)
    ss.generate(snapshot(), 4, 7, tmp_path / "data.h5")
    words = ("localize", tmp_path / "run", tmp_path / "data.h5", "--out", tmp_path / "found.hdf5")
    result = run(*words, "--format", "picasso")
    assert result.exit_code == 0, result.output
    with h5py.File(tmp_path / "found.hdf5") as file:
        assert json.loads(file["metadata"][()])[0]["Frames"] == 4
    assert read_localizations(tmp_path / "found.hdf5")["frame"].tolist() == [0, 3]
    result = run(*words, "--format", "picaso", "--force")
    assert result.exit_code == 2
    assert "did you mean 'picasso'" in " ".join(result.output.split())
