"""Read calibrations of measured PSFs: fit3Dcspline and DECODE, uiPSF, plain z stacks.

Conventions, as the programs themselves evaluate their files:

- fit3Dcspline / SMAP (``*_3dcal.mat``): ``SXY.cspline.coeff{channel}``, single [d1, d2, planes,
  64], term ``16 a + 4 b + c`` multiplies ``d3^a d2^b d1^c`` from a cell's first sample. The emitter
  lies at ``x0``, counted from 1, along d1 and d2, and in plane ``z0``, which both programs use as a
  place counted from 0. Its height is ``-(plane - z0) dz``: planes follow the objective towards the
  sample. SMAP calls d1 (rows of the image) y and d2 x; DECODE calls d1 x and d2 y.
- uiPSF (HDF5): ``/res/I_model[z, y, x]`` (``/res/channelN/I_model`` with several channels), root
  attribute ``params`` in JSON with ``pixel_size`` {x, y, z} (older files ``pixelsize_x`` and so on)
  in micrometres. Bead models run with the objective about their middle plane; models learnt in
  situ run with the emitter's height and do not say in one number where the focal plane is.
- Stacks (TIFF, .npy): samples [plane, row, column], nothing else.

MATLAB 7.3 files are HDF5 with all axes reversed.

Sources: fit3Dcspline (Li et al., Nat. Methods 15, 367 (2018)), ``simSplinePSF.c`` and ``splinePSF``
of SMAP; DECODE (Speiser et al., Nat. Methods 18, 1082 (2021)), ``psf_kernel.py``; uiPSF (Liu et
al., Nat. Methods 21, 1082 (2024)), "Description of output parameters".
"""

from __future__ import annotations

import json
import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from simscope.errors import OpticsError, SimscopeWarning, TableError, held_warnings
from simscope.optics.arrays import existing_file, read_npy, read_tiff
from simscope.optics.measured_spline import SplineVolume, smoothing_matrix
from simscope.recipe.measured import MeasuredPsf
from simscope.tables import hdf5, matlab
from simscope.tables.heaps import require_sound_heaps

FloatArray = NDArray[np.float64]

FORMAT_OF = {
    ".mat": "smap",
    ".h5": "uipsf",
    ".hdf5": "uipsf",
    ".tif": "stack",
    ".tiff": "stack",
    ".npy": "stack",
}
NEGATIVE_SHARE = 0.01
"""Negative light of a stack, as a share of the positive, above which a warning says so."""

RING_SHARE = 0.02
"""Share of a plane's light in its outermost ring of pixels above which a warning says so."""

DARK_SHARE = 1e-9
"""Light of a plane, as a share of the brightest plane's, that counts as none."""

HEIGHT_SLACK_NM = 1e-6

MOST_CHANNELS = 64
"""Channels a calibration may have."""


@dataclass(frozen=True)
class Calibration:
    """A measured PSF with its units and centre.

    ``volume``: the spline; ``pixel_nm``, ``dz_nm``: one sample along the image and from plane to
    plane; ``centre``: place (plane, row, column) of the emitter in the focal plane, counted in
    samples from 0; ``z_sign``: 1 where the emitter's height grows with the planes, -1 where the
    focus does.
    """

    volume: SplineVolume
    pixel_nm: float
    dz_nm: float
    centre: tuple[float, float, float]
    z_sign: int

    @property
    def heights_nm(self) -> tuple[float, float]:
        """Lowest and highest height above the focal plane in the file [nm]."""
        last = self.volume.cells[0]
        ends = [self.z_sign * self.dz_nm * (plane - self.centre[0]) + 0.0 for plane in (0.0, last)]
        return min(ends), max(ends)

    def planes_at(self, height_nm: FloatArray) -> FloatArray:
        """Places among the planes of emitters ``height_nm`` above the focal plane.

        Raises OpticsError outside the calibrated range.
        """
        low, high = self.heights_nm
        lowest, highest = float(height_nm.min()), float(height_nm.max())
        if not (low - HEIGHT_SLACK_NM <= lowest and highest <= high + HEIGHT_SLACK_NM):
            raise OpticsError(
                f"z_nm - focus_nm from {lowest:g} to {highest:g} leaves the calibrated range "
                f"[{low:g}, {high:g}] nm: move focus_nm, narrow the heights, or calibrate deeper"
            )
        planes = self.centre[0] + self.z_sign * height_nm / self.dz_nm
        return np.clip(planes, 0.0, float(self.volume.cells[0]))


