"""DECODE's emitters: pixels or nm from the centre of the first pixel, z in nm, frames from 0.

``/data`` holds ``xyz`` and one value a row of ``phot``, ``frame_ix``, ``id``, ``prob``, ``bg``;
variances ``*_cr`` and errors ``*_sig``, which are empty where nothing is known. ``/meta`` has
``xy_unit`` ("px" or "nm") and ``px_size`` [nm] of x and y as attributes, ``/decode`` the version
(``EmitterSet.save``, ``emitter_io.save_h5``). nm are pixels times ``px_size``, so the centre of the
first pixel is at 0 in both; its frame extends from -1/2 to n - 1/2.

DECODE's frames are ``[n, x, y]``: the first axis of an image is x. simscope exports frames turned
so, and then x is x. Emitters fitted in frames of a camera as they are, ``[n, row, column]``, have
their row in x: read such tables with ``axes="yx"``. Heights have the sign of the spline
calibrations, which is that of a height here. CSV files of ``EmitterSet.save`` are read too. Source:
Speiser et al., Nat. Methods 18, 1082 (2021).
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from simscope import __version__
from simscope.errors import TableError
from simscope.tables import hdf5, text
from simscope.tables.columns import Columns, Imaging
from simscope.tables.peek import DECODE_COMMENT, Peek

Pair = tuple[float, float]


def claims(peek: Peek) -> bool:
    """Whether the file has DECODE's groups, or its comment in the first line."""
    if peek.kind == "text":
        return peek.first_line.startswith(DECODE_COMMENT)
    return peek.kind == "hdf5" and {"data", "meta"} <= set(peek.names)


def read(path: Path, imaging: Imaging, peek: Peek) -> Columns:
    """Columns in simscope's convention."""
    raw, unit, size = _read_csv(path) if peek.kind == "text" else _read_hdf5(path)
    scale, pixel = _scales(path, imaging, unit, size)
    columns: Columns = {"frame": raw["frame_ix"]}
    for axis in "xy":
        k = imaging.axes.index(axis)
        columns[f"{axis}_nm"] = raw["xyz"][:, k] * scale[k] + 0.5 * pixel[k]
    columns["z_nm"] = raw["xyz"][:, 2]
    names = {"phot": "photons", "id": "id", "prob": "probability", "bg": "background"}
    columns |= {ours: raw[name] for name, ours in names.items() if name in raw}
    if "xyz_sig" in raw:
        columns["uncertainty_nm"] = (raw["xyz_sig"][:, :2] * scale).mean(axis=1)
        columns["uncertainty_z_nm"] = raw["xyz_sig"][:, 2]
    return columns


def _scales(path: Path, imaging: Imaging, unit: Any, size: Pair | None) -> tuple[Pair, Pair]:
    """nm of one unit of x and y in the file, and its pixel [nm]."""
    unit = unit.decode() if isinstance(unit, bytes) else unit
    if unit not in ("px", "nm"):
        raise TableError(f"{path}: xy_unit is {unit!r}: DECODE's are 'px' and 'nm', correct it")
    stated = (None, None) if size is None else size
    first, second = (imaging.agreed_pixel(str(path), value) for value in stated)
    pixel = (first, second)
    return (pixel if unit == "px" else (1.0, 1.0)), pixel


def _read_hdf5(path: Path) -> tuple[Columns, Any, Pair | None]:
    with hdf5.opened(path) as file:
        data, meta = file["data"], file["meta"].attrs
        raw = {
            name: hdf5.numbers(path, item)
            for name, item in data.items()
            if getattr(item, "shape", None) is not None
        }
        unit, size = meta.get("xy_unit"), meta.get("px_size")
    for name in ("xyz", "frame_ix"):
        if name not in raw:
            raise TableError(f"{path}: /data has no {name}: is it a table of DECODE's?")
    for name in ("xyz", "xyz_sig"):
        if name in raw and (raw[name].ndim != 2 or raw[name].shape[1] != 3):
            raise TableError(f"{path}: {name} has shape {raw[name].shape}: it should be (n, 3)")
    return {name: _wide(values) for name, values in raw.items()}, unit, _pair(path, size)


