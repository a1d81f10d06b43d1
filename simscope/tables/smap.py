"""SMAP's ``_sml.mat`` and CSV: nm, the chip's first pixel centred at one pixel, frames from 1.

``saveloc.loc`` holds ``xnm, ynm, znm, frame, phot, bg, locprecnm, PSFxnm, ...``, each a column;
``xnm`` runs along columns and ``ynm`` along rows. A fit gives its place from the peak's index,
which MATLAB counts from 1 (``MLE_GPU_Yiming.m``, ``fit2locs``), and nm are that index plus the
first pixel of the camera's region, ``roi``, times the pixel. The movie's first pixel is therefore
centred at ``(roi + 1)`` pixels, half a pixel more than here. ``znm`` is a height, as SMAP
turns the sign of its spline's planes. ``saveloc.file.info`` states ``cam_pixelsize_um`` and
``roi``. SMAP saves MATLAB 7.3 files, which are HDF5, and older MATLAB files; the latter are
written, as MATLAB itself would with ``-v7``. SMAP's CSV (``export_coordinates.m``) has the same
columns and states no pixel.

SMAP needs ``locprecnm`` and leaves out rows where it is above 250 nm; where it is not known 0 is
written. Source: Ries, Nat. Methods 17, 870 (2020).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from simscope.errors import TableError
from simscope.tables import hdf5, matlab, text
from simscope.tables.columns import Columns, Imaging, frames_from_one
from simscope.tables.peek import Peek

NAMES = {
    "frame": "frame",
    "xnm": "x_nm",
    "ynm": "y_nm",
    "znm": "z_nm",
    "phot": "photons",
    "bg": "background",
    "locprecnm": "uncertainty_nm",
    "locprecznm": "uncertainty_z_nm",
    "PSFxnm": "sigma_x_nm",
    "PSFynm": "sigma_y_nm",
}
CSV_NAMES = ("xnm", "ynm", "znm", "frame", "locprecnm", "phot", "bg")
INFO = ("cam_pixelsize_um", "roi")
MAT_HEADER = b"MATLAB 5.0 MAT-file, written by simscope".ljust(116)


def claims(peek: Peek) -> bool:
    """Whether the file is SMAP's: MATLAB with ``saveloc``, or CSV with its names."""
    if peek.kind == "text":
        return {"xnm", "ynm"} <= set(peek.names)
    return peek.kind == "mat" or "saveloc" in peek.names


def read(path: Path, imaging: Imaging, peek: Peek) -> Columns:
    """Columns in simscope's convention."""
    readers = {"text": _read_csv, "hdf5": _read_hdf5, "mat": _read_mat}
    loc, info = readers[peek.kind](path)
    _require_one_movie(path, loc)
    columns = {NAMES[name]: values for name, values in loc.items() if name in NAMES}
    if "frame" in columns:
        columns["frame"] = frames_from_one(columns["frame"], str(path))
    pixels = _pixels(path, imaging, info.get("cam_pixelsize_um"))
    corner = np.resize(info.get("roi", np.zeros(2)), 2)
    for axis, size, first in zip("xy", pixels, corner, strict=True):
        if f"{axis}_nm" in columns:
            columns[f"{axis}_nm"] = columns[f"{axis}_nm"] - (first + 0.5) * size
    return columns


def _pixels(path: Path, imaging: Imaging, stated_um: Any) -> list[float]:
    """Pixels along x and y [nm], from one or two numbers in the file or as given."""
    if stated_um is None:
        return [imaging.require_pixel(str(path))] * 2
    return [imaging.agreed_pixel(str(path), float(size) * 1e3) for size in np.resize(stated_um, 2)]


def _require_one_movie(path: Path, loc: Columns) -> None:
    files = np.unique(loc["filenumber"]) if "filenumber" in loc else ()
    if len(files) > 1:
        raise TableError(
            f"{path} holds the emitters of {len(files)} movies, whose frames would mix: save each "
            "on its own"
        )


def _read_csv(path: Path) -> tuple[Columns, Columns]:
    return text.read_columns(path), {}


