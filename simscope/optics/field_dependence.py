"""Aberrations that change over the field of view: Zernike coefficients at any place in the field.

A place is given in nm in the sample, x rightwards and y downwards from the field's centre; the
wavefront there is the optics' own plus that of the field. Over the width of one image the
wavefront is taken as constant (isoplanatic patch), which fails where it changes within a few
wavelengths. Outside the field the aberrations stay those of its nearest edge.

Sources: polynomials of the field as in nodal aberration theory, Thompson, J. Opt. Soc. Am. A 22,
1389 (2005); maps as measured by FD-DeepLoc, Fu et al., Nat. Methods 20, 459 (2023).
"""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import scipy  # its parts load on first use
from numpy.typing import ArrayLike, NDArray

from simscope.errors import OpticsError, SimscopeWarning, held_warnings
from simscope.optics.arrays import existing_file, read_mat, read_npy
from simscope.optics.checks import check_place
from simscope.optics.field import with_wavefront
from simscope.optics.zernike import nm_to_osa

FloatArray = NDArray[np.float64]

WHAT, SETTING = "field map", "optics.field_dependence"
"""Name of the files in errors, and of the recipe's group that names them."""

FD_DEEPLOC_MODES = (
    (2, -2), (2, 2), (3, -1), (3, 1), (4, 0), (3, -3), (3, 3), (4, -2), (4, 2), (5, -1), (5, 1),
    (6, 0), (4, -4), (4, 4), (5, -3), (5, 3), (6, -2), (6, 2), (7, 1), (7, -1), (8, 0),
)  # fmt: skip
"""Zernike modes (n, m) of the first 21 maps of an ``aber_map``; two maps of a blur follow."""


class FieldCoefficients(Protocol):
    """Zernike coefficients over the field."""

    @property
    def modes(self) -> tuple[int, ...]:
        """OSA indices, in the order of the columns below."""
        ...

    def at(self, x_nm: ArrayLike, y_nm: ArrayLike) -> FloatArray:
        """RMS coefficients [nm] at places of the field, float64 (places, modes)."""
        ...

    def limits_nm(self) -> FloatArray:
        """Bounds of the absolute coefficients anywhere in the field [nm], (modes,)."""
        ...


@dataclass(frozen=True)
class PolynomialCoefficients:
    """Coefficients as polynomials in u = x / half_width, v = y / half_width, both within [-1, 1].

    ``terms``: per mode, (power of u, power of v, RMS nm).
    """

    modes: tuple[int, ...]
    terms: tuple[tuple[tuple[int, int, float], ...], ...]
    half_width_nm: float

    def at(self, x_nm: ArrayLike, y_nm: ArrayLike) -> FloatArray:
        """RMS coefficients [nm], float64 (places, modes)."""
        u, v = (np.clip(a / self.half_width_nm, -1.0, 1.0) for a in _places(x_nm, y_nm))
        columns = [
            sum((c * u**i * v**j for i, j, c in mode), start=np.zeros(u.shape))
            for mode in self.terms
        ]
        return np.stack(columns, axis=1) if columns else np.empty((u.size, 0))

    def limits_nm(self) -> FloatArray:
        """Bounds of the absolute coefficients [nm], (modes,): no term exceeds its coefficient."""
        return np.array([sum(abs(c) for _, _, c in mode) for mode in self.terms], dtype=np.float64)


@dataclass(frozen=True)
class MapCoefficients:
    """Coefficients from maps over the field, by cubic splines between the middles of map pixels.

    ``maps``: (modes, y, x) RMS [nm], map pixels ``pixel_nm`` apart, the middle of the map at the
    field's centre. Beyond the middles of the outermost map pixels the values stay.
    """

    modes: tuple[int, ...]
    maps: NDArray[np.floating[Any]]
    pixel_nm: float

    def at(self, x_nm: ArrayLike, y_nm: ArrayLike) -> FloatArray:
        """RMS coefficients [nm], float64 (places, modes)."""
        x, y = _places(x_nm, y_nm)
        rows, columns = self.maps.shape[1:]
        place = np.stack((
            np.clip(y / self.pixel_nm + 0.5 * (rows - 1), 0.0, rows - 1.0),
            np.clip(x / self.pixel_nm + 0.5 * (columns - 1), 0.0, columns - 1.0),
        ))  # fmt: skip
        return np.stack([_interpolated(mode, place) for mode in self.maps], axis=1)

    def limits_nm(self) -> FloatArray:
        """Bounds of the absolute coefficients [nm], (modes,).

        Between map pixels a cubic spline stays below ``OVERSHOOT`` times the largest value an axis.
        """
        largest = np.abs(self.maps).max(axis=(1, 2)).astype(np.float64)
        return OVERSHOOT**2 * largest


