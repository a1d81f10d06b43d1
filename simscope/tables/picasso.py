"""picasso's HDF5: camera pixels from the centre of the first one, z in nm, frames from 0.

``/locs`` holds rows with the columns below; ``x`` runs along columns and ``y`` along rows. picasso
fits Gaussians integrated from ``k - 1/2`` to ``k + 1/2`` over pixel ``k`` counted from 0
(``gaussmle.py``), so the centre of the first pixel is at 0. Heights keep the sign of the user's
calibration. Width, Height, Frames and Pixelsize [nm] stand in a YAML file of the same name, and
since version 0.11 in ``/metadata`` as JSON; both are written.

picasso's Render drops rows that hold NaN, rows with ``x`` or ``y`` below 0 and, up to release 0.8,
at 0, and up to then rows whose precisions ``lpx``, ``lpy`` are not above 0 (``lib.ensure_sanity``).
So what is not known is written 0, precisions as ``LEAST_PRECISION``, and emitters in the outer half
of the first row and column of pixels are lost there. Source: Schnitzbauer et al., Nat. Protoc. 12,
1198 (2017).
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from simscope import __version__
from simscope.errors import SimscopeWarning, TableError
from simscope.tables import hdf5
from simscope.tables.columns import Columns, Imaging
from simscope.tables.peek import Peek

LOCS = "locs"
METADATA = "metadata"
LAST_FRAME = 2**32 - 1
LONGEST_SIDECAR = 1 << 20
LEAST_PRECISION = 1e-3
"""Precision [px] where none is known, above 0 and below what any fit reaches."""

FIELDS = ("x", "y", "photons", "sx", "sy", "bg", "lpx", "lpy", "ellipticity", "net_gradient")


def claims(peek: Peek) -> bool:
    """Whether the file holds a dataset ``locs``."""
    return peek.kind == "hdf5" and LOCS in peek.names


def read(path: Path, imaging: Imaging, peek: Peek) -> Columns:
    """Columns in simscope's convention."""
    with hdf5.opened(path) as file:
        locs = hdf5.numbers(path, file[LOCS])
        embedded = hdf5.text(path, file[METADATA]) if METADATA in file else None
    names = locs.dtype.names or ()
    missing = {"frame", "x", "y"} - set(names)
    if missing:
        raise TableError(f"{path}: locs lacks {sorted(missing)}, it has {names}: is it picasso's?")
    pixel = _pixel(path, imaging, embedded)
    columns: Columns = {"frame": locs["frame"].astype(np.int64)}
    for axis in "xy":
        columns[f"{axis}_nm"] = (locs[axis].astype(np.float64) + 0.5) * pixel
    factors = {"z": ("z_nm", 1.0), "photons": ("photons", 1.0), "bg": ("background", 1.0)}
    factors |= {"sx": ("sigma_x_nm", pixel), "sy": ("sigma_y_nm", pixel)}
    for name, (ours, factor) in factors.items():
        if name in names:
            columns[ours] = locs[name].astype(np.float64) * factor
    if {"lpx", "lpy"} <= set(names):
        columns["uncertainty_nm"] = (locs["lpx"].astype(np.float64) + locs["lpy"]) / 2 * pixel
    return columns


def _pixel(path: Path, imaging: Imaging, embedded: Any) -> float:
    """Pixel [nm] the sidecar or the file itself states, or the one given."""
    sidecar = path.with_suffix(".yaml")
    if imaging.sidecar and sidecar.is_file():
        stated = _stated(_yaml_documents(sidecar), sidecar, imaging)
    elif embedded is not None:
        stated = _stated(_json_documents(path, embedded), path, imaging)
    else:
        stated = None
    return imaging.agreed_pixel(str(path), stated)


def _stated(documents: Iterable[Any], path: Path, imaging: Imaging) -> float | None:
    for document in documents:
        value = document.get("Pixelsize") if isinstance(document, dict) else None
        if value is not None:
            try:
                return float(value)
            except (TypeError, ValueError):
                raise TableError(f"{path}: Pixelsize {value!r} is no number: correct it") from None
    return None