def _read_hdf5(path: Path) -> tuple[Columns, Columns]:
    with hdf5.opened(path) as file:
        saveloc = file["saveloc"]
        loc: Any = saveloc.get("loc") if hdf5.is_group(saveloc) else None
        if not hdf5.is_group(loc):
            raise TableError(f"{path} has no saveloc.loc: is it SMAP's?")
        wanted = {name: loc[name] for name in (*NAMES, "filenumber") if name in loc}
        columns = {name: hdf5.numbers(path, item).ravel() for name, item in wanted.items()}
        info = _followed(file, _followed(file, saveloc, "file"), "info")
        stated = {name: _followed(file, info, name) for name in INFO}
        return columns, {
            name: _vector(hdf5.numbers(path, item), name, path)
            for name, item in stated.items()
            if hdf5.is_array(item)
        }


def _followed(file: Any, item: Any, name: str | None = None) -> Any:
    """A field of a MATLAB struct; of an array of structs or references, the first's."""
    if name is not None:
        item = item.get(name) if hdf5.is_group(item) else None
    for _ in range(2):  # an array of references to structs, each a reference
        if getattr(item, "dtype", None) is not None and item.dtype.kind == "O" and item.size:
            item = file[np.ravel(item[()])[0]]
    return item


def _read_mat(path: Path) -> tuple[Columns, Columns]:
    saveloc = matlab.read_struct(path, "saveloc")
    loc = _field(saveloc, "loc")
    if not isinstance(loc, dict):
        raise TableError(f"{path} has no saveloc.loc: is it SMAP's?")
    columns = {name: loc[name] for name in (*NAMES, "filenumber") if loc.get(name) is not None}
    info = _field(_field(saveloc, "file"), "info")
    stated = {name: _field(info, name) for name in INFO}
    return columns, {
        name: _vector(values, name, path) for name, values in stated.items() if values is not None
    }


def _field(struct: Any, name: str) -> Any:
    return struct.get(name) if isinstance(struct, dict) else None


def _vector(values: Any, name: str, path: Path) -> Any:
    values = np.atleast_1d(values).ravel()
    if values.dtype.kind not in "fiu" or not len(values) or not np.isfinite(values).all():
        raise TableError(f"{path}: {name} is no row of numbers: correct saveloc.file.info")
    return values.astype(np.float64)[:2]


def write(path: Path, columns: Columns, imaging: Imaging, suffix: str) -> None:
    """Write ``.mat`` or ``.csv``; what is not known and SMAP needs is 0."""
    pixel = imaging.require_pixel("SMAP's table")
    loc = {name: columns[ours] for name, ours in NAMES.items() if ours in columns}
    loc["frame"] = columns["frame"] + 1
    for axis in "xy":
        loc[f"{axis}nm"] = columns[f"{axis}_nm"] + 0.5 * pixel
    if "sigma_nm" in columns:
        loc["PSFxnm"] = columns["sigma_nm"]
    for name in ("phot", "bg", "locprecnm"):
        loc.setdefault(name, np.zeros(len(loc["xnm"])))
    if suffix == ".csv":
        names = [name for name in CSV_NAMES if name in loc]
        formats = ["%d" if name == "frame" else "%.3f" for name in names]
        text.write_rows(path, ",".join(names), formats, [loc[name] for name in names])
    else:
        _write_mat(path, loc, imaging, pixel)


def _write_mat(path: Path, loc: Columns, imaging: Imaging, pixel: float) -> None:
    """One file of version 5 without the time that scipy puts into its header."""
    from scipy.io import savemat

    rows = len(loc["xnm"])
    loc |= {"filenumber": np.ones(rows), "channel": np.zeros(rows)}
    height, width = imaging.shape or (0, 0)
    if imaging.shape is None and rows:
        height, width = (int(np.ceil(loc[name].max() / pixel)) for name in ("ynm", "xnm"))
    info = {
        "Width": float(width),
        "Height": float(height),
        "roi": np.array([[0.0, 0.0, width, height]]),
        "cam_pixelsize_um": np.array([[pixel, pixel]]) * 1e-3,
        "numberOfFrames": float(imaging.frames or (loc["frame"].max() if rows else 0)),
    }
    tif = {"image": np.empty((0, 0)), "info": np.empty((0, 0))}
    about = {"name": "simscope", "number": 1.0, "numberOfTif": 0.0, "tif": tif, "info": info}
    fields = {name: np.asarray(values, np.float64)[:, None] for name, values in loc.items()}
    with path.open("wb") as file:
        savemat(file, {"saveloc": {"loc": fields, "file": about}}, do_compression=True)
    with path.open("r+b") as file:
        file.write(MAT_HEADER)