def _places(x_nm: ArrayLike, y_nm: ArrayLike) -> tuple[FloatArray, FloatArray]:
    x, y = np.broadcast_arrays(*(np.atleast_1d(np.asarray(a, float)) for a in (x_nm, y_nm)))
    if not (np.isfinite(x).all() and np.isfinite(y).all()):
        raise OpticsError("a place in the field is not finite: give plain numbers [nm]")
    return x, y


OVERSHOOT = 1.55
"""Largest sum of absolute cardinal cubic splines between nodes, along one axis, rounded up."""

REACH_PX = 12
"""Map pixels on each side that a cubic spline through a place still feels (0.27**12 = 1e-7)."""


def _interpolated(values: NDArray[Any], place: FloatArray) -> FloatArray:
    """Cubic spline of one map at places (row, column), each from the map pixels around it."""
    result = np.empty(place.shape[1])
    for k, (row, column) in enumerate(place.T):
        top, left = (max(math.floor(v) - REACH_PX, 0) for v in (row, column))
        part = values[top : top + 2 * REACH_PX + 2, left : left + 2 * REACH_PX + 2]
        here = np.array([[row - top], [column - left]])
        result[k] = scipy.ndimage.map_coordinates(
            part.astype(np.float64), here, order=3, mode="mirror"
        )[0]
    return result


def optics_at(optics: Any, x_nm: float, y_nm: float) -> Any:
    """The optics as they are at one place of the field: their wavefront plus the field's there.

    ``x_nm`` rightwards and ``y_nm`` downwards from the field's centre, in the sample. Optics
    without field dependence come back as they are. Raises OpticsError if a wavefront coefficient
    is still to be drawn or a file cannot be used.
    """
    check_place("field_nm", (x_nm, y_nm))
    if optics.field_dependence is None:
        return optics
    field = field_coefficients(optics.field_dependence, optics.wavelength_nm)
    values = field.at(x_nm, y_nm)[0].tolist()
    # without a mode that vanishes here, a faster model may serve
    here = {mode: value for mode, value in zip(field.modes, values, strict=True) if value}
    return with_wavefront(optics.model_copy(update={"field_dependence": None}), here)


def frame_to_field(
    x_nm: Any, y_nm: Any, size_nm: tuple[float, float], centre_nm: tuple[float, float]
) -> tuple[Any, Any]:
    """Place (x, y) in the field [nm] of places in a frame of ``size_nm`` (y, x).

    Places in the frame count from the outer corner of its first pixel; its middle lies at
    ``centre_nm`` (x, y) of the field. Places beyond the frame are taken to its edge.
    """
    x = np.clip(x_nm, 0.0, size_nm[1]) - 0.5 * size_nm[1] + centre_nm[0]
    y = np.clip(y_nm, 0.0, size_nm[0]) - 0.5 * size_nm[0] + centre_nm[1]
    return x, y


def field_coefficients(dependence: Any, wavelength_nm: float) -> FieldCoefficients:
    """What a recipe's field dependence says, ready to be asked for places in the field.

    ``wavelength_nm`` turns maps in waves into nm. Raises OpticsError for files that cannot be used.
    """
    if dependence.kind == "polynomial":
        modes = tuple(sorted(dependence.coefficients_nm))
        terms = tuple(dependence.coefficients_nm[index] for index in modes)
        return PolynomialCoefficients(modes, terms, dependence.half_width_nm)
    file = existing_file(dependence.path, WHAT, SETTING)
    state = file.stat()
    maps, raised = _maps(dependence, wavelength_nm, str(file), state.st_mtime_ns, state.st_size)
    for warning in raised:
        warnings.warn(warning, stacklevel=2)
    return maps


