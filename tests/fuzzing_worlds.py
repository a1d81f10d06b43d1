"""What fuzzing.py spoils: datasets, folders of runs, recipes, tables and calibrations.

A world's ``look`` is given a folder; once it was made it knows what is meant to be there.
"""

import contextlib
import json
import warnings
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import h5py
import numpy as np
from fuzzing import HDF5, HEADED, TEXT
from small_worlds import SMALL, movie, snapshot
from typer.testing import CliRunner

import simscope as ss
from simscope import tables
from simscope.cli import app
from simscope.dataset import describe
from simscope.dataset.columns import set_text
from simscope.errors import SimscopeError
from simscope.recipe import Recipe

SEED = 7
CLI = CliRunner()


@dataclass
class World:
    """Good files, by ``make``, those that are spoilt with the kinds of doing so, and a look."""

    name: str
    make: Callable[[Path], None]
    spoilt: list
    looker: Callable[..., str]
    meant: dict = field(default_factory=dict)

    def look(self, folder):
        """What becomes of the files in a folder; the first time they are the good ones."""
        return self.looker(folder, meant=self.meant)


def read_all(path):
    """Every array and text that simscope reads of a dataset, as bytes."""
    with ss.open_dataset(path) as data:
        batch = data.batch(0, len(data))
        maps = data.camera_maps
        found = {
            "images": batch.images, "emitters": batch.emitters, "offsets": batch.emitter_offsets,
            "one image": data[len(data) - 1].image, "one frame": data.frame(data.frames_per_sample),
            "maps": np.array([maps.gain, maps.offset_adu, maps.read_noise]),
            "picked": data.pick([1, 0]).images,
        }  # fmt: skip
        if batch.expected_photons is not None:
            found["expected"] = batch.expected_photons
        found |= {f"target {name}": data.target(name)[:] for name in data.target_names}
        found |= {f"drawn {name}": values for name, values in batch.parameters.items()}
        arrays = {name: (array.shape, str(array.dtype), array.tobytes())
                  for name, array in found.items()}  # fmt: skip
        return arrays | {
            "recipe": data.recipe.sha256, "seed": data.seed, "pixel": data.pixel_nm,
            "axes": data.sample_axes, "units": data.parameter_units,
            "saturated": data.saturated_pixels, "codec": data.codec, "inputs": data.inputs,
            "report": data.report, "warnings": data.warnings, "software": data.software,
            "settings": data.target_settings, "sums": data.arrays_sha256,
        }  # fmt: skip