def _wide(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    return values.astype(np.float64) if values.dtype.kind == "f" else values


def _pair(path: Path, size: Any) -> Pair | None:
    if size is None or (isinstance(size, str) and size == "None"):
        return None
    try:
        first, second = (float(value) for value in np.ravel(size)[:2])
    except (TypeError, ValueError):
        raise TableError(f"{path}: px_size {size!r} is not two numbers: correct it") from None
    return first, second


def _read_csv(path: Path) -> tuple[Columns, Any, Pair | None]:
    """Columns of DECODE's CSV: three lines of comment, the third with unit and pixel in JSON."""
    with path.open(encoding="utf-8-sig") as file:
        comment = [file.readline() for _ in range(3)][2]
    try:
        meta = json.loads(comment.lstrip("# "))
        unit, size = meta.get("xy_unit"), meta.get("px_size")
    except (ValueError, AttributeError, RecursionError):
        raise TableError(f"{path}: its third line does not state units: save it anew") from None
    table = text.read_columns(path, skip=3)
    missing = {"x", "y", "z", "frame_ix"} - set(table)
    if missing:
        raise TableError(f"{path} lacks {sorted(missing)}: is it a table of DECODE's?")
    raw = dict(table)
    raw["xyz"] = np.stack([table[axis] for axis in "xyz"], axis=1)
    if {"x_sig", "y_sig", "z_sig"} <= set(table):
        raw["xyz_sig"] = np.stack([table[f"{axis}_sig"] for axis in "xyz"], axis=1)
    return raw, unit, _pair(path, size)


def write(path: Path, columns: Columns, imaging: Imaging, suffix: str) -> None:
    """Write an ``.h5`` table in pixels.

    Bounds that are known, columns ``x_crlb_nm, y_crlb_nm, z_crlb_nm, photons_crlb,
    background_crlb`` (standard deviations), go to ``*_cr`` as variances. z unknown is 0, id -1.
    """
    pixel = imaging.require_pixel("DECODE's table")
    rows = len(columns["x_nm"])
    unknown = np.full(rows, np.nan)
    order = [f"{axis}_nm" for axis in imaging.axes]
    xyz = [columns[name] / pixel - 0.5 for name in order]
    bounds = [columns.get(f"{axis}_crlb_nm", unknown) / pixel for axis in imaging.axes]
    light = {
        "phot_cr": columns.get("photons_crlb", unknown) ** 2,
        "bg_cr": columns.get("background_crlb", unknown) ** 2,
    }
    data = {
        "xyz": np.stack([*xyz, columns.get("z_nm", np.zeros(rows))], axis=1),
        "xyz_sig": np.full((rows, 3), np.nan),
        "xyz_cr": np.stack([*bounds, columns.get("z_crlb_nm", unknown)], axis=1) ** 2,
        "phot": columns.get("photons", unknown),
        "phot_cr": light["phot_cr"],
        "phot_sig": unknown,
        "frame_ix": columns["frame"].astype(np.int64),
        "id": columns.get("id", np.full(rows, -1)).astype(np.int64),
        "prob": columns.get("probability", np.ones(rows)),
        "bg": columns.get("background", unknown),
        "bg_cr": light["bg_cr"],
        "bg_sig": unknown,
    }
    _write_hdf5(path, data, pixel)


def _write_hdf5(path: Path, data: Columns, pixel: float) -> None:
    with hdf5.created(path) as file:
        meta = file.create_group("meta", track_order=True)
        meta.attrs["xy_unit"] = "px"
        meta.attrs["px_size"] = np.array([pixel, pixel], np.float32)
        file.create_group("decode").attrs["version"] = f"simscope {__version__}"
        group = file.create_group("data")
        for name, values in data.items():
            values = values.astype(np.float32) if values.dtype.kind == "f" else values
            empty = name.endswith(("_cr", "_sig")) and bool(np.isnan(values).all())
            group.create_dataset(name, data=hdf5.nothing() if empty else values)