@lru_cache(maxsize=2)
def _maps(
    dependence: Any, wavelength_nm: float, path: str, modified_ns: int, size: int
) -> tuple[MapCoefficients, list[SimscopeWarning]]:
    """Maps of a file as it stands (time and size tell files apart), read once; its warnings."""
    with held_warnings() as raised:
        maps = _read_maps(dependence, wavelength_nm, Path(path))
    return maps, raised


def _read_maps(dependence: Any, wavelength_nm: float, path: Path) -> MapCoefficients:
    values = _load_array(path, dependence.variable)
    if dependence.layout == "fd_deeploc":
        modes, maps = from_fd_deeploc(values, wavelength_nm)
    else:
        modes, maps = tuple(dependence.modes), values
    if maps.ndim != 3 or maps.shape[0] != len(modes) or min(maps.shape[1:]) < 2:
        raise OpticsError(
            f"field maps of shape {maps.shape} do not fit {len(modes)} modes: need "
            "(modes, y, x) with at least 2 x 2 map pixels"
        )
    return MapCoefficients(modes, maps, float(dependence.map_pixel_nm))


def _load_array(file: Path, variable: str | None) -> NDArray[Any]:
    """Real, finite array of numbers from a .npy or .mat file."""
    if file.suffix == ".npy":
        values = read_npy(file, WHAT)
    elif file.suffix == ".mat":
        values = read_mat(file, variable, WHAT, SETTING, usual="aber_map")
    else:
        raise OpticsError(f"field map file {str(file)!r} is neither .npy nor .mat: convert it")
    if values.dtype.kind not in "fiu" or not np.isfinite(values).all():
        raise OpticsError(
            f"field map file {str(file)!r} holds {values.dtype} or values that are not finite: "
            "it must hold real numbers everywhere"
        )
    return values


def from_fd_deeploc(
    aber_map: NDArray[Any], wavelength_nm: float
) -> tuple[tuple[int, ...], FloatArray]:
    """OSA indices and maps (modes, y, x) [nm RMS] from FD-DeepLoc's ``aber_map`` (y, x, 23).

    Its coefficients are orthonormal, in waves. Its pupil x runs along image rows, and its emitter
    at r adds the phase -k.r where ours adds +k.r, so its pupil point (x', y') is our (-ky, -kx)
    and its azimuth phi' = 3 pi/2 - phi: each mode comes out as its sine or cosine partner, up to
    sign (see ``FreeDipolePSF_torch`` and ``calibrate_abr_map.m`` of that project). Maps 22 and 23,
    the widths of a blur in pixels, are no aberration and left to ``optics.blur_nm``.
    """
    if aber_map.ndim != 3 or aber_map.shape[2] not in (21, 23):
        raise OpticsError(
            f"aber_map of shape {aber_map.shape} is not FD-DeepLoc's (y, x, 23): check the file "
            "and its layout"
        )
    _warn_of_blur(aber_map)
    indices, maps = [], []
    for channel, (n, m) in enumerate(FD_DEEPLOC_MODES):
        order, sign = turned_mode(m)
        indices.append(nm_to_osa(n, order))
        maps.append(sign * wavelength_nm * aber_map[:, :, channel].astype(np.float64))
    return tuple(indices), np.array(maps)


def _warn_of_blur(aber_map: NDArray[Any]) -> None:
    """Warn of the blur that an ``aber_map`` carries in its last two maps, and that is left out."""
    widths = [float(aber_map[:, :, k].mean()) for k in range(21, aber_map.shape[2])]
    if any(widths):
        warnings.warn(
            f"aber_map carries a blur of {widths[0]:.3g} and {widths[1]:.3g} pixels, which is left "
            "out: set optics.blur_nm to their size for it",
            SimscopeWarning,
            stacklevel=2,
        )


def turned_mode(m: int) -> tuple[int, int]:
    """Azimuthal order and sign of the mode that ``m`` becomes at azimuth 3 pi/2 - phi.

    cos(m(a - phi)) = cos(ma) cos(m phi) + sin(ma) sin(m phi), sin(m(a - phi)) = sin(ma) cos(m phi)
    - cos(ma) sin(m phi); at a = 3 pi/2 one of the two terms is 0.
    """
    order = abs(m)
    cosine, sine = ((1, 0), (0, -1), (-1, 0), (0, 1))[order % 4]
    if m >= 0:
        return (order, cosine) if cosine else (-order, sine)
    return (order, sine) if sine else (-order, -cosine)