@dataclass(frozen=True)
class _Contents:
    """What a file holds: a spline or samples, both (plane, d1, d2), and what it says of them."""

    powers: NDArray[Any] | None = None
    samples: NDArray[Any] | None = None
    pixel_nm: float | None = None
    dz_nm: float | None = None
    z_axis: str | None = None
    axes: str = "yx"
    centre_px: tuple[float, float] | str | None = None
    centre_plane: float | str | None = None
    background: float | str | None = 0.0


def load_calibration(measured: MeasuredPsf) -> Calibration:
    """The calibration a recipe names, its units and centre complete.

    Raises OpticsError if the file is missing, damaged, of another format, holds values that are
    not finite, or lacks a number that the recipe does not give either; SimscopeWarning for noise
    below zero and for images cut off at the edge of their window.
    """
    state = existing_file(measured.path, "measured PSF", "measured").stat()
    calibration, raised = _load(measured, state.st_mtime_ns, state.st_size)
    for warning in raised:
        warnings.warn(warning, stacklevel=2)
    return calibration


@lru_cache(maxsize=2)
def _load(
    measured: MeasuredPsf, _modified_ns: int, _size: int
) -> tuple[Calibration, list[SimscopeWarning]]:
    """The calibration of a file in one state, kept for the models that share it; its warnings."""
    with held_warnings() as raised:
        calibration = _read_calibration(measured)
    return calibration, raised


def _read_calibration(measured: MeasuredPsf) -> Calibration:
    path = Path(measured.path).expanduser()
    contents = _reader(measured, path)(path, measured)
    axes = measured.axes or contents.axes
    volume = _volume(path, measured, contents, axes)
    plane = _centre_plane(path, measured, contents, volume)
    row, column = _centre_px(path, measured, contents, volume, plane)
    calibration = Calibration(
        volume,
        _required(path, "pixel_nm", measured.pixel_nm, contents.pixel_nm),
        _required(path, "dz_nm", measured.dz_nm, contents.dz_nm),
        (plane, row, column),
        1 if _required(path, "z_axis", measured.z_axis, contents.z_axis) == "height" else -1,
    )
    _judge_light(path, volume)
    return calibration


def _reader(measured: MeasuredPsf, path: Path) -> Callable[[Path, MeasuredPsf], _Contents]:
    named = measured.format
    chosen = FORMAT_OF.get(path.suffix.lower()) if named == "auto" else named
    if chosen is None:
        raise OpticsError(
            f"measured PSF {path.name!r} ends in none of {', '.join(FORMAT_OF)}: "
            "convert it, or set measured.format"
        )
    return {"smap": _read_smap, "decode": _read_decode, "uipsf": _read_uipsf, "stack": _read_stack}[
        chosen
    ]


def _required(path: Path, key: str, given: Any, found: Any) -> Any:
    """The recipe's word, else the file's; OpticsError that names the key if neither has one."""
    value = found if given is None else given
    if value is None:
        raise OpticsError(f"{path.name} does not say {key}: give measured.{key} in the recipe")
    return value