def command(*arguments):
    """Exit code of a command in this process; AssertionError if it shows anything but an error."""
    result = CLI.invoke(app, [str(one) for one in arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code in (0, 1, 2), result.exit_code
    if result.exit_code == 2:
        assert result.stderr.count("simscope: ") == 1, result.stderr
        assert "Traceback" not in result.output + result.stderr
    return result.exit_code


def look_at_dataset(folder, *, meant):
    """Read everything, and ask the commands."""
    path = folder / "data.h5"
    try:
        found = read_all(path)
    except SimscopeError:
        found = None
    other = sorted(name for name in meant if found and found.get(name) != meant[name])
    if found == meant and zlib.crc32(path.read_bytes()) % 8:  # the commands take their time
        return "same"
    asked = [command("info", path, "--tree"), command("verify", path, "--samples", 1)]
    if not meant:
        assert asked == [0, 0]
        assert found
        meant |= found
    if found is None:
        assert asked[1] in (1, 2), "verify finds nothing of what reading refuses"
        return "refused"
    return f"{'told' if asked[1] else 'wrong'}: {', '.join(other)}" if other else "same"


def dataset_world(name, spoilt, recipe, samples=4, **making):
    """A world with a dataset."""

    def make(folder):
        ss.generate(recipe(), samples, SEED, folder / "data.h5", **making)

    return World(name, make, spoilt, look_at_dataset)


def structured(function):
    """Mark a mutation that is given a path and opens the file itself."""
    function.structured = True
    return function


@structured
def other_attribute(path, chance):
    """An attribute of the root or of an array gone, of another kind, or odd."""
    with h5py.File(path, "r+") as file:
        items = [file]
        file.visititems(
            lambda _, node: items.append(node) if isinstance(node, h5py.Dataset) else None
        )
        item = chance.choice([file, chance.choice(items)])
        name = chance.choice(sorted(item.attrs))
        if chance.random() < 0.2:
            del item.attrs[name]
            return
        if chance.random() < 0.5:
            set_text(item, name, chance.choice(ODD_STRINGS))
        else:
            item.attrs[name] = chance.choice(ODD_VALUES)


ODD_STRINGS = (
    "", "{}", "[]", "null", "0", "[" * 9000, '{"a": 1e999}', "NaN", '"text"', "\u202e\x1b[31m",
    '{"name": "x"}', "9" * 5000, "[1, 2]", '{"images": 5}', "../x",
)  # fmt: skip
ODD_VALUES = (
    0, -1, 1, 2**62, -(2**63), np.uint64(2**64 - 1), np.nan, np.inf, -0.5, True, "varying",
    b"bytes", b"\xff\xfe", np.zeros(3), np.zeros((2, 2), "u1"), h5py.Empty("f"), h5py.Empty("S4"),
    np.array(["a", "b"], "S1"), 1j, np.float16(2), np.array((1, 2.0), "i4,f8"),
)  # fmt: skip


@structured
def other_array(path, chance):
    """An array gone, renamed, of another type or shape, or with another value in it."""
    with h5py.File(path, "r+") as file:
        names = []
        file.visititems(
            lambda name, node: names.append(name) if isinstance(node, h5py.Dataset) else None
        )
        name = chance.choice(names)
        match chance.randrange(6):
            case 0:
                del file[name]
            case 1:
                file.move(name, f"{name}_")
            case 2:
                other = chance.choice(names)
                if other != name:
                    file.move(name, "kept")
                    file.move(other, name)
                    file.move("kept", other)
            case 3:
                replace_array(file, name, chance)
            case 4:
                if file[name].size and not file[name].is_virtual:
                    one_value(file[name], chance)
            case 5:
                del file[name]
                file[name] = chance.choice([
                    h5py.SoftLink("/images"), h5py.SoftLink(f"/{name}"), h5py.SoftLink("/"),
                    h5py.ExternalLink("/etc/passwd", "/"), h5py.ExternalLink("data.h5", name),
                    file["/"], file["emitters"],
                ])  # fmt: skip


def replace_array(file, name, chance):
    """Something else where an array was."""
    values = file[name][()] if not file[name].is_virtual else np.zeros(3)
    del file[name]
    match chance.randrange(7):
        case 0:
            file[name] = values.astype(chance.choice(["u1", ">i4", "f8", "f2", "c8", "S3", "?"]))
        case 1:
            file[name] = values[..., None]
        case 2:
            file[name] = values[: chance.randrange(max(1, len(values)))]
        case 3:
            file.create_dataset(name, (10**6, 10**6, 1000), "u2", chunks=(1, 10**4, 100))
        case 4:
            file[name] = ["text"] * 3
        case 5:
            file[name] = h5py.Empty("f4")
        case 6:
            file.create_dataset(
                name, values.shape, values.dtype, external=[("/etc/passwd", 0, 4096)]
            )


def one_value(array, chance):
    """Another value in one place of an array."""
    values = array[()]
    flat = values.reshape(-1)
    place = chance.randrange(values.size)
    if values.dtype.kind == "S":
        flat[place] = chance.choice([b"", b"../x.h5", b"/etc/passwd", b"\xff\xfe", b"[", b"{}"])
    elif values.dtype.kind == "f":
        flat[place] = chance.choice([np.nan, np.inf, -1, 0, 1e30, flat[place] + 1])
    else:
        info = np.iinfo(values.dtype)
        flat[place] = chance.choice([info.max, info.min, 0, 1, flat[place] ^ 1])
    array[...] = values


OF_HDF5 = (*HDF5, *HDF5, other_attribute, other_attribute, other_array, other_array)


def look_at_run(folder, *, meant):
    """Say how far a run is and go on with it: one clear error, or the same bytes as ever."""
    path, run = folder / "data.h5", folder / "data"
    for asked in (run, path):
        with contextlib.suppress(SimscopeError):
            describe(asked)
    command("info", run)
    try:
        ss.generate(snapshot(), 4, SEED, path, samples_per_shard=2)
    except SimscopeError:
        if not meant:
            raise
        return "refused"
    found = {one.name: one.read_bytes() for one in (path, *sorted(run.glob("*.h5")))}
    if not meant:
        meant |= found
    return (
        "same"
        if found == meant
        else "wrong: " + ", ".join(name for name in meant if found.get(name) != meant[name])
    )


def make_run(folder):
    """A run of two shards of which one is there, and what a dead process left."""
    ss.generate(snapshot(), 4, SEED, folder / "data.h5", samples_per_shard=2)
    for name in ("data.h5", "data/shard-00001.h5", "data/shard-00001.json"):
        (folder / name).unlink()
    (folder / "data" / "shard-00001.h5.elsewhere-1-abcd.part").write_bytes(b"half a shard")


RECIPE = SMALL | {
    "photophysics": {
        "kind": "blinking", "photons_per_s": {"gamma": [4, 20000]}, "on_to_off_per_s": 20,
        "off_to_on_per_s": {"loguniform": [1, 2]},
    },
    "optics": SMALL["optics"] | {
        "mask": {"kind": "file", "path": "mask.npy", "na_per_pixel": 0.1},
        "wavefront": {"coefficients_nm": {"4": {"normal": [0, 20]}, "6": 10}, "indexing": "osa"},
    },
}  # fmt: skip


def make_recipe(folder):
    """A recipe with most kinds of things in it."""
    (folder / "recipe.yaml").write_text(Recipe.from_dict(RECIPE).to_yaml())
    np.save(folder / "mask.npy", np.zeros((32, 32)))


def look_at_recipe(folder, *, meant):
    """Load a recipe and ask the commands."""
    path = folder / "recipe.yaml"
    asked = command("describe" if "describe" in COMMANDS else "check", path)
    try:
        recipe = ss.load_recipe(path)
    except SimscopeError:
        assert asked == 2
        return "refused"
    assert Recipe.from_yaml(recipe.to_yaml()) == recipe
    return "same"


COMMANDS = {one.name or one.callback.__name__ for one in app.registered_commands}
ROWS = {
    "frame": np.repeat(4, 20), "x_nm": np.repeat(1234.5, 20), "y_nm": np.repeat(678.9, 20),
    "z_nm": np.repeat(-321.0, 20), "photons": np.repeat(1500.0, 20),
}  # fmt: skip
TABLES = [
    (f"table{number}{suffix}", name, suffix)
    for number, (name, suffix) in enumerate(
        (name, suffix) for name, entry in tables.FORMATS.items() for suffix in entry.suffixes
    )
]


def make_tables(folder):
    """A table of every software."""
    for file, name, _ in TABLES:
        tables.write(folder / file, ROWS, format=name, pixel_nm=100.0, shape=(48, 64), frames=10)


def look_at_tables(folder, *, meant):
    """Read the tables that are not as they were: each is a table, or one clear error."""
    outcome = "same"
    for file in unlike(folder, meant, [file for file, *_ in TABLES]):
        stated = (folder / file).with_suffix(".yaml").exists()
        try:
            found = tables.read(folder / file, **({} if stated else {"pixel_nm": 100.0}))
        except SimscopeError:
            outcome = "refused"
            continue
        assert {"x_nm", "y_nm"} <= set(found)
        assert np.isfinite(found["x_nm"]).all()
    return outcome


def unlike(folder, meant, names):
    """Names of the files that are not as they were the first time, when it is all."""
    content = {name: (folder / name).read_bytes() for name in names}
    found = [name for name in names if content[name] != meant.get(name)]
    for name in names:
        meant.setdefault(name, content[name])
    return found


def kinds_of_table(suffix):
    """How a table is spoilt."""
    return {".h5": HDF5, ".hdf5": HDF5, ".csv": TEXT, ".txt": TEXT}.get(suffix, HEADED)


def make_inputs(folder):
    """Files that recipes read: calibrations, masks, volumes, labels, camera maps."""
    import tifffile
    from scipy.io import savemat

    _, y, x = np.indices((9, 11, 11)) - 5
    spot = (1000 * np.exp(-(x**2 + y**2) / 8) + 1).astype(np.float32)
    powers = np.zeros((6, 6, 5, 64), np.float32)
    powers[..., 0] = 1
    spline = {"coeff": powers, "dz": 50.0, "z0": 3.0, "x0": 4.0}
    savemat(folder / "cal_3dcal.mat", {"SXY": {"cspline": spline}})
    savemat(folder / "packed_3dcal.mat", {"SXY": {"cspline": spline}}, do_compression=True)
    with h5py.File(folder / "new_3dcal.mat", "w", userblock_size=512) as file:
        group = file.create_group("SXY/cspline")
        for name, value in spline.items():
            group[name] = np.asarray(value).T
    with (folder / "new_3dcal.mat").open("r+b") as file:
        file.write(b"MATLAB 7.3 MAT-file".ljust(124) + b"\x00\x02IM")
    with h5py.File(folder / "uipsf.h5", "w") as file:
        file["res/I_model"] = spot
        file.attrs["params"] = json.dumps({"pixel_size": {"x": 0.1, "y": 0.1, "z": 0.05}})
    tifffile.imwrite(folder / "stack.tif", spot)
    tifffile.imwrite(folder / "volume.ome.tif", spot.astype("u2"), metadata={"axes": "ZYX"})
    tifffile.imwrite(folder / "labels.tif", (spot > 300).astype("u1"), compression="zlib")
    np.save(folder / "stack.npy", spot)
    savemat(folder / "mask.mat", {"mask": np.zeros((16, 16))}, do_compression=True)
    flat = np.ones((24, 20))
    np.savez_compressed(folder / "maps.npz", gain=flat, offset_adu=flat, read_noise_e=flat)


MEASURED = {
    "pixel_nm": 100.0, "dz_nm": 50.0, "z_axis": "focus", "axes": "yx", "centre_px": "middle",
    "centre_plane": "middle",
}  # fmt: skip


def look_at_calibration(path):
    """A calibration, by its ending."""
    from simscope.optics.measured_files import load_calibration
    from simscope.recipe.measured import MeasuredPsf

    known = MEASURED | ({"background": "minimum"} if "cal" not in path.name else {})
    made = load_calibration(MeasuredPsf(path=str(path), **known))
    assert np.isfinite(made.volume.plane(1.0)).all()


def look_at_volume(path):
    """A stack of voxels."""
    from simscope.sample.volume_files import read_stack

    read_stack(path)


def look_at_mask(path):
    """A mask of MATLAB's."""
    from simscope.optics.arrays import read_mat

    read_mat(path, None, "mask", "mask")


def look_at_maps(path):
    """Maps of a camera."""
    from simscope.camera.maps import _read_npz

    _read_npz(path)


INPUTS = {
    "cal_3dcal.mat": (HEADED, look_at_calibration),
    "packed_3dcal.mat": (HEADED, look_at_calibration),
    "new_3dcal.mat": (HDF5, look_at_calibration),
    "uipsf.h5": (HDF5, look_at_calibration),
    "stack.tif": (HEADED, look_at_calibration),
    "stack.npy": (HEADED, look_at_calibration),
    "volume.ome.tif": (HEADED, look_at_volume),
    "labels.tif": (HEADED, look_at_volume),
    "mask.mat": (HEADED, look_at_mask),
    "maps.npz": (HEADED, look_at_maps),
}


def look_at_inputs(folder, *, meant):
    """Read the files that recipes name: numbers, or one clear error."""
    outcome = "same"
    for name in unlike(folder, meant, INPUTS):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                INPUTS[name][1](folder / name)
        except SimscopeError:
            outcome = "refused"
    return outcome


DATA = [("data.h5", OF_HDF5)]
SHARDS = [*DATA * 2, *((f"data/shard-0000{number}.h5", OF_HDF5) for number in range(2))]
NOTES = [(f"data/{name}", TEXT) for name in ("run.json", "shard-00000.json")]
WORLDS = {
    world.name: world
    for world in (
        dataset_world("single", DATA, snapshot, expected=True, targets=("density", "voxels")),
        dataset_world("plain", DATA, movie, samples=2, codec="none"),
        dataset_world("fast", DATA, snapshot, codec="fast"),
        dataset_world("shards", SHARDS, snapshot, samples_per_shard=2, targets=("density",)),
        World("run", make_run, NOTES, look_at_run),
        World("recipe", make_recipe, [("recipe.yaml", TEXT)], look_at_recipe),
        World(
            "tables", make_tables, [(file, kinds_of_table(suffix)) for file, _, suffix in TABLES],
            look_at_tables,
        ),
        World(
            "inputs", make_inputs, [(name, kinds) for name, (kinds, _) in INPUTS.items()],
            look_at_inputs,
        ),
    )
}  # fmt: skip


def make(name, folder):
    """The good files of a world in a new folder, whose path is returned."""
    good = Path(folder) / name
    good.mkdir(parents=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        WORLDS[name].make(good)
    return good
