"""ThunderSTORM's CSV: nm from the outer corner of the first pixel, frames counted from 1.

``x`` runs along columns and ``y`` along rows, as here. ThunderSTORM adds half a pixel to a fit that
counts from the centre of the first pixel (``MultipleLocationsImageFitting.java``), so its origin is
the corner; frames start with 1 (``DLMImportExport.java`` adds the first frame less one). Heights
keep the sign of the user's calibration and are passed on as they are. A header names each
column's unit; lengths in um or px are converted, photons in another unit keep their own name.
DeepSTORM3D writes its results in this layout.

Written are the eight columns that readers look for, for three dimensions with ``z [nm]`` and two
widths; what is not known is written NaN. Uncertainties follow where they are known.
Source: Ovesny et al., Bioinformatics 30, 2389 (2014).
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from simscope.errors import TableError
from simscope.tables import text
from simscope.tables.columns import Columns, Imaging, frames_from_one
from simscope.tables.peek import Peek

LENGTHS = {
    "x": "x_nm",
    "y": "y_nm",
    "z": "z_nm",
    "sigma": "sigma_nm",
    "sigma1": "sigma_x_nm",
    "sigma2": "sigma_y_nm",
    "uncertainty": "uncertainty_nm",
    "uncertainty_xy": "uncertainty_nm",
    "uncertainty_z": "uncertainty_z_nm",
}
LIGHT = {"intensity": "photons", "offset": "background", "bkgstd": "background_std"}
NM = {"nm": 1.0, "um": 1000.0, "\u00b5m": 1000.0, "\u03bcm": 1000.0}
FLAT = ("sigma [nm]",)
DEEP = ("sigma1 [nm]", "sigma2 [nm]")
SOURCES = {
    "x [nm]": ("x_nm",),
    "y [nm]": ("y_nm",),
    "z [nm]": ("z_nm",),
    "sigma [nm]": ("sigma_nm", "sigma_x_nm"),
    "sigma1 [nm]": ("sigma_x_nm", "sigma_nm"),
    "sigma2 [nm]": ("sigma_y_nm", "sigma_nm"),
    "intensity [photon]": ("photons",),
    "offset [photon]": ("background",),
    "bkgstd [photon]": ("background_std",),
    "uncertainty_xy [nm]": ("uncertainty_nm",),
    "uncertainty_z [nm]": ("uncertainty_z_nm",),
}
IF_KNOWN = ("uncertainty_xy [nm]", "uncertainty_z [nm]")
_WITH_UNIT = re.compile(r"(.+?)\s*\[(.*)\]")


def claims(peek: Peek) -> bool:
    """Whether the header is one of these: x and y with a unit in brackets."""
    found = {match[1] for match in map(_WITH_UNIT.fullmatch, peek.names) if match}
    return peek.kind == "text" and {"x", "y"} <= found


def read(path: Path, imaging: Imaging, peek: Peek) -> Columns:
    """Columns in simscope's convention."""
    columns: Columns = {}
    for label, values in text.read_columns(path).items():
        name, factor = _meaning(label, path, imaging)
        if name in columns:
            raise TableError(f"{path} gives {name} twice, once as {label!r}: remove one")
        columns[name] = values * factor if factor != 1 else values
    if "frame" in columns:
        columns["frame"] = frames_from_one(columns["frame"], str(path))
    return columns


def _meaning(label: str, path: Path, imaging: Imaging) -> tuple[str, float]:
    """simscope's name of a column and the factor to its unit."""
    match = _WITH_UNIT.fullmatch(label)
    name, unit = (match[1], match[2].strip()) if match else (label, "")
    if name in LIGHT and unit in ("photon", "photons"):
        return LIGHT[name], 1.0
    if name in LENGTHS and unit == "px":
        return LENGTHS[name], imaging.require_pixel(f"{path}: {label}")
    if name in LENGTHS and unit in NM:
        return LENGTHS[name], NM[unit]
    if name in ("x", "y", "z"):
        raise TableError(f"{path} has {label!r}, a unit not known here: give nm, um or px")
    return label, 1.0


def write(path: Path, columns: Columns, imaging: Imaging, suffix: str) -> None:
    """Write a ``.csv`` table."""
    deep = "z_nm" in columns
    names = ["x [nm]", "y [nm]", *(("z [nm]", *DEEP) if deep else FLAT)]
    names += ["intensity [photon]", "offset [photon]", "bkgstd [photon]"]
    names += [name for name in IF_KNOWN if SOURCES[name][0] in columns]
    rows = len(columns["x_nm"])
    ids = columns.get("id", np.arange(1, rows + 1))
    values = [ids, columns["frame"] + 1]
    formats = ["%d", "%d"]
    for name in names:
        source = next((source for source in SOURCES[name] if source in columns), None)
        formats.append("NaN" if source is None else "%.3f")
        values += [] if source is None else [columns[source]]
    head = ",".join(f'"{name}"' for name in ("id", "frame", *names))
    text.write_rows(path, head, formats, values)