def _volume(path: Path, measured: MeasuredPsf, contents: _Contents, axes: str) -> SplineVolume:
    """The spline (plane, row, column), from cell polynomials or through background-free samples."""
    if contents.powers is not None:
        for key, idle in (("background", (None, 0.0)), ("z_knots_nm", (None,))):
            if getattr(measured, key) not in idle:
                raise OpticsError(
                    f"measured.{key} with {path.name}, which holds a finished spline: leave it out"
                )
        swapped = contents.powers if axes == "yx" else contents.powers.transpose(0, 2, 1, 3, 5, 4)
        return SplineVolume.of_cells(swapped)
    assert contents.samples is not None
    samples = _check_samples(path, contents.samples)
    samples = samples if axes == "yx" else samples.transpose(0, 2, 1)
    if measured.z_knots_nm is not None:
        dz_nm = _required(path, "dz_nm", measured.dz_nm, contents.dz_nm)
        samples = _smoothed(path, samples, dz_nm, measured.z_knots_nm)
    background = _required(path, "background", measured.background, contents.background)
    return SplineVolume.through(_without_background(path, samples, background))


def _smoothed(path: Path, samples: FloatArray, dz_nm: float, knots_nm: float) -> FloatArray:
    """Samples averaged along z by a least-squares spline with knots about ``knots_nm`` apart."""
    planes = samples.shape[0]
    depth_nm = (planes - 1) * dz_nm
    cells = max(1, round(depth_nm / knots_nm))
    if cells > planes - 3 or knots_nm > depth_nm:
        raise OpticsError(
            f"z_knots_nm={knots_nm:g} with {planes} planes {dz_nm:g} nm apart ({path.name}): knots "
            f"belong between {depth_nm / max(planes - 3, 1):.4g} and {depth_nm:g} nm; change it, "
            "or leave it out"
        )
    return np.asarray(np.tensordot(smoothing_matrix(planes, cells), samples, 1))


def _check_samples(path: Path, samples: NDArray[Any]) -> FloatArray:
    """Samples as float64; OpticsError unless a real, finite stack of at least 4 each way."""
    if samples.ndim != 3 or min(samples.shape) < 4:
        raise OpticsError(
            f"{path.name} holds an array of shape {samples.shape}: a measured PSF needs (planes, "
            "rows, columns), each at least 4"
        )
    if samples.dtype.kind not in "fiu":
        raise OpticsError(f"{path.name} holds {samples.dtype}: a measured PSF needs real numbers")
    return _check_finite(path, samples).astype(np.float64)


def _check_finite(path: Path, values: NDArray[Any]) -> NDArray[Any]:
    bad = int(np.count_nonzero(~np.isfinite(values)))
    if bad:
        raise OpticsError(f"{path.name} holds {bad} values that are not finite: repair the file")
    return values


def _without_background(path: Path, samples: FloatArray, background: float | str) -> FloatArray:
    """Samples less their background, noise below zero set to zero."""
    if background == "minimum":
        level = float(samples.min())
    elif background == "border":
        level = float(np.median(samples[:, _ring(*samples.shape[1:])]))
    else:
        level = float(background)
    rest = samples - level
    positive = float(np.maximum(rest, 0.0).sum())
    if positive <= 0.0:
        raise OpticsError(
            f"{path.name} holds no light above its background of {level:g}: lower "
            "measured.background"
        )
    negative = float(np.maximum(-rest, 0.0).sum()) / positive
    if negative > NEGATIVE_SHARE:
        warnings.warn(
            f"{path.name}: {100 * negative:.1f} % of the light less its background of {level:g} is "
            "negative and set to 0: average more beads, or check measured.background",
            SimscopeWarning,
            stacklevel=3,
        )
    return np.maximum(rest, 0.0)


def _ring(rows: int, columns: int) -> NDArray[np.bool_]:
    """Which pixels of an image lie on its border."""
    ring = np.ones((rows, columns), dtype=bool)
    ring[1:-1, 1:-1] = False
    return ring


def _samples_of(volume: SplineVolume) -> FloatArray:
    """The spline at its samples, (planes, rows, columns)."""
    planes, rows, columns = (np.arange(cells + 1.0) for cells in volume.cells)
    row_matrix, column_matrix = volume.matrix(1, rows), volume.matrix(2, columns)
    return np.array([row_matrix @ volume.plane(p) @ column_matrix.T for p in planes])


