"""DeepSTORM3D: a training folder of single images, labels and the parameters of its set-up.

Its ``GenerateTrainingExamples.py`` writes ``im0.tiff, im1.tiff, ...`` (float32), and two pickles:
``labels.pickle``, a dictionary of ``"0", "1", ...`` to positions ``(1, emitters, 3)`` in um, and
``setup_params.pickle`` with optics, grid and ``partition``, which training opens
(``Training_Localization_Model.py``, ``data_utils.py``). A pickle runs what it holds, so none is
written: ``labels.npz`` and ``setup_params.json`` hold the same, and ``ABOUT.txt`` has the lines of
Python that turn them into pickles on the user's machine. Where 0 lies, and which labels the loader
can place, stands in ``simscope.tables.deepstorm3d``. Source: Nehme et al., Nat. Methods 17, 734
(2020).
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from simscope.dataset.export.frames import Columns, Frames
from simscope.errors import DatasetError
from simscope.tables import deepstorm3d as conventions

VALID_SHARE = 0.1
"""Share of the frames, the last ones, named for validation; its scripts have 1000 of 10,000."""

PLANE_NM = 100 / 3
"""Height of a voxel, about: its scripts divide 4 um into 121."""

CONVENTION = """\
im0.tiff, im1.tiff, ...: camera counts [ADU], float32, rows along y, sides odd
labels.npz: one array (1, emitters, 3) a frame, x, y, z in um; x along columns and y along rows from
the centre of the middle pixel, z above the coverslip
setup_params.json: optics, grid, partition and statistics; settings of the training (batch_size,
max_epochs, scaling_factor, dilation_flag, device, paths) are yours to add

Its loader wants pickles. Make them where you train, in this folder:

    import json, pickle
    import numpy as np
    with np.load("labels.npz") as labels:
        pickle.dump({name: labels[name] for name in labels}, open("labels.pickle", "wb"))
    pickle.dump(json.load(open("setup_params.json")), open("setup_params.pickle", "wb"))
"""


def write(frames: Frames, folder: Path) -> list[str]:
    """Write the export; returns what the user must know besides the convention.

    Raises
    ------
    DatasetError
        If a side of the frames is even, or the dataset has no two frames.
    """
    if frames.count < 2:
        raise DatasetError("deepstorm3d parts frames for training and validation: export 2 or more")
    z_um = height_range_um(frames)
    labels, lost = _labels(frames, z_um)
    np.savez(folder / "labels.npz", allow_pickle=False, **labels)
    mean, std = _write_images(frames, folder)
    settings = setup_params(frames, z_um) | {"train_stats": [mean, std]}
    (folder / "setup_params.json").write_text(json.dumps(settings, indent=1) + "\n", "utf8")
    if not lost:
        return []
    return [f"{lost} emitters within half a pixel of the first row or column have no label, as the "
            "loader's grid has no voxel for them"]  # fmt: skip


def height_range_um(frames: Frames) -> tuple[float, float]:
    """``zmin`` and ``zmax`` [um]: whole tenths that hold all emitters, 10 nm from the ends."""
    heights = frames.emitters["z_nm"]
    lowest, highest = (heights.min(), heights.max()) if len(heights) else (0.0, 0.0)
    return math.floor((lowest - 10) / 100) / 10, math.ceil((highest + 10) / 100) / 10


def _labels(
    frames: Frames, z_um: tuple[float, float]
) -> tuple[dict[str, npt.NDArray[np.float64]], int]:
    """Labels by the frame's number, and how many emitters fall off the loader's grid."""
    columns = frames.emitters
    ends = np.searchsorted(columns["frame"], np.arange(frames.count + 1))
    labels, lost = {}, 0
    for number in range(frames.count):
        rows: Columns = {name: values[ends[number] : ends[number + 1]]
                         for name, values in columns.items()}  # fmt: skip
        placed = conventions.labels_um(rows, frames.shape, frames.pixel_nm)
        inside = conventions.on_grid(placed, frames.shape, frames.pixel_nm, z_um)
        labels[str(number)] = placed[:, inside]
        lost += int(np.count_nonzero(~inside))
    return labels, lost


def _write_images(frames: Frames, folder: Path) -> tuple[float, float]:
    """Write all images; mean and standard deviation of a pixel [ADU]."""
    import tifffile

    total = squares = 0.0
    for number, image in enumerate(frames.images()):
        tifffile.imwrite(
            folder / f"im{number}.tiff", image.astype(np.float32), photometric="minisblack",
            software="simscope",
        )  # fmt: skip
        exact = image.astype(np.float64)
        total += float(exact.sum())
        squares += float((exact * exact).sum())
    pixels = frames.count * math.prod(frames.shape)
    mean = total / pixels
    return mean, math.sqrt(max(0.0, squares / pixels - mean * mean))


def setup_params(frames: Frames, z_um: tuple[float, float]) -> dict[str, Any]:
    """What the data say of DeepSTORM3D's ``setup_params``, lengths in um."""
    recipe = frames.recipe

    def number(path: str) -> float:
        return frames.mean(path) or 0.0

    height, width = frames.shape
    pixel_um = 1e-3 * frames.pixel_nm
    range_um = z_um[1] - z_um[0]
    planes = max(1, round(1e3 * range_um / PLANE_NM))
    valid = max(1, round(VALID_SHARE * frames.count))
    numbers = [str(number) for number in range(frames.count)]
    return {
        "learn_mask": False,
        "H": height, "W": width, "D": planes,
        "zmin": z_um[0], "zmax": z_um[1], "axial_range": range_um,
        "pixel_size_axial": range_um / planes,
        "pixel_size_FOV": pixel_um,
        "pixel_size_rec": pixel_um / conventions.UPSAMPLING,
        "pixel_size_CCD": recipe.camera.pixel_pitch_um, "M": recipe.optics.magnification,
        "lamda": 1e-3 * number("optics.wavelength_nm"), "NA": number("optics.na"),
        "noil": number("optics.n_immersion"), "nwater": number("optics.n_sample"),
        "NFP": 1e-3 * number("acquisition.focus_nm"),
        "project_01": False, "global_factors": [0.0, 1.0],
        "batch_size_gen": 1,
        "ntrain": frames.count - valid, "ntrain_batches": frames.count - valid,
        "nvalid": valid, "nvalid_batches": valid,
        "partition": {"train": numbers[:-valid], "valid": numbers[-valid:]},
    }  # fmt: skip