def _yaml_documents(path: Path) -> list[Any]:
    import yaml

    from simscope.recipe.text import shallow_tokens

    try:
        if path.stat().st_size > LONGEST_SIDECAR:
            raise TableError(f"{path} is larger than {LONGEST_SIDECAR:,} bytes: is it a sidecar?")
        text = path.read_text(encoding="utf-8")
        for token in shallow_tokens(text):
            if isinstance(token, yaml.ScalarToken) and token.value == "<<":
                raise TableError(f"{path} merges mappings, which may grow without end: write all")
        return list(yaml.safe_load_all(text))
    except (OSError, UnicodeDecodeError, ValueError, RecursionError, yaml.YAMLError) as error:
        if isinstance(error, TableError):
            raise
        cause = " ".join(str(error).split())
        raise TableError(f"cannot read {path}: {cause}: correct it, or move it away") from None


def _json_documents(path: Path, embedded: Any) -> list[Any]:
    try:
        documents = json.loads(embedded)
    except (TypeError, ValueError, RecursionError):
        raise TableError(f"{path}: /metadata is no JSON: give pixel_nm in a YAML file") from None
    return documents if isinstance(documents, list) else [documents]


def write(path: Path, columns: Columns, imaging: Imaging, suffix: str) -> None:
    """Write ``/locs`` and ``/metadata``; the YAML file is :func:`companion`."""
    pixel = imaging.require_pixel("picasso's table")
    if len(columns["frame"]) and columns["frame"].max() > LAST_FRAME:
        raise TableError(f"frame {columns['frame'].max()} is beyond picasso's {LAST_FRAME}: split")
    rows = len(columns["x_nm"])
    depth = [("z", "f4")] if "z_nm" in columns else []
    types = [("frame", "u4"), *((name, "f4") for name in FIELDS[:2]), *depth]
    locs = np.zeros(rows, np.dtype(types + [(name, "f4") for name in FIELDS[2:]]))
    for name, values in _fields(columns, pixel).items():
        locs[name] = values
    _warn_of_drops(locs, imaging)
    with hdf5.created(path) as file:
        file.create_dataset(LOCS, data=locs)
        file.create_dataset(METADATA, data=json.dumps([metadata(imaging)]))


def _fields(columns: Columns, pixel: float) -> Columns:
    """picasso's fields that are known, in its units."""
    fields = {"frame": columns["frame"]}
    fields |= {axis: columns[f"{axis}_nm"] / pixel - 0.5 for axis in "xy"}
    fields |= {
        name: columns[ours]
        for name, ours in (("z", "z_nm"), ("photons", "photons"), ("bg", "background"))
        if ours in columns
    }
    for axis in "xy":
        width = columns.get(f"sigma_{axis}_nm", columns.get("sigma_nm"))
        if width is not None:
            fields[f"s{axis}"] = width / pixel
        precision = columns.get("uncertainty_nm", np.zeros(1)) / pixel
        fields[f"lp{axis}"] = np.maximum(precision, LEAST_PRECISION)
    if {"sx", "sy"} <= set(fields):
        larger = np.maximum(fields["sx"], fields["sy"])
        difference = np.abs(fields["sx"] - fields["sy"])
        fields["ellipticity"] = difference / np.where(larger > 0, larger, 1)
    return fields


def _warn_of_drops(locs: Any, imaging: Imaging) -> None:
    lost = (locs["x"] <= 0) | (locs["y"] <= 0)
    if imaging.shape is not None:
        lost |= (locs["x"] >= imaging.shape[1]) | (locs["y"] >= imaging.shape[0])
    if lost.any():
        warnings.warn(
            f"picasso will drop {int(lost.sum()):,} of {len(locs):,} emitters on loading: they lie "
            "off the frame or in the outer half of its first row or column of pixels",
            SimscopeWarning,
            stacklevel=2,
        )


def metadata(imaging: Imaging) -> dict[str, Any]:
    """What picasso asks to know of a movie.

    Raises
    ------
    TableError
        If the pixel, the shape or the number of frames is not known.
    """
    if imaging.shape is None or imaging.frames is None:
        raise TableError("picasso's table needs the movie's size: give shape and frames")
    height, width = imaging.shape
    return {
        "Generated by": f"simscope {__version__}",
        "Width": int(width),
        "Height": int(height),
        "Frames": int(imaging.frames),
        "Pixelsize": imaging.require_pixel("picasso's table"),
    }


def companion(path: Path, imaging: Imaging) -> tuple[Path, str]:
    """Name and text of the YAML file that belongs beside the table ``path``."""
    import yaml

    return path.with_suffix(".yaml"), yaml.safe_dump(metadata(imaging), sort_keys=False)