def _centre_plane(
    path: Path, measured: MeasuredPsf, contents: _Contents, volume: SplineVolume
) -> float:
    """Place of the focal plane among the planes, inside them."""
    where = _required(path, "centre_plane", measured.centre_plane, contents.centre_plane)
    last = volume.cells[0]
    if where == "middle":
        return 0.5 * last
    if where == "sharpest":
        return float(_samples_of(volume).max(axis=(1, 2)).argmax())
    if not 0.0 <= where <= last:
        raise OpticsError(
            f"centre_plane={where:g} of {path.name} lies outside its planes 0 to {last}: correct "
            "measured.centre_plane"
        )
    return float(where)


def _centre_px(
    path: Path,
    measured: MeasuredPsf,
    contents: _Contents,
    volume: SplineVolume,
    plane: float,
) -> tuple[float, float]:
    """Place (row, column) of the emitter in the image, inside it."""
    _, rows, columns = volume.cells
    where = _required(path, "centre_px", measured.centre_px, contents.centre_px)
    if where == "middle":
        return 0.5 * rows, 0.5 * columns
    if isinstance(where, str):
        image = _samples_of(volume)[round(plane)]
        return _peak(image) if where == "peak" else _centroid(image)
    if not (0.0 <= where[0] <= rows and 0.0 <= where[1] <= columns):
        raise OpticsError(
            f"centre_px={tuple(where)} of {path.name} lies outside its {rows + 1} x {columns + 1} "
            "pixels: correct measured.centre_px"
        )
    return float(where[0]), float(where[1])


def _peak(image: FloatArray) -> tuple[float, float]:
    """Place of the brightest pixel, refined by a parabola through it and its neighbours."""
    row, column = np.unravel_index(int(image.argmax()), image.shape)
    along = (image[:, column], int(row)), (image[row], int(column))
    refined = []
    for line, top in along:
        if not 0 < top < line.size - 1:
            refined.append(float(top))
            continue
        left, middle, right = (float(v) for v in line[top - 1 : top + 2])
        bend = left - 2.0 * middle + right
        refined.append(top + (0.5 * (left - right) / bend if bend < 0.0 else 0.0))
    return refined[0], refined[1]


def _centroid(image: FloatArray) -> tuple[float, float]:
    """Centre of mass of an image."""
    light = image.sum()
    rows, columns = np.indices(image.shape)
    return float((rows * image).sum() / light), float((columns * image).sum() / light)


def _judge_light(path: Path, volume: SplineVolume) -> None:
    """Raise unless every plane holds light; warn where much of it lies on the border."""
    lights = np.array([volume.light(float(plane)) for plane in range(volume.cells[0] + 1)])
    if lights.min() <= DARK_SHARE * lights.max():
        raise OpticsError(
            f"plane {int(lights.argmin())} of {path.name} holds no light in all: leave it out, or "
            "lower measured.background"
        )
    samples = np.maximum(_samples_of(volume), 0.0)
    ring = samples[:, _ring(*samples.shape[1:])].sum(axis=1) / samples.sum(axis=(1, 2))
    worst = int(ring.argmax())
    if ring[worst] > RING_SHARE:
        warnings.warn(
            f"{path.name}: the outermost pixels hold {100 * ring[worst]:.1f} % of the light of "
            f"plane {worst}, so an unknown part fell beside the calibrated window and is missing: "
            "calibrate with a larger window, or subtract background",
            SimscopeWarning,
            stacklevel=4,
        )


def _read_decode(path: Path, measured: MeasuredPsf) -> _Contents:
    """A fit3Dcspline calibration with DECODE's names of the axes: d1 is x."""
    smap = _read_smap(path, measured)
    return _Contents(**{**vars(smap), "axes": "xy"})


def _read_smap(path: Path, measured: MeasuredPsf) -> _Contents:
    """A fit3Dcspline calibration, d1 being rows."""
    read = _matlab73_spline if matlab.is_hdf5(path) else _matlab_spline
    spline = read(path, measured.channel)
    coefficients = _check_coefficients(path, spline["coeff"])
    dz_nm, z0, x0 = (_scalar(path, name, spline[name]) for name in ("dz", "z0", "x0"))
    if dz_nm <= 0.0:
        raise OpticsError(f"{path.name} says dz={dz_nm:g} nm: a step between planes is above 0")
    rows, columns, planes, _ = coefficients.shape
    powers = coefficients.transpose(2, 0, 1, 3).reshape(planes, rows, columns, 4, 4, 4)
    return _Contents(
        powers=powers.swapaxes(4, 5),  # the term order is plane, d2, d1
        dz_nm=dz_nm,
        z_axis="focus",
        centre_px=(x0 - 1.0, x0 - 1.0),
        centre_plane=z0,
    )


def _check_coefficients(path: Path, values: Any) -> NDArray[Any]:
    coefficients = np.asarray(values)
    shape = coefficients.shape
    if len(shape) != 4 or shape[3] != 64 or min(shape) < 3 or coefficients.dtype.kind != "f":
        raise OpticsError(
            f"cspline.coeff of {path.name} is {coefficients.dtype} of shape {shape}: need real "
            "numbers (d1, d2, planes, 64), each side at least 3"
        )
    return _check_finite(path, coefficients)


def _scalar(path: Path, name: str, value: Any) -> float:
    array = np.asarray(value)
    if array.size != 1 or array.dtype.kind not in "fiu" or not np.isfinite(array).all():
        raise OpticsError(f"cspline.{name} of {path.name} is {value!r}: need one finite number")
    return float(array.ravel()[0])


def _matlab_spline(path: Path, channel: int | None) -> dict[str, Any]:
    """Fields of SXY.cspline of a MATLAB file up to v7."""
    try:
        group = matlab.read_variable(path, "SXY")
        group = matlab.read_variable(path, "SXY_g") if group is None else group
    except TableError as error:
        raise _damaged(path, "MATLAB file", error) from None
    if isinstance(group, list):
        raise _several_calibrations(path, len(group))
    spline = group.get("cspline") if isinstance(group, dict) else None
    return _with_channel(path, spline if isinstance(spline, dict) else {}, channel)


def _matlab73_spline(path: Path, channel: int | None) -> dict[str, Any]:
    """Fields of SXY.cspline of a MATLAB 7.3 file, axes put back in MATLAB's order."""
    import h5py

    def plain(item: Any, file: Any) -> Any:
        if item.dtype == h5py.ref_dtype and item.size <= MOST_CHANNELS:
            return [hdf5.numbers(path, file[place]).T for place in item[()].ravel()]
        if item.shape == () and item.dtype.kind in "fiu":
            return item[()]
        return hdf5.numbers(path, item).T

    # damaged files make the reader raise nearly anything
    try:
        require_sound_heaps(path)
        with h5py.File(path, "r") as file:
            group = file.get("SXY", file.get("SXY_g"))
            if isinstance(group, h5py.Group) and isinstance(group.get("cspline"), h5py.Dataset):
                raise _several_calibrations(path, group["cspline"].size)
            spline = group.get("cspline") if isinstance(group, h5py.Group) else None
            items = spline.items() if isinstance(spline, h5py.Group) else ()
            wanted = ("coeff", "dz", "z0", "x0")
            fields = {name: plain(item, file) for name, item in items if name in wanted}
    except OpticsError:
        raise
    except Exception as error:
        raise _damaged(path, "MATLAB 7.3 file", error) from error
    return _with_channel(path, fields, channel)


def _with_channel(path: Path, fields: dict[str, Any], channel: int | None) -> dict[str, Any]:
    """Spline fields with the coefficients of one channel; OpticsError for missing ones."""
    missing = [name for name in ("coeff", "dz", "z0", "x0") if fields.get(name) is None]
    if missing:
        raise OpticsError(
            f"{path.name} lacks SXY.cspline.{', '.join(missing)}: it is no *_3dcal.mat of "
            "fit3Dcspline; set measured.format if it is something else"
        )
    coefficients = fields["coeff"]
    if isinstance(coefficients, np.ndarray) and coefficients.dtype != object:
        coefficients = [coefficients]
    return {**fields, "coeff": _channel_of(path, list(coefficients), channel)}


def _channel_of(path: Path, channels: list[Any], channel: int | None) -> Any:
    if channel is None and len(channels) != 1:
        raise OpticsError(
            f"{path.name} holds {len(channels)} channels: say which with measured.channel, from 0"
        )
    number = channel or 0
    if number >= len(channels):
        raise OpticsError(
            f"measured.channel={number} is not in {path.name}, which holds {len(channels)}: "
            "count from 0"
        )
    return channels[number]


def _several_calibrations(path: Path, count: int) -> OpticsError:
    return OpticsError(
        f"{path.name} holds {count} calibrations for parts of the field: save the one to use in a "
        "file of its own"
    )


def _damaged(path: Path, kind: str, error: Exception) -> OpticsError:
    reason = " ".join(str(error).split())
    return OpticsError(f"measured PSF {str(path)!r} cannot be read as a {kind} ({reason})")


def _read_uipsf(path: Path, measured: MeasuredPsf) -> _Contents:
    """A result of uiPSF, one channel of it."""
    samples, params = _uipsf_contents(path, measured.channel)
    across_um, along_um, step_um = (_uipsf_length_um(params, axis) for axis in "xyz")
    if across_um is not None and along_um is not None and across_um != along_um:
        raise OpticsError(
            f"{path.name} has pixels of {across_um:g} x {along_um:g} um: "
            "only square ones are served"
        )
    in_situ = "insitu" in str(params.get("PSFtype", ""))
    odd = samples.ndim == 3 and samples.shape[1] % 2 == 1 and samples.shape[2] % 2 == 1
    return _Contents(
        samples=samples,
        pixel_nm=None if across_um is None else 1e3 * across_um,
        dz_nm=None if step_um is None else 1e3 * step_um,
        z_axis="height" if in_situ else "focus",
        centre_px="middle" if odd else None,
        centre_plane=None if in_situ else "middle",
    )


def _uipsf_contents(path: Path, channel: int | None) -> tuple[NDArray[Any], dict[str, Any]]:
    """The voxels (z, y, x) of one channel, and the parameters."""
    import h5py

    # damaged files make the reader raise nearly anything
    try:
        require_sound_heaps(path)
        with h5py.File(path, "r") as file:
            result = file.get("res")
            if not isinstance(result, h5py.Group):
                raise OpticsError(f"{path.name} has no group /res: it is no result of uiPSF")
            names = [name for name in result if name.startswith("channel")]
            groups = [result[name] for name in sorted(names, key=_channel_number)] or [result]
            chosen = _channel_of(path, groups, channel)
            if "A_model" in chosen or not isinstance(chosen.get("I_model"), h5py.Dataset):
                raise OpticsError(
                    f"{path.name} has no plain {chosen.name}/I_model: interferometric models and "
                    "other files are not served"
                )
            params = json.loads(file.attrs.get("params", "{}"))
            return hdf5.numbers(path, chosen["I_model"]), params if isinstance(params, dict) else {}
    except OpticsError:
        raise
    except Exception as error:
        raise _damaged(path, "uiPSF result", error) from error


def _channel_number(name: str) -> int:
    digits = name.removeprefix("channel")
    return int(digits) if digits.isdigit() else 0


def _uipsf_length_um(params: dict[str, Any], axis: str) -> float | None:
    """Pixel size along an axis [um], or None where the file does not say."""
    sizes = params.get("pixel_size")
    value = sizes.get(axis) if isinstance(sizes, dict) else params.get(f"pixelsize_{axis}")
    if isinstance(value, int | float) and math.isfinite(value) and value > 0.0:
        return float(value)
    return None


def _read_stack(path: Path, measured: MeasuredPsf) -> _Contents:
    """A plain stack of planes; it says nothing of units or centre."""
    read = read_npy if path.suffix.lower() == ".npy" else read_tiff
    samples = read(path, "measured PSF")
    return _Contents(samples=samples, background=None)
